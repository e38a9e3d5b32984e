"""Turn a base into an arm: every weight trainable, or LoRA on chosen modules (Hu et al. 2021)."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import nn

from peft_ablation.errors import InputError
from peft_ablation.methods.targets import resolve_target


class ParameterCount(NamedTuple):
    """Parameters of a model, adapters included."""

    trainable: int
    total: int

    @property
    def percent(self) -> float:
        """Trainable share in percent."""
        return 100 * self.trainable / self.total


def as_arm(model: nn.Module, arm: Mapping[str, Any], seed: int = 0) -> nn.Module:
    """Return `model` made ready to train as `arm` (the fields of `study.Arm`).

    `full` makes every parameter trainable; `lora` freezes them and adds adapters, whose initial
    values come from `seed` alone. Raises `InputError` if the targets match no module.
    """
    if arm["method"] == "full":
        return model.requires_grad_(True)
    from peft import LoraConfig, get_peft_model

    expression = resolve_target(arm["targets"], layer_counts(model))
    torch.manual_seed(seed)
    adapted: nn.Module = get_peft_model(
        model,
        LoraConfig(
            r=arm["r"],
            lora_alpha=arm["alpha"],
            lora_dropout=arm["dropout"],
            use_rslora=arm["rslora"],
            target_modules=expression,
        ),
    )
    return adapted


def layer_counts(model: nn.Module) -> tuple[int, int]:
    """Return the vision and text layers of a GIT model."""
    config: Any = model.config
    return config.vision_config.num_hidden_layers, config.num_hidden_layers


def count_parameters(model: nn.Module) -> ParameterCount:
    """Count parameters; works on the meta device, where no weight is allocated."""
    parameters = list(model.parameters())
    return ParameterCount(
        sum(p.numel() for p in parameters if p.requires_grad), sum(p.numel() for p in parameters)
    )


def trainable_state(model: nn.Module) -> dict[str, torch.Tensor]:
    """Return the trainable parameters by name, detached, on the CPU."""
    return {
        name: parameter.detach().cpu().contiguous()
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    }


def load_trainable_state(model: nn.Module, state: Mapping[str, torch.Tensor]) -> None:
    """Copy `state` into the trainable parameters; raises `InputError` if names differ."""
    parameters = {n: p for n, p in model.named_parameters() if p.requires_grad}
    if parameters.keys() != state.keys():
        odd = sorted(parameters.keys() ^ state.keys())
        raise InputError(
            f"checkpoint: weights do not fit the arm: {len(odd)} names differ, first {odd[0]!r}; "
            "it belongs to another arm or base"
        )
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(state[name])
