"""The order of examples: a pure function of seed and epoch, in batches of similar length."""

from typing import Any

import numpy as np

Indices = np.ndarray[Any, np.dtype[np.int64]]

BUCKET_BATCHES = 50
"""Most batches whose examples are sorted by length together: more save little padding."""

BUCKETS_AN_EPOCH = 8
"""Fewest buckets of an epoch. A bucket of a whole small epoch would make every batch one of texts
of one length, and so of like content: the tiny base learns visibly worse from that."""


def epoch_batches(
    lengths: np.ndarray[Any, np.dtype[Any]], batch_size: int, seed: int, epoch: int
) -> list[Indices]:
    """Return the batches of one epoch as arrays of example indices.

    `lengths` are tokens an example. Each example comes exactly once; the last batch of the epoch
    may be smaller. Nothing but (seed, epoch) decides, so a resumed run needs no saved order.
    """
    rng = np.random.default_rng([seed, epoch])
    order = rng.permutation(len(lengths))
    steps = -(-len(lengths) // batch_size)
    bucket = batch_size * max(1, min(BUCKET_BATCHES, steps // BUCKETS_AN_EPOCH))
    batches: list[Indices] = []
    for begin in range(0, len(order), bucket):
        part = order[begin : begin + bucket]
        part = part[np.argsort(lengths[part], kind="stable")]
        batches.extend(part[i : i + batch_size] for i in range(0, len(part), batch_size))
    return [batches[index] for index in rng.permutation(len(batches))]


def ordered_batches(lengths: np.ndarray[Any, np.dtype[Any]], batch_size: int) -> list[Indices]:
    """Return all examples from shortest to longest, for evaluation: least padding, one order."""
    order = np.argsort(lengths, kind="stable").astype(np.int64)
    return [order[i : i + batch_size] for i in range(0, len(order), batch_size)]
