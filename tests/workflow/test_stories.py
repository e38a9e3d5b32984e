"""A trained model learns a real task: stories260K comes to write E2E's restaurant descriptions."""

import csv
from pathlib import Path

import polars as pl
import pytest
from workflow_runs import Snakemake

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

OVERRIDES = (
    "overrides={{base: {{id: '{base}'}}, data: {{limit: {{val: 20, test: 60}}}}, "
    "train: {{epochs: 1, epochs_per_chunk: 1, seeds: [0]}}, "
    "arms: {{{dropped}}}}}"
)


@pytest.fixture(scope="module")
def results(
    shared_data: Path, snakemake: Snakemake, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    base = shared_data.parent / "bases" / "stories260K"
    if not base.is_dir():
        pytest.skip(f"no trained model at {base}")
    folder = tmp_path_factory.mktemp("stories")
    dropped = ", ".join(
        f"{arm}: null" for arm in ("untrained", "lora_r8", "lora_r1", "qlora", "last_layers")
    )
    words = ["study=e2e_stories", f"data_root={shared_data / 'e2e-nlg'}"]
    snakemake(
        folder, "compare_arms", "--config", *words, OVERRIDES.format(base=base, dropped=dropped)
    )
    return folder / "results" / "e2e_stories"


@pytest.fixture(scope="module")
def row(results: Path) -> dict[str, str]:
    with (results / "comparison" / "comparison.csv").open() as file:
        (found,) = csv.DictReader(file)
    return found


def test_it_beats_the_commonest_description_and_falls_to_it_when_meanings_are_permuted(
    row: dict[str, str],
) -> None:
    constant = float(row["constant_bleu"])
    assert 10 < constant < 30
    assert float(row["bleu_low"]) > constant
    assert float(row["bleu_low"]) > float(row["bleu_shuffled"])
    # Of what it has above the commonest description, most goes.
    assert float(row["bleu_lost_when_shuffled"]) > 0.5
    assert row["honest_learning"] == "true"


def test_references_of_a_meaning_are_together_and_in_one_split(results: Path) -> None:
    splits = {
        name: pl.read_parquet(results / "splits" / f"{name}.parquet")
        for name in ("train", "val", "test")
    }
    assert {name: split.height for name, split in splits.items()} == {
        "train": 6000, "val": 20, "test": 60,
    }  # fmt: skip
    meanings = [set(split["group"]) for split in splits.values()]
    assert sum(map(len, meanings)) == len(set.union(*meanings))
    assert len(meanings[2]) == 60
    assert splits["test"]["reference"].list.len().mean() > 5
