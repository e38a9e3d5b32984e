"""A table of one's own, through the real workflow: what new_study writes ends in a comparison."""

import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from loopback_hub import COMMIT, IDENTITY, loopback_hub
from PIL import Image
from workflow_runs import Snakemake

KINDS = ("square", "stripes")


def new_study(folder: Path, *words: str) -> None:
    """Run the command as a person does."""
    command = [sys.executable, "-m", "peft_ablation.new_study", *words]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)


@pytest.fixture(scope="module")
def pictures(snakemake: Snakemake, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of 48 drawn pictures of two kinds; one picture stands in training and in test."""
    folder = tmp_path_factory.mktemp("own_data")
    random = np.random.default_rng(0)
    rows = []
    (folder / "photos").mkdir()
    for number in range(48):
        kind = KINDS[number % 2]
        pixels = random.integers(0, 80, (24, 24), dtype=np.uint8)
        pixels[6:18, 6 : 18 : 1 if kind == "square" else 4] += 150
        part = ("train", "train", "validation", "test")[number // 12]
        if number == 47:
            pixels = np.asarray(Image.open(folder / "photos" / "1.png"))
        Image.fromarray(pixels).save(folder / "photos" / f"{number}.png")
        rows.append((f"{number}.png", kind, part))
    with (folder / "mine.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("picture", "kind", "part"), *rows])
    new_study(folder, "mine.csv", "--images", "photos")
    snakemake(
        folder, "compare_arms", "--config", "study=mine", f"data_root={folder / 'photos'}",
        "smoke=true", "overrides={arms: {lora: null, head_only: null}}",
    )  # fmt: skip
    return folder / "results" / "mine.smoke"


def test_a_csv_and_a_folder_of_images_end_in_a_comparison(pictures: Path) -> None:
    with (pictures / "comparison" / "comparison.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["arm"] for row in rows] == ["fft"]
    # Two classes, twelve test pictures, six of each.
    assert all(float(row["majority_accuracy"]) == 0.5 for row in rows)
    assert all(row["test_examples"] == "12" for row in rows)


def test_splits_of_the_table_are_kept(pictures: Path) -> None:
    rows = json.loads((pictures / "splits" / "account.json").read_text())["rows"]
    assert rows == {"train": 24, "val": 12, "test": 12}


def test_the_comparison_says_what_training_and_test_share(pictures: Path) -> None:
    page = (pictures / "comparison" / "comparison.md").read_text()
    assert "Training and test share 1 images (pixel by pixel)" in page


def test_a_changed_table_is_read_again(pictures: Path, snakemake: Snakemake) -> None:
    folder = pictures.parents[1]
    words = ("--config", "study=mine", f"data_root={folder / 'photos'}", "smoke=true")
    quiet = ("stratify_splits", "--dry-run", *words)
    assert "read_examples" not in snakemake(folder, *quiet).stdout
    table = folder / "mine.csv"
    table.write_text(table.read_text().replace("9.png", "8.png"))
    assert "read_examples" in snakemake(folder, *quiet).stdout


@pytest.fixture
def hub_study(tmp_path: Path) -> Path:
    columns = {"text": "text", "label": "label"}
    data = {"source": "table", "hub": {"id": IDENTITY, "revision": COMMIT},
            "files": "data/rows.parquet", "columns": columns}  # fmt: skip
    study = {
        "task": "text_classification",
        "data": data,
        "base": {"id": "somebody/base", "revision": "x", "model_type": "roberta"},
        "arms": {"fft": {"method": "full", "learning_rate": 1e-3}},
    }
    (tmp_path / "cities.yaml").write_text(json.dumps(study))
    return tmp_path / "cities.yaml"


def test_a_hub_data_set_is_fetched_once_and_read_offline(
    hub_study: Path, snakemake: Snakemake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = {"text": [f"text {row}" for row in range(12)], "label": [0, 1] * 6}
    written = io.BytesIO()
    pl.DataFrame(rows).write_parquet(written)
    words = ("stratify_splits", "--config", f"study={hub_study}")
    with loopback_hub({"data/rows.parquet": written.getvalue()}) as (address, asked):
        monkeypatch.setenv("HF_ENDPOINT", address)
        snakemake(tmp_path, *words)
        assert asked
    kept = tmp_path / f"resources/datasets/somebody--cities@{COMMIT}/data/rows.parquet"
    assert kept.read_bytes() == written.getvalue()
    # The hub is gone: what is there is enough.
    snakemake(tmp_path, *words, "results=elsewhere")
    assert (tmp_path / "elsewhere/cities/splits/train.parquet").is_file()
