"""Seconds of a comparison's statistics, beside those of a nested percentile bootstrap.

    python tests/benchmarks/comparison.py [--examples 13000] [--arms 5] [--seeds 3]

Runs of captions (the phantom's sentences, each label right with a chance of the run's own) are
scored once; a comparison reads their sums by group, one group an example, the most there can be.
Ours: jackknife intervals of every arm and difference in every compared metric, and the p of 10,000
shuffles of every difference. Beside it: 10,000 resamples of groups, and of seeds within arms, and
the percentiles of every score and difference, all metrics from one set of resampled sums. Seconds
of the clock, and of processors; sides take turns. Wanted: ours under 20 s on two cores.
"""

import argparse
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import polars as pl

from peft_ablation.metrics.bootstrap import percentile_interval
from peft_ablation.metrics.findings import findings_metrics
from peft_ablation.metrics.intervals import ArmScores, estimate
from peft_ablation.metrics.metric import (
    Array,
    Metric,
    statistics_of,
    sum_columns,
    value_of,
)
from peft_ablation.metrics.randomisation import SHUFFLES, randomised_p
from peft_ablation.metrics.texts import bleu_metrics, token_loss
from peft_ablation.sources.mimic.labels import PATHOLOGIES
from peft_ablation.sources.mimic.reports import load_template

TEMPLATE = load_template("corrected")


def predictions(examples: int, skill: float, seed: int) -> pl.DataFrame:
    """Reports of 13 labels, and what a run of this skill writes for them."""
    truth, chance = np.random.default_rng(0), np.random.default_rng([1, seed])

    def text(values: Array) -> str:
        said = {label: 1 for label, value in zip(PATHOLOGIES, values, strict=True) if value}
        return TEMPLATE.render(said or {"No_Finding": 1}) or ""

    labels = truth.random((examples, len(PATHOLOGIES))) < 0.3
    guessed = chance.random(labels.shape) < 0.3
    stated = np.where(chance.random(labels.shape) < skill, labels, guessed)
    return pl.DataFrame(
        {
            "reference": [text(row) for row in labels],
            "hypothesis": [text(row) for row in stated],
            "tokens": np.full(examples, 40),
            "nll": 40 * (1.5 - skill) + chance.random(examples),
        }
    )


def made_up(examples: int, arms: int, seeds: int) -> tuple[list[Metric], Array]:
    """Metrics that are compared, and sums (arms, seeds, examples, columns)."""
    references = [[text] for text in predictions(examples, 1.0, 0)["reference"]]
    metrics = [*bleu_metrics(references), *findings_metrics("corrected"), token_loss()]
    compared = [metric for metric in metrics if metric.compared]
    # Two runs are scored; each other takes a share of its examples from the better one.
    good, bad = (
        statistics_of(compared, predictions(examples, skill, run))
        for run, skill in enumerate((0.9, 0.6))
    )
    random = np.random.default_rng(2)
    share = 0.2 + 0.1 * np.arange(arms)[:, None, None] + 0.02 * random.random((arms, seeds, 1))
    taken = random.random((arms, seeds, examples)) < share
    return compared, np.where(taken[..., None], good, bad)


def ours(metrics: list[Metric], sums: Array) -> None:
    """Intervals and p values of every arm and of its difference to the first."""
    columns = sum_columns(metrics)
    values = [partial(value_of, metric, columns) for metric in metrics]
    scores = [[ArmScores.of(value, list(arm)) for value in values] for arm in sums]
    for arm in scores:
        for own, theirs in zip(arm, scores[0], strict=True):
            assert own is not None and theirs is not None
            estimate(own).interval(0.95)
            if own is not theirs:
                found = estimate(own, theirs)
                found.interval(0.95), found.p_value()
    for arm_sums in sums[1:]:
        randomised_p(values, arm_sums, sums[0])


def nested_bootstrap(metrics: list[Metric], sums: Array) -> None:
    """Percentiles of every score and difference over resamples of groups, and seeds of each arm."""
    arms, seeds, examples, width = sums.shape
    columns = sum_columns(metrics)
    flat = np.ascontiguousarray(sums.transpose(2, 0, 1, 3)).reshape(examples, -1)
    random = np.random.default_rng(7)
    scores: list[list[Array]] = [[] for _ in metrics]
    for start in range(0, SHUFFLES, 64):
        rows = min(64, SHUFFLES - start)
        drawn = random.integers(0, examples, (rows, examples))
        weights = np.stack([np.bincount(row, minlength=examples) for row in drawn])
        totals = (weights.astype(np.float64) @ flat).reshape(rows, arms, seeds, width)
        chosen = random.integers(0, seeds, (rows, arms, seeds))
        for place, metric in enumerate(metrics):
            values = value_of(metric, columns, totals)
            scores[place].append(np.take_along_axis(values, chosen, axis=2).mean(axis=2))
    for parts in scores:
        replicates = np.concatenate(parts)
        for arm in range(arms):
            percentile_interval(replicates[:, arm], 0.95)
            percentile_interval(replicates[:, arm] - replicates[:, 0], 0.95)


def seconds(work: Callable[[], None]) -> tuple[float, float]:
    """Seconds of the clock and of processors."""
    clock, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - clock, time.process_time() - cpu


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--examples", type=int, default=13_000)
    parser.add_argument("--arms", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--pairs", type=int, default=3)
    wanted = parser.parse_args()
    metrics, sums = made_up(wanted.examples, wanted.arms, wanted.seeds)
    names = ", ".join(metric.name for metric in metrics)
    print(f"{len(metrics)} metrics of {sums.shape[-1]} sums: {names}")
    ratios = []
    for _ in range(wanted.pairs):
        of_ours = seconds(partial(ours, metrics, sums))
        of_bootstrap = seconds(partial(nested_bootstrap, metrics, sums))
        ratios.append(of_bootstrap[1] / of_ours[1])
        for name, (clock, cpu) in (("ours", of_ours), ("nested bootstrap", of_bootstrap)):
            print(f"{name}: {clock:.1f} s, {cpu:.1f} s of CPU")
    print(
        f"nested bootstrap / ours, s of CPU: median {np.median(ratios):.2f} "
        f"({min(ratios):.2f} to {max(ratios):.2f})"
    )


if __name__ == "__main__":
    main()
