"""No training: the base is scored as it is (zero-shot, or a baseline trained by others)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from peft_ablation.bases.architectures import Architecture
from peft_ablation.methods import ArmSettings, Method

if TYPE_CHECKING:
    from torch import Tensor, nn

    from peft_ablation.methods import Batches, LoadModel


class NoneSettings(ArmSettings):
    """Keys of an arm that is not trained."""

    learning_rate: float = Field(0.0, ge=0, le=0)
    """Nothing is trained."""


class Untrained(Method):
    """The base itself."""

    Settings: ClassVar[type[ArmSettings]] = NoneSettings
    trains: ClassVar[bool] = False

    def changes(self, module: str, architecture: Architecture) -> bool:
        """Return False: everything stays."""
        return False

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
        """Freeze every parameter."""
        return model.requires_grad_(False)

    def save(self, model: "nn.Module", folder: str | Path) -> None:
        """Write nothing: the base is the result."""

    def load(self, load_model: "LoadModel", base: str | Path, folder: str | Path) -> "nn.Module":
        """Return the model of the base."""
        return load_model(base)

    def loading(self, class_name: str) -> str:
        """Return the Python that loads the base."""
        return f"{class_name}.from_pretrained(base)"


METHOD = Untrained
