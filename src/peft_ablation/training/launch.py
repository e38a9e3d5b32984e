"""Use the GPUs of this machine, one process each, or its CPU."""

import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from peft_ablation.training.lease import leased_devices, visible_devices


def gpu_count() -> int:
    """Return the number of NVIDIA GPUs, asked of NVML so that CUDA is not started yet."""
    try:
        import pynvml

        pynvml.nvmlInit()
        return int(pynvml.nvmlDeviceGetCount())
    except Exception:  # no driver, no library: no GPU
        return 0


@contextmanager
def own_devices(count: int) -> Iterator[None]:
    """See only `count` GPUs that no other job of this machine holds; nothing where there is none.

    Also a decorator. Enter it before CUDA is started.
    """
    available = visible_devices(gpu_count())
    if not available:
        yield
        return
    with leased_devices(count, available) as taken:
        before = os.environ.get("CUDA_VISIBLE_DEVICES")
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(taken)
        try:
            yield
        finally:
            if before is None:
                del os.environ["CUDA_VISIBLE_DEVICES"]
            else:
                os.environ["CUDA_VISIBLE_DEVICES"] = before


def on_devices(processes: int, function: Callable[..., None], *arguments: Any) -> None:
    """Call `function(*arguments)` in `processes` processes that find each other, a GPU each.

    Without GPUs the processes talk through gloo. One process is this one.
    """
    with own_devices(processes):
        if processes == 1:
            function(*arguments)
        else:
            _spawn(processes, function, arguments)


def _spawn(processes: int, function: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    from torch.multiprocessing.spawn import spawn

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    group = spawn(  # type: ignore[no-untyped-call]
        _member, (processes, port, function, arguments), nprocs=processes, join=False
    )
    assert group is not None

    def pass_on(number: int, frame: Any) -> None:
        for member in group.processes:
            if member.is_alive():
                os.kill(member.pid, number)

    before = signal.signal(signal.SIGTERM, pass_on)
    try:
        while not group.join():
            pass
    finally:
        signal.signal(signal.SIGTERM, before)


def _member(
    rank: int, processes: int, port: int, function: Callable[..., None], arguments: tuple[Any, ...]
) -> None:
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(processes),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    function(*arguments)
