"""The optimizers by the names that `train.optimizer` gives them.

Names are those of transformers' `optim`, but for `adamw`, its `adamw_torch_fused`. Those of
bitsandbytes keep states in 8 bits (Dettmers et al. 2022, https://arxiv.org/abs/2110.02861; tensors
of 4,096 elements or more), or in pages that move to the CPU where a GPU's memory runs short; on a
CPU there are no pages to move.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import torch

from peft_ablation.bases.quantisation import bitsandbytes
from peft_ablation.training.checkpoint import OF_BITSANDBYTES

IN_8_BITS: Final = ("adamw_8bit", "paged_adamw_8bit")
FEWEST: Final = 4096
"""Elements from which on bitsandbytes keeps a tensor's moments in 8 bits."""
BLOCK: Final = 256
"""Elements that share a scale there."""


def make_optimizer(
    name: str, groups: Sequence[Mapping[str, Any]], learning_rate: float
) -> torch.optim.Optimizer:
    """Return the optimizer of this name over parameter groups (`params`, `weight_decay`).

    Raises `InputError` with one line where it is bitsandbytes' and that cannot be had.
    """
    own = [dict(group) for group in groups]
    if name not in OF_BITSANDBYTES:
        return torch.optim.AdamW(own, lr=learning_rate, fused=True)
    library = bitsandbytes(f"train.optimizer: {name}")
    made: torch.optim.Optimizer = getattr(library.optim, OF_BITSANDBYTES[name])(
        own, lr=learning_rate
    )
    return made


def state_bytes(name: str, parameters: Iterable[torch.Tensor]) -> int:
    """Return the bytes that an optimizer keeps of parameters after a step, by formula.

    Two moments of each element: in float32, or in 8 bits with a scale in float32 for each block.
    Tables that all parameters share are left out.
    """
    return sum(_moments(name, parameter) for parameter in parameters)


def _moments(name: str, parameter: torch.Tensor) -> int:
    count = parameter.numel()
    if name in IN_8_BITS and count >= FEWEST:
        return 2 * (count + 4 * -(-count // BLOCK))
    # torch's counts its steps in a tensor of one number.
    return 2 * 4 * count + (0 if name in OF_BITSANDBYTES else 4)
