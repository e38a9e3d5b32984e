"""Corpus chrF as a function of sums over texts (Popović, 2015), by sacrebleu.

sacrebleu counts character n-grams of each text; any subset or resample of the corpus is then scored
from sums of these counts, equal to what it gives for the texts themselves.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray
from sacrebleu.metrics.chrf import CHRF

ORDER: Final = CHRF.CHAR_ORDER
BETA: Final = CHRF.BETA
COLUMNS: Final = tuple(
    f"{what}_{order}"
    for order in range(1, ORDER + 1)
    for what in ("hypothesis", "reference", "matches")
)
"""N-grams of the text, of the reference it is nearest to, and of both, by order."""


def text_statistics(
    hypotheses: Sequence[str], references: Sequence[Sequence[str]], *, lowercase: bool = False
) -> NDArray[np.float64]:
    """Return the statistics of each text, shape (N, 18), columns as `COLUMNS`.

    `references` holds one or more texts for each hypothesis; `lowercase` ignores case.
    """
    metric = CHRF(lowercase=lowercase)
    most = max(map(len, references), default=0)
    streams = [[texts[n] if n < len(texts) else None for texts in references] for n in range(most)]
    counts = metric._extract_corpus_statistics(hypotheses, streams) if most else []
    return np.array(counts, dtype=np.float64).reshape(len(hypotheses), len(COLUMNS))


def chrf(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return sacrebleu's chrF, 0 to 100, of summed statistics, shape (..., 18) → (...).

    Precision and recall are means over the orders of which both sides have an n-gram.
    """
    counts = sums.reshape(*sums.shape[:-1], ORDER, 3)
    ours, theirs, matches = counts[..., 0], counts[..., 1], counts[..., 2]
    known = (ours > 0) & (theirs > 0)
    orders = np.maximum(known.sum(axis=-1), 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        precision = np.where(known, matches / ours, 0).sum(axis=-1) / orders
        recall = np.where(known, matches / theirs, 0).sum(axis=-1) / orders
        score = (1 + BETA**2) * precision * recall / (BETA**2 * precision + recall)
    return np.asarray(np.where(precision + recall > 0, 100 * score, 0.0))
