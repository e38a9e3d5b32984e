"""Anybody's table becomes examples, or one line on why not."""

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from peft_ablation.config.site import Site
from peft_ablation.data.examples import checked_examples
from peft_ablation.sources.table import Table, TableData


def read(
    root: Path | str | None, /, columns: dict[str, Any], files: Any = "table.csv", **settings: Any
) -> tuple[pl.DataFrame, dict[str, Any]]:
    data = TableData(source="table", files=files, columns=columns, **settings)
    source = Table(data, Site(data_root=None if root is None else str(root)), "results/mine")
    source.check()
    table, account = source.read()
    return checked_examples(table, "table"), account


def write(folder: Path, text: str | bytes, name: str = "table.csv") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return folder


TEXTS: dict[str, Any] = {"text": "text", "label": "label"}


def test_columns_take_the_names_of_their_roles(tmp_path: Path) -> None:
    write(tmp_path, "said,kind,by\nhello,a,x\nbye,b,y\n")
    table, _ = read(tmp_path, {"text": "said", "label": "kind", "group": "by"})
    assert table.to_dicts() == [
        {"example_id": "table:2", "group": "x", "split": None, "balance": ["a"], "text": "hello",
         "label": "a"},
        {"example_id": "table:3", "group": "y", "split": None, "balance": ["b"], "text": "bye",
         "label": "b"},
    ]  # fmt: skip


@pytest.mark.parametrize("kind", ["csv", "tsv", "parquet", "jsonl", "csv.gz"])
def test_formats_read_alike(tmp_path: Path, kind: str) -> None:
    rows = pl.DataFrame({"text": ['say "hi"', "bye, all"], "label": [0, 1]})
    path = tmp_path / f"table.{kind}"
    if kind == "parquet":
        rows.write_parquet(path)
    elif kind == "jsonl":
        rows.write_ndjson(path)
    elif kind == "csv.gz":
        import gzip

        path.write_bytes(gzip.compress(rows.write_csv().encode()))
    else:
        path.write_text(
            rows.write_csv() if kind == "csv" else 'text\tlabel\nsay "hi"\t0\nbye, all\t1\n'
        )
    table, _ = read(tmp_path, TEXTS, path.name)
    assert table.select("text", "label").rows() == [('say "hi"', "0"), ("bye, all", "1")]


def test_a_table_reads_glue_as_it_is_published(shared_data: Path) -> None:
    """CoLA has no header, MRPC a byte order mark and stray quotes."""
    cola, _ = read(
        shared_data / "glue-slices",
        {"text": 4, "label": {"column": 2, "names": {0: "unacceptable", 1: "acceptable"}}},
        {"train": "CoLA/train.tsv", "test": "CoLA/dev.tsv"},
        header=False,
    )
    assert (
        cola["text"][0] == "Our friends won't buy this analysis, let alone the next one we propose."
    )
    assert cola["label"][4] == "unacceptable"
    assert dict(cola["split"].value_counts().rows()) == {"train": 1500, "test": 400}
    lines = (shared_data / "glue-slices/MRPC/train.tsv").read_text(encoding="utf-8-sig").split("\n")
    mrpc, _ = read(
        shared_data / "glue-slices",
        {"text": "#1 String", "text_pair": "#2 String", "label": "Quality"},
        "MRPC/train.tsv",
    )
    expected = [
        tuple(line.rstrip("\r").split("\t")[k] for k in (3, 4, 0)) for line in lines[1:1501]
    ]
    assert mrpc.select("text", "text_pair", "label").rows() == expected


def test_rows_without_what_is_extracted_are_left_out_and_counted(tmp_path: Path) -> None:
    write(tmp_path, 'mr,text\n"name[A], food[Thai]",x\nname[B],y\n"food[Greek], near[C]",z\n')
    table, account = read(
        tmp_path, {"text": "text", "label": {"column": "mr", "extract": r"food\[(.*?)\]"}}
    )
    assert table["label"].to_list() == ["Thai", "Greek"]
    assert account["dropped"] == {"no_match": 1}
