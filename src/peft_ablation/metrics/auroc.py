"""How well scores tell two kinds of examples apart, and whether they are probabilities.

The area under the ROC curve is no sum over examples. What each group contributes to it is its part
of the placements of DeLong et al. (1988), summed by group as Obuchowski (1997) does for clustered
data: with these as pseudo-values the intervals of `peft_ablation.metrics.intervals` follow.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from peft_ablation.metrics.intervals import ArmScores
from peft_ablation.metrics.metric import Array

BINS: Final = 10
"""Equal bins of probability of the reliability curve."""


def placements(scores: Array, positive: NDArray[np.bool_]) -> Array:
    """Return for each example the share of the other kind that it is on the right side of (N,).

    Ties count half. The mean over the positives, and that over the negatives, is the area.
    """
    found = np.empty(len(scores))
    for kind, side in ((True, 1), (False, -1)):
        own, others = scores[positive == kind] * side, np.sort(scores[positive != kind] * side)
        below = np.searchsorted(others, own, "left") + np.searchsorted(others, own, "right")
        found[positive == kind] = below / 2 / max(len(others), 1)
    return found


def auroc(scores: Array, positive: NDArray[np.bool_]) -> float:
    """Return the area under the ROC curve; NaN where one kind is missing."""
    if positive.all() or not positive.any():
        return float("nan")
    return float(placements(scores, positive)[positive].mean())


def contributions(
    scores: Array, positive: NDArray[np.bool_], groups: NDArray[np.int64], count: int
) -> Array:
    """Return pseudo-values of the area by group (`count`,), whose mean is the area.

    `groups` (N,): place of each example's group. A group without an example has the area itself.
    """
    area = auroc(scores, positive)
    of_kind = np.where(positive, positive.sum(), (~positive).sum())
    influence = (placements(scores, positive) - area) / of_kind
    by_group = np.bincount(groups, influence, minlength=count).astype(np.float64)
    return area + count * by_group


def arm_scores(
    runs: list[Array],
    positive: NDArray[np.bool_],
    groups: NDArray[np.int64],
    count: int,
) -> ArmScores | None:
    """Return the areas of an arm's runs on the same examples; None where one kind is missing."""
    if positive.all() or not positive.any() or count < 2:
        return None
    return ArmScores(
        np.array([auroc(run, positive) for run in runs]),
        np.stack([contributions(run, positive, groups, count) for run in runs]),
    )


def reliability_sums(
    probability: Array, positive: NDArray[np.bool_], groups: NDArray[np.int64], count: int
) -> Array:
    """Return sums by group (`count`, 1 + 3 BINS): squared errors; by bin examples, p, positives."""
    place = np.minimum((probability * BINS).astype(np.int64), BINS - 1)
    own = (place[:, None] == np.arange(BINS)).astype(np.float64)
    columns = np.concatenate(
        [
            ((probability - positive) ** 2)[:, None],
            own,
            own * probability[:, None],
            own * positive[:, None],
        ],
        axis=1,
    )
    sums = np.zeros((count, columns.shape[1]))
    np.add.at(sums, groups, columns)
    return sums


def brier(sums: Array) -> Array:
    """Return the mean squared error of probabilities, sums (…, 1 + 3 BINS) → (…)."""
    count = sums[..., 1 : 1 + BINS].sum(axis=-1)
    return np.where(count > 0, sums[..., 0] / np.where(count > 0, count, 1), np.nan)


def calibration_error(sums: Array) -> Array:
    """Return the expected calibration error (Guo et al., 2017) of sums (…, 1 + 3 BINS) → (…)."""
    count, probability, positive = bins(sums)
    total = count.sum(axis=-1)
    away = np.abs(probability - positive).sum(axis=-1)
    return np.where(total > 0, away / np.where(total > 0, total, 1), np.nan)


def bins(sums: Array) -> tuple[Array, Array, Array]:
    """Return examples, summed probabilities and positives by bin, each (…, BINS)."""
    count, probability, positive = np.split(sums[..., 1:], 3, axis=-1)
    return count, probability, positive
