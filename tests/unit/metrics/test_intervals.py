"""Intervals from few seeds hold the truth as often as they say.

Simulated studies: every run scores the same groups of unequal size; an arm's seeds move its whole
level. Two arms are equal in truth.
"""

from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import t as student

from peft_ablation.metrics.bleu import corpus_bleu
from peft_ablation.metrics.classes import macro_f1
from peft_ablation.metrics.intervals import ArmScores, Estimate, estimate, mean_of
from peft_ablation.metrics.metric import Array

STUDIES = 400
LEAST = 0.93
"""Wanted share of 95 % intervals that hold the truth. 400 studies tell it to 0.01."""


def mean(sums: Array) -> Array:
    return sums[..., 0] / sums[..., 1]


def scores(values: Array, sizes: Array | None = None) -> ArmScores:
    """Return the scores of means by group (S, G), of groups of these sizes."""
    weights = np.ones(values.shape[1]) if sizes is None else sizes
    found = ArmScores.of(mean, [np.stack([row * weights, weights], axis=1) for row in values])
    assert found is not None
    return found


def test_one_seed_is_students_interval_of_the_mean() -> None:
    values = np.array([[1.0, 2.0, 4.0, 5.0]])
    found = estimate(scores(values))
    assert found.value == 3
    # Variance 10 / 3 of one value, a quarter of it of the mean; t(3) at 97.5 % is 3.1824.
    assert found.error == pytest.approx((10 / 12) ** 0.5)
    assert found.interval(0.95) == pytest.approx(
        (3 - 3.1824 * 0.91287, 3 + 3.1824 * 0.91287), abs=1e-3
    )


def test_two_seeds_by_hand() -> None:
    # Group means over seeds 2, 4, 6; run means 3 and 5; no residual.
    values = np.array([[1.0, 3.0, 5.0], [3.0, 5.0, 7.0]])
    found = estimate(scores(values))
    assert (found.value, found.of_groups, found.of_seeds, found.noise) == pytest.approx(
        (4, 4 / 3, 1, 0), abs=1e-12
    )
    assert found.error == pytest.approx((7 / 3) ** 0.5)
    mixed = (4 / 3 * student.ppf(0.975, 2) + student.ppf(0.975, 1)) / (7 / 3)
    assert found.quantile(0.95) == pytest.approx(mixed)


def test_noise_is_counted_once() -> None:
    # Seeds differ in the residual alone: means over groups and over seeds are all 2.
    values = np.array([[1.0, 3.0], [3.0, 1.0]])
    found = estimate(scores(values))
    # Residuals are all 1: four squares over (2 - 1)(2 - 1), over 2 groups x 2 seeds.
    assert found.noise == pytest.approx(1)
    assert (found.of_groups, found.of_seeds) == pytest.approx((0, 0))


def test_a_difference_of_arms_on_the_same_groups_is_paired() -> None:
    hard = np.array([[0.0, 5.0, 10.0]])
    found = estimate(scores(hard + 1), scores(hard))
    assert (found.value, found.error) == pytest.approx((1, 0), abs=1e-9)
    swapped = estimate(scores(hard), scores(hard + 1))
    assert swapped.value == pytest.approx(-1)


def test_a_group_weighs_by_its_size() -> None:
    values, sizes = np.array([[0.0, 1.0, 0.5]]), np.array([8.0, 1.0, 1.0])
    found = scores(values, sizes)
    assert found.runs[0] == pytest.approx(0.15)
    # By hand: without the first group (1 + .5) / 2, without the others .5 / 9 and 1 / 9.
    without = np.array([0.75, 0.5 / 9, 1 / 9])
    assert found.groups[0] == pytest.approx(3 * 0.15 - 2 * without)


def test_what_is_undefined_has_no_interval() -> None:
    nothing = np.zeros((3, 2))
    with np.errstate(invalid="ignore"):
        assert ArmScores.of(mean, [nothing]) is None
    assert ArmScores.of(mean, [np.ones((1, 2))]) is None


def coverage(
    arm: Callable[[np.random.Generator, Array], ArmScores], truth: float, studies: int = STUDIES
) -> tuple[float, float]:
    """Return how often 95 % intervals of an arm hold `truth`, and those of a difference 0."""
    rng = np.random.default_rng(5)
    held = np.zeros(2)
    for _ in range(studies):
        hard = rng.normal(size=270)
        ours, theirs = arm(rng, hard), arm(rng, hard)
        for place, (found, true) in enumerate(
            [(estimate(ours), truth), (estimate(ours, theirs), 0)]
        ):
            low, high = found.interval(0.95)
            held[place] += low <= true <= high
    return held[0] / studies, held[1] / studies


@pytest.mark.parametrize("seeds", [2, 3, 5])
@pytest.mark.parametrize("deviation", [0.0, 0.02, 0.06])
def test_means_are_covered(seeds: int, deviation: float) -> None:
    def arm(rng: np.random.Generator, hard: Array) -> ArmScores:
        seed = rng.normal(0, deviation, (seeds, 1))
        return scores(0.5 * hard + seed + rng.normal(0, 0.3, (seeds, 270)))

    assert min(coverage(arm, 0, 1000)) >= LEAST


def test_three_seeds_cost_little_width() -> None:
    rng = np.random.default_rng(3)
    known = 1.96 * (2 * 0.3**2 / 3 / 270) ** 0.5
    widths = []
    for _ in range(300):
        hard = 0.5 * rng.normal(size=270)
        arms = [scores(hard + rng.normal(0, 0.3, (3, 270))) for _ in range(2)]
        low, high = estimate(*arms).interval(0.95)
        widths.append((high - low) / 2 / known)
    assert np.mean(widths) <= 1.7


ERROR = 270**-0.5
"""Standard error of the mean of `hard` over groups."""


def classified(rng: np.random.Generator, hard: Array, seeds: int, seed_sd: float) -> list[Array]:
    """Return counts (G, 6) by class, true, predicted and right, for each of two classes."""
    sizes = np.ceil(2 * np.exp(0.5 * np.sin(np.arange(270)))).astype(int)
    result = []
    for shift in 0.12 * ERROR * rng.normal(0, seed_sd, seeds):
        # The rows of a group share how hard it is: they are correlated.
        right = np.clip(0.75 + 0.12 * hard + shift, 0.02, 0.98)
        first = np.round(sizes * (0.3 + 0.2 * (hard > 0))).astype(int)
        hit, miss = rng.binomial(first, right), rng.binomial(sizes - first, right)
        true = np.stack([first, sizes - first], axis=1)
        rights = np.stack([hit, miss], axis=1)
        predicted = rights + (true - rights)[:, ::-1]
        result.append(np.concatenate([true, predicted, rights], axis=1).astype(float))
    return result


def matthews(sums: Array) -> Array:
    """Return Matthews' correlation of two classes from the six counts."""
    true, predicted, right = np.moveaxis(sums.reshape(*sums.shape[:-1], 3, 2), -2, 0)
    n = true.sum(-1)
    above = n * right.sum(-1) - (true * predicted).sum(-1)
    below = (n**2 - (true**2).sum(-1)) * (n**2 - (predicted**2).sum(-1))
    return np.asarray(above / np.sqrt(below))


def f1(sums: Array) -> Array:
    return macro_f1(sums.reshape(*sums.shape[:-1], 3, 2))


def written(rng: np.random.Generator, hard: Array, seeds: int, seed_sd: float) -> list[Array]:
    """Return BLEU's statistics (G, 11) of groups of unequal numbers of texts."""
    texts = np.ceil(2 * np.exp(0.5 * np.sin(np.arange(270))))
    result = []
    for shift in 0.1 * ERROR * rng.normal(0, seed_sd, seeds):
        length = 20 * texts
        totals = np.stack([length - n * texts for n in range(4)], axis=1)
        level = np.clip(0.7 + 0.1 * hard + shift, 0.05, 0.98)[:, None] ** np.arange(1, 5)
        matches = rng.binomial(totals.astype(int), level)
        result.append(np.column_stack([length, length, length, matches, totals]))
    return result


@pytest.mark.parametrize("seeds", [2, 3])
@pytest.mark.parametrize("seed_sd", [0.0, 2 / 3, 2.0])
@pytest.mark.parametrize(
    ("drawn", "value"), [(classified, matthews), (classified, f1), (written, corpus_bleu)]
)
def test_scores_that_are_no_means_are_covered(
    drawn: Callable[..., list[Array]],
    value: Callable[[Array], Array],
    seeds: int,
    seed_sd: float,
) -> None:
    """`seed_sd` is in standard errors by the choice of groups, as in the cells of the means."""

    def arm(rng: np.random.Generator, hard: Array) -> ArmScores:
        found = ArmScores.of(value, drawn(rng, hard, seeds, seed_sd))
        assert found is not None
        return found

    # The truth of an arm: the mean over many studies' runs.
    rng = np.random.default_rng(11)
    many = [arm(rng, rng.normal(size=270)).runs.mean() for _ in range(600)]
    assert min(coverage(arm, float(np.mean(many)))) >= LEAST


# -- means of studies ------------------------------------------------------------------------------


def test_the_mean_of_one_estimate_is_that_estimate() -> None:
    one = Estimate(0.5, 0.04, 9.0, 0.01, 2.0, 0.002)
    assert mean_of([one]) == one
    # One seed: no part of seeds.
    assert mean_of([alone := Estimate(0.5, 0.04, 9.0, 0.0, 0.0, 0.0)]) == alone


def test_the_mean_of_two_estimates_by_hand() -> None:
    found = mean_of([
        Estimate(0.5, 0.04, 9.0, 0.02, 2.0, 0.008), Estimate(1.0, 0.08, 19.0, 0.0, 0.0, 0.0),
    ])  # fmt: skip
    assert (found.value, found.of_groups, found.of_seeds, found.noise) == pytest.approx(
        (0.75, 0.03, 0.005, 0.002)
    )
    # Satterthwaite: (.04 + .08)² / (.04² / 9 + .08² / 19); of seeds, the one that has any.
    assert found.groups_df == pytest.approx(0.0144 / (0.0016 / 9 + 0.0064 / 19))
    assert found.seeds_df == pytest.approx(2)
    assert found.error == pytest.approx((0.03 + 0.005 - 0.002) ** 0.5)


@pytest.mark.parametrize("seeds", [2, 3])
@pytest.mark.parametrize("deviation", [0.0, 0.02, 0.06])
def test_means_over_studies_are_covered_and_not_much_too_wide(seeds: int, deviation: float) -> None:
    rng = np.random.default_rng(17)
    held, width, every = 0, [], []
    for _ in range(600):
        drawn = []
        for groups in (50, 100, 270, 400):
            level = 0.5 * rng.normal(size=groups) + rng.normal(0, deviation, (seeds, 1))
            drawn.append(estimate(scores(level + rng.normal(0, 0.3, (seeds, groups)))))
        found = mean_of(drawn)
        low, high = found.interval(0.95)
        held += low <= 0 <= high
        width.append((high - low) / 2)
        every.append(found.value)
    assert held / 600 >= LEAST
    assert np.mean(width) <= 1.7 * 1.96 * np.std(every)
