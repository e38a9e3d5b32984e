"""Exclusive use of a thing by one process of this machine, given back when the process dies.

A lease is an advisory lock (flock) on a file: the kernel drops it with the process, so nothing has
to be cleaned up after a kill. GPUs: Snakemake counts them but hands out no ids, so jobs that run
side by side take one each here.
"""

import fcntl
import logging
import os
import signal
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TextIO

from peft_ablation.errors import InputError

log = logging.getLogger(__name__)

_POLL_SECONDS = 0.2


def _try_lock(path: Path) -> TextIO | None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = path.open("a+", encoding="utf-8")
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        handle.close()
        return None
    handle.seek(0)
    handle.truncate()
    handle.write(f"{socket.gethostname()} {os.getpid()}\n")
    handle.flush()
    return handle


def _holder(path: Path) -> tuple[str, int] | None:
    try:
        host, process = path.read_text(encoding="utf-8").split()
        return host, int(process)
    except (OSError, ValueError):
        return None


@contextmanager
def exclusive(path: str | Path, *, take_over_seconds: float = 120) -> Iterator[None]:
    """Hold the lock file `path`; ask an earlier process of ours that holds it to stop first.

    A killed Snakemake can leave its training process running. That process, asked by SIGTERM,
    saves a checkpoint and ends, and this one goes on from there. Raises `InputError` if the holder
    is on another machine or does not end in time.
    """
    path = Path(path)
    handle = _try_lock(path)
    if handle is None:
        holder = _holder(path)
        log.warning("%s is held by %s: asking it to stop", path.name, holder)
        if holder is not None and holder[0] == socket.gethostname() and holder[1] != os.getpid():
            ask_to_stop(holder[1])
        deadline = time.monotonic() + take_over_seconds
        while (handle := _try_lock(path)) is None:
            if time.monotonic() > deadline:
                host, process = holder or ("unknown machine", 0)
                raise InputError(
                    f"{path} is held by process {process} on {host}, an earlier run of the same "
                    "job; stop it (or wait for it) and run again"
                )
            time.sleep(_POLL_SECONDS)
    try:
        yield
    finally:
        handle.close()


def ask_to_stop(process: int) -> None:
    """Send SIGTERM; a process that is already gone is no error."""
    with suppress(ProcessLookupError):
        os.kill(process, signal.SIGTERM)


def visible_devices(count: int) -> list[str]:
    """Return the ids of the GPUs this job may use: CUDA_VISIBLE_DEVICES, or 0 … count - 1."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible:
        return [name.strip() for name in visible.split(",") if name.strip()]
    return [str(index) for index in range(count)]


@contextmanager
def leased_devices(
    wanted: int, available: list[str], folder: Path | None = None
) -> Iterator[list[str]]:
    """Hold `wanted` of the GPUs `available` and yield their ids; wait until so many are free.

    The lock files lie in `folder`, by default one of this machine and user.
    """
    if wanted > len(available):
        raise InputError(
            f"train.num_processes: {wanted} GPUs wanted, but only {len(available)} are visible "
            f"({', '.join(available) or 'none'}); lower it or free a GPU"
        )
    if folder is None:
        # A batch system has already given each job its own GPUs, and may call them 0 in each.
        batch_job = os.environ.get("SLURM_JOB_ID", "")
        folder = Path(tempfile.gettempdir(), f"peft-ablation-gpus-{os.getuid()}", batch_job)
    waited = False
    while True:
        with ExitStack() as held:
            taken = []
            for device in available:
                handle = _try_lock(folder / f"{device.replace('/', '_')}.lock")
                if handle is not None:
                    held.callback(handle.close)
                    taken.append(device)
                if len(taken) == wanted:
                    yield taken
                    return
        if not waited:
            log.info("waiting for %d of the GPUs %s", wanted, ", ".join(available))
            waited = True
        time.sleep(_POLL_SECONDS)
