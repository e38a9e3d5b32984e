"""What tasks with classes share: which there are, and which is the commonest."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from peft_ablation.errors import InputError, near_miss
from peft_ablation.tasks import Baseline

if TYPE_CHECKING:
    import polars as pl


def classes_of(labels: "pl.Series", wanted: Sequence[str] | None, example: str) -> tuple[str, ...]:
    """Return the classes in the order of the model's outputs: `wanted`, or those found, sorted.

    `labels` are those of the training split, `example` is what a row is called. Raises `InputError`
    for a row without a label, classes that are not those of the training split, and fewer than two.
    """
    if labels.null_count():
        raise InputError(
            f"data: {labels.null_count()} of {len(labels)} training {example}s have no label; give "
            "each a class, or leave these rows out"
        )
    found = sorted(set(labels.to_list()))
    classes = tuple(wanted or found)
    odd = sorted(set(found) - set(classes))
    if odd:
        raise InputError(
            f"task.classes: the training split has the class {odd[0]!r}, which is not listed"
            f"{near_miss(odd[0], classes)}; list it, or leave it out with data.classes"
        )
    absent = [name for name in classes if name not in found]
    if absent:
        raise InputError(
            f"task.classes: no training {example} is of the class {absent[0]!r}, found "
            f"{', '.join(found)}{near_miss(absent[0], found)}"
        )
    if len(classes) < 2:
        raise InputError(
            f"task: all training {example}s are of the class {found[0]!r}, expected two classes or "
            "more"
        )
    return classes


def majority(labels: "pl.Series") -> Baseline:
    """Return the commonest class of the training split; of equal ones, the first by name."""
    counts = dict(labels.value_counts().iter_rows())
    commonest = min(counts, key=lambda name: (-counts[name], name))
    account = {"class": commonest, "training_share": counts[commonest] / len(labels)}
    return Baseline("commonest class, always", {"predicted": commonest}, account)
