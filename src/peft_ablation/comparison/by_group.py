"""Scores by subgroup: by what is told (a finding, a class), and by columns that a study names.

A subgroup's score is that of the sums over its examples. Whoever has examples in two subgroups (a
patient with two views) counts in both, each time with the examples of that subgroup alone.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl

from peft_ablation.artifacts import read_json, write_json, write_table
from peft_ablation.comparison.decision import holm
from peft_ablation.comparison.pages import Block, Heading, Paragraph, Table, plain, with_interval
from peft_ablation.comparison.words import Words
from peft_ablation.errors import InputError
from peft_ablation.metrics.bootstrap import cluster_sums
from peft_ablation.metrics.intervals import ArmScores, Estimate, estimate
from peft_ablation.metrics.metric import (
    Array,
    Breakdown,
    Metric,
    bounds,
    statistics_of,
    sum_columns,
    value_of,
)
from peft_ablation.tasks import Task, open_task

log = logging.getLogger(__name__)

MISSING: Final = "(missing)"
"""Subgroup of the examples without a value."""
MOST_VALUES: Final = 50
"""A column with more values tells no subgroups, but examples apart."""
FEWEST_GROUPS: Final = 2
SHOWN: Final = 30
"""Most lines of one table on the page; the CSV has all."""

COLUMNS: Final = {
    "column": pl.String, "value": pl.String, "arm": pl.String, "seeds": pl.Int64,
    "examples": pl.Int64, "groups": pl.Int64, "metric": pl.String, "title": pl.String,
    "unit": pl.String, "score": pl.Float64, "score_low": pl.Float64, "score_high": pl.Float64,
    "difference": pl.Float64, "difference_low": pl.Float64, "difference_high": pl.Float64,
    "p_holm": pl.Float64,
}  # fmt: skip
"""Columns of by_group.csv."""

BySeed = Mapping[str, Sequence[Array]]
"""Sums by group, (G, K), of each run of each arm."""


@dataclass(frozen=True)
class Cell:
    """One score of one subgroup, in all arms."""

    column: str
    value: str
    metric: Metric | Breakdown
    score: Callable[[Array], Array]
    """Sums (…, K) → (…)."""
    sums: BySeed
    """Of the groups that have a part in the subgroup, the same for all runs."""
    examples: int
    groups: int


def compare_by_group(
    *,
    runs: Sequence[tuple[str, int]],
    sums: Sequence[str | Path],
    predictions: Sequence[str | Path],
    test: str | Path | None,
    columns: Sequence[str],
    public: bool,
    task: Mapping[str, Any],
    train: str | Path,
    reference: str | None,
    confidence: float,
    table: str | Path,
    account: str | Path,
) -> None:
    """Write scores by subgroup (`table`), and the largest difference of each column (`account`).

    `sums` and, where `columns` of the `test` split are named, `predictions` are in the order of
    `runs`. Raises `InputError` for a column that is not there, or that tells examples apart.
    """
    bound = open_task(task, train)
    arms = [arm for arm, _ in runs]
    cells = _told(bound, arms, sums)
    if columns:
        assert test is not None
        cells += _named(bound, arms, predictions, test, columns, public)
    rows: list[dict[str, Any]] = []
    largest = []
    for column in dict.fromkeys(cell.column for cell in cells):
        own = [cell for cell in cells if cell.column == column]
        names = dict.fromkeys(cell.metric.name for cell in own)
        for name in names:
            alike = [cell for cell in own if cell.metric.name == name]
            scores = {cell.value: _scores(cell) for cell in alike}
            rows += _rows(alike, scores, reference, confidence)
            told = alike[0].metric
            largest.append(
                {
                    "column": column, "metric": name, "title": told.title, "digits": told.digits,
                    "headline": len(names) == 1 or name == bound.headline,
                    "largest": _largest(scores, confidence),
                }
            )  # fmt: skip
    write_table(pl.DataFrame(rows, schema=COLUMNS), table)
    write_json(account, {"tables": largest})
    log.info("scored %d subgroups", len({(row["column"], row["value"]) for row in rows}))


def _told(task: Task, arms: Sequence[str], paths: Sequence[str | Path]) -> list[Cell]:
    """Return the cells of a task's own breakdowns, from the sums of all examples."""
    found = []
    breakdowns = task.breakdowns()
    if not breakdowns:
        return []
    tables = [pl.read_parquet(path).filter(pl.col("predictions") == "model") for path in paths]
    for column, breakdown in breakdowns.items():
        for part, names in breakdown.parts.items():
            runs = [table.select(names).to_numpy().astype(np.float64) for table in tables]
            # Groups that this part does not touch tell nothing of it.
            touched = np.any([run.any(axis=1) for run in runs], axis=0)
            counts = runs[0][:, list(breakdown.counted)].sum(axis=1)
            found.append(
                Cell(
                    column, part, breakdown, breakdown.value,
                    _by_arm(arms, [run[touched] for run in runs]),
                    int(counts.sum()), int((counts > 0).sum()),
                )
            )  # fmt: skip
    return found


def _named(
    task: Task,
    arms: Sequence[str],
    paths: Sequence[str | Path],
    test: str | Path,
    columns: Sequence[str],
    public: bool,
) -> list[Cell]:
    """Return the cells of columns of the test split."""
    metrics = [metric for metric in task.metrics if metric.compared]
    names = sum_columns(metrics)
    tables = [pl.read_parquet(path) for path in paths]
    statistics = [statistics_of(metrics, table) for table in tables]
    first = tables[0].select("example_id", "group")
    for arm, table in zip(arms, tables, strict=True):
        if not table.select("example_id", "group").equals(first):
            raise InputError(
                f"arm {arm}: predictions are of other test examples than those of arm {arms[0]}; "
                "a comparison needs one test split: remove the older ones and predict again"
            )
    values = subgroups(test, columns, public)
    found = []
    for column in columns:
        of = first.join(values, on="example_id", how="left", maintain_order="left")[column]
        for value in sorted(of.unique(), key=lambda name: (name == MISSING, name)):
            rows = (of == value).to_numpy()
            groups = first["group"].to_numpy()[rows]
            runs = [cluster_sums(part[rows], groups)[1] for part in statistics]
            found += [
                Cell(
                    column, value, metric, partial(value_of, metric, names), _by_arm(arms, runs),
                    int(rows.sum()), len(runs[0]),
                )
                for metric in metrics
            ]  # fmt: skip
    return found


def subgroups(test: str | Path, columns: Sequence[str], public: bool) -> pl.DataFrame:
    """Return `example_id` and each column as text, `MISSING` where it has no value.

    Raises `InputError` for a column that is not there, is a list, or has so many values that it
    tells examples apart rather than subgroups of them.
    """
    table = pl.read_parquet(test)
    for column in columns:
        where = f"score.subgroups: column {column!r} of {test}"
        if column not in table.columns:
            raise InputError(f"{where} is not there, found {', '.join(table.columns)}")
        if table.schema[column].is_nested():
            raise InputError(f"{where} holds lists, expected one value a row; take it out")
        different = table[column].drop_nulls().n_unique()
        if different > MOST_VALUES or (not public and 2 * different > max(table.height, 4)):
            raise InputError(
                f"{where} has {different} values in {table.height} rows, expected at most "
                f"{MOST_VALUES}{'' if public else ' and two rows a value'}; take it out"
            )
    return table.select(
        "example_id", pl.col(list(columns)).cast(pl.String).replace("", None).fill_null(MISSING)
    )


def _by_arm(arms: Sequence[str], runs: Sequence[Array]) -> dict[str, list[Array]]:
    found: dict[str, list[Array]] = {}
    for arm, run in zip(arms, runs, strict=True):
        found.setdefault(arm, []).append(run)
    return found


def _scores(cell: Cell) -> dict[str, ArmScores | None]:
    """Return each arm's scores; None where no interval can be made."""
    if cell.groups < FEWEST_GROUPS:
        return dict.fromkeys(cell.sums)
    return {arm: ArmScores.of(cell.score, runs) for arm, runs in cell.sums.items()}


def _rows(
    cells: Sequence[Cell],
    scores: Mapping[str, Mapping[str, ArmScores | None]],
    reference: str | None,
    confidence: float,
) -> list[dict[str, Any]]:
    """Return the rows of one table; Holm's correction is over its differences to the reference."""
    differences: dict[tuple[str, str], Estimate] = {}
    for value, by_arm in scores.items():
        theirs = by_arm.get(reference) if reference is not None else None
        for arm, ours in by_arm.items():
            if ours is not None and theirs is not None and arm != reference:
                differences[arm, value] = estimate(ours, theirs)
    corrected = holm({key: one.p_value() for key, one in differences.items()})
    rows = []
    for cell in cells:
        for arm, runs in cell.sums.items():
            own = scores[cell.value][arm]
            low, high = (None, None) if own is None else estimate(own).interval(confidence)
            least, most = bounds(cell.metric.unit)
            totals = [float(cell.score(run.sum(axis=0))) for run in runs]
            difference = differences.get((arm, cell.value))
            ends = (None, None) if difference is None else difference.interval(confidence)
            rows.append(
                {
                    "column": cell.column, "value": cell.value, "arm": arm, "seeds": len(runs),
                    "examples": cell.examples, "groups": cell.groups,
                    "metric": cell.metric.name, "title": cell.metric.title,
                    "unit": cell.metric.unit,
                    "score": None if np.isnan(totals).any() else float(np.mean(totals)),
                    "score_low": None if low is None else max(low, least),
                    "score_high": None if high is None else min(high, most),
                    "difference": difference and difference.value,
                    "difference_low": ends[0], "difference_high": ends[1],
                    "p_holm": corrected.get((arm, cell.value)),
                }
            )  # fmt: skip
    return rows


def _largest(
    scores: Mapping[str, Mapping[str, ArmScores | None]], confidence: float
) -> dict[str, Any] | None:
    """Return the largest difference of two arms in any subgroup; None where there is none.

    Its p is Holm's over all pairs of arms in all subgroups, as the largest of many is chosen.
    """
    found: dict[tuple[str, str], tuple[str, str, Estimate]] = {}
    for value, by_arm in scores.items():
        known = [(arm, own) for arm, own in by_arm.items() if own is not None]
        for (one, ours), (other, theirs) in combinations(known, 2):
            difference = estimate(ours, theirs)
            if difference.value < 0:
                one, other, difference = other, one, difference.negative
            found[value, f"{one} {other}"] = one, other, difference
    if not any(difference.value for *_, difference in found.values()):
        return None
    corrected = holm({key: one.p_value() for key, (*_, one) in found.items()})
    key = max(found, key=lambda key: found[key][2].value)
    one, other, difference = found[key]
    low, high = difference.interval(confidence)
    return {
        "value": key[0], "arm": one, "other": other, "difference": difference.value,
        "difference_low": low, "difference_high": high, "p_holm": corrected[key],
        "comparisons": len(found),
    }  # fmt: skip


def by_group_rows(table: str | Path, account: str | Path) -> list[dict[str, Any]]:
    """Return the rows of by_group.csv, each with the `digits` of its score; headlines first."""
    rows = pl.read_csv(table, schema=COLUMNS)
    tables = sorted(read_json(account)["tables"], key=lambda told: not told["headline"])
    return [
        {**row, "digits": told["digits"]}
        for told in tables
        for row in rows.filter(column=told["column"], metric=told["metric"]).iter_rows(named=True)
    ]


def by_group_blocks(
    table: str | Path, account: str | Path, words: Words, confidence: float
) -> list[Block]:
    """Return the section of the page, from what `compare_by_group` wrote; nothing of an empty one.

    Of each column's scores the headline is shown, or the only one.
    """
    rows = pl.read_csv(table, schema=COLUMNS)
    blocks: list[Block] = []
    for told in read_json(account)["tables"]:
        own = rows.filter(column=told["column"], metric=told["metric"])
        if told["headline"]:
            blocks += _section(own, told, words)
    if not blocks:
        return []
    return [
        Heading("By subgroup"),
        Paragraph(
            "Exploratory: no test was planned for a subgroup, and the largest of many differences "
            f"is large by choice. Intervals ({100 * confidence:g} %) are not corrected; p is "
            f"Holm's, over all pairs of arms in all lines of a table. A subgroup of one "
            f"{words.group} has no interval. Other metrics are in by_group.csv."
        ),
        *blocks,
    ]


def _section(rows: pl.DataFrame, told: Mapping[str, Any], words: Words) -> list[Block]:
    arms = rows["arm"].unique(maintain_order=True).to_list()
    digits = told["digits"]
    parts = rows.partition_by("value", maintain_order=True)
    places = sorted(range(len(parts)), key=lambda place: -parts[place]["examples"][0])[:SHOWN]
    lines = [
        [
            part["value"][0],
            f"{part['examples'][0]:,}",
            f"{part['groups'][0]:,}",
            *(with_interval(row, "score", digits) for row in part.iter_rows(named=True)),
        ]
        for part in (parts[place] for place in sorted(places))
    ]
    column = told["column"].replace("_", " ")
    left = f"; {len(parts) - len(places)} smaller ones are in by_group.csv" * (len(parts) > SHOWN)
    return [
        Heading(f"{told['title'][:1].upper()}{told['title'][1:]} by {column}", 3),
        Table((column, f"{words.example}s", f"{words.group}s", *arms), lines),
        Paragraph(f"{_sentence(told, digits)}{left}."),
    ]


def _sentence(told: Mapping[str, Any], digits: int) -> str:
    largest = told["largest"]
    if largest is None:
        return "No arms differ in a subgroup that has an interval"
    p = largest["p_holm"]
    return (
        f"Largest difference between arms: {largest['arm']} less {largest['other']} at "
        f"{largest['value']}, {with_interval(largest, 'difference', digits, '+')}, p "
        f"{'< 0.001' if p < 0.001 else plain(p, 3)} (Holm's, of {largest['comparisons']})"
    )
