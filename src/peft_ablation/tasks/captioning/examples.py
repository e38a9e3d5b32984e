"""Texts of images as token ids: what a text starts from, the prompt, the text and its end.

The mark it starts from is GIT's [CLS], or an encoder-decoder's `decoder_start_token_id`; the end is
[SEP], or the end token. Only the text and its end are supervised.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from torch import Tensor

from peft_ablation.artifacts import read_json
from peft_ablation.bases.git import IGNORED
from peft_ablation.data.examples import Indices, read_columns, shuffled_positions
from peft_ablation.data.image_source import ImageSource
from peft_ablation.errors import InputError
from peft_ablation.tasks._images import check_images
from peft_ablation.tasks._references import reference_rows

ENCODER_DECODER = "vision-encoder-decoder"
"""`model_type` of bases with an encoder of images and a language model that attends to it."""


def load_tokenizer(folder: str | Path) -> Any:
    """Return the tokenizer of a local base or model folder."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)


def model_type(base: str | Path) -> str:
    """Return the `model_type` that a base's config.json says."""
    return str(read_json(Path(base, "config.json")).get("model_type"))


@dataclass(frozen=True)
class CaptionExamples:
    """Tokenised texts of one split, one an image, with the places of their images."""

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

    def truth(self) -> dict[str, Any]:
        """Return the references and their supervised tokens, as prediction columns."""
        tokens = pl.Series(self.lengths - len(self.prompt), dtype=pl.Int32)
        return {"reference": self.texts, "tokens": tokens}

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


@dataclass(frozen=True)
class ReferenceExamples:
    """Tokenised texts of one split, one or more an image, with the places of their images."""

    prompt: list[int]
    """What all texts start from, and the prompt."""
    answers: list[list[list[int]]]
    """Texts of each example, each with its end."""
    positions: Indices
    """Place of each example's image in the cache."""
    ids: list[str]
    """`example_id` of each example."""
    texts: list[list[str]]
    """The texts of each example."""
    images: ImageSource
    same: Tensor | None = None
    """Pixels (1, H, W[, 3]) that all examples are given instead of their images."""

    def __len__(self) -> int:
        """Return the number of examples."""
        return len(self.answers)

    @property
    def weights(self) -> Indices:
        """Supervised tokens of each example."""
        return np.array([sum(map(len, several)) for several in self.answers], dtype=np.int64)

    @property
    def lengths(self) -> Indices:
        """Tokens that are read of each example: the prompt once, and its texts less their ends."""
        texts = np.array([len(several) for several in self.answers], dtype=np.int64)
        return self.weights - texts + len(self.prompt)

    def weight(self, indices: Indices) -> int:
        """Return how many tokens of these examples are supervised."""
        return int(self.weights[indices].sum())

    def truth(self) -> dict[str, Any]:
        """Return the references and their supervised tokens, as prediction columns."""
        return {
            "reference": pl.Series(self.texts, dtype=pl.List(pl.String)),
            "tokens": pl.Series(self.weights, dtype=pl.Int32),
        }

    def summed(self, losses: Tensor, indices: Indices) -> list[float]:
        """Return the loss of each of these examples (float64) from that of each token in turn."""
        ends = torch.from_numpy(self.weights[indices].cumsum()[:-1])
        return [float(part.sum()) for part in losses.double().cpu().tensor_split(ends)]

    def shuffled(self, seed: int) -> "ReferenceExamples":
        """Return the same texts beside one another's images."""
        return replace(self, positions=shuffled_positions(self.positions, seed))

    def with_mean_image(self, ids: Sequence[str]) -> "ReferenceExamples":
        """Return the same texts, all beside the mean image of these examples."""
        return replace(self, same=self.images.mean_of(ids))

    def batch(self, indices: Indices) -> dict[str, Tensor]:
        """Return the texts as `reference_rows` has them, and images.

        Of one image for all, `image` holds that one.
        """
        rows = reference_rows(
            [self.prompt] * len(indices), [self.answers[index] for index in indices]
        )
        image = self.images[self.positions[indices]] if self.same is None else self.same
        return {**rows, "image": image}


AnyExamples = CaptionExamples | ReferenceExamples


def examples(
    table: str | Path, images: ImageSource, base: str | Path, settings: Mapping[str, Any]
) -> AnyExamples:
    """Tokenise the `report` column of a split; rows whose image was dropped are left out.

    A report is a text, or a list of them. `settings` holds `prompt`, `max_tokens` and `too_long` of
    the task. Raises `InputError` for a row without a text or with an empty one, a text longer than
    `max_tokens` where `too_long` is `fail`, and a base that takes no such images or texts.
    """
    tokenizer, kind = load_tokenizer(base), model_type(base)
    check_images(images.cache, base)
    rows = read_columns(table, ("example_id", "report"))
    positions = images.cache.position(rows["example_id"].to_list())
    rows = rows.filter(positions >= 0)
    if rows.is_empty():
        raise InputError(f"{table}: no row has a usable image; see images/account.json")
    several = rows.schema["report"] == pl.List(pl.String)
    texts = rows["report"].to_list() if several else [[text] for text in rows["report"]]
    for place, own in enumerate(texts, 1):
        if not own or not all(text and text.strip() for text in own):
            raise InputError(
                f"{table}: row {place}: found {'an empty' if own else 'no'} text of the "
                "image, expected one or more; mend the row or leave it out"
            )
    begin, end = marks(base, tokenizer)
    prompt = [begin, *tokenizer.encode(settings["prompt"], add_special_tokens=False)]
    flat = [text for own in texts for text in own]
    tokens = iter(tokenizer(flat, add_special_tokens=False)["input_ids"])
    whole = [[*prompt, *next(tokens), end] for _ in flat]
    fitted = iter(_fitted(whole, table, settings))
    ids, places = rows["example_id"].to_list(), positions[positions >= 0]
    if kind != ENCODER_DECODER and not several:
        return CaptionExamples(list(fitted), prompt, places, ids, rows["report"].to_list(), images)
    if settings["findings"]:
        raise InputError(
            f"task.findings: is {settings['findings']!r}, but column report of {table} is a list: "
            "findings are read from one report an image; set it to null"
        )
    if kind == ENCODER_DECODER:
        check_positions(base, settings, prompt)
    answers = [[next(fitted)[len(prompt) :] for _ in own] for own in texts]
    return ReferenceExamples(prompt, answers, places, ids, texts, images)


def marks(base: str | Path, tokenizer: Any) -> tuple[int, int]:
    """Return the token that a text starts from, and its end.

    Raises `InputError` where a base has none: a model could not begin, or learn to stop.
    """
    if model_type(base) != ENCODER_DECODER:
        return tokenizer.cls_token_id, tokenizer.sep_token_id
    config = read_json(Path(base, "config.json"))
    begin = config.get("decoder_start_token_id")
    begin = config["decoder"].get("bos_token_id") if begin is None else begin
    for token, name, what in (
        (begin, "config.json has no decoder_start_token_id", "a text starts from"),
        (tokenizer.eos_token_id, "its tokenizer has no eos_token", "a text ends with"),
    ):
        if token is None:
            raise InputError(f"base {base}: {name}, which {what}; set it there")
    return begin, tokenizer.eos_token_id


def check_positions(base: str | Path, settings: Mapping[str, Any], prompt: Sequence[int]) -> None:
    """Raise `InputError` where a base's decoder has fewer positions than the settings need."""
    longest = max(settings["max_tokens"], len(prompt) + settings["max_new_tokens"])
    context = read_json(Path(base, "config.json"))["decoder"].get("n_positions")
    if context is not None and longest > context:
        raise InputError(
            f"task: texts of {longest} tokens (max_tokens {settings['max_tokens']}, or the prompt "
            f"and max_new_tokens {settings['max_new_tokens']}), but the decoder of base {base} has "
            f"{context} positions; set them lower"
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
