"""The columns of `history.csv`; free of torch."""

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any, Final

COLUMNS: Final = (
    "epoch",
    "chunk",
    "steps",
    "examples",
    "tokens",
    "train_loss",
    "val_loss",
    "learning_rate",
    "grad_norm",
    "seconds_training",
    "seconds_evaluating",
    "seconds_saving",
    "seconds_waiting",
    "examples_per_second",
    "tokens_per_second",
    "memory_allocated_mean_mb",
    "memory_allocated_peak_mb",
    "memory_reserved_mean_mb",
    "memory_reserved_peak_mb",
    "energy_joules",
)
"""Columns of `history.csv`. MB are 1e6 bytes; losses are means by the task's weight, such as nats a
supervised token. Last stand `val_<name>` of what a task counts beside the loss, such as
`val_accuracy`."""

MEASURED: Final = tuple(
    name
    for name in COLUMNS
    if name.startswith(("seconds_", "memory_", "energy_")) or name.endswith("_per_second")
)
"""Columns that measure the machine, and so differ between two runs of the same training."""


def as_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return history rows as CSV text; floats in their shortest exact form."""
    buffer = io.StringIO()
    counted = sorted({name for row in rows for name in row} - set(COLUMNS))
    writer = csv.DictWriter(buffer, [*COLUMNS, *counted], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()
