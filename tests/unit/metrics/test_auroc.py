"""Areas under ROC curves against scikit-learn, their intervals against DeLong's formula."""

import numpy as np
import pytest
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss, roc_auc_score

from peft_ablation.metrics.auroc import (
    arm_scores,
    auroc,
    bins,
    brier,
    calibration_error,
    contributions,
    reliability_sums,
)
from peft_ablation.metrics.intervals import estimate


def drawn(count=300, seed=0, ties=True):
    random = np.random.default_rng(seed)
    positive = random.random(count) < 0.3
    scores = random.normal(0, 1, count) + positive
    return (np.round(scores, 1) if ties else scores), positive


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_area_is_scikit_learns_with_ties(seed):
    scores, positive = drawn(seed=seed)
    assert auroc(scores, positive) == pytest.approx(roc_auc_score(positive, scores))


def test_an_area_needs_both_kinds():
    assert np.isnan(auroc(np.array([1.0, 2.0]), np.array([True, True])))
    assert arm_scores([np.ones(3)], np.zeros(3, bool), np.arange(3), 3) is None


def test_alone_in_their_groups_examples_have_the_variance_of_delong():
    """S10 / m + S01 / n of placements (DeLong et al. 1988), computed pair by pair."""
    scores, positive = drawn()
    pairs = (scores[positive][:, None] > scores[~positive]) + 0.5 * (
        scores[positive][:, None] == scores[~positive]
    )
    m, n = pairs.shape
    expected = pairs.mean(1).var(ddof=1) / m + pairs.mean(0).var(ddof=1) / n
    found = estimate(arm_scores([scores], positive, np.arange(len(scores)), len(scores)))
    assert found.value == pytest.approx(roc_auc_score(positive, scores))
    assert found.error**2 == pytest.approx(expected, rel=0.02)


def test_groups_without_an_example_change_nothing_but_the_count():
    scores, positive = drawn()
    places = np.arange(len(scores))
    plain = contributions(scores, positive, places, len(scores))
    assert plain.mean() == pytest.approx(auroc(scores, positive))
    wide = contributions(scores, positive, places, 2 * len(scores))
    assert wide[len(scores) :] == pytest.approx(auroc(scores, positive))
    assert wide.mean() == pytest.approx(auroc(scores, positive))


def test_copies_within_a_group_add_no_knowledge():
    """Each example three times in one group: the error of one, not a smaller one."""
    scores, positive = drawn(ties=False)
    places = np.arange(len(scores))
    one = estimate(arm_scores([scores], positive, places, len(scores)))
    three = [np.repeat(part, 3) for part in (scores, positive, places)]
    copied = estimate(arm_scores([three[0]], three[1], three[2], len(scores)))
    assert copied.error == pytest.approx(one.error)


def test_brier_and_calibration_are_scikit_learns():
    random = np.random.default_rng(4)
    probability = random.random(500)
    positive = random.random(500) < probability**2
    sums = reliability_sums(probability, positive, random.integers(0, 40, 500), 40).sum(axis=0)
    assert brier(sums) == pytest.approx(brier_score_loss(positive, probability))
    share, mean = calibration_curve(positive, probability, n_bins=10)
    count, probabilities, positives = bins(sums)
    assert positives / count == pytest.approx(share)
    assert probabilities / count == pytest.approx(mean)
    weights = np.histogram(probability, bins=10, range=(0, 1))[0] / 500
    assert calibration_error(sums) == pytest.approx((weights * np.abs(share - mean)).sum())


def test_a_probability_of_one_is_in_the_last_bin():
    sums = reliability_sums(np.array([1.0, 0.0]), np.array([True, False]), np.array([0, 0]), 1)
    assert bins(sums[0])[0].tolist() == [1, *[0] * 8, 1]
    assert brier(sums[0]) == 0
