"""`snakemake --logger stages`: a line a stage, errors in full, nothing else."""

import os
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from snakemake_logger_plugin_stages import stage

SOURCE = str(Path(__file__).resolve().parents[2] / "src")
SNAKEFILE = """
rule all:
    input: "sum.txt"

rule part:
    output: "{number}.txt"
    log: "{number}.log"
    message: "Writing part of {wildcards.number}, once"
    shell: "echo the line that says why > {log}; test {wildcards.number} != $WRONG; touch {output}"

rule add:
    input: "1.txt", "2.txt", "3.txt"
    output: "sum.txt"
    message: "Adding 3 numbers"
    shell: "touch {output}"
"""


def run(
    folder: Path, wrong: str, *words: str, stderr: int = subprocess.PIPE
) -> "subprocess.CompletedProcess[str]":
    (folder / "Snakefile").write_text(SNAKEFILE)
    return subprocess.run(
        [
            str(Path(sys.executable).with_name("snakemake")), "--cores", "1",
            "--show-failed-logs", *words, "--logger", "stages",
        ],
        cwd=folder, stdout=subprocess.PIPE, stderr=stderr, text=True, check=False,
        env={"PATH": "/usr/bin:/bin", "HOME": str(folder), "WRONG": wrong, "PYTHONPATH": SOURCE},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("message", "wildcards", "count", "line"),
    [
        ("Comparing arms", {}, 1, "Comparing arms"),
        ("Scoring fft, seed 0", {"arm": "fft", "seed": "0"}, 1, "Scoring fft, seed 0"),
        ("Scoring fft, seed 0", {"arm": "fft", "seed": "0"}, 6, "Scoring (6 jobs)"),
        ("Training fft, seed 0, chunk 1 of 3", {"seed": "0"}, 4, "Training fft (4 jobs)"),
        ("Keeping the best epoch of a.b", {"arm": "a.b"}, 2, "Keeping the best epoch (2 jobs)"),
        ("Caching images, shard 0 of 2", {"shard": "0"}, 2, "Caching images (2 jobs)"),
        # The value 1 is no part of the name r1.
        ("Training r1, seed 1", {"seed": "1"}, 2, "Training r1 (2 jobs)"),
        ("Drawing", {}, 2, "Drawing (2 jobs)"),
        ("fft again", {"arm": "fft"}, 2, "the_rule (2 jobs)"),
    ],
)  # fmt: skip
def test_a_stage_is_announced_without_what_tells_its_jobs_apart(
    message: str, wildcards: dict[str, str], count: int, line: str
) -> None:
    assert stage(message, "the_rule", wildcards, count) == line


def test_a_run_is_a_line_a_stage(tmp_path: Path) -> None:
    done = run(tmp_path, "none")
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines() == ["Writing part (3 jobs)", "Adding 3 numbers"]
    # What Snakemake says by itself is in its own log.
    (log,) = (tmp_path / ".snakemake" / "log").iterdir()
    assert "3 of 5 steps (60%) done" in log.read_text()


def test_a_terminal_sees_one_progress_bar(tmp_path: Path) -> None:
    ours, terminal = os.openpty()
    termios.tcsetwinsize(terminal, (25, 80))
    done = run(tmp_path, "none", stderr=terminal)
    os.close(terminal)
    seen = os.read(ours, 1 << 16).decode()
    os.close(ours)
    assert done.returncode == 0
    assert "| 0/5 [" in seen and "100%|" in seen and "| 5/5 [" in seen


def test_an_error_is_told_in_full_with_the_log(tmp_path: Path) -> None:
    done = run(tmp_path, "2", "--keep-going")
    assert done.returncode == 1
    lines = done.stderr.splitlines()
    assert "Error in rule part:" in lines
    assert lines.count("the line that says why") == 1
    assert "Adding 3 numbers" not in lines


def test_a_dry_run_says_all_that_snakemake_says(tmp_path: Path) -> None:
    done = run(tmp_path, "none", "--dry-run")
    assert "Job stats:" in done.stderr + done.stdout
    assert "Reasons:" in done.stderr + done.stdout
