"""The comparison of arms: one row an arm, quality with intervals beside what it costs.

A score of an arm is the mean over its seeds. Its interval holds both sources of chance that can be
resampled: in each resample the test subjects are drawn with replacement (the same draw for every
run of every arm) and so are the arm's seeds; the replicate is the mean over the drawn seeds of the
score on the drawn subjects. The difference between two arms is resampled in the same way, pair by
pair. With two or three seeds their part of the interval is rough: the standard deviation over
seeds stands beside it.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from peft_ablation.artifacts import read_json, write_json, write_table, write_text
from peft_ablation.comparison.page import comparison_page
from peft_ablation.comparison.pages import html, markdown
from peft_ablation.errors import InputError
from peft_ablation.metrics.bootstrap import percentile_interval, resampled_seeds, resampled_sums
from peft_ablation.provenance import manifest as describe
from peft_ablation.scoring.scores import METRICS, SUMS

log = logging.getLogger(__name__)

Array = NDArray[np.float64]
COMPARED: Final = ("bleu", "findings_f1", "test_loss")
"""Scores that get an interval, a deviation over seeds and a difference to the reference arm."""
SECONDS: Final = ("train_seconds", "evaluate_seconds", "saving_seconds", "waiting_seconds")
"""Wall seconds of a run by what it did: the mean over seeds."""
PEAKS: Final = ("peak_memory_mb", "reserved_peak_memory_mb")
"""Largest memory while training: the maximum over seeds."""
BASELINES: Final = {
    "constant": "constant_report",
    "label_prior": "label_prior",
    "best_prior": "best_prior",
}
"""Names of the baselines in a run's scores and in the columns of the comparison."""
HALF: Final = 0.5
"""A model that looks loses at least this share of its findings F1 with shuffled images."""


@dataclass(frozen=True)
class Run:
    """One arm and seed: its scores, its cost, and its sums by subject, (S, len(SUMS)) by text."""

    arm: str
    seed: int
    scores: Mapping[str, Any]
    cost: Mapping[str, Any]
    subjects: NDArray[np.int64]
    sums: Mapping[str, Array]


def compare_arms(
    *,
    runs: Sequence[tuple[str, int]],
    scores: Sequence[str | Path],
    sums: Sequence[str | Path],
    costs: Sequence[str | Path],
    arms: Mapping[str, Mapping[str, Any]],
    study: str,
    config: Mapping[str, Any],
    bootstrap_samples: int,
    confidence: float,
    seed: int,
    table: str | Path,
    markdown_page: str | Path,
    html_page: str | Path,
    manifest: str | Path,
) -> None:
    """Write the comparison of all arms of a study: CSV, Markdown, HTML and manifest.

    `scores`, `sums` and `costs` are in the order of `runs`. Arms are compared with the first one
    whose method is `full`. Raises `InputError` where runs were tested on different subjects.
    """
    loaded = [
        _load(arm, int(run_seed), *paths)
        for (arm, run_seed), *paths in zip(runs, scores, sums, costs, strict=True)
    ]
    _check_same_subjects(loaded)
    replicates = {
        arm: _replicates(
            [run for run in loaded if run.arm == arm], arm, samples=bootstrap_samples, seed=seed
        )
        for arm in arms
    }
    reference = next((arm for arm, setting in arms.items() if setting["method"] == "full"), None)
    rows = [
        {
            **_identity(arm, arms[arm], [run for run in loaded if run.arm == arm]),
            **_quality([run for run in loaded if run.arm == arm], replicates[arm], confidence),
            **_difference(arm, reference, loaded, replicates, confidence),
            **_honesty([run for run in loaded if run.arm == arm]),
            **_cost([run for run in loaded if run.arm == arm]),
        }
        for arm in arms
    ]
    comparison = pl.DataFrame(rows, infer_schema_length=None)
    blocks = comparison_page(
        rows, study=study, reference=reference, confidence=confidence, samples=bootstrap_samples
    )
    write_table(comparison, table)
    write_text(markdown_page, markdown(blocks))
    write_text(html_page, html(blocks, f"Comparison of arms, study {study}"))
    inputs = {str(path): Path(path) for path in (*scores, *sums, *costs)}
    write_json(manifest, {"study": study, **describe(config, inputs)})
    log.info("compared %d arms over %d runs", len(arms), len(loaded))


def _load(arm: str, seed: int, scores: str | Path, sums: str | Path, cost: str | Path) -> Run:
    table = pl.read_parquet(sums)
    parts = {
        str(name): part.select(SUMS).to_numpy()
        for (name,), part in table.group_by("texts", maintain_order=True)
    }
    subjects = table.filter(pl.col("texts") == "model")["subject_id"].to_numpy()
    return Run(arm, seed, read_json(scores), read_json(cost), subjects, parts)


def _check_same_subjects(runs: Sequence[Run]) -> None:
    first = runs[0]
    for run in runs[1:]:
        if not np.array_equal(run.subjects, first.subjects):
            raise InputError(
                f"arm {run.arm} seed {run.seed}: tested on {len(run.subjects)} subjects, not the "
                f"{len(first.subjects)} of arm {first.arm} seed {first.seed}; a comparison needs "
                "one test split: remove the older run's predictions and score it again"
            )


def _replicates(runs: Sequence[Run], arm: str, *, samples: int, seed: int) -> dict[str, Array]:
    """Return an arm's resampled mean over seeds of each compared score, (samples,) each."""
    weights = resampled_seeds(len(runs), samples, seed, arm)
    resamples = [resampled_sums(run.sums["model"], samples, seed) for run in runs]
    return {
        metric: (np.stack([METRICS[metric](sums) for sums in resamples], axis=1) * weights).sum(
            axis=1
        )
        for metric in COMPARED
    }


def _identity(arm: str, setting: Mapping[str, Any], runs: Sequence[Run]) -> dict[str, Any]:
    cost = runs[0].cost
    trainable, total = cost["trainable_parameters"], cost["total_parameters"]
    return {
        "arm": arm,
        "method": setting["method"],
        "targets": setting.get("targets") if setting["method"] != "full" else None,
        "rank": cost["rank"],
        "seeds": len(runs),
        "trainable_parameters": trainable,
        "total_parameters": total,
        "trainable_percent": 100 * trainable / total,
        "learning_rate": setting["learning_rate"],
    }


def _quality(
    runs: Sequence[Run], replicates: Mapping[str, Array], confidence: float
) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for metric in COMPARED:
        values = [run.scores[metric] for run in runs]
        low, high = percentile_interval(replicates[metric], confidence) or (None, None)
        result |= {
            metric: _mean(values),
            f"{metric}_low": low,
            f"{metric}_high": high,
            f"{metric}_sd": _deviation(values),
            f"{metric}_by_seed": " ".join(repr(value) for value in values if value is not None),
        }
    return result | {
        name: _mean([run.scores[name] for run in runs])
        for name in ("bleu_0_1", "findings_macro_f1", "distinct_texts", "unparsable_share")
    }


def _difference(
    arm: str,
    reference: str | None,
    runs: Sequence[Run],
    replicates: Mapping[str, Mapping[str, Array]],
    confidence: float,
) -> dict[str, Any]:
    """Return each score of the arm less that of the reference arm, with its interval."""
    result: dict[str, Any] = {"reference_arm": reference}
    for metric in COMPARED:
        value, bounds = None, None
        if reference is not None and arm != reference:
            ours, theirs = (
                _mean([run.scores[metric] for run in runs if run.arm == name])
                for name in (arm, reference)
            )
            if ours is not None and theirs is not None:
                value = ours - theirs
                bounds = percentile_interval(
                    replicates[arm][metric] - replicates[reference][metric], confidence
                )
        low, high = bounds or (None, None)
        result |= {
            f"{metric}_difference": value,
            f"{metric}_difference_low": low,
            f"{metric}_difference_high": high,
        }
    return result


def _honesty(runs: Sequence[Run]) -> dict[str, Any]:
    """Return the scores with shuffled images and of the baselines, and the verdicts on them."""
    bleu, findings = (
        _mean([run.scores[metric] for run in runs]) for metric in ("bleu", "findings_f1")
    )
    shuffled = {
        metric: _mean([(run.scores["shuffled"] or {}).get(metric) for run in runs])
        for metric in COMPARED
    }
    baselines = {
        f"{column}_{metric}": runs[0].scores["baselines"][name][metric]
        for name, column in BASELINES.items()
        for metric in ("bleu", "findings_f1")
    }
    lost = None
    if findings and shuffled["findings_f1"] is not None:
        lost = 1 - shuffled["findings_f1"] / findings
    verdicts = {
        "beats_constant_bleu": _above(bleu, baselines["constant_report_bleu"]),
        "beats_constant_findings_f1": _above(findings, baselines["constant_report_findings_f1"]),
        "beats_label_prior_findings_f1": _above(findings, baselines["label_prior_findings_f1"]),
        "loses_half_when_shuffled": None if lost is None else lost >= HALF,
    }
    known = [verdict for verdict in verdicts.values() if verdict is not None]
    honest = all(known) if len(known) == len(verdicts) or not all(known) else None
    return {
        **{f"{metric}_shuffled": value for metric, value in shuffled.items()},
        "findings_f1_lost_when_shuffled": lost,
        **baselines,
        **verdicts,
        "honest_learning": honest,
    }


def _cost(runs: Sequence[Run]) -> dict[str, Any]:
    def mean(key: str) -> float | None:
        return _mean([run.cost.get(key) for run in runs])

    def distinct(key: str) -> str:
        return ", ".join(sorted({str(run.cost.get(key)) for run in runs}))

    return {
        **{key: mean(key) for key in SECONDS},
        **{key: mean(key) for key in ("examples_per_second", "tokens_per_second")},
        **{key: max(run.cost[key] for run in runs) for key in PEAKS},
        **{key: mean(key) for key in ("mean_memory_mb", "reserved_mean_memory_mb")},
        "memory_kind": distinct("memory_kind"),
        "adapter_mb": mean("adapter_mb"),
        "energy_joules": mean("energy_joules"),
        "epochs": runs[0].cost["epochs"],
        "best_epoch": " ".join(str(run.cost["best_epoch"]) for run in runs),
        "device": distinct("device"),
        "precision": distinct("precision"),
        "test_reports": runs[0].scores["rows"],
        "test_subjects": runs[0].scores["subjects"],
    }


def _mean(values: Sequence[float | None]) -> float | None:
    """Return the mean; None where any value is missing."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known and len(known) == len(values) else None


def _deviation(values: Sequence[float | None]) -> float | None:
    """Return the sample standard deviation; None for fewer than two values."""
    known = [value for value in values if value is not None]
    return float(np.std(known, ddof=1)) if len(known) == len(values) >= 2 else None


def _above(value: float | None, baseline: float | None) -> bool | None:
    return None if value is None or baseline is None else value > baseline
