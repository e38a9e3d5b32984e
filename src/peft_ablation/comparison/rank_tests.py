"""Tests of several arms over several studies, as Demsar (2006) advises them.

Friedman's test asks whether any arm ranks elsewhere than another, Nemenyi's which pairs do, and
Wilcoxon's signed ranks whether one arm gains on another. A study is one draw: how surely each
study's scores are known does not enter.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy.stats import (
    PermutationMethod,
    f,
    friedmanchisquare,
    rankdata,
    studentized_range,
    wilcoxon,
)

from peft_ablation.metrics.metric import Array

SHUFFLES: Final = 10_000
"""Shuffles of a permutation test. Signs of up to 13 studies have fewer: all are tried."""


@dataclass(frozen=True)
class Friedman:
    """The test that all arms rank alike."""

    arms: int
    studies: int
    chi_square: float
    """Corrected for equal ranks; arms - 1 degrees of freedom."""
    p_chi_square: float
    f: float
    """Iman and Davenport (1980); infinite where all studies rank alike."""
    p_f: float
    p: float
    """By shuffling the ranks within studies: holds for few studies, where the others do not."""


def friedman(ranks: Array) -> Friedman | None:
    """Test the ranks (studies, arms); None of fewer than three arms or two studies."""
    studies, arms = ranks.shape
    if arms < 3 or studies < 2:
        return None
    if not (ranks - ranks.mean()).any():
        return Friedman(arms, studies, 0.0, 1.0, 0.0, 1.0, 1.0)
    chi_square, p_chi_square = map(float, friedmanchisquare(*ranks.T))
    left = studies * (arms - 1) - chi_square
    statistic = (studies - 1) * chi_square / left if left > 1e-9 else math.inf
    generator = np.random.default_rng(0)
    shuffled = np.stack(
        [generator.permuted(np.tile(row, (SHUFFLES, 1)), axis=1) for row in ranks]
    ).sum(axis=0)
    far, seen = ((sums**2).sum(axis=-1) for sums in (shuffled, ranks.sum(axis=0)))
    return Friedman(
        arms,
        studies,
        chi_square,
        p_chi_square,
        statistic,
        float(f.sf(statistic, arms - 1, (arms - 1) * (studies - 1))),
        (1 + int(np.count_nonzero(far >= seen - 1e-9))) / (1 + SHUFFLES),
    )


def nemenyi_difference(arms: int, studies: int, confidence: float) -> float:
    """Return by how much mean ranks must differ to be told apart, with all pairs corrected for."""
    quantile = studentized_range.ppf(confidence, arms, np.inf) / math.sqrt(2)
    return float(quantile) * _rank_error(arms, studies)


def nemenyi_p(difference: float, arms: int, studies: int) -> float:
    """Return the p of a difference of two mean ranks, corrected for all pairs of the arms."""
    distance = abs(difference) / _rank_error(arms, studies) * math.sqrt(2)
    return float(studentized_range.sf(distance, arms, np.inf))


def _rank_error(arms: int, studies: int) -> float:
    return math.sqrt(arms * (arms + 1) / (6 * studies))


def joined(mean_ranks: Mapping[str, float], distance: float) -> list[list[str]]:
    """Return the largest sets of two or more arms whose mean ranks all differ by less.

    Each set from the best arm to the worst, sets in the order of their best.
    """
    arms = sorted(mean_ranks, key=lambda arm: mean_ranks[arm])
    found: list[list[str]] = []
    last = 0
    for place, arm in enumerate(arms):
        near = [other for other in arms[place:] if mean_ranks[other] - mean_ranks[arm] < distance]
        end = place + len(near)
        # One that ends where another does lies within it.
        if len(near) > 1 and end > last:
            found.append(near)
            last = end
    return found


@dataclass(frozen=True)
class SignedRanks:
    """Wilcoxon's test of an arm against another over studies."""

    studies: int
    better: int
    """Studies in which it gains."""
    statistic: float
    """The smaller sum of signed ranks; the ranks of studies without a difference are halved."""
    p: float
    """Two-sided, by changing the signs: exact for up to 13 studies."""


def signed_ranks(gains: Sequence[float]) -> SignedRanks | None:
    """Test what an arm gains in each study; None of fewer than two."""
    if len(gains) < 2:
        return None
    # Equal but for rounding is equal.
    values = np.round(np.asarray(gains, dtype=np.float64), 12)
    shuffles = PermutationMethod(n_resamples=SHUFFLES, rng=np.random.default_rng(0))
    found = wilcoxon(values, zero_method="zsplit", method=shuffles)
    better = int(np.count_nonzero(values > 0))
    return SignedRanks(len(values), better, float(found.statistic), float(found.pvalue))


def least_p(studies: int) -> float:
    """Return the smallest two-sided p that signed ranks of so many studies can have."""
    return min(1.0, 2.0 ** (1 - studies))


def ranked(scores: Mapping[str, float], higher_is_better: bool) -> dict[str, float]:
    """Return the rank of each score, 1 the best; equal scores share the mean of their ranks."""
    values = np.array(list(scores.values()))
    ranks = rankdata(-values if higher_is_better else values)
    return dict(zip(scores, map(float, ranks), strict=True))


def mean_ranks(ranks: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the mean rank of each arm over studies that have the same arms."""
    return {arm: float(np.mean([rank[arm] for rank in ranks])) for arm in (ranks or [{}])[0]}
