"""Does a setting matter more than the seed: variance components and the interval of their ratio."""

import math

import numpy as np
import pytest
from scipy.stats import f_oneway

from peft_ablation.metrics.spread import spread


def test_components_of_three_values_with_two_seeds_each_by_hand() -> None:
    # Means 2, 5, 8, whose variance is 9; within each value the variance is 2.
    found = spread(np.array([[1.0, 3.0], [4.0, 6.0], [7.0, 9.0]]), 0.95)
    assert found is not None
    # 9 less the part of seeds in a mean of two, 2 / 2.
    assert (found.between, found.within) == (8.0, 2.0)
    assert found.ratio == 4.0
    # F = 2 x 9 / 2 = 9 over F(0.975; 2, 3) = 16.0441 and F(0.025; 2, 3) = 1 / 39.1655.
    assert found.low == 0.0
    assert found.high == pytest.approx((9 * 39.1655 - 1) / 2, rel=1e-5)
    assert found.verdict == "undecided"


def test_f_is_that_of_the_one_way_analysis_of_variance() -> None:
    """At the level whose interval of the ratio begins at 0, p is 1 less half of the rest."""
    runs = np.random.default_rng(1).normal(size=(6, 4)) + np.arange(6)[:, None]
    p = f_oneway(*runs).pvalue
    found = spread(runs, 1 - 2 * p)
    assert found is not None
    assert found.low == pytest.approx(0.0, abs=1e-9)
    assert spread(runs, 1 - 4 * p).low > 1e-3  # type: ignore[union-attr]


def test_values_far_apart_matter_more_and_equal_ones_less() -> None:
    noise = np.random.default_rng(2).normal(size=(11, 3))
    far = spread(noise + 20 * np.arange(11)[:, None], 0.95)
    # Every mean is that of all.
    alike = spread(noise - noise.mean(axis=1, keepdims=True), 0.95)
    assert far is not None
    assert alike is not None
    assert far.verdict == "more"
    assert (alike.between, alike.high, alike.verdict) == (0.0, 0.0, "less")


@pytest.mark.parametrize("ratio", [0.0, 1.0, 5.0])
def test_the_interval_holds_the_true_ratio_as_often_as_it_says(ratio: float) -> None:
    source = np.random.default_rng(3)
    held = 0
    for _ in range(2000):
        runs = source.normal(size=(7, 1)) * math.sqrt(ratio) + source.normal(size=(7, 3))
        found = spread(runs, 0.9)
        assert found is not None
        held += found.low <= ratio <= found.high
    # At a ratio of 0 the lower end never misses.
    assert held / 2000 == pytest.approx(0.95 if ratio == 0 else 0.9, abs=0.02)


def test_one_seed_or_one_value_tells_nothing() -> None:
    assert spread(np.ones((5, 1)), 0.95) is None
    assert spread(np.ones((1, 5)), 0.95) is None


def test_seeds_that_do_not_differ() -> None:
    apart = spread(np.array([[1.0, 1.0], [2.0, 2.0]]), 0.95)
    alike = spread(np.ones((2, 2)), 0.95)
    assert apart is not None
    assert alike is not None
    assert (apart.ratio, apart.verdict) == (math.inf, "more")
    assert math.isnan(alike.ratio)
    assert alike.verdict == "undecided"
