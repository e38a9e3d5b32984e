"""Captioning: an image, a prompt, a text to write. The model is GIT.

A text is `[CLS] prompt report [SEP]`; only the report and the closing [SEP] are supervised.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from torch import Tensor, nn

from peft_ablation.bases.git import (
    IGNORED,
    Generated,
    Normalize,
    SupervisedLoss,
    generate_greedy,
    git_of,
    image_stream,
    image_tokens,
    lightened,
    text_losses,
)
from peft_ablation.data.images import ImageCache
from peft_ablation.errors import InputError
from peft_ablation.training.batches import Indices

Batch = dict[str, Tensor]


def load_model(base: str | Path) -> Any:
    """Return the `GitForCausalLM` of a local base folder, in float32, on the CPU."""
    from transformers import GitForCausalLM
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()  # a line a job, of no news
    model = GitForCausalLM.from_pretrained(
        base, local_files_only=True, use_safetensors=True, dtype=torch.float32
    )
    return lightened(model)


def load_tokenizer(folder: str | Path) -> Any:
    """Return the tokenizer of a local base or model folder."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)


def loss_module(model: nn.Module, base: str | Path) -> SupervisedLoss:
    """Return the module whose forward takes a batch and gives its summed token loss."""
    return SupervisedLoss(model, Normalize.of(base))


class ImageSource:
    """Images of a cache by position: uint8 pixels, or the frozen tower's cached features."""

    def __init__(self, index: str | Path, features: str | Path | None = None) -> None:
        """Open the image cache `index` and, where given, its features (float16, N, tokens, D)."""
        self.cache = ImageCache(index)
        self.features = np.load(features, mmap_mode="r") if features else None
        if self.features is not None and len(self.features) != len(self.cache):
            raise InputError(
                f"vision features: {features} holds {len(self.features)} images, the cache "
                f"{len(self.cache)}; delete the file and run again"
            )

    def __getitem__(self, positions: Indices) -> Tensor:
        """Return pixels (B, H, W) uint8 or features (B, N, D) float16 for these positions."""
        if self.features is not None:
            return torch.from_numpy(np.ascontiguousarray(self.features[positions]))
        return torch.from_numpy(self.cache.pixels(positions))


@dataclass(frozen=True)
class Examples:
    """Tokenised texts of one split with the places of their images."""

    tokens: list[list[int]]
    """`[CLS] prompt report [SEP]` of each example."""
    prompt: list[int]
    """`[CLS] prompt`, shared by all."""
    positions: Indices
    """Place of each example's image in the cache."""
    ids: list[str]
    """`dicom_id` of each example."""
    texts: list[str]
    """The report of each example."""
    images: ImageSource

    def __len__(self) -> int:
        """Return the number of examples."""
        return len(self.tokens)

    @property
    def lengths(self) -> Indices:
        """Tokens of each example."""
        return np.array([len(row) for row in self.tokens], dtype=np.int64)

    def supervised(self, indices: Indices) -> int:
        """Return how many tokens of these examples are supervised."""
        return int(self.lengths[indices].sum()) - len(self.prompt) * len(indices)

    def batch(self, indices: Indices, positions: Indices | None = None) -> Batch:
        """Return ids and labels (B, T) int64, padded to the longest row, and images.

        `positions` puts other images in place of the examples' own.
        """
        rows = [self.tokens[index] for index in indices]
        longest = max(map(len, rows))
        ids = torch.tensor([row + [0] * (longest - len(row)) for row in rows])
        labels = torch.tensor([row + [IGNORED] * (longest - len(row)) for row in rows])
        labels[:, : len(self.prompt)] = IGNORED
        where = self.positions[indices] if positions is None else positions
        return {"input_ids": ids, "labels": labels, "image": self.images[where]}


def examples(
    table: str | Path, images: ImageSource, tokenizer: Any, settings: Mapping[str, Any]
) -> Examples:
    """Tokenise the `report` column of a split; rows whose image was dropped are left out.

    `settings` holds `prompt`, `max_tokens` and `too_long` of `study.Train`. Raises `InputError`
    if a text is longer than `max_tokens` and `too_long` is `fail`.
    """
    rows = pl.read_parquet(table, columns=["dicom_id", "report"])
    positions = images.cache.position(rows["dicom_id"].to_list())
    rows = rows.filter(pl.Series(positions >= 0))
    if rows.is_empty():
        raise InputError(f"{table}: no row has a usable image; see images/account.json")
    prompt = tokenizer.encode(settings["prompt"], add_special_tokens=False)
    prompt = [tokenizer.cls_token_id, *prompt]
    reports = tokenizer(rows["report"].to_list(), add_special_tokens=False)["input_ids"]
    tokens = [[*prompt, *report, tokenizer.sep_token_id] for report in reports]
    return Examples(
        _fitted(tokens, table, settings),
        prompt,
        positions[positions >= 0],
        rows["dicom_id"].to_list(),
        rows["report"].to_list(),
        images,
    )


def _fitted(tokens: list[list[int]], table: str | Path, settings: Mapping[str, Any]) -> Any:
    limit = settings["max_tokens"]
    cut = sum(len(row) > limit for row in tokens)
    if not cut:
        return tokens
    longest = max(map(len, tokens))
    if settings["too_long"] == "fail":
        raise InputError(
            f"train.max_tokens: is {limit}, but {cut} of {len(tokens)} texts in {table} are longer "
            f"(the longest has {longest} tokens) and would be cut; set train.max_tokens to "
            f"{longest}, or train.too_long to cut"
        )
    return [row[:limit] for row in tokens]


def generate(
    model: Any,
    normalize: Normalize,
    examples: Examples,
    indices: Indices,
    positions: Indices,
    *,
    end_token: int,
    max_new_tokens: int,
    num_beams: int,
    device: torch.device,
) -> tuple[list[Generated], Tensor]:
    """Return, for a batch of examples, what the model writes and the references' loss.

    `positions` say which images the model looks at. The loss is the summed negative
    log-likelihood of each reference, in nats (float64, B).
    """
    batch = {k: v.to(device) for k, v in examples.batch(indices, positions).items()}
    image = image_tokens(model, normalize, batch["image"])
    stream = list(image_stream(model, image))
    losses = text_losses(model, stream, batch["input_ids"], batch["labels"])
    if num_beams == 1:
        prompts = [examples.prompt] * len(indices)
        written = generate_greedy(
            model, stream, prompts, end_token=end_token, max_new_tokens=max_new_tokens
        )
    else:
        written = _beam_search(
            model, normalize, batch["image"], examples.prompt, end_token, max_new_tokens, num_beams
        )
    return written, losses


def _beam_search(
    model: Any,
    normalize: Normalize,
    pixels: Tensor,
    prompt: Sequence[int],
    end_token: int,
    max_new_tokens: int,
    num_beams: int,
) -> list[Generated]:
    """Beam search through transformers, which needs pixels rather than cached features."""
    ids = torch.tensor([list(prompt)] * len(pixels), device=pixels.device)
    found = git_of(model).generate(
        pixel_values=normalize(pixels),
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=max_new_tokens,
        num_beams=num_beams,
        do_sample=False,
        eos_token_id=end_token,
        pad_token_id=0,
    )
    texts = []
    for row in found[:, len(prompt) :].tolist():
        done = end_token in row
        texts.append(Generated(row[: row.index(end_token)] if done else row, done))
    return texts
