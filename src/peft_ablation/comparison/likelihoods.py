"""What models tell by likelihoods: each statement against its negation, given the input.

A model that writes a wrong text may still find the right one likelier than its negation. The area
under the ROC curve of that log-odds needs no threshold; the log-odds as a probability (its logistic
function, not recalibrated) are held against what is true, where the truth says either.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.special import expit

from peft_ablation.artifacts import write_table
from peft_ablation.comparison.pages import NONE, Block, Heading, Paragraph, Table, with_interval
from peft_ablation.errors import InputError
from peft_ablation.metrics.auroc import (
    BINS,
    arm_scores,
    bins,
    brier,
    calibration_error,
    reliability_sums,
)
from peft_ablation.metrics.intervals import ArmScores, estimate
from peft_ablation.metrics.metric import Array
from peft_ablation.tasks import Discrimination, Task, open_task

log = logging.getLogger(__name__)

ALL: Final = "all"
"""Line of what is over all statements: the mean area, the Brier score, the calibration error."""
FEWEST: Final = 10
"""True or false statements below which an area says nothing, and its interval is not to be had."""
AUROC, BRIER, CALIBRATION = "auroc", "brier", "calibration_error"
COLUMNS: Final = {
    "statement": pl.String, "arm": pl.String, "positives": pl.Int64,
    "negatives": pl.Int64, "metric": pl.String, "score": pl.Float64, "score_low": pl.Float64,
    "score_high": pl.Float64, "difference": pl.Float64, "difference_low": pl.Float64,
    "difference_high": pl.Float64,
}  # fmt: skip
"""Columns of likelihoods.csv."""
CURVE: Final = {
    "arm": pl.String, "bin": pl.Int64, "examples": pl.Int64, "probability": pl.Float64,
    "share": pl.Float64,
}  # fmt: skip
"""Columns of reliability.csv: mean probability and share of true statements, over all runs."""


@dataclass(frozen=True)
class Line:
    """One score of one statement, or of all, in all arms."""

    statement: str
    metric: str
    arms: Mapping[str, ArmScores | None]
    positives: int
    negatives: int


def compare_likelihoods(
    *,
    runs: Sequence[tuple[str, int]],
    predictions: Sequence[str | Path],
    task: Mapping[str, Any],
    train: str | Path,
    reference: str | None,
    confidence: float,
    table: str | Path,
    reliability: str | Path,
) -> None:
    """Write areas by statement with Brier score and calibration error, and the reliability curve.

    `predictions` are in the order of `runs`. Raises `InputError` where they are of different
    examples, or were made without likelihoods.
    """
    bound = open_task(task, train)
    arms: dict[str, list[Mapping[str, Discrimination]]] = {}
    groups, count = _read(bound, runs, predictions, arms)
    lines = _areas(arms, groups, count)
    sums = {arm: [_calibration(run, groups, count) for run in found] for arm, found in arms.items()}
    first = next(iter(arms.values()))[0]
    true = sum(int((one.known & one.positive).sum()) for one in first.values())
    said = sum(int(one.known.sum()) for one in first.values())
    for name, value in ((BRIER, brier), (CALIBRATION, calibration_error)):
        scores = {arm: ArmScores.of(value, own) for arm, own in sums.items()}
        lines.append(Line(ALL, name, scores, true, said - true))
    rows = [row for line in lines for row in _rows(line, reference, confidence)]
    write_table(pl.DataFrame(rows, schema=COLUMNS), table)
    write_table(_curve(sums), reliability)
    log.info("compared the likelihoods of %d statements", len(first))


def _read(
    task: Task,
    runs: Sequence[tuple[str, int]],
    paths: Sequence[str | Path],
    arms: dict[str, list[Mapping[str, Discrimination]]],
) -> tuple[NDArray[np.int64], int]:
    """Fill `arms`, and return the place of each example's group, and how many there are."""
    first: pl.DataFrame | None = None
    for (arm, seed), path in zip(runs, paths, strict=True):
        found = pl.read_parquet(path)
        ids = found.select("example_id", "group")
        if first is None:
            first = ids
        if not ids.equals(first):
            raise InputError(
                f"{path}: predictions of arm {arm} seed {seed} are of other test examples than "
                f"those of arm {runs[0][0]}; remove the older ones and predict again"
            )
        if "log_odds" not in found.columns:
            raise InputError(
                f"{path}: no column 'log_odds', found {', '.join(found.columns)}; was it made by "
                "another version? Remove it and predict again"
            )
        arms.setdefault(arm, []).append(task.discriminations(found))
    assert first is not None
    names, places = np.unique(first["group"].to_numpy(), return_inverse=True)
    return places.astype(np.int64), len(names)


def _areas(
    arms: Mapping[str, Sequence[Mapping[str, Discrimination]]],
    groups: NDArray[np.int64],
    count: int,
) -> list[Line]:
    lines = []
    first = next(iter(arms.values()))[0]
    for name, told in first.items():
        rows = told.known
        truth = told.positive[rows]
        scores = {
            arm: arm_scores([run[name].log_odds[rows] for run in found], truth, groups[rows], count)
            if min(truth.sum(), (~truth).sum()) >= FEWEST
            else None
            for arm, found in arms.items()
        }
        lines.append(Line(name, AUROC, scores, int(truth.sum()), int((~truth).sum())))
    return [*lines, Line(ALL, AUROC, {arm: _mean(lines, arm) for arm in arms}, *_totals(lines))]


def _mean(lines: Sequence[Line], arm: str) -> ArmScores | None:
    """Return the mean area over the statements that have one."""
    known = [scores for line in lines if (scores := line.arms[arm]) is not None]
    if not known:
        return None
    return ArmScores(
        np.mean([one.runs for one in known], axis=0),
        np.mean([one.groups for one in known], axis=0),
    )


def _totals(lines: Sequence[Line]) -> tuple[int, int]:
    """Return the positives and negatives of the statements that have an area."""
    known = [line for line in lines if any(line.arms.values())]
    return sum(line.positives for line in known), sum(line.negatives for line in known)


def _calibration(run: Mapping[str, Discrimination], groups: NDArray[np.int64], count: int) -> Array:
    parts = [
        reliability_sums(
            expit(one.log_odds[one.known]), one.positive[one.known], groups[one.known], count
        )
        for one in run.values()
    ]
    total: Array = np.sum(parts, axis=0)
    return total


def _rows(line: Line, reference: str | None, confidence: float) -> list[dict[str, Any]]:
    theirs = None if reference is None else line.arms.get(reference)
    rows = []
    for arm, own in line.arms.items():
        score = None if own is None else estimate(own)
        low, high = (None, None) if score is None else score.interval(confidence)
        difference = None
        if own is not None and theirs is not None and arm != reference:
            difference = estimate(own, theirs)
        ends = (None, None) if difference is None else difference.interval(confidence)
        rows.append(
            {
                "statement": line.statement, "arm": arm, "positives": line.positives,
                "negatives": line.negatives, "metric": line.metric,
                "score": score and score.value,
                "score_low": None if low is None else max(low, 0.0),
                "score_high": None if high is None else min(high, 1.0),
                "difference": difference and difference.value,
                "difference_low": ends[0], "difference_high": ends[1],
            }
        )  # fmt: skip
    return rows


def _curve(sums: Mapping[str, Sequence[Array]]) -> pl.DataFrame:
    rows = []
    for arm, runs in sums.items():
        count, probability, positive = bins(np.sum([run.sum(axis=0) for run in runs], axis=0))
        for place in range(BINS):
            if count[place]:
                rows.append(
                    {
                        "arm": arm, "bin": place, "examples": int(count[place]),
                        "probability": probability[place] / count[place],
                        "share": positive[place] / count[place],
                    }
                )  # fmt: skip
    return pl.DataFrame(rows, schema=CURVE)


def likelihood_blocks(table: str | Path) -> list[Block]:
    """Return the section of the page, from what `compare_likelihoods` wrote."""
    rows = pl.read_csv(table, schema=COLUMNS)
    if rows.is_empty():
        return []
    arms = rows["arm"].unique(maintain_order=True).to_list()
    titles = {BRIER: "Brier score", CALIBRATION: "calibration error"}
    lines = []
    for (statement, metric), part in rows.group_by(
        "statement", "metric", maintain_order=True
    ):  # fmt: skip
        of = {row["arm"]: with_interval(row, "score", 3) for row in part.iter_rows(named=True)}
        said = "mean of these" if statement == ALL else statement
        title = titles.get(str(metric), f"AUROC, {said}")
        counts = (f"{part['positives'][0]:,}", f"{part['negatives'][0]:,}")
        lines.append([title, *counts, *(of.get(arm, NONE) for arm in arms)])
    return [
        Heading("What the likelihoods tell"),
        Table(("score", "true", "false", *arms), lines),
        Paragraph(
            "The model is given the input and asked how likely a statement is as its next "
            "sentence, and how likely its negation, where the truth says either: the area under "
            "the ROC curve of the difference of the log-likelihoods is 0.5 for a model that does "
            f"not look, whatever it writes (none where fewer than {FEWEST} are true, or false). "
            "Brier score and calibration error take the odds for a probability, as they are. A "
            "statement that reports make late is asked for early here, which may do a model "
            "wrong. Intervals of areas are by the placements of DeLong, summed by group; they are "
            "not corrected for the number of statements."
        ),
    ]
