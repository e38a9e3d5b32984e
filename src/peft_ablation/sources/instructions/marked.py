"""Conversations in one text, each message after a mark that says who speaks."""

import re
from collections.abc import Mapping

from peft_ablation.sources.instructions.rows import SYSTEM, Conversation, Message, Row


def divided(row: Row, text: str, mark: re.Pattern[str], roles: Mapping[str, str]) -> Conversation:
    """Return the messages of a text; the first group of `mark` names a role by a key of `roles`.

    Words before the first mark are the system's. Raises `InputError` for a text without a mark.
    """
    begin, *parts = mark.split(text)
    if not parts:
        raise row.refused("no message is marked; is it another format?")
    messages = [
        Message(roles[name], content.strip())
        for name, content in zip(parts[::2], parts[1::2], strict=True)
    ]
    system = [Message(SYSTEM, begin.strip())] if begin.strip() else []
    return Conversation(row.number, [*system, *messages])
