"""A method of nobody's: the shift is trained, the slope stays."""

from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import nn

from peft_ablation.methods import Method


class ShiftOnly(Method):
    def changes(self, module: str, architecture: Any) -> bool:
        return module == "shift"

    def apply(self, model: nn.Module, **_: Any) -> nn.Module:
        model.requires_grad_(False)
        model.get_submodule("shift").requires_grad_(True)
        return model

    def save(self, model: nn.Module, folder: str | Path) -> None:
        save_file(model.get_submodule("shift").state_dict(), Path(folder, "shift.safetensors"))

    def load(self, load_model: Any, base: str | Path, folder: str | Path) -> nn.Module:
        model: nn.Module = load_model(base)
        model.get_submodule("shift").load_state_dict(load_file(Path(folder, "shift.safetensors")))
        return model

    def loading(self, class_name: str) -> str:
        return "toy"


METHOD = ShiftOnly
