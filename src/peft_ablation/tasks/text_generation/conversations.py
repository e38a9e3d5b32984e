"""Conversations of a split as token ids: the turns of the assistant are supervised, no others."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from torch import Tensor

from peft_ablation.bases.causal import IGNORED
from peft_ablation.data.examples import Indices, read_columns, shuffled_positions
from peft_ablation.errors import InputError
from peft_ablation.tasks._references import padded
from peft_ablation.tasks.text_generation.chat import Chat, Turn
from peft_ablation.tasks.text_generation.examples import check_context, check_length
from peft_ablation.tasks.text_generation.messages import ASSISTANT, Message, checked_messages

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Conversations:
    """Tokenised conversations of one split, each up to the last turn of the assistant."""

    ids: list[str]
    """`example_id` of each conversation."""
    turns: list[list[Turn]]
    references: list[list[str]]
    """Text of the last turn of each, alone in a list."""
    limit: int
    """Most tokens of a conversation."""

    def __len__(self) -> int:
        """Return the number of conversations."""
        return len(self.ids)

    @cached_property
    def prompts(self) -> list[list[int]]:
        """What a model reads before it writes the last turn of each, as token ids."""
        return [[*_joined(turns[:-1]), *turns[-1].before] for turns in self.turns]

    @property
    def lengths(self) -> Indices:
        """Tokens that are read of each conversation: all but the last."""
        return np.array([_length(turns) - 1 for turns in self.turns], dtype=np.int64)

    @property
    def weights(self) -> Indices:
        """Supervised tokens of each conversation."""
        told = [sum(len(turn.told) for turn in turns) for turns in self.turns]
        return np.array(told, dtype=np.int64)

    def weight(self, indices: Indices) -> int:
        """Return how many tokens of these conversations are supervised."""
        return int(self.weights[indices].sum())

    def shuffled(self, seed: int) -> "Conversations":
        """Return the same turns of the assistant, each beside what stands before another's.

        First turns take from first turns, second ones from second ones, and so on. Where more than
        `limit` tokens, or than the longest prompt, come together, the beginning is left out.
        """
        turns = [list(several) for several in self.turns]
        for place in range(max(map(len, turns))):
            having = np.array([row for row, found in enumerate(turns) if len(found) > place])
            for row, other in zip(having, shuffled_positions(having, seed), strict=True):
                before = self.turns[other][place].before
                turns[row][place] = replace(turns[row][place], before=before)
        longest = max(map(len, self.prompts))
        return replace(self, turns=[_fitting(found, self.limit, longest) for found in turns])

    def batch(self, indices: Indices) -> dict[str, Tensor]:
        """Return what `token_losses` takes, int64, padded on the right."""
        rows = [_row(self.turns[index]) for index in indices]
        fillers = {"input_ids": 0, "sources": 0, "targets": IGNORED}
        return {name: padded([row[name] for row in rows], fillers[name]) for name in fillers}


def _joined(turns: Sequence[Turn]) -> Iterator[int]:
    for turn in turns:
        yield from turn.before
        yield from turn.told


def _length(turns: Sequence[Turn]) -> int:
    return sum(len(turn.before) + len(turn.told) for turn in turns)


def _row(turns: Sequence[Turn]) -> dict[str, list[int]]:
    """Return one conversation as a row; the last token is told, but not read."""
    row: dict[str, list[int]] = {"input_ids": list(_joined(turns))[:-1], "sources": []}
    place = 0
    for turn in turns:
        place += len(turn.before)
        # What tells a token is the output of the one before it.
        row["sources"] += range(place - 1, place - 1 + len(turn.told))
        place += len(turn.told)
    row["targets"] = [token for turn in turns for token in turn.told]
    return row


def _cut(turns: Sequence[Turn], limit: int) -> list[Turn]:
    """Return the turns of which any token is among the first `limit`, cut there."""
    kept: list[Turn] = []
    for turn in turns:
        room = limit - _length(kept) - len(turn.before)
        if room < 1:
            break
        kept.append(replace(turn, told=turn.told[:room]))
    return kept


def _fitting(turns: Sequence[Turn], limit: int, longest: int) -> list[Turn]:
    """Return the turns with so much less before them that `limit` and `longest` hold."""
    size = _length(turns)
    excess = max(size - limit, size - len(turns[-1].told) - longest, 0)
    fitting = []
    for turn in turns:
        left_out = min(excess, len(turn.before) - 1)
        fitting.append(replace(turn, before=turn.before[left_out:]))
        excess -= left_out
    return fitting


def _text_of(messages: Sequence[Message], turn: int) -> str:
    """Return the text of a turn of the assistant, counted from 1."""
    texts = [message["content"] for message in messages if message["role"] == ASSISTANT]
    return texts[turn - 1].strip()


def conversations(
    table: str | Path, base: str | Path, settings: Mapping[str, Any]
) -> Conversations:
    """Tokenise column `messages` of a split; see `peft_ablation.tasks.text_generation.messages`.

    `settings` are those of the task. Of a conversation of more than `max_tokens` where `too_long`
    is `cut`, the first `max_tokens` are kept; one whose first turn of the assistant begins later is
    left out, and counted in the log. Raises `InputError` for messages that cannot be, texts that
    are too long where `too_long` is `fail`, and a context that is shorter than `max_tokens` or a
    prompt and the written text.
    """
    rows = read_columns(table, ("example_id", "messages"))
    messages = checked_messages(rows, str(table))
    limit = settings["max_tokens"]
    several = Chat(base, settings["chat_template"]).turns(messages, str(table))
    if settings["too_long"] == "fail":
        check_length([_length(turns) for turns in several], table, limit)
    found = [_cut(turns, limit) for turns in several]
    kept = [place for place, turns in enumerate(found) if turns]
    if not kept:
        raise InputError(
            f"task.max_tokens: is {limit}, but no conversation of {table} has a turn of the "
            "assistant that begins so early; set it higher"
        )
    if len(kept) < len(found):
        log.warning(
            "%s: %d of %d conversations are left out: no turn of the assistant begins within "
            "task.max_tokens, %d",
            table, len(found) - len(kept), len(found), limit,
        )  # fmt: skip
    ids = rows["example_id"].to_list()
    examples = Conversations(
        [ids[place] for place in kept],
        [found[place] for place in kept],
        [[_text_of(messages[place], len(found[place]))] for place in kept],
        limit,
    )
    check_context(max(map(len, examples.prompts)), table, base, settings)
    return examples


def token_counts(table: str | Path, base: str | Path, settings: Mapping[str, Any]) -> pl.DataFrame:
    """Count the tokens of the examples table by its column `source` (none: all are one).

    One row a source, in the order of the table: `source`, `conversations`, of these `cut` and
    `left_out` (as no turn of the assistant begins within `max_tokens`), `tokens` (up to the end of
    the last turn), `tokens_cut` (those beyond, and those of what is left out) and `supervised`.
    """
    messages = checked_messages(read_columns(table, ("messages",)), str(table))
    sourced = "source" in pl.read_parquet_schema(table)
    sources = read_columns(table, ("source",))["source"] if sourced else ["all"] * len(messages)
    limit = settings["max_tokens"]
    several = Chat(base, settings["chat_template"]).turns(messages, str(table))
    kept = [_cut(turns, limit) for turns in several]
    sizes = pl.Series([_length(turns) for turns in several], dtype=pl.Int64)
    left = pl.Series([_length(turns) for turns in kept], dtype=pl.Int64)
    counts = pl.DataFrame(
        {
            "source": sources,
            "conversations": 1,
            "cut": (left > 0) & (left < sizes),
            "left_out": left == 0,
            "tokens": sizes,
            "tokens_cut": sizes - left,
            "supervised": [sum(len(turn.told) for turn in turns) for turns in kept],
        }
    )
    return counts.group_by("source", maintain_order=True).agg(pl.all().sum().cast(pl.Int64))
