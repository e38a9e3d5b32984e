"""Runs of the real workflow, each made once a session."""

import subprocess
import sys
from pathlib import Path

import pytest
from workflow_runs import ROOT, TINY, Snakemake


@pytest.fixture(scope="session")
def snakemake() -> Snakemake:
    """Run `snakemake` of this environment in `folder` with the given words; check its status."""

    def run(folder: Path, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        folder.mkdir(parents=True, exist_ok=True)
        done = subprocess.run(
            [
                str(Path(sys.executable).with_name("snakemake")), "--cores", "2",
                "--resources", "gpu=1", "--snakefile", str(ROOT / "Snakefile"),
                "--directory", str(folder),
                "--workflow-profile", str(ROOT / "profiles" / "default"), *words,
            ],
            capture_output=True, text=True, check=False, cwd=folder,
        )  # fmt: skip
        if check and done.returncode:
            pytest.fail(f"{' '.join(words)}\n{done.stdout[-2000:]}\n{done.stderr[-6000:]}")
        return done

    return run


@pytest.fixture(scope="session")
def tiny_run(snakemake: Snakemake, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Working directory in which the tiny study has run to its end."""
    folder = tmp_path_factory.mktemp("tiny_run")
    snakemake(folder, "--config", f"study={TINY}")
    return folder
