"""Tests of ranks: Demsar's worked example, scipy, and ranks by hand."""

import math

import numpy as np
import pytest
from scipy.stats import f, friedmanchisquare, wilcoxon

from peft_ablation.comparison.rank_tests import (
    friedman,
    joined,
    least_p,
    mean_ranks,
    nemenyi_difference,
    nemenyi_p,
    ranked,
    signed_ranks,
)

# Demsar (2006), table 6: AUC of C4.5 on fourteen data sets, plain and with m, cf, or both tuned.
PLAIN, WITH_M = (
    [763, 599, 954, 628, 882, 936, 661, 583, 775, 1000, 940, 619, 972, 957],
    [768, 591, 971, 661, 888, 931, 668, 583, 838, 1000, 962, 666, 981, 978],
)
"""In thousandths."""
RANKS = np.array(
    [
        [4, 3, 2, 1], [1, 2, 3, 4], [4, 1, 2, 3], [4, 1, 3, 2], [4, 2, 3, 1], [1, 2.5, 4, 2.5],
        [3, 2, 4, 1], [2.5, 2.5, 4, 1], [4, 3, 2, 1], [2.5, 2.5, 2.5, 2.5], [4, 2.5, 1, 2.5],
        [3, 2, 4, 1], [4, 1, 2, 3], [3, 1, 4, 2],
    ]
)  # fmt: skip


def test_friedman_and_iman_davenport_of_the_worked_example() -> None:
    assert RANKS.mean(axis=0) == pytest.approx([3.143, 2.0, 2.893, 1.964], abs=5e-4)
    found = friedman(RANKS)
    assert found is not None
    assert (found.arms, found.studies) == (4, 14)
    # The paper's 9.28 is not corrected for equal ranks: three pairs of 2³ - 2, once 4³ - 4.
    untied = 1 - (3 * 6 + 60) / (14 * (4**3 - 4))
    assert found.chi_square * untied == pytest.approx(9.28, abs=5e-3)
    assert found.chi_square == friedmanchisquare(*RANKS.T).statistic
    # As its 13 x 9.28 / (14 x 3 - 9.28) = 3.69.
    assert found.f == pytest.approx(13 * found.chi_square / (42 - found.chi_square))
    assert found.p_f == pytest.approx(f.sf(found.f, 3, 39))
    assert found.p < 0.05


def test_critical_difference_of_the_worked_example() -> None:
    assert nemenyi_difference(4, 14, 0.95) == pytest.approx(1.25, abs=5e-3)
    assert nemenyi_difference(4, 14, 0.90) == pytest.approx(1.12, abs=5e-3)
    # A difference of just that has the p of the level; its example has no pair so far apart.
    assert nemenyi_p(nemenyi_difference(4, 14, 0.95), 4, 14) == pytest.approx(0.05)
    assert nemenyi_p(-1.18, 4, 14) == nemenyi_p(1.18, 4, 14) > 0.05
    # Of two arms the quantile is the normal one: no correction for pairs.
    assert nemenyi_difference(2, 6, 0.95) == pytest.approx(1.96 / 6**0.5, abs=1e-3)


def test_signed_ranks_of_the_worked_example() -> None:
    found = signed_ranks([ours - theirs for ours, theirs in zip(WITH_M, PLAIN, strict=True)])
    assert found is not None
    # "R+ = 93 and R- = 12", T = 12.
    assert (found.studies, found.statistic, found.better) == (14, 12, 10)
    assert found.p < 0.05


def test_signed_ranks_without_zeros_are_scipy_s_exact_ones() -> None:
    gains = [0.1, -0.2, 0.35, 0.4, 0.55, 0.6, -0.05]
    found = signed_ranks(gains)
    assert found is not None
    exact = wilcoxon(gains, method="exact")
    assert found.statistic == exact.statistic
    assert found.p == pytest.approx(exact.pvalue)


@pytest.mark.parametrize("studies", [2, 3, 6])
def test_studies_that_all_agree_have_the_least_p(studies: int) -> None:
    found = signed_ranks([0.1 * (1 + place) for place in range(studies)])
    assert found is not None
    assert found.p == pytest.approx(least_p(studies)) == 2 * 0.5**studies


def test_where_no_study_differs_nothing_does() -> None:
    found = signed_ranks([0.0, 0.0, 0.0])
    assert found is not None
    assert (found.better, found.p) == (0, 1)
    alike = friedman(np.full((5, 3), 2.0))
    assert alike is not None
    assert (alike.chi_square, alike.f, alike.p) == (0, 0, 1)


def test_signed_ranks_need_two_studies() -> None:
    assert signed_ranks([]) is signed_ranks([0.1]) is None


def test_differences_equal_but_for_rounding_share_their_rank() -> None:
    # 0.3 - 0.2 is not 0.1 to the last bit: without rounding the smaller sum would be 1, not 1.5.
    found = signed_ranks([0.3 - 0.2, -0.1, 0.5])
    assert found is not None
    assert found.statistic == 1.5


def test_the_shuffled_p_is_right_where_studies_are_few() -> None:
    # Two studies of three arms that agree: 1 of 3! orders of the second gives the same.
    found = friedman(np.array([[1.0, 2.0, 3.0], [1.0, 2.0, 3.0]]))
    assert found is not None
    assert found.f == math.inf and found.p_f == 0
    assert found.p == pytest.approx(1 / 6, abs=0.01)


@pytest.mark.parametrize("shape", [(1, 4), (6, 2)])
def test_one_study_and_two_arms_are_not_tested(shape: tuple[int, int]) -> None:
    assert friedman(np.ones(shape)) is None


def test_bars_join_the_largest_sets_that_are_near() -> None:
    means = {"d": 4.0, "a": 1.0, "b": 1.9, "c": 2.8}
    assert joined(means, 1.0) == [["a", "b"], ["b", "c"]]
    # One that lies within another is no bar of its own, and an arm alone has none.
    assert joined(means, 2.0) == [["a", "b", "c"], ["c", "d"]]
    assert joined(means, 0.5) == []
    assert joined(means, 3.1) == [["a", "b", "c", "d"]]


def test_ranks_share_their_mean_and_heed_the_direction() -> None:
    scores = {"a": 0.5, "b": 0.7, "c": 0.5}
    assert ranked(scores, True) == {"a": 2.5, "b": 1.0, "c": 2.5}
    assert ranked(scores, False) == {"a": 1.5, "b": 3.0, "c": 1.5}
    assert mean_ranks([{"a": 1, "b": 2}, {"a": 2, "b": 1}]) == {"a": 1.5, "b": 1.5}
    assert mean_ranks([]) == {}
