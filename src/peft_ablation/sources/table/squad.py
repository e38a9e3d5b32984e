"""Questions with their passages and answers, as SQuAD v1.1's JSON has them (Rajpurkar, 2016)."""

import json
from typing import Any, Final

import polars as pl

from peft_ablation.errors import InputError

COLUMNS: Final[dict[str, pl.DataType | type[pl.DataType]]] = {
    "id": pl.String, "title": pl.String, "context": pl.String, "question": pl.String,
    "answers": pl.List(pl.String),
}  # fmt: skip
"""Columns of a question: its id, its article, the passage, itself, and its answers."""


def squad_rows(file: str, text: str) -> pl.DataFrame:
    """Return the questions of a file, which messages call `file`, in its order; see `COLUMNS`.

    A text that several people gave stands in its answers as often; a question without any answer
    has an empty list. Raises `InputError` for what is no such JSON.
    """
    try:
        whole = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(
            f"data: {file}: is not JSON at line {error.lineno}, expected a file of SQuAD v1.1; "
            "restore it, or say with data.format what it is"
        ) from None
    rows = []
    for place, article in enumerate(_part(file, "the file", whole, "data", list)):
        where = f"data[{place}]"
        title = _part(file, where, article, "title", str)
        for part, paragraph in enumerate(_part(file, where, article, "paragraphs", list)):
            there = f"{where}.paragraphs[{part}]"
            context = _part(file, there, paragraph, "context", str)
            for number, asked in enumerate(_part(file, there, paragraph, "qas", list)):
                here = f"{there}.qas[{number}]"
                answers = [
                    _part(file, f"{here}.answers[{each}]", answer, "text", str)
                    for each, answer in enumerate(_part(file, here, asked, "answers", list))
                ]
                identity = _part(file, here, asked, "id", str)
                question = _part(file, here, asked, "question", str)
                rows.append((identity, title, context, question, answers))
    return pl.DataFrame(rows, schema=COLUMNS, orient="row")


def _part(file: str, where: str, holder: Any, key: str, kind: type) -> Any:
    """Return `holder[key]`; raises `InputError` where it is not there or of another kind."""
    value = holder.get(key) if isinstance(holder, dict) else None
    if not isinstance(value, kind):
        what = "list" if kind is list else "text"
        raise InputError(
            f"data: {file}: is no SQuAD v1.1 file: {where} has no {what} {key!r}, expected "
            "data[].paragraphs[].qas[].answers[].text; restore it, or say with data.format what "
            "it is"
        )
    return value
