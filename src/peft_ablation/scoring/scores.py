"""Scores of one run's predictions, with intervals and baselines.

Every score is a function of sums over test examples. They are summed by group first: the scores
come from the totals, the intervals from resampled groups, and `compare_arms` resamples the same
sums over arms and seeds.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from peft_ablation.artifacts import write_json, write_table
from peft_ablation.errors import InputError
from peft_ablation.metrics.bootstrap import cluster_sums, percentile_interval, resampled_sums
from peft_ablation.metrics.metric import (
    Array,
    Metric,
    present,
    statistics_of,
    sum_columns,
    value_of,
)
from peft_ablation.tasks import NEAREST, open_task

log = logging.getLogger(__name__)

DEFINITIONS: Final = {
    "intervals": "percentile bootstrap over groups",
    "shuffled": "what is predicted from the same test inputs, permuted among themselves",
}
"""What of scores.json is no metric and is not said by its name."""

MODEL, SHUFFLED = "model", "shuffled"
"""Names of sets of predictions: a model's own, under the control that all tasks have, and of the
baseline that looks up training examples; further controls and baselines have their own."""


@dataclass(frozen=True)
class Resampling:
    """How intervals are made: number of resamples, level, seed."""

    samples: int
    confidence: float
    seed: int


@dataclass(frozen=True)
class Scores:
    """Scores of one set of predictions, and the sums by group behind them.

    `values`: JSON-able. `groups`: (G,), ascending. `sums`: float64 (G, len(columns)); a column that
    the predictions do not allow is 0.
    """

    values: dict[str, Any]
    groups: NDArray[Any]
    sums: Array


def score_table(
    predictions: pl.DataFrame,
    metrics: Sequence[Metric],
    *,
    groups: NDArray[Any],
    resampling: Resampling,
) -> Scores:
    """Score predictions (N rows) by the metrics that their columns allow.

    `groups` (N,) tells which rows are resampled together.
    """
    columns = sum_columns(metrics)
    found = present(metrics, predictions.columns)
    values = np.zeros((predictions.height, len(columns)))
    places = [columns.index(name) for name in sum_columns(found)]
    values[:, places] = statistics_of(found, predictions)
    distinct, sums = cluster_sums(values, groups)
    total = sums.sum(axis=0)
    resamples = resampled_sums(sums, resampling.samples, resampling.seed)
    scores: dict[str, Any] = {m.name: _number(value_of(m, columns, total)) for m in found}
    scores |= {f"{m.name}_signature": m.signature for m in found if m.signature is not None}
    scores["intervals"] = {
        metric.name: percentile_interval(
            value_of(metric, columns, resamples), resampling.confidence
        )
        for metric in found
    }
    return Scores(scores, distinct, sums)


def score_predictions(
    predictions: str | Path,
    *,
    task: Mapping[str, Any],
    train: str | Path,
    bootstrap_samples: int,
    confidence: float,
    seed: int,
    output: str | Path,
    sums: str | Path,
    nearest: str | Path | None = None,
) -> None:
    """Score one run's predictions; write `output` (JSON) and `sums` (by group).

    Baselines are made from the training split alone; `nearest` is what `write_nearest` wrote, where
    the task has such a baseline. Raises `InputError` for a table without rows,
    or without the columns it needs.
    """
    table = _read(predictions)
    bound = open_task(task, train)
    metrics = bound.metrics
    resampling = Resampling(bootstrap_samples, confidence, seed)
    groups = table["group"].to_numpy()
    controls = bound.controls()
    own, changed = _variants(table, (SHUFFLED, *controls))
    missing = [name for metric in metrics for name in metric.needs if name not in own.columns]
    if missing:
        raise InputError(
            f"{predictions}: no column {missing[0]!r}, found {', '.join(table.columns)}; "
            "was it made by another version?"
        )
    tables = {MODEL: own, **changed}
    baselines = bound.baselines()
    for name, baseline in baselines.items():
        fixed = [pl.lit(value).alias(column) for column, value in baseline.columns.items()]
        # What a baseline does not say (a loss, say) it has not, whatever the model said.
        tables[name] = own.select(*bound.truth, *fixed)
    titles = {name: {"title": line.title, **line.account} for name, line in baselines.items()}
    if nearest is not None and bound.nearest is not None:
        found = pl.read_parquet(nearest)
        looked_up = own.select("example_id").join(found, on="example_id", maintain_order="left")
        if looked_up.height < own.height:
            raise InputError(
                f"{nearest}: lacks {own.height - looked_up.height} of {own.height} examples of "
                f"{predictions}; was it made of another test split?"
            )
        tables[NEAREST] = own.select(*bound.truth).hstack(looked_up.drop("example_id"))
        titles[NEAREST] = {"title": bound.nearest.title}
    sets = {
        name: score_table(part, metrics, groups=groups, resampling=resampling)
        for name, part in tables.items()
    }
    write_table(
        pl.concat(
            pl.DataFrame({"predictions": name, "group": part.groups}).hstack(
                pl.DataFrame(part.sums, schema=list(sum_columns(metrics)), orient="row")
            )
            for name, part in sets.items()
        ),
        sums,
    )
    details = {name: bound.details(part) for name, part in tables.items()}
    write_json(
        output,
        {
            **sets[MODEL].values,
            **details[MODEL],
            "rows": table.height,
            "groups": len(sets[MODEL].groups),
            **{
                name: {**sets[name].values, **details[name]} if name in sets else None
                for name in (SHUFFLED, *controls)
            },
            "baselines": {
                name: {**told, **sets[name].values, **details[name]}
                for name, told in titles.items()
            },
            "resampling": {
                "unit": "group",
                "samples": bootstrap_samples,
                "confidence": confidence,
                "seed": seed,
            },
            "definitions": {metric.name: metric.definition for metric in metrics}
            | DEFINITIONS
            | {name: control.meaning for name, control in controls.items()},
        },
    )
    log.info("scored %d examples of %d groups", table.height, len(sets[MODEL].groups))


def _read(path: str | Path) -> pl.DataFrame:
    table = pl.read_parquet(path)
    if table.is_empty():
        raise InputError(f"{path}: no rows, expected at least one example")
    if "group" not in table.columns:
        raise InputError(
            f"{path}: no column 'group', found {', '.join(table.columns)}; "
            "was it made by another version?"
        )
    return table


def _variants(
    table: pl.DataFrame, controls: Sequence[str]
) -> tuple[pl.DataFrame, dict[str, pl.DataFrame]]:
    """Return what is predicted from the true inputs, and under each control that is there."""
    # `predicted_second_shuffled` is of the control with the longer name.
    longest_first = sorted(controls, key=len, reverse=True)
    of = {
        column: next(name for name in longest_first if column.endswith(f"_{name}"))
        for column in table.columns
        if column.endswith(tuple(f"_{name}" for name in controls))
    }
    own = table.drop(list(of))
    changed = {
        name: own.with_columns(
            table[column].alias(column.removesuffix(f"_{name}"))
            for column, control in of.items()
            if control == name
        )
        for name in controls
        if name in of.values()
    }
    return own, changed


def _number(value: Array) -> float | None:
    return None if np.isnan(value) else float(value)
