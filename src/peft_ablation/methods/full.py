"""Full fine-tuning: every weight of the base is trained.

What parameter-efficient methods are measured against; see Howard & Ruder, Universal Language Model
Fine-tuning for Text Classification (2018). BatchNorm updates its running statistics.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from peft_ablation.bases.architectures import Architecture
from peft_ablation.methods import Method

if TYPE_CHECKING:
    from torch import Tensor, nn

    from peft_ablation.methods import Batches, LoadModel


class Full(Method):
    """Every weight trainable."""

    freezes_base: ClassVar[bool] = False

    def changes(self, module: str, architecture: Architecture) -> bool:
        """Return True: nothing stays."""
        return True

    def apply(
        self,
        model: "nn.Module",
        *,
        seed: int,
        heads: Sequence[str],
        steps: int,
        batches: "Batches",
        state: "Mapping[str, Tensor] | None" = None,
    ) -> "nn.Module":
        """Make every parameter trainable."""
        return model.requires_grad_(True)

    def save(self, model: "nn.Module", folder: str | Path) -> None:
        """Write the whole model with `save_pretrained`."""
        model.save_pretrained(folder)  # type: ignore[operator]

    def load(self, load_model: "LoadModel", base: str | Path, folder: str | Path) -> "nn.Module":
        """Return the model of the folder; the base is not needed."""
        return load_model(folder)

    def loading(self, class_name: str) -> str:
        """Return the Python that loads a saved `folder`."""
        return f"{class_name}.from_pretrained(folder)"


METHOD = Full
