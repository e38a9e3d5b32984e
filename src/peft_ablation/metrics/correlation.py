"""Metrics of a predicted score: columns `score` (true) and `predicted`."""

from typing import Final

import numpy as np
import polars as pl

from peft_ablation.metrics.metric import Array, Metric, Statistics

MOMENTS: Final = ("rows", "x", "y", "xx", "yy", "xy")
SMALLEST_SPREAD: Final = 1e-12
"""Share of the second moment below which a spread is rounding: the values are one value."""
CONSTANT: Final = "0 where all predictions are one value, which tells nothing of the score"


def score_metrics() -> tuple[Metric, ...]:
    """Return Pearson's and Spearman's correlation and the root mean squared error."""
    return (
        Metric(
            "pearson", "Pearson correlation",
            f"linear correlation of predicted and true score, -1 to 1; {CONSTANT}",
            _VALUES, correlation, unit="-1 to 1", needs=("predicted",),
        ),
        Metric(
            "spearman", "Spearman correlation",
            "Pearson correlation of ranks, of equal values their mean rank, -1 to 1; ranks are "
            f"those in the whole test set and stay fixed while groups are resampled; {CONSTANT}",
            _RANKS, correlation, unit="-1 to 1", needs=("predicted",),
        ),
        Metric(
            "rmse", "root mean squared error",
            "root of the mean squared distance of predicted and true score, in units of the score",
            _ERRORS, _root_mean, unit="units of the score", higher_is_better=False,
            needs=("predicted",),
        ),
    )  # fmt: skip


def correlation(sums: Array) -> Array:
    """Return the correlation of sums (…, 6) of `MOMENTS` → (…).

    0 where all predictions (x) are one value; NaN where all true scores (y) are.
    """
    n, x, y, xx, yy, xy = np.moveaxis(sums, -1, 0)
    x_spread, y_spread = n * xx - x**2, n * yy - y**2
    x_varies, y_varies = x_spread > SMALLEST_SPREAD * n * xx, y_spread > SMALLEST_SPREAD * n * yy
    both = x_varies & y_varies
    length = np.sqrt(np.where(both, x_spread, 1) * np.where(both, y_spread, 1))
    found = np.where(both, (n * xy - x * y) / length, 0)
    return np.where(y_varies, found, np.nan)


def _moments(x: Array, y: Array) -> Array:
    """Return `MOMENTS` of each row, (N,) and (N,) → (N, 6)."""
    # Far from 0 the moments would lose the digits that matter. A median is one of equal values to
    # the bit, where their mean may not be.
    x, y = x - np.median(x), y - np.median(y)
    return np.stack([np.ones(len(x)), x, y, x * x, y * y, x * y], axis=1)


def _of_values(predictions: pl.DataFrame) -> Array:
    return _moments(*_columns(predictions))


def _of_ranks(predictions: pl.DataFrame) -> Array:
    ranks = predictions.select(pl.col("predicted", "score").cast(pl.Float64).rank("average"))
    return _moments(*_columns(ranks))


def _of_errors(predictions: pl.DataFrame) -> Array:
    predicted, score = _columns(predictions)
    return np.stack([(predicted - score) ** 2, np.ones(len(score))], axis=1)


def _columns(predictions: pl.DataFrame) -> tuple[Array, Array]:
    predicted, score = (
        predictions[name].to_numpy().astype(np.float64) for name in ("predicted", "score")
    )
    return predicted, score


def _root_mean(sums: Array) -> Array:
    total, count = sums[..., 0], sums[..., 1]
    return np.where(count > 0, np.sqrt(total / np.where(count > 0, count, 1)), np.nan)


_VALUES: Final = Statistics(tuple(f"value_{name}" for name in MOMENTS), _of_values)
_RANKS: Final = Statistics(tuple(f"rank_{name}" for name in MOMENTS), _of_ranks)
_ERRORS: Final = Statistics(("squared_error", "squared_error_rows"), _of_errors)
