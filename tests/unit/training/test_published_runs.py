"""A run under the published protocol: how often it steps, what it counts, what it says."""

import logging
from pathlib import Path

import pytest
from published_loss import EVERY, published_loss
from tiny_study import TinyStudy, changed

from peft_ablation.artifacts import read_json
from peft_ablation.as_published import AsPublished
from peft_ablation.training.chunk import train_chunk

DEFECTS = {**EVERY, "batches_an_epoch": 1, "val_examples": 10}


def test_one_batch_an_epoch_under_every_defect(
    tiny_study: TinyStudy, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    job = tiny_study.job(tmp_path / "chunk-0", "fft", epochs=2, epochs_per_chunk=2)
    job = changed(job, arm={"as_published": DEFECTS, "learning_rate": 0.0})
    with caplog.at_level(logging.WARNING):
        train_chunk(**job)
    history = read_json(job["output"] / "state.json")["history"]
    assert [row["steps"] for row in history] == [1, 1]
    assert [row["examples"] for row in history] == [16, 16]
    expected = published_loss(
        tiny_study, "val", job["given"].task["prompt"], 10, shortest_first=True
    )
    assert history[0]["val_loss"] == pytest.approx(expected, rel=1e-5)
    warned = [record.getMessage() for record in caplog.records if "published" in record.msg]
    sentences = AsPublished.model_validate(DEFECTS).told.values()
    assert len(warned) == len(DEFECTS)
    assert all(any(sentence in line for line in warned) for sentence in sentences)
