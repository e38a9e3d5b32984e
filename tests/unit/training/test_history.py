"""A row of the history, its numbers worked by hand."""

import time
from types import SimpleNamespace

import pytest
import torch

from peft_ablation.training.history import EpochRecord, Meter
from peft_ablation.training.history_table import COLUMNS, as_csv


def test_means_are_a_token_a_step_and_a_second() -> None:
    record = EpochRecord(
        steps=4, examples=60, tokens=500, loss_sum=1000.0, grad_norm_sum=6.0, learning_rate=1e-3,
        memory_sum_mb=800.0, memory_peak_mb=250.0, reserved_sum_mb=1200.0, reserved_peak_mb=350.0,
        energy_joules=90.0,
    )  # fmt: skip
    record.seconds.update(training=5.0, evaluating=2.0, saving=1.0, waiting=0.5)
    assert record.row(3, 1, {"loss": 1.5, "accuracy": 0.75}) == {
        "epoch": 3, "chunk": 1, "steps": 4, "examples": 60, "tokens": 500,
        "train_loss": 2.0, "val_loss": 1.5, "val_accuracy": 0.75, "learning_rate": 1e-3,
        "grad_norm": 1.5,
        "seconds_training": 5.0, "seconds_evaluating": 2.0, "seconds_saving": 1.0,
        "seconds_waiting": 0.5, "examples_per_second": 12.0, "tokens_per_second": 100.0,
        "memory_allocated_mean_mb": 200.0, "memory_allocated_peak_mb": 250.0,
        "memory_reserved_mean_mb": 300.0, "memory_reserved_peak_mb": 350.0,
        "energy_joules": 90.0,
    }  # fmt: skip


def test_what_a_task_counts_stands_last_and_only_where_it_counts() -> None:
    record = EpochRecord(steps=1, examples=1, tokens=1)
    plain, counted = (
        as_csv([record.row(1, 0, {"loss": 1.5, **more})]) for more in ({}, {"accuracy": 0.75})
    )
    assert plain.splitlines()[0] == ",".join(COLUMNS)
    assert counted.splitlines()[0] == f"{plain.splitlines()[0]},val_accuracy"
    assert counted.splitlines()[1] == f"{plain.splitlines()[1]},0.75"


def test_seconds_of_an_activity_add_up_even_where_it_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    moments = iter([10.0, 12.0, 20.0, 21.5, 30.0, 34.0])
    monkeypatch.setattr(time, "perf_counter", lambda: next(moments))
    record = EpochRecord()
    for _ in range(2):
        with record.timed("training"):
            pass
    with pytest.raises(ValueError), record.timed("saving"):
        raise ValueError
    assert record.seconds == {"training": 3.5, "evaluating": 0, "saving": 4.0, "waiting": 0}


def test_memory_is_summed_for_its_mean_and_its_peak_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    used = iter([2e6, 5e6, 3e6])
    meter, record = Meter(torch.device("cpu")), EpochRecord()
    process = SimpleNamespace(memory_info=lambda: SimpleNamespace(rss=next(used)))
    monkeypatch.setattr(meter, "_process", process)
    for _ in range(3):
        meter.sample(record)
    assert (record.memory_sum_mb, record.memory_peak_mb) == (10.0, 5.0)
    assert (record.reserved_sum_mb, record.reserved_peak_mb) == (10.0, 5.0)
