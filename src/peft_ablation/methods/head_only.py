"""Linear probe: the heads alone are trained, on what the frozen base makes of the input.

Alain & Bengio, Understanding intermediate layers using linear classifier probes (2016),
https://arxiv.org/abs/1610.01644. Where a task makes no head anew, it is the model's output layer;
one that shares its weight with the input embedding (GPT-2, small Llamas) is refused, as training it
would train the embedding too.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from peft_ablation.bases.architectures import Architecture
from peft_ablation.errors import InputError
from peft_ablation.methods._delta import DeltaMethod
from peft_ablation.methods._modules import within

if TYPE_CHECKING:
    from torch import Tensor, nn

    from peft_ablation.methods import Batches


class HeadOnly(DeltaMethod):
    """The heads, or the output layer where there are none."""

    def check(self, architecture: Architecture | None) -> None:
        """Refuse a head whose weight is the input embedding's too."""
        if architecture is not None and architecture.tied_head is not None:
            raise InputError(
                f"method: the head of this {architecture.class_name} shares its weight with "
                f"{architecture.tied_head}, so head_only would train the input embedding too; "
                "choose another method"
            )

    def changes(self, module: str, architecture: Architecture) -> bool:
        """Tell whether a module is in the head; all before it stays."""
        return within(module, architecture.heads)

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
        """Freeze all but the heads."""
        return super().apply(
            model, seed=seed, heads=heads or _output_layer(model), steps=steps, batches=batches
        )

    def chosen(
        self, parameters: Sequence[str], architecture: Architecture, heads: Sequence[str]
    ) -> set[str]:
        """Return what is in the heads."""
        return {name for name in parameters if within(name, heads)}


def _output_layer(model: "nn.Module") -> list[str]:
    find = getattr(model, "get_output_embeddings", None)
    layer = find() if find is not None else None
    names = [name for name, module in model.named_modules() if module is layer]
    if not names:
        raise InputError(
            f"method: head_only has nothing to train: the task makes no head and "
            f"{type(model).__name__} has no output layer; choose another method"
        )
    return names


METHOD = HeadOnly
