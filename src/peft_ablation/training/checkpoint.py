"""Checkpoints that are whole or absent, and belong to one protocol.

A checkpoint folder holds

- `weights.safetensors`: the trainable parameters (all of them, or the adapter's);
- `buffers.safetensors`: persistent buffers, if the model has any (BatchNorm's statistics);
- `method.safetensors`: what else the method keeps, if anything (AdaLoRA's importances);
- `optimizer.pt`: the optimizer's state (loaded with `weights_only=True`);
- `state.json`: position (epoch, step), history, accumulators of the unfinished epoch;
- `best/`: the model of the best epoch so far as `save_pretrained` wrote it, if there is one;
- `manifest.json`: size and SHA-256 of each file, and the fingerprint of what it depends on.

It is written under a temporary name, fsynced and renamed, so that a kill leaves the old state.
"""

import errno
import logging
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peft_ablation.artifacts import (
    read_json,
    sha256_file,
    sha256_json,
    whole_folder,
    write_json,
)
from peft_ablation.errors import InputError

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

PROTOCOL_VERSION = 2
"""Raise it when a change of code changes what training computes: it is part of every fingerprint
and of the rules' parameters, so that finished arms are trained again. Other edits leave them."""

NOT_PROTOCOL = (
    "epochs_per_chunk",
    "seeds",
    "eval_batch_size",
    "halve_batch_on_oom",
    "checkpoint_every_steps",
    "checkpoint_every_seconds",
    "max_loss",
)
"""Training settings that change how a run is carried out, but not what it computes."""

LATER: Mapping[str, Any] = {"optimizer": "adamw", "gradient_checkpointing": False}
"""Training settings that an arm may have otherwise, and their defaults. They came after others had
been trained: a default is left out of what training is given, so that those runs stay."""

OF_BITSANDBYTES: Mapping[str, str] = {
    "adamw_8bit": "AdamW8bit",
    "paged_adamw_8bit": "PagedAdamW8bit",
    "paged_adamw_32bit": "PagedAdamW32bit",
}
"""Optimizers that are bitsandbytes', by the names of its classes."""

MAY_DIVERGE = "may_diverge"
"""Setting of a trial of a learning rate: a loss that explodes ends the run, and not the job."""

BEST = "best"
MANIFEST = "manifest.json"


def protocol_of(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the training settings that decide what is computed, less the defaults of `LATER`."""
    return {
        key: value
        for key, value in settings.items()
        if key not in NOT_PROTOCOL and not (key in LATER and value == LATER[key])
    }


def optimizer_of(settings: Mapping[str, Any]) -> str:
    """Return the name of the optimizer of training settings, which leave the default out."""
    return str(settings.get("optimizer", LATER["optimizer"]))


Fingerprint = dict[str, Any]
"""What a checkpoint depends on, by name: arm, settings, seed, base, data, protocol."""


@dataclass(frozen=True)
class Checkpoint:
    """What was read back."""

    weights: "dict[str, torch.Tensor]"
    buffers: "dict[str, torch.Tensor]"
    method: "dict[str, torch.Tensor]"
    optimizer: dict[str, Any]
    state: dict[str, Any]
    folder: Path


def short(fingerprint: Fingerprint) -> str:
    """Return a short name of a fingerprint."""
    return sha256_json(fingerprint)[:12]


def differences(found: Fingerprint, expected: Fingerprint) -> list[str]:
    """Return `key (found a, expected b)` for each differing entry, nested keys dotted."""
    told = []
    for key in sorted(found.keys() | expected.keys()):
        a, b = found.get(key), expected.get(key)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            told += [f"{key}.{rest}" for rest in differences(dict(a), dict(b))]
        elif a != b:
            told.append(f"{key} (found {_brief(a)}, expected {_brief(b)})")
    return told


def _brief(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 40 else text[:12] + "…"


def write_checkpoint(
    folder: str | Path,
    *,
    weights: "Mapping[str, torch.Tensor]",
    buffers: "Mapping[str, torch.Tensor]",
    method: "Mapping[str, torch.Tensor]",
    optimizer: Mapping[str, Any],
    state: Mapping[str, Any],
    best: Path | None,
    fingerprint: Fingerprint,
) -> None:
    """Write a checkpoint folder, whole or not at all.

    `best` is a folder to carry along; its files are linked where the file system can. Raises
    `InputError` with one line if the disk is full or read-only; earlier checkpoints stay.
    """
    import torch
    from safetensors.torch import save_file

    try:
        with whole_folder(folder) as part:
            save_file(dict(weights), part / "weights.safetensors")
            for name, tensors in (("buffers", buffers), ("method", method)):
                if tensors:
                    save_file(dict(tensors), part / f"{name}.safetensors")
            torch.save(dict(optimizer), part / "optimizer.pt")
            write_json(part / "state.json", state)
            if best is not None:
                shutil.copytree(best, part / BEST, copy_function=link_or_copy)
            write_json(part / MANIFEST, {"files": _checksums(part), "fingerprint": fingerprint})
    except Exception as error:
        raise storage_failure(error, folder) from error


def storage_failure(error: Exception, where: str | Path) -> Exception:
    """Return the one-line `InputError` of a full or read-only disk, or `error` if it is neither."""
    text = str(error)
    code = getattr(error, "errno", None)
    # torch and safetensors wrap the system's error in their own.
    full = code in (errno.ENOSPC, errno.EDQUOT) or "No space left" in text
    full = full or "file write failed" in text or "unexpected pos" in text
    if full:
        return InputError(
            f"disk full while writing {where}; free space and run the same command again: it "
            "continues from the last whole checkpoint"
        )
    if code in (errno.EROFS, errno.EACCES, errno.EPERM):
        return InputError(f"cannot write {where}: {os.strerror(code or 0)}; make it writable")
    return error


def save_best(folder: Path, epoch: int, save: Callable[[Path], None]) -> Path:
    """Write the model of the best epoch by `save` to a folder of its own; older ones go."""
    target = folder / f"best-epoch-{epoch}"
    try:
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(parents=True)
        save(target)
        (target / "README.md").unlink(missing_ok=True)  # the model card is written in the end
    except Exception as error:
        raise storage_failure(error, target) from error
    for old in folder.glob("best-epoch-*"):
        if old != target:
            shutil.rmtree(old, ignore_errors=True)
    return target


def carry_best(start: Checkpoint, folder: Path, epoch: int) -> Path | None:
    """Take the best model of a checkpoint along; None where it has none yet."""
    if not (start.folder / BEST).is_dir():
        return None
    target = folder / f"best-epoch-{epoch}"
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(start.folder / BEST, target, copy_function=link_or_copy)
    return target


def link_or_copy(source: str, target: str) -> None:
    """Make `target` the same file as `source` where the file system can, else a copy."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _checksums(folder: Path) -> dict[str, dict[str, Any]]:
    return {
        str(path.relative_to(folder)): {"size": path.stat().st_size, "sha256": sha256_file(path)}
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != MANIFEST
    }


def damage(folder: str | Path) -> str | None:
    """Return what is wrong with a checkpoint folder, or None if it is whole."""
    folder = Path(folder)
    try:
        expected = read_json(folder / MANIFEST)["files"]
    except (OSError, ValueError, KeyError, TypeError):
        return f"{MANIFEST} is missing or unreadable"
    for name, entry in expected.items():
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != entry["size"]:
            return f"{name} has {path.stat().st_size} bytes, expected {entry['size']}"
        if sha256_file(path) != entry["sha256"]:
            return f"{name} does not match its checksum"
    return None


def read_checkpoint(folder: str | Path, fingerprint: Fingerprint) -> Checkpoint:
    """Read a checkpoint; raises `InputError` if it is damaged or belongs to something else."""
    folder = Path(folder)
    wrong = damage(folder)
    if wrong:
        raise InputError(f"checkpoint {folder}: {wrong}; delete the folder and run again")
    return _read_whole(folder, fingerprint)


def _read_whole(folder: Path, fingerprint: Fingerprint) -> Checkpoint:
    """Read a checkpoint whose files have been checked: hashing them costs seconds at real size."""
    import torch
    from safetensors.torch import load_file

    other = differences(read_json(folder / MANIFEST)["fingerprint"], fingerprint)
    if other:
        raise InputError(
            f"checkpoint {folder} belongs to another run: {'; '.join(other)}; delete the folder "
            "to train anew, or restore the config it was made with"
        )

    def tensors(name: str) -> "dict[str, torch.Tensor]":
        path = folder / f"{name}.safetensors"
        return load_file(path) if path.is_file() else {}

    return Checkpoint(
        tensors("weights"),
        tensors("buffers"),
        tensors("method"),
        torch.load(folder / "optimizer.pt", map_location="cpu", weights_only=True),
        read_json(folder / "state.json"),
        folder,
    )


@dataclass(frozen=True)
class CheckpointFolder:
    """The checkpoints inside one chunk: `<root>/<short fingerprint>/step-<global step>/`.

    Another fingerprint has another folder, so another config is never resumed by mistake.
    """

    root: Path
    fingerprint: Fingerprint

    @property
    def own(self) -> Path:
        """Folder of this fingerprint's checkpoints."""
        return self.root / short(self.fingerprint)

    def path(self, step: int) -> Path:
        """Folder of the checkpoint after `step` optimizer steps."""
        return self.own / f"step-{step:08d}"

    def newest(self) -> Checkpoint | None:
        """Read the newest whole checkpoint; name in the log each one that is passed over."""
        self._name_others()
        for folder in sorted(self.own.glob("step-*"), reverse=True):
            wrong = damage(folder)
            if wrong is None:
                return _read_whole(folder, self.fingerprint)
            log.warning("checkpoint %s passed over: %s", folder, wrong)
        return None

    def _name_others(self) -> None:
        for folder in sorted(self.root.glob("*/step-*")):
            if folder.parent == self.own:
                continue
            try:
                found = read_json(folder / MANIFEST)["fingerprint"]
            except (OSError, ValueError, KeyError, TypeError):
                continue
            told = "; ".join(differences(found, self.fingerprint))
            log.warning("checkpoint %s refused, it belongs to another run: %s", folder, told)

    def prune(self, keep: int = 2) -> None:
        """Delete all but the newest `keep` checkpoints, and what a kill left half-written."""
        for folder in sorted(self.own.glob("step-*"))[:-keep]:
            shutil.rmtree(folder, ignore_errors=True)
        for part in self.own.glob(".*.part"):
            shutil.rmtree(part, ignore_errors=True)

    def clear(self) -> None:
        """Delete this fingerprint's checkpoints; the chunk is finished."""
        shutil.rmtree(self.own, ignore_errors=True)
        for folder in (self.root, self.root.parent, self.root.parent.parent):
            try:
                folder.rmdir()
            except OSError:
                break
