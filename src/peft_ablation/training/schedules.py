"""Learning-rate schedules as pure functions of the step, over all epochs whatever the chunking."""

import math
from typing import Final

ONE_CYCLE_START: Final = 25.0
ONE_CYCLE_END: Final = 1e4
"""Ratios of the peak to the first and of the first to the last rate, as in torch's OneCycleLR."""


def learning_rate_factor(schedule: str, step: int, total: int, warmup: float) -> float:
    """Return the share of the peak learning rate at optimizer step `step` of `total` (0-based).

    `linear`, `cosine` and `constant` rise linearly over `warmup * total` steps as transformers'
    schedulers do; `one_cycle` rises and falls by cosine as torch's `OneCycleLR` does with
    `pct_start=warmup` (momentum is left alone).
    """
    if schedule == "one_cycle":
        return _one_cycle(step, total, warmup)
    rising = math.ceil(warmup * total)
    if step < rising:
        return step / max(1, rising)
    progress = (step - rising) / max(1, total - rising)
    return {
        "constant": 1.0,
        "linear": max(0.0, 1.0 - progress),
        "cosine": 0.5 * (1 + math.cos(math.pi * min(1.0, progress))),
    }[schedule]


def _one_cycle(step: int, total: int, warmup: float) -> float:
    first = 1 / ONE_CYCLE_START
    last = first / ONE_CYCLE_END
    top = warmup * total - 1
    if top > 0 and step <= top:
        return _cosine_between(first, 1.0, step / top)
    begin = max(top, 0.0)
    end = max(total - 1, begin + 1)
    return _cosine_between(1.0, last, (step - begin) / (end - begin))


def _cosine_between(start: float, end: float, share: float) -> float:
    return end + (start - end) / 2 * (1 + math.cos(math.pi * share))
