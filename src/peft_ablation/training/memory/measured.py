"""Peak memory of a few of the engine's own steps, alone in this process."""

import ctypes
import gc
import resource
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from peft_ablation.tasks import open_task
from peft_ablation.training.chunk import mixed_precision
from peft_ablation.training.inputs import RunInputs
from peft_ablation.training.memory.sizes import batch_of
from peft_ablation.training.processes import device_name
from peft_ablation.training.run import Run

STEPS: Final = 3
"""Steps that are measured: in the first the optimizer has no state yet."""


def measured(given: RunInputs, *, batch_size: int, length: int | None) -> dict[str, Any]:
    """Return the peak of `STEPS` steps, and what the first keeps for backward, in megabytes.

    `given` has this batch size among its settings. On a GPU `peak_mb` is what torch has allocated
    at most, the model included; on a CPU how far the process has grown at most since before the
    model was built (`memory_kind`).
    """
    torch.set_num_threads(given.settings["threads"])
    accelerator = Accelerator(
        mixed_precision=mixed_precision(given.settings["precision"]),
        cpu=not torch.cuda.is_available(),
    )
    memory = DeviceMemory(accelerator.device)
    if accelerator.device.type == "cpu":
        # What libraries load at their first use is none of the step's.
        _steps(accelerator, given, memory, 1, length, steps=1)
    memory.begin()
    kept = _steps(accelerator, given, memory, batch_size, length, steps=STEPS)
    return {
        "peak_mb": memory.peak() / 1e6,
        "reserved_peak_mb": memory.reserved_peak() / 1e6,
        "kept_for_backward_mb": kept / 1e6,
        "memory_kind": memory.kind,
        "device": device_name(accelerator.device),
        "precision": "bf16" if accelerator.mixed_precision == "bf16" else "fp32",
    }


def _steps(
    accelerator: Accelerator,
    given: RunInputs,
    memory: "DeviceMemory",
    batch_size: int,
    length: int | None,
    steps: int,
) -> int:
    """Build a run, forget the peak so far, take steps; return the bytes kept for backward."""
    run = Run(accelerator, given, None)
    examples, indices = batch_of(
        open_task(given.task, given.train), run.train, given.base, batch_size, length
    )
    run.steps.examples = examples
    run.method.train_mode(run.module)
    memory.forget_peak()
    kept = 0
    for step in range(steps):
        batch = run.processes.on_device(examples.batch(indices))
        if step == 0:
            counted = KeptForBackward(run.module)
            run.steps.take(step, indices, batch)
            kept = counted.close()
        else:
            run.steps.take(step, indices, batch)
    return kept


class KeptForBackward:
    """Counts the bytes that a module's forward pass keeps for the backward pass.

    A storage counts once; the module's own parameters and buffers, which are there anyway, do not.
    """

    def __init__(self, module: nn.Module) -> None:
        """Count from the next forward pass of `module` on."""
        self._own = {_place(t) for t in (*module.parameters(), *module.buffers())}
        self._bytes: dict[int, int] = {}
        self._hooks = torch.autograd.graph.saved_tensors_hooks(self._keep, lambda kept: kept)
        self._handles = (
            module.register_forward_pre_hook(lambda *_: self._hooks.__enter__()),
            module.register_forward_hook(lambda *_: self._hooks.__exit__()),
        )

    def close(self) -> int:
        """Return the bytes, and count no more."""
        for handle in self._handles:
            handle.remove()
        return sum(self._bytes.values())

    def _keep(self, tensor: Tensor) -> Tensor:
        if _place(tensor) not in self._own:
            self._bytes[_place(tensor)] = tensor.untyped_storage().nbytes()
        return tensor


def _place(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


class DeviceMemory:
    """Peak of what this process holds of one device."""

    def __init__(self, device: torch.device) -> None:
        """Watch `device`."""
        self._gpu = device if device.type == "cuda" else None
        self._start = 0

    @property
    def kind(self) -> str:
        """What is measured: `gpu_allocated`, or `process_rss_growth`."""
        return "gpu_allocated" if self._gpu else "process_rss_growth"

    def begin(self) -> None:
        """Take what is held now as the start."""
        gc.collect()
        if self._gpu:
            return
        with suppress(OSError, AttributeError):
            # glibc keeps freed memory for itself, which would then count as there from the start.
            ctypes.CDLL(None).malloc_trim(0)
        self._start = _resident("VmRSS")

    def forget_peak(self) -> None:
        """Forget the peak so far, such as that of loading."""
        if self._gpu:
            torch.cuda.reset_peak_memory_stats(self._gpu)
            return
        # proc(5): 5 sets the peak to what is resident now. Where it cannot, the peak stays.
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")

    def peak(self) -> int:
        """Return the peak in bytes, above the start."""
        if self._gpu:
            return torch.cuda.max_memory_allocated(self._gpu)
        return max(0, _resident("VmHWM") - self._start)

    def reserved_peak(self) -> int:
        """Return the peak of what torch has taken from the device; on a CPU the peak."""
        return torch.cuda.max_memory_reserved(self._gpu) if self._gpu else self.peak()


def _resident(key: str) -> int:
    """Return resident bytes of this process: `VmRSS` now, `VmHWM` at most."""
    status = Path("/proc/self/status")
    if not status.is_file():
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    lines = status.read_text(encoding="ascii", errors="replace").splitlines()
    (kilobytes,) = (line.split()[1] for line in lines if line.startswith(f"{key}:"))
    return int(kilobytes) * 1024
