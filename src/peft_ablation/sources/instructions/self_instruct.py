"""Self-Instruct's seed tasks (Wang et al., 2023).

A row is an `instruction` with `instances` of `input` (may be empty) and `output`.
"""

from collections.abc import Iterable

from peft_ablation.sources.instructions.rows import Found, Row, asked, text_of


def conversations(rows: Iterable[Row]) -> Found:
    """Yield a question and its answer for each instance; the input follows the instruction."""
    for row in rows:
        instruction = row.text("instruction")
        for part in row.parts("instances"):
            given = text_of(row, part, "input", "")
            yield asked(row.number, instruction, given, text_of(row, part, "output"))
