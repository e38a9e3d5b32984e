"""Arms over a swept number: their points, the published ones, and rank against seed, by hand."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from peft_ablation.artifacts import write_json
from peft_ablation.comparison.pages import markdown
from peft_ablation.comparison.sweep import (
    compare_sweep,
    drawn_metrics,
    read_points,
    read_spreads,
    sweep_blocks,
)
from peft_ablation.metrics.metric import sum_columns
from peft_ablation.tasks.text_generation import Settings, TextGeneration

TASK = Settings(name="text_generation", measures=("answers",)).model_dump(mode="json")
TRAINING = pl.DataFrame({"prompt": ["p"], "reference": ["r"]})
LORA = {"method": "lora", "targets": "all", "alpha": 32, "learning_rate": 2e-4}
ARMS = {
    "fft": {"method": "full", "learning_rate": 5e-5},
    **{f"lora_r{r}": {**LORA, "r": r} for r in (1, 4, 16)},
}
F1 = {
    "fft": (0.8, 1.0), "lora_r1": (0.2, 0.4), "lora_r4": (0.5, 0.7), "lora_r16": (0.8, 1.0),
}  # fmt: skip
"""Token F1 of each run, in both of two test groups."""


def number(arm: str, value: str, **changed: Any) -> dict[str, Any]:
    return {
        "arm": arm, "published_as": "theirs", "metric": "token_f1", "value": value, "unit": "%",
        "scale": 100.0, "source": "a report", "not_comparable": "", **changed,
    }  # fmt: skip


def compare(
    folder: Path,
    f1: Mapping[str, Sequence[float]] = F1,
    published: Sequence[Mapping[str, Any]] = (),
    **changed: Any,
) -> tuple[pl.DataFrame, pl.DataFrame]:
    TRAINING.write_parquet(folder / "train.parquet")
    runs = [(arm, seed) for arm in f1 for seed in range(len(f1[arm]))]
    paths: dict[str, list[Path]] = {"scores": [], "sums": [], "costs": []}
    for arm, seed in runs:
        score = f1[arm][seed]
        name = f"{arm}-{seed}"
        for kind, ending in (("scores", "json"), ("sums", "parquet"), ("costs", "json")):
            paths[kind].append(folder / f"{name}-{kind}.{ending}")
        write_json(paths["scores"][-1], {"token_f1": score, "exact_match": 0.0, "test_loss": 1.5})
        metrics = TextGeneration(TASK, TRAINING).metrics
        told = {"token_f1_sum": 5 * score, "answers": 5.0, "nll": 30.0, "tokens": 20.0}
        pl.DataFrame(
            {"predictions": "model", "group": ["a", "b"]}
            | dict.fromkeys(sum_columns(metrics), 0.0)
            | told
        ).write_parquet(paths["sums"][-1])
        cost = {
            "base": "gpt2", "trainable_parameters": 1000 if arm == "fft" else ARMS[arm]["r"],
            "total_parameters": 1000, "best_val_loss": 3 - score,
        }  # fmt: skip
        write_json(paths["costs"][-1], cost)
    points, spreads = folder / "r_sweep.csv", folder / "r_spread.csv"
    compare_sweep(
        **{
            "runs": runs, **paths, "arms": ARMS, "key": "r", "reference": "fft", "task": TASK,
            "train": folder / "train.parquet", "published": published, "confidence": 0.5,
            **changed,
        },
        points=points, spreads=spreads,
    )  # fmt: skip
    return read_points(points), read_spreads(spreads)


def of(table: pl.DataFrame, metric: str, *columns: str) -> list[tuple[Any, ...]]:
    return table.filter(pl.col("metric") == metric).select(columns).rows()


def test_points_have_score_interval_and_seeds_at_rank_and_share(tmp_path: Path) -> None:
    points, _ = compare(tmp_path)
    found = of(points, "token_f1", "kind", "line", "arm", "swept", "trainable_percent", "by_seed")
    assert found == [
        ("ours", "lora", "lora_r1", 1.0, 0.1, "0.2 0.4"),
        ("ours", "lora", "lora_r4", 4.0, 0.4, "0.5 0.7"),
        ("ours", "lora", "lora_r16", 16.0, 1.6, "0.8 1.0"),
        ("reference", None, "fft", None, 100.0, "0.8 1.0"),
    ]
    # Groups are alike: the error is that of two seeds, 0.1, and Student's t(0.75; 1) is 1.
    ends = of(points, "token_f1", "score", "low", "high")
    assert ends[0] == pytest.approx((0.3, 0.2, 0.4))
    assert ends[3] == pytest.approx((0.9, 0.8, 1.0))


def test_the_validation_loss_has_an_interval_over_seeds(tmp_path: Path) -> None:
    points, _ = compare(tmp_path)
    (first, *_) = of(points, "best_val_loss", "title", "score", "low", "high", "by_seed")
    assert first[0] == "validation loss"
    assert first[1:4] == pytest.approx((2.7, 2.6, 2.8))
    assert [float(value) for value in first[4].split()] == pytest.approx([2.8, 2.6])


def test_published_numbers_stand_at_their_arm_s_rank_in_our_unit(tmp_path: Path) -> None:
    published = [
        number("lora_r4", "62"), number("lora_r4", "59.1"), number("lora_r16", "80"),
        number("fft", "70"), number("", "1"), number("lora_r1", "9", metric="cider"),
    ]  # fmt: skip
    points, _ = compare(tmp_path, published=published)
    theirs = points.filter(pl.col("kind") == "published")
    assert theirs.select("metric", "arm", "swept", "trainable_percent", "published_as").rows() == [
        ("token_f1", "lora_r4", 4.0, 0.4, "theirs"), ("token_f1", "lora_r4", 4.0, 0.4, "theirs"),
        ("token_f1", "lora_r16", 16.0, 1.6, "theirs"),
    ]  # fmt: skip
    assert theirs["score"].to_list() == pytest.approx([0.62, 0.591, 0.8])


def test_the_spread_of_ranks_is_set_against_that_of_seeds(tmp_path: Path) -> None:
    _, spreads = compare(tmp_path)
    (row,) = spreads.filter(pl.col("metric") == "token_f1").to_dicts()
    # Means 0.3, 0.6, 0.9 have a variance of 0.09, of which seeds explain 0.02 / 2.
    assert (row["values"], row["seeds"]) == (3, 2)
    assert row["sd_between"] == pytest.approx(math.sqrt(0.08))
    assert row["sd_seeds"] == pytest.approx(math.sqrt(0.02))
    assert row["ratio"] == pytest.approx(4.0)
    # F = 9; F(0.75; 2, 3) = 2.2798, so that all of the interval is above 1.
    assert row["ratio_low"] == pytest.approx((9 / 2.2798 - 1) / 2, rel=1e-4)
    assert row["matters"] == "more"


def test_the_page_says_it_of_headline_and_loss(tmp_path: Path) -> None:
    compare(tmp_path)
    told = [("", "r", tmp_path / "r_sweep.csv", tmp_path / "r_spread.csv")]
    page = markdown(sweep_blocks(told, 0.5))
    assert "## Does the rank (setting r) matter more than the seed?" in page
    assert (
        "- Token F1, lora: the standard deviation between 3 ranks is 0.28, between 2 seeds of one "
        "rank 0.14, the ratio of the variances 4.00 [1.47, 13.69]: the rank matters more than the "
        "seed."
    ) in page
    assert "- Validation loss, lora: the standard deviation between 3 ranks is 0.28" in page
    assert "Test loss" not in page
    several = markdown(sweep_blocks([("squad", *told[0][1:]), ("e2e", *told[0][1:])], 0.95))
    assert several.count("## Does the rank") == 1
    assert "- Token F1, squad, lora: the" in several
    assert "- Token F1, e2e, lora: the" in several


def test_one_seed_decides_nothing(tmp_path: Path) -> None:
    _, spreads = compare(tmp_path, {arm: values[:1] for arm, values in F1.items()})
    (row,) = spreads.filter(pl.col("metric") == "token_f1").to_dicts()
    assert (row["sd_between"], row["matters"]) == (None, "undecided")
    told = [("", "r", tmp_path / "r_sweep.csv", tmp_path / "r_spread.csv")]
    assert (
        "- Token F1, lora: one seed a rank, so that what rank and seed do cannot be told apart: "
        "undecided."
    ) in markdown(sweep_blocks(told, 0.95))


def test_what_others_swept_is_drawn_beside_the_headline(tmp_path: Path) -> None:
    """A series of at least three different values; a stale one is none."""
    stale = [number(f"lora_r{r}", "0.5", metric="exact_match") for r in (1, 4, 16)]
    series = [number(f"lora_r{r}", f"{r}", metric="exact_match") for r in (1, 4, 16)]
    assert drawn_metrics(compare(tmp_path, published=stale)[0]) == ["token_f1", "best_val_loss"]
    assert drawn_metrics(compare(tmp_path, published=series)[0]) == [
        "token_f1", "exact_match", "best_val_loss",
    ]  # fmt: skip


def test_rates_may_be_swept_too_and_a_study_may_lack_a_reference(tmp_path: Path) -> None:
    rates = {"lora_r1": 1e-4, "lora_r4": 1e-3, "lora_r16": 1e-2}
    arms = {arm: {**LORA, "r": 8, "learning_rate": rate} for arm, rate in rates.items()}
    f1 = {arm: F1[arm] for arm in rates}
    points, _ = compare(tmp_path, f1, arms=arms, key="learning_rate", reference=None)
    assert of(points, "token_f1", "kind", "swept") == [
        ("ours", 1e-4), ("ours", 1e-3), ("ours", 1e-2),
    ]  # fmt: skip
    told = [("", "learning_rate", tmp_path / "r_sweep.csv", tmp_path / "r_spread.csv")]
    assert "## Does the learning rate (setting learning_rate) matter" in markdown(
        sweep_blocks(told, 0.5)
    )
