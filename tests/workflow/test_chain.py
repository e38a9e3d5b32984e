"""The tiny study through the real workflow, from nothing to the comparison."""

import csv
import json
import re
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from workflow_runs import ROOT, TINY, Snakemake

ARMS = ["fft", "lora_vision", "lora_text"]
COLUMNS = {
    "arm", "seeds", "trainable_parameters", "total_parameters", "trainable_percent", "bleu",
    "findings_f1", "test_loss", "train_seconds", "peak_memory_mb", "adapter_mb", "rank",
}  # fmt: skip
FIGURES = [
    "loss_curves", "quality", "cost", "quality_cost", "label_counts", "split_balance", "examples",
    "views", "pareto",
]  # fmt: skip


def test_comparison_has_one_row_an_arm(tiny_run: Path) -> None:
    with (tiny_run / "results/tiny/comparison/comparison.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["arm"] for row in rows] == ARMS
    assert rows[0].keys() >= COLUMNS
    assert [row["rank"] for row in rows] == ["", "4", "4"]
    for row in rows:
        share = 100 * int(row["trainable_parameters"]) / int(row["total_parameters"])
        assert float(row["trainable_percent"]) == pytest.approx(share, abs=1e-4)
        assert float(row["train_seconds"]) > 0


def test_the_page_has_the_fronts_and_the_equal_budgets(tiny_run: Path) -> None:
    page = (tiny_run / "results/tiny/comparison/comparison.md").read_text()
    assert "## Who is on the front\n" in page
    assert "| arm | validation loss after 4 epochs |" in page


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_has_its_table(tiny_run: Path, name: str) -> None:
    figures = tiny_run / "results/tiny/figures"
    assert (figures / f"{name}.svg").read_text().lstrip().startswith("<?xml")
    assert (figures / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    assert pl.read_csv(figures / f"{name}.csv").height > 0


def test_nothing_is_left_to_do(tiny_run: Path, snakemake: Snakemake) -> None:
    done = snakemake(tiny_run, "--config", f"study={TINY}")
    assert "Nothing to be done" in done.stdout + done.stderr
    assert not list((tiny_run / "results/tiny/runs").glob("*/*/chunk-*"))
    assert not list((tiny_run / "results/tiny/checkpoints").rglob("step-*"))


def test_a_cosmetic_edit_retrains_nothing_and_a_learning_rate_one_arm(
    tiny_run: Path, snakemake: Snakemake, tmp_path: Path
) -> None:
    study = tmp_path / "tiny.yaml"
    study.write_text("# another comment\n" + TINY.read_text().replace(", ", ",   "))
    done = snakemake(tiny_run, "-n", "--config", f"study={study}")
    assert "Nothing to be done" in done.stdout + done.stderr
    study.write_text(TINY.read_text().replace("targets: text, r: 4", "targets: text, r: 2"))
    told = snakemake(tiny_run, "-n", "--config", f"study={study}").stdout
    assert "train_lora_text_chunk" in told
    assert "train_fft_chunk" not in told and "train_lora_vision_chunk" not in told


def test_one_arm_and_one_figure_can_be_asked_for(tmp_path: Path, snakemake: Snakemake) -> None:
    arm = snakemake(tmp_path, "-n", "train_lora_text", "--config", f"study={TINY}").stdout
    assert "train_lora_text_chunk" in arm and "train_fft_chunk" not in arm
    figure = snakemake(tmp_path, "-n", "plot_split_balance", "--config", f"study={TINY}").stdout
    assert "stratify_splits" in figure and "train_" not in figure


def test_the_same_seed_gives_the_same_bytes(
    tiny_run: Path, snakemake: Snakemake, tmp_path: Path
) -> None:
    snakemake(tmp_path, "stratify_splits", "cache_images", "--config", f"study={TINY}", check=False)
    snakemake(tmp_path, "stratify_splits", "index_images", "--config", f"study={TINY}")
    for folder in ("cohort", "splits", "images"):
        for path in sorted((tmp_path / "results/tiny" / folder).iterdir()):
            twin = tiny_run / path.relative_to(tmp_path)
            assert path.read_bytes() == twin.read_bytes(), path.name


def test_no_id_or_text_in_any_log(tiny_run: Path) -> None:
    test = pl.read_parquet(tiny_run / "results/tiny/splits/test.parquet")
    logs = list((tiny_run / "results/tiny/logs").rglob("*.log"))
    assert len(logs) > 20
    for path in logs:
        text = path.read_text()
        for row in test.iter_rows(named=True):
            assert row["dicom_id"] not in text and row["report"] not in text, path
            assert str(row["subject_id"]) not in text, path


def test_report_page_has_figures_and_captions(
    tiny_run: Path, snakemake: Snakemake, tmp_path: Path
) -> None:
    page = tmp_path / "report.html"
    snakemake(tiny_run, "--config", f"study={TINY}", "--report", str(page))
    html = page.read_text()
    for name in FIGURES:
        assert f"{name}.svg" in html or f"{name}.png" in html, name
    summary = (tiny_run / "results/tiny/comparison/summary.txt").read_text().strip()
    assert summary.startswith("Study tiny compares fft, lora_vision and lora_text on")
    description = html[html.index("var workflow_desc") :].partition("\n")[0]
    assert summary[:150] in description
    told = html.count("Study tiny, task captioning, data from phantom: fft, lora_vision")
    assert told >= len(FIGURES)


def test_a_finished_study_is_verified(tiny_run: Path, snakemake: Snakemake) -> None:
    """And nothing is made anew for it: what was changed by hand would be gone."""
    done = snakemake(tiny_run, "--config", f"study={TINY}", "--", "verify")
    assert "1 of 1 steps" in done.stderr
    log = (tiny_run / "results/tiny/logs/verify.log").read_text()
    assert re.search(r"\d{2,} files are as recorded", log)


def test_every_caption_names_the_study() -> None:
    """All but those across studies, and what stands first in the report."""
    across = (ROOT / "workflow" / "rules" / "suite.smk").read_text()
    for caption in (ROOT / "workflow" / "report").glob("*.rst"):
        if caption.stem != "workflow" and caption.name not in across:
            assert "{{ snakemake.config.conduct.caption }}" in caption.read_text(), caption.name


def test_manifest_names_what_the_comparison_was_made_with(tiny_run: Path) -> None:
    manifest = json.loads((tiny_run / "results/tiny/comparison/manifest.json").read_text())
    assert {"config_sha256", "code", "inputs", "packages", "hardware"} <= manifest.keys()


@pytest.mark.timeout(1200)
def test_killed_runs_end_as_an_undisturbed_one() -> None:
    script = ROOT / "tests" / "workflow" / "kill_and_resume.py"
    done = subprocess.run(
        [sys.executable, str(script), "--kills", "5", "--limit", "1100"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "files identical" in done.stdout
