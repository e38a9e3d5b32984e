"""Wrong input at the command line: one clear line, no traceback, nothing half-written.

What each stage refuses, and in which words, is tested beside it: columns, label values, ids and
views in `tests/unit/test_cohort.py`; labels without a positive in `test_sampling.py`; fewer
subjects than splits in `test_splits.py`; missing, empty, truncated, undecodable and altered images
in `test_images.py`; bases without safetensors in `test_base.py`; texts longer than `max_tokens` in
`test_training.py`; every key of the config in `test_config.py`.
"""

import gzip
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from workflow_runs import ROOT, TINY, Snakemake

METADATA = "dicom_id,subject_id,study_id,ViewPosition\nd1,10000001,50000001,PA\n"
CHEXPERT = "subject_id,study_id,Atelectasis,No Finding\n10000001,50000001,1.0,\n"


def told(done: "subprocess.CompletedProcess[str]") -> list[str]:
    """Lines of the project at the terminal, after checking that the run failed without more."""
    output = done.stdout + done.stderr
    assert done.returncode != 0
    assert "Traceback" not in output
    return [line for line in output.splitlines() if line.startswith("peft-ablation: ")]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (["study=phantom_cx"], "config: study: found 'phantom_cx', allowed: "),
        (["stduy=phantom_cxr"], "config: stduy: unknown key, allowed here: "),
        (["overrides={train: {epochs: many}}"], "study phantom_cxr: train.epochs: found 'many'"),
        (["overrides={arms: {fft: {method: lora, targets: txt}}}"], "arms.fft.targets: found 't"),
        (
            ["overrides={arms: {fft: {method: lora, targets: 'regex:x'}}}"],
            "matches no module of Git",
        ),
        (["overrides={sample: {quota: 0}}"], "study phantom_cxr: sample.quota: found '0', expecte"),
        (["overrides={split: {train: 0.7}}"], "split: train + val + test is 1.1, expected 1"),
        (["overrides={base: {id: ./x}}"], "study phantom_cxr: base.id: './x' is no such folder; "),
        (
            ["study=mimic_cxr_smoke"],
            "data_root: not set, but study mimic_cxr_smoke reads a tree",
        ),
        (["study=mimic_cxr_smoke", "data_root=none"], "config: data_root: no folder none; set"),
        (["study=mimic_cxr_smoke", "data_root=."], "data_root: . holds no mimic-cxr-2.0.0-meta"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_wrong_config_is_one_line_before_any_job(
    config: list[str], message: str, tmp_path: Path, snakemake: Snakemake
) -> None:
    done = snakemake(tmp_path, "--config", *config, check=False)
    (line,) = told(done)
    assert message in line
    assert not (tmp_path / "results").exists()


def test_wrong_table_stops_its_job_in_one_line_and_leaves_nothing(
    tmp_path: Path, snakemake: Snakemake
) -> None:
    for table, content in (("metadata", METADATA), ("chexpert", CHEXPERT)):
        path = tmp_path / "tree" / f"mimic-cxr-2.0.0-{table}.csv.gz"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(gzip.compress(content.encode()))
    done = snakemake(
        tmp_path, "results/mimic_cxr_smoke/cohort/metadata.parquet",
        "--config", "study=mimic_cxr_smoke", "data_root=tree", check=False,
    )  # fmt: skip
    (line,) = told(done)
    assert "mimic-cxr-2.0.0-chexpert.csv.gz" in line
    assert "Cardiomegaly" in line
    made = [path.name for path in (tmp_path / "results").rglob("*") if path.is_file()]
    assert made == ["query_metadata.log"]


def test_training_does_not_retry_what_a_person_must_mend(
    tiny_run: Path, tmp_path: Path, snakemake: Snakemake
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(tiny_run, folder, symlinks=True)

    def train(max_tokens: int, check: bool) -> "subprocess.CompletedProcess[str]":
        overrides = f"{{train: {{epochs: 1, epochs_per_chunk: 1, max_tokens: {max_tokens}}}}}"
        return snakemake(
            folder, "results/tiny/runs/fft/seed-0/model",
            "--config", f"study={TINY}", f"overrides={overrides}", check=check,
        )  # fmt: skip

    log = folder / "results" / "tiny" / "logs" / "train" / "fft.seed-0.chunk-0.log"
    done = train(16, check=False)
    # Snakemake has its retries, but the first attempt alone looked at the input.
    assert (done.stdout + done.stderr).count("Trying to restart job") == 3
    (line,) = told(done)
    assert "max_tokens" in line
    (entry,) = log.read_text().splitlines()
    assert entry.endswith(f"not tried again: {line.removeprefix('peft-ablation: ')}")
    # Mended, the same command is tried afresh.
    train(200, check=True)


class Interrupted:
    """A run of the workflow in the middle of a job, stopped but not yet dead."""

    def __init__(self, folder: Path, *words: str) -> None:
        folder.mkdir(exist_ok=True)
        self.process = subprocess.Popen(
            [
                str(Path(sys.executable).with_name("snakemake")), "--cores", "1",
                "--resources", "gpu=1", "--snakefile", str(ROOT / "Snakefile"),
                "--workflow-profile", str(ROOT / "profiles" / "default"), *words,
            ],
            cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip
        begun = folder / "results" / "tiny" / "phantom"
        deadline = time.monotonic() + 120
        while not any(begun.rglob("*.jpg")):
            assert self.process.poll() is None, "the run ended before it could be interrupted"
            assert time.monotonic() < deadline
            time.sleep(0.02)
        os.killpg(self.process.pid, signal.SIGSTOP)

    def kill(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def locks(folder: Path) -> list[Path]:
    return sorted((folder / ".snakemake" / "locks").glob("*.lock"))


def test_an_interrupted_run_goes_on_with_the_same_command(
    tmp_path: Path, snakemake: Snakemake
) -> None:
    words: tuple[Any, ...] = (
        "results/tiny/cohort/metadata.parquet",
        "--config", f"study={TINY}", "overrides={data: {phantom: {subjects: 300}}}",
    )  # fmt: skip
    run = Interrupted(tmp_path, *words)
    try:
        left = locks(tmp_path)
        assert left
        # While it lives, Snakemake refuses a second run of the same files; a dry run may look.
        second = snakemake(tmp_path, *words, check=False)
        assert second.returncode != 0
        assert "cannot be locked" in second.stdout + second.stderr
        snakemake(tmp_path, *words, "--dry-run", check=False)
        assert locks(tmp_path) == left
    finally:
        run.kill()
    assert locks(tmp_path) == left
    assert not (tmp_path / words[0]).exists()
    snakemake(tmp_path, *words)
    assert (tmp_path / words[0]).exists()
    assert locks(tmp_path) == []


# The signal comes while the scheduler books a finished job, with its lock held.
SIGTERM_AT_WORK = """
import os, signal, sys
from snakemake.cli import main
from snakemake.scheduling.job_scheduler import JobScheduler

book = JobScheduler._finish_jobs

def signalled(self):
    if self._tofinish:
        os.kill(os.getpid(), signal.SIGTERM)
    book(self)

JobScheduler._finish_jobs = signalled
main(sys.argv[1:])
"""


def test_sigterm_ends_snakemake_whatever_it_is_at(tmp_path: Path) -> None:
    done = subprocess.run(
        [
            sys.executable, "-c", SIGTERM_AT_WORK, "stratify_splits",
            "--cores", "1", "--resources", "gpu=1", "--snakefile", str(ROOT / "Snakefile"),
            "--directory", str(tmp_path), "--config", f"study={TINY}",
        ],
        capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert "Will exit after finishing currently running jobs" in done.stderr
    assert (tmp_path / "results/tiny/phantom").is_dir()
    assert not (tmp_path / "results/tiny/splits").exists()
