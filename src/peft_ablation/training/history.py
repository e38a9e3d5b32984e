"""What is recorded while training: losses, times apart, memory and energy, one row an epoch."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import psutil
import torch

Activity = str
"""`training`, `evaluating`, `saving` or `waiting`."""


@dataclass
class EpochRecord:
    """Sums over the part of an epoch done so far; saved in checkpoints, so none is lost."""

    steps: int = 0
    examples: int = 0
    tokens: int = 0
    loss_sum: float = 0.0
    grad_norm_sum: float = 0.0
    learning_rate: float = 0.0
    seconds: dict[Activity, float] = field(
        default_factory=lambda: dict.fromkeys(("training", "evaluating", "saving", "waiting"), 0.0)
    )
    memory_sum_mb: float = 0.0
    memory_peak_mb: float = 0.0
    reserved_sum_mb: float = 0.0
    reserved_peak_mb: float = 0.0
    energy_joules: float | None = None

    @contextmanager
    def timed(self, activity: Activity) -> Iterator[None]:
        """Add the body's wall seconds to `activity`."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[activity] += time.perf_counter() - start

    def row(self, epoch: int, chunk: int, validation: Mapping[str, float]) -> dict[str, Any]:
        """Return the row of `history.csv` for the finished epoch `epoch` (1-based).

        `validation` is what the validation split gives by name, `loss` among it.
        """
        training = self.seconds["training"]
        return {
            "epoch": epoch,
            "chunk": chunk,
            "steps": self.steps,
            "examples": self.examples,
            "tokens": self.tokens,
            "train_loss": self.loss_sum / self.tokens,
            **{f"val_{name}": value for name, value in validation.items()},
            "learning_rate": self.learning_rate,
            "grad_norm": self.grad_norm_sum / self.steps,
            **{f"seconds_{name}": seconds for name, seconds in self.seconds.items()},
            "examples_per_second": self.examples / training if training else None,
            "tokens_per_second": self.tokens / training if training else None,
            "memory_allocated_mean_mb": self.memory_sum_mb / self.steps,
            "memory_allocated_peak_mb": self.memory_peak_mb,
            "memory_reserved_mean_mb": self.reserved_sum_mb / self.steps,
            "memory_reserved_peak_mb": self.reserved_peak_mb,
            "energy_joules": self.energy_joules,
        }


class Meter:
    """Memory and energy of one device: a GPU's own counters, or the process on a CPU."""

    def __init__(self, device: torch.device) -> None:
        """Watch `device`."""
        self._gpu = device if device.type == "cuda" else None
        self._process = psutil.Process()
        self._nvml = _nvml_handle(device) if self._gpu else None

    def begin(self) -> None:
        """Forget peaks that are not training's, such as those of evaluation."""
        if self._gpu:
            torch.cuda.reset_peak_memory_stats(self._gpu)

    def sample(self, record: EpochRecord) -> None:
        """Add one step's memory to the record."""
        if self._gpu:
            allocated = torch.cuda.memory_allocated(self._gpu) / 1e6
            peak = torch.cuda.max_memory_allocated(self._gpu) / 1e6
            reserved = torch.cuda.memory_reserved(self._gpu) / 1e6
            reserved_peak = torch.cuda.max_memory_reserved(self._gpu) / 1e6
        else:
            allocated = self._process.memory_info().rss / 1e6
            peak = reserved = reserved_peak = allocated
        record.memory_sum_mb += allocated
        record.memory_peak_mb = max(record.memory_peak_mb, peak)
        record.reserved_sum_mb += reserved
        record.reserved_peak_mb = max(record.reserved_peak_mb, reserved_peak)

    def joules(self) -> float | None:
        """Return the device's energy counter, in joules, or None where there is none."""
        if self._nvml is None:
            return None
        import pynvml

        return float(pynvml.nvmlDeviceGetTotalEnergyConsumption(self._nvml)) / 1000


def _nvml_handle(device: torch.device) -> Any:
    """Return the NVML handle of a CUDA device, or None where NVML does not tell energy."""
    try:
        import pynvml

        pynvml.nvmlInit()
        uuid = str(torch.cuda.get_device_properties(device).uuid)
        name = uuid if uuid.startswith("GPU-") else f"GPU-{uuid}"
        handle = pynvml.nvmlDeviceGetHandleByUUID(name)
        pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
    except Exception:  # any failure of the driver's library means: not told
        return None
    return handle
