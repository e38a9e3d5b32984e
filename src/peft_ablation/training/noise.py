"""The seed of a step's random numbers: dropout, and how far images are shifted."""

import numpy as np


def noise_seed(seed: int, step: int, process: int = 0, processes: int = 1) -> int:
    """Return what torch's generator is seeded with for optimizer step `step` of one process.

    A pure function, so that resuming needs no saved generator. On the CPU torch heeds a seed's
    lowest 32 bits alone (`at::mt19937`), where steps must differ and runs of other seeds too: a
    run's seed, hashed, is where its steps begin to count.
    """
    first = int(np.random.SeedSequence(seed).generate_state(1, np.uint32)[0])
    return first + step * processes + process
