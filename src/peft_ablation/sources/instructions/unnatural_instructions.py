"""Unnatural Instructions (Honovich et al., 2023), core or full.

A row is an `instruction` with `instances`, each of `instruction_with_input`, `constraints` and
`output`; the full set adds `reformulations` of the same keys, less constraints.
"""

from collections.abc import Iterable
from dataclasses import replace

from peft_ablation.sources.instructions.rows import Conversation, Found, Row, asked, text_of


def conversations(rows: Iterable[Row]) -> Found:
    """Yield instances and reformulations of each row, which begin alike; no constraints."""
    for row in rows:
        opening = row.text("instruction")
        for part in (*row.parts("instances"), *row.parts("reformulations", required=False)):
            question = text_of(row, part, "instruction_with_input")
            found = asked(row.number, question, "", text_of(row, part, "output"))
            yield replace(found, opening=opening) if isinstance(found, Conversation) else found
