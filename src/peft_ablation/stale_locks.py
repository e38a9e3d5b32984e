"""Snakemake's locks of a run that is no more, told from those of a run that still works.

Snakemake locks its working directory with files in `.snakemake/locks` that name no process. A run
that was killed leaves them behind, and the next run is refused. Each run of this workflow
therefore holds a shared `flock` from parsing the Snakefile to its end, which the kernel drops on
any death. Whoever gets the lock for itself alone knows that no run is at work: locks found then
are stale.

`flock` may be local to a machine on a network file system. The lock file names the machines that
ran here since the directory was last free, and locks are removed only if this machine alone did.
"""

import fcntl
import os
import socket
from pathlib import Path

LOCKS = "locks"
HELD = "peft-ablation.lock"


def hold(folder: str | Path = ".snakemake") -> int | None:
    """Hold the run's lock until the process ends and remove locks that no run holds any more.

    `folder` is Snakemake's own folder in the working directory. Returns the descriptor to keep
    open, or None where the file system cannot lock (Snakemake's own locks then count as they are).
    """
    folder = Path(folder)
    try:
        folder.mkdir(exist_ok=True)
        # Not inherited by jobs: a job that outlives its run holds its own leases, not this.
        descriptor = os.open(folder / HELD, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError:
        return None
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            alone = False
        else:
            alone = True
        _account(folder / LOCKS, descriptor, alone)
        fcntl.flock(descriptor, fcntl.LOCK_SH)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def _account(locks: Path, descriptor: int, alone: bool) -> None:
    """Remove stale locks if we may, and write down that this machine ran here."""
    here = socket.gethostname()
    recorded = set(os.pread(descriptor, 1 << 16, 0).decode(errors="replace").split())
    found = list(locks.glob("*.lock"))
    if alone and recorded == {here}:
        for lock in found:
            lock.unlink(missing_ok=True)
        found = []
    if alone and not found:
        os.ftruncate(descriptor, 0)
        recorded = set()
    if here not in recorded:
        os.pwrite(descriptor, f"{here}\n".encode(), os.fstat(descriptor).st_size)
