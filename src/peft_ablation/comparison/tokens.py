"""What the examples are made of, by source: rows, what was dropped, tokens, cut and supervised."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import polars as pl

from peft_ablation.artifacts import read_json, write_table
from peft_ablation.comparison.pages import NONE, Block, Heading, Paragraph, Table
from peft_ablation.tasks import open_task

log = logging.getLogger(__name__)

ALL: Final = "all"
"""The line of all sources."""
COLUMNS: Final = (
    "source", "read", "dropped", "kept", "conversations", "cut", "left_out", "tokens", "tokens_cut",
    "supervised", "supervised_percent", "dropped_why",
)  # fmt: skip
"""Columns of tokens.csv."""


def count_tokens(
    *,
    examples: str | Path,
    account: str | Path,
    task: Mapping[str, Any],
    train: str | Path,
    base: str | Path,
    table: str | Path,
) -> None:
    """Write one row a source, and one of all: rows and tokens of the examples table.

    `account` is that of the source; where it has a list `sources`, `read`, `dropped` (with
    `dropped_why`) and `kept` are taken from there. The others are of `Task.token_counts`, with the
    tokenizer of `base`; `supervised_percent` is of the tokens that are left.
    """
    counts = open_task(task, train).token_counts(examples, base)
    told = {row["source"]: row for row in read_json(account).get("sources", ())}
    rows = [_row(row, told.get(row["source"])) for row in counts.iter_rows(named=True)]
    write_table(pl.DataFrame([*rows, _sum(rows)]).select(COLUMNS), table)
    log.info("counted %d tokens in %d sources", counts["tokens"].sum(), counts.height)


def _row(counts: Mapping[str, Any], told: Mapping[str, Any] | None) -> dict[str, Any]:
    why = {} if told is None else told["dropped"]
    return {
        **counts,
        "read": None if told is None else told["conversations"],
        "dropped": None if told is None else sum(why.values()),
        "kept": None if told is None else told["kept"],
        "dropped_why": ", ".join(f"{reason} {count}" for reason, count in sorted(why.items())),
        "supervised_percent": _percent(counts),
    }


def _sum(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    numbers = ("read", "dropped", "kept", *COLUMNS[4:10])
    total = {
        name: None if any(row[name] is None for row in rows) else sum(row[name] for row in rows)
        for name in numbers
    }
    return {"source": ALL, **total, "supervised_percent": _percent(total), "dropped_why": ""}


def _percent(counts: Mapping[str, Any]) -> float | None:
    left = counts["tokens"] - counts["tokens_cut"]
    return 100 * counts["supervised"] / left if left else None


def token_blocks(table: str | Path) -> list[Block]:
    """Return the section of the page: `table` is what `count_tokens` wrote."""
    rows = pl.read_csv(table).rows(named=True)
    if len(rows) == 2:  # one source: the line of all says the same
        rows = rows[:1]
    return [
        Heading("What the examples are"),
        Paragraph(
            "Conversations of all splits, by source. Dropped: as files were read, see "
            "cohort/examples.json. Cut: to the first task.max_tokens; left out: nothing is "
            "supervised among these. Tokens are those of the base's tokenizer, marks of the chat "
            "template among them; supervised ones are a share of the tokens that are not cut."
        ),
        Table(
            (
                "source", "read", "dropped", "kept", "cut", "left out", "tokens", "of these cut",
                "supervised",
            ),
            [
                [
                    row["source"],
                    _count(row["read"]),
                    _count(row["dropped"]) + _why(row["dropped_why"]),
                    _count(row["conversations"]),
                    _count(row["cut"]),
                    _count(row["left_out"]),
                    _count(row["tokens"]),
                    f"{100 * row['tokens_cut'] / row['tokens']:.1f} %",
                    NONE
                    if row["supervised_percent"] is None
                    else f"{row['supervised_percent']:.1f} %",
                ]
                for row in rows
            ],
        ),
    ]  # fmt: skip


def _count(number: int | None) -> str:
    return NONE if number is None else f"{number:,}"


def _why(reasons: str | None) -> str:
    return f" ({reasons})" if reasons else ""
