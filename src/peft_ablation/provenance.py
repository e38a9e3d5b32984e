"""What a result was made from and with: config, code, inputs, packages and hardware.

A manifest stands beside a result as JSON. It holds no time stamp, so that the same code, config,
inputs and machine give the same bytes. Nothing here imports torch.
"""

import hashlib
import os
import platform
import subprocess
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from peft_ablation import __version__
from peft_ablation.artifacts import sha256_file, sha256_json

PACKAGES: Final = (
    "accelerate",
    "bitsandbytes",
    "duckdb",
    "iterative-stratification",
    "matplotlib",
    "numpy",
    "peft",
    "pillow",
    "polars",
    "pyarrow",
    "sacrebleu",
    "safetensors",
    "snakemake",
    "sqlglot",
    "tokenizers",
    "torch",
    "transformers",
)
"""Packages whose release can change a number or a file of the chain."""


def manifest(
    config: Mapping[str, Any], inputs: Mapping[str, str | Path] | Iterable[str | Path] = ()
) -> dict[str, Any]:
    """Describe how a result came about, as JSON-able values.

    `config` is the configuration that bears on the result, as plain values. `inputs` are the files
    or folders it was made from, by name or as bare paths (then named by the path as given). A
    folder's hash is taken over its sorted relative names and their contents.

    Keys: `config_sha256`, `code` (`version`, `git_commit`, `git_modified`; null outside a
    checkout), `inputs` (name → SHA-256), `packages` (name → release, null if not installed),
    `python`, `system`, `hardware` (`cpu`, `cpu_cores` this process may use, `memory_bytes`,
    `gpus`: names). Raises `OSError` when an input cannot be read.
    """
    named = (
        {str(name): Path(path) for name, path in inputs.items()}
        if isinstance(inputs, Mapping)
        else {str(path): Path(path) for path in inputs}
    )
    return {
        "config_sha256": sha256_json(config),
        "code": code_version(),
        "inputs": {name: input_sha256(path) for name, path in sorted(named.items())},
        "packages": releases(PACKAGES),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "hardware": hardware(),
    }


def input_sha256(path: str | Path) -> str:
    """Return the SHA-256 of a file, or of a folder's relative file names and contents."""
    root = Path(path)
    if not root.is_dir():
        return sha256_file(root)
    digest = hashlib.sha256()
    for file in sorted(item for item in root.rglob("*") if item.is_file()):
        # Snakemake leaves a marker with a time in folders it made; it is no part of the input.
        if file.name == ".snakemake_timestamp":
            continue
        name = file.relative_to(root).as_posix()
        digest.update(f"{sha256_file(file)}  {name}\n".encode())
    return digest.hexdigest()


def code_version() -> dict[str, Any]:
    """Return the package's release and, inside a git checkout that tracks it, the commit."""
    package = Path(__file__).resolve().parent
    # Installed code may lie inside a checkout of something else, whose commit says nothing of it.
    tracked = _git(package, "ls-files", "--error-unmatch", "__init__.py") is not None
    commit = _git(package, "rev-parse", "HEAD") if tracked else None
    changes = _git(package, "status", "--porcelain", "--", ".") if tracked else None
    return {
        "version": __version__,
        "git_commit": commit,
        "git_modified": None if changes is None else bool(changes),
    }


def version_text(code: Mapping[str, Any]) -> str:
    """Return `code` of a manifest as a sentence says it: release, and commit where it is known."""
    commit = f", commit {code['git_commit'][:12]}" if code["git_commit"] else ""
    return f"{code['version']}{commit}{' with changes' if code['git_modified'] else ''}"


def hardware() -> dict[str, Any]:
    """Return the CPU's name, the cores this process may use, memory in bytes and GPU names."""
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
    )
    return {
        "cpu": _cpu_name(),
        "cpu_cores": cores,
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "gpus": _gpu_names(),
    }


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True,
            text=True,
            timeout=20,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def releases(packages: Iterable[str]) -> dict[str, str | None]:
    """Return the installed release of each package; None where there is none."""
    return {name: _release(name) for name in packages}


def _release(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _gpu_names() -> list[str]:
    try:
        import pynvml
    except ImportError:
        return []
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return []
    try:
        count = pynvml.nvmlDeviceGetCount()
        names = (
            pynvml.nvmlDeviceGetName(pynvml.nvmlDeviceGetHandleByIndex(i)) for i in range(count)
        )
        return [name.decode() if isinstance(name, bytes) else str(name) for name in names]
    except pynvml.NVMLError:
        return []
    finally:
        pynvml.nvmlShutdown()
