"""LongForm (Köksal et al., 2023): `input`, an instruction, and `output`, a text from a corpus."""

from collections.abc import Iterable

from peft_ablation.sources.instructions.rows import Found, Row, asked


def conversations(rows: Iterable[Row]) -> Found:
    """Yield a question and its answer for each row."""
    for row in rows:
        yield asked(row.number, row.text("input"), "", row.text("output"))
