"""OASST1 (Köpf et al., 2023): trees of messages, nested (`trees.jsonl`) or one a row (`messages`).

Of each tree the path is read that follows the best-ranked reply at each level, as QLoRA's authors
read it; a tree is one topic. Messages without a rank come after those with one, in the order of the
file. Messages that were deleted, or refused in review, are passed over with what replies to them.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any, Final

from peft_ablation.sources.instructions.rows import (
    ASSISTANT,
    USER,
    Conversation,
    Found,
    LeftOut,
    Message,
    Row,
    parts_of,
    text_of,
)

READY: Final = "ready_for_export"
"""State of a tree that is complete and was not found wanting."""
NOT_READY: Final = "tree_not_ready"
REFUSED: Final = "deleted_or_refused"
_ROLES: Final = {"prompter": USER, "assistant": ASSISTANT}

Node = Mapping[str, Any]


def conversations(rows: Iterable[Row]) -> Found:
    """Yield the conversation of each tree, in the order of the trees' first messages."""
    trees: list[tuple[Row, Node, str]] = []
    replies: dict[str, list[tuple[Row, Node]]] = {}
    known: set[str] = set()
    for row in rows:
        state = row.text("tree_state", READY)
        if "prompt" in row.values:
            prompt = row.values["prompt"]
            if not isinstance(prompt, Mapping):
                raise row.refused("'prompt' is no message, expected an object")
            trees.append((row, prompt, state))
            continue
        name = row.text("message_id")
        if name in known:
            raise row.refused("its 'message_id' is that of an earlier row, expected each once")
        known.add(name)
        if row.values.get("parent_id") is None:
            trees.append((row, row.values, state))
        else:
            replies.setdefault(row.text("parent_id"), []).append((row, row.values))
    for parent, several in replies.items():
        if parent not in known:
            raise several[0][0].refused("'parent_id' names no message of the file; is it whole?")
    for row, prompt, state in trees:
        if state != READY:
            yield LeftOut(row.number, NOT_READY)
        elif not _good(prompt):
            yield LeftOut(row.number, REFUSED)
        else:
            tree = row.text("message_tree_id", f"{row.file} {row.number}")
            yield Conversation(row.number, _best_path(row, prompt, replies), topic=tree)


def _best_path(
    row: Row, node: Node, replies: Mapping[str, list[tuple[Row, Node]]]
) -> list[Message]:
    path = [_message(row, node)]
    while True:
        below = [(row, reply) for reply in parts_of(row, node, "replies", required=False)]
        below = below or replies.get(node.get("message_id") or "", [])
        good = [(other, reply) for other, reply in below if _good(reply)]
        if not good:
            return path
        row, node = min(good, key=lambda pair: _rank(*pair))
        path.append(_message(row, node))


def _good(node: Node) -> bool:
    return not node.get("deleted") and node.get("review_result") is not False


def _rank(row: Row, node: Node) -> float:
    """Return the rank, 0 for the best; infinity without one."""
    rank = node.get("rank")
    if rank is not None and not isinstance(rank, int | float):
        raise row.refused("'rank' is no number")
    return math.inf if rank is None else float(rank)


def _message(row: Row, node: Node) -> Message:
    role = text_of(row, node, "role")
    if role not in _ROLES:
        raise row.refused(f"'role' is none of {', '.join(_ROLES)}")
    return Message(_ROLES[role], text_of(row, node, "text"))
