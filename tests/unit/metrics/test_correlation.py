"""Correlations and the error of scores, against scipy, and resampled as recomputed."""

import numpy as np
import polars as pl
import pytest
from scipy import stats

from peft_ablation.metrics.bootstrap import cluster_sums, resampled_sums
from peft_ablation.metrics.correlation import correlation, score_metrics
from peft_ablation.metrics.metric import statistics_of, sum_columns, value_of

RANDOM = np.random.default_rng(3)
# Eighths: they keep their ties when a large number is added.
SCORE = (RANDOM.normal(size=60) * 8).round() / 8
PREDICTED = (SCORE * 4 + RANDOM.normal(size=60) * 8).round() / 8


def values(score, predicted):
    metrics = score_metrics()
    table = pl.DataFrame({"score": score, "predicted": predicted}, strict=False)
    sums = statistics_of(metrics, table).sum(axis=0)
    return {m.name: float(value_of(m, sum_columns(metrics), sums)) for m in metrics}


@pytest.mark.parametrize("offset", [0, 1e6])
def test_they_are_those_of_scipy_far_from_zero_too(offset):
    found = values(SCORE + offset, PREDICTED + offset)
    assert found["pearson"] == pytest.approx(stats.pearsonr(PREDICTED, SCORE)[0], abs=1e-9)
    assert found["spearman"] == pytest.approx(stats.spearmanr(PREDICTED, SCORE)[0], abs=1e-12)
    assert found["rmse"] == pytest.approx(np.sqrt(np.mean((PREDICTED - SCORE) ** 2)), abs=1e-6)


def test_by_hand():
    found = values([1, 2, 3, 4], [2, 1, 4, 3])
    assert found["pearson"] == found["spearman"] == pytest.approx(0.6)
    assert found["rmse"] == pytest.approx(1)
    assert values([1, 2, 3], [3, 2, 1])["pearson"] == pytest.approx(-1)


def test_a_monotone_curve_keeps_the_ranks_alone():
    found = values(SCORE, np.exp(3 * SCORE))
    assert found["spearman"] == pytest.approx(1)
    assert found["pearson"] < 0.9


def test_a_constant_prediction_counts_as_no_correlation():
    # 0.1 has no exact mean in binary: 60 of them must be one value all the same.
    found = values(SCORE, [0.1] * 60)
    assert found["pearson"] == found["spearman"] == 0
    assert found["rmse"] > 0


def test_constant_scores_have_no_correlation_at_all():
    found = values([2.0] * 60, PREDICTED)
    assert np.isnan(found["pearson"])
    assert np.isnan(found["spearman"])


def test_resampled_sums_are_the_correlation_of_the_resampled_rows():
    metrics = score_metrics()
    groups = np.arange(60) // 3
    table = pl.DataFrame({"score": SCORE + 1e6, "predicted": PREDICTED})
    _, sums = cluster_sums(statistics_of(metrics, table), groups)
    weights = resampled_sums(np.eye(20), 5, 1)  # how often each group is drawn
    resampled = resampled_sums(sums, 5, 1)
    for times, total in zip(weights, resampled, strict=True):
        rows = np.repeat(np.arange(60), np.repeat(times, 3).astype(int))
        expected = stats.pearsonr(PREDICTED[rows], SCORE[rows])[0]
        pearson = value_of(metrics[0], sum_columns(metrics), total)
        assert float(pearson) == pytest.approx(expected, abs=1e-9)


def test_a_resample_of_one_value_is_0_and_not_rounding():
    # Seven rows of x = 0.3, far from the centre, with scores 0 and 1.
    x, y = 0.3, np.array([0, 1, 0, 1, 1, 0, 1.0])
    sums = np.array([7, 7 * x, y.sum(), 7 * x * x, (y * y).sum(), (x * y).sum()])
    assert float(correlation(sums)) == 0
