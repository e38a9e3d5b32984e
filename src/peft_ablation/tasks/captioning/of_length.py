"""Made-up texts of images of a chosen length, to measure what a step on them takes."""

from dataclasses import replace
from itertools import cycle, islice
from pathlib import Path

import numpy as np

from peft_ablation.artifacts import read_json
from peft_ablation.errors import InputError
from peft_ablation.tasks.captioning.examples import AnyExamples, CaptionExamples

LENGTHS = ("n_positions", "max_position_embeddings")
"""Keys of a config that say how many positions the texts of a model have."""


def of_length(examples: AnyExamples, base: str | Path, count: int, length: int) -> AnyExamples:
    """Return `count` texts of `length` tokens, prompt included, beside the images of `examples`.

    The tokens are those of the first text, again and again. Raises `InputError` where they are more
    than the base's positions, or leave none beside the prompt.
    """
    config = read_json(Path(base, "config.json"))
    of_texts = config.get("decoder", config)
    most = next((of_texts[key] for key in LENGTHS if of_texts.get(key)), None)
    if length <= len(examples.prompt) or (most is not None and length > most):
        raise InputError(
            f"memory.lengths: found {length}, but the prompt alone has {len(examples.prompt)} "
            f"tokens, and base {base} takes {most} at most; leave it out"
        )
    ids = [f"made up {place}" for place in range(count)]
    positions = np.resize(examples.positions, count)
    room = length - len(examples.prompt)
    if isinstance(examples, CaptionExamples):
        text = examples.tokens[0][len(examples.prompt) :]
        tokens = [*examples.prompt, *islice(cycle(text), room)]
        return replace(
            examples, tokens=[tokens] * count, positions=positions, ids=ids, texts=[""] * count
        )
    # The end of a text is told, but not read.
    answer = list(islice(cycle(examples.answers[0][0]), room + 1))
    return replace(
        examples, answers=[[answer]] * count, positions=positions, ids=ids, texts=[[""]] * count
    )
