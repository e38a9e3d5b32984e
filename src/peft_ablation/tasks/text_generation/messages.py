"""Conversations as a column: `messages`, a list of `{role, content}` for each example."""

from collections.abc import Mapping, Sequence
from typing import Final

import polars as pl

from peft_ablation.errors import InputError

ASSISTANT: Final = "assistant"
"""Role whose turns are supervised."""
KIND: Final = pl.List(pl.Struct({"role": pl.String, "content": pl.String}))
"""Type of the column."""

Message = Mapping[str, str]


def checked_messages(table: pl.DataFrame, where: str) -> list[list[Message]]:
    """Return the messages of each row up to the last turn of the assistant.

    Raises `InputError` for a column of another type, and for a row without an assistant turn, one
    that begins with it, one whose turn is empty, and a message without role or content.
    """
    if table.schema["messages"] != KIND:
        raise InputError(
            f"{where}: column 'messages' is {table.schema['messages']}, expected {KIND}: a list of "
            "messages with role and content"
        )
    return [
        _checked(messages, f"{where}: row {place}")
        for place, messages in enumerate(table["messages"].to_list(), 1)
    ]


def _checked(messages: Sequence[Message] | None, where: str) -> list[Message]:
    found = list(messages or ())
    if any(message["role"] is None or message["content"] is None for message in found):
        raise InputError(f"{where}: a message without role or content; mend the row")
    turns = [place for place, message in enumerate(found) if message["role"] == ASSISTANT]
    if not turns:
        roles = ", ".join(dict.fromkeys(message["role"] for message in found)) or "none"
        raise InputError(
            f"{where}: a conversation without an assistant turn (roles: {roles}), expected one "
            f"that is supervised, of role {ASSISTANT!r}; mend the row or leave it out"
        )
    if turns[0] == 0:
        raise InputError(
            f"{where}: a conversation that begins with the assistant, expected a message before "
            "it; mend the row or leave it out"
        )
    if not all(found[place]["content"].strip() for place in turns):
        raise InputError(
            f"{where}: found an empty reference (a turn of the assistant), expected a text; mend "
            "the row or leave it out"
        )
    return found[: turns[-1] + 1]


def last_turns(table: pl.DataFrame, where: str) -> pl.DataFrame:
    """Return the table with `reference`, the assistant's last turn, and `prompt`, all before it."""
    rows = checked_messages(table, where)
    return table.with_columns(
        pl.Series(
            "prompt",
            ["\n".join(message["content"] for message in row[:-1]) for row in rows],
            dtype=pl.String,
        ),
        pl.Series("reference", [row[-1]["content"].strip() for row in rows], dtype=pl.String),
    )
