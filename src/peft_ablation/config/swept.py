"""Which arms differ in one number alone: what a figure over rank or learning rate can show."""

from collections.abc import Mapping
from typing import Any, Final

SWEPT: Final = {"r": "rank", "learning_rate": "learning rate"}
"""Settings of arms that have a figure of their own, and how it is called."""
LEAST: Final = 3
"""Fewest values of one line."""


def swept_arms(arms: Mapping[str, Mapping[str, Any]], *, tuned: bool) -> dict[str, list[str]]:
    """Return the arms of all lines, by swept setting; rates that are `tuned` are no setting."""
    found = {
        key: [arm for names in swept_lines(arms, key).values() for arm in names]
        for key in SWEPT
        if not (tuned and key == "learning_rate")
    }
    return {key: names for key, names in found.items() if names}


def swept_lines(arms: Mapping[str, Mapping[str, Any]], key: str) -> dict[str, list[str]]:
    """Return groups of arms that differ in `key` alone, by what they share, ascending in `key`.

    Only groups of three values or more; a line is named by its first arm less the swept part.
    """
    groups: dict[str, list[str]] = {}
    for name, arm in arms.items():
        if isinstance(arm.get(key), (int, float)):
            shared = {other: value for other, value in arm.items() if other != key}
            groups.setdefault(repr(sorted(shared.items(), key=str)), []).append(name)
    lines = {}
    for names in groups.values():
        if len({arms[name][key] for name in names}) >= LEAST:
            ordered = sorted(names, key=lambda name: float(arms[name][key]))
            lines[_shared_name(ordered, key)] = ordered
    return lines


def _shared_name(names: list[str], key: str) -> str:
    """Return what the names have in common before the swept key, `lora_r1`, `lora_r2` → `lora`."""
    before = {name.split(f"_{key}")[0] for name in names}
    return before.pop() if len(before) == 1 else " / ".join(names[:2]) + " …"
