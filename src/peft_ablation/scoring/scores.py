"""Scores of generated reports: token loss, BLEU and findings, with intervals and baselines.

Every score is a function of sums over test reports. They are summed by subject first: the scores
come from the totals, the intervals from resampled subjects, and `compare_arms` resamples the same
sums over arms and seeds.

`python -m peft_ablation.scoring HYPOTHESES.txt REFERENCES.txt` prints the text scores of any two
files as JSON.
"""

import argparse
import json
import logging
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from peft_ablation.artifacts import write_json, write_table
from peft_ablation.errors import InputError
from peft_ablation.metrics.bleu import COLUMNS as BLEU_COLUMNS
from peft_ablation.metrics.bleu import corpus_bleu, sentence_statistics, signature, unsmoothed_bleu
from peft_ablation.metrics.bootstrap import cluster_sums, percentile_interval, resampled_sums
from peft_ablation.metrics.findings import (
    MENTIONS,
    label_matrix,
    macro_f1,
    mention_counts,
    mention_scores,
    micro_f1,
)
from peft_ablation.sources.mimic.labels import LABELS, PATHOLOGIES, Mention
from peft_ablation.sources.mimic.reports import Parsed, Template, load_template, normalise

log = logging.getLogger(__name__)

Array = NDArray[np.float64]

SUMS: Final = (
    *(f"bleu_{name}" for name in BLEU_COLUMNS),
    *(
        f"{mention}_{label}_{count}"
        for mention in MENTIONS
        for label in LABELS
        for count in ("tp", "fp", "fn")
    ),
    "nll",
    "tokens",
)
"""What is summed over the reports of a subject; every score below is made of these."""

_FINDINGS_AT: Final = len(BLEU_COLUMNS)
_PER_MENTION: Final = len(LABELS) * 3


def _counts(sums: Array, mention: str) -> Array:
    """Return the counts of one mention, (..., len(SUMS)) → (..., 14, 3)."""
    start = _FINDINGS_AT + list(MENTIONS).index(mention) * _PER_MENTION
    counts = sums[..., start : start + _PER_MENTION]
    return counts.reshape(*sums.shape[:-1], len(LABELS), 3)


def _loss(sums: Array) -> Array:
    nll, tokens = sums[..., -2], sums[..., -1]
    return np.where(tokens > 0, nll / np.where(tokens > 0, tokens, 1), np.nan)


METRICS: Final[Mapping[str, Callable[[Array], Array]]] = {
    "test_loss": _loss,
    "bleu": lambda sums: corpus_bleu(sums[..., :_FINDINGS_AT]),
    "bleu_0_1": lambda sums: unsmoothed_bleu(sums[..., :_FINDINGS_AT]),
    "findings_f1": lambda sums: micro_f1(_counts(sums, "present")),
    "findings_macro_f1": lambda sums: macro_f1(_counts(sums, "present")),
}
"""The headline scores as functions of sums, (..., len(SUMS)) → (...); NaN where undefined.

`test_loss`: nats a supervised token, each token with the same weight. `bleu`: sacrebleu, 0 to 100.
`bleu_0_1`: BLEU as the published code has it, 0 to 1. `findings_f1`, `findings_macro_f1`: F1 of
present pathologies, see `peft_ablation.metrics.findings`.
"""


@dataclass(frozen=True)
class Resampling:
    """How intervals are made: number of resamples, level, seed."""

    samples: int
    confidence: float
    seed: int


@dataclass(frozen=True)
class TextScores:
    """Scores of one set of hypotheses, and the sums by subject behind them.

    `scores`: JSON-able. `subjects`: int64 (S,), ascending. `sums`: float64 (S, len(SUMS)).
    """

    scores: dict[str, Any]
    subjects: NDArray[np.int64]
    sums: Array


def score_texts(
    hypotheses: Sequence[str],
    references: Sequence[Sequence[str]],
    *,
    template: Template,
    subjects: NDArray[np.int64],
    resampling: Resampling,
    lowercase: bool = False,
    loss: tuple[Array, Array] | None = None,
) -> TextScores:
    """Score N hypotheses against one or more references each.

    `subjects` (N,) tells which rows are resampled together. `loss` holds the summed negative
    log-likelihood in nats and the number of supervised tokens of each row. Findings are read from
    the first reference. `lowercase` makes BLEU ignore case; findings never heed it.
    """
    parsed = _parse_all(hypotheses, template)
    true = _parse_all([texts[0] for texts in references], template)
    stated_labels = label_matrix([text.labels for text in parsed])
    true_labels = label_matrix([text.labels for text in true])
    rows = len(hypotheses)
    values = np.concatenate(
        [
            sentence_statistics(hypotheses, references, lowercase=lowercase),
            *(
                mention_counts(stated_labels, true_labels, mention).reshape(rows, -1)
                for mention in MENTIONS.values()
            ),
            np.stack(loss if loss is not None else [np.zeros(rows)] * 2, axis=1),
        ],
        axis=1,
    )
    distinct, sums = cluster_sums(values, subjects)
    total = sums.sum(axis=0)
    resamples = resampled_sums(sums, resampling.samples, resampling.seed)
    names = [name for name in METRICS if loss is not None or name != "test_loss"]
    scores = {
        **{name: _number(METRICS[name](total)) for name in names},
        "bleu_signature": signature(references, lowercase=lowercase),
        "intervals": {
            name: percentile_interval(METRICS[name](resamples), resampling.confidence)
            for name in names
        },
        "findings": {mention: mention_scores(_counts(total, mention)) for mention in MENTIONS},
        **_account(hypotheses, parsed),
    }
    return TextScores(scores, distinct, sums)


def score_predictions(
    predictions: str | Path,
    *,
    train: str | Path,
    template: str,
    bootstrap_samples: int,
    confidence: float,
    seed: int,
    output: str | Path,
    sums: str | Path,
) -> None:
    """Score one run's predictions; write `output` (JSON) and `sums` (by subject).

    Both baselines are made from the training split alone: `constant` is its commonest report,
    `label_prior` always states its commonest present pathologies, as many as its reports have on
    average; `best_prior` states so many of them as give the best findings F1 on the training split.
    BLEU is taken of `reports.normalise`d texts, since decoding may have lost case and spacing.
    Raises `InputError` for a table without rows, or without the columns it needs.
    """
    table = _read(
        predictions, ("dicom_id", "subject_id", "reference", "hypothesis", "tokens", "nll")
    )
    training = _read(train, ("report", *LABELS))
    chosen = load_template(template)
    resampling = Resampling(bootstrap_samples, confidence, seed)
    references = [[normalise(text)] for text in table["reference"]]
    subjects = table["subject_id"].to_numpy().astype(np.int64)
    tokens = table["tokens"].to_numpy().astype(np.float64)

    def scored(texts: Sequence[str], nll: str | None = None) -> TextScores:
        return score_texts(
            [normalise(text) for text in texts],
            references,
            template=chosen,
            subjects=subjects,
            resampling=resampling,
            loss=None if nll is None else (table[nll].to_numpy().astype(np.float64), tokens),
        )

    sets = {"model": scored(table["hypothesis"].to_list(), "nll")}
    if "hypothesis_shuffled" in table.columns:
        sets["shuffled"] = scored(table["hypothesis_shuffled"].to_list(), "nll_shuffled")
    constants = constant_reports(training, chosen)
    for name, constant in constants.items():
        sets[name] = scored([constant.text] * table.height)
    write_table(
        pl.concat(
            pl.DataFrame({"texts": name, "subject_id": part.subjects}).hstack(
                pl.DataFrame(part.sums, schema=list(SUMS), orient="row")
            )
            for name, part in sets.items()
        ),
        sums,
    )
    write_json(
        output,
        {
            **sets["model"].scores,
            "rows": table.height,
            "subjects": len(sets["model"].subjects),
            "shuffled": sets["shuffled"].scores if "shuffled" in sets else None,
            "baselines": {
                name: {**constant.account, **sets[name].scores}
                for name, constant in constants.items()
            },
            "resampling": {
                "unit": "subject",
                "samples": bootstrap_samples,
                "confidence": confidence,
                "seed": seed,
            },
            "definitions": DEFINITIONS,
        },
    )
    log.info("scored %d reports of %d subjects", table.height, len(sets["model"].subjects))


DEFINITIONS: Final = {
    "test_loss": "mean negative log-likelihood a supervised token of the test reports, in nats",
    "bleu": "corpus BLEU by sacrebleu, 0 to 100, of texts in lower case with marks set apart",
    "bleu_0_1": "corpus BLEU by the formula of Hugging Face evaluate's bleu, which the published "
    "code calls, 0 to 1: the same tokens, no smoothing",
    "findings_f1": "micro F1 of pathologies stated as present, over the 13 pathologies; No Finding "
    "has no part in it; null where no text states any",
    "findings_macro_f1": "mean F1 of present pathologies over those that occur in the references",
    "intervals": "percentile bootstrap over subjects",
    "unparsable_share": "share of the hypotheses' sentences that are no sentence of the template",
    "shuffled": "reports written for the same test images permuted among themselves",
}


@dataclass(frozen=True)
class Constant:
    """A report that is given whatever the image shows: its text and where it comes from."""

    text: str
    account: dict[str, Any]


def constant_reports(training: pl.DataFrame, template: Template) -> dict[str, Constant]:
    """Return the baselines `constant`, `label_prior` and `best_prior` of a training split.

    Ties go to the text that sorts first, and to the label that comes first in `LABELS`.
    """
    counts = Counter(training["report"].to_list())
    commonest = min(counts, key=lambda text: (-counts[text], text))
    present = np.array([int((training[label] == Mention.PRESENT).sum()) for label in PATHOLOGIES])
    order = np.argsort(-present, kind="stable")
    on_average = max(1, int(present.sum() / training.height + 0.5))
    found = np.cumsum(present[order])
    stated = training.height * np.arange(1, len(order) + 1)
    best = int(np.argmax(2 * found / (stated + present.sum()))) + 1
    constants = {
        "constant": Constant(commonest, {"training_reports": counts[commonest] / training.height})
    }
    for name, number in (("label_prior", on_average), ("best_prior", best)):
        chosen = [PATHOLOGIES[label] for label in sorted(order[:number])]
        text = template.render(dict.fromkeys(chosen, int(Mention.PRESENT)))
        constants[name] = Constant(text or "", {"pathologies": chosen})
    return constants


def _parse_all(texts: Sequence[str], template: Template) -> list[Parsed]:
    known = {text: template.parse(text) for text in dict.fromkeys(texts)}
    return [known[text] for text in texts]


def _account(texts: Sequence[str], parsed: Sequence[Parsed]) -> dict[str, Any]:
    """Tell how the hypotheses are as texts: variety, and what the template cannot read."""
    sentences = sum(
        sum(bool(part.strip()) for part in normalise(text).split(".")) for text in texts
    )
    unparsed = sum(len(text.unparsed) for text in parsed)
    return {
        "distinct_texts": len(set(texts)),
        "empty_texts": sum(not text.strip() for text in texts),
        "sentences": sentences,
        "unparsable_sentences": unparsed,
        "unparsable_share": unparsed / sentences if sentences else None,
        "texts_with_unparsable": sum(bool(text.unparsed) for text in parsed),
        "texts_with_contradiction": sum(bool(text.contradicted) for text in parsed),
    }


def _number(value: Array) -> float | None:
    return None if np.isnan(value) else float(value)


def _read(path: str | Path, columns: Sequence[str]) -> pl.DataFrame:
    table = pl.read_parquet(path)
    missing = [column for column in columns if column not in table.columns]
    if missing:
        raise InputError(
            f"{path}: no column {missing[0]!r}, found {', '.join(table.columns)}; "
            "was it made by another version?"
        )
    if table.is_empty():
        raise InputError(f"{path}: no rows, expected at least one report")
    return table


def score_files(
    hypotheses: str | Path,
    references: str | Path,
    *,
    template: str = "corrected",
    lowercase: bool = False,
    resampling: Resampling = Resampling(1000, 0.95, 7),
) -> dict[str, Any]:
    """Return the text scores of two UTF-8 files, one text a line.

    The reference file has either as many lines as the other, or as many groups of lines set apart
    by empty lines (several references a text, as in the E2E challenge). Each line is a subject of
    its own. Raises `InputError` for a missing or empty file, or numbers that do not agree.
    """
    texts = _lines(hypotheses)
    lines = _lines(references)
    groups = [[line] for line in lines]
    if len(groups) != len(texts):
        blocks = "\n".join(lines).strip("\n").split("\n\n")
        groups = [[line for line in block.split("\n") if line] for block in blocks]
    if len(groups) != len(texts):
        raise InputError(
            f"{references}: {len(lines)} lines, expected {len(texts)} as in {hypotheses}, "
            "or as many groups of lines set apart by empty lines"
        )
    scored = score_texts(
        texts,
        groups,
        template=load_template(template),
        subjects=np.arange(len(texts)),
        resampling=resampling,
        lowercase=lowercase,
    )
    return {
        **scored.scores,
        "rows": len(texts),
        "references": sum(len(group) for group in groups),
        "template": template,
        "resampling": {
            "unit": "line",
            "samples": resampling.samples,
            "confidence": resampling.confidence,
            "seed": resampling.seed,
        },
    }


def _lines(path: str | Path) -> list[str]:
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(
            f"{path}: {error.strerror}; expected a text file, one text a line"
        ) from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 at byte {error.start}") from None
    lines = text.removesuffix("\n").split("\n")
    if lines == [""]:
        raise InputError(f"{path}: empty, expected one text a line")
    return [line.removesuffix("\r") for line in lines]


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the text scores of two files as JSON; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m peft_ablation.scoring",
        description="Score texts against references, line by line; prints JSON.",
    )
    parser.add_argument("hypotheses", help="UTF-8 file, one text a line")
    parser.add_argument(
        "references",
        help="UTF-8 file, one reference a line, or groups of references set apart by empty lines",
    )
    parser.add_argument("--template", default="corrected", help="template set to parse with")
    parser.add_argument("--lowercase", action="store_true", help="BLEU ignores case")
    parser.add_argument("--bootstrap-samples", type=int, default=1000, metavar="N")
    parser.add_argument("--confidence", type=float, default=0.95, metavar="SHARE")
    parser.add_argument("--seed", type=int, default=7)
    given = parser.parse_args(arguments)
    if given.bootstrap_samples < 1:
        parser.error(f"--bootstrap-samples: found {given.bootstrap_samples}, expected 1 or more")
    if not 0 < given.confidence < 1:
        parser.error(f"--confidence: found {given.confidence}, expected between 0 and 1")
    try:
        scores = score_files(
            given.hypotheses,
            given.references,
            template=given.template,
            lowercase=given.lowercase,
            resampling=Resampling(given.bootstrap_samples, given.confidence, given.seed),
        )
    except InputError as error:
        print(f"peft-ablation: {error}", file=sys.stderr)
        return 1
    print(json.dumps(scores, indent=2, ensure_ascii=False))
    return 0
