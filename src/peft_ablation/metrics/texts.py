"""Metrics of generated texts: columns `hypothesis` and `reference` (a text, or a list of them)."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from peft_ablation.metrics import answers, bleu, chrf, coco, nist
from peft_ablation.metrics import variety as varied
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


def chrf_metric(*, lowercase: bool = False) -> Metric:
    """Return chrF as sacrebleu has it."""

    def statistics(predictions: pl.DataFrame) -> Array:
        hypotheses = predictions["hypothesis"].to_list()
        return chrf.text_statistics(hypotheses, references_of(predictions), lowercase=lowercase)

    return Metric(
        "chrf", "chrF", "F of character n-grams (Popović, 2015), by sacrebleu, 0 to 100",
        Statistics(tuple(f"chrf_{name}" for name in chrf.COLUMNS), statistics), chrf.chrf,
        unit="0 to 100", digits=1, needs=("hypothesis",),
    )  # fmt: skip


def nist_metric() -> Metric:
    """Return NIST as mteval-v13a has it."""

    def statistics(predictions: pl.DataFrame) -> Array:
        return nist.text_statistics(predictions["hypothesis"].to_list(), references_of(predictions))

    return Metric(
        "nist", "NIST",
        "information of matched n-grams up to five words (Doddington, 2002), as mteval-v13a "
        "computes it: case ignored, information from the references of the whole test set; texts "
        "with fewer references than others count the missing ones as empty",
        Statistics(tuple(f"nist_{name}" for name in nist.COLUMNS), statistics), nist.nist,
        unit="bits", digits=2, needs=("hypothesis",),
    )  # fmt: skip


def coco_metrics() -> tuple[Metric, ...]:
    """Return METEOR, ROUGE-L and CIDEr as the scripts of COCO and of the E2E challenge have them.

    Needs what `peft_ablation.metrics.coco.missing` names.
    """

    def counts(predictions: pl.DataFrame) -> Array:
        cut = coco.tokenised(predictions["hypothesis"].to_list(), references_of(predictions))
        return coco.meteor_statistics(*cut)

    def scores(predictions: pl.DataFrame) -> Array:
        cut = coco.tokenised(predictions["hypothesis"].to_list(), references_of(predictions))
        found = [coco.rouge_l(*cut), coco.cider(*cut), np.ones(predictions.height)]
        return np.stack(found, axis=1)

    sums = Statistics(("rouge_l_sum", "cider_sum", "rows"), scores)
    tokens = "of lower-case words without punctuation, cut by Stanford's PTB tokenizer"
    return (
        Metric(
            "meteor", "METEOR",
            f"METEOR 1.5 for English (Denkowski and Lavie, 2014), 0 to 1, {tokens}",
            Statistics(tuple(f"meteor_{name}" for name in coco.METEOR_COLUMNS), counts),
            coco.meteor, needs=("hypothesis",),
        ),
        Metric(
            "rouge_l", "ROUGE-L",
            f"longest common subsequence (Lin, 2004), beta 1.2, 0 to 1, {tokens}; mean over texts",
            sums, lambda sums: _ratio(sums[..., 0], sums[..., 2]), needs=("hypothesis",),
        ),
        Metric(
            "cider", "CIDEr",
            f"CIDEr-D (Vedantam et al., 2015), 0 to 10, {tokens}; weights of words from the "
            "references of the whole test set; mean over texts",
            sums, lambda sums: _ratio(sums[..., 1], sums[..., 2]), unit="0 to 10",
            needs=("hypothesis",),
        ),
    )  # fmt: skip


def answer_metrics() -> tuple[Metric, Metric]:
    """Return exact match and token F1 of short answers."""

    def statistics(predictions: pl.DataFrame) -> Array:
        hypotheses = predictions["hypothesis"].to_list()
        return answers.answer_statistics(hypotheses, references_of(predictions))

    sums = Statistics(("exact_match_sum", "token_f1_sum", "answers"), statistics)
    of = "without case, punctuation and articles, as SQuAD's script has it: the best reference"
    return (
        Metric(
            "exact_match", "exact match", f"share of texts equal to a reference, {of}",
            sums, lambda sums: _ratio(sums[..., 0], sums[..., 2]), needs=("hypothesis",),
        ),
        Metric(
            "token_f1", "token F1", f"mean F1 of the words that text and reference share, {of}",
            sums, lambda sums: _ratio(sums[..., 1], sums[..., 2]), needs=("hypothesis",),
        ),
    )  # fmt: skip


def variety_metrics(*, lowercase: bool = False, normalised: bool = False) -> tuple[Metric, ...]:
    """Return distinct-1, distinct-2, length and length over that of the references.

    No direction of these is better. `lowercase` ignores case; `normalised` is that of BLEU.
    """

    def statistics(predictions: pl.DataFrame) -> Array:
        hypotheses, texts = predictions["hypothesis"].to_list(), references_of(predictions)
        if lowercase:
            hypotheses = [text.lower() for text in hypotheses]
        if normalised:
            hypotheses = [normalise(text) for text in hypotheses]
            texts = [[normalise(text) for text in several] for several in texts]
        return varied.text_statistics(hypotheses, texts)

    sums = Statistics(tuple(f"variety_{name}" for name in varied.COLUMNS), statistics)
    of = "of texts in lower case with marks set apart" if normalised else "as white space cuts them"

    def distinct(n: int) -> Metric:
        what = "words" if n == 1 else "pairs of neighbouring words"
        return Metric(
            f"distinct_{n}", f"distinct-{n}",
            f"distinct {what} over all {what} of all texts (Li et al., 2016), {of}"
            f"{', case ignored' if lowercase else ''}; less the more texts there are, and no "
            "direction is better; for intervals how often all texts together write each stays "
            "fixed",
            sums, lambda sums: _ratio(sums[..., 2 * n - 2], sums[..., 2 * n - 1]),
            higher_is_better=None, needs=("hypothesis",),
        )  # fmt: skip

    return (
        *(distinct(n) for n in range(1, varied.ORDER + 1)),
        Metric(
            "length", "length", f"mean number of words a text, {of}; no direction is better",
            sums, lambda sums: _ratio(sums[..., -3], sums[..., -1]),
            higher_is_better=None, unit="words", digits=1, needs=("hypothesis",),
        ),
        Metric(
            "length_ratio", "length ratio",
            f"words of the texts over words of their references, {of}, where several the mean; 1 "
            "is as long, and no direction is better by itself",
            sums, lambda sums: _ratio(sums[..., -3], sums[..., -2]),
            higher_is_better=None, unit="of the references' words", digits=2,
            needs=("hypothesis",),
        ),
    )  # fmt: skip


def token_loss() -> Metric:
    """Return the mean negative log-likelihood a token, from columns `nll` and `tokens`."""
    return mean_of(
        "test_loss", "test loss", "nll", "tokens",
        "mean negative log-likelihood a supervised token of the true texts, in nats",
    )  # fmt: skip


def perplexity(loss: Metric) -> Metric:
    """Return the exponential of `token_loss`, of the same sums."""
    return Metric(
        "perplexity", "perplexity",
        "exponential of the mean negative log-likelihood a supervised token of the true texts",
        loss.statistics, lambda sums: np.exp(loss.value(sums)), higher_is_better=False,
        unit="words to choose from", digits=2, compared=False, needs=loss.needs,
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

    return Metric(
        name, title, definition, Statistics((above, below or f"{above}_rows"), statistics),
        lambda sums: _ratio(sums[..., 0], sums[..., 1]),
        higher_is_better=higher_is_better, unit=unit, digits=digits,
        needs=(above,) if below is None else (above, below),
    )  # fmt: skip


def _ratio(total: Array, count: Array) -> Array:
    return np.where(count > 0, total / np.where(count > 0, count, 1), np.nan)


def variety(hypotheses: Sequence[str]) -> dict[str, Any]:
    """Return how the hypotheses are as texts: how many differ, how many are empty."""
    return {
        "distinct_texts": len(set(hypotheses)),
        "empty_texts": sum(not text.strip() for text in hypotheses),
    }
