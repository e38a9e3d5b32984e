"""The examples table: one row an example, whatever the source.

Columns: `example_id` (text, unique), `group` (text: what must not be divided between splits and is
resampled together, such as the patient; the id where there is none), `split` (`train`, `val`,
`test` where the source gives it, else null), `balance` (list of what the splits should share
evenly, such as the classes of the example; an Enum list keeps their order and names those without
any example), and the task's own columns (`image`: path; `label`; `report`; …).
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from peft_ablation.data import NAMED_COLUMNS
from peft_ablation.errors import InputError

Indices = NDArray[np.int64]
"""Places of examples in their split."""
SPLITS = ("train", "val", "test")
TEXTS = ("text", "text_pair", "prompt")
"""Columns that are inputs of a model in words; those of one's own task are not asked."""


def checked_examples(table: pl.DataFrame, where: str) -> pl.DataFrame:
    """Return the table with its first columns in order, types cast.

    Raises `InputError` for an empty table, a missing or repeated `example_id`, a null `group` and
    a split that is none.
    """
    if table.is_empty():
        raise InputError(f"data: {where} gives no example, expected at least three, one a split")
    if "group" not in table.columns:
        table = table.with_columns(pl.col("example_id").alias("group"))
    if "split" not in table.columns:
        table = table.with_columns(pl.lit(None, dtype=pl.String).alias("split"))
    if "balance" not in table.columns:
        table = table.with_columns(pl.lit([], dtype=pl.List(pl.String)).alias("balance"))
    table = table.with_columns(pl.col("example_id", "group", "split").cast(pl.String))
    for column in ("example_id", "group"):
        empty = table[column].null_count()
        if empty:
            raise InputError(f"data: {where}: {empty} rows have no {column}; give each row one")
    repeated = table.filter(pl.col("example_id").is_duplicated())
    if not repeated.is_empty():
        raise InputError(
            f"data: {where}: example_id {repeated['example_id'][0]!r} is there "
            f"{repeated.filter(pl.col('example_id') == repeated['example_id'][0]).height} times, "
            "expected once; make the ids unique"
        )
    odd = set(table["split"].drop_nulls().unique()) - set(SPLITS)
    if odd:
        raise InputError(
            f"data: {where}: split is {min(odd)!r}, expected {', '.join(SPLITS)} or nothing"
        )
    rest = [column for column in table.columns if column not in NAMED_COLUMNS]
    return table.select(*NAMED_COLUMNS, *rest)


def read_columns(path: str | Path, columns: Iterable[str]) -> pl.DataFrame:
    """Read these columns of a split or table; raises `InputError` where one is missing."""
    found = pl.read_parquet_schema(path)
    wanted = list(columns)
    missing = [column for column in wanted if column not in found]
    if missing:
        raise InputError(
            f"{path}: no column {missing[0]!r}, found {', '.join(found)}; was it made by another "
            "version, or does the task not fit the source?"
        )
    return pl.read_parquet(path, columns=wanted)


def shuffled_positions(positions: Indices, seed: int) -> Indices:
    """Return the positions permuted so that nobody keeps its own (for two or more)."""
    order = np.random.default_rng(seed).permutation(len(positions))
    result = np.empty_like(positions)
    result[order] = positions[np.roll(order, 1)]
    return result
