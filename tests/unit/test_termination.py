"""A handler of SIGTERM that waits for a lock of the main thread does not wait for ever."""

import signal
import subprocess
import sys

import pytest

from peft_ablation.termination import handle_apart

# As in Snakemake: the signal comes while the main thread holds the lock that its handler takes.
PROGRAM = """
import os, signal, threading
from peft_ablation.termination import handle_apart

lock, handled = threading.Lock(), threading.Semaphore(0)

def handler(number, frame):
    with lock:
        handled.release()

signal.signal(signal.SIGTERM, handler)
{call}
for _ in range(2):
    with lock:
        os.kill(os.getpid(), signal.SIGTERM)
    assert handled.acquire(timeout=10)
print("handled twice")
"""


def ends(call: str) -> bool:
    """Run the program; tell whether it ends by itself."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM.format(call=call)],
            capture_output=True, text=True, timeout=15, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return False
    assert done.stdout == "handled twice\n", done.stderr
    return True


def test_the_handler_runs_when_the_lock_is_free() -> None:
    assert ends("handle_apart()")


def test_without_it_the_program_hangs() -> None:
    assert not ends("")


@pytest.mark.parametrize("handler", [signal.SIG_DFL, signal.SIG_IGN])
def test_what_is_no_function_stays(handler: signal.Handlers) -> None:
    before = signal.signal(signal.SIGTERM, handler)
    try:
        handle_apart()
        assert signal.getsignal(signal.SIGTERM) is handler
    finally:
        signal.signal(signal.SIGTERM, before)
