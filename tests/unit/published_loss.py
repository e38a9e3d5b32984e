"""The loss that the published code would print, from transformers' logits."""

import json

import numpy as np
import polars as pl
import torch
from tiny_study import TinyStudy
from torch.nn import functional
from transformers import AutoTokenizer, GitForCausalLM

from peft_ablation.data.images import ImageCache

EVERY = {"prompt_as_input": True, "padding_supervised": True, "labels_shifted_twice": True}
MOST = 200
"""`task.max_tokens` of the tiny study."""


def published_loss(
    study: TinyStudy, split: str, prompt: str, rows: int, *, shortest_first: bool = False
) -> float:
    """Loss of the first rows of a split in one batch, prompt and report each padded alike."""
    model = GitForCausalLM.from_pretrained(study.base).eval()
    tokenizer = AutoTokenizer.from_pretrained(study.base)
    told = json.loads((study.base / "preprocessor_config.json").read_text())
    mean, std = (torch.tensor(told[key]).view(3, 1, 1) for key in ("image_mean", "image_std"))
    cls, sep = tokenizer.cls_token_id, tokenizer.sep_token_id
    start = tokenizer.encode(prompt, add_special_tokens=False)
    width = MOST - len(start)
    table = pl.read_parquet(study.split(split)).head(rows)
    texts = [
        [cls, *tokenizer.encode(report, add_special_tokens=False), sep]
        for report in table["report"]
    ]
    order = np.arange(rows)
    if shortest_first:
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
