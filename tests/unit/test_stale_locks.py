"""Locks of a killed run are removed, those of a living one are not."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from peft_ablation import stale_locks

RUN = """
import pathlib, sys
from peft_ablation.stale_locks import hold
kept = hold(sys.argv[1])
locks = pathlib.Path(sys.argv[1], "locks")
locks.mkdir(exist_ok=True)
(locks / (sys.argv[2] + ".output.lock")).write_text("some/file")
print("ready", flush=True)
sys.stdin.read()
"""


class Run:
    """A process that holds the lock as a run of the workflow does."""

    def __init__(self, folder: Path, name: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", RUN, str(folder), name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


@pytest.fixture
def kept() -> Iterator[list[int]]:
    descriptors: list[int] = []
    yield descriptors
    for descriptor in descriptors:
        os.close(descriptor)


def hold(folder: Path, kept: list[int]) -> None:
    descriptor = stale_locks.hold(folder)
    assert descriptor is not None
    kept.append(descriptor)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "locks").glob("*"))


def test_locks_of_a_killed_run_are_removed(tmp_path: Path, kept: list[int]) -> None:
    Run(tmp_path, "0").kill()
    assert names(tmp_path) == ["0.output.lock"]
    hold(tmp_path, kept)
    assert names(tmp_path) == []


def test_locks_of_a_living_run_stay(tmp_path: Path, kept: list[int]) -> None:
    run = Run(tmp_path, "0")
    hold(tmp_path, kept)
    assert names(tmp_path) == ["0.output.lock"]
    run.kill()


def test_a_run_that_began_beside_another_keeps_its_locks_when_that_one_dies(
    tmp_path: Path, kept: list[int]
) -> None:
    first, second = Run(tmp_path, "0"), Run(tmp_path, "1")
    first.kill()
    hold(tmp_path, kept)
    assert names(tmp_path) == ["0.output.lock", "1.output.lock"]
    second.kill()
    os.close(kept.pop())
    hold(tmp_path, kept)
    assert names(tmp_path) == []


def test_locks_of_another_machine_stay(
    tmp_path: Path, kept: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    Run(tmp_path, "0").kill()
    monkeypatch.setattr("socket.gethostname", lambda: "elsewhere")
    for _ in range(2):
        hold(tmp_path, kept)
        assert names(tmp_path) == ["0.output.lock"]
        os.close(kept.pop())
    # Once the directory is free again, the record starts anew.
    (tmp_path / "locks" / "0.output.lock").unlink()
    hold(tmp_path, kept)
    assert (tmp_path / stale_locks.HELD).read_text() == "elsewhere\n"


def test_a_file_system_that_cannot_lock_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Run(tmp_path, "0").kill()

    def refuse(*_: object) -> None:
        raise OSError("no locks here")

    monkeypatch.setattr("fcntl.flock", refuse)
    assert stale_locks.hold(tmp_path) is None
    assert names(tmp_path) == ["0.output.lock"]
