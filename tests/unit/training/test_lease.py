"""Leases between processes: who holds one, who is asked to stop, and what is waited for."""

import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from peft_ablation.errors import InputError
from peft_ablation.training.lease import ask_to_stop, exclusive, leased_devices

LEASE = """
import sys, time
from pathlib import Path
from peft_ablation.training.lease import exclusive, leased_devices
folder = Path(sys.argv[1])
if sys.argv[2] == "lock":
    with exclusive(folder):
        print("held", flush=True)
        time.sleep(60)
else:
    with leased_devices(int(sys.argv[2]), sys.argv[3].split(","), folder) as taken:
        print(*taken, flush=True)
        time.sleep(60)
"""


@pytest.fixture
def hold() -> Iterator[Callable[..., "subprocess.Popen[str]"]]:
    """Start processes that hold a lease and say which; all end with the test."""
    started: list[subprocess.Popen[str]] = []

    def start(*words: object) -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            [sys.executable, "-c", LEASE, *map(str, words)], stdout=subprocess.PIPE, text=True
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


def said(process: "subprocess.Popen[str]", seconds: float) -> str | None:
    """What the process prints within `seconds`, None if it is silent."""
    assert process.stdout is not None
    ready, _, _ = select.select([process.stdout], [], [], seconds)
    return process.stdout.readline().strip() if ready else None


def test_a_lock_tells_its_holder_and_no_earlier_one(tmp_path: Path) -> None:
    lock = tmp_path / "run.lock"
    lock.write_text("a-machine-with-a-long-name 1234567\n")
    with exclusive(lock):
        assert lock.read_text() == f"{socket.gethostname()} {os.getpid()}\n"


def test_a_lock_is_given_back(tmp_path: Path) -> None:
    for _ in range(2):
        with exclusive(tmp_path / "run.lock", take_over_seconds=0):
            pass


def test_a_process_that_holds_the_lock_itself_is_not_asked_to_stop(tmp_path: Path) -> None:
    asked: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: asked.append(number))
    try:
        with (
            exclusive(tmp_path / "run.lock"),
            pytest.raises(InputError, match=f"held by process {os.getpid()}"),
            exclusive(tmp_path / "run.lock", take_over_seconds=0.3),
        ):
            pass
    finally:
        signal.signal(signal.SIGTERM, before)
    assert asked == []


def test_a_process_that_ended_meanwhile_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(process: int, number: int) -> None:
        raise ProcessLookupError

    monkeypatch.setattr(os, "kill", gone)
    ask_to_stop(17)


def test_two_gpus_are_waited_for_until_both_are_free(
    tmp_path: Path, hold: Callable[..., "subprocess.Popen[str]"]
) -> None:
    one = hold(tmp_path, 1, "0,1")
    assert said(one, 30) == "0"
    two = hold(tmp_path, 2, "0,1")
    assert said(two, 2) is None
    one.kill()
    assert said(two, 30) == "0 1"


def test_waiting_for_two_gpus_keeps_neither(
    tmp_path: Path, hold: Callable[..., "subprocess.Popen[str]"]
) -> None:
    assert said(hold(tmp_path, 1, "0"), 30) == "0"
    assert said(hold(tmp_path, 2, "0,1"), 2) is None
    assert said(hold(tmp_path, 1, "1"), 30) == "1"


@pytest.mark.timeout(30)
def test_one_gpu_more_than_visible_is_refused(tmp_path: Path) -> None:
    with (
        pytest.raises(InputError, match="2 GPUs wanted, but only 1"),
        leased_devices(2, ["0"], tmp_path),
    ):
        pass


@pytest.mark.timeout(30)
def test_jobs_of_a_batch_system_share_no_leases(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Slurm gives each job GPUs of its own and may call the first of each 0."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("SLURM_JOB_ID", "1")
    with leased_devices(1, ["0"]) as first:
        monkeypatch.setenv("SLURM_JOB_ID", "2")
        with leased_devices(1, ["0"]) as second:
            assert first == second == ["0"]
