"""SQuAD's JSON becomes questions with their distinct answers, or one line on why not."""

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from peft_ablation.config.site import Site
from peft_ablation.data.examples import checked_examples
from peft_ablation.errors import InputError
from peft_ablation.sources.table import Table, TableData

COLUMNS: dict[str, Any] = {
    "example_id": "id",
    "prompt": {"column": ["context", "question"], "joined": "\nQuestion: "},
    "reference": "answers",
    "group": "title",
}


def question(identity: str, text: str, *answers: str) -> dict[str, Any]:
    told = [{"answer_start": 0, "text": answer} for answer in answers]
    return {"id": identity, "question": text, "answers": told}


def article(title: str, context: str, *questions: dict[str, Any]) -> dict[str, Any]:
    return {"title": title, "paragraphs": [{"context": context, "qas": list(questions)}]}


RIVER = article(
    "Rivers", "The Oder is 840 km long.", question("a", "How long?", "840 km", "840", "840 km"),
    question("b", "Which one?", "The Oder"),
)  # fmt: skip
TOWN = article("Towns", "Kiel lies on the Förde.", question("c", "Where is Kiel?", "on the Förde"))


def write(folder: Path, *articles: Any) -> Path:
    whole = {"version": "1.1", "data": list(articles)}
    (folder / "asked.json").write_text(json.dumps(whole, ensure_ascii=False), encoding="utf-8")
    return folder


def read(
    root: Path, files: Any = "asked.json", columns: dict[str, Any] = COLUMNS, **settings: Any
) -> tuple[pl.DataFrame, dict[str, Any]]:
    data = TableData(source="table", files=files, columns=columns, format="squad", **settings)
    source = Table(data, Site(data_root=str(root)), "results/mine")
    source.check()
    table, account = source.read()
    return checked_examples(table, "table"), account


def refused(root: Path, **settings: Any) -> str:
    with pytest.raises(InputError) as caught:
        read(root, **settings)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_question_has_its_passage_its_distinct_answers_and_its_article(tmp_path: Path) -> None:
    table, account = read(write(tmp_path, RIVER, TOWN))
    assert table.select("example_id", "group", "prompt", "reference").rows() == [
        ("a", "Rivers", "The Oder is 840 km long.\nQuestion: How long?", ["840 km", "840"]),
        ("b", "Rivers", "The Oder is 840 km long.\nQuestion: Which one?", ["The Oder"]),
        ("c", "Towns", "Kiel lies on the Förde.\nQuestion: Where is Kiel?", ["on the Förde"]),
    ]
    assert account["rows_in"] == account["rows_out"] == 3


def test_a_byte_order_mark_is_no_text(tmp_path: Path) -> None:
    path = write(tmp_path, TOWN) / "asked.json"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert read(tmp_path)[0]["example_id"].to_list() == ["c"]


def test_a_question_without_an_answer_is_named_or_counted(tmp_path: Path) -> None:
    """SQuAD 2.0 asks what its passages do not answer."""
    unanswered = article("None", "Nothing.", question("d", "Why?"), question("e", "Who?", " "))
    write(tmp_path, RIVER, unanswered)
    told = refused(tmp_path)
    assert told.startswith("data: 2 of 4 rows are bad: asked.json row 3 column answers (reference)")
    assert "row 4" in told
    table, account = read(tmp_path, on_bad_row="drop", max_dropped_share=0.5)
    assert table["example_id"].to_list() == ["a", "b"]
    assert account["dropped"] == {"bad_row": 2}


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("[]", "is no SQuAD v1.1 file: the file has no list 'data', expected data[].paragraphs[]"),
        ('{"data": {}}', "is no SQuAD v1.1 file: the file has no list 'data'"),
        ('{"data": [{"paragraphs": []}]}', "data[0] has no text 'title'"),
        ('{"data": [{"title": "x"}]}', "data[0] has no list 'paragraphs'"),
        (
            '{"data": [{"title": "x", "paragraphs": [{"context": "c", "qas": [{"id": 7, '
            '"question": "q", "answers": []}]}]}]}',
            "data[0].paragraphs[0].qas[0] has no text 'id'",
        ),
        (
            '{"data": [{"title": "x", "paragraphs": [{"context": "c", "qas": [{"id": "i", '
            '"question": "q", "answers": ["a"]}]}]}]}',
            "data[0].paragraphs[0].qas[0].answers[0] has no text 'text'",
        ),
        ('{"data": [\n{]}', "is not JSON at line 2, expected a file of SQuAD v1.1"),
        ("", "is not JSON at line 1"),
        ('{"data": []}', "no row is left"),
    ],
)
def test_what_is_no_such_file_is_refused_by_its_first_fault(
    content: str, told: str, tmp_path: Path
) -> None:
    (tmp_path / "asked.json").write_text(content, encoding="utf-8")
    found = refused(tmp_path)
    assert found.startswith("data: asked.json")
    assert told in found


def test_a_file_that_is_not_utf_8_is_refused_by_its_first_such_byte(tmp_path: Path) -> None:
    path = write(tmp_path, TOWN) / "asked.json"
    path.write_bytes(path.read_text(encoding="utf-8").replace("{", "{\n", 1).encode("latin-1"))
    told = refused(tmp_path)
    assert "asked.json: is not UTF-8, found byte 0xf6 at place" in told
    assert "in line 2; save it as UTF-8" in told


def test_an_unknown_column_is_answered_by_those_that_there_are(tmp_path: Path) -> None:
    told = refused(write(tmp_path, TOWN), columns={**COLUMNS, "group": "titel"})
    assert told == (
        "data: asked.json has no column 'titel', found id, title, context, question, answers; did "
        "you mean 'title'?"
    )


def test_a_question_without_a_text_is_bad(tmp_path: Path) -> None:
    told = refused(write(tmp_path, RIVER, article("None", "Nothing.", question("d", "", "x"))))
    assert "1 of 3 rows are bad: asked.json row 3 column context, question (prompt)" in told


def test_gathering_what_is_a_list_already_is_refused(tmp_path: Path) -> None:
    told = refused(write(tmp_path, TOWN), gather={"role": "reference"})
    assert told == (
        "data.gather.role: reference holds lists already in asked.json; leave data.gather out"
    )


def test_xquad_s_english_part_as_it_lies(shared_data: Path) -> None:
    table, account = read(shared_data / "squad-xquad-en", "xquad.en.json")
    assert account["rows_out"] == table["example_id"].n_unique() == 1190
    assert table["group"].n_unique() == 48
    assert set(table["reference"].list.len()) == {1}
    first = table.row(0, named=True)
    assert first["prompt"].endswith(
        "two of which were returned for touchdowns.\n"
        "Question: How many points did the Panthers defense surrender?"
    )
    assert first["reference"] == ["308"]
    # Every answer stands in its passage.
    for row in table.select("prompt", "reference").iter_rows():
        assert row[1][0] in row[0].rsplit("\nQuestion: ", 1)[0]


@pytest.mark.parametrize("key", ["prompt", "reference"])
def test_json_lines_may_hold_lists_of_references_alone(key: str, tmp_path: Path) -> None:
    """A list in another role is refused by the name of its column, as before."""
    lines = [{"prompt": ["p"] if key == "prompt" else "p", "reference": ["x", "y", "x"]}] * 3
    path = tmp_path / "asked.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    data = TableData(
        source="table", files="asked.jsonl", columns={"prompt": "prompt", "reference": "reference"}
    )
    source = Table(data, Site(data_root=str(tmp_path)), "results/mine")
    if key == "prompt":
        with pytest.raises(InputError, match="column 'prompt' holds List, expected text"):
            source.read()
    else:
        assert source.read()[0]["reference"].to_list() == [["x", "y"]] * 3


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        ({"prompt": ["a", "b"]}, "columns.prompt: found a list, which only group may be, or a"),
        ({"prompt": {"column": "a", "joined": " "}}, "joined: is set for one column"),
        ({"group": {"column": ["a", "b"], "joined": " "}}, "columns.group: joined makes one text"),
        ({"label": {"column": ["a", "b"], "joined": " "}}, "columns.label: joined makes one text"),
    ],
)
def test_columns_that_cannot_be_joined_are_refused(columns: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        TableData(source="table", files="t.csv", columns=columns)


def test_a_row_that_lacks_a_part_of_a_joined_text_is_bad(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a,b\none,two\none,\n,two\nx,y\n", encoding="utf-8")
    data = TableData(
        source="table", files="t.csv", on_bad_row="drop", max_dropped_share=0.6,
        columns={"text": {"column": ["a", "b"], "joined": " – "}},
    )  # fmt: skip
    table, account = Table(data, Site(data_root=str(tmp_path)), "results/mine").read()
    assert table["text"].to_list() == ["one – two", "x – y"]
    assert account["dropped"] == {"bad_row": 2}
