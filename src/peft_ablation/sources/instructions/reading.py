"""Sets of instructions become one table: messages, source and group; what is dropped is counted."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Final

import numpy as np
import polars as pl

from peft_ablation.errors import InputError
from peft_ablation.sources.instructions import InstructionSet
from peft_ablation.sources.instructions.rows import (
    ASSISTANT,
    EMPTY,
    UNANSWERED,
    UNASKED,
    USER,
    Conversation,
    Found,
    LeftOut,
    Message,
    rows_of,
)
from peft_ablation.sources.table.reading import file_bytes

STRICT: Final = frozenset(("gsm8k", "messages"))
"""Formats of which every conversation is complete: one without an answer is a mistake. The other
sets have some as they are published."""
_KIND: Final = pl.List(pl.Struct({"role": pl.String, "content": pl.String}))
_ENDINGS: Final = (".gz", ".jsonl", ".ndjson", ".json", ".parquet")


@dataclass(frozen=True)
class Kept:
    """A conversation that stays."""

    example_id: str
    source: str
    split: str | None
    messages: Sequence[Message]
    keys: tuple[tuple[str, str], ...]
    """What makes it one group with another conversation that has one of them too."""


def read_sets(
    sets: Sequence[InstructionSet], places: Mapping[str, str]
) -> tuple[pl.DataFrame, dict[str, Any]]:
    """Return the examples table of sets, and an account of it.

    `places`: where each file lies. Columns are `example_id` (set and row, `alpaca:7`, with a number
    where a row makes several, and the file where there are several), `group`, `split`, `balance`
    (the source), `messages` (a list of `{role, content}`, the last one the assistant's) and
    `source`, in the order of sets, files and rows. A group holds what begins alike in any set (with
    the same instruction, or words of the user; case and white space aside), and what a set says
    belongs together, directly or by way of others; it is the `example_id` of its first.

    The account has, for each source: `rows` (of files), `conversations` (that these hold), what was
    dropped by reason, `kept`, and `turns_dropped` (messages after the assistant's last).

    Raises `InputError` with file and row for what cannot be read, and for a set without any
    conversation.
    """
    kept: list[Kept] = []
    told: list[dict[str, Any]] = []
    for one in sets:
        found, account = _read_set(one, places)
        kept += found
        told.append(account)
    table = pl.DataFrame(
        {
            "example_id": [row.example_id for row in kept],
            "group": _groups(kept),
            "split": pl.Series([row.split for row in kept], dtype=pl.String),
            "balance": pl.Series(
                [[row.source] for row in kept],
                dtype=pl.List(pl.Enum([one.source for one in sets])),
            ),
            "messages": pl.Series(
                [[{"role": m.role, "content": m.content} for m in row.messages] for row in kept],
                dtype=_KIND,
            ),
            "source": [row.source for row in kept],
        }
    )
    dropped: Counter[str] = Counter()
    for account in told:
        dropped.update(account["dropped"])
    return table, {
        "rows_in": sum(account["conversations"] for account in told),
        "rows_out": table.height,
        "dropped": dict(sorted(dropped.items())),
        "groups": table["group"].n_unique(),
        "sources": told,
    }


def _read_set(one: InstructionSet, places: Mapping[str, str]) -> tuple[list[Kept], dict[str, Any]]:
    module = import_module(f"peft_ablation.sources.instructions.{one.format}")
    kept: list[Kept] = []
    dropped: Counter[str] = Counter()
    rows = conversations = turns = 0
    for split, file in one.listed:
        counted = _Counted(rows_of(file, file_bytes(file, places[file])))
        several = f"{_stem(file)}:" if len(one.listed) > 1 else ""
        made: Counter[int] = Counter()
        for found in _checked(module.conversations(counted), file, one.format in STRICT):
            conversations += 1
            if isinstance(found, LeftOut):
                dropped[found.reason] += 1
                continue
            made[found.row] += 1
            number = f".{made[found.row]}" if made[found.row] > 1 else ""
            name = f"{one.source}:{several}{found.row}{number}"
            answers = [n for n, m in enumerate(found.messages) if m.role == ASSISTANT]
            messages = found.messages[: answers[-1] + 1]
            turns += len(found.messages) - len(messages)
            kept.append(Kept(name, one.source, split, messages, _keys(found, one.source)))
        rows += counted.count
    if one.limit is not None and one.limit < len(kept):
        drawn = np.random.default_rng(0).choice(len(kept), one.limit, replace=False)
        dropped["limit"] = len(kept) - one.limit
        kept = [kept[place] for place in np.sort(drawn)]
    if not kept:
        raise InputError(
            f"data.sets: {one.source}: no conversation is left of {conversations} "
            f"({_listed(dropped)}), expected some"
        )
    return kept, {
        "source": one.source,
        "format": one.format,
        "files": [file for _, file in one.listed],
        "rows": rows,
        "conversations": conversations,
        "dropped": dict(sorted(dropped.items())),
        "kept": len(kept),
        "turns_dropped": turns,
    }


class _Counted:
    """Rows, counted as they pass."""

    def __init__(self, rows: Iterator[Any]) -> None:
        self.rows, self.count = rows, 0

    def __iter__(self) -> Iterator[Any]:
        for row in self.rows:
            self.count += 1
            yield row


def _checked(several: Found, file: str, strict: bool) -> Found:
    """Yield conversations, and those of no use as `LeftOut`; if `strict`, these are errors."""
    for found in several:
        reason = _reason(found) if isinstance(found, Conversation) else found.reason
        if reason is not None and strict:
            what = {
                EMPTY: "found an empty reference (a turn of the assistant)",
                UNANSWERED: "a conversation without an assistant turn",
                UNASKED: "a conversation that begins with the assistant",
            }[reason]
            raise InputError(
                f"data: {file} row {found.row}: {what}, expected turns of the roles {USER!r} and "
                f"{ASSISTANT!r}; mend the row or leave it out"
            )
        yield found if reason is None else LeftOut(found.row, reason)


def _reason(found: Conversation) -> str | None:
    """Return why a conversation is of no use, None where it is of some."""
    answers = [message.content for message in found.messages if message.role == ASSISTANT]
    if not answers:
        return UNANSWERED
    if found.messages[0].role == ASSISTANT:
        return UNASKED
    return None if all(answer.strip() for answer in answers) else EMPTY


def _keys(found: Conversation, source: str) -> tuple[tuple[str, str], ...]:
    words = next((m.content for m in found.messages if m.role == USER), "")
    openings = [" ".join(text.lower().split()) for text in (words, found.opening or "")]
    topic = [] if found.topic is None else [(source, found.topic)]
    return (*topic, *(("opening", text) for text in openings if text))


def _stem(file: str) -> str:
    for ending in _ENDINGS:
        file = file.removesuffix(ending)
    return file


def _listed(counts: Mapping[str, int]) -> str:
    return (
        ", ".join(f"{count} {reason}" for reason, count in counts.items()) or "its files have none"
    )


def _groups(kept: Sequence[Kept]) -> list[str]:
    """Return the group of each conversation: the first that shares a key, or shares with others."""
    parent = list(range(len(kept)))

    def root(place: int) -> int:
        while parent[place] != place:
            parent[place] = parent[parent[place]]
            place = parent[place]
        return place

    first: dict[tuple[str, str], int] = {}
    for place, row in enumerate(kept):
        for key in row.keys:
            one, other = root(first.setdefault(key, place)), root(place)
            parent[max(one, other)] = min(one, other)
    return [kept[root(place)].example_id for place in range(len(kept))]
