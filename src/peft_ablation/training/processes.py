"""Several processes that train one model, each on its share of a batch."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import nn

from peft_ablation.training.batches import Indices


class Processes:
    """This process among those of its run; alone, everything is its own."""

    def __init__(self, accelerator: Accelerator) -> None:
        """Take the place that Accelerate gives."""
        self.accelerator = accelerator
        self.count: int = accelerator.num_processes
        self.index: int = accelerator.process_index
        self.is_main: bool = accelerator.is_main_process
        self.device: torch.device = accelerator.device

    def own_share(self, batch: Indices) -> Indices:
        """Return this process's part of a global batch; at least one row, see `idle`."""
        part: Indices = np.array_split(batch, self.count)[self.index]
        return part if len(part) else batch[:1]

    def idle(self, batch: Indices) -> bool:
        """Tell whether a batch is too small to give this process a row of its own."""
        return self.index >= len(batch)

    def anyone(self, flag: bool) -> bool:
        """Tell whether any process raised the flag; all get the same answer."""
        if self.count == 1:
            return flag
        return bool(self.sum(torch.tensor(float(flag), device=self.device)) > 0)

    def sum(self, value: torch.Tensor) -> torch.Tensor:
        """Return the sum of a tensor over the processes."""
        summed: torch.Tensor = self.accelerator.reduce(value, "sum")
        return summed

    def on_device(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return a batch on this process's device."""
        if self.device.type == "cpu":
            return batch
        return {k: v.pin_memory().to(self.device, non_blocking=True) for k, v in batch.items()}

    @contextmanager
    def synchronised(self, module: nn.Module, last: bool) -> Iterator[None]:
        """Exchange gradients between processes only with the last micro-batch."""
        no_sync: Any = getattr(module, "no_sync", None)
        if last or no_sync is None:
            yield
        else:
            with no_sync():
                yield


def device_name(device: torch.device) -> str:
    """Return the GPU's name, or `cpu`."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
