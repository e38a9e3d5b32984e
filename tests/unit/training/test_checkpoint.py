"""Checkpoints as files: which are kept, what is told of another run, and what counts as damage."""

import errno
import os
from pathlib import Path

import pytest
import torch

from peft_ablation.errors import InputError
from peft_ablation.training.checkpoint import (
    BEST,
    CheckpointFolder,
    damage,
    differences,
    link_or_copy,
    read_checkpoint,
    storage_failure,
    write_checkpoint,
)

RUN = {"seed": 0, "arm": {"r": 8, "alpha": 16}}


@pytest.fixture
def folder(tmp_path: Path) -> CheckpointFolder:
    return CheckpointFolder(tmp_path / "tiny" / "chunk-0" / "checkpoints", RUN)


def written(folder: CheckpointFolder, step: int, best: Path | None = None) -> Path:
    """A checkpoint after `step` steps, its one weight being the step."""
    path = folder.path(step)
    write_checkpoint(
        path, weights={"w": torch.tensor([float(step)])}, buffers={}, method={},
        optimizer={"step": step}, state={"step": step}, best=best,
        fingerprint=folder.fingerprint,
    )  # fmt: skip
    return path


# From 9 to 100 the number of digits grows: order is by step, not by text.
def test_pruning_keeps_the_newest(folder: CheckpointFolder) -> None:
    for step in (8, 9, 10, 100):
        written(folder, step)
    folder.prune(keep=3)
    assert set(folder.own.iterdir()) == {folder.path(n) for n in (9, 10, 100)}
    folder.prune()
    assert set(folder.own.iterdir()) == {folder.path(n) for n in (10, 100)}


def test_pruning_fewer_than_are_kept_deletes_none(folder: CheckpointFolder) -> None:
    written(folder, 1)
    folder.prune()
    assert folder.path(1).is_dir()


def test_pruning_deletes_what_a_kill_left_half_written(folder: CheckpointFolder) -> None:
    written(folder, 1)
    part = folder.own / ".step-00000002.x.part"
    part.mkdir()
    folder.prune()
    assert list(folder.own.iterdir()) == [folder.path(1)]


def test_newest_is_the_last_step(folder: CheckpointFolder) -> None:
    for step in (9, 10, 100, 11):
        written(folder, step)
    found = folder.newest()
    assert found is not None
    assert (found.state, found.optimizer) == ({"step": 100}, {"step": 100})
    assert found.weights["w"].tolist() == [100]


def test_buffers_and_the_methods_own_state_come_back(tmp_path: Path) -> None:
    buffers, method = {"running_mean": torch.tensor([1.5])}, {"importance": torch.tensor([3])}
    given = {"weights": {}, "optimizer": {}, "state": {}, "best": None, "fingerprint": RUN}
    write_checkpoint(tmp_path / "with", buffers=buffers, method=method, **given)
    found = read_checkpoint(tmp_path / "with", RUN)
    assert (found.buffers, found.method) == (buffers, method)
    write_checkpoint(tmp_path / "without", buffers={}, method={}, **given)
    assert not list((tmp_path / "without").glob("[bm]*.safetensors"))
    found = read_checkpoint(tmp_path / "without", RUN)
    assert (found.buffers, found.method) == ({}, {})


def test_differences_are_told_whichever_side_has_the_key() -> None:
    assert differences(RUN, RUN) == []
    assert differences({"a": 1, "b": 2}, {"a": 1}) == ["b (found 2, expected None)"]
    assert differences({"a": 1}, {"a": 1, "b": 2}) == ["b (found None, expected 2)"]
    assert differences({"arm": {"r": 8}}, {"arm": {"r": 4, "bias": "all"}}) == [
        "arm.bias (found None, expected all)",
        "arm.r (found 8, expected 4)",
    ]


@pytest.mark.parametrize(
    "other",
    [{**RUN, "task": "tagging"}, {"seed": 0}, {**RUN, "arm": {**RUN["arm"], "bias": "all"}}],
    ids=["more", "fewer", "more of the arm"],
)
def test_a_run_with_other_keys_is_refused(folder: CheckpointFolder, other: dict) -> None:
    path = written(folder, 1)
    assert read_checkpoint(path, RUN).state == {"step": 1}
    with pytest.raises(InputError, match=r"belongs to another run: .*found .*, expected "):
        read_checkpoint(path, other)


def test_the_best_model_is_carried_along_and_guarded(
    folder: CheckpointFolder, tmp_path: Path
) -> None:
    best = tmp_path / "best-epoch-3"
    best.mkdir()
    (best / "model.safetensors").write_bytes(b"weights")
    path = written(folder, 1, best)
    carried = path / BEST / "model.safetensors"
    assert carried.read_bytes() == b"weights"
    assert damage(path) is None
    carried.unlink()  # a link: the original must not change
    carried.write_bytes(b"weight$")
    assert damage(path) == f"{BEST}/model.safetensors does not match its checksum"
    assert (best / "model.safetensors").read_bytes() == b"weights"


def test_where_files_cannot_be_linked_they_are_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(source: str, target: str) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    source, target = tmp_path / "a", tmp_path / "b"
    source.write_bytes(b"content")
    monkeypatch.setattr(os, "link", refuse)
    link_or_copy(str(source), str(target))
    assert target.read_bytes() == b"content"


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError(errno.ENOSPC, "x"), "disk full while writing here"),
        (OSError(errno.EDQUOT, "x"), "disk full while writing here"),
        (RuntimeError("PytorchStreamWriter failed: unexpected pos 64"), "disk full"),
        (RuntimeError("[enforce fail] . file write failed"), "disk full"),
        (OSError(errno.EROFS, "x"), "cannot write here: Read-only"),
        (OSError(errno.EACCES, "x"), "cannot write here: Permission denied"),
    ],
)
def test_a_failing_disk_is_told_in_one_line(error: Exception, told: str) -> None:
    found = storage_failure(error, "here")
    assert isinstance(found, InputError)
    assert str(found).startswith(told)
    assert "\n" not in str(found)


def test_any_other_failure_is_left_as_it_is() -> None:
    error = ValueError("no number")
    assert storage_failure(error, "here") is error


def test_a_finished_chunk_leaves_no_empty_folders(folder: CheckpointFolder, tmp_path: Path) -> None:
    written(folder, 1)
    (tmp_path / "other").touch()
    folder.clear()
    assert [path.name for path in tmp_path.iterdir()] == ["other"]


def test_clearing_leaves_the_checkpoints_of_other_runs(folder: CheckpointFolder) -> None:
    other = CheckpointFolder(folder.root, RUN | {"seed": 1})
    kept = written(other, 1)
    written(folder, 1)
    folder.clear()
    assert not folder.own.exists()
    assert damage(kept) is None
