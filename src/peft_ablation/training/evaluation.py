"""The validation loss."""

import numpy as np
import torch
from torch import nn

from peft_ablation.tasks import Examples
from peft_ablation.training.batches import ordered_batches
from peft_ablation.training.prefetch import prefetched
from peft_ablation.training.processes import Processes


@torch.no_grad()
def mean_loss(
    processes: Processes, module: nn.Module, examples: Examples, batch_size: int
) -> float:
    """Return the mean loss over all examples, by the task's weight (nats a token, say)."""
    module.eval()
    batches = ordered_batches(examples.lengths, batch_size)
    # Several processes take batches in turn.
    own = batches[processes.index :: processes.count]
    summed = torch.zeros((), dtype=torch.float64, device=processes.device)
    inner = processes.accelerator.unwrap_model(module)
    for batch in prefetched(own, lambda indices: processes.on_device(examples.batch(indices))):
        with processes.accelerator.autocast():
            summed += inner(**batch).double()
    return float(processes.sum(summed)) / examples.weight(np.arange(len(examples)))
