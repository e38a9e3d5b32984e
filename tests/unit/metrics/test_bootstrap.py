"""Resampling of subjects and seeds: laws, and agreement with known sampling distributions."""

import numpy as np
import pytest

from peft_ablation.metrics.bootstrap import (
    cluster_sums,
    percentile_interval,
    resampled_sums,
)


def test_cluster_sums_by_hand():
    values = np.array([[1, 10], [2, 20], [4, 40], [8, 80]])
    subjects, sums = cluster_sums(values, np.array([7, 3, 7, 5]))
    assert subjects.tolist() == [3, 5, 7]
    assert sums.tolist() == [[2, 20], [8, 80], [5, 50]]


def test_every_resample_draws_as_many_clusters_as_there_are():
    sums = np.ones((37, 1))
    assert (resampled_sums(sums, 500, seed=1) == 37).all()


@pytest.mark.parametrize("samples", [1, 64, 65, 100])
def test_there_are_as_many_resamples_as_asked_for(samples: int):
    assert resampled_sums(np.ones((5, 3)), samples, seed=1).shape == (samples, 3)


def test_resampling_is_linear_so_that_arms_are_paired():
    source = np.random.default_rng(0)
    first, second = source.normal(size=(50, 2)), source.normal(size=(50, 2))
    together = resampled_sums(np.hstack([first, second]), 200, seed=4)
    apart = [resampled_sums(part, 200, seed=4) for part in (first, second)]
    np.testing.assert_allclose(together, np.hstack(apart))


def test_same_seed_same_resamples_and_another_seed_others():
    sums = np.arange(20.0)[:, None]
    first = resampled_sums(sums, 100, seed=1)
    np.testing.assert_array_equal(first, resampled_sums(sums, 100, seed=1))
    assert not np.array_equal(first, resampled_sums(sums, 100, seed=2))


def test_more_resamples_begin_with_the_same_ones():
    sums = np.arange(20.0)[:, None]
    np.testing.assert_array_equal(
        resampled_sums(sums, 64, seed=1), resampled_sums(sums, 200, seed=1)[:64]
    )


def test_spread_is_the_standard_error_of_the_mean():
    values = np.random.default_rng(0).normal(size=400)
    means = resampled_sums(values[:, None], 4000, seed=5)[:, 0] / 400
    assert means.mean() == pytest.approx(values.mean(), abs=0.005)
    assert means.std() == pytest.approx(values.std() / 20, rel=0.05)


def test_images_of_one_subject_do_not_narrow_the_interval():
    source = np.random.default_rng(1)
    subject_means = source.normal(size=100)
    once = np.column_stack([subject_means, np.ones(100)])
    ten_times = np.repeat(once, 10, axis=0)
    subjects = np.repeat(np.arange(100), 10)

    def width(values, clusters):
        totals = resampled_sums(cluster_sums(values, clusters)[1], 1000, seed=2)
        low, high = percentile_interval(totals[:, 0] / totals[:, 1], 0.95)
        return high - low

    assert width(ten_times, subjects) == pytest.approx(width(once, np.arange(100)))
    assert width(ten_times, np.arange(1000)) < 0.5 * width(once, np.arange(100))


def test_percentile_interval_by_hand_and_without_undefined_replicates():
    replicates = np.arange(101.0)
    assert percentile_interval(replicates, 0.9) == pytest.approx((5, 95))
    with_gaps = np.concatenate([replicates, [np.nan] * 9])
    assert percentile_interval(with_gaps, 0.9) == pytest.approx((5, 95))
    assert percentile_interval(np.array([np.nan, np.nan]), 0.9) is None
