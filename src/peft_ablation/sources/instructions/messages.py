"""Anybody's conversations: `messages`, a list of objects with `role` and `content`.

`group` may name what a row belongs to.
"""

from collections.abc import Iterable

from peft_ablation.sources.instructions.rows import Conversation, Found, Message, Row, text_of


def conversations(rows: Iterable[Row]) -> Found:
    """Yield the conversation of each row."""
    for row in rows:
        messages = [
            Message(text_of(row, part, "role"), text_of(row, part, "content"))
            for part in row.parts("messages")
        ]
        topic = row.text("group") if row.values.get("group") is not None else None
        yield Conversation(row.number, messages, topic)
