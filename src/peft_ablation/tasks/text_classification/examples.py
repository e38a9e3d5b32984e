"""Texts of a split as token ids, one text or two, padded on the right."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor

from peft_ablation.data.examples import Indices, read_columns, shuffled_positions
from peft_ablation.errors import InputError, near_miss

COUNTED_FROM_PAD: Final = frozenset(("camembert", "mpnet", "roberta", "xlm-roberta"))
"""`model_type` of bases whose first position is the one after their pad id: of 514 positions of
RoBERTa texts can have 512."""

Tokens = Mapping[str, list[int]]
"""`input_ids` of one example, and `token_type_ids` where the base tells two texts apart by them."""


@dataclass(frozen=True)
class TextExamples:
    """Tokenised texts of one split with what is to be told of them."""

    ids: list[str]
    """`example_id` of each example."""
    targets: NDArray[Any]
    """Place of each example's class, int64; or its score, float64."""
    texts: list[str]
    seconds: list[str] | None
    """The second text of each example, where there are two."""
    tokens: list[Tokens]
    tokenise: "Callable[[list[str], list[str] | None], list[Tokens]]"
    """Makes `tokens` of texts; of one that is too long, its beginning."""
    pad: int
    """Id that batches are padded with, masked by length."""

    def __len__(self) -> int:
        """Return the number of examples."""
        return len(self.ids)

    @property
    def lengths(self) -> Indices:
        """Tokens of each example."""
        return np.array([len(row["input_ids"]) for row in self.tokens], dtype=np.int64)

    def weight(self, indices: Indices) -> int:
        """Return the number of these examples."""
        return len(indices)

    def batch(self, indices: Indices) -> dict[str, Tensor]:
        """Return `label` (B,), and `input_ids` and `attention_mask` (B, T) int64.

        T is the length of the longest; `token_type_ids` (B, T) come with them where the base reads
        them. `label` is int64 of a class, float32 of a score.
        """
        rows = [self.tokens[index] for index in indices]
        lengths = torch.tensor([len(row["input_ids"]) for row in rows])
        longest = int(lengths.max())
        targets = torch.from_numpy(self.targets[indices])
        batch = {
            "label": targets.float() if targets.is_floating_point() else targets,
            "attention_mask": (torch.arange(longest) < lengths[:, None]).long(),
        }
        for name in rows[0]:
            filler = self.pad if name == "input_ids" else 0
            batch[name] = torch.tensor(
                [row[name] + [filler] * (longest - len(row[name])) for row in rows]
            )
        return batch

    def shuffled(self, seed: int) -> "TextExamples":
        """Return the same labels beside one another's texts."""
        order = shuffled_positions(np.arange(len(self)), seed)
        seconds = None if self.seconds is None else [self.seconds[place] for place in order]
        return replace(
            self,
            texts=[self.texts[place] for place in order],
            seconds=seconds,
            tokens=[self.tokens[place] for place in order],
        )

    def with_second_shuffled(self, seed: int) -> "TextExamples":
        """Return the same labels and first texts beside one another's second texts."""
        assert self.seconds is not None
        order = shuffled_positions(np.arange(len(self)), seed)
        return self._of(self.texts, [self.seconds[place] for place in order])

    def with_words_shuffled(self, seed: int) -> "TextExamples":
        """Return the same labels beside the same texts, the words of each in a random order."""
        random = np.random.default_rng(seed)

        def mixed(texts: list[str]) -> list[str]:
            return [" ".join(random.permutation(text.split())) for text in texts]

        return self._of(mixed(self.texts), None if self.seconds is None else mixed(self.seconds))

    def emptied(self) -> "TextExamples":
        """Return the same labels beside texts without words."""
        texts = [""] * len(self)
        return self._of(texts, None if self.seconds is None else texts)

    def _of(self, texts: list[str], seconds: list[str] | None) -> "TextExamples":
        # A tokenizer without marks makes nothing of nothing, and a model takes one token or more.
        tokens = [
            row if row["input_ids"] else {**{name: [0] for name in row}, "input_ids": [self.pad]}
            for row in self.tokenise(texts, seconds)
        ]
        return replace(self, texts=texts, seconds=seconds, tokens=tokens)


def examples(
    table: str | Path,
    base: str | Path,
    classes: Sequence[str],
    settings: Mapping[str, Any],
    *,
    pairs: bool,
) -> TextExamples:
    """Read and tokenise a split: `text`, with `pairs` also `text_pair`, and `label` or `score`.

    Without `classes` it is the score. `settings` holds `max_tokens` and `too_long` of the task.
    Raises `InputError` for a row without text, a label that is none of `classes`, a class without
    any row, a score that is no number, and an input longer than the base or the study allows where
    `too_long` is `fail`.
    """
    names = ("text", "text_pair") if pairs else ("text",)
    told = "label" if classes else "score"
    rows = read_columns(table, ("example_id", *names, told))
    for name in names:
        if rows[name].null_count():
            raise InputError(
                f"{table}: {rows[name].null_count()} of {rows.height} rows have no {name}, the "
                f"first is row {_first(rows[name].is_null())}; leave them out of the data"
            )
    targets = _places(rows["label"], classes, table) if classes else _scores(rows["score"], table)
    tokenise, config = _tokeniser(base, pairs=pairs)
    limit = _limit(settings["max_tokens"], config, base)
    texts = rows["text"].to_list()
    seconds = rows["text_pair"].to_list() if pairs else None
    tokens = tokenise(texts, seconds, None)
    lengths = np.array([len(row["input_ids"]) for row in tokens])
    long = np.flatnonzero(lengths > limit)
    if len(long) and settings["too_long"] == "fail":
        raise InputError(
            f"task.max_tokens: {len(long)} of {len(tokens)} texts in {table} are longer than "
            f"{limit} tokens (the longest has {lengths.max()}) and would be cut; set task.too_long "
            "to cut, or leave them out of the data"
        )
    for place in long:
        (tokens[place],) = tokenise([texts[place]], seconds and [seconds[place]], limit)
    return TextExamples(
        rows["example_id"].to_list(),
        targets,
        texts,
        seconds,
        tokens,
        lambda first, second: tokenise(first, second, limit),
        pad_id(config),
    )


def pad_id(config: Any) -> int:
    """Return the id that a base pads with: its pad token, or where it has none its end token."""
    end = config.eos_token_id
    found = config.pad_token_id
    if found is None:
        found = end[0] if isinstance(end, list) else end
    return 0 if found is None else int(found)


def longest_of(config: Any) -> int | None:
    """Return how many tokens a base takes, None where it says no limit."""
    positions = getattr(config, "max_position_embeddings", None)
    if positions is None:
        return None
    return int(positions) - (pad_id(config) + 1 if config.model_type in COUNTED_FROM_PAD else 0)


def _limit(wanted: int | None, config: Any, base: str | Path) -> int:
    most = longest_of(config)
    if wanted is not None and most is not None and wanted > most:
        raise InputError(
            f"task.max_tokens: is {wanted}, but {base} takes {most} at most; set it to {most}"
        )
    return wanted or most or 2**31


def _tokeniser(
    base: str | Path, *, pairs: bool
) -> "tuple[Callable[[list[str], list[str] | None, int | None], list[Tokens]], Any]":
    """Return what makes tokens of texts, cut to so many, and the base's config."""
    from transformers import AutoConfig, AutoTokenizer

    config = AutoConfig.from_pretrained(base, local_files_only=True)
    tokenizer = AutoTokenizer.from_pretrained(base, local_files_only=True, trust_remote_code=False)
    # Without marks of its own (GPT-2, Llama) a pair is one text of two lines.
    unmarked = pairs and tokenizer.num_special_tokens_to_add(pair=True) <= (
        tokenizer.num_special_tokens_to_add(pair=False)
    )
    names = ["input_ids"]
    if (
        getattr(config, "type_vocab_size", 0) > 1
        and "token_type_ids" in tokenizer.model_input_names
    ):
        names.append("token_type_ids")

    def tokenise(texts: list[str], seconds: list[str] | None, limit: int | None) -> list[Tokens]:
        if seconds is not None and unmarked:
            texts = [f"{one}\n{other}" for one, other in zip(texts, seconds, strict=True)]
            seconds = None
        found = tokenizer(
            texts, seconds, truncation=limit is not None, max_length=limit, verbose=False,
            return_token_type_ids="token_type_ids" in names, return_attention_mask=False,
        )  # fmt: skip
        return [
            dict(zip(names, row, strict=True))
            for row in zip(*(found[name] for name in names), strict=True)
        ]

    return tokenise, config


def _places(labels: pl.Series, classes: Sequence[str], table: str | Path) -> Indices:
    places = {name: place for place, name in enumerate(classes)}
    odd = ~labels.is_in(list(classes)).fill_null(False)
    if odd.any():
        row = _first(odd)
        found = labels[row - 1]
        hidden = "; it looks like a test file without labels" if str(found) == "-1" else ""
        raise InputError(
            f"{table}: {odd.sum()} of {len(labels)} rows have a label that is no class, the first "
            f"is row {row}, {found!r}{hidden}; expected {', '.join(classes)}"
            f"{near_miss(str(found), classes)}; leave these rows out, or list the class"
        )
    absent = sorted(set(classes) - set(labels))
    if absent:
        raise InputError(
            f"{table}: no row is of the class {absent[0]!r} ({len(absent)} of {len(classes)} "
            "classes are missing); set split.given: merge to divide the rows anew, or leave "
            "it out"
        )
    return np.array([places[label] for label in labels], dtype=np.int64)


def _scores(scores: pl.Series, table: str | Path) -> NDArray[np.float64]:
    numbers = scores.cast(pl.Float64, strict=False)
    odd = ~numbers.is_finite().fill_null(False)
    if odd.any():
        row = _first(odd)
        raise InputError(
            f"{table}: {odd.sum()} of {len(scores)} rows have a score that is no number, the first "
            f"is row {row}, {scores[row - 1]!r}; give each row one, or leave these rows out"
        )
    return numbers.to_numpy().astype(np.float64)


def _first(rows: pl.Series) -> int:
    """Return the number of the first row that is true, counted from 1."""
    place = rows.arg_max()
    assert place is not None
    return place + 1
