"""The training loop: one chunk of epochs of one arm and seed, killed at any moment and continued.

The order of examples and every random number are pure functions of (seed, epoch, step), so a
checkpoint holds position, weights, optimizer and history, and a run that was killed anywhere gives
the bytes of one that was not (docs/training.md). Here is what a job does; `run.Run` is the loop.
"""

import logging
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from accelerate import Accelerator

from peft_ablation.training.checkpoint import (
    MAY_DIVERGE,
    CheckpointFolder,
    read_checkpoint,
    storage_failure,
)
from peft_ablation.training.inputs import RunInputs
from peft_ablation.training.launch import on_devices
from peft_ablation.training.lease import exclusive
from peft_ablation.training.run import Run
from peft_ablation.training.watch import DivergedError

log = logging.getLogger(__name__)

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # the prefetch thread is enough


def train_chunk(
    given: RunInputs,
    *,
    name: str,
    chunk: int,
    previous: str | Path | None,
    checkpoints: str | Path,
    tensorboard: str | Path | None,
    output: str | Path,
) -> None:
    """Train epochs `chunk * epochs_per_chunk` … of one run and write the chunk folder `output`.

    Continues from the newest whole checkpoint under `checkpoints`, else from the chunk folder
    `previous`, else from the base. `name` is what the terminal and the log call the run. Raises
    `InputError` for anything a person must mend, `Stopped` on SIGTERM.
    """
    on_devices(
        given.settings["num_processes"],
        _train_chunk, given, name, chunk, previous, checkpoints, tensorboard, output,
    )  # fmt: skip


def _train_chunk(
    given: RunInputs,
    name: str,
    chunk: int,
    previous: str | Path | None,
    checkpoints: str | Path,
    tensorboard: str | Path | None,
    output: str | Path,
) -> None:
    """Do what `train_chunk` says, in each of its processes."""
    settings = given.settings
    torch.set_num_threads(settings["threads"])
    accelerator = Accelerator(
        mixed_precision=mixed_precision(settings["precision"]),
        cpu=not torch.cuda.is_available(),  # else processes without a GPU do not find each other
    )
    belongs = given.fingerprint()
    folder = CheckpointFolder(Path(checkpoints), belongs)
    with _one_process_group(accelerator, folder, Path(checkpoints)), _termination() as asked:
        inside = folder.newest()
        start = inside or (read_checkpoint(previous, belongs) if previous else None)
        run = Run(accelerator, given, start)
        if start is not None:
            run.carry_best(start, folder)
            log.info("continuing %s from %s", name, start.folder)
        if accelerator.is_main_process:
            for defect, warning in run.protocol.defects.told.items():
                log.warning("%s, as published (%s): %s", name, defect, warning)
        last = min((chunk + 1) * settings["epochs_per_chunk"], settings["epochs"])
        for epoch in range(run.position.epoch, last):
            if run.position.stopped:
                break
            try:
                run.train_epoch(epoch, chunk, folder, asked, name)
            except DivergedError as error:
                if not settings.get(MAY_DIVERGE):
                    raise
                log.warning("%s diverged, and loses: %s", name, error.what)
                run.position.stopped = run.position.diverged = True
                break
            _log_epoch(run, epoch, name, tensorboard, accelerator)
        if accelerator.is_main_process:
            run.save(Path(output), belongs)
            folder.clear()
        accelerator.wait_for_everyone()


def mixed_precision(precision: str) -> str:
    """Return Accelerate's name of a `precision`: bf16 where `auto` finds a device that has it."""
    if precision == "auto":
        if torch.cuda.is_available():
            has_bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
        else:
            # Without these instructions bf16 is emulated.
            has_bf16 = torch.cpu._is_avx512_bf16_supported()
        precision = "bf16" if has_bf16 else "fp32"
    return {"fp32": "no", "bf16": "bf16"}[precision]


@contextmanager
def _one_process_group(
    accelerator: Accelerator, folder: CheckpointFolder, root: Path
) -> Iterator[None]:
    """Let one run at a time train this chunk; its main process holds the lock.

    The others wait for it: an earlier run that is asked to stop may still write a checkpoint.
    """
    if not accelerator.is_main_process:
        accelerator.wait_for_everyone()
        yield
        return
    lock = root.parent / f"{root.name}.lock"
    try:
        root.mkdir(parents=True, exist_ok=True)
        lock.touch()
    except OSError as error:
        raise storage_failure(error, root) from None
    with exclusive(lock):
        folder.prune()
        accelerator.wait_for_everyone()
        yield


@contextmanager
def _termination() -> Iterator[list[int]]:
    """Collect SIGTERMs while the body runs, so that a step is never cut in the middle."""
    asked: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: asked.append(number))
    try:
        yield asked
    finally:
        signal.signal(signal.SIGTERM, before)


def _log_epoch(
    run: Run, epoch: int, name: str, tensorboard: str | Path | None, accelerator: Accelerator
) -> None:
    row = run.history[-1]
    log.info(
        "%s epoch %d: train loss %.4f, val loss %.4f, %.0f examples/s",
        name, epoch + 1, row["train_loss"], row["val_loss"], row["examples_per_second"] or 0,
    )  # fmt: skip
    if tensorboard and accelerator.is_main_process:
        from torch.utils.tensorboard import SummaryWriter

        with SummaryWriter(str(tensorboard)) as writer:
            for key, value in row.items():
                if isinstance(value, (int, float)) and key != "epoch":
                    writer.add_scalar(key, value, epoch + 1)
