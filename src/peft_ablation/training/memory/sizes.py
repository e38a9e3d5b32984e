"""Examples of a batch of a given size."""

from pathlib import Path

import numpy as np

from peft_ablation.tasks import Examples, Task
from peft_ablation.training.batches import Indices


def batch_of(
    task: Task, examples: Examples, base: str | Path, batch_size: int, length: int | None
) -> tuple[Examples, Indices]:
    """Return examples, and which of them make a batch of `batch_size`.

    With a `length` they are made up like `examples`, each of it; without one they are the longest
    of `examples`, over again where there are fewer. Raises `InputError` for a length that cannot
    be had.
    """
    if length is None:
        longest_first = np.argsort(-examples.lengths, kind="stable").astype(np.int64)
        return examples, np.resize(longest_first, batch_size)
    made = task.of_length(examples, base, count=batch_size, length=length)
    return made, np.arange(batch_size, dtype=np.int64)
