"""What a study can say of an arm: p values, Holm's correction, the margin, what would decide."""

import numpy as np
import pytest
from scipy.stats import ttest_1samp, ttest_rel

from peft_ablation.comparison.decision import Compared, decide, holm, of_interval, size_word
from peft_ablation.metrics.intervals import ArmScores, Estimate, estimate

SEEN = {("a", "f1"): 0.01, ("b", "f1"): 0.04, ("c", "f1"): 0.03, ("d", "f1"): 0.005}


def sharp(value: float, error: float, seeds: float = 0.0) -> Estimate:
    """An estimate of so many groups that its t is all but normal; `seeds`: their variance."""
    return Estimate(value, error**2, 1e6, seeds, 1e6, 0.0)


def compared(arm: str, value: float, error: float, **more: object) -> Compared:
    given = {"higher_is_better": True, "seeds": 3, "groups": 100, "margin": None, **more}
    return Compared(arm, "f1", sharp(value, error), **given)  # type: ignore[arg-type]


def verdict(value: float, error: float, **more: object) -> str:
    return decide([compared("lora", value, error, **more)], 0.95)["lora", "f1"].verdict


def test_holm_by_hand() -> None:
    # 4 x .005, 3 x .01, 2 x .03, then .04 raised to what stands before it.
    expected = [0.03, 0.06, 0.06, 0.02]
    assert [holm(SEEN)[key] for key in SEEN] == pytest.approx(expected)
    assert holm({("a", "f1"): 0.9, ("b", "f1"): 0.8}) == {("a", "f1"): 1, ("b", "f1"): 1}


def test_the_p_of_one_seed_is_that_of_the_t_test_over_groups() -> None:
    rng = np.random.default_rng(0)
    ours, theirs = rng.normal(0.1, 1, (1, 40)), rng.normal(0, 1, (1, 40))
    arms = [ArmScores(values.mean(axis=1), values) for values in (ours, theirs)]
    assert estimate(arms[0]).p_value(0.3) == pytest.approx(ttest_1samp(ours[0], 0.3).pvalue)
    assert estimate(*arms).p_value() == pytest.approx(ttest_rel(ours[0], theirs[0]).pvalue)
    above = ttest_1samp(ours[0], -0.2, alternative="greater").pvalue
    assert estimate(arms[0]).p_at_most(-0.2) == pytest.approx(above)


def test_a_p_ends_where_the_interval_does() -> None:
    found = Estimate(0.3, 0.01, 20, 0.004, 2.5, 0.001)
    low, _ = found.interval(0.9)
    assert found.p_value(low) == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("value", "error", "margin", "expected"),
    [
        (0.03, 0.01, None, "better"),
        (-0.03, 0.01, None, "worse"),
        (0.01, 0.01, None, "undecided"),
        (-0.01, 0.01, None, "undecided"),
        # Lower end at -0.0096.
        (0.01, 0.01, 0.01, "equivalent within the margin"),
        (0.01, 0.01, 0.009, "undecided"),
        # Ends at -0.0396 and -0.0004: told apart, and all of it within 0.04.
        (-0.02, 0.01, 0.04, "worse, within the margin"),
        (-0.02, 0.01, 0.039, "worse"),
    ],
)
def test_verdicts(value: float, error: float, margin: float | None, expected: str) -> None:
    assert verdict(value, error, margin=margin) == expected


def test_where_less_is_better_the_sign_turns() -> None:
    assert verdict(-0.03, 0.01, higher_is_better=False) == "better"
    assert verdict(-0.01, 0.01, higher_is_better=False, margin=0.01) == (
        "equivalent within the margin"
    )
    assert verdict(0.015, 0.01, higher_is_better=False, margin=0.01) == "undecided"


def test_one_seed_speaks_of_its_runs_alone() -> None:
    assert verdict(0.03, 0.01, seeds=1) == "better in these runs"


def test_many_tests_are_corrected_and_one_is_not() -> None:
    # p of 0.02 / 0.01 is 0.0455: enough alone, not among three.
    alone = decide([compared("a", 0.02, 0.01)], 0.95)
    among = decide([compared(arm, 0.02, 0.01) for arm in "abc"], 0.95)
    assert alone["a", "f1"].verdict == "better"
    assert {decision.verdict for decision in among.values()} == {"undecided"}
    assert among["a", "f1"].p_holm == pytest.approx(3 * 0.0455, rel=1e-2)


def test_seeds_and_groups_that_would_decide() -> None:
    # Error 0.01 of groups; 0.015 is 1.5 errors. (1.96 / 1.5)² = 1.708 times the groups decide.
    found = decide([compared("a", 0.015, 0.01)], 0.95)["a", "f1"]
    assert found.groups_to_decide == 180  # the next tenth
    assert found.seeds_to_decide is None  # the groups' part alone is too much
    # The same variance, all of seeds: 3 x 1.708 = 5.1 seeds.
    of_seeds = Compared("a", "f1", Estimate(0.015, 1e-12, 1e6, 1e-4, 1e6, 0), True, 3, 100)
    found = decide([of_seeds], 0.95)["a", "f1"]
    assert found.seeds_to_decide == 6
    assert found.groups_to_decide is None


def test_a_margin_and_company_change_what_would_decide() -> None:
    # 0.005 above 0 and 0.015 above the margin's end: 1.5 errors, as above.
    found = decide([compared("a", 0.005, 0.01, margin=0.01)], 0.95)["a", "f1"]
    assert found.groups_to_decide == 180
    # Two tests: 2.2414 errors in place of 1.96, (2.2414 / 1.5)² = 2.23.
    found = decide([compared(arm, 0.015, 0.01) for arm in "ab"], 0.95)["a", "f1"]
    assert found.groups_to_decide == 230


def test_effect_size_by_hand_and_as_the_paired_t_over_the_root_of_groups() -> None:
    # Differences of three groups 1, 2 and 6: mean 3, deviation sqrt((4 + 1 + 9) / 2).
    ours, theirs = np.array([[3.0, 4.0, 8.0]]), np.array([[2.0, 2.0, 2.0]])
    arms = [ArmScores(values.mean(axis=1), values) for values in (ours, theirs)]
    found = Compared("a", "f1", estimate(*arms), True, 1, 3)
    assert found.effect_size == pytest.approx(3 / 7**0.5)
    assert decide([found], 0.95)["a", "f1"].effect_size == found.effect_size
    rng = np.random.default_rng(0)
    ours, theirs = rng.normal(0.1, 1, (3, 40)), rng.normal(0.4, 1, (3, 40))
    arms = [ArmScores(values.mean(axis=1), values) for values in (ours, theirs)]
    found = Compared("a", "f1", estimate(*arms), True, 3, 40)
    t = ttest_rel(ours.mean(axis=0), theirs.mean(axis=0)).statistic
    assert found.effect_size == pytest.approx(t / 40**0.5)
    assert t < 0


def test_without_a_spread_between_groups_there_is_no_effect_size() -> None:
    assert Compared("a", "f1", Estimate(0.1, 0.0, 9, 0, 0, 0), True, 1, 10).effect_size is None


def test_cohen_s_words() -> None:
    sizes = (0.19, -0.2, 0.49, 0.5, -0.79, 0.8, 3.0)
    words = ["negligible", "small", "small", "medium", "medium", "large", "large"]
    assert [size_word(size) for size in sizes] == words


def test_what_is_decided_needs_no_more_and_one_seed_tells_nothing_to_plan_by() -> None:
    assert decide([compared("a", 0.03, 0.01)], 0.95)["a", "f1"].seeds_to_decide is None
    assert decide([compared("a", 0.015, 0.01, seeds=1)], 0.95)["a", "f1"].groups_to_decide is None


def test_more_seeds_share_the_noise_and_their_variance_among_them() -> None:
    # Of groups 5 with noise 2, of seeds 4 with the same noise; from 2 seeds to 4: noise 1.
    found = Estimate(0, 5, 99, 4, 1, 2).planned(2, 4)
    assert (found.of_groups, found.of_seeds, found.noise, found.seeds_df) == (4, 2, 1, 3)
    twice = Estimate(0, 5, 99, 4, 1, 2).planned(2, 2, 2)
    assert (twice.of_groups, twice.of_seeds, twice.groups_df) == (2.5, 3, 199)


@pytest.mark.parametrize(
    ("low", "high", "better", "said"),
    [
        (0.1, 0.2, True, "better"),
        (0.1, 0.2, False, "worse"),
        (0.1, 0.2, None, "higher"),
        (-0.2, -0.1, None, "lower"),
        (-0.1, 0.2, None, "not told apart"),
    ],
)
def test_what_an_interval_says_depends_on_which_direction_is_better(
    low: float, high: float, better: bool | None, said: str
) -> None:
    assert of_interval(low, high, better) == said
