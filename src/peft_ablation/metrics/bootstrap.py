"""Percentile bootstrap over subjects, for scores that are functions of sums.

The images of one subject are alike, so rows are no independent draws: whole subjects are resampled
(cluster bootstrap; Davison and Hinkley, 1997, section 3.8). For the scores of one run; what can be
said of arms is in `peft_ablation.metrics.intervals`.
"""

from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

_BLOCK: Final = 64


def cluster_sums(
    values: NDArray[np.float64] | NDArray[np.int64], clusters: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Sum rows by cluster: values (N, K) and clusters (N,) → distinct clusters (S,), sums (S, K).

    Clusters come in ascending order.
    """
    distinct, index = np.unique(clusters, return_inverse=True)
    sums = np.zeros((len(distinct), values.shape[1]))
    np.add.at(sums, index, values)
    return distinct, sums


def resampled_sums(sums: NDArray[np.float64], samples: int, seed: int) -> NDArray[np.float64]:
    """Return the column sums of `samples` resamples of the clusters, (S, K) → (samples, K).

    Each resample draws S clusters with replacement.
    """
    totals = [weights @ sums for weights in _weights(len(sums), samples, seed)]
    return np.concatenate(totals)


def percentile_interval(
    replicates: NDArray[np.float64], confidence: float
) -> tuple[float, float] | None:
    """Return the central interval of the replicates; None where no replicate is defined.

    Replicates that are NaN (a score without a denominator in that resample) are left out.
    """
    defined = replicates[~np.isnan(replicates)]
    if not len(defined):
        return None
    tail = (1 - confidence) / 2
    low, high = np.quantile(defined, [tail, 1 - tail])
    return float(low), float(high)


def _weights(clusters: int, samples: int, seed: int) -> Iterator[NDArray[np.float64]]:
    """Yield how often each cluster is drawn, in blocks of shape (≤ 64, clusters)."""
    generator = np.random.default_rng(seed)
    for start in range(0, samples, _BLOCK):
        rows = min(_BLOCK, samples - start)
        drawn = generator.integers(0, clusters, size=(rows, clusters))
        yield np.stack([np.bincount(row, minlength=clusters) for row in drawn]).astype(np.float64)
