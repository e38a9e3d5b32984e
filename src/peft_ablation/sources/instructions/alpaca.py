"""Alpaca (Taori et al., 2023): a JSON list of `instruction`, `input` (may be empty), `output`.

The same keys as JSON lines are Self-Instruct's generated set and many others.
"""

from collections.abc import Iterable

from peft_ablation.sources.instructions.rows import Found, Row, asked


def conversations(rows: Iterable[Row]) -> Found:
    """Yield a question and its answer for each row; the input follows the instruction."""
    for row in rows:
        yield asked(row.number, row.text("instruction"), row.text("input", ""), row.text("output"))
