"""Pareto fronts of quality against cost: which arms no other beats at its price, and how surely.

An arm is on the front where no other is at least as good for at most the same cost, and better in
one of the two. Scores are estimates, so the front is one too: it is found again in many draws of
all arms' scores together, each what the true scores may be given those that were seen.
"""

import logging
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from peft_ablation.artifacts import read_json, write_table
from peft_ablation.comparison.decision import of_runs
from peft_ablation.comparison.pages import (
    NONE,
    Block,
    Heading,
    Paragraph,
    Table,
    plain,
    with_interval,
)
from peft_ablation.comparison.words import Words
from peft_ablation.errors import InputError
from peft_ablation.metrics.intervals import ArmScores, estimate
from peft_ablation.metrics.metric import Array, Metric, value_of
from peft_ablation.tasks import open_task

log = logging.getLogger(__name__)

COSTS: Final = {
    "trainable_parameters": "trained parameters",
    "adapter_mb": "stored, MB",
    "train_seconds": "training, s",
    "peak_memory_mb": "peak memory, MB",
}
"""Columns of `cost.json` that have a front. The last two measure the machine: they, and all columns
that begin with their names, differ between two runs of the same training."""
LARGEST: Final = ("peak_memory_mb",)
"""Of an arm's runs the largest counts; of other costs the mean."""
DRAWS: Final = 20_000
SEED: Final = 1992
TIE: Final = 1e-9
"""Scores that are no further apart, on the metric's own scale, are the same."""


def find_pareto_fronts(
    *,
    runs: Sequence[tuple[str, int]],
    sums: Sequence[str | Path],
    costs: Sequence[str | Path],
    task: Mapping[str, Any],
    train: str | Path,
    confidence: float,
    table: str | Path,
) -> None:
    """Write `pareto.csv`, one row an arm: is it on the front of the headline metric and each cost?

    `sums` and `costs` are in the order of `runs` (arm, seed). Raises `InputError` where runs were
    tested on different groups.
    """
    bound = open_task(task, train)
    metric = next(metric for metric in bound.metrics if metric.name == bound.headline)
    scored = _scores(metric, runs, sums)
    spent = _costs(runs, costs)
    rows = fronts(scored, spent, metric.higher_is_better is not False, confidence)
    least, most = metric.bounds
    for row in rows:
        row["score_low"] = max(row["score_low"], least)
        row["score_high"] = min(row["score_high"], most)
    device = sorted({str(read_json(path)["device"]) for path in costs} - {"not trained"})
    said = {"metric": metric.name, "device": ", ".join(device)}
    write_table(pl.DataFrame([said | row for row in rows], infer_schema_length=None), table)
    log.info("found the fronts of %d arms", len(rows))


def _scores(
    metric: Metric, runs: Sequence[tuple[str, int]], sums: Sequence[str | Path]
) -> dict[str, ArmScores]:
    """Return the headline scores of each arm that has them, by group."""
    columns = metric.statistics.columns
    by_arm: dict[str, list[Array]] = {}
    first: NDArray[Any] | None = None
    for (arm, seed), path in zip(runs, sums, strict=True):
        part = pl.read_parquet(path).filter(pl.col("predictions") == "model")
        groups = part["group"].to_numpy()
        first = groups if first is None else first
        if not np.array_equal(groups, first):
            raise InputError(
                f"arm {arm} seed {seed}: tested on other groups than arm {runs[0][0]} seed "
                f"{runs[0][1]}; fronts need one test split: remove the older run's predictions "
                "and score it again"
            )
        by_arm.setdefault(arm, []).append(part.select(columns).to_numpy())
    found = {
        arm: ArmScores.of(partial(value_of, metric, columns), own) for arm, own in by_arm.items()
    }
    return {arm: scores for arm, scores in found.items() if scores is not None}


def _costs(
    runs: Sequence[tuple[str, int]], paths: Sequence[str | Path]
) -> dict[str, dict[str, Array]]:
    """Return each arm's costs by run, (S,); what others paid elsewhere is not among them."""
    read = [(arm, read_json(path)) for (arm, _), path in zip(runs, paths, strict=True)]
    result: dict[str, dict[str, Array]] = {}
    for arm in dict.fromkeys(arm for arm, _ in read):
        own = [cost for name, cost in read if name == arm]
        elsewhere = any(cost.get("trained_elsewhere", False) for cost in own)
        result[arm] = {
            name: np.array([cost[name] for cost in own], dtype=np.float64)
            for name in COSTS
            if not (elsewhere and name in ("train_seconds", "peak_memory_mb"))
        }
    return result


def fronts(
    scores: Mapping[str, ArmScores],
    costs: Mapping[str, Mapping[str, Array]],
    higher_is_better: bool,
    confidence: float,
    draws: int = DRAWS,
    seed: int = SEED,
) -> list[dict[str, Any]]:
    """Return one row an arm of `scores`: score, interval, and for each cost that it has

    `<cost>`, `<cost>_low` and `<cost>_high` (the least and the largest of its runs),
    `<cost>_on_front`, and `<cost>_on_front_probability` by simulation. `costs` are by arm, cost
    and run. Draws are those of `drawn_scores`; the mean training time of two runs or more is
    drawn too, other costs are what they are.
    """
    arms = list(scores)
    gains = np.array([float(each.runs.mean()) for each in scores.values()])
    random = np.random.default_rng(seed)
    drawn = drawn_scores(list(scores.values()), draws, random)
    if not higher_is_better:
        gains, drawn = -gains, -drawn
    rows: dict[str, dict[str, Any]] = {}
    for arm, each in scores.items():
        low, high = estimate(each).interval(confidence)
        rows[arm] = {
            "arm": arm, "seeds": len(each.runs), "score": float(each.runs.mean()),
            "score_low": low, "score_high": high,
        }  # fmt: skip
    for cost in COSTS:
        priced = [place for place, arm in enumerate(arms) if cost in costs[arm]]
        own = [costs[arms[place]][cost] for place in priced]
        spent = np.array([runs.max() if cost in LARGEST else runs.mean() for runs in own])
        paid = _drawn_means(own, draws, random) if cost == "train_seconds" else spent
        there = on_front(gains[priced], spent)
        share = on_front(drawn[:, priced], paid).mean(axis=0)
        for row in rows.values():
            row |= dict.fromkeys(
                f"{cost}{end}"
                for end in ("", "_low", "_high", "_on_front", "_on_front_probability")
            )
        for place, amount, runs, yes, probability in zip(
            priced, spent, own, there, share, strict=True
        ):
            rows[arms[place]] |= {
                cost: float(amount),
                f"{cost}_low": float(runs.min()),
                f"{cost}_high": float(runs.max()),
                f"{cost}_on_front": bool(yes),
                f"{cost}_on_front_probability": float(probability),
            }
    return list(rows.values())


def on_front(gains: Array, costs: Array) -> NDArray[np.bool_]:
    """Tell of each arm whether no other dominates it; (…, A) each, more gain and less cost better.

    Arms that are alike in both are on the front together.
    """
    gains, costs = np.broadcast_arrays(gains, costs)
    result = np.ones(gains.shape, dtype=bool)
    for other in range(gains.shape[-1]):
        gain, cost = gains[..., [other]], costs[..., [other]]
        no_worse = (gain >= gains - TIE) & (cost <= costs)
        result &= ~(no_worse & ((gain > gains + TIE) | (cost < costs)))
    return result


def drawn_scores(arms: Sequence[ArmScores], draws: int, random: np.random.Generator) -> Array:
    """Return draws (draws, A) of what the arms' true scores may be.

    Each is the mean that was found and two errors: that of the test groups, which all arms share
    (multivariate t of the covariance of their pseudo-values, so that what is hard for all is hard
    for all in a draw too), and that of an arm's own seeds (Student's t of the variance of its runs
    less the part that is the groups' noise; none where it has one seed). These are the parts of
    `peft_ablation.metrics.intervals`.
    """
    means = np.array([float(each.runs.mean()) for each in arms])
    by_group = np.stack([each.groups.mean(axis=0) for each in arms])
    count = by_group.shape[1]
    deviations = by_group - by_group.mean(axis=1, keepdims=True)
    # A root of the covariance; of the covariance itself, arms that are alike would lose half of
    # their digits and with them the tie.
    root = np.linalg.qr(deviations.T, mode="r") / np.sqrt(count * (count - 1))
    of_groups = random.standard_normal((draws, len(root))) @ root
    of_groups /= np.sqrt(random.chisquare(count - 1, (draws, 1)) / (count - 1))
    result: Array = means + of_groups
    for place, each in enumerate(arms):
        seeds = len(each.runs)
        if seeds > 1:
            known = estimate(each)
            error = np.sqrt(max(known.of_seeds - known.noise, 0))
            result[:, place] += error * random.standard_t(seeds - 1, draws)
    return result


def _drawn_means(runs: Sequence[Array], draws: int, random: np.random.Generator) -> Array:
    """Return draws (draws, A) of what the mean of an arm's runs may be; that of one run stays."""
    result = np.empty((draws, len(runs)))
    for place, own in enumerate(runs):
        result[:, place] = own.mean()
        if len(own) > 1:
            error = own.std(ddof=1) / np.sqrt(len(own))
            result[:, place] += error * random.standard_t(len(own) - 1, draws)
    return result


def pareto_blocks(
    rows: Sequence[Mapping[str, Any]], words: Words, confidence: float
) -> list[Block]:
    """Return the page's section on the fronts; `rows` are those of `pareto.csv`."""
    if len(rows) < 2:
        return []
    title, digits = words.title(words.headline), words.metrics[words.headline]["digits"]
    level = f"{100 * confidence:g} %"
    fewest = min(row["seeds"] for row in rows)
    alone = [row["arm"] for row in rows if row["seeds"] < 2]
    elsewhere = [row["arm"] for row in rows if row["train_seconds"] is None]
    return [
        Heading("Who is on the front"),
        Table(
            ("arm", title, *(f"{title} against {said}" for said in COSTS.values())),
            [
                [
                    row["arm"],
                    with_interval(row, "score", digits),
                    *(_standing(row, cost, confidence, fewest) for cost in COSTS),
                ]
                for row in rows
            ],
        ),
        Paragraph(
            f"An arm is on the front where no other has as good a {title} for at most its cost and "
            "is better in one of the two. Percentages are the share of "
            f"{DRAWS:,} simulated studies in which it is: scores of all arms are drawn together "
            "from what is known of the test groups, which they share, and of each arm's seeds. "
            f"Surely on the front: {level} or more; surely off it: {100 * (1 - confidence):g} % or "
            "less; anything between is open. Arms that are almost equally good and almost equally "
            "cheap share the front between them."
        ),
        Paragraph(
            f"Parameters and stored bytes are exact. Training is in seconds on "
            f"{rows[0]['device'] or 'no device'}, mean over seeds, and drawn like the scores where "
            "there are two seeds; peak memory is the largest of the seeds. Both hold for that "
            "device and what else it was doing."
            + (
                f" With one seed ({', '.join(alone)}) shares are about these runs, not the arms."
                if alone
                else ""
            )
            + (
                f" What others paid to train {', '.join(elsewhere)} is not known."
                if elsewhere
                else ""
            )
        ),
    ]


def _standing(row: Mapping[str, Any], cost: str, confidence: float, fewest: int) -> str:
    there, share = row[f"{cost}_on_front"], row[f"{cost}_on_front_probability"]
    if share is None:
        return NONE
    sure = share >= confidence if there else share <= 1 - confidence
    said = f"{'surely ' if sure else ''}{'on' if there else 'off'}{of_runs(fewest)}"
    return f"{said}, {plain(share, 0, 100, ' %')}"
