"""The runs of a study as a comparison reads them: scores, cost, and sums by test group."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from peft_ablation.artifacts import read_json
from peft_ablation.errors import InputError
from peft_ablation.metrics.metric import Array, Metric, sum_columns


@dataclass(frozen=True)
class Run:
    """One arm and seed: scores, cost, and sums by group (G, columns), by set of predictions."""

    arm: str
    seed: int
    scores: Mapping[str, Any]
    cost: Mapping[str, Any]
    groups: NDArray[Any]
    sums: Mapping[str, Array]


def read_runs(
    runs: Sequence[tuple[str, int]],
    metrics: Sequence[Metric],
    scores: Sequence[str | Path],
    sums: Sequence[str | Path],
    costs: Sequence[str | Path],
) -> list[Run]:
    """Read the runs (arm, seed), whose files are in the same order.

    Raises `InputError` where they were tested on different groups.
    """
    found = [
        _read(arm, int(seed), metrics, *paths)
        for (arm, seed), *paths in zip(runs, scores, sums, costs, strict=True)
    ]
    _check_same_groups(found)
    return found


def mean(values: Sequence[float | None]) -> float | None:
    """Return the mean; None where any value is missing."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known and len(known) == len(values) else None


def deviation(values: Sequence[float | None]) -> float | None:
    """Return the sample standard deviation; None for fewer than two values."""
    known = [value for value in values if value is not None]
    return float(np.std(known, ddof=1)) if len(known) == len(values) >= 2 else None


def _read(
    arm: str,
    seed: int,
    metrics: Sequence[Metric],
    scores: str | Path,
    sums: str | Path,
    cost: str | Path,
) -> Run:
    table = pl.read_parquet(sums)
    parts = {
        str(name): part.select(sum_columns(metrics)).to_numpy()
        for (name,), part in table.group_by("predictions", maintain_order=True)
    }
    groups = table.filter(pl.col("predictions") == "model")["group"].to_numpy()
    return Run(arm, seed, read_json(scores), read_json(cost), groups, parts)


def _check_same_groups(runs: Sequence[Run]) -> None:
    first = runs[0]
    for run in runs[1:]:
        if not np.array_equal(run.groups, first.groups):
            raise InputError(
                f"arm {run.arm} seed {run.seed}: tested on {len(run.groups)} groups, not the "
                f"{len(first.groups)} of arm {first.arm} seed {first.seed}; a comparison needs "
                "one test split: remove the older run's predictions and score it again"
            )
