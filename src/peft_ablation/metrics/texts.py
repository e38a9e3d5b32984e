"""Metrics of generated texts: columns `hypothesis` and `reference` (a text, or a list of them)."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from peft_ablation.metrics import bleu
from peft_ablation.metrics.metric import Array, Metric, Statistics
from peft_ablation.sources.mimic.reports import normalise


def references_of(predictions: pl.DataFrame) -> list[list[str]]:
    """Return the one or more references of each row."""
    column = predictions["reference"]
    return [list(text) if isinstance(text, list) else [text] for text in column.to_list()]


def bleu_metrics(
    references: Sequence[Sequence[str]], *, lowercase: bool = False, normalised: bool = False
) -> tuple[Metric, Metric]:
    """Return BLEU as sacrebleu has it, and as the published code has it.

    `references` are those of the scored rows, for sacrebleu's signature. `normalised`: marks are
    set apart and letters lower case before, since uncased decoding may have lost case and spacing.
    """

    def statistics(predictions: pl.DataFrame) -> Array:
        hypotheses, texts = predictions["hypothesis"].to_list(), references_of(predictions)
        if normalised:
            hypotheses = [normalise(text) for text in hypotheses]
            texts = [[normalise(text) for text in several] for several in texts]
        return bleu.sentence_statistics(hypotheses, texts, lowercase=lowercase).astype(np.float64)

    sums = Statistics(tuple(f"bleu_{name}" for name in bleu.COLUMNS), statistics)
    of = "texts in lower case with marks set apart" if normalised else "the texts"
    return (
        Metric(
            "bleu", "BLEU", f"corpus BLEU by sacrebleu, 0 to 100, of {of}", sums, bleu.corpus_bleu,
            unit="0 to 100", digits=1, needs=("hypothesis",),
            signature=bleu.signature(references, lowercase=lowercase) if references else None,
        ),
        Metric(
            "bleu_0_1", "BLEU as published",
            "corpus BLEU by the formula of Hugging Face evaluate's bleu, which the published code "
            "calls, 0 to 1: the same tokens, no smoothing",
            sums, bleu.unsmoothed_bleu, compared=False, needs=("hypothesis",),
        ),
    )  # fmt: skip


def token_loss() -> Metric:
    """Return the mean negative log-likelihood a token, from columns `nll` and `tokens`."""
    return mean_of(
        "test_loss", "test loss", "nll", "tokens",
        "mean negative log-likelihood a supervised token of the true texts, in nats",
    )  # fmt: skip


def mean_of(
    name: str,
    title: str,
    above: str,
    below: str | None,
    definition: str,
    *,
    higher_is_better: bool = False,
    unit: str = "nats",
    digits: int = 3,
) -> Metric:
    """Return the ratio of two summed columns; `below` None: the number of rows."""

    def statistics(predictions: pl.DataFrame) -> Array:
        rows = np.ones(predictions.height) if below is None else predictions[below].to_numpy()
        return np.stack([predictions[above].to_numpy(), rows], axis=1).astype(np.float64)

    def value(sums: Array) -> Array:
        total, count = sums[..., 0], sums[..., 1]
        return np.where(count > 0, total / np.where(count > 0, count, 1), np.nan)

    return Metric(
        name, title, definition, Statistics((above, below or f"{above}_rows"), statistics), value,
        higher_is_better=higher_is_better, unit=unit, digits=digits,
        needs=(above,) if below is None else (above, below),
    )  # fmt: skip


def variety(hypotheses: Sequence[str]) -> dict[str, Any]:
    """Return how the hypotheses are as texts: how many differ, how many are empty."""
    return {
        "distinct_texts": len(set(hypotheses)),
        "empty_texts": sum(not text.strip() for text in hypotheses),
    }
