"""NIST as a function of sums over texts (Doddington, 2002), as mteval-v13a computes it.

An n-gram that a reference has too counts by its information: how much rarer it is than its first
n - 1 words, in the references of the whole test set. nltk's NIST, which Hugging Face evaluate
calls, is another number: it takes the best reference an order, and other lengths.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray
from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a

ORDER: Final = 5
COLUMNS: Final = (
    *(f"information_{n}" for n in range(1, ORDER + 1)),
    *(f"ngrams_{n}" for n in range(1, ORDER + 1)),
    "reference_length",
)
"""Statistics of a text: information of its matched n-grams (bits), its n-grams, and the length of
its references over the largest number of references that a text of the test set has."""

_HALF_AT: Final = 2 / 3
"""Share of the references' length at which the penalty is one half."""

Ngram = tuple[str, ...]


def text_statistics(
    hypotheses: Sequence[str], references: Sequence[Sequence[str]]
) -> NDArray[np.float64]:
    """Return the statistics of each text, shape (N, 11), columns as `COLUMNS`.

    `references` holds one or more texts for each hypothesis. Case is ignored, as mteval does. The
    references given are the whole test set: information and the number of references come from
    them, and where texts have fewer references than others, the missing count as empty.
    """
    cut = [[_words(text) for text in texts] for texts in references]
    information = _information([words for texts in cut for words in texts])
    most = max(map(len, cut), default=1)
    return np.array(
        [
            _statistics(_words(hypothesis), texts, information, most)
            for hypothesis, texts in zip(hypotheses, cut, strict=True)
        ]
    ).reshape(len(hypotheses), len(COLUMNS))


def nist(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return NIST of summed statistics, shape (..., 11) → (...)."""
    information, totals = sums[..., :ORDER], sums[..., ORDER : 2 * ORDER]
    gained = (information / np.maximum(totals, 1)).sum(axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = totals[..., 0] / sums[..., -1]
        beta = math.log(2) / math.log(_HALF_AT) ** 2
        penalty = np.exp(-beta * np.log(ratio) ** 2)
    # Without any reference word nothing is missing, and nothing was gained.
    return np.asarray(gained * np.where((ratio >= 1) | np.isnan(ratio), 1.0, penalty))


@lru_cache(maxsize=65536)
def _words(text: str) -> tuple[str, ...]:
    return tuple(Tokenizer13a()(text.lower()).split())


def _ngrams(words: Sequence[str], order: int) -> Counter[Ngram]:
    return Counter(tuple(words[at : at + order]) for at in range(len(words) - order + 1))


def _information(texts: Sequence[Sequence[str]]) -> Mapping[Ngram, float]:
    """Return the information, in bits, of each n-gram of the references."""
    counts: Counter[Ngram] = Counter({(): sum(map(len, texts))})
    for words in texts:
        for order in range(1, ORDER + 1):
            counts.update(_ngrams(words, order))
    return {ngram: math.log2(counts[ngram[:-1]] / n) for ngram, n in counts.items() if ngram}


def _statistics(
    hypothesis: Sequence[str],
    references: Sequence[Sequence[str]],
    information: Mapping[Ngram, float],
    most: int,
) -> list[float]:
    gained = []
    for order in range(1, ORDER + 1):
        allowed: Counter[Ngram] = Counter()
        for words in references:
            allowed |= _ngrams(words, order)
        matched = _ngrams(hypothesis, order) & allowed
        gained.append(sum(count * information[ngram] for ngram, count in matched.items()))
    totals = [max(len(hypothesis) + 1 - order, 0) for order in range(1, ORDER + 1)]
    return [*gained, *totals, sum(map(len, references)) / most]
