"""The training core: the result of an undisturbed run, whatever happens on the way."""

import json
import logging
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.state import AcceleratorState
from safetensors.torch import load_file
from tiny_study import TinyStudy, arm_of, changed
from transformers import AutoTokenizer, GitForCausalLM

from peft_ablation.artifacts import read_json
from peft_ablation.errors import InputError
from peft_ablation.methods.parameters import count_parameters
from peft_ablation.training.checkpoint import MAY_DIVERGE, damage
from peft_ablation.training.chunk import mixed_precision, train_chunk
from peft_ablation.training.history_table import MEASURED
from peft_ablation.training.run import Stopped
from peft_ablation.training.selection import select_checkpoint
from peft_ablation.training.steps import Steps

ARMS = ("fft", "lora_vision", "lora_text")


def outcome(chunk: Path) -> dict[str, Any]:
    """What must be equal: last and best weights as bytes, history without measured columns."""
    state = read_json(chunk / "state.json")
    best = next((chunk / "best").glob("*model.safetensors"))
    return {
        "weights": (chunk / "weights.safetensors").read_bytes(),
        "best": best.read_bytes(),
        "position": state["position"],
        "history": [
            {k: v for k, v in row.items() if k not in (*MEASURED, "chunk")}
            for row in state["history"]
        ],
    }


@pytest.fixture(scope="module")
def straight(tiny_study: TinyStudy, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Outcome of an undisturbed run of each arm."""
    outcomes = {}
    for arm in ARMS:
        output = tmp_path_factory.mktemp(arm) / "chunk-0"
        train_chunk(**tiny_study.job(output, arm))
        outcomes[arm] = outcome(output)
    return outcomes


@pytest.fixture
def at_step(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int, Callable[[], None]], None]]:
    """Do something once, right after the n-th optimizer step of this process."""
    original = Steps.take

    def install(step: int, action: Callable[[], None]) -> None:
        done = [0]

        def counted(self: Steps, *arguments: Any) -> Any:
            result = original(self, *arguments)
            done[0] += 1
            if done[0] == step:
                action()
            return result

        monkeypatch.setattr(Steps, "take", counted)

    yield install
    monkeypatch.setattr(Steps, "take", original)


def terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize("arm", ARMS)
def test_chunks_in_fresh_runs_equal_one_straight_run(
    arm: str, tiny_study: TinyStudy, straight: dict[str, Any], tmp_path: Path
) -> None:
    previous = None
    for chunk in range(2):
        job = tiny_study.job(tmp_path / f"chunk-{chunk}", arm, epochs_per_chunk=2)
        train_chunk(**job | {"chunk": chunk, "previous": previous})
        previous = job["output"]
    assert outcome(tmp_path / "chunk-1") == straight[arm]


@pytest.mark.parametrize("patience", [1, 2])
def test_early_stopping_ends_a_run_in_whatever_chunk(
    patience: int, tiny_study: TinyStudy, tmp_path: Path
) -> None:
    """A run that stands still is best in its first epoch, and ends `patience` epochs later."""
    previous = None
    for chunk in range(3):
        job = tiny_study.job(
            tmp_path / f"chunk-{chunk}", epochs=6, epochs_per_chunk=2, early_stopping=patience
        )
        still = changed(job, arm={"learning_rate": 0.0, "dropout": 0.0})
        train_chunk(**still | {"chunk": chunk, "previous": previous})
        previous = job["output"]
    state = read_json(tmp_path / "chunk-2" / "state.json")
    assert [row["epoch"] for row in state["history"]] == list(range(1, 2 + patience))
    assert (state["position"]["best_epoch"], state["position"]["stopped"]) == (1, True)


@pytest.fixture
def other_precision() -> Iterator[None]:
    """Let a test train in another precision: Accelerate allows one a process."""
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.mark.usefixtures("other_precision")
def test_chunks_in_bf16_equal_one_straight_run(tiny_study: TinyStudy, tmp_path: Path) -> None:
    whole = tiny_study.job(tmp_path / "whole", "fft", precision="bf16")
    train_chunk(**whole)
    previous = None
    for chunk in range(2):
        job = tiny_study.job(
            tmp_path / f"chunk-{chunk}", "fft", precision="bf16", epochs_per_chunk=2
        )
        train_chunk(**job | {"chunk": chunk, "previous": previous})
        previous = job["output"]
    assert outcome(tmp_path / "chunk-1") == outcome(tmp_path / "whole")


@pytest.mark.parametrize("has_bf16", [True, False])
@pytest.mark.parametrize("gpu", [True, False])
def test_auto_is_bf16_where_the_device_has_it(
    gpu: bool, has_bf16: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: has_bf16 and gpu)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: has_bf16 and not gpu)
    assert mixed_precision("auto") == ("bf16" if has_bf16 else "no")
    assert (mixed_precision("fp32"), mixed_precision("bf16")) == ("no", "bf16")


@pytest.mark.parametrize("arm", ARMS)
@pytest.mark.parametrize("step", [1, 5, 8])
def test_sigterm_saves_and_the_same_command_goes_on(
    arm: str,
    step: int,
    tiny_study: TinyStudy,
    straight: dict[str, Any],
    tmp_path: Path,
    at_step: Any,
) -> None:
    job = tiny_study.job(tmp_path / "chunk-0", arm)
    at_step(step, terminate)
    with pytest.raises(Stopped):
        train_chunk(**job)
    assert not (tmp_path / "chunk-0").exists()
    assert list(job["checkpoints"].glob("*/step-*"))
    train_chunk(**job)
    assert outcome(tmp_path / "chunk-0") == straight[arm]
    assert not list(job["checkpoints"].glob("*/step-*"))  # a finished chunk needs none


def test_a_trial_is_killed_and_continued_like_any_run_and_is_one(
    tiny_study: TinyStudy, straight: dict[str, Any], tmp_path: Path, at_step: Any
) -> None:
    job = changed(tiny_study.job(tmp_path / "chunk-0"), settings={MAY_DIVERGE: True})
    at_step(5, terminate)
    with pytest.raises(Stopped):
        train_chunk(**job)
    assert list(job["checkpoints"].glob("*/step-*"))
    train_chunk(**job)
    assert outcome(tmp_path / "chunk-0") == straight["lora_text"]


def interrupted(study: TinyStudy, folder: Path, at_step: Any, arm: str = "lora_text") -> Any:
    """A job stopped after 8 steps with checkpoints after 3, 6 and 8; two are kept."""
    job = study.job(folder / "chunk-0", arm, checkpoint_every_steps=3)
    at_step(8, terminate)
    with pytest.raises(Stopped):
        train_chunk(**job)
    kept = sorted(job["checkpoints"].glob("*/step-*"))
    assert len(kept) == 2
    return job, kept


def truncate(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


def flip_a_bit(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


@pytest.mark.parametrize("harm", [truncate, flip_a_bit, Path.unlink])
@pytest.mark.parametrize("name", ["weights.safetensors", "optimizer.pt", "state.json"])
def test_a_damaged_checkpoint_is_named_and_passed_over(
    harm: Callable[[Path], None], name: str, tiny_study: TinyStudy, straight: dict[str, Any],
    tmp_path: Path, at_step: Any, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    job, kept = interrupted(tiny_study, tmp_path, at_step)
    harm(kept[-1] / name)
    with caplog.at_level(logging.INFO):
        train_chunk(**job)
    assert f"{kept[-1]} passed over: {name}" in caplog.text
    assert f"from {kept[-2]}" in caplog.text
    assert outcome(tmp_path / "chunk-0") == straight["lora_text"]


def test_when_all_checkpoints_are_bad_the_chunk_starts_again(
    tiny_study: TinyStudy, straight: dict[str, Any], tmp_path: Path, at_step: Any,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    job, kept = interrupted(tiny_study, tmp_path, at_step)
    for folder in kept:
        (folder / "manifest.json").write_text("{")
    # What a kill in the middle of writing leaves behind.
    shutil.copytree(kept[0], kept[0].parent / ".step-00000009.x.part")
    train_chunk(**job)
    assert "manifest.json is missing or unreadable" in caplog.text
    assert outcome(tmp_path / "chunk-0") == straight["lora_text"]


def test_another_config_is_refused_by_name(
    tiny_study: TinyStudy, tmp_path: Path, at_step: Any, caplog: pytest.LogCaptureFixture
) -> None:
    job, kept = interrupted(tiny_study, tmp_path, at_step)
    train_chunk(**changed(job, arm={"learning_rate": 1e-2}))
    assert f"{kept[-1]} refused" in caplog.text
    assert "arm.learning_rate (found 0.005, expected 0.01)" in caplog.text
    assert kept[-1].is_dir()  # and still there for the config it belongs to


def test_a_previous_chunk_of_another_run_is_refused(tiny_study: TinyStudy, tmp_path: Path) -> None:
    first = tiny_study.job(tmp_path / "chunk-0", epochs_per_chunk=2)
    train_chunk(**first)
    second = first | {
        "chunk": 1, "previous": tmp_path / "chunk-0", "output": tmp_path / "chunk-1",
    }  # fmt: skip
    with pytest.raises(InputError, match=r"belongs to another run: seed \(found 0, expected 1\)"):
        train_chunk(**changed(second, seed=1))
    flip_a_bit(tmp_path / "chunk-0" / "optimizer.pt")
    with pytest.raises(InputError, match="does not match its checksum"):
        train_chunk(**second)


def test_checkpoint_intervals_do_not_change_the_result(
    tiny_study: TinyStudy, straight: dict[str, Any], tmp_path: Path
) -> None:
    job = tiny_study.job(
        tmp_path / "chunk-0", checkpoint_every_steps=1, checkpoint_every_seconds=0.01
    )
    train_chunk(**job)
    assert outcome(tmp_path / "chunk-0") == straight["lora_text"]


def test_micro_batches_give_the_same_losses(tiny_study: TinyStudy, tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train_chunk(**tiny_study.job(whole, "fft"))
    train_chunk(**tiny_study.job(parts, "fft", micro_batch_size=5))
    for a, b in zip(outcome(whole)["history"], outcome(parts)["history"], strict=True):
        assert a["train_loss"] == pytest.approx(b["train_loss"], abs=1e-4)


def test_out_of_memory_halves_the_micro_batch_and_goes_on(
    tiny_study: TinyStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    from peft_ablation.bases.git import SupervisedLoss

    original = SupervisedLoss.forward

    def small_card(self: Any, **batch: torch.Tensor) -> torch.Tensor:
        if self.training and len(batch["labels"]) > 4:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return original(self, **batch)

    monkeypatch.setattr(SupervisedLoss, "forward", small_card)
    train_chunk(**tiny_study.job(tmp_path / "halved", "fft"))
    assert "micro-batch of 16: going on with 8" in caplog.text
    monkeypatch.setattr(SupervisedLoss, "forward", original)
    train_chunk(**tiny_study.job(tmp_path / "asked", "fft", micro_batch_size=4))
    halved, asked = outcome(tmp_path / "halved"), outcome(tmp_path / "asked")
    assert halved["position"]["micro_batch_size"] == 4
    assert halved["history"] == asked["history"]
    monkeypatch.setattr(SupervisedLoss, "forward", small_card)
    with pytest.raises(InputError, match=r"out of memory with a micro-batch of 16.*train\.micro"):
        train_chunk(**tiny_study.job(tmp_path / "off", "fft", halve_batch_on_oom=False))


def test_an_exploding_loss_names_step_examples_and_checkpoint(
    tiny_study: TinyStudy, tmp_path: Path
) -> None:
    job = tiny_study.job(tmp_path / "chunk-0", "fft", checkpoint_every_steps=2, max_loss=1e-6)
    with pytest.raises(InputError, match=r"epoch 1 step 1, allowed up to 1e-06; examples \w+-"):
        train_chunk(**job)
    job = changed(job, arm={"learning_rate": 1e30}, settings={"max_loss": 1e9, "warmup": 0.9})
    with pytest.raises(InputError, match=r"loss nan .*last good checkpoint: \S*step-0000000"):
        train_chunk(**job)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if mounted.returncode:
        pytest.skip(f"cannot mount a small tmpfs here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_is_one_line_and_keeps_the_last_checkpoint(
    tiny_study: TinyStudy, straight: dict[str, Any], tmp_path: Path, small_disk: Path
) -> None:
    job = tiny_study.job(tmp_path / "chunk-0", "fft", checkpoint_every_steps=3)
    job["checkpoints"] = small_disk / "checkpoints"
    filler = small_disk / "filler"
    filler.write_bytes(b"x" * 300_000)
    with pytest.raises(InputError, match=r"disk full while writing .*run the same command again"):
        train_chunk(**job)
    assert not list(small_disk.rglob("*.part"))
    filler.unlink()
    job["checkpoints"] = tmp_path / "elsewhere"
    train_chunk(**job)
    assert outcome(tmp_path / "chunk-0") == straight["fft"]


def test_read_only_results_are_one_line_and_keep_the_last_checkpoint(
    tiny_study: TinyStudy, straight: dict[str, Any], tmp_path: Path, at_step: Any, small_disk: Path
) -> None:
    def remount(mode: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{mode}", str(small_disk)], check=True)

    job = tiny_study.job(tmp_path / "chunk-0", "lora_text", checkpoint_every_steps=3)
    job["checkpoints"] = small_disk / "checkpoints"
    at_step(4, terminate)
    with pytest.raises(Stopped):
        train_chunk(**job)
    remount("ro")
    with pytest.raises(InputError, match=r"cannot write \S*: Read-only .*make it writable"):
        train_chunk(**job)
    kept = list(job["checkpoints"].glob("*/step-*"))
    assert len(kept) == 2 and not any(map(damage, kept))
    remount("rw")
    train_chunk(**job)
    assert outcome(tmp_path / "chunk-0") == straight["lora_text"]


def test_cached_frozen_features_change_the_loss_little(
    tiny_study: TinyStudy, straight: dict[str, Any], features: Path, tmp_path: Path
) -> None:
    train_chunk(**tiny_study.job(tmp_path / "chunk-0", features=features))
    cached = outcome(tmp_path / "chunk-0")["history"]
    for a, b in zip(straight["lora_text"]["history"], cached, strict=True):
        assert a["train_loss"] == pytest.approx(b["train_loss"], abs=2e-3)


def test_two_processes_give_the_losses_of_one(tiny_study: TinyStudy, tmp_path: Path) -> None:
    for arm in ("fft", "lora_vision"):
        one, two = tmp_path / f"{arm}-1", tmp_path / f"{arm}-2"
        settings = {"epochs": 2, "epochs_per_chunk": 2}
        train_chunk(**without_dropout(tiny_study.job(one, arm, **settings)))
        train_chunk(**without_dropout(tiny_study.job(two, arm, num_processes=2, **settings)))
        for a, b in zip(outcome(one)["history"], outcome(two)["history"], strict=True):
            for key in ("train_loss", "val_loss"):
                assert a[key] == pytest.approx(b[key], abs=1e-5), (arm, key)
            assert (a["steps"], a["tokens"]) == (b["steps"], b["tokens"])


def without_dropout(job: dict[str, Any]) -> dict[str, Any]:
    return changed(job, arm={"dropout": 0.0})


@pytest.mark.parametrize("arm", ARMS)
def test_the_selected_model_loads_plainly(arm: str, tiny_study: TinyStudy, tmp_path: Path) -> None:
    from peft import PeftModel

    job = tiny_study.job(tmp_path / "chunk-0", arm)
    train_chunk(**job)
    model, history, cost = (tmp_path / name for name in ("model", "history.csv", "cost.json"))
    select_checkpoint(
        job["output"], base=tiny_study.base, arm_name=arm, arm=job["given"].arm, seed=0,
        study="tiny", model=model, history=history, cost=cost,
    )  # fmt: skip
    told = json.loads(cost.read_text())
    rows = read_json(job["output"] / "state.json")["history"]
    best = min(rows, key=lambda row: row["val_loss"])
    assert (told["best_epoch"], told["best_val_loss"]) == (best["epoch"], best["val_loss"])
    assert AutoTokenizer.from_pretrained(model).cls_token_id == 2
    if arm == "fft":
        loaded = GitForCausalLM.from_pretrained(model)
        assert count_parameters(loaded).total == told["total_parameters"]
        assert told["trainable_parameters"] == told["total_parameters"]
    else:
        loaded = PeftModel.from_pretrained(GitForCausalLM.from_pretrained(tiny_study.base), model)
        adapter = load_file(model / "adapter_model.safetensors")
        assert sum(v.numel() for v in adapter.values()) == told["trainable_parameters"]
        assert count_parameters(loaded).total == told["total_parameters"]
    assert len(history.read_text().splitlines()) == 1 + told["epochs"]


def test_a_base_in_4_bits_is_trained_in_chunks_like_any_other(
    tiny_study: TinyStudy, tmp_path: Path
) -> None:
    """With states in 8 bits, of which a rank of 128 has some, and activations computed again."""
    arm = arm_of({
        "method": "qlora", "targets": "text_attention", "r": 128, "learning_rate": 1e-3,
    })  # fmt: skip
    how = {"optimizer": "paged_adamw_8bit", "gradient_checkpointing": True, "epochs": 2}
    whole = tiny_study.job(tmp_path / "whole", epochs_per_chunk=2, **how)
    whole["given"] = replace(whole["given"], arm=arm)
    train_chunk(**whole)
    previous = None
    for chunk in range(2):
        job = tiny_study.job(tmp_path / f"chunk-{chunk}", epochs_per_chunk=1, **how)
        job["given"] = replace(job["given"], arm=arm)
        train_chunk(**job | {"chunk": chunk, "previous": previous})
        previous = job["output"]
    assert outcome(tmp_path / "chunk-1") == outcome(tmp_path / "whole")
    saved = torch.load(tmp_path / "whole" / "optimizer.pt", weights_only=True)
    assert "torch.uint8" in str({t.dtype for t in tensors_in(saved["state"])})
    assert read_json(tmp_path / "whole" / "manifest.json")["fingerprint"]["train"].items() >= {
        "optimizer": "paged_adamw_8bit", "gradient_checkpointing": True,
    }.items()  # fmt: skip
    model, history, cost = (tmp_path / name for name in ("model", "history.csv", "cost.json"))
    select_checkpoint(
        whole["output"], base=tiny_study.base, arm_name="qlora", arm=arm, seed=0,
        study="tiny", model=model, history=history, cost=cost,
    )  # fmt: skip
    line = (
        "PeftModel.from_pretrained(GitForCausalLM.from_pretrained(base, dtype=torch.float32, "
        'quantization_config=BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", '
        "bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=torch.float32, "
        "llm_int8_skip_modules=['output'])), folder)"
    )
    assert f"Load: `{line}`." in (model / "README.md").read_text()


def tensors_in(state: Any) -> Iterator[torch.Tensor]:
    for value in state.values():
        if isinstance(value, torch.Tensor):
            yield value
        elif isinstance(value, dict):
            yield from tensors_in(value)


def test_tensorboard_gets_every_epoch_at_the_switch(tiny_study: TinyStudy, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = tmp_path / "board"
    train_chunk(**tiny_study.job(tmp_path / "chunk-0") | {"tensorboard": board})
    losses: dict[int, float] = {}
    for file in board.iterdir():
        events = EventAccumulator(str(file)).Reload()
        losses |= {event.step: event.value for event in events.Scalars("val_loss")}
    rows = read_json(tmp_path / "chunk-0" / "state.json")["history"]
    assert losses == pytest.approx({row["epoch"]: row["val_loss"] for row in rows}, rel=1e-6)


def test_too_long_texts_are_counted(tiny_study: TinyStudy, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"max_tokens: is 20, but \d+ of \d+ texts in .* longest"):
        train_chunk(**tiny_study.job(tmp_path / "chunk-0", task={"max_tokens": 20}))
    cut = {"max_tokens": 20, "too_long": "cut"}
    train_chunk(**tiny_study.job(tmp_path / "chunk-0", task=cut))
