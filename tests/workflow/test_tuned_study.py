"""Learning rates chosen in the DAG: a trial is a plain run, and training heeds the choice."""

import re
import shutil
from pathlib import Path

import polars as pl
from workflow_runs import TINY, Snakemake

from peft_ablation.artifacts import read_json, write_json
from peft_ablation.training.history_table import MEASURED


def history(path: Path) -> str:
    """A run's history less what differs between two runs of the same training."""
    return pl.read_csv(path).drop(*MEASURED, "chunk").write_csv()


def test_a_trial_equals_a_plain_run_and_the_arm_is_trained_at_the_chosen_rate(
    tiny_run: Path, tmp_path: Path, snakemake: Snakemake
) -> None:
    """The study's own rate and one that diverges, with the seed that the study trains with."""
    folder = tmp_path / "run"
    shutil.copytree(tiny_run, folder, symlinks=True)
    run = folder / "results" / "tiny" / "runs" / "lora_text" / "seed-0"
    plain = history(run / "history.csv")
    words = (
        "train_lora_text", "--config", f"study={TINY}",
        "overrides={train: {epochs_per_chunk: 4}, arms: {lora_text: {learning_rate: 1}},"
        " tune: {learning_rate: [5.0e-3, 1.0e+30], seed: 0}}",
    )  # fmt: skip
    snakemake(folder, *words)
    tuning = folder / "results" / "tiny" / "tuning" / "lora_text"
    assert history(tuning / "0.005" / "seed-0" / "history.csv") == plain
    lost = read_json(tuning / "1e+30" / "seed-0" / "trial.json")
    assert (lost["val_loss"], lost["epochs"]) == (None, 0)
    chosen = read_json(tuning / "chosen.json")
    assert (chosen["learning_rate"], chosen["learning_rate_at_edge"]) == (5e-3, "smallest")
    assert history(run / "history.csv") == plain
    assert read_json(run / "cost.json")["learning_rate"] == 5e-3
    # The choice is an input of training, and of this arm's alone.
    assert "Nothing to be done" in _planned(snakemake, folder, *words)
    write_json(tuning / "chosen.json", chosen | {"learning_rate": 4e-3})
    assert re.search(r"^train_lora_text_chunk +1$", _planned(snakemake, folder, *words), re.M)


def _planned(snakemake: Snakemake, folder: Path, *words: str) -> str:
    done = snakemake(folder, "--dry-run", *words)
    return str(done.stdout + done.stderr)
