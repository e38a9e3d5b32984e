"""The shipped studies: the phantom learns honestly, real radiographs run to the figures.

The phantom with one of its two seeds, to spare minutes.
"""

import csv
from collections import Counter
from pathlib import Path

import polars as pl
import pytest
from workflow_runs import ROOT, Snakemake

from peft_ablation.sources.mimic.labels import LABELS, display_name

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]
BASES = f"bases={ROOT / 'resources' / 'bases'}"


@pytest.fixture(scope="module")
def phantom(snakemake: Snakemake, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phantom")
    snakemake(folder, "--config", BASES, "overrides={train: {seeds: [0]}}")
    return folder / "results" / "phantom_cxr"


@pytest.fixture(scope="module")
def real(shared_data: Path, snakemake: Snakemake, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("real")
    tree = shared_data / "nih-cxr-mimic-layout"
    snakemake(folder, "--config", "study=mimic_cxr_smoke", f"data_root={tree}", BASES)
    return folder / "results" / "mimic_cxr_smoke"


def rows(results: Path) -> list[dict[str, str]]:
    with (results / "comparison" / "comparison.csv").open() as file:
        return list(csv.DictReader(file))


def test_every_arm_of_the_phantom_reads_the_image(phantom: Path) -> None:
    compared = rows(phantom)
    assert [row["arm"] for row in compared] == ["fft", "lora_vision", "lora_text"]
    for row in compared:
        value = {key: float(row[key]) for key in row if row[key].replace(".", "").isdigit()}
        assert value["bleu"] > value["constant_report_bleu"], row["arm"]
        assert value["findings_f1"] > value["constant_report_findings_f1"], row["arm"]
        assert value["findings_f1"] > value["label_prior_findings_f1"], row["arm"]
        assert value["findings_f1_shuffled"] <= value["findings_f1"] / 2, row["arm"]


def test_no_patient_of_the_phantom_is_in_two_splits(phantom: Path) -> None:
    subjects = [
        set(pl.read_parquet(phantom / "splits" / f"{name}.parquet")["subject_id"])
        for name in ("train", "val", "test")
    ]
    assert sum(map(len, subjects)) == len(set.union(*subjects))


def test_real_radiographs_run_to_table_and_figures(real: Path) -> None:
    assert [row["arm"] for row in rows(real)] == ["fft", "lora_vision", "lora_text"]
    names = {path.name for path in (real / "figures").iterdir()}
    assert {"quality.svg", "cost.svg", "loss_curves.svg", "split_balance.png"} <= names
    assert not any(name.startswith("examples") for name in names)  # not public: no patient shown


def test_real_positive_counts_equal_the_csvs(real: Path, shared_data: Path) -> None:
    tree = shared_data / "nih-cxr-mimic-layout"
    labels = pl.read_csv(tree / "mimic-cxr-2.0.0-chexpert.csv.gz", infer_schema_length=None)
    images = pl.read_csv(tree / "mimic-cxr-2.0.0-metadata.csv.gz", infer_schema_length=None)
    by_study = {(row["subject_id"], row["study_id"]): row for row in labels.iter_rows(named=True)}
    expected: Counter[str] = Counter()
    for image in images.iter_rows(named=True):
        row = by_study.get((image["subject_id"], image["study_id"]))
        if row is not None and image["ViewPosition"] in ("AP", "PA"):
            expected.update(label for label in LABELS if row[display_name(label)] == 1)
    table = pl.read_parquet(real / "cohort" / "metadata.parquet")
    found = {label: int((table[label] == 1).sum()) for label in LABELS}
    assert found == {label: expected[label] for label in LABELS}
    sampled = pl.read_parquet(real / "cohort" / "examples.parquet")
    parts = pl.concat(
        [pl.read_parquet(real / "splits" / f"{n}.parquet") for n in ("train", "val", "test")]
    )
    for label in LABELS:
        assert (parts[label] == 1).sum() == (sampled[label] == 1).sum()
    assert sorted(parts["dicom_id"]) == sorted(sampled["dicom_id"])
