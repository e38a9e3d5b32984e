"""A run under the published protocol: how often it steps, what it counts, what it says."""

import json
import logging
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from tiny_study import TinyStudy, changed
from torch.nn import functional
from transformers import AutoTokenizer, GitForCausalLM

from peft_ablation.artifacts import read_json
from peft_ablation.as_published import AsPublished
from peft_ablation.data.images import ImageCache
from peft_ablation.training.chunk import train_chunk

EVERY = {
    "prompt_as_input": True, "padding_supervised": True, "labels_shifted_twice": True,
    "batches_an_epoch": 1, "val_examples": 10,
}  # fmt: skip
MOST = 200


def published_loss(study: TinyStudy, prompt: str, rows: int) -> float:
    """Loss of the first rows of the validation split, shortest first, by transformers' logits."""
    model = GitForCausalLM.from_pretrained(study.base).eval()
    tokenizer = AutoTokenizer.from_pretrained(study.base)
    told = json.loads((study.base / "preprocessor_config.json").read_text())
    mean, std = (torch.tensor(told[key]).view(3, 1, 1) for key in ("image_mean", "image_std"))
    cls, sep = tokenizer.cls_token_id, tokenizer.sep_token_id
    start = tokenizer.encode(prompt, add_special_tokens=False)
    width = MOST - len(start)
    table = pl.read_parquet(study.split("val")).head(rows)
    texts = [
        [cls, *tokenizer.encode(report, add_special_tokens=False), sep]
        for report in table["report"]
    ]
    order = np.argsort([len(text) for text in texts], kind="stable")
    cache = ImageCache(study.index)
    names = [table["example_id"][int(place)] for place in order]
    grey = torch.from_numpy(cache.pixels(cache.position(names))).float()[:, None] / 255
    labels = torch.tensor([texts[place] + [0] * (width - len(texts[place])) for place in order])
    inputs = torch.tensor([[cls, *start, sep] + [0] * (width - len(start) - 2)] * rows)
    with torch.no_grad():
        logits = model(input_ids=inputs, pixel_values=(grey - mean) / std).logits
    flat = logits[:, -width:-1].flatten(0, 1)
    return float(functional.cross_entropy(flat[:-1], labels[:, 1:].flatten()[1:]))


def test_one_batch_an_epoch_under_every_defect(
    tiny_study: TinyStudy, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    job = tiny_study.job(tmp_path / "chunk-0", "fft", epochs=2, epochs_per_chunk=2)
    job = changed(job, arm={"as_published": EVERY, "learning_rate": 0.0})
    with caplog.at_level(logging.WARNING):
        train_chunk(**job)
    history = read_json(job["output"] / "state.json")["history"]
    assert [row["steps"] for row in history] == [1, 1]
    assert [row["examples"] for row in history] == [16, 16]
    prompt = job["given"].task["prompt"]
    assert history[0]["val_loss"] == pytest.approx(published_loss(tiny_study, prompt, 10), rel=1e-5)
    warned = [record.getMessage() for record in caplog.records if "published" in record.msg]
    sentences = AsPublished.model_validate(EVERY).told.values()
    assert len(warned) == len(EVERY)
    assert all(any(sentence in line for line in warned) for sentence in sentences)
