"""Partial fine-tuning: the last layers of the base and the heads are trained.

Lee, Tang & Lin, What Would Elsa Do? Freezing Layers During Transformer Fine-Tuning (2019),
https://arxiv.org/abs/1911.03090. With the layers go the normalisation that follows them directly
(`ln_f`, `model.norm`, `vit.layernorm`). A layer is a block of the stack that leads to the output:
of a ViT, of a ResNet's stages, of GIT's text decoder. BatchNorm keeps its running statistics.
"""

from collections.abc import Sequence
from typing import ClassVar

from pydantic import Field

from peft_ablation.bases.architectures import Architecture
from peft_ablation.errors import InputError
from peft_ablation.methods import ArmSettings
from peft_ablation.methods._delta import DeltaMethod
from peft_ablation.methods._modules import layers, within


class LastLayersSettings(ArmSettings):
    """Keys of an arm that trains the last layers."""

    n: int = Field(1, ge=1)
    """How many layers, counted from the output."""


class LastLayers(DeltaMethod):
    """The last `n` layers, the normalisation after them, and the heads."""

    Settings: ClassVar[type[ArmSettings]] = LastLayersSettings

    def check(self, architecture: Architecture | None) -> None:
        """Refuse more layers than there are."""
        if architecture is not None:
            self._trained(architecture)

    def changes(self, module: str, architecture: Architecture) -> bool:
        """Tell whether a module is in the last layers or the normalisation after them."""
        return within(module, self._trained(architecture))

    def chosen(
        self, parameters: Sequence[str], architecture: Architecture, heads: Sequence[str]
    ) -> set[str]:
        """Return what is in the last layers, the normalisation after them and the heads."""
        modules = [*self._trained(architecture), *heads]
        return {name for name in parameters if within(name, modules)}

    def _trained(self, architecture: Architecture) -> list[str]:
        stack, n = layers(architecture), self.arm["n"]
        if n > len(stack):
            raise InputError(
                f"n: found {n}, but {architecture.class_name} has {len(stack)} layers, expected at "
                f"most {len(stack)}; lower it, or use method full"
            )
        names = [module.name for module in architecture.modules]
        last = max(index for index, name in enumerate(names) if within(name, stack))
        beside = stack[-1].rpartition(".")[0].rpartition(".")[0]
        after = [
            name
            for name in names[last + 1 :]
            if name in architecture.norms and name.rpartition(".")[0] == beside
        ]
        return [*stack[-n:], *after]


METHOD = LastLayers
