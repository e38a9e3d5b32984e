"""One run of an arm and seed: the loop over steps and epochs, and what it saves."""

import dataclasses
import logging
import math
import shutil
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import nn
from tqdm import tqdm

from peft_ablation.errors import InputError
from peft_ablation.methods.adapters import (
    as_arm,
    count_parameters,
    load_trainable_state,
    trainable_state,
)
from peft_ablation.training.batches import Indices, epoch_batches, ordered_batches
from peft_ablation.training.checkpoint import (
    BEST,
    Checkpoint,
    CheckpointFolder,
    Fingerprint,
    link_or_copy,
    storage_failure,
    write_checkpoint,
)
from peft_ablation.training.history import EpochRecord, Meter
from peft_ablation.training.noise import noise_seed
from peft_ablation.training.prefetch import prefetched
from peft_ablation.training.schedules import learning_rate_factor

log = logging.getLogger(__name__)


class Stopped(SystemExit):
    """SIGTERM arrived; the checkpoint is written."""


@dataclasses.dataclass
class Position:
    """Where a run stands: `step` optimizer steps of `epoch` (0-based) are done."""

    epoch: int = 0
    step: int = 0
    best_epoch: int = 0
    best_val_loss: float = math.inf
    micro_batch_size: int = 0


@dataclasses.dataclass(frozen=True)
class RunInputs:
    """What a run is made from; its result depends on nothing else."""

    task: str
    """Name of the task's module."""
    arm: Mapping[str, Any]
    """Fields of `study.Arm`."""
    settings: Mapping[str, Any]
    """Fields of `study.Train`."""
    seed: int
    base: str | Path
    """Folder of the pretrained model."""
    train: str | Path
    """Table of the training split."""
    val: str | Path
    """Table of the validation split."""
    index: str | Path
    """Index of the image cache."""
    features: str | Path | None
    """Cached output of the frozen vision tower, where the arm reads it."""


class Run:
    """One arm and seed in training: model, optimizer, data, position and history."""

    def __init__(self, accelerator: Accelerator, task: Any, given: RunInputs) -> None:
        """Build everything a first step needs; restoring comes after.

        `task` is the module of the task, see `peft_ablation.tasks`.
        """
        self.accelerator, self.settings, self.seed = accelerator, given.settings, given.seed
        self.arm, settings = given.arm, given.settings
        images = task.ImageSource(given.index, given.features)
        tokenizer = task.load_tokenizer(given.base)
        self.train = task.examples(given.train, images, tokenizer, settings)
        self.val = task.examples(given.val, images, tokenizer, settings)
        torch.manual_seed(given.seed)
        self.model = as_arm(task.load_model(given.base), given.arm, given.seed)
        loss = task.loss_module(self.model, given.base)
        self.module: nn.Module = accelerator.prepare_model(loss)
        self.parameters = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(
            self.parameters,
            lr=given.arm["learning_rate"],
            weight_decay=settings["weight_decay"],
            fused=True,
        )
        share = -(-settings["batch_size"] // accelerator.num_processes)
        self.position = Position(micro_batch_size=settings["micro_batch_size"] or share)
        self.history: list[dict[str, Any]] = []
        self.record = EpochRecord()
        self.meter = Meter(accelerator.device)
        self.steps_per_epoch = len(self.batches(0))
        self.best: Path | None = None
        self.last_saved: Path | None = None

    def batches(self, epoch: int) -> list[Indices]:
        """Return the epoch's global batches."""
        return epoch_batches(self.train.lengths, self.settings["batch_size"], self.seed, epoch)

    # -- one epoch -----------------------------------------------------------------------------

    def train_epoch(
        self, epoch: int, chunk: int, folder: CheckpointFolder, asked: list[int], name: str
    ) -> None:
        """Run the rest of an epoch, evaluate, and add its row to the history."""
        batches = self.batches(epoch)
        first = self.position.step
        saved_at, watched = time.monotonic(), _Watch(self, epoch)
        self.meter.begin()
        joules = self.meter.joules()
        self.module.train()
        own = [self._own_share(batch) for batch in batches[first:]]
        bar = tqdm(
            total=len(batches), initial=first, desc=f"{name} epoch {epoch + 1}",
            disable=not sys.stderr.isatty() or not self.accelerator.is_main_process, leave=False,
        )  # fmt: skip
        source = prefetched(own, lambda indices: self._on_device(self.train.batch(indices)))
        with bar:
            for step in range(first, len(batches)):
                with self.record.timed("waiting"):
                    batch = next(source)
                with self.record.timed("training"):
                    loss, norm = self._step(epoch, step, batches[step], batch)
                    watched.add(step, batches[step], loss, norm)
                self.position.step = step + 1
                self.meter.sample(self.record)
                bar.update()
                due = self._checkpoint_due(step, saved_at)
                stop = self._anyone(bool(asked))
                if (due or stop) and step + 1 < len(batches):
                    watched.settle()
                    joules = self._spent(joules)
                    self._checkpoint(folder)
                    saved_at = time.monotonic()
                if stop and step + 1 < len(batches):
                    self._end(folder)
            watched.settle()
        if self.accelerator.device.type == "cuda":
            with self.record.timed("training"):
                torch.cuda.synchronize()
        self._spent(joules)
        with self.record.timed("evaluating"):
            val_loss = self.evaluate()
        self._finish_epoch(epoch, chunk, val_loss, folder)
        if self._anyone(bool(asked)) and epoch + 1 < self.settings["epochs"]:
            self._checkpoint(folder)
            self._end(folder)

    def _finish_epoch(
        self, epoch: int, chunk: int, val_loss: float, folder: CheckpointFolder
    ) -> None:
        if val_loss < self.position.best_val_loss:
            self.position.best_epoch = epoch + 1
            self.position.best_val_loss = val_loss
            if self.accelerator.is_main_process:
                with self.record.timed("saving"):
                    self.best = self._save_best(folder.own, epoch + 1)
        self.history.append(self.record.row(epoch + 1, chunk, val_loss))
        self.position.epoch, self.position.step = epoch + 1, 0
        self.record = EpochRecord()

    def _step(
        self, epoch: int, step: int, everyone: Indices, batch: dict[str, torch.Tensor]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Make one optimizer step; return the batch's mean token loss and gradient norm."""
        total_step = epoch * self.steps_per_epoch + step
        rate = self.arm["learning_rate"] * learning_rate_factor(
            self.settings["schedule"], total_step,
            self.settings["epochs"] * self.steps_per_epoch, self.settings["warmup"],
        )  # fmt: skip
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        while True:
            try:
                loss = self._gradients(total_step, everyone, batch)
                break
            except torch.OutOfMemoryError as error:
                self._halve(len(batch["labels"]), error)
        norm = nn.utils.clip_grad_norm_(self.parameters, self.settings["max_grad_norm"])
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.record.learning_rate = rate
        return loss, norm

    def _gradients(
        self, total_step: int, everyone: Indices, batch: dict[str, torch.Tensor]
    ) -> torch.Tensor:
        """Accumulate the gradient of the global batch's mean token loss; return that loss."""
        accelerator = self.accelerator
        torch.manual_seed(
            noise_seed(self.seed, total_step, accelerator.process_index, accelerator.num_processes)
        )
        tokens = self.train.supervised(everyone)
        size = self.position.micro_batch_size
        rows = len(batch["labels"])
        summed = torch.zeros((), device=accelerator.device)
        for begin in range(0, rows, size):
            part = {key: value[begin : begin + size] for key, value in batch.items()}
            part["image"] = self._augmented(part["image"])
            last = begin + size >= rows
            # Data parallel averages over processes; the loss is a sum over all of them.
            scale = 0.0 if self._idle(everyone) else accelerator.num_processes / tokens
            with _synchronised(self.module, last), accelerator.autocast():
                loss = self.module(**part)
            with _synchronised(self.module, last):
                accelerator.backward(loss * scale)
            summed += loss.detach() * float(scale > 0)
        mean: torch.Tensor = accelerator.reduce(summed, "sum") / tokens
        return mean

    def _augmented(self, image: torch.Tensor) -> torch.Tensor:
        """Translate pixels at random, the border repeated; the same shift for a micro-batch."""
        most = self.settings["shift_augmentation"]
        if not most or image.dtype != torch.uint8:
            return image
        down, right = (int(v) for v in torch.randint(-most, most + 1, (2,)))
        padded = nn.functional.pad(image[:, None].float(), (most,) * 4, mode="replicate")
        side = image.shape[-1]
        top, left = most + down, most + right
        return padded[:, 0, top : top + side, left : left + side].to(torch.uint8)

    def _halve(self, rows: int, error: Exception) -> None:
        """Go on after out of memory with half the micro-batch, or say what to do."""
        size = min(self.position.micro_batch_size, rows)
        self.optimizer.zero_grad(set_to_none=True)
        if size == 1 or not self.settings["halve_batch_on_oom"] or self._many():
            raise InputError(
                f"out of memory with a micro-batch of {size}; set train.micro_batch_size lower "
                "(the global batch stays) and run again: it continues from the last checkpoint"
            ) from error
        self.position.micro_batch_size = -(-size // 2)
        log.warning(
            "out of memory with a micro-batch of %d: going on with %d and as many more "
            "accumulation steps, the same global batch", size, self.position.micro_batch_size,
        )  # fmt: skip
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    @torch.no_grad()
    def evaluate(self) -> float:
        """Return the validation loss: nats a supervised token, over the whole split."""
        self.module.eval()
        size = self.settings["eval_batch_size"] or self.settings["batch_size"]
        batches = ordered_batches(self.val.lengths, size)
        # Several processes take batches in turn.
        own = batches[self.accelerator.process_index :: self.accelerator.num_processes]
        summed = torch.zeros((), dtype=torch.float64, device=self.accelerator.device)
        inner = self.accelerator.unwrap_model(self.module)
        for batch in prefetched(own, lambda indices: self._on_device(self.val.batch(indices))):
            with self.accelerator.autocast():
                summed += inner(**batch).double()
        total = self.accelerator.reduce(summed, "sum")
        mean: float = float(total) / self.val.supervised(np.arange(len(self.val)))
        return mean

    # -- several processes ---------------------------------------------------------------------

    def _many(self) -> bool:
        return bool(self.accelerator.num_processes > 1)

    def _own_share(self, batch: Indices) -> Indices:
        """Return this process's part of a global batch; at least one row, see `_idle`."""
        many, index = self.accelerator.num_processes, self.accelerator.process_index
        part: Indices = np.array_split(batch, many)[index]
        return part if len(part) else batch[:1]

    def _idle(self, batch: Indices) -> bool:
        """Tell whether a batch is too small to give this process a row of its own."""
        return bool(self.accelerator.process_index >= len(batch))

    def _anyone(self, flag: bool) -> bool:
        """Tell whether any process raised the flag; all get the same answer."""
        if not self._many():
            return flag
        told = torch.tensor(float(flag), device=self.accelerator.device)
        return bool(self.accelerator.reduce(told, "sum") > 0)

    def _on_device(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        device = self.accelerator.device
        if device.type == "cpu":
            return batch
        return {k: v.pin_memory().to(device, non_blocking=True) for k, v in batch.items()}

    # -- checkpoints ---------------------------------------------------------------------------

    def restore(self, start: Checkpoint, folder: CheckpointFolder) -> None:
        """Continue from a checkpoint; its best model is carried to `folder`."""
        load_trainable_state(self.model, start.weights)
        self.optimizer.load_state_dict(start.optimizer)
        self.history = start.state["history"]
        self.record = EpochRecord(**start.state["record"])
        self.position = Position(**start.state["position"])
        self.last_saved = start.folder
        if (start.folder / BEST).is_dir() and self.accelerator.is_main_process:
            target = folder.own / f"best-epoch-{self.position.best_epoch}"
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree(start.folder / BEST, target, copy_function=link_or_copy)
            self.best = target

    def _checkpoint_due(self, step: int, saved_at: float) -> bool:
        steps, seconds = (
            self.settings["checkpoint_every_steps"],
            self.settings["checkpoint_every_seconds"],
        )
        by_steps = steps is not None and (step + 1) % steps == 0
        by_time = seconds is not None and time.monotonic() - saved_at >= seconds
        return self._anyone(by_steps or by_time)

    def _spent(self, joules: float | None) -> float | None:
        """Book the energy since `joules` and return the counter now."""
        now = self.meter.joules()
        if joules is not None and now is not None:
            self.record.energy_joules = (self.record.energy_joules or 0.0) + now - joules
        return now

    def _checkpoint(self, folder: CheckpointFolder) -> None:
        if self.accelerator.is_main_process:
            done = self.position.epoch * self.steps_per_epoch + self.position.step
            with self.record.timed("saving"):
                self.save(folder.path(done), folder.fingerprint)
                folder.prune()
            self.last_saved = folder.path(done)
        self.accelerator.wait_for_everyone()

    def _end(self, folder: CheckpointFolder) -> None:
        log.warning("stopped by SIGTERM; the same command continues from %s", folder.own)
        raise Stopped(128 + signal.SIGTERM)

    def save(self, folder: Path, belongs: Fingerprint) -> None:
        """Write a checkpoint folder."""
        write_checkpoint(
            folder,
            weights=trainable_state(self.model),
            optimizer=self.optimizer.state_dict(),
            state={
                "position": dataclasses.asdict(self.position),
                "history": self.history,
                "record": dataclasses.asdict(self.record),
                "parameters": count_parameters(self.model)._asdict(),
                "device": device_name(self.accelerator.device),
                "precision": "bf16" if self.accelerator.mixed_precision == "bf16" else "fp32",
            },
            best=self.best,
            fingerprint=belongs,
        )

    def _save_best(self, folder: Path, epoch: int) -> Path:
        """Write the model of the best epoch as plain `from_pretrained` loads it."""
        target = folder / f"best-epoch-{epoch}"
        try:
            shutil.rmtree(target, ignore_errors=True)
            target.mkdir(parents=True)
            self.model.save_pretrained(target)  # type: ignore[operator]
            (target / "README.md").unlink(missing_ok=True)  # the model card is written in the end
        except Exception as error:
            raise storage_failure(error, target) from error
        for old in folder.glob("best-epoch-*"):
            if old != target:
                shutil.rmtree(old, ignore_errors=True)
        return target


class _Watch:
    """Looks at each step's loss one step late, so that a GPU never waits for the look."""

    def __init__(self, run: Run, epoch: int) -> None:
        self.run, self.epoch = run, epoch
        self.pending: tuple[int, Indices, torch.Tensor, torch.Tensor] | None = None

    def add(self, step: int, batch: Indices, loss: torch.Tensor, norm: torch.Tensor) -> None:
        self.settle()
        self.pending = (step, batch, loss, norm)

    def settle(self) -> None:
        """Book the pending step; stop the run if its loss is not finite or too large."""
        if self.pending is None:
            return
        step, batch, loss, norm = self.pending
        self.pending = None
        value, run = float(loss), self.run
        most = run.settings["max_loss"]
        if not math.isfinite(value) or value > most or not math.isfinite(float(norm)):
            ids = ", ".join(run.train.ids[index] for index in batch[:8])
            raise InputError(
                f"loss {value:g} (gradient norm {float(norm):g}) in epoch {self.epoch + 1} step "
                f"{step + 1}, allowed up to {most:g}; examples {ids}"
                f"{', …' if len(batch) > 8 else ''}; last good checkpoint: "
                f"{run.last_saved or 'none, the run starts from the base'}; lower the arm's "
                "learning_rate or look at these examples, and run again"
            )
        tokens = run.train.supervised(batch)
        run.record.steps += 1
        run.record.examples += len(batch)
        run.record.tokens += tokens
        run.record.loss_sum += value * tokens
        run.record.grad_norm_sum += float(norm)


@contextmanager
def _synchronised(module: Any, last: bool) -> Iterator[None]:
    """Exchange gradients between processes only with the last micro-batch."""
    if last or not hasattr(module, "no_sync"):
        yield
    else:
        with module.no_sync():
            yield


def device_name(device: torch.device) -> str:
    """Return the GPU's name, or `cpu`."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
