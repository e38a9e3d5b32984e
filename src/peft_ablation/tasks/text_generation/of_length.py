"""Made-up texts of a chosen length, to measure what a step on them takes."""

from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np

from peft_ablation.errors import InputError
from peft_ablation.tasks.text_generation.examples import WrittenExamples, context_of


def of_length(examples: Any, base: str | Path, count: int, length: int) -> WrittenExamples:
    """Return `count` texts of which `length` tokens are read, as many supervised as in `examples`.

    The tokens are those of the first example, again and again. Raises `InputError` where they are
    more than the base's context.
    """
    context = context_of(base)
    if context is not None and length > context:
        raise InputError(
            f"memory.lengths: found {length}, but base {base} has a context of {context} tokens; "
            "leave it out"
        )
    share = examples.weights.sum() / examples.lengths.sum()
    told = min(max(round(float(share) * length), 1), length)
    text = examples.batch(np.zeros(1, dtype=np.int64))["input_ids"][0].tolist()
    # The last token is told, but not read.
    tokens = list(islice(cycle(text), length + 1))
    prompt, answer = tokens[: length + 1 - told], tokens[length + 1 - told :]
    ids = [f"made up {place}" for place in range(count)]
    return WrittenExamples(ids, [prompt] * count, [[answer]] * count, [[""]] * count)
