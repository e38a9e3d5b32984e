"""Scores over a number that arms were swept over, and whether it matters more than the seed.

`points` has a row for each arm of a line and metric, with the numbers that were published of it,
and those of the reference arm; `spreads` a row for each line and metric.
"""

import logging
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl
from scipy.stats import t as student

from peft_ablation.artifacts import write_table
from peft_ablation.comparison.captions import counted, sentence
from peft_ablation.comparison.pages import Block, Heading, Items, Paragraph
from peft_ablation.comparison.runs import Run, mean, read_runs
from peft_ablation.config.swept import LEAST, SWEPT, swept_lines
from peft_ablation.metrics.intervals import ArmScores, estimate
from peft_ablation.metrics.metric import Metric, sum_columns, value_of
from peft_ablation.metrics.spread import UNDECIDED, spread
from peft_ablation.tasks import open_task

log = logging.getLogger(__name__)

OURS, REFERENCE, PUBLISHED = "ours", "reference", "published"
LOSS: Final = "best_val_loss"
"""The lowest validation loss of a run, as a column of the comparison calls it; the last metric."""

POINTS: Final = {
    "kind": pl.String, "line": pl.String, "arm": pl.String, "base": pl.String, "swept": pl.Float64,
    "trainable_percent": pl.Float64, "metric": pl.String, "title": pl.String, "unit": pl.String,
    "digits": pl.Int64, "score": pl.Float64, "low": pl.Float64, "high": pl.Float64,
    "by_seed": pl.String, "published_as": pl.String,
}  # fmt: skip
"""Columns of the points; `swept` is the arm's value of the swept number, null of the reference."""

SPREADS: Final = {
    "line": pl.String, "base": pl.String, "metric": pl.String, "title": pl.String,
    "values": pl.Int64, "seeds": pl.Int64, "sd_between": pl.Float64, "sd_seeds": pl.Float64,
    "ratio": pl.Float64, "ratio_low": pl.Float64, "ratio_high": pl.Float64, "matters": pl.String,
}  # fmt: skip
"""Columns of the spreads: standard deviations, and the ratio of their squares with its interval."""

Row = Mapping[str, Any]


def compare_sweep(
    *,
    runs: Sequence[tuple[str, int]],
    scores: Sequence[str | Path],
    sums: Sequence[str | Path],
    costs: Sequence[str | Path],
    arms: Mapping[str, Mapping[str, Any]],
    key: str,
    reference: str | None,
    task: Mapping[str, Any],
    train: str | Path,
    published: Sequence[Mapping[str, Any]],
    confidence: float,
    points: str | Path,
    spreads: str | Path,
) -> None:
    """Write the scores of the arms that differ in `key` alone (CSV), and how far they spread.

    `scores`, `sums` and `costs` are in the order of `runs`, those of the swept arms and of the
    `reference`; `arms` are their settings; `published` the numbers that
    `peft_ablation.comparison.published` reads. Intervals of scores are those of the comparison;
    those of the validation loss are over seeds alone, as no loss of single examples is kept.
    """
    bound = open_task(task, train)
    metrics = sorted(
        (m for m in bound.metrics if m.compared), key=lambda metric: metric.name != bound.headline
    )
    loaded = read_runs(runs, bound.metrics, scores, sums, costs)
    of_arm = {arm: [run for run in loaded if run.arm == arm] for arm in arms}
    places = [(line, arm) for line, names in swept_lines(arms, key).items() for arm in names]
    if reference is not None and reference not in {arm for _, arm in places}:
        places.append(("", reference))
    columns = sum_columns(bound.metrics)
    rows: list[dict[str, Any]] = []
    for metric in (*metrics, None):
        for line, arm in places:
            own = of_arm[arm]
            told = {
                "kind": OURS if line else REFERENCE,
                "line": line or None,
                "arm": arm,
                "base": own[0].cost["base"],
                "swept": float(arms[arm][key]) if line else None,
                "trainable_percent": _share(own[0]),
                "metric": metric.name if metric else LOSS,
                "title": metric.title if metric else "validation loss",
                "unit": metric.unit if metric else None,
                "digits": metric.digits if metric else 3,
            }
            rows.append({**told, **_scored(metric, columns, own, confidence)})
            if metric and line:
                rows += [{**told, **each} for each in _published(metric.name, arm, published)]
    table = pl.DataFrame(rows, schema=POINTS)
    write_table(table, points)
    write_table(pl.DataFrame(_spreads(table, confidence), schema=SPREADS), spreads)
    log.info("%d arms over %s", len(places), SWEPT[key])


def _share(run: Run) -> float:
    return 100 * float(run.cost["trainable_parameters"]) / float(run.cost["total_parameters"])


def _scored(
    metric: Metric | None, columns: Sequence[str], runs: Sequence[Run], confidence: float
) -> dict[str, Any]:
    """Return the mean of a metric over an arm's runs, its interval and the single runs.

    Without a metric, of the validation loss.
    """
    if metric is None:
        values = [run.cost.get(LOSS) for run in runs]
        ends = _over_seeds([value for value in values if value is not None], confidence)
    else:
        values = [run.scores.get(metric.name) for run in runs]
        own = ArmScores.of(partial(value_of, metric, columns), [run.sums["model"] for run in runs])
        ends = (None, None)
        if own is not None:
            least, most = metric.bounds
            low, high = estimate(own).interval(confidence)
            ends = max(low, least), min(high, most)
    known = " ".join(repr(float(value)) for value in values if value is not None)
    return {"score": mean(values), "low": ends[0], "high": ends[1], "by_seed": known}


def _over_seeds(
    values: Sequence[float], confidence: float
) -> tuple[float, float] | tuple[None, None]:
    """Return Student's interval of a mean over seeds; nothing of a single one."""
    count = len(values)
    if count < 2:
        return None, None
    reach = float(student.ppf((1 + confidence) / 2, count - 1)) * float(
        np.std(values, ddof=1) / np.sqrt(count)
    )
    return float(np.mean(values)) - reach, float(np.mean(values)) + reach


def _published(metric: str, arm: str, numbers: Sequence[Row]) -> list[dict[str, Any]]:
    return [
        {
            "kind": PUBLISHED,
            "score": float(number["value"]) / number["scale"],
            "published_as": number["published_as"],
        }
        for number in numbers
        if number["arm"] == arm and number["metric"] == metric
    ]


def _spreads(points: pl.DataFrame, confidence: float) -> list[dict[str, Any]]:
    rows = []
    ours = points.filter(pl.col("kind") == OURS)
    for (metric, line), part in ours.group_by("metric", "line", maintain_order=True):
        first = part.row(0, named=True)
        by_seed = [[float(value) for value in text.split()] for text in part["by_seed"]]
        seeds = min(map(len, by_seed))
        whole = seeds and all(len(values) == seeds for values in by_seed)
        found = spread(np.array(by_seed), confidence) if whole else None
        rows.append(
            {
                "line": line,
                "base": first["base"],
                "metric": metric,
                "title": first["title"],
                "values": part.height,
                "seeds": seeds,
                "sd_between": found and float(np.sqrt(found.between)),
                "sd_seeds": found and float(np.sqrt(found.within)),
                "ratio": found and found.ratio,
                "ratio_low": found and found.low,
                "ratio_high": found and found.high,
                "matters": found.verdict if found else UNDECIDED,
            }
        )
    return rows


def drawn_metrics(points: pl.DataFrame) -> list[str]:
    """Return the metrics that are shown: the headline, what others swept, the validation loss.

    A published series is three values or more that are not all the same.
    """
    metrics = points["metric"].unique(maintain_order=True).to_list()
    series = points.filter(pl.col("kind") == PUBLISHED).group_by("metric", "line")
    several = series.agg(pl.col("score").n_unique().alias("different"))
    swept = set(several.filter(pl.col("different") >= LEAST)["metric"])
    return [name for name in metrics if name in (metrics[0], LOSS) or name in swept]


def read_points(path: str | Path) -> pl.DataFrame:
    """Read the points that `compare_sweep` wrote."""
    return pl.read_csv(path, schema_overrides=POINTS)


def read_spreads(path: str | Path) -> pl.DataFrame:
    """Read the spreads that `compare_sweep` wrote."""
    return pl.read_csv(path, schema_overrides=SPREADS)


def in_short(row: Row, key: str) -> str:
    """Return a row of the spreads as the heading of a panel."""
    if row["sd_between"] is None:
        return "one seed: undecided" if row["seeds"] == 1 else UNDECIDED
    matters = row["matters"]
    verdict = matters if matters == UNDECIDED else f"{SWEPT[key]} matters {matters}"
    between, seeds = (f"{row[name]:.2g}" for name in ("sd_between", "sd_seeds"))
    return f"SD {between} between {SWEPT[key]}s, {seeds} between seeds: {verdict}"


def in_words(row: Row, key: str, study: str = "") -> str:
    """Return a row of the spreads as a sentence, of `study` where there are several."""
    what = SWEPT[key]
    begin = f"{sentence(row['title'])}, {study + ', ' if study else ''}{row['line']}"
    if row["sd_between"] is None:
        why = (
            f"one seed a {what}, so that what {what} and seed do cannot be told apart"
            if row["seeds"] == 1
            else "some runs have no score"
        )
        return f"{begin}: {why}: undecided."
    told = (
        f"whether the {what} matters more than the seed is undecided"
        if row["matters"] == UNDECIDED
        else f"the {what} matters {row['matters']} than the seed"
    )
    return (
        f"{begin}: the standard deviation between {counted(row['values'], what)} is "
        f"{row['sd_between']:.2g}, between {counted(row['seeds'], 'seed')} of one {what} "
        f"{row['sd_seeds']:.2g}, the ratio of the variances {row['ratio']:.2f} "
        f"[{row['ratio_low']:.2f}, {row['ratio_high']:.2f}]: {told}."
    )


def sweep_blocks(
    sweeps: Sequence[tuple[str, str, str | Path, str | Path]], confidence: float
) -> list[Block]:
    """Return a section for each swept number: does it matter more than the seed?

    `sweeps` are study (empty where there is but one), key, points and spreads.
    """
    blocks: list[Block] = []
    for key in dict.fromkeys(key for _, key, _, _ in sweeps):
        told = []
        for study, of, points, spreads in sweeps:
            if of == key:
                shown = drawn_metrics(read_points(points))
                rows = read_spreads(spreads).filter(pl.col("metric").is_in(shown))
                told += [in_words(row, key, study) for row in rows.to_dicts()]
        blocks += [
            Heading(f"Does the {SWEPT[key]} (setting {key}) matter more than the seed?"),
            Items(told),
            Paragraph(_meaning(key, confidence)),
        ]
    return blocks


def _meaning(key: str, confidence: float) -> str:
    what = SWEPT[key]
    return (
        f"Between {what}s: what the means of the {what}s differ beyond what seeds explain, a "
        "variance component of a one-way classification of random effects (Searle, Casella and "
        "McCulloch, 1992, chapter 3); between seeds: how far runs of one "
        f"{what} differ. All on this test set, or validation split, as given. The ratio's "
        f"{100 * confidence:g} % interval is exact for normal scores; more where all of it is "
        f"above 1, less where all of it is below. It is about the {what}s that were tried: a wider "
        "grid spreads further."
    )
