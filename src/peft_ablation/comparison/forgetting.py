"""What training has cost of what the bases could do before, and how far it has moved the weights.

A change is that of a run against its own base on the same examples, so it is paired by group and
by seed; intervals are those of the comparison.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl

from peft_ablation.artifacts import write_table
from peft_ablation.comparison.pages import NONE, Block, Heading, Items, Paragraph, Table, plain
from peft_ablation.comparison.pages import with_interval as interval_cell
from peft_ablation.comparison.words import Words, read_rows
from peft_ablation.metrics.bootstrap import cluster_sums
from peft_ablation.metrics.intervals import ArmScores, estimate
from peft_ablation.metrics.metric import Array, Metric, statistics_of, sum_columns, value_of
from peft_ablation.tasks import open_task

ALL: Final = "all"
DRIFT_DIGITS: Final = 3


def compare_forgetting(
    *,
    runs: Sequence[tuple[str, int]],
    before: Sequence[str | Path],
    after: Sequence[str | Path],
    drift: str | Path,
    task: Mapping[str, Any],
    train: str | Path,
    confidence: float,
    output: str | Path,
) -> None:
    """Write a row an arm: each compared metric before and after, its change, the weights' drift.

    `before` and `after` are predictions, one file each in the order of `runs`: those of the run's
    untouched base, and those of the run. Columns by metric: `<metric>_before`, `_after`, `_change`,
    `_change_low`, `_change_high`, `_change_by_seed`; `drift` (and `drift_<group>`), means over
    seeds, null where a method keeps something beside the base's weights.
    """
    metrics = tuple(m for m in open_task(task, train).metrics if m.compared)
    sums_of = {path: _sums(path, metrics) for path in dict.fromkeys((*before, *after))}
    columns = sum_columns(metrics)
    moved = pl.read_csv(drift, schema_overrides={"arm": pl.String, "drift": pl.Float64})
    groups = [ALL, *sorted(set(moved["group"]) - {ALL})]
    rows = []
    for arm in dict.fromkeys(name for name, _ in runs):
        own = [number for number, (name, _) in enumerate(runs) if name == arm]
        was, now = ([sums_of[paths[n]] for n in own] for paths in (before, after))
        row: dict[str, Any] = {
            "arm": arm,
            "seeds": len(own),
            "examples": pl.read_parquet(after[own[0]], columns=["example_id"]).height,
        }
        for metric in metrics:
            row |= _changed(metric, columns, was, now, confidence)
        for group in groups:
            values = moved.filter(pl.col("arm") == arm, pl.col("group") == group)["drift"]
            name = "drift" if group == ALL else f"drift_{group}"
            row[name] = values.mean()
        rows.append(row)
    write_table(pl.DataFrame(rows, infer_schema_length=None), output)


def _sums(path: str | Path, metrics: Sequence[Metric]) -> Array:
    table = pl.read_parquet(path)
    _, sums = cluster_sums(statistics_of(metrics, table), table["group"].to_numpy())
    return sums


def _changed(
    metric: Metric,
    columns: Sequence[str],
    before: Sequence[Array],
    after: Sequence[Array],
    confidence: float,
) -> dict[str, Any]:
    """Return a metric's columns of an arm, from sums by group (G, K) of each of its runs."""
    value = partial(value_of, metric, columns)
    was, now = ArmScores.of(value, before), ArmScores.of(value, after)
    found: dict[str, Any] = dict.fromkeys(
        f"{metric.name}_{end}"
        for end in ("before", "after", "change", "change_low", "change_high", "change_by_seed")
    )
    if was is None or now is None:
        return found
    change = ArmScores(now.runs - was.runs, now.groups - was.groups)
    told = estimate(change)
    low, high = told.interval(confidence)
    values = (
        float(np.mean(was.runs)), float(np.mean(now.runs)), told.value, low, high,
        " ".join(repr(float(each)) for each in change.runs),
    )  # fmt: skip
    return dict(zip(found, values, strict=True))


def forgetting_blocks(table: str | Path | None, words: Words) -> list[Block]:
    """Return the section of the comparison page on what `compare_forgetting` wrote, if it did."""
    heading = Heading("What is forgotten")
    if table is None:
        return [heading, Paragraph("Not measured.")]
    rows = read_rows(table)
    groups = [name for name in rows[0] if name.startswith("drift_")]
    metrics = [name for name in words.compared if f"{name}_change" in rows[0]]
    digits = {name: words.metrics[name]["digits"] for name in metrics}
    header = [
        "arm",
        *(f"{words.title(name)}{part}" for name in metrics for part in (", base", ", change")),
        "weights moved by",
        *(f"{name.removeprefix('drift_')}, moved by" for name in groups),
    ]
    cells = [
        [
            row["arm"],
            *(
                cell
                for name in metrics
                for cell in (
                    plain(row[f"{name}_before"], digits[name]),
                    interval_cell(row, f"{name}_change", digits[name], "+"),
                )
            ),
            *(_moved(row[name]) for name in ("drift", *groups)),
        ]
        for row in rows
    ]
    return [
        heading,
        Paragraph(
            f"{rows[0]['examples']:,} held-out examples of what the base could do before: the "
            "untouched base, and by how much each arm differs from it, mean over seeds."
        ),
        Table(header, cells),
        Items(
            [
                "Change: score of the arm less that of its own base on the same examples, with its "
                "interval over the examples and seeds. "
                + " ".join(
                    f"{words.title(name)[:1].upper()}{words.title(name)[1:]}: "
                    f"{'less' if words.metrics[name]['higher_is_better'] else 'more'} than 0 is "
                    "forgotten."
                    for name in metrics
                    if words.metrics[name]["higher_is_better"] is not None
                ),
                "Moved by: length of the change of all weights over that of the base's weights "
                "(Frobenius norms), adapters merged; "
                f"{NONE} where a method keeps something beside the weights, which do not move.",
            ]
        ),
    ]


def _moved(value: float | None) -> str:
    return NONE if value is None else f"{value:.{DRIFT_DIGITS}g}"
