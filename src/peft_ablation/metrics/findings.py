"""Precision, recall and F1 of the findings that a text states, against those of its reference.

Each text is parsed to labels with a mention (present, absent, suspected). For one mention, the
pair (report, label) is a true positive when both texts give the label that mention, a false
positive when only the hypothesis does, a false negative when only the reference does. A text that
says nothing of a label, or gives it another mention, counts as not giving it. Nothing is counted
where neither text gives the mention, so reports without findings weigh on the score only through
findings that are wrongly stated in them.

- precision = tp / (tp + fp); null where the hypotheses never give the mention;
- recall = tp / (tp + fn); null where the references never give it;
- F1 = 2 tp / (2 tp + fp + fn); null where neither ever gives it.

Micro scores sum the counts of the 13 pathologies. Macro scores are the plain mean over those of
the 13 that the references give at least once, so that every arm is averaged over the same labels;
there a null precision counts as 0. `No_Finding` is no finding: it has its own line among the
labels and no part in micro and macro.

The headline `findings_f1` is the micro F1 of present pathologies.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from peft_ablation.metrics.metric import Array, Breakdown, Metric, Statistics
from peft_ablation.sources.mimic.labels import LABELS, PATHOLOGIES, Mention, display_name
from peft_ablation.sources.mimic.reports import Parsed, load_template, normalise

MENTIONS: Final[dict[str, Mention]] = {
    "present": Mention.PRESENT,
    "absent": Mention.ABSENT,
    "suspected": Mention.SUSPECTED,
}

Counts = NDArray[np.float64]
"""Counts of one mention, shape (..., 14, 3): labels in the order of `LABELS`; tp, fp, fn."""


def label_matrix(texts: Sequence[Mapping[str, int]]) -> NDArray[np.int8]:
    """Return parsed labels as a matrix, shape (N, 14); -128 where a label is not mentioned."""
    unmentioned = np.iinfo(np.int8).min
    return np.array(
        [[labels.get(label, unmentioned) for label in LABELS] for labels in texts], dtype=np.int8
    ).reshape(len(texts), len(LABELS))


def mention_counts(
    hypotheses: NDArray[np.int8], references: NDArray[np.int8], mention: Mention
) -> NDArray[np.int64]:
    """Return tp, fp, fn of each row and label: two (N, 14) matrices → (N, 14, 3)."""
    stated, true = hypotheses == mention, references == mention
    return np.stack([stated & true, stated & ~true, ~stated & true], axis=-1).astype(np.int64)


def f1(counts: Counts) -> NDArray[np.float64]:
    """Return F1 of counts (..., 3) → (...); NaN where tp, fp and fn are all 0."""
    tp, fp, fn = (np.asarray(counts[..., column], dtype=np.float64) for column in range(3))
    return _ratio(2 * tp, 2 * tp + fp + fn)


def micro_f1(counts: Counts) -> NDArray[np.float64]:
    """Return the F1 of the 13 pathologies' summed counts, (..., 14, 3) → (...)."""
    return f1(counts[..., : len(PATHOLOGIES), :].sum(axis=-2))


def macro_f1(counts: Counts) -> NDArray[np.float64]:
    """Return the mean F1 over the pathologies in the references, (..., 14, 3) → (...)."""
    pathologies = counts[..., : len(PATHOLOGIES), :]
    occurs = (pathologies[..., 0] + pathologies[..., 2]) > 0
    scores = np.where(occurs, np.nan_to_num(f1(pathologies)), 0)
    return _ratio(scores.sum(axis=-1), occurs.sum(axis=-1))


def mention_scores(counts: Counts) -> dict[str, Any]:
    """Return micro, macro and per-label scores of one mention's summed counts, (14, 3).

    `{"micro": s, "macro": s, "labels": {label: s}}` with s = `precision`, `recall`, `f1` (0 to 1
    or None) and, but for macro, the counts `tp`, `fp`, `fn`.
    """
    labels = {label: _scores(counts[row]) for row, label in enumerate(LABELS)}
    occurring = [
        labels[label] for label in PATHOLOGIES if labels[label]["tp"] + labels[label]["fn"] > 0
    ]
    macro = {
        name: float(np.mean([scores[name] or 0.0 for scores in occurring])) if occurring else None
        for name in ("precision", "recall", "f1")
    }
    return {
        "micro": _scores(counts[: len(PATHOLOGIES)].sum(axis=0)),
        "macro": {**macro, "labels": len(occurring)},
        "labels": labels,
    }


def _scores(counts: Counts) -> dict[str, Any]:
    tp, fp, fn = (int(count) for count in counts)
    return {
        "precision": tp / (tp + fp) if tp + fp else None,
        "recall": tp / (tp + fn) if tp + fn else None,
        "f1": 2 * tp / (2 * tp + fp + fn) if tp + fp + fn else None,
        "tp": tp,
        "fp": fp,
        "fn": fn,
    }


def _ratio(
    above: NDArray[np.float64] | NDArray[np.int64], below: NDArray[np.float64] | NDArray[np.int64]
) -> NDArray[np.float64]:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(below > 0, np.asarray(above, dtype=np.float64) / below, np.nan)


def findings_metrics(template: str) -> tuple[Metric, Metric]:
    """Return micro and macro F1 of present pathologies, texts parsed by a template set."""
    columns = tuple(
        f"{mention}_{label}_{count}"
        for mention in MENTIONS
        for label in LABELS
        for count in ("tp", "fp", "fn")
    )

    def statistics(predictions: pl.DataFrame) -> Array:
        stated, true = (_labels(texts, template) for texts in _texts(predictions))
        counts = [mention_counts(stated, true, mention) for mention in MENTIONS.values()]
        return np.stack(counts, axis=1).reshape(predictions.height, -1).astype(np.float64)

    sums = Statistics(columns, statistics)
    return (
        Metric(
            "findings_f1", "findings F1",
            "micro F1 of pathologies stated as present, over the 13 pathologies; No Finding has no "
            "part in it; null where no text states any",
            sums, lambda values: micro_f1(counts_of(values, "present")), needs=("hypothesis",),
        ),
        Metric(
            "findings_macro_f1", "findings macro F1",
            "mean F1 of present pathologies over those that occur in the references",
            sums, lambda values: macro_f1(counts_of(values, "present")), compared=False,
            needs=("hypothesis",),
        ),
    )  # fmt: skip


def findings_breakdown() -> Breakdown:
    """Return F1 of each label that texts state as present, No Finding among them."""
    return Breakdown(
        "f1", "F1", "F1 = 2 tp / (2 tp + fp + fn) of texts that state it as present",
        {
            display_name(label): tuple(f"present_{label}_{count}" for count in ("tp", "fp", "fn"))
            for label in LABELS
        },
        (0, 2), f1,
    )  # fmt: skip


def statements(template: str) -> dict[str, tuple[str, str]]:
    """Return the sentences that state each label as present and as absent, where both are there."""
    sentences = load_template(template).sentences
    found = {
        label: (sentences[label, Mention.PRESENT], sentences[label, Mention.ABSENT])
        for label in LABELS
    }
    return {
        label: (present, absent)
        for label, (present, absent) in found.items()
        if present is not None and absent is not None
    }


def stated(predictions: pl.DataFrame, template: str) -> NDArray[np.int8]:
    """Return what the references say of each label of `statements`, as `label_matrix` (N, K)."""
    _, references = _texts(predictions)
    places = [LABELS.index(label) for label in statements(template)]
    return _labels(references, template)[:, places]


def counts_of(sums: Array, mention: str) -> Array:
    """Return the counts of one mention, (…, 3 * 14 * 3) → (…, 14, 3)."""
    all_of_them = sums.reshape(*sums.shape[:-1], len(MENTIONS), len(LABELS), 3)
    return all_of_them[..., list(MENTIONS).index(mention), :, :]


def findings_details(predictions: pl.DataFrame, template: str) -> dict[str, Any]:
    """Return scores by mention and label, and what of the texts the template cannot read."""
    hypotheses, references = _texts(predictions)
    parsed = _parse_all(hypotheses, template)
    stated, true = _labels(hypotheses, template), _labels(references, template)
    sentences = sum(
        sum(bool(part.strip()) for part in normalise(text).split(".")) for text in hypotheses
    )
    unparsed = sum(len(text.unparsed) for text in parsed)
    return {
        "findings": {
            name: mention_scores(mention_counts(stated, true, mention).sum(axis=0))
            for name, mention in MENTIONS.items()
        },
        "sentences": sentences,
        "unparsable_sentences": unparsed,
        "unparsable_share": unparsed / sentences if sentences else None,
        "texts_with_unparsable": sum(bool(text.unparsed) for text in parsed),
        "texts_with_contradiction": sum(bool(text.contradicted) for text in parsed),
    }


def _texts(predictions: pl.DataFrame) -> tuple[list[str], list[str]]:
    """Return hypotheses and the first reference of each row."""
    references = predictions["reference"].to_list()
    first = [text[0] if isinstance(text, list) else text for text in references]
    return predictions["hypothesis"].to_list(), first


def _parse_all(texts: Sequence[str], template: str) -> list[Parsed]:
    chosen = load_template(template)
    known = {text: chosen.parse(text) for text in dict.fromkeys(texts)}
    return [known[text] for text in texts]


def _labels(texts: Sequence[str], template: str) -> NDArray[np.int8]:
    return label_matrix([text.labels for text in _parse_all(texts, template)])
