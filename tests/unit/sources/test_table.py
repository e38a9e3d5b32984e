"""Anybody's table becomes examples, or one line on why not."""

import json
import zipfile
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import polars as pl
import pytest
from pydantic import ValidationError

from peft_ablation.config.loading import load_config
from peft_ablation.config.site import Site
from peft_ablation.data.examples import checked_examples
from peft_ablation.errors import InputError
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


def refused(root: Path, columns: dict[str, Any], files: Any = "table.csv", **settings: Any) -> str:
    with pytest.raises(InputError) as caught:
        read(root, columns, files, **settings)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_a_column_that_is_not_there_is_named_with_those_that_are(tmp_path: Path) -> None:
    write(tmp_path, "sentence,lable\nhello,a\n")
    message = refused(tmp_path, {"text": "sentence", "label": "label"})
    assert (
        "table.csv has no column 'label', found sentence, lable; did you mean 'lable'?" in message
    )


def test_a_place_beyond_the_last_column_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "hello,a\n")
    assert "no column 3, found 2 columns" in refused(tmp_path, {"text": 3}, header=False)


def test_a_name_in_a_file_without_header_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "hello,a\n")
    assert "data.header is false" in refused(tmp_path, {"text": "text"}, header=False)


def test_two_columns_of_one_name_are_refused_where_it_is_wanted(tmp_path: Path) -> None:
    write(tmp_path, "text,text,label\nhello,bye,a\n")
    assert "two columns 'text'" in refused(tmp_path, TEXTS)
    assert read(tmp_path, {"text": 2, "label": "label"})[0]["text"].to_list() == ["bye"]


def test_bad_rows_are_named_with_file_row_column_found_and_expected(tmp_path: Path) -> None:
    write(tmp_path, "text,grade\na,1.5\nb,high\nc,nan\nd,inf\n,2\nf,\n")
    message = refused(tmp_path, {"text": "text", "score": "grade"})
    assert message.startswith("data: 5 of 6 rows are bad: ")
    for told in (
        "table.csv row 3 column grade (score): found 'high', expected a finite number",
        "row 4 column grade (score): found 'nan', expected a finite number",
        "row 5 column grade (score): found 'inf', expected a finite number",
        "row 6 column text (text): found nothing, expected a value",
        "row 7 column grade (score): found nothing, expected a value",
    ):
        assert told in message


def test_ten_bad_rows_are_named_and_the_rest_counted(tmp_path: Path) -> None:
    rows = "".join(f"t{number},x\n" for number in range(14))
    write(tmp_path, f"text,score\n{rows}")
    message = refused(tmp_path, {"text": "text", "score": "score"})
    assert message.count("expected a finite number") == 10
    assert "row 11 column score" in message and "row 12 column" not in message
    assert "; and 4 more;" in message


def test_bad_rows_are_dropped_where_the_study_says_so_up_to_a_share(tmp_path: Path) -> None:
    write(tmp_path, "text,label\n" + "a,x\n" * 9 + ",x\n")
    kept, account = read(tmp_path, TEXTS, on_bad_row="drop", max_dropped_share=0.1)
    assert kept.height == 9
    assert (account["rows_in"], account["dropped"]) == (10, {"bad_row": 1})
    assert "found 10.00%" in refused(tmp_path, TEXTS, on_bad_row="drop", max_dropped_share=0.09)


def test_a_label_outside_of_the_names_is_refused_with_a_near_one(tmp_path: Path) -> None:
    write(tmp_path, "text,label\na,entailment\nb,entailmant\n")
    names = {"entailment": "yes", "neutral": "no"}
    message = refused(tmp_path, {"text": "text", "label": {"column": "label", "names": names}})
    assert "found 'entailmant', expected one of entailment, neutral; did you mean" in message


def test_free_text_is_never_shown(tmp_path: Path) -> None:
    write(tmp_path, "text,id,label,image\nsecret words,patient7,a,/secret/path.png\n")
    message = refused(tmp_path, {**TEXTS, "image": "image"})
    assert "secret" not in message and "patient7" not in message
    assert "row 2 column image" in message


@pytest.mark.parametrize("names", [None, {0: "no", 1: "yes"}])
def test_hidden_test_labels_are_refused_with_what_to_do(tmp_path: Path, names: Any) -> None:
    write(tmp_path, "text,label\na,-1\nb,-1\n")
    message = refused(tmp_path, {"text": "text", "label": {"column": "label", "names": names}})
    assert "2 rows have the label -1" in message and "dev.tsv" in message


def test_a_label_of_minus_one_that_has_a_name_is_a_class(tmp_path: Path) -> None:
    write(tmp_path, "text,label\na,-1\nb,1\n")
    column = {"column": "label", "names": {-1: "negative", 1: "positive"}}
    assert read(tmp_path, {"text": "text", "label": column})[0]["label"].to_list() == [
        "negative", "positive",
    ]  # fmt: skip


def test_a_byte_that_is_no_utf8_is_named_with_its_line(tmp_path: Path) -> None:
    write(tmp_path, b"text,label\nfine,a\ncaf\xe9,b\n")
    message = refused(tmp_path, TEXTS)
    assert "table.csv: is not UTF-8, found byte 0xe9 at place 21 in line 3" in message


def test_a_byte_order_mark_is_no_text(tmp_path: Path) -> None:
    for name, text in (("table.csv", "text,label\na,b\n"), ("t.jsonl", '{"text":"a","label":"b"}')):
        write(tmp_path, b"\xef\xbb\xbf" + text.encode(), name)
        assert read(tmp_path, TEXTS, name)[0]["text"].to_list() == ["a"]
    write(tmp_path, b"\xef\xbb\xbfa\tb\n", "table.tsv")
    table, _ = read(tmp_path, {"text": 1, "label": 2}, "table.tsv", header=False)
    assert table["text"].to_list() == ["a"]


def test_quotes_in_a_tsv_are_text_and_in_a_csv_enclose(tmp_path: Path) -> None:
    write(tmp_path, 'text\tlabel\n"a stray\tx\nplain\ty\n', "table.tsv")
    assert read(tmp_path, TEXTS, "table.tsv")[0]["text"].to_list() == ['"a stray', "plain"]
    write(tmp_path, 'text,label\n"two\nlines, ""quoted""",x\n')
    assert read(tmp_path, TEXTS)[0]["text"].to_list() == ['two\nlines, "quoted"']


def test_line_ends_of_windows_are_no_text(tmp_path: Path) -> None:
    write(tmp_path, "text\tlabel\r\na\tx\r\n", "table.tsv")
    assert read(tmp_path, TEXTS, "table.tsv")[0]["label"].to_list() == ["x"]


def test_a_row_of_too_many_fields_is_named(tmp_path: Path) -> None:
    write(tmp_path, "text,label\na,x\nhello, world,y\n")
    assert "has 3 fields in row 3, expected 2" in refused(tmp_path, TEXTS)


def test_a_quote_that_nothing_closes_is_refused_without_its_text(tmp_path: Path) -> None:
    write(tmp_path, 'text,label\n"secret,x\nb,y\n')
    message = refused(tmp_path, TEXTS)
    assert "secret" not in message


@pytest.mark.parametrize("text", ["", "text,label\n", "text,label\n,\n\n"])
def test_an_empty_table_is_refused(tmp_path: Path, text: str) -> None:
    write(tmp_path, text)
    message = refused(tmp_path, TEXTS)
    assert "table.csv" in message and ("is empty" in message or "no row is left" in message)


def test_repeated_ids_are_refused_with_the_first_two_rows(tmp_path: Path) -> None:
    write(tmp_path, "id,text,label\n1,a,x\n2,b,y\n1,c,x\n")
    message = refused(tmp_path, {"example_id": "id", **TEXTS})
    assert "2 of 3 rows share their example_id" in message
    assert "table.csv row 2 and table.csv row 4" in message


def test_a_row_without_a_group_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "who,day,text,label\nann,1,a,x\nbob,,b,y\n,2,c,y\n")
    message = refused(tmp_path, {"group": ["who", "day"], **TEXTS})
    assert "row 3 column who, day (group): found nothing" in message
    assert "row 4 column who, day (group): found nothing" in message


def test_rows_of_a_group_are_alike_in_all_of_its_columns(tmp_path: Path) -> None:
    write(tmp_path, "who,day,text,label\na | b,c,1,x\na,b | c,2,y\na,b,3,x\na,b,4,y\n")
    table, _ = read(tmp_path, {"group": ["who", "day"], **TEXTS})
    groups = table["group"].to_list()
    assert groups[2] == groups[3] and len(set(groups)) == 3


def test_rows_that_share_any_value_are_one_group_by_way_of_others(tmp_path: Path) -> None:
    """a-b, c-d and c-b are one chain, whichever side a text stands on; e-f-g is another."""
    write(tmp_path, "one,two,label\na,b,x\nc,d,y\ne,f,x\nc,b,y\nf,g,x\n")
    group = {"column": ["one", "two"], "alike": "any"}
    columns = {"text": "one", "text_pair": "two", "label": "label", "group": group}
    table, _ = read(tmp_path, columns)
    assert table["group"].to_list() == [f"table:{row}" for row in (2, 2, 4, 2, 4)]
    assert table.columns == [
        "example_id",
        "group",
        "split",
        "balance",
        "text",
        "text_pair",
        "label",
    ]


def test_a_long_chain_is_one_group(tmp_path: Path) -> None:
    order = np.random.default_rng(0).permutation(500)
    write(tmp_path, "one,two,label\n" + "".join(f"{n},{n + 1},x\n" for n in order))
    group = {"column": ["one", "two"], "alike": "any"}
    table, _ = read(tmp_path, {"text": "one", "label": "label", "group": group})
    assert table["group"].n_unique() == 1


@pytest.mark.parametrize(
    "path", ["../x.png", "a/../../x.png", "/x.png", "C:\\x.png", "gs://b/x.png"]
)
def test_an_image_path_that_leaves_the_root_is_refused(tmp_path: Path, path: str) -> None:
    write(tmp_path, f"image,label\na.png,x\n{path},y\n")
    message = refused(tmp_path, {"image": "image", "label": "label"})
    assert "row 3 column image (image)" in message and "inside of data_root" in message


@pytest.mark.parametrize("link", ["folder", "file"])
def test_a_link_that_leaves_the_root_is_refused(tmp_path: Path, link: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "x.png").touch()
    root = write(tmp_path / "root", f"image,label\n{link}/x.png,x\nown/x.png,x\n")
    (root / "own").mkdir()
    (root / "own/x.png").touch()
    if link == "folder":
        (root / "folder").symlink_to(outside)
    else:
        (root / "file").mkdir()
        (root / "file/x.png").symlink_to(outside / "x.png")
    message = refused(root, {"image": "image", "label": "label"})
    assert message.startswith("data: 1 of 2 rows") and "not a link that leaves it" in message


def test_a_link_within_the_root_is_followed(tmp_path: Path) -> None:
    write(tmp_path, "image,label\nb.png,x\n")
    (tmp_path / "a.png").touch()
    (tmp_path / "b.png").symlink_to("a.png")
    assert read(tmp_path, {"image": "image", "label": "label"})[0]["image"].to_list() == ["b.png"]


def test_images_need_a_root(tmp_path: Path) -> None:
    write(tmp_path, "image,label\na.png,x\n")
    with pytest.raises(InputError, match="data_root: not set, but study mine reads image paths"):
        read(None, {"image": "image", "label": "label"}, str(tmp_path / "table.csv"))


def test_a_file_that_is_not_there_is_refused_before_any_job(tmp_path: Path) -> None:
    message = refused(tmp_path, TEXTS, "tabel.csv")
    assert f"no file {tmp_path}/tabel.csv" in message


def test_an_ending_that_tells_no_format_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "text,label\na,x\n", "table.txt")
    assert "say what it is with data.format" in refused(tmp_path, TEXTS, "table.txt")
    assert read(tmp_path, TEXTS, "table.txt", format="csv")[0].height == 1


@pytest.mark.parametrize(
    ("name", "data", "told"),
    [
        ("t.parquet", b"PAR1 broken off", "is no whole Parquet file"),
        ("t.jsonl", b'{"text": "a", "label": "b"}\n{"text": \n', "is not JSON in line 2"),
        ("t.jsonl", b'{"text": "a"}\n[1, 2]\n', "no JSON object in line 2"),
    ],
)
def test_a_file_that_is_not_of_its_kind_is_refused(
    tmp_path: Path, name: str, data: bytes, told: str
) -> None:
    write(tmp_path, data, name)
    assert told in refused(tmp_path, TEXTS, name)


def test_a_column_of_structures_is_refused(tmp_path: Path) -> None:
    pl.DataFrame({"text": [{"bytes": "x"}], "label": ["a"]}).write_parquet(tmp_path / "t.parquet")
    assert "column 'text' holds Struct, expected text" in refused(tmp_path, TEXTS, "t.parquet")


def test_splits_are_read_whatever_they_are_called(tmp_path: Path) -> None:
    write(tmp_path, "text,label,part\na,x,Train\nb,y,dev\nc,x,held\n")
    column = {"column": "part", "names": {"held": "test"}}
    table, _ = read(tmp_path, {**TEXTS, "split": column})
    assert table["split"].to_list() == ["train", "val", "test"]
    assert "found 'held', expected one of" in refused(tmp_path, {**TEXTS, "split": "part"})


def test_ids_of_two_files_of_one_name_differ(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        write(tmp_path, "text,label\nt,x\n", f"{folder}/rows.csv")
        write(tmp_path, "text,label\nt,x\n", f"{folder}.csv")
    files = ["a/rows.csv", "b/rows.csv", "a.csv"]
    assert read(tmp_path, TEXTS, files)[0]["example_id"].to_list() == [
        "a/rows:2",
        "b/rows:2",
        "a:2",
    ]
    absolute = [str(tmp_path / file) for file in files]
    assert read(None, TEXTS, absolute)[0]["example_id"].n_unique() == 3


def test_a_score_is_balanced_by_tenths_and_alike_scores_stay_together(tmp_path: Path) -> None:
    values = [*range(100), *[50] * 100]
    write(tmp_path, "text,score\n" + "".join(f"t,{value}\n" for value in values))
    table, _ = read(tmp_path, {"text": "text", "score": "score"})
    parts = table.group_by(pl.col("balance").list.first()).agg(
        pl.col("score").min().alias("low"), pl.col("score").max().alias("high"), pl.len()
    )
    ordered = parts.sort("low")
    assert (ordered["low"][1:] > ordered["high"][:-1]).all()
    assert ordered["len"].sum() == 200 and table["balance"].list.len().unique().to_list() == [1]
    assert ordered["len"].to_list()[0] == 20


def test_labels_of_a_set_are_balanced_one_by_one(tmp_path: Path) -> None:
    write(tmp_path, "text,found\na,mass; nodule\nb,\nc,mass\n")
    column = {"column": "found", "separator": ";"}
    table, _ = read(tmp_path, {"text": "text", "balance": column})
    assert table["balance"].to_list() == [["mass", "nodule"], [], ["mass"]]
    assert "found" not in table.columns
    pl.DataFrame({"text": ["a", "b"], "found": [["mass"], []]}).write_parquet(
        tmp_path / "t.parquet"
    )
    table, _ = read(tmp_path, {"text": "text", "balance": "found"}, "t.parquet")
    assert table["balance"].to_list() == [["mass"], []]


def test_a_file_in_an_archive_is_read_by_its_url(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.writestr("in/table.csv", "text,label\na,x\n")
    table, _ = read(tmp_path, TEXTS, "zip://in/table.csv::all.zip")
    assert table["example_id"].to_list() == ["in/table:2"]
    table, _ = read(f"zip://::{tmp_path}/all.zip", TEXTS, "in/table.csv")
    assert table["text"].to_list() == ["a"]
    assert "cannot be read" in refused(tmp_path, TEXTS, "zip://other.csv::all.zip")


def test_local_files_are_inputs_of_the_rule_and_urls_are_not(tmp_path: Path) -> None:
    files = ["a.csv", "zip://b.csv::all.zip", "zip://c.csv::all.zip", "https://host/d.csv"]
    data = TableData(source="table", files=files, columns=TEXTS)
    source = Table(data, Site(data_root=str(tmp_path)), "results/mine")
    assert list(source.inputs().values()) == [f"{tmp_path}/a.csv", f"{tmp_path}/all.zip"]


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        ({"label": ["a", "b"]}, "which only group may be"),
        ({"label": {"column": "a", "quantiles": 4}}, "for balance alone"),
        ({"label": {"column": "a", "extract": "food"}}, "has 0 groups, expected one"),
        ({"label": {"column": "a", "extract": "(("}}, "is no pattern"),
        ({"label": {"column": "a", "names": {0: False}}}, "put it in quotes"),
        ({"label": 0}, "greater than 0"),
    ],
)
def test_columns_that_cannot_be_are_refused(columns: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        TableData(source="table", files="a.csv", columns=columns)


def test_an_expression_that_rust_does_not_know_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "text,label\na,x\n")
    column = {"column": "label", "extract": "(x(?=y))"}
    assert "no pattern of Rust" in refused(tmp_path, {"text": "text", "label": column})


def test_a_part_of_the_rows_is_drawn_in_their_order(tmp_path: Path) -> None:
    write(tmp_path, "text,label\n" + "".join(f"t{row},x\n" for row in range(100)))
    table, account = read(tmp_path, TEXTS, limit=20)
    drawn = [int(text[1:]) for text in table["text"]]
    assert len(drawn) == 20 and drawn == sorted(drawn) and drawn != list(range(20))
    assert account["dropped"] == {"limit": 80}
    assert read(tmp_path, TEXTS, limit=20)[0].equals(table)


def test_a_part_of_each_split_is_drawn_and_gathered_rows_stay_whole(tmp_path: Path) -> None:
    rows = "".join(f"p{row // 4},r{row}\n" for row in range(40))
    for split in ("train", "dev", "test"):
        write(tmp_path, "mr,ref\n" + rows, f"{split}.csv")
    table, account = read(
        tmp_path,
        {"prompt": "mr", "reference": "ref", "group": "mr"},
        {"train": "train.csv", "val": "dev.csv", "test": "test.csv"},
        gather={"splits": ["val", "test"]},
        limit={"train": 6, "test": 3},
    )
    assert account["splits"] == {"train": 6, "val": 10, "test": 3}
    counts = {split: table.filter(split=split)["reference"].list.len() for split in table["split"]}
    assert set(counts["train"]) == {1}
    assert set(counts["val"]) == set(counts["test"]) == {4}
    # Of 120 rows 34 of train go, 60 of dev and test go into others, then 7 of test's ten examples.
    assert account["dropped"] == {"gathered": 60, "limit": 41}
    drawn = [int(prompt[1:]) for prompt in table.filter(split="test")["prompt"]]
    assert drawn == sorted(drawn)


def test_a_limit_of_a_split_that_no_file_gives_is_refused() -> None:
    columns = {"text": "a"}
    with pytest.raises(ValueError, match=r"limit\.test: found, but files give no split test"):
        TableData(source="table", files={"train": "a.csv"}, columns=columns, limit={"test": 3})
    with pytest.raises(ValueError, match=r"limit\.train: found, but files give no split"):
        TableData(source="table", files="a.csv", columns=columns, limit={"train": 3})


@pytest.mark.parametrize(
    ("task", "columns", "told"),
    [
        ("text_classification", {"text": 1}, "no 'label', which task text_classification reads"),
        ({"target": "score"}, {"text": 1, "label": 2}, "no 'score', which task"),
        ("image_classification", {"label": 1}, "no 'image', which task image_classification"),
        ("text_classification", {"text": 1, "lable": 2}, "did you mean 'label'?"),
    ],
)
def test_roles_that_do_not_fit_the_task_are_refused_before_any_job(
    tmp_path: Path, task: Any, columns: dict[str, Any], told: str
) -> None:
    write(tmp_path, "a,b\n")
    study = {
        "task": {"name": "text_classification", **task} if isinstance(task, dict) else task,
        "data": {"source": "table", "files": "table.csv", "columns": columns},
        "arms": {"fft": {"method": "full", "learning_rate": 1e-3}},
        "base": {"id": "somebody/base", "revision": "x"},
    }
    (tmp_path / "mine.yaml").write_text(json.dumps(study))
    with pytest.raises(InputError) as error:
        load_config({"study": str(tmp_path / "mine.yaml"), "data_root": str(tmp_path)})
    assert told in str(error.value) and "\n" not in str(error.value)


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """Address of a server on loopback that gives the files of `tmp_path / "served"`."""
    (tmp_path / "served").mkdir()

    class Quiet(SimpleHTTPRequestHandler):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments, directory=str(tmp_path / "served"))

        def log_message(self, *arguments: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Quiet)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_table_behind_a_url_is_read(tmp_path: Path, address: str) -> None:
    write(tmp_path / "served", "text,label\na,x\n", "in/table.csv")
    with zipfile.ZipFile(tmp_path / "served/all.zip", "w") as archive:
        archive.writestr("table.csv", "text,label\nb,x\n")
    assert read(address, TEXTS, "in/table.csv")[0]["text"].to_list() == ["a"]
    assert read(None, TEXTS, f"{address}/in/table.csv")[0]["text"].to_list() == ["a"]
    table, _ = read(None, TEXTS, f"zip://table.csv::{address}/all.zip")
    assert table["text"].to_list() == ["b"]


def test_a_url_that_gives_nothing_is_one_line(
    tmp_path: Path, address: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert "missing" in refused(tmp_path, TEXTS, f"{address}/none.csv")
    assert "missing" in refused(tmp_path, TEXTS, f"zip://table.csv::{address}/none.zip")
    assert "no connection" in refused(tmp_path, TEXTS, "http://127.0.0.1:9/table.csv")
    assert "cannot read nowhere://" in refused(tmp_path, TEXTS, "nowhere://a/table.csv")


PROMPTS: dict[str, Any] = {"prompt": "p", "reference": "r", "group": "p"}


def test_rows_of_one_prompt_are_gathered_in_the_named_splits(tmp_path: Path) -> None:
    write(tmp_path, "p,r\na,one\na,two\nb,one\n", "train.csv")
    write(tmp_path, "p,r\nc,one\nd,x\nc,two\nc,one\n", "test.csv")
    files = {"train": "train.csv", "test": "test.csv"}
    table, account = read(tmp_path, PROMPTS, files, gather={"splits": ["val", "test"]})
    assert table.select("prompt", "reference", "split").rows() == [
        ("a", ["one"], "train"),
        ("a", ["two"], "train"),
        ("b", ["one"], "train"),
        ("c", ["one", "two"], "test"),
        ("d", ["x"], "test"),
    ]
    assert account["rows_in"] == 7
    assert account["rows_out"] == 5
    assert account["dropped"] == {"gathered": 2}
    assert table["example_id"].n_unique() == 5


def test_rows_without_a_split_are_gathered_where_all_splits_are(tmp_path: Path) -> None:
    write(tmp_path, "p,r\na,one\nb,x\na,two\nc,y\n")
    some, _ = read(tmp_path, PROMPTS, gather={})
    assert some["reference"].to_list() == [["one"], ["x"], ["two"], ["y"]]
    every, _ = read(tmp_path, PROMPTS, gather={"splits": ["train", "val", "test"]})
    assert every["reference"].to_list() == [["one", "two"], ["x"], ["y"]]


@pytest.mark.parametrize(
    ("role", "told"), [("text", "which columns does not name"), ("group", "which cannot be a list")]
)
def test_a_role_that_cannot_be_gathered_is_refused(role: str, told: str) -> None:
    with pytest.raises(ValidationError, match=f"gather.role: found '{role}', {told}"):
        TableData(source="table", files="a.csv", columns=PROMPTS, gather={"role": role})
