"""Corpus BLEU as a function of sums over sentences, so that resampling costs an addition.

Corpus BLEU (Papineni et al., 2002) depends on the texts through eleven integers a sentence only.
They are read from sacrebleu once; any subset or resample of the corpus is then scored from their
sums, equal to what sacrebleu gives for the texts themselves.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray
from sacrebleu.metrics.bleu import BLEU

ORDER: Final = 4
COLUMNS: Final = (
    "hypothesis_length",
    "closest_reference_length",
    "shortest_reference_length",
    *(f"matches_{n}" for n in range(1, ORDER + 1)),
    *(f"ngrams_{n}" for n in range(1, ORDER + 1)),
)
"""What the eleven statistics of a sentence are, in tokens and n-grams of mteval-v13a."""


def sentence_statistics(
    hypotheses: Sequence[str], references: Sequence[Sequence[str]], *, lowercase: bool = False
) -> NDArray[np.int64]:
    """Return the statistics of each sentence, shape (N, 11), columns as `COLUMNS`.

    `references` holds one or more texts for each hypothesis; `lowercase` ignores case.
    """
    metric = BLEU(lowercase=lowercase, effective_order=True)
    known: dict[tuple[str, tuple[str, ...]], list[int]] = {}
    rows = []
    for hypothesis, texts in zip(hypotheses, references, strict=True):
        key = (hypothesis, tuple(texts))
        if key not in known:
            score = metric.sentence_score(hypothesis, list(texts))
            shortest = (
                score.ref_len
                if len(texts) == 1
                else min(metric.sentence_score(hypothesis, [text]).ref_len for text in texts)
            )
            known[key] = [score.sys_len, score.ref_len, shortest, *score.counts, *score.totals]
        rows.append(known[key])
    return np.array(rows, dtype=np.int64).reshape(len(rows), len(COLUMNS))


def signature(references: Sequence[Sequence[str]], *, lowercase: bool = False) -> str:
    """Return sacrebleu's signature of `corpus_bleu` for these references."""
    metric = BLEU(lowercase=lowercase)
    counts = sorted({len(texts) for texts in references})
    streams = [["a" if n < count else None for count in counts] for n in range(max(counts))]
    metric.corpus_score(["a"] * len(counts), streams)
    return str(metric.get_signature())


def corpus_bleu(sums: NDArray[np.int64] | NDArray[np.float64]) -> NDArray[np.float64]:
    """Return sacrebleu's BLEU, 0 to 100, of summed statistics, shape (..., 11) → (...).

    Exponential smoothing, as sacrebleu's default: an order without a match counts as one half,
    one quarter … of a match.
    """
    values = np.asarray(sums, dtype=np.float64)
    length, reference = values[..., 0], values[..., 1]
    matches, totals = values[..., 3 : 3 + ORDER], values[..., 3 + ORDER :]
    missed = (matches == 0) & (totals > 0)
    smoothed = np.where(missed, 0.5 ** np.cumsum(missed, axis=-1), matches)
    return np.where(
        (matches > 0).any(axis=-1),
        100 * _brevity_penalty(length, reference) * _geometric_mean(smoothed, totals),
        0.0,
    )


def unsmoothed_bleu(sums: NDArray[np.int64] | NDArray[np.float64]) -> NDArray[np.float64]:
    """Return BLEU, 0 to 1, as Hugging Face's `evaluate.load("bleu")`, shape (..., 11) → (...).

    This is the metric of the published code: mteval-v13a tokens, up to 4-grams, no smoothing (an
    order without a match makes it 0), length compared with the shortest reference. Source: the
    `bleu` metric of Hugging Face evaluate, after tensorflow/nmt `scripts/bleu.py`.
    """
    values = np.asarray(sums, dtype=np.float64)
    length, shortest = values[..., 0], values[..., 2]
    matches, totals = values[..., 3 : 3 + ORDER], values[..., 3 + ORDER :]
    return _brevity_penalty(length, shortest) * _geometric_mean(matches, totals)


def _brevity_penalty(
    length: NDArray[np.float64], reference: NDArray[np.float64]
) -> NDArray[np.float64]:
    with np.errstate(divide="ignore", invalid="ignore"):
        short = np.exp(1 - reference / length)
    return np.where(length >= reference, 1.0, np.where(length > 0, short, 0.0))


def _geometric_mean(
    matches: NDArray[np.float64], totals: NDArray[np.float64]
) -> NDArray[np.float64]:
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log(matches / totals)
    possible = np.asarray(((matches > 0) & (totals > 0)).all(axis=-1))
    return np.where(possible, np.exp(np.where(possible[..., None], logs, 0).mean(axis=-1)), 0.0)
