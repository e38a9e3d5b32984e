"""Texts of images as token ids: `[CLS] prompt report [SEP]`.

Only the report and the closing [SEP] are supervised.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from peft_ablation.bases.git import IGNORED
from peft_ablation.data.examples import Indices, read_columns, shuffled_positions
from peft_ablation.data.image_source import ImageSource
from peft_ablation.errors import InputError


def load_tokenizer(folder: str | Path) -> Any:
    """Return the tokenizer of a local base or model folder."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)


@dataclass(frozen=True)
class CaptionExamples:
    """Tokenised texts of one split with the places of their images."""

    tokens: list[list[int]]
    """`[CLS] prompt report [SEP]` of each example."""
    prompt: list[int]
    """`[CLS] prompt`, shared by all."""
    positions: Indices
    """Place of each example's image in the cache."""
    ids: list[str]
    """`example_id` of each example."""
    texts: list[str]
    """The report of each example."""
    images: ImageSource
    same: Tensor | None = None
    """Pixels (1, H, W) that all examples are given instead of their images."""

    def __len__(self) -> int:
        """Return the number of examples."""
        return len(self.tokens)

    @property
    def lengths(self) -> Indices:
        """Tokens of each example."""
        return np.array([len(row) for row in self.tokens], dtype=np.int64)

    def weight(self, indices: Indices) -> int:
        """Return how many tokens of these examples are supervised."""
        return int(self.lengths[indices].sum()) - len(self.prompt) * len(indices)

    def shuffled(self, seed: int) -> "CaptionExamples":
        """Return the same texts beside one another's images."""
        return replace(self, positions=shuffled_positions(self.positions, seed))

    def with_mean_image(self, ids: Sequence[str]) -> "CaptionExamples":
        """Return the same texts, all beside the mean image of these examples."""
        return replace(self, same=self.images.mean_of(ids))

    def batch(self, indices: Indices) -> dict[str, Tensor]:
        """Return ids and labels (B, T) int64, padded to the longest row, and images.

        Of one image for all, `image` holds that one.
        """
        rows = [self.tokens[index] for index in indices]
        longest = max(map(len, rows))
        ids = torch.tensor([row + [0] * (longest - len(row)) for row in rows])
        labels = torch.tensor([row + [IGNORED] * (longest - len(row)) for row in rows])
        labels[:, : len(self.prompt)] = IGNORED
        image = self.images[self.positions[indices]] if self.same is None else self.same
        return {"input_ids": ids, "labels": labels, "image": image}


def examples(
    table: str | Path, images: ImageSource, tokenizer: Any, settings: Mapping[str, Any]
) -> CaptionExamples:
    """Tokenise the `report` column of a split; rows whose image was dropped are left out.

    `settings` holds `prompt`, `max_tokens` and `too_long` of the task. Raises `InputError`
    if a text is longer than `max_tokens` and `too_long` is `fail`.
    """
    rows = read_columns(table, ("example_id", "report"))
    positions = images.cache.position(rows["example_id"].to_list())
    rows = rows.filter(positions >= 0)
    if rows.is_empty():
        raise InputError(f"{table}: no row has a usable image; see images/account.json")
    prompt = tokenizer.encode(settings["prompt"], add_special_tokens=False)
    prompt = [tokenizer.cls_token_id, *prompt]
    reports = tokenizer(rows["report"].to_list(), add_special_tokens=False)["input_ids"]
    tokens = [[*prompt, *report, tokenizer.sep_token_id] for report in reports]
    return CaptionExamples(
        _fitted(tokens, table, settings),
        prompt,
        positions[positions >= 0],
        rows["example_id"].to_list(),
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
            f"task.max_tokens: is {limit}, but {cut} of {len(tokens)} texts in {table} are longer "
            f"(the longest has {longest} tokens) and would be cut; set task.max_tokens to "
            f"{longest}, or task.too_long to cut"
        )
    return [row[:limit] for row in tokens]
