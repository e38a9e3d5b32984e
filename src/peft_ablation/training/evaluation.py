"""The validation loss, and what a task counts beside it."""

import torch
from torch import nn

from peft_ablation.tasks import Examples
from peft_ablation.training.batches import ordered_batches
from peft_ablation.training.prefetch import prefetched
from peft_ablation.training.processes import Processes

LOSS = "loss"


@torch.no_grad()
def validate(
    processes: Processes, module: nn.Module, examples: Examples, batch_size: int
) -> dict[str, float]:
    """Return the mean `loss` over all examples, by the task's weight (nats a token, say).

    Beside it, over the same weight, what the loss module counts; see `Task.loss_module`.
    """
    module.eval()
    batches = ordered_batches(examples.lengths, batch_size)
    # Several processes take batches in turn.
    own = batches[processes.index :: processes.count]
    inner = processes.accelerator.unwrap_model(module)
    names = (LOSS, *getattr(inner, "counts", ()))
    summed = torch.zeros(len(names), dtype=torch.float64, device=processes.device)
    for batch in prefetched(own, lambda indices: processes.on_device(examples.batch(indices))):
        with processes.accelerator.autocast():
            found = inner.counted(**batch) if len(names) > 1 else (inner(**batch),)
        summed += torch.stack([value.double() for value in found])
    weight = sum(examples.weight(indices) for indices in batches)
    return {
        name: float(value) / weight
        for name, value in zip(names, processes.sum(summed), strict=True)
    }
