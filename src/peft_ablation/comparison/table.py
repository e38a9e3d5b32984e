"""The comparison of arms: one row an arm, quality with intervals beside what it costs.

A score of an arm is the mean over its seeds. Its interval holds both sources of chance, the test
groups and the training seeds, and so does that of a difference of two arms, which is paired by
group: see `peft_ablation.metrics.intervals`.
"""

import logging
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from peft_ablation.artifacts import read_json, write_json, write_table, write_text
from peft_ablation.comparison.by_group import by_group_blocks, by_group_rows
from peft_ablation.comparison.claims import as_published_columns
from peft_ablation.comparison.decision import Compared, Decision, decide
from peft_ablation.comparison.interactive import RunPage, interactive_page
from peft_ablation.comparison.likelihoods import likelihood_blocks
from peft_ablation.comparison.looks import looks_table
from peft_ablation.comparison.page import comparison_page, shared_by_splits
from peft_ablation.comparison.pages import markdown
from peft_ablation.comparison.runs import Run, deviation, mean, read_runs
from peft_ablation.comparison.sweep import sweep_blocks
from peft_ablation.comparison.tokens import token_blocks
from peft_ablation.comparison.tuning import tuning_columns
from peft_ablation.comparison.words import Words, read_rows, refuse_unknown
from peft_ablation.metrics.intervals import ArmScores, Estimate, estimate
from peft_ablation.metrics.metric import Metric, sum_columns, value_of
from peft_ablation.metrics.randomisation import randomised_p
from peft_ablation.provenance import manifest as describe
from peft_ablation.scoring.scores import SHUFFLED
from peft_ablation.tasks import Task, open_task

log = logging.getLogger(__name__)

Array = NDArray[np.float64]
SECONDS: Final = ("train_seconds", "evaluate_seconds", "saving_seconds", "waiting_seconds")
"""Wall seconds of a run by what it did: the mean over seeds."""
PEAKS: Final = ("peak_memory_mb", "reserved_peak_memory_mb")
"""Largest memory while training: the maximum over seeds."""
HALF: Final = 0.5
"""An arm that looks at its inputs loses at least this share of what its headline score has above
the floor when they are shuffled."""


@dataclass(frozen=True)
class Estimated:
    """What is known of an arm's score, and of its difference to the reference arm's."""

    score: Estimate | None
    difference: Estimate | None
    """None also for the reference itself."""


def compare_arms(
    *,
    runs: Sequence[tuple[str, int]],
    scores: Sequence[str | Path],
    sums: Sequence[str | Path],
    costs: Sequence[str | Path],
    arms: Mapping[str, Mapping[str, Any]],
    task: Mapping[str, Any],
    train: str | Path,
    reference: str | None,
    group: str,
    study: str,
    config: Mapping[str, Any],
    confidence: float,
    published: Sequence[Mapping[str, Any]],
    table: str | Path,
    words: str | Path,
    looks: str | Path,
    estimates: str | Path,
    markdown_page: str | Path,
    html_page: str | Path,
    manifest: str | Path,
    accounts: Sequence[str | Path] = (),
    trials: Mapping[str, str | Path] | None = None,
    views: str | Path | None = None,
    pareto: str | Path | None = None,
    forgetting: str | Path | None = None,
    likelihoods: str | Path | None = None,
    by_group: tuple[str | Path, str | Path] | None = None,
    sweeps: Sequence[tuple[str, str | Path, str | Path]] = (),
    tokens: str | Path | None = None,
) -> None:
    """Write the comparison of all arms of a study: CSV, its words, Markdown, HTML and manifest.

    `scores`, `sums` and `costs` are in the order of `runs`. Arms are compared with `reference`.
    `published` are the numbers that `peft_ablation.comparison.published` reads.
    `looks` (CSV): scores of changed inputs and of baselines, see `peft_ablation.comparison.looks`.
    `estimates` (JSON): by metric and arm what the intervals are made of, for means over studies.
    `trials` are the tables of the trials that chose learning rates, by arm; `accounts` those of
    the splits and of equal images, which the page quotes. `views`, `pareto`, `forgetting`,
    `likelihoods`, `by_group` (table and account) and `tokens` are what the modules of these names
    wrote, if they did: each has a section of its own on the page. `sweeps` are key, points and
    spreads of what `peft_ablation.comparison.sweep` wrote.
    Raises `InputError` where runs were tested on different groups.
    """
    bound = open_task(task, train)
    metrics = bound.metrics
    loaded = read_runs(runs, metrics, scores, sums, costs)
    found = _estimates(arms, reference, loaded, metrics)
    said = Words.of(bound, group, config["score"]["metrics"])
    tested = _tested(said, config["score"])
    decisions = _decisions(found, reference, loaded, said, tested, config["score"], confidence)
    of_runs = _randomised(reference, loaded, metrics, tested)
    rows = []
    for arm in arms:
        own = [run for run in loaded if run.arm == arm]
        rows.append(
            {
                **_identity(arm, arms[arm], own, (trials or {}).get(arm)),
                **_quality(own, metrics, found[arm], confidence, said),
                **_difference(reference, metrics, found[arm], confidence),
                **_decided(arm, decisions, of_runs, config["score"]),
                **_honesty(own, bound, metrics, said),
                **_cost(own),
                **as_published_columns(arms[arm]),
            }
        )
    comparison = pl.DataFrame(rows, infer_schema_length=None)
    columns = sum_columns(metrics)
    seen = looks_table(
        {
            arm: {
                name: [run.sums[name] for run in loaded if run.arm == arm]
                for name in loaded[0].sums
                if all(name in run.sums for run in loaded)
            }
            for arm in arms
        },
        columns, metrics, _unscored(loaded[0].scores, said), said, confidence,
    )  # fmt: skip
    blocks = comparison_page(
        rows, said, seen, study=study, reference=reference, confidence=confidence,
        tested=tested,
        published=published,
        shared=shared_by_splits([read_json(account) for account in accounts]),
        views=read_rows(views) if views else (),
        pareto=read_rows(pareto) if pareto else (),
        forgetting=forgetting,
        likelihoods=likelihood_blocks(likelihoods) if likelihoods is not None else (),
        by_group=by_group_blocks(*by_group, said, confidence) if by_group is not None else (),
        sweeps=sweep_blocks([("", *sweep) for sweep in sweeps], confidence),
        tokens=token_blocks(tokens) if tokens is not None else (),
    )  # fmt: skip
    write_table(comparison, table)
    write_table(seen, looks)
    write_json(words, said.as_json())
    write_json(
        estimates,
        {
            metric: {arm: asdict(by_metric[metric]) for arm, by_metric in found.items()}
            for metric in said.compared
        },
    )
    write_text(markdown_page, markdown(blocks))
    write_text(
        html_page,
        interactive_page(
            blocks, f"Comparison of arms, study {study}",
            rows=comparison.to_dicts(), words=said, confidence=confidence,
            runs=_run_pages(loaded, costs, Path(html_page).parent),
            by_group=by_group_rows(*by_group) if by_group else (),
        ),
    )  # fmt: skip
    made_from = (*scores, *sums, *costs, *(trials or {}).values())
    inputs = {str(path): Path(path) for path in made_from}
    write_json(manifest, {"study": study, **describe(config, inputs)})
    log.info("compared %d arms over %d runs", len(arms), len(loaded))


def _run_pages(
    runs: Sequence[Run], costs: Sequence[str | Path], page: Path
) -> dict[str, list[RunPage]]:
    """Return the runs by arm; a history lies beside the cost of what was trained."""
    found: dict[str, list[RunPage]] = {}
    for run, cost in zip(runs, costs, strict=True):
        history = Path(os.path.relpath(Path(cost).parent / "history.csv", page)).as_posix()
        shown = RunPage(run.seed, history if run.cost["epochs"] else None)
        found.setdefault(run.arm, []).append(shown)
    return found


def _unscored(scores: Mapping[str, Any], words: Words) -> dict[str, list[str]]:
    """Return the compared metrics that a set of predictions has not, by the set's name."""
    sets = {**scores, **scores["baselines"]}
    names = (SHUFFLED, *words.controls, *words.baselines)
    return {
        name: [metric for metric in words.compared if (sets.get(name) or {}).get(metric) is None]
        for name in names
    }


def _estimates(
    arms: Iterable[str], reference: str | None, runs: Sequence[Run], metrics: Sequence[Metric]
) -> dict[str, dict[str, Estimated]]:
    """Return what is known of each arm's compared scores, by arm and metric."""
    columns = sum_columns(metrics)
    names = [metric.name for metric in metrics if metric.compared]
    scores = {
        arm: {
            metric.name: ArmScores.of(
                partial(value_of, metric, columns),
                [run.sums["model"] for run in runs if run.arm == arm],
            )
            for metric in metrics
            if metric.compared
        }
        for arm in arms
    }

    def estimated(arm: str, metric: str) -> Estimated:
        ours = scores[arm][metric]
        theirs = None if reference in (None, arm) else scores[str(reference)][metric]
        return Estimated(
            None if ours is None else estimate(ours),
            None if ours is None or theirs is None else estimate(ours, theirs),
        )

    return {arm: {metric: estimated(arm, metric) for metric in names} for arm in scores}


def _identity(
    arm: str, setting: Mapping[str, Any], runs: Sequence[Run], trials: str | Path | None
) -> dict[str, Any]:
    cost = runs[0].cost
    trainable, total = cost["trainable_parameters"], cost["total_parameters"]
    return {
        "arm": arm,
        "method": setting["method"],
        "targets": setting.get("targets"),
        "rank": cost["rank"],
        "base": cost["base"],
        "seeds": len(runs),
        "trainable_parameters": trainable,
        "total_parameters": total,
        "trainable_percent": 100 * trainable / total,
        # What the run was made with, which is not the setting's where the arm is tuned.
        "learning_rate": cost.get("learning_rate") or setting["learning_rate"],
        **tuning_columns(trials, [run.seed for run in runs]),
    }


def _quality(
    runs: Sequence[Run],
    metrics: Sequence[Metric],
    found: Mapping[str, Estimated],
    confidence: float,
    words: Words,
) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for metric in metrics:
        values = [run.scores.get(metric.name) for run in runs]
        result[metric.name] = mean(values)
        if metric.compared:
            own = found[metric.name].score
            low, high = (None, None)
            if own is not None:
                least, most = metric.bounds
                low, high = own.interval(confidence)
                low, high = max(low, least), min(high, most)
            known = " ".join(repr(value) for value in values if value is not None)
            result |= {
                f"{metric.name}_low": low,
                f"{metric.name}_high": high,
                f"{metric.name}_sd": deviation(values),
                f"{metric.name}_by_seed": known,
            }
    return result | {
        extra.name: mean([run.scores.get(extra.name) for run in runs]) for extra in words.extras
    }


def _difference(
    reference: str | None,
    metrics: Sequence[Metric],
    found: Mapping[str, Estimated],
    confidence: float,
) -> dict[str, Any]:
    """Return each score of an arm less that of the reference arm, with its interval."""
    result: dict[str, Any] = {"reference_arm": reference}
    for metric in (metric.name for metric in metrics if metric.compared):
        own = found[metric].difference
        low, high = (None, None) if own is None else own.interval(confidence)
        result |= {
            f"{metric}_difference": own and own.value,
            f"{metric}_difference_low": low,
            f"{metric}_difference_high": high,
        }
    return result


def _tested(words: Words, score: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the metrics that are tested; raises `InputError` for one that the task has not.

    Nor is one tested of which neither direction is better.
    """
    told = [name for name in words.compared if words.metrics[name]["higher_is_better"] is not None]
    refuse_unknown("score.tested", score["tested"] or (), told)
    refuse_unknown("score.margin", score["margin"], told)
    return tuple(score["tested"] or (words.headline,))


def _decisions(
    found: Mapping[str, Mapping[str, Estimated]],
    reference: str | None,
    runs: Sequence[Run],
    words: Words,
    tested: Sequence[str],
    score: Mapping[str, Any],
    confidence: float,
) -> dict[tuple[str, str], Decision]:
    """Return what the study can say of each arm against the reference, by arm and metric."""
    seeds = Counter(run.arm for run in runs)
    compared = []
    for arm, by_metric in found.items():
        for metric in tested:
            difference = by_metric[metric].difference
            if difference is not None:
                compared.append(
                    Compared(
                        arm, metric, difference, words.metrics[metric]["higher_is_better"],
                        min(seeds[arm], seeds[str(reference)]), len(runs[0].groups),
                        score["margin"].get(metric),
                    )
                )  # fmt: skip
    return decide(compared, confidence)


def _randomised(
    reference: str | None, runs: Sequence[Run], every: Sequence[Metric], names: Sequence[str]
) -> dict[tuple[str, str], float | None]:
    """Return the p of each arm's runs against the reference's by randomisation, by arm and metric.

    Runs of one seed are a pair; an arm without the reference's seeds has none.
    """
    tested = [metric for metric in every if metric.name in names]
    columns, needed = sum_columns(every), sum_columns(tested)
    places = [columns.index(name) for name in needed]
    values = [partial(value_of, metric, needed) for metric in tested]
    by_seed: dict[str, dict[int, Array]] = {}
    for run in runs:
        by_seed.setdefault(run.arm, {})[run.seed] = run.sums["model"][:, places]
    theirs = by_seed.get(str(reference), {})
    found: dict[tuple[str, str], float | None] = {}
    for arm, ours in by_seed.items():
        if arm == reference or ours.keys() != theirs.keys():
            continue
        p = randomised_p(
            values, np.stack(list(ours.values())), np.stack([theirs[seed] for seed in ours])
        )
        found |= {(arm, metric.name): one for metric, one in zip(tested, p, strict=True)}
    return found


def _decided(
    arm: str,
    decisions: Mapping[tuple[str, str], Decision],
    randomised: Mapping[tuple[str, str], float | None],
    score: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the columns of an arm's tests, empty for the reference."""
    names = (
        "effect_size", "p", "p_holm", "p_not_worse", "verdict", "seeds_to_decide",
        "groups_to_decide",
    )  # fmt: skip
    result: dict[str, Any] = {}
    for metric in dict.fromkeys(metric for _, metric in decisions):
        own = decisions.get((arm, metric))
        result[f"{metric}_margin"] = score["margin"].get(metric)
        result |= {f"{metric}_{name}": own and getattr(own, name) for name in names}
        result[f"{metric}_p_randomised"] = randomised.get((arm, metric))
    return result


def _honesty(
    runs: Sequence[Run], task: Task, metrics: Sequence[Metric], words: Words
) -> dict[str, Any]:
    """Return the scores under each control and of the baselines, and the verdicts on them."""
    compared = [metric for metric in metrics if metric.compared]
    scores = {m.name: mean([run.scores.get(m.name) for run in runs]) for m in compared}
    shuffled = {
        m.name: mean([(run.scores["shuffled"] or {}).get(m.name) for run in runs]) for m in compared
    }
    controls = {
        f"{m.name}_{name}": mean([(run.scores.get(name) or {}).get(m.name) for run in runs])
        for name in words.controls
        for m in compared
    }
    baselines = {
        (name, metric.name): scored.get(metric.name)
        for name, scored in runs[0].scores["baselines"].items()
        for metric in compared
        if scored.get(metric.name) is not None
    }
    better = {metric.name: metric.higher_is_better for metric in compared}
    verdicts: dict[str, bool | None] = {
        words.claim(claim): _beats(
            scores[claim.metric],
            baselines.get((claim.baseline, claim.metric)),
            better[claim.metric],
        )
        for claim in task.claims
    }
    lost = _lost(
        scores[task.headline],
        shuffled[task.headline],
        0.0 if task.floor is None else baselines.get((task.floor, task.headline)),
    )
    verdicts["loses_half_when_shuffled"] = None if lost is None else lost >= HALF
    known = [verdict for verdict in verdicts.values() if verdict is not None]
    honest = all(known) if len(known) == len(verdicts) or not all(known) else None
    return {
        **{f"{name}_shuffled": value for name, value in shuffled.items()},
        f"{task.headline}_lost_when_shuffled": lost,
        **controls,
        **{f"{name}_{metric}": value for (name, metric), value in baselines.items()},
        **verdicts,
        "honest_learning": honest,
    }


def _lost(score: float | None, shuffled: float | None, floor: float | None) -> float | None:
    """Return which share of what a score has above the floor shuffled inputs take from it."""
    if score is None or shuffled is None or floor is None or score <= floor:
        return None
    return (score - shuffled) / (score - floor)


def _cost(runs: Sequence[Run]) -> dict[str, Any]:
    def average(key: str) -> float | None:
        return mean([run.cost.get(key) for run in runs])

    def distinct(key: str) -> str:
        return ", ".join(sorted({str(run.cost.get(key)) for run in runs}))

    return {
        **{key: average(key) for key in SECONDS},
        **{key: average(key) for key in ("examples_per_second", "tokens_per_second")},
        **{key: max(run.cost[key] for run in runs) for key in PEAKS},
        **{key: average(key) for key in ("mean_memory_mb", "reserved_mean_memory_mb")},
        "memory_kind": distinct("memory_kind"),
        "adapter_mb": average("adapter_mb"),
        "energy_joules": average("energy_joules"),
        "best_val_loss": average("best_val_loss"),
        "epochs": runs[0].cost["epochs"],
        "best_epoch": " ".join(str(run.cost["best_epoch"]) for run in runs),
        "device": distinct("device"),
        "precision": distinct("precision"),
        "trained_elsewhere": any(run.cost.get("trained_elsewhere", False) for run in runs),
        "test_examples": runs[0].scores["rows"],
        "test_groups": runs[0].scores["groups"],
    }


def _beats(value: float | None, baseline: float | None, higher: bool | None) -> bool | None:
    if value is None or baseline is None or higher is None:
        return None
    return value > baseline if higher else value < baseline
