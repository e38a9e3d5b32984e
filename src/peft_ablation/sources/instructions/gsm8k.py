"""GSM8K (Cobbe et al., 2021): `question` and `answer`, calculations in `<<…>>` as they stand."""

from collections.abc import Iterable

from peft_ablation.sources.instructions.rows import Found, Row, asked


def conversations(rows: Iterable[Row]) -> Found:
    """Yield a question and its answer for each row."""
    for row in rows:
        yield asked(row.number, row.text("question"), "", row.text("answer"))
