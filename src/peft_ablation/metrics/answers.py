"""Exact match and token F1 of short answers, as SQuAD's own script has them (Rajpurkar, 2016)."""

import re
import string
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_MARKS = str.maketrans("", "", string.punctuation)


def normalised(text: str) -> str:
    """Return an answer in lower case, without punctuation, articles and repeated white space."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_MARKS)).split())


def answer_statistics(
    hypotheses: Sequence[str], references: Sequence[Sequence[str]]
) -> NDArray[np.float64]:
    """Return exact match and token F1 of each answer, and 1, shape (N, 3): the best reference."""
    return np.array(
        [
            [
                max(float(normalised(hypothesis) == normalised(text)) for text in texts),
                max(token_f1(hypothesis, text) for text in texts),
                1.0,
            ]
            for hypothesis, texts in zip(hypotheses, references, strict=True)
        ]
    ).reshape(len(hypotheses), 3)


def token_f1(hypothesis: str, reference: str) -> float:
    """Return F1 of the words that two answers share; 1 where both have none, 0 where one has."""
    ours, theirs = normalised(hypothesis).split(), normalised(reference).split()
    if not ours or not theirs:
        return float(ours == theirs)
    shared = (Counter(ours) & Counter(theirs)).total()
    return 2 * shared / (len(ours) + len(theirs))
