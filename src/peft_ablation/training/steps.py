"""Optimizer steps: gradients of a global batch, whatever the micro-batches and processes."""

import logging
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from peft_ablation.errors import InputError
from peft_ablation.methods import Method
from peft_ablation.tasks import Examples, Task
from peft_ablation.training.batches import Indices
from peft_ablation.training.checkpoint import optimizer_of
from peft_ablation.training.noise import noise_seed
from peft_ablation.training.optimizers import make_optimizer
from peft_ablation.training.processes import Processes
from peft_ablation.training.schedules import learning_rate_factor

log = logging.getLogger(__name__)


class Steps:
    """The optimizer of one run, and how it takes a step."""

    def __init__(
        self,
        processes: Processes,
        *,
        task: Task,
        method: Method,
        model: nn.Module,
        module: nn.Module,
        examples: Examples,
        settings: Mapping[str, Any],
        peak: float,
        seed: int,
        total: int,
    ) -> None:
        """Build the optimizer of `model`; `module` is the prepared loss module around it.

        `peak` is the peak learning rate, `total` the number of steps of the whole run.
        """
        self.processes, self.task, self.method = processes, task, method
        self.model, self.module, self.examples = model, module, examples
        self.settings, self.peak, self.seed, self.total = settings, peak, seed, total
        groups = method.optimizer_groups(model, settings["weight_decay"])
        # Beside the groups, as `load_state_dict` puts a checkpoint's in place of them.
        self.rates = [group.pop("rate") for group in groups]
        self.parameters = [p for group in groups for p in group["params"]]
        self.optimizer = make_optimizer(optimizer_of(settings), groups, peak)
        share = -(-settings["batch_size"] // processes.count)
        self.micro_batch_size: int = settings["micro_batch_size"] or share

    def take(
        self, step: int, everyone: Indices, batch: dict[str, torch.Tensor]
    ) -> tuple[torch.Tensor, torch.Tensor, float]:
        """Make step `step` of the run: the batch's mean loss, gradient norm, learning rate.

        `everyone` are the examples of the global batch, `batch` the tensors of this process's.
        """
        rate = self.peak * learning_rate_factor(
            self.settings["schedule"], step, self.total, self.settings["warmup"]
        )
        for group, factor in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = rate * factor
        while True:
            try:
                loss = self._gradients(step, everyone, batch)
                break
            except torch.OutOfMemoryError as error:
                self._halve(_rows(batch), error)
        norm = nn.utils.clip_grad_norm_(self.parameters, self.settings["max_grad_norm"])
        self.optimizer.step()
        self.method.after_step(self.model, step)
        self.optimizer.zero_grad(set_to_none=True)
        return loss, norm, rate

    def _gradients(
        self, step: int, everyone: Indices, batch: dict[str, torch.Tensor]
    ) -> torch.Tensor:
        """Accumulate the gradient of the global batch's mean loss; return that loss."""
        processes = self.processes
        torch.manual_seed(noise_seed(self.seed, step, processes.index, processes.count))
        weight = self.examples.weight(everyone)
        size, rows = self.micro_batch_size, _rows(batch)
        summed = torch.zeros((), device=processes.device)
        for begin in range(0, rows, size):
            part = {key: value[begin : begin + size] for key, value in batch.items()}
            part = self.task.augment(part)
            last = begin + size >= rows
            # Data parallel averages over processes; the loss is a sum over all of them.
            scale = 0.0 if processes.idle(everyone) else processes.count / weight
            with processes.synchronised(self.module, last), processes.accelerator.autocast():
                loss = self.module(**part)
            aim = loss * scale
            extra = self.method.extra_loss(self.model) if last else None
            if extra is not None:
                aim = aim + extra
            with processes.synchronised(self.module, last):
                processes.accelerator.backward(aim)
            summed += loss.detach() * float(scale > 0)
        return processes.sum(summed) / weight

    def _halve(self, rows: int, error: Exception) -> None:
        """Go on after out of memory with half the micro-batch, or say what to do."""
        size = min(self.micro_batch_size, rows)
        self.optimizer.zero_grad(set_to_none=True)
        # Statistics of a batch are those of its micro-batch: half of it is another run.
        if (
            size == 1
            or not self.settings["halve_batch_on_oom"]
            or self.processes.count > 1
            or _trains_batch_norm(self.module)
        ):
            raise InputError(
                f"out of memory with a micro-batch of {size}; set train.micro_batch_size lower "
                "(the global batch stays) and run again: it continues from the last checkpoint"
            ) from error
        self.micro_batch_size = -(-size // 2)
        log.warning(
            "out of memory with a micro-batch of %d: going on with %d and as many more "
            "accumulation steps, the same global batch", size, self.micro_batch_size,
        )  # fmt: skip
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _rows(batch: Mapping[str, torch.Tensor]) -> int:
    return len(next(iter(batch.values())))


def _trains_batch_norm(module: nn.Module) -> bool:
    from torch.nn.modules.batchnorm import _BatchNorm

    return any(isinstance(part, _BatchNorm) and part.training for part in module.modules())
