"""What a metric is: a value of sums over examples.

Every score is a function of sums of per-example statistics. So a mean over seeds, a resample of
groups, a paired difference or a table by group costs an addition, and one bootstrap serves every
metric. A metric carries its own words; tables, figures and pages take theirs from it.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Statistics:
    """What is summed: named columns, and how they are read from predictions.

    Metrics that are made of the same sums share one object.
    """

    columns: tuple[str, ...]
    """Names of the sums, unique within a task."""
    of: Callable[[pl.DataFrame], Array]
    """Predictions (N rows) → statistics (N, len(columns)), float64."""


@dataclass(frozen=True)
class Metric:
    """One score: its sums, the function of them, and its words."""

    name: str
    """Column name, such as `findings_f1`."""
    title: str
    """As a heading says it, such as `findings F1`."""
    definition: str
    """One sentence: what it is, its range and its source."""
    statistics: Statistics
    value: Callable[[Array], Array]
    """Sums (…, len(statistics.columns)) → (…); NaN where undefined."""
    higher_is_better: bool | None = True
    """None: neither direction is better (a length, say), so that no arm is better or worse in it
    and none can be tested."""
    unit: str = "0 to 1"
    """Range or unit, as an axis says it."""
    digits: int = 3
    """Decimals in tables."""
    compared: bool = True
    """Whether it gets an interval and a difference to the reference arm in the comparison."""
    needs: tuple[str, ...] = ()
    """Prediction columns without which the metric is left out (a baseline has no loss, say)."""
    signature: str | None = None
    """What reproduces it, such as sacrebleu's signature."""

    @property
    def bounds(self) -> tuple[float, float]:
        """Least and largest value, where the unit says them (`0 to 1`), else infinite."""
        return bounds(self.unit)

    def words(self) -> dict[str, Any]:
        """Return what tables, figures and pages say of the metric, as plain values."""
        return {
            "name": self.name,
            "title": self.title,
            "definition": self.definition,
            "higher_is_better": self.higher_is_better,
            "unit": self.unit,
            "digits": self.digits,
            "compared": self.compared,
        }


@dataclass(frozen=True)
class Breakdown:
    """A score of each part of what is told (each class, each finding), of the metrics' own sums."""

    name: str
    """Column name, such as `f1`."""
    title: str
    """As a heading says it, such as `F1`."""
    definition: str
    """One sentence, as of a metric."""
    parts: Mapping[str, tuple[str, ...]]
    """Columns of the sums that each part's score is made of, by the part's name."""
    counted: tuple[int, ...]
    """Places in a part's columns whose sums add up to the examples that it is about."""
    value: Callable[[Array], Array]
    """Sums of a part's columns (…, K) → (…); NaN where undefined."""
    higher_is_better: bool = True
    unit: str = "0 to 1"
    digits: int = 3


def bounds(unit: str) -> tuple[float, float]:
    """Return least and largest value where a unit says them (`0 to 1`), else infinite ones."""
    least, to, most = unit.partition(" to ")
    return (float(least), float(most)) if to else (-math.inf, math.inf)


def present(metrics: Sequence[Metric], columns: Sequence[str]) -> tuple[Metric, ...]:
    """Return the metrics that predictions with these columns allow."""
    return tuple(metric for metric in metrics if set(metric.needs) <= set(columns))


def sum_columns(metrics: Sequence[Metric]) -> tuple[str, ...]:
    """Return the names of all sums of these metrics, each once, in order."""
    return tuple(dict.fromkeys(c for metric in metrics for c in metric.statistics.columns))


def statistics_of(metrics: Sequence[Metric], predictions: pl.DataFrame) -> Array:
    """Return the statistics (N, len(sum_columns(metrics))) of each row of predictions."""
    distinct = list(dict.fromkeys(metric.statistics for metric in metrics))
    parts = [statistics.of(predictions) for statistics in distinct]
    return np.concatenate(parts, axis=1, dtype=np.float64)


def value_of(metric: Metric, columns: Sequence[str], sums: Array) -> Array:
    """Return the metric of `sums` (…, len(columns)), whose columns are named."""
    places: Mapping[str, int] = {name: place for place, name in enumerate(columns)}
    return metric.value(sums[..., [places[name] for name in metric.statistics.columns]])
