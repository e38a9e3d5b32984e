"""Metrics of a predicted class: columns `label` (true), `predicted`, `probability` and `nll`.

For each class three counts are summed: how often it is true, how often it is predicted, and how
often both. Accuracy, every precision, recall and F1, and the Matthews correlation follow from them;
the K x K confusion matrix, which a study of a thousand classes could not sum by group, stands in
the details.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from peft_ablation.metrics.metric import Array, Breakdown, Metric, Statistics
from peft_ablation.metrics.texts import mean_of

BINS: Final = 15
"""Bins of the calibration error, as in Guo et al. (2017)."""


def class_metrics(
    classes: Sequence[str], *, matthews: bool = False, positive: str | None = None
) -> tuple[Metric, ...]:
    """Return accuracy, macro F1, the loss and the calibration error for these classes.

    With `matthews` also the Matthews correlation, with `positive` also the F1 of that class.
    Predictions may hold no other class; a table without `probability` or `nll` lacks the metrics
    that need them.
    """
    counts = Statistics(
        tuple(f"{kind}_{name}" for kind in ("true", "predicted", "right") for name in classes),
        lambda predictions: _counts(predictions, classes),
    )
    return (
        Metric(
            "accuracy", "accuracy", "share of examples whose predicted class is the true one",
            counts, lambda sums: accuracy(_by_class(sums)), unit="0 to 1", needs=("predicted",),
        ),
        Metric(
            "macro_f1", "macro F1",
            "mean over the classes of F1 = 2 right / (true + predicted), the same weight for each "
            "class that is true or predicted at least once",
            counts, lambda sums: macro_f1(_by_class(sums)), unit="0 to 1", needs=("predicted",),
        ),
        *([_matthews_metric(counts)] if matthews else []),
        *([] if positive is None else [_f1_metric(counts, positive, classes)]),
        mean_of(
            "test_loss", "test loss", "nll", None,
            "mean negative log-likelihood of the true class, in nats",
        ),
        Metric(
            "calibration_error", "calibration error",
            f"expected calibration error over {BINS} equal bins of the predicted class's "
            "probability (Guo et al. 2017): mean distance between the share of right predictions "
            "and their mean probability in a bin, weighted by its examples",
            _BINNED, calibration_error, unit="0 to 1", higher_is_better=False,
            needs=("predicted", "probability"),
        ),
    )  # fmt: skip


def class_breakdown(classes: Sequence[str]) -> Breakdown:
    """Return F1 of each class, from the sums of `class_metrics`."""
    return Breakdown(
        "f1", "F1", "F1 = 2 right / (true + predicted) of the class",
        {name: (f"true_{name}", f"predicted_{name}", f"right_{name}") for name in classes},
        (0,), lambda sums: _ratio(2 * sums[..., 2], sums[..., 0] + sums[..., 1]),
    )  # fmt: skip


def accuracy(counts: Array) -> Array:
    """Return the share of right predictions of counts (…, 3, K) → (…); NaN without examples."""
    true, _, right = np.moveaxis(counts, -2, 0)
    return _ratio(right.sum(axis=-1), true.sum(axis=-1))


def macro_f1(counts: Array) -> Array:
    """Return the mean F1 of counts (…, 3, K) → (…), as scikit-learn's over the labels it sees."""
    true, predicted, right = np.moveaxis(counts, -2, 0)
    seen = true + predicted > 0
    f1 = np.where(seen, 2 * right / np.where(seen, true + predicted, 1), 0)
    return _ratio(f1.sum(axis=-1), seen.sum(axis=-1))


def matthews_correlation(counts: Array) -> Array:
    """Return the Matthews correlation of counts (…, 3, K) → (…); NaN without examples.

    Gorodkin's R_K (2004) = (n r - Σ t p) / √((n² - Σ t²) (n² - Σ p²)) of n examples, r of them
    right, t and p how often a class is true and predicted: the confusion matrix's margins and trace
    suffice. 0 where all examples are of one class, or all predictions, as scikit-learn has it.
    """
    true, predicted, right = np.moveaxis(counts, -2, 0)
    rows = true.sum(axis=-1)
    above = rows * right.sum(axis=-1) - (true * predicted).sum(axis=-1)
    spread = (rows**2 - (true**2).sum(axis=-1)) * (rows**2 - (predicted**2).sum(axis=-1))
    found = np.where(spread > 0, above / np.sqrt(np.where(spread > 0, spread, 1)), 0)
    return np.where(rows > 0, found, np.nan)


def f1_of(counts: Array, place: int) -> Array:
    """Return the F1 of one class of counts (…, 3, K) → (…); 0 where it is never true or predicted.

    NaN without examples.
    """
    true, predicted, right = np.moveaxis(counts, -2, 0)
    seen = true[..., place] + predicted[..., place]
    f1 = np.where(seen > 0, 2 * right[..., place] / np.where(seen > 0, seen, 1), 0)
    return np.where(true.sum(axis=-1) > 0, f1, np.nan)


def _matthews_metric(counts: Statistics) -> Metric:
    return Metric(
        "matthews", "Matthews correlation",
        "correlation of true and predicted class, -1 to 1 (Matthews 1975; for more than two "
        "classes Gorodkin 2004); 0 where one class is always predicted",
        counts, lambda sums: matthews_correlation(_by_class(sums)), unit="-1 to 1",
        needs=("predicted",),
    )  # fmt: skip


def _f1_metric(counts: Statistics, positive: str, classes: Sequence[str]) -> Metric:
    place = list(classes).index(positive)
    return Metric(
        "f1", f"F1 of {positive}",
        f"F1 = 2 right / (true + predicted) of the class {positive}",
        counts, lambda sums: f1_of(_by_class(sums), place), unit="0 to 1", needs=("predicted",),
    )  # fmt: skip


def calibration_error(sums: Array) -> Array:
    """Return the expected calibration error of sums (…, 3 * BINS) → (…); NaN without examples.

    The sums are, by bin, examples, probabilities and right predictions.
    """
    count, probability, right = np.moveaxis(sums.reshape(*sums.shape[:-1], 3, BINS), -2, 0)
    return _ratio(np.abs(right - probability).sum(axis=-1), count.sum(axis=-1))


def confusion(predictions: pl.DataFrame, classes: Sequence[str]) -> NDArray[np.int64]:
    """Return counts (K, K): row the true class, column the predicted one."""
    matrix = np.zeros((len(classes), len(classes)), dtype=np.int64)
    pair = (_places(predictions["label"], classes), _places(predictions["predicted"], classes))
    np.add.at(matrix, pair, 1)
    return matrix


def class_details(predictions: pl.DataFrame, classes: Sequence[str]) -> dict[str, Any]:
    """Return precision, recall, F1 and counts by class, and the confusion matrix, as plain values.

    A precision without predictions, or a recall without examples, is None.
    """
    matrix = confusion(predictions, classes)
    return {
        "by_class": {name: _scores(matrix, place) for place, name in enumerate(classes)},
        "confusion": {"classes": list(classes), "true_by_predicted": matrix.tolist()},
    }


def _scores(matrix: NDArray[np.int64], place: int) -> Mapping[str, Any]:
    right, true, predicted = (
        int(matrix[place, place]), int(matrix[place].sum()), int(matrix[:, place].sum()),
    )  # fmt: skip
    return {
        "precision": right / predicted if predicted else None,
        "recall": right / true if true else None,
        "f1": 2 * right / (true + predicted) if true + predicted else None,
        "true": true,
        "predicted": predicted,
        "right": right,
    }


def _places(column: pl.Series, classes: Sequence[str]) -> NDArray[np.int64]:
    return column.cast(pl.Enum(classes)).to_physical().to_numpy().astype(np.int64)


def _counts(predictions: pl.DataFrame, classes: Sequence[str]) -> Array:
    own = np.arange(len(classes))
    true = _places(predictions["label"], classes)[:, None] == own
    predicted = _places(predictions["predicted"], classes)[:, None] == own
    return np.concatenate([true, predicted, true & predicted], axis=1).astype(np.float64)


def _by_class(sums: Array) -> Array:
    return sums.reshape(*sums.shape[:-1], 3, -1)


def _binned(predictions: pl.DataFrame) -> Array:
    probability = predictions["probability"].to_numpy().astype(np.float64)
    right = (predictions["label"] == predictions["predicted"]).to_numpy().astype(np.float64)
    # A bin holds its upper bound, as in Guo et al.
    place = np.clip(np.ceil(probability * BINS).astype(np.int64) - 1, 0, BINS - 1)
    own = (place[:, None] == np.arange(BINS)).astype(np.float64)
    return np.concatenate([own, own * probability[:, None], own * right[:, None]], axis=1)


_BINNED: Final = Statistics(
    tuple(f"bin_{kind}_{n}" for kind in ("count", "probability", "right") for n in range(BINS)),
    _binned,
)


def _ratio(above: Array, below: NDArray[Any]) -> Array:
    return np.where(below > 0, above / np.where(below > 0, below, 1), np.nan)
