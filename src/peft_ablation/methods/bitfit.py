"""BitFit: the bias of every layer and the heads are trained, nothing else.

Ben Zaken, Goldberg & Ravfogel, BitFit: Simple Parameter-efficient Fine-tuning for Transformer-based
Masked Language-models (2022), https://arxiv.org/abs/2106.10199. Biases of normalisation layers
count; BatchNorm keeps its running statistics. A base without biases, such as Llama, is refused.
"""

from collections.abc import Sequence

from peft_ablation.bases.architectures import Architecture
from peft_ablation.errors import InputError
from peft_ablation.methods._delta import DeltaMethod
from peft_ablation.methods._modules import within


class BitFit(DeltaMethod):
    """Biases and heads."""

    def check(self, architecture: Architecture | None) -> None:
        """Refuse a base without biases outside of its heads."""
        if architecture is not None and not any(
            module.bias and not within(module.name, architecture.heads)
            for module in architecture.modules
        ):
            raise InputError(
                f"method: bitfit trains biases, but {architecture.class_name} has none outside of "
                "its head; choose another method"
            )

    def changes(self, module: str, architecture: Architecture) -> bool:
        """Tell whether a module has a bias."""
        return any(own.name == module and own.bias for own in architecture.modules)

    def chosen(
        self, parameters: Sequence[str], architecture: Architecture, heads: Sequence[str]
    ) -> set[str]:
        """Return every bias and what is in the heads."""
        return {
            name for name in parameters if name.rpartition(".")[2] == "bias" or within(name, heads)
        }


METHOD = BitFit
