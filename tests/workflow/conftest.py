"""Runs of the real workflow, each made once a session."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from workflow_runs import ROOT, TINY, Snakemake

# Imported by every Python below: no address outside this machine's own sockets can be reached.
OFFLINE = """
import socket
def refuse(*args, **kwargs):
    raise SystemExit("reached for the network")
socket.getaddrinfo = socket.create_connection = refuse
connect = socket.socket.connect
socket.socket.connect = lambda self, to: connect(self, to) if isinstance(to, str) else refuse()
"""


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut the network and hide all credentials and caches from processes started in the test."""
    folder = tmp_path / "offline"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(OFFLINE)
    monkeypatch.setenv("PYTHONPATH", str(folder))
    monkeypatch.setenv("HOME", str(folder))
    for name in os.environ:
        if name.startswith(("GOOGLE_", "GCLOUD", "CLOUDSDK_", "HF_")):
            monkeypatch.delenv(name)
    refused = subprocess.run(
        [sys.executable, "-c", "import socket; socket.create_connection(('127.0.0.1', 9))"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "reached for the network" in refused.stderr


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
