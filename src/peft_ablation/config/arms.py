"""Sweeps: an arm that stands for many."""

import math
from collections.abc import Mapping
from itertools import product
from typing import Any, Final

from peft_ablation.errors import InputError

MOST_ARMS: Final = 200


def expanded_sweeps(arms: Mapping[str, Any], most: int = MOST_ARMS) -> dict[str, Any]:
    """Return the arms, each with `sweep: {key: [values]}` replaced by one arm a combination.

    An arm of a sweep is named after it, `lora` with r 4 and learning_rate 1e-3 `lora_r4_learning_
    rate1e3`. Raises `InputError` for a sweep that is no mapping of lists, and for more arms than
    `most`: ten thousand may be a slip.
    """
    result: dict[str, Any] = {}
    sizes = {name: _size(name, arm) for name, arm in arms.items()}
    total = sum(sizes.values())
    if total > most:
        largest = max(sizes, key=lambda name: sizes[name])
        raise InputError(
            f"arms: found {total:,} arms ({sizes[largest]:,} from the sweep of {largest}), allowed "
            f"up to max_arms, {most}; sweep fewer values, or set max_arms: {total}"
        )
    for name, arm in arms.items():
        if not isinstance(arm, Mapping) or "sweep" not in arm:
            result[name] = arm
            continue
        fixed = {key: value for key, value in arm.items() if key != "sweep"}
        for values in product(*arm["sweep"].values()):
            chosen = dict(zip(arm["sweep"], values, strict=True))
            own = "_".join([name, *(f"{key}{_word(value)}" for key, value in chosen.items())])
            if own in result or own in arms:
                raise InputError(f"arms.{name}.sweep: two arms would be named {own!r}; rename one")
            result[own] = {**fixed, **chosen}
    return result


def _size(name: str, arm: Any) -> int:
    sweep = arm.get("sweep") if isinstance(arm, Mapping) else None
    if sweep is None:
        return 1
    if not isinstance(sweep, Mapping) or not sweep:
        raise InputError(f"arms.{name}.sweep: found {sweep!r}, expected keys with lists of values")
    for key, values in sweep.items():
        if not isinstance(values, list) or not values:
            raise InputError(
                f"arms.{name}.sweep.{key}: found {values!r}, expected a list of values"
            )
    return math.prod(len(values) for values in sweep.values())


def _word(value: Any) -> str:
    """Return a value as part of a name: 0.0002 → 2e_4, 16 → 16."""
    text = f"{float(value):g}" if isinstance(value, float) or _is_number(value) else str(value)
    text = text.replace("e-0", "e-").replace("e+0", "e").lower()
    return "".join(mark if mark.isalnum() else "_" for mark in text).strip("_")


def _is_number(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return not isinstance(value, bool)
