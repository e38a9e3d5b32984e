"""The `memory:` section: the training steps whose peak memory `memory_table` measures."""

from typing import Annotated, TypeVar

from pydantic import AfterValidator, Field

from peft_ablation.config.section import Name, Section
from peft_ablation.methods import Optimizer

T = TypeVar("T")


def _differ(values: tuple[T, ...]) -> tuple[T, ...]:
    repeated = [value for value in values if values.count(value) > 1]
    if repeated:
        raise ValueError(f"found {repeated[0]} more than once; a configuration is measured once")
    return values


Sizes = Annotated[
    tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1), AfterValidator(_differ)
]
"""Numbers of at least 1, each once."""
Flags = Annotated[tuple[bool, ...], Field(min_length=1), AfterValidator(_differ)]
Optimizers = Annotated[tuple[Optimizer, ...], Field(min_length=1), AfterValidator(_differ)]


class Memory(Section):
    """Training steps whose peak memory is measured: one of each combination of these lists."""

    arms: tuple[Name, ...] | None = Field(None, min_length=1)
    """Arms, and so methods and quantisation; null: every arm that is trained."""
    batch_sizes: Sizes | None = None
    """Examples a forward pass; null: those of training."""
    lengths: Sizes | None = None
    """Lengths of the examples, in tokens; null: the longest training examples as they are."""
    gradient_checkpointing: Flags | None = None
    """With it, without it, or both; null: as each arm is trained."""
    optimizers: Optimizers | None = None
    """By the names of `train.optimizer`; null: the one that each arm is trained with."""
