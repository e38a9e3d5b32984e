"""The optimizers by the names that `train.optimizer` gives them.

Names are those of transformers' `optim`, but for `adamw`, its `adamw_torch_fused`. Those of
bitsandbytes keep states in 8 bits (Dettmers et al. 2022, https://arxiv.org/abs/2110.02861; tensors
of 4,096 elements or more), or in pages that move to the CPU where a GPU's memory runs short; on a
CPU there are no pages to move.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from peft_ablation.bases.quantisation import bitsandbytes
from peft_ablation.training.checkpoint import OF_BITSANDBYTES


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
