"""What others trained is scored like an arm, and nothing is trained for it."""

import csv
import json
import re
from pathlib import Path

import polars as pl
import pytest
import torch
import yaml
from safetensors.torch import save_file
from test_suites import LINE
from workflow_runs import ROOT, Snakemake


def line_model(folder: Path, slope: float, shift: float) -> Path:
    folder.mkdir()
    tensors = {"slope.weight": [[slope]], "shift.weight": [[1.0]], "shift.bias": [shift]}
    save_file({n: torch.tensor(v) for n, v in tensors.items()}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"model_type": "line"}))
    return folder


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "tests" / "workflow"))
    line_model(tmp_path / "line_base", 0.1, 0.0)
    line_model(tmp_path / "theirs", 2.5, 1.0)
    arms = {**LINE["arms"], "theirs": {"method": "foreign", "base": {"id": "theirs"}}}
    (tmp_path / "line.yaml").write_text(yaml.safe_dump({**LINE, "arms": arms}, sort_keys=False))
    return "study=line.yaml"


def test_others_are_scored_without_training(
    study: str, tmp_path: Path, snakemake: Snakemake
) -> None:
    snakemake(tmp_path, "score_others", "--config", study)
    results = tmp_path / "results" / "line"
    with (results / "others" / "comparison.csv").open() as file:
        (row,) = csv.DictReader(file)
    test = pl.read_parquet(results / "splits" / "test.parquet")
    errors = (2.5 * test["x"] + 1.0 - test["y"]) ** 2
    assert float(row["squared_error"]) == pytest.approx(errors.mean(), rel=1e-5)
    assert float(row["squared_error_shuffled"]) > float(row["squared_error"])
    assert row["squared_error_low"] and row["mean_squared_error"]
    assert row["trained_elsewhere"] == "true"
    page = (results / "others" / "comparison.md").read_text()
    assert "Others trained theirs: on what, for how long" in page
    assert [path.name for path in (results / "runs").iterdir()] == ["theirs"]


def test_beside_trained_arms_it_is_one_more_row(
    study: str, tmp_path: Path, snakemake: Snakemake
) -> None:
    done = snakemake(tmp_path, "--dry-run", "--config", study)
    found = dict(re.findall(r"^(\w+) +(\d+)$", done.stdout, re.MULTILINE))
    assert (found["keep_base"], found["predict"]) == ("1", "3")
    assert "compare_others" not in found


def test_an_adapter_that_is_none_is_one_line_before_any_job(
    study: str, tmp_path: Path, snakemake: Snakemake
) -> None:
    arm = "{method: foreign, adapter: nowhere}"
    done = snakemake(
        tmp_path, "score_others", "--config", study, f"overrides={{arms: {{x: {arm}}}}}",
        check=False,
    )  # fmt: skip
    output = done.stdout + done.stderr
    (line,) = [line for line in output.splitlines() if line.startswith("peft-ablation: ")]
    assert line.startswith("peft-ablation: study line: arms.x.adapter: nowhere: no such folder; ")
    assert not (tmp_path / "results").exists()
