"""Randomisation of two arms' runs: by hand, against scipy, and by its level."""

import numpy as np
import pytest
from scipy.stats import permutation_test

from peft_ablation.metrics.metric import Array
from peft_ablation.metrics.randomisation import randomised_p


def share(sums: Array) -> Array:
    """Right answers of all."""
    return np.asarray(sums[..., 0] / sums[..., 1])


def right(sums: Array) -> Array:
    return np.asarray(sums[..., 0])


def counts(rng: np.random.Generator, runs: int, groups: int, skill: float) -> Array:
    """Sums (runs, groups, 2): right answers and answers, groups of 1 to 4 rows."""
    sizes = np.random.default_rng(9).integers(1, 5, groups)
    hits = rng.binomial(sizes, skill, size=(runs, groups))
    return np.stack([hits, np.broadcast_to(sizes, hits.shape)], axis=-1).astype(np.float64)


def test_three_groups_by_hand() -> None:
    # Differences 1, 2 and 3: of the eight signs two give 6 or -6, so that p is near 1/4.
    ours = np.array([[[1.0], [2.0], [3.0]]])
    (p,) = randomised_p([right], ours, np.zeros_like(ours), shuffles=100_000)
    assert p == pytest.approx(1 / 4, abs=0.005)


def test_as_scipy_s_paired_permutations_of_a_score_that_is_no_mean() -> None:
    rng = np.random.default_rng(1)
    ours, theirs = counts(rng, 1, 12, 0.7), counts(rng, 1, 12, 0.4)
    # Squared, so that the value of a sum is far from the mean of values.
    (p,) = randomised_p([lambda sums: share(sums) ** 2], ours, theirs)

    def statistic(one: Array, other: Array, axis: int = -1) -> Array:
        """Right answers alone are swapped: sizes are the same."""
        sizes = ours[0, :, 1].sum()
        return np.asarray((one.sum(axis) / sizes) ** 2 - (other.sum(axis) / sizes) ** 2)

    exact = permutation_test(
        (ours[0, :, 0], theirs[0, :, 0]), statistic, permutation_type="samples", n_resamples=10_000,
        vectorized=True,
    )  # fmt: skip
    assert 0.02 < exact.pvalue < 0.6
    assert p == pytest.approx(exact.pvalue, abs=0.02)


def test_all_runs_of_a_group_are_swapped_at_once() -> None:
    # Two pairs of runs with the same answers know no more than one: p stays.
    rng = np.random.default_rng(2)
    ours, theirs = counts(rng, 1, 30, 0.7), counts(rng, 1, 30, 0.5)
    once = randomised_p([share], ours, theirs)
    assert randomised_p([share], np.tile(ours, (2, 1, 1)), np.tile(theirs, (2, 1, 1))) == once


def test_where_nothing_differs_one_p_of_twenty_is_below_a_twentieth() -> None:
    rng = np.random.default_rng(3)
    found = [
        randomised_p([share], counts(rng, 2, 40, 0.5), counts(rng, 2, 40, 0.5), shuffles=199)[0]
        for _ in range(400)
    ]
    low = np.mean([p is not None and p <= 0.05 for p in found])
    # 0.05 and three standard errors of 400 draws.
    assert 0.017 < low < 0.083


def test_arms_alike_have_p_one_and_arms_apart_the_smallest_there_is() -> None:
    ours = counts(np.random.default_rng(4), 2, 50, 0.5)
    assert randomised_p([share, right], ours, ours) == [1.0, 1.0]
    apart = ours + np.array([1.0, 0.0])
    assert randomised_p([right], apart, ours, shuffles=999) == [1 / 1000]
    assert randomised_p([right], ours, apart, shuffles=999) == [1 / 1000]


def test_an_undefined_difference_has_no_p_and_undefined_shuffles_count_against_it() -> None:
    ours, theirs = np.array([[[1.0, 1.0], [1.0, 1.0]]]), np.array([[[0.0, 1.0], [0.0, 1.0]]])
    assert randomised_p([lambda sums: share(sums) * np.nan], ours, theirs) == [None]

    def unless_mixed(sums: Array) -> Array:
        """Undefined where one group was swapped and the other not: half of the shuffles."""
        return np.where(sums[..., 0] == 1, np.nan, sums[..., 0])

    assert randomised_p([unless_mixed], ours, theirs) == [1.0]


def test_the_same_sums_give_the_same_p_with_any_other_score_beside() -> None:
    rng = np.random.default_rng(5)
    ours, theirs = counts(rng, 2, 30, 0.6), counts(rng, 2, 30, 0.5)
    (alone,) = randomised_p([share], ours, theirs)
    assert randomised_p([right, share], ours, theirs)[1] == alone
