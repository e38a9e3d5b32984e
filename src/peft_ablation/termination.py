"""SIGTERM ends Snakemake, whatever it is at."""

import signal
import threading
from queue import SimpleQueue
from typing import Any


def handle_apart() -> None:
    """Let the present handler of SIGTERM run in a thread of its own instead of the main thread.

    Snakemake's handler waits for the scheduler's lock. Python calls it in the main thread, and if
    that holds the lock, as while it books finished jobs or its solver selects the next, they wait
    for each other for ever (Snakemake 9.27, `JobScheduler.exit_gracefully`). Nothing is changed
    where no Python function handles SIGTERM.
    """
    handler = signal.getsignal(signal.SIGTERM)
    if not callable(handler):
        return
    # put() of this queue may interrupt itself, which no lock allows.
    arrived: SimpleQueue[tuple[Any, ...]] = SimpleQueue()

    def attend() -> None:
        while True:
            handler(*arrived.get())

    threading.Thread(target=attend, name="SIGTERM", daemon=True).start()
    signal.signal(signal.SIGTERM, lambda *arguments: arrived.put(arguments))
