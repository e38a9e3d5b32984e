"""A look at each step's loss, which stops a run that explodes."""

import math

import torch

from peft_ablation.errors import InputError
from peft_ablation.tasks import Examples
from peft_ablation.training.batches import Indices
from peft_ablation.training.history import EpochRecord


class DivergedError(InputError):
    """A step's loss or gradient is not finite, or the loss is too large."""

    def __init__(self, what: str, more: str) -> None:
        """Say `what` was found where, and `more` for the person who must mend it."""
        super().__init__(f"{what}, {more}")
        self.what = what


class Watch:
    """Looks at each step's loss one step late, so that a GPU never waits for the look."""

    def __init__(
        self, epoch: int, examples: Examples, record: EpochRecord, *, most: float, last_saved: str
    ) -> None:
        """Book into `record`; a loss above `most` names its examples and `last_saved`."""
        self.epoch, self.examples, self.record = epoch, examples, record
        self.most, self.last_saved = most, last_saved
        self._pending: tuple[int, Indices, torch.Tensor, torch.Tensor] | None = None

    def add(self, step: int, batch: Indices, loss: torch.Tensor, norm: torch.Tensor) -> None:
        """Settle the step before, and keep this one for later."""
        self.settle()
        self._pending = (step, batch, loss, norm)

    def settle(self) -> None:
        """Book the pending step; stop the run if its loss is not finite or too large."""
        if self._pending is None:
            return
        step, batch, loss, norm = self._pending
        self._pending = None
        value = float(loss)
        if not math.isfinite(value) or value > self.most or not math.isfinite(float(norm)):
            ids = ", ".join(self.examples.ids[index] for index in batch[:8])
            raise DivergedError(
                f"loss {value:g} (gradient norm {float(norm):g}) in epoch {self.epoch + 1} step "
                f"{step + 1}",
                f"allowed up to {self.most:g}; examples {ids}"
                f"{', …' if len(batch) > 8 else ''}; last good checkpoint: {self.last_saved}; "
                "lower the arm's learning_rate or look at these examples, and run again",
            )
        weight = self.examples.weight(batch)
        self.record.steps += 1
        self.record.examples += len(batch)
        self.record.tokens += weight
        self.record.loss_sum += value * weight
        self.record.grad_norm_sum += float(norm)
