"""A task, a method and a source from a folder of one's own, through the real workflow."""

import csv
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from workflow_runs import ROOT, Snakemake

STUDY = """
task: {name: toy.toy_task}
data: {source: toy.toy_source, public: true}
base: {id: line_base}
train: {epochs: 12, epochs_per_chunk: 12, batch_size: 8, precision: fp32, seeds: [0],
        schedule: constant, warmup: 0.0, weight_decay: 0.0, threads: 1}
arms:
  fft: {method: full, learning_rate: 0.05}
  shift: {method: toy.toy_method, learning_rate: 0.05}
score: {bootstrap_samples: 50}
"""


@pytest.fixture
def own_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A study of one's own, its modules on PYTHONPATH, its base in a folder: slope 0.1, shift 0."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "tests" / "workflow"))
    base = tmp_path / "line_base"
    base.mkdir()
    tensors = {"slope.weight": [[0.1]], "shift.weight": [[1.0]], "shift.bias": [0.0]}
    save_file({n: torch.tensor(v) for n, v in tensors.items()}, base / "model.safetensors")
    (base / "config.json").write_text(json.dumps({"model_type": "line"}))
    study = tmp_path / "line.yaml"
    study.write_text(STUDY)
    return study


def test_a_task_a_method_and_a_source_of_ones_own_reach_the_comparison(
    own_study: Path, tmp_path: Path, snakemake: Snakemake
) -> None:
    snakemake(tmp_path, "--config", f"study={own_study}")
    comparison = tmp_path / "results" / "line" / "comparison"
    with (comparison / "comparison.csv").open() as file:
        rows = {row["arm"]: row for row in csv.DictReader(file)}
    assert list(rows) == ["fft", "shift"]
    # Three weights, of which the method trains two.
    assert [row["trainable_parameters"] for row in rows.values()] == ["3", "2"]
    # Noise of 0.05 leaves 0.0025; the mean leaves the variance of 3 x, 9 / 3.
    assert float(rows["fft"]["squared_error"]) < 0.02
    assert float(rows["fft"]["mean_squared_error"]) == pytest.approx(3, rel=0.3)
    assert float(rows["shift"]["squared_error_shuffled"]) > float(rows["shift"]["squared_error"])
    assert rows["fft"]["beats_mean_squared_error"] == "true"
    assert rows["fft"]["test_groups"] == str(int(rows["fft"]["test_examples"]) // 2)
    assert "mean squared error" in (comparison / "comparison.md").read_text()
    assert (tmp_path / "results" / "line" / "figures" / "quality.svg").is_file()


def test_an_unknown_module_is_named(own_study: Path, tmp_path: Path, snakemake: Snakemake) -> None:
    own_study.write_text(STUDY.replace("toy.toy_method", "toy.toy_metod"))
    done = snakemake(tmp_path, "--dry-run", "--config", f"study={own_study}", check=False)
    output = done.stdout + done.stderr
    (line,) = [line for line in output.splitlines() if line.startswith("peft-ablation: ")]
    assert "arms.shift.method: found 'toy.toy_metod', allowed: " in line
