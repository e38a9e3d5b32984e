"""How texts vary and how long they are, as sums over texts.

Distinct-n (Li et al., 2016) is the number of distinct n-grams over that of all n-grams of all
texts. Each text has a part in it: an n-gram counts as one over how often all texts write it, so
that the parts of all texts add up to the distinct n-grams.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

ORDER: Final = 2
COLUMNS: Final = (
    *(f"{what}_{n}" for n in range(1, ORDER + 1) for what in ("distinct", "ngrams")),
    "words",
    "reference_words",
    "texts",
)
"""Part in the distinct n-grams and number of n-grams by order, words of the text, mean words of its
references, and 1."""


def text_statistics(
    hypotheses: Sequence[str], references: Sequence[Sequence[str]]
) -> NDArray[np.float64]:
    """Return the statistics of each text, shape (N, 7), columns as `COLUMNS`.

    White space sets words apart. `references` holds one or more texts for each hypothesis. The
    hypotheses given are all texts: how often they write an n-gram comes from them.
    """
    cut = [text.split() for text in hypotheses]
    statistics = np.zeros((len(cut), len(COLUMNS)))
    for n in range(1, ORDER + 1):
        ngrams = [Counter(zip(*(words[k:] for k in range(n)), strict=False)) for words in cut]
        written: Counter[tuple[str, ...]] = Counter()
        for own in ngrams:
            written.update(own)
        statistics[:, 2 * n - 2] = [
            sum(count / written[ngram] for ngram, count in own.items()) for own in ngrams
        ]
        statistics[:, 2 * n - 1] = [own.total() for own in ngrams]
    statistics[:, -3] = [len(words) for words in cut]
    statistics[:, -2] = [
        sum(len(text.split()) for text in several) / max(len(several), 1) for several in references
    ]
    statistics[:, -1] = 1
    return statistics
