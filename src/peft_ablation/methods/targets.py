"""Which modules of a base an arm's adapters go to, by name and without building the model."""

import difflib
import re
from collections.abc import Collection
from typing import Final

from peft_ablation.bases.architectures import Architecture, known_sets
from peft_ablation.errors import InputError, near_miss

WITH_WEIGHTS: Final = ("Linear", "Conv1D", "Conv2d", "Embedding")
"""Kinds of module that hold a matrix of weights: what most methods of PEFT can adapt."""

_REGEX: Final = "regex:"


def check_targets(
    targets: str,
    base: Architecture | None,
    *,
    method: str,
    kinds: Collection[str] = WITH_WEIGHTS,
) -> None:
    """Raise `InputError` with one line unless `method` can adapt the `targets` of a base.

    As `resolve_target`; where the base is not known yet (None), only the form is checked: a name
    that some architecture has, or a valid expression.
    """
    if base is not None:
        resolve_target(targets, base, method=method, kinds=kinds)
    elif targets.startswith(_REGEX):
        _compiled(targets.removeprefix(_REGEX), targets)
    elif targets not in known_sets():
        raise _unknown(targets, known_sets(), "")


def resolve_target(
    targets: str,
    base: Architecture,
    *,
    method: str,
    kinds: Collection[str] = WITH_WEIGHTS,
) -> str:
    """Return the full-match expression over module names that `targets` stands for.

    `targets` is the name of a set of the architecture, or `regex:` and an expression. `kinds` are
    the kinds of module that `method` can adapt. Raises `InputError` for an unknown name, an invalid
    expression, one that matches no module, and one that matches a module of another kind or without
    weights of its own; PEFT would refuse these too, but after the model was built.
    """
    if targets.startswith(_REGEX):
        expression = targets.removeprefix(_REGEX)
    elif targets in base.targets:
        expression = base.targets[targets]
    else:
        raise _unknown(targets, base.targets, f" for {base.class_name}")
    pattern = _compiled(expression, targets)
    able = f"{method} adapts {', '.join(kinds)}"
    matched = False
    for module in base.modules:
        if pattern.fullmatch(module.name):
            matched = True
            if module.kind not in kinds:
                raise InputError(
                    f"targets: {targets!r} matches {module.name}, {_a(module.kind)}; {able}"
                )
    for name in base.others:
        if pattern.fullmatch(name):
            raise InputError(
                f"targets: {targets!r} matches {name}, which holds no weights of its own; {able}"
            )
    if not matched:
        names = [module.name for module in base.modules if module.kind in kinds]
        near = difflib.get_close_matches(expression.replace("\\", ""), names, n=1, cutoff=0)
        such = f"; expected a full match of a name such as {near[0]!r}" if near else f"; {able}"
        raise InputError(f"targets: {targets!r} matches no module of {base.class_name}{such}")
    return expression


def _a(kind: str) -> str:
    return f"{'an' if kind[0] in 'AEIOU' else 'a'} {kind}"


def _compiled(expression: str, targets: str) -> re.Pattern[str]:
    try:
        return re.compile(expression)
    except re.error as error:
        raise InputError(f"targets: {targets!r} is no regular expression: {error}") from None


def _unknown(targets: str, sets: Collection[str], where: str) -> InputError:
    allowed = ", ".join([*sorted(sets), "regex:<expression>"])
    return InputError(
        f"targets: found {targets!r}, allowed{where}: {allowed}{near_miss(targets, sets)}"
    )
