"""Paired approximate randomisation: whether two arms' runs differ more than by chance.

Under the null the outputs of the two arms are interchangeable: swapping them in any group changes
nothing but the sign (Noreen, 1989; for scores that are no means Yeh, 2000). A score is a function
of sums by group, so a shuffle costs an addition. Runs are in pairs, by seed, and all of a group are
swapped at once: the test takes these runs as given, and says nothing of further seeds.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Final

import numpy as np

from peft_ablation.metrics.metric import Array

SHUFFLES: Final = 10_000
_BLOCK: Final = 256
"""Shuffles at once: of 13,000 groups these are 27 MB."""


def randomised_p(
    values: Sequence[Callable[[Array], Array]],
    ours: Array,
    theirs: Array,
    shuffles: int = SHUFFLES,
    seed: int = 0,
) -> list[float | None]:
    """Return the two-sided p of no difference between two arms' runs, one for each score.

    `ours` and `theirs` (S, G, K): sums by group of the runs, which are in pairs; a score's value
    takes (…, K) to (…). The difference is that of means over runs. p is (1 + shuffles at least as
    far from 0) / (1 + shuffles), Davison and Hinkley, 1997, section 4.3: never below
    1 / (1 + shuffles); a shuffle whose difference is undefined counts as such. None where the
    difference itself is undefined.
    """
    runs, _, columns = ours.shape
    own, other = ours.sum(axis=1), theirs.sum(axis=1)
    found = [float((value(own) - value(other)).mean()) for value in values]
    by_group = (theirs - ours).transpose(1, 0, 2).reshape(-1, runs * columns)
    # Where both arms have the same sums a swap changes nothing.
    by_group = by_group[by_group.any(axis=1)]
    as_far = [0] * len(values)
    for swapped in _coins(len(by_group), shuffles, seed):
        moved = (swapped @ by_group).reshape(-1, runs, columns)
        for place, value in enumerate(values):
            difference = (value(own + moved) - value(other - moved)).mean(axis=-1)
            # Equal but for the order of summation is equal.
            nearer = np.abs(difference) < abs(found[place]) * (1 - 1e-9)
            as_far[place] += int(np.count_nonzero(~nearer))
    return [
        None if np.isnan(difference) else (1 + count) / (1 + shuffles)
        for difference, count in zip(found, as_far, strict=True)
    ]


def _coins(groups: int, shuffles: int, seed: int) -> Iterator[Array]:
    """Yield which groups are swapped, in blocks of shape (≤ 256, groups), 0.0 or 1.0."""
    generator = np.random.default_rng(seed)
    for start in range(0, shuffles, _BLOCK):
        rows = min(_BLOCK, shuffles - start)
        drawn = generator.integers(0, 256, size=(rows, -(-groups // 8)), dtype=np.uint8)
        yield np.unpackbits(drawn, axis=1, count=groups).astype(np.float64)
