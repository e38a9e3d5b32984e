"""The table of answers to a study's questions; free of torch, as pages read it too."""

from typing import Final

import polars as pl

END, LIMIT = "end", "limit"
"""Why an answer stopped: it came to its end, or to the limit of the task's settings."""

COLUMNS: Final = {
    "question": pl.Int64, "text": pl.String, "arm": pl.String, "seed": pl.Int64,
    "answer": pl.String, "tokens": pl.Int64, "stopped": pl.String,
}  # fmt: skip
"""Columns of answers.csv: number and text of the question, who answered, what, and how it ended."""
