"""One run of an arm and seed: its state, and the loop over steps and epochs."""

import dataclasses
import logging
import math
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from tqdm import tqdm

from peft_ablation.as_published.protocol import Protocol
from peft_ablation.logs import bars_hidden
from peft_ablation.methods import open_method
from peft_ablation.methods.parameters import (
    buffers,
    count_parameters,
    load_buffers,
    load_trainable_state,
    trainable_state,
)
from peft_ablation.tasks import open_task
from peft_ablation.training.activations import recompute_activations
from peft_ablation.training.batches import Indices, epoch_batches
from peft_ablation.training.checkpoint import (
    Checkpoint,
    CheckpointFolder,
    Fingerprint,
    carry_best,
    save_best,
    write_checkpoint,
)
from peft_ablation.training.evaluation import LOSS, validate
from peft_ablation.training.history import EpochRecord, Meter
from peft_ablation.training.inputs import RunInputs
from peft_ablation.training.prefetch import prefetched
from peft_ablation.training.processes import Processes, device_name
from peft_ablation.training.steps import Steps
from peft_ablation.training.watch import Watch

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
    stopped: bool = False
    """The run has ended before its last epoch: early stopping, or a trial that diverged."""
    diverged: bool = False
    """A trial's loss was not finite or too large."""


class Run:
    """One arm and seed in training: model, optimizer, data, position and history."""

    def __init__(
        self, accelerator: Accelerator, given: RunInputs, start: Checkpoint | None
    ) -> None:
        """Build everything a first step needs, and take back `start` where there is one."""
        self.settings, self.seed = given.settings, given.seed
        self.processes = Processes(accelerator)
        task, self.method = open_task(given.task, given.train), open_method(given.arm)
        self.protocol = Protocol(given.arm, given.task)
        self.train = self.protocol.train(task.examples(given.train, given.assets, given.base))
        self.val = self.protocol.val(task.examples(given.val, given.assets, given.base))
        self.steps_per_epoch = len(self.batches(0))
        total = self.settings["epochs"] * self.steps_per_epoch
        torch.manual_seed(given.seed)
        base = task.load_model(given.base)
        heads = task.heads_of(base)
        self.model = self.method.apply(
            base,
            seed=given.seed,
            heads=heads,
            steps=total,
            batches=lambda: self._forwards(lambda model: task.loss_module(model, given.base)),
            state=start.method if start is not None else None,
        )
        if given.init_from is not None:
            self.method.start_from(self.model, given.init_from, heads)
        if self.settings.get("gradient_checkpointing"):
            recompute_activations(self.model)
        loss = task.loss_module(self.model, given.base)
        self.module: nn.Module = accelerator.prepare_model(loss)
        self.steps = Steps(
            self.processes,
            task=task,
            method=self.method,
            model=self.model,
            module=self.module,
            examples=self.train,
            settings=self.settings,
            peak=given.arm["learning_rate"],
            seed=given.seed,
            total=total,
        )
        self.position = Position(micro_batch_size=self.steps.micro_batch_size)
        self.history: list[dict[str, Any]] = []
        self.record = EpochRecord()
        self.meter = Meter(self.processes.device)
        self.best: Path | None = None
        self.last_saved: Path | None = None
        if start is not None:
            self._take_back(start)

    def batches(self, epoch: int) -> list[Indices]:
        """Return the epoch's global batches."""
        size = self.settings["batch_size"]
        return self.protocol.epoch(epoch_batches(self.train.lengths, size, self.seed, epoch))

    def _forwards(
        self, loss_of: Callable[[nn.Module], nn.Module]
    ) -> Iterator[Callable[[nn.Module], Tensor]]:
        """Yield, for each batch of the first epoch, a function that runs a model on it."""
        for indices in self.batches(0):
            batch = self.processes.on_device(self.train.batch(indices))

            def forward(model: nn.Module, batch: dict[str, Tensor] = batch) -> Tensor:
                loss: Tensor = loss_of(model).to(self.processes.device)(**batch)
                return loss

            yield forward

    # -- one epoch -----------------------------------------------------------------------------

    def train_epoch(
        self, epoch: int, chunk: int, folder: CheckpointFolder, asked: list[int], name: str
    ) -> None:
        """Run the rest of an epoch, evaluate, and add its row to the history."""
        batches = self.batches(epoch)
        first = self.position.step
        processes = self.processes
        saved_at = time.monotonic()
        watch = Watch(
            epoch, self.train, self.record, most=self.settings["max_loss"],
            last_saved=str(self.last_saved or "none, the run starts from the base"),
        )  # fmt: skip
        self.meter.begin()
        joules = self.meter.joules()
        self.method.train_mode(self.module)
        own = [processes.own_share(batch) for batch in batches[first:]]
        bar = tqdm(
            total=len(batches), initial=first, desc=f"{name} epoch {epoch + 1}",
            disable=bars_hidden() or not processes.is_main, leave=False,
        )  # fmt: skip
        source = prefetched(own, lambda indices: processes.on_device(self.train.batch(indices)))
        with bar:
            for step in range(first, len(batches)):
                with self.record.timed("waiting"):
                    batch = next(source)
                with self.record.timed("training"):
                    done = epoch * self.steps_per_epoch + step
                    loss, norm, rate = self.steps.take(done, batches[step], batch)
                    watch.add(step, batches[step], loss, norm)
                self.record.learning_rate = rate
                self.position.step = step + 1
                self.position.micro_batch_size = self.steps.micro_batch_size
                self.meter.sample(self.record)
                bar.update()
                due = self._checkpoint_due(step, saved_at)
                stop = processes.anyone(bool(asked))
                if (due or stop) and step + 1 < len(batches):
                    watch.settle()
                    joules = self._spent(joules)
                    self._checkpoint(folder)
                    watch.last_saved = str(self.last_saved)
                    saved_at = time.monotonic()
                if stop and step + 1 < len(batches):
                    self._end(folder)
            watch.settle()
        if processes.device.type == "cuda":
            with self.record.timed("training"):
                torch.cuda.synchronize()
        self._spent(joules)
        with self.record.timed("evaluating"):
            size = self.settings["eval_batch_size"] or self.settings["batch_size"]
            found = validate(processes, self.module, self.val, size)
        self._finish_epoch(epoch, chunk, found, folder)
        if processes.anyone(bool(asked)) and epoch + 1 < self.settings["epochs"]:
            self._checkpoint(folder)
            self._end(folder)

    def _finish_epoch(
        self, epoch: int, chunk: int, found: dict[str, float], folder: CheckpointFolder
    ) -> None:
        val_loss = found[LOSS]
        if val_loss < self.position.best_val_loss:
            self.position.best_epoch = epoch + 1
            self.position.best_val_loss = val_loss
            if self.processes.is_main:
                with self.record.timed("saving"):
                    self.best = save_best(
                        folder.own, epoch + 1, lambda target: self.method.save(self.model, target)
                    )
        self.history.append(self.record.row(epoch + 1, chunk, found))
        self.position.epoch, self.position.step = epoch + 1, 0
        patience = self.settings["early_stopping"]
        if patience is not None and epoch + 1 - self.position.best_epoch >= patience:
            self.position.stopped = True
        self.record = EpochRecord()

    # -- checkpoints ---------------------------------------------------------------------------

    def _take_back(self, start: Checkpoint) -> None:
        """Continue from a checkpoint; the best model follows by `carry_best`."""
        load_trainable_state(self.model, start.weights)
        load_buffers(self.model, start.buffers)
        self.steps.optimizer.load_state_dict(start.optimizer)
        self.history = start.state["history"]
        self.record = EpochRecord(**start.state["record"])
        self.position = Position(**start.state["position"])
        self.steps.micro_batch_size = self.position.micro_batch_size
        self.last_saved = start.folder

    def carry_best(self, start: Checkpoint, folder: CheckpointFolder) -> None:
        """Take the best model of a checkpoint along to this chunk's folder."""
        if self.processes.is_main:
            self.best = carry_best(start, folder.own, self.position.best_epoch)

    def _checkpoint_due(self, step: int, saved_at: float) -> bool:
        steps, seconds = (
            self.settings["checkpoint_every_steps"],
            self.settings["checkpoint_every_seconds"],
        )
        by_steps = steps is not None and (step + 1) % steps == 0
        by_time = seconds is not None and time.monotonic() - saved_at >= seconds
        return self.processes.anyone(by_steps or by_time)

    def _spent(self, joules: float | None) -> float | None:
        """Book the energy since `joules` and return the counter now."""
        now = self.meter.joules()
        if joules is not None and now is not None:
            self.record.energy_joules = (self.record.energy_joules or 0.0) + now - joules
        return now

    def _checkpoint(self, folder: CheckpointFolder) -> None:
        if self.processes.is_main:
            done = self.position.epoch * self.steps_per_epoch + self.position.step
            with self.record.timed("saving"):
                self.save(folder.path(done), folder.fingerprint)
                folder.prune()
            self.last_saved = folder.path(done)
        self.processes.accelerator.wait_for_everyone()

    def _end(self, folder: CheckpointFolder) -> None:
        log.warning("stopped by SIGTERM; the same command continues from %s", folder.own)
        raise Stopped(128 + signal.SIGTERM)

    def save(self, folder: Path, belongs: Fingerprint) -> None:
        """Write a checkpoint folder."""
        bf16 = self.processes.accelerator.mixed_precision == "bf16"
        write_checkpoint(
            folder,
            weights=trainable_state(self.model),
            buffers=buffers(self.model),
            method=self.method.state(self.model),
            optimizer=self.steps.optimizer.state_dict(),
            state={
                "position": dataclasses.asdict(self.position),
                "history": self.history,
                "record": dataclasses.asdict(self.record),
                "parameters": count_parameters(self.model)._asdict(),
                "rank": self.method.rank,
                "device": device_name(self.processes.device),
                "precision": "bf16" if bf16 else "fp32",
            },
            best=self.best,
            fingerprint=belongs,
        )
