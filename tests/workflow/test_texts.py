"""Texts: two arms of e2e_food learn, from a base that another study trains on other labels."""

import csv
import json
from pathlib import Path

import polars as pl
import pytest
from workflow_runs import Snakemake

pytestmark = [
    pytest.mark.smoke,
    pytest.mark.timeout(1500),
]


@pytest.fixture(scope="module")
def results(
    shared_data: Path, snakemake: Snakemake, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    folder = tmp_path_factory.mktemp("texts")
    overrides = "overrides={arms: {bitfit: null, head_only: null}, train: {seeds: [0]}}"
    root = f"data_root={shared_data / 'e2e-nlg'}"
    snakemake(folder, "--config", "study=e2e_food", root, overrides)
    return folder / "results"


@pytest.fixture(scope="module")
def rows(results: Path) -> list[dict[str, str]]:
    with (results / "e2e_food" / "comparison" / "comparison.csv").open() as file:
        return list(csv.DictReader(file))


def test_both_arms_beat_the_commonest_food_and_fall_to_chance_without_their_texts(
    rows: list[dict[str, str]],
) -> None:
    assert [row["arm"] for row in rows] == ["fft", "lora"]
    for row in rows:
        # Descriptions of one meaning are no independent draws: as many as there are meanings.
        deviation = (0.16 * 0.84 / int(row["test_groups"])) ** 0.5
        chance = float(row["majority_accuracy"])
        assert 0.1 < chance < 0.2
        assert float(row["accuracy"]) > chance + 4 * deviation, row["arm"]
        assert float(row["accuracy_shuffled"]) < chance + 3 * deviation, row["arm"]
        assert row["honest_learning"] == "true"
        # The name of a food needs no order.
        assert float(row["accuracy_words_shuffled"]) > chance + 4 * deviation, row["arm"]
    assert float(rows[0]["accuracy"]) > 0.8


def test_no_meaning_is_in_two_splits_and_the_base_knew_no_food(results: Path) -> None:
    splits = [
        pl.read_parquet(results / "e2e_food" / "splits" / f"{name}.parquet")
        for name in ("train", "val", "test")
    ]
    meanings = [set(split["group"]) for split in splits]
    assert sum(map(len, meanings)) == len(set.union(*meanings))
    adopted = results / "e2e_food" / "bases" / "e2e_near.fft.seed-0"
    labels = json.loads((adopted / "config.json").read_text())["id2label"].values()
    assert len(set(labels)) == 19
    assert not set(labels) & set(splits[0]["label"])


def test_rows_without_a_food_are_counted(results: Path) -> None:
    account = json.loads((results / "e2e_food" / "cohort" / "examples.json").read_text())
    # 4,693 descriptions, 574 of meanings without a food.
    assert account["dropped"] == {"no_match": 574}
    assert account["rows_out"] == 4693 - 574
