"""Made-up texts of a chosen length, to measure what a step on them takes."""

from dataclasses import replace
from itertools import cycle, islice
from pathlib import Path

import numpy as np

from peft_ablation.errors import InputError
from peft_ablation.tasks.text_classification.examples import TextExamples, longest_of


def of_length(examples: TextExamples, base: str | Path, count: int, length: int) -> TextExamples:
    """Return `count` texts of `length` tokens: the first example's, again and again.

    Raises `InputError` where the base takes fewer.
    """
    from transformers import AutoConfig

    most = longest_of(AutoConfig.from_pretrained(base, local_files_only=True))
    if most is not None and length > most:
        raise InputError(
            f"memory.lengths: found {length}, but base {base} takes {most} tokens at most; leave "
            "it out"
        )
    tokens = {name: list(islice(cycle(row), length)) for name, row in examples.tokens[0].items()}
    return replace(
        examples,
        ids=[f"made up {place}" for place in range(count)],
        targets=np.resize(examples.targets, count),
        texts=[""] * count,
        seconds=None,
        tokens=[tokens] * count,
    )
