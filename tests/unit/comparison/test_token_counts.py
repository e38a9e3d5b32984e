"""Rows and tokens by source: the table and the section of the page, by hand."""

from pathlib import Path

import polars as pl
import pytest

from peft_ablation.artifacts import write_json
from peft_ablation.comparison import tokens
from peft_ablation.comparison.pages import Table

COUNTED = [
    {"source": "one", "conversations": 8, "cut": 2, "left_out": 1, "tokens": 1000,
     "tokens_cut": 200, "supervised": 200},
    {"source": "two", "conversations": 1, "cut": 0, "left_out": 1, "tokens": 50,
     "tokens_cut": 50, "supervised": 0},
]  # fmt: skip
TOLD = [
    {"source": "one", "conversations": 10, "kept": 8, "dropped": {"no_answer": 1, "limit": 1}},
    {"source": "two", "conversations": 1, "kept": 1, "dropped": {}},
]


class Counting:
    """A task that has counted."""

    def token_counts(self, table: str, base: str) -> pl.DataFrame:
        assert (table, base) == ("examples.parquet", "folder")
        return pl.DataFrame(COUNTED)


def counted(folder: Path, monkeypatch: pytest.MonkeyPatch, account: dict[str, object]) -> Path:
    monkeypatch.setattr(tokens, "open_task", lambda task, train: Counting())
    write_json(folder / "examples.json", account)
    tokens.count_tokens(
        examples="examples.parquet", account=folder / "examples.json", task={}, train="train",
        base="folder", table=folder / "tokens.csv",
    )  # fmt: skip
    return folder / "tokens.csv"


def test_sources_are_counted_from_the_files_to_the_tokens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = counted(tmp_path, monkeypatch, {"sources": TOLD})
    one, two, whole = pl.read_csv(table).rows(named=True)
    assert (one["read"], one["dropped"], one["kept"]) == (10, 2, 8)
    assert one["dropped_why"] == "limit 1, no_answer 1"
    assert one["supervised_percent"] == 25.0  # 200 of the 800 that are left
    assert two["supervised_percent"] is None  # nothing is left
    assert {k: whole[k] for k in ("source", "read", "dropped", "kept", "conversations")} == {
        "source": "all", "read": 11, "dropped": 2, "kept": 9, "conversations": 9,
    }  # fmt: skip
    assert (whole["cut"], whole["left_out"], whole["tokens"], whole["tokens_cut"]) == (
        2,
        2,
        1050,
        250,
    )
    assert whole["supervised_percent"] == 25.0
    (shown,) = [block for block in tokens.token_blocks(table) if isinstance(block, Table)]
    assert shown.rows == [
        ["one", "10", "2 (limit 1, no_answer 1)", "8", "2", "1", "1,000", "20.0 %", "25.0 %"],
        ["two", "1", "0", "1", "0", "1", "50", "100.0 %", "–"],
        ["all", "11", "2", "9", "2", "2", "1,050", "23.8 %", "25.0 %"],
    ]


def test_a_source_that_does_not_tell_is_counted_from_its_table_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = counted(tmp_path, monkeypatch, {"rows_in": 9})
    (shown,) = [block for block in tokens.token_blocks(table) if isinstance(block, Table)]
    assert shown.rows[0][:4] == ["one", "–", "–", "8"]
    assert shown.rows[-1][:4] == ["all", "–", "–", "9"]
