"""Paths and types of the workflow runs that `conftest.py` makes."""

import subprocess
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TINY = ROOT / "tests" / "workflow" / "tiny.yaml"

Snakemake = Callable[..., subprocess.CompletedProcess[str]]
