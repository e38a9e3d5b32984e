"""Real pictures: each arm of cifar10_transfer learns, from a base that another study trains."""

import csv
from pathlib import Path

import polars as pl
import pytest
from workflow_runs import Snakemake

pytestmark = [
    pytest.mark.smoke,
    pytest.mark.timeout(1500),
]
ARMS = ["fft", "lora", "head_only", "bitfit"]


@pytest.fixture(scope="module")
def results(
    shared_data: Path, snakemake: Snakemake, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    root = shared_data / "cifar10-images"
    snakemake(folder, "--config", "study=cifar10_transfer", f"data_root={root}")
    return folder / "results"


@pytest.fixture(scope="module")
def rows(results: Path) -> list[dict[str, str]]:
    with (results / "cifar10_transfer" / "comparison" / "comparison.csv").open() as file:
        return list(csv.DictReader(file))


def test_every_arm_beats_the_commonest_class_by_its_interval(rows: list[dict[str, str]]) -> None:
    assert [row["arm"] for row in rows] == ARMS
    for row in rows:
        # Five classes of fifty test pictures each.
        assert float(row["majority_accuracy"]) == pytest.approx(0.2)
        assert float(row["accuracy_low"]) > 0.2, row["arm"]
        assert row["honest_learning"] == "true", row["arm"]


def test_every_arm_falls_to_chance_with_shuffled_pictures(rows: list[dict[str, str]]) -> None:
    for row in rows:
        # Four standard deviations of a guess over 2 x 250 pictures.
        assert float(row["accuracy_shuffled"]) < 0.2 + 4 * (0.2 * 0.8 / 500) ** 0.5, row["arm"]


def test_arms_train_what_their_method_says(rows: list[dict[str, str]]) -> None:
    trained = {row["arm"]: int(row["trainable_parameters"]) for row in rows}
    total = int(rows[0]["total_parameters"])
    assert trained["fft"] == total
    # A linear head of 64 features and five classes.
    assert trained["head_only"] == 64 * 5 + 5
    assert trained["head_only"] < trained["bitfit"] < trained["lora"] < total


def test_the_other_study_gives_the_base_and_none_of_its_classes(results: Path) -> None:
    labels = {
        study: set(pl.read_parquet(results / study / "splits" / "train.parquet")["label"])
        for study in ("cifar10_pretrain", "cifar10_transfer")
    }
    assert all(len(found) == 5 for found in labels.values())
    assert not set.intersection(*labels.values())
    adopted = results / "cifar10_transfer" / "bases" / "cifar10_pretrain.fft.seed-0"
    assert (adopted / "model.safetensors").is_file()


def test_every_figure_of_the_task_is_drawn(results: Path) -> None:
    names = {path.name for path in (results / "cifar10_transfer" / "figures").iterdir()}
    assert {"confusion.svg", "quality.svg", "loss_curves.svg", "split_balance.svg"} <= names
    assert "pictures.svg" not in names  # shown for public data alone
