"""Does a model look at its inputs: its score beside that of changed inputs, and of no model at all.

One table for every task. A control changes the test inputs and lets the same model predict again; a
baseline predicts without a model. The difference of a model's score to either is paired by test
group and by seed, as both are of the same runs.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final

import numpy as np
import polars as pl

from peft_ablation.comparison.pages import NONE, Block, Heading, Items, Table, plain, with_interval
from peft_ablation.comparison.words import Words
from peft_ablation.metrics.intervals import ArmScores, Estimate, estimate
from peft_ablation.metrics.metric import Array, Metric, value_of
from peft_ablation.scoring.scores import MODEL, SHUFFLED

SUMS = Mapping[str, Mapping[str, Sequence[Array]]]
"""By arm and by set of predictions: the sums by group (G, columns) of each run."""

SHUFFLED_TITLE: Final = "inputs shuffled"
COLUMNS: Final = {
    "arm": pl.String, "given": pl.String, "kind": pl.String, "title": pl.String,
    "metric": pl.String, "score": pl.Float64, "score_low": pl.Float64, "score_high": pl.Float64,
    "above": pl.Float64, "above_low": pl.Float64, "above_high": pl.Float64,
}  # fmt: skip
"""Columns of looks.csv; `kind` is `own`, `control` or `baseline`, `above` is the score
of the model's own inputs less this one."""


def looks_table(
    sums: SUMS,
    columns: Sequence[str],
    metrics: Sequence[Metric],
    absent: Mapping[str, Sequence[str]],
    words: Words,
    confidence: float,
) -> pl.DataFrame:
    """Return a row an arm, compared metric and thing that is given (`COLUMNS`).

    `columns` names the sums; `absent`: metrics that a set of predictions has not (a constant has no
    loss), by the set's name.
    """
    given = {
        MODEL: ("own", "own inputs"),
        SHUFFLED: ("control", SHUFFLED_TITLE),
        **{name: ("control", told["title"]) for name, told in words.controls.items()},
        **{name: ("baseline", title) for name, title in words.baselines.items()},
    }
    rows = []
    for arm, sets in sums.items():
        for metric in (metric for metric in metrics if metric.compared):
            score = partial(value_of, metric, columns)
            own = ArmScores.of(score, sets[MODEL])
            for name, (kind, title) in given.items():
                if name not in sets or metric.name in absent.get(name, ()):
                    continue
                scores = ArmScores.of(score, sets[name])
                runs = [float(score(run.sum(axis=0))) for run in sets[name]]
                alone = None if scores is None else estimate(scores)
                pair = None
                if own is not None and scores is not None and name != MODEL:
                    pair = _less(own, scores)
                rows.append(
                    {
                        "arm": arm, "given": name, "kind": kind, "title": title,
                        "metric": metric.name,
                        "score": None if np.isnan(runs).any() else float(np.mean(runs)),
                        **_ends("score", alone, confidence, metric.bounds),
                        "above": pair and pair.value,
                        **_ends("above", pair, confidence),
                    }
                )  # fmt: skip
    return pl.DataFrame(rows, schema=dict(COLUMNS))


def _less(own: ArmScores, other: ArmScores) -> Estimate:
    """Return the difference of two scores of the same runs on the same groups."""
    return estimate(ArmScores(own.runs - other.runs, own.groups - other.groups))


def _ends(
    name: str,
    found: Estimate | None,
    confidence: float,
    bounds: tuple[float, float] = (-np.inf, np.inf),
) -> dict[str, float | None]:
    if found is None:
        return {f"{name}_low": None, f"{name}_high": None}
    low, high = found.interval(confidence)
    return {f"{name}_low": max(low, bounds[0]), f"{name}_high": min(high, bounds[1])}


def looks_blocks(
    looks: pl.DataFrame, rows: Sequence[Mapping[str, Any]], words: Words
) -> list[Block]:
    """Return the section of the page: the headline by what is given, and the verdicts on it.

    `rows` are those of `comparison.csv`.
    """
    headline = looks.filter(metric=words.headline)
    digits = words.metrics[words.headline]["digits"]
    arms = [row["arm"] for row in rows]
    lines = []
    for (_, kind, title), part in headline.group_by(
        "given", "kind", "title", maintain_order=True
    ):  # fmt: skip
        of = {r["arm"]: with_interval(r, "score", digits) for r in part.iter_rows(named=True)}
        said = f"{title} (no training)" if kind == "baseline" else str(title)
        lines.append([said, *(of.get(arm, NONE) for arm in arms)])
    lost = [plain(row[f"{words.headline}_lost_when_shuffled"], 0, 100, " %") for row in rows]
    lines.append(["lost when inputs are shuffled", *lost])
    for claim in words.claims:
        title = words.baselines.get(claim.baseline, claim.baseline)
        beaten = [_yes(row[words.claim(claim)]) for row in rows]
        lines.append([f"beats {title}: {words.title(claim.metric)}", *beaten])
    lines.append(["loses half when shuffled", *(_yes(r["loses_half_when_shuffled"]) for r in rows)])
    lines.append(["all of these", *(_yes(row["honest_learning"]) for row in rows)])
    return [
        Heading("Does the model look at its input?"),
        Table((f"{words.title(words.headline)} of", *arms), lines),
        Items(_meanings(words)),
    ]


def _meanings(words: Words) -> list[str]:
    nearest = [] if words.nearest is None else [list(words.baselines.values())[-1]]
    return [
        f"{SHUFFLED_TITLE.capitalize()}: the test inputs are permuted among themselves before the "
        f"model predicts. A model that reads them loses its {words.title(words.headline)}; lost is "
        "the share of what it has above the baseline that it should fall to.",
        *(
            f"{_capital(control['title'])}: {control['meaning']}."
            for control in words.controls.values()
        ),
        f"No training: what is given for every {words.example} alike, made from the training split "
        "alone. A constant can score high without looking at any input: an arm must beat it.",
        *(f"{_capital(title)}: {words.nearest}." for title in nearest),
        "Other metrics, and by how much each model is above what it has with changed inputs, with "
        "intervals paired by group and seed, are in looks.csv.",
    ]


def _capital(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}"


def _yes(value: bool | None) -> str:
    return NONE if value is None else ("yes" if value else "no")
