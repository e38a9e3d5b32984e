"""Arms of the study added up, without training: base + Σ weight · (arm - base), weight by weight.

Task arithmetic (Ilharco et al., Editing Models with Task Arithmetic, 2023,
https://arxiv.org/abs/2212.04089); of adapters their deltas are merged first. Targets that overlap
add up. Each seed is made of the runs of the same seed, so the arms must be trained anyway.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from peft_ablation.bases.architectures import Architecture
from peft_ablation.config.section import Name
from peft_ablation.errors import InputError
from peft_ablation.methods import ArmSettings
from peft_ablation.methods.none import Untrained

if TYPE_CHECKING:
    from torch import Tensor, nn

    from peft_ablation.methods import LoadModel, Part


class ComposedSettings(ArmSettings):
    """Keys of an arm that is made of others."""

    learning_rate: float = Field(0.0, ge=0, le=0)
    """Nothing is trained here."""
    of: dict[Name, Annotated[float, Field(allow_inf_nan=False)]] = Field(min_length=1)
    """Weight by arm: how much of what training changed there is added to the base."""


class Composed(Untrained):
    """A weighted sum of what other arms have learnt."""

    Settings: ClassVar[type[ArmSettings]] = ComposedSettings

    @property
    def parts(self) -> tuple[str, ...]:
        """The arms that it is made of."""
        return tuple(self.arm["of"])

    def changes(self, module: str, architecture: Architecture) -> bool:
        """Return True: any of its arms may change any module."""
        return True

    def leaves_alone(
        self, architecture: Architecture | None, prefixes: Sequence[str], heads: Sequence[str]
    ) -> bool:
        """Return False: its arms may change what they like."""
        return False

    def compose(
        self,
        load_model: "LoadModel",
        base: str | Path,
        folder: str | Path,
        heads_of: "Callable[[nn.Module], Sequence[str]]",
        parts: "Sequence[Part]",
    ) -> "nn.Module":
        """Write the whole model, each weight added up in float64, and return it.

        Raises `InputError` where the task gives each arm a head of its own.
        """
        import torch

        model = load_model(base)
        heads = tuple(heads_of(model))
        if heads:
            raise InputError(
                f"method: composed: each arm has a head of its own ({heads[0]}), and heads do not "
                "add up; compose arms of a task that keeps the base's"
            )
        loaded = [dict(_floats(part.method.load(load_model, base, part.model))) for part in parts]
        weights = [self.arm["of"][part.arm] for part in parts]
        with torch.no_grad():
            for name, tensor in _floats(model):
                before = tensor.double()
                changes = (
                    weight * (other[name].double() - before)
                    for weight, other in zip(weights, loaded, strict=True)
                )
                tensor.copy_(before + sum(changes))
        model.save_pretrained(folder)  # type: ignore[operator]
        return model

    def load(self, load_model: "LoadModel", base: str | Path, folder: str | Path) -> "nn.Module":
        """Return the model that `compose` wrote."""
        return load_model(folder)

    def loading(self, class_name: str) -> str:
        """Return the Python that loads the model."""
        return f"{class_name}.from_pretrained(folder)"


def _floats(model: "nn.Module") -> "Iterator[tuple[str, Tensor]]":
    """Yield parameters and buffers that are numbers to be added, such as BatchNorm's means."""
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if tensor.is_floating_point():
            yield name, tensor


METHOD = Composed
