"""The query over CSVs and over a stand-in for BigQuery, its account and its refusals."""

import csv
import gzip
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType

import duckdb
import polars as pl
import pytest
import sqlglot

from peft_ablation.artifacts import read_json
from peft_ablation.errors import InputError
from peft_ablation.sources.mimic.cohort import query_metadata
from peft_ablation.sources.mimic.labels import LABELS

SQL = Path(__file__).resolve().parents[3] / "resources" / "query_metadata.sql"

# dicom_id, subject_id, study_id, ViewPosition: not in the order of the query.
IMAGES = [
    ("d", "20", "7", "AP"),
    ("c", "9", "3", "PA"),
    ("b", "9", "3", "LATERAL"),
    ("a", "20", "6", "PA"),
    ("e", "20", "6", ""),
    ("f", "20", "", "PA"),
    ("g", "30", "8", "AP"),
]
# Study 8 has no row; study 3 mentions edema; the third column of labels is Enlarged.
LABELS_OF = {
    ("20", "7"): {"Edema": "1.0", "No_Finding": ""},
    ("9", "3"): {"Edema": "-1.0", "Enlarged_Cardiomediastinum": "0.0"},
    ("20", "6"): {"No_Finding": "1.0"},
}


def write_csv(path: Path, rows: list[list[str]]) -> Path:
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "wt", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    return path


def write_tree(folder, images=IMAGES, labels=LABELS_OF, spell=lambda name: name.replace("_", " ")):
    metadata = [
        ["dicom_id", "subject_id", "study_id", "PerformedProcedureStepDescription", "ViewPosition"],
        *(
            [dicom, subject, study, 'CHEST, "2 VIEWS"', view]
            for dicom, subject, study, view in images
        ),
    ]
    chexpert = [
        ["subject_id", "study_id", *map(spell, LABELS)],
        *([*ids, *(values.get(label, "") for label in LABELS)] for ids, values in labels.items()),
    ]
    return (
        write_csv(folder / "mimic-cxr-2.0.0-metadata.csv.gz", metadata),
        write_csv(folder / "mimic-cxr-2.0.0-chexpert.csv.gz", chexpert),
    )


def query(folder, tables, views=("AP", "PA"), limit=None, cloud=None):
    metadata, chexpert = tables
    query_metadata(
        SQL,
        metadata=metadata,
        chexpert=chexpert,
        views=list(views),
        limit=limit,
        cloud=cloud,
        output=folder / "metadata.parquet",
        account=folder / "metadata.json",
    )
    return pl.read_parquet(folder / "metadata.parquet"), read_json(folder / "metadata.json")


def refusal(folder, *args, **kwargs) -> str:
    """Return the one line of the refusal, having checked that nothing was written."""
    with pytest.raises(InputError) as error:
        query(folder, *args, **kwargs)
    assert "\n" not in str(error.value)
    assert not (folder / "metadata.parquet").exists()
    assert not (folder / "metadata.json").exists()
    return str(error.value)


def test_join_order_and_types_by_hand(tmp_path):
    table, _ = query(tmp_path, write_tree(tmp_path))
    assert table["dicom_id"].to_list() == ["c", "a", "d"]  # subject 9 before 20, as numbers
    assert table["view_position"].to_list() == ["PA", "PA", "AP"]
    assert table["Edema"].to_list() == [-1, None, 1]
    assert table["Enlarged_Cardiomediastinum"].to_list() == [0, None, None]
    assert table["No_Finding"].to_list() == [None, 1, None]
    assert table.columns == ["dicom_id", "subject_id", "study_id", "view_position", *LABELS]
    assert table.schema["subject_id"] == pl.Int64
    assert {table.schema[label] for label in LABELS} == {pl.Int8}


def test_every_dropped_row_has_a_reason(tmp_path):
    _, account = query(tmp_path, write_tree(tmp_path), limit=2)
    assert account["metadata_rows"] == 7
    assert account["kept_rows"] == 2
    assert account["dropped"] == {
        "limit": 1,
        "no_label_row": 1,
        "null_id": 1,
        "null_view": 1,
        "other_view": 1,
    }
    assert account["views_in_metadata"] == {"(empty)": 1, "AP": 2, "LATERAL": 1, "PA": 3}
    assert account["positives"]["No_Finding"] == 1
    assert account["positives"]["Edema"] == 0


def test_account_counts_subjects_studies_and_views_of_what_is_kept(tmp_path):
    images = [*IMAGES, ("h", "20", "6", "AP")]
    _, account = query(tmp_path, write_tree(tmp_path, images=images))
    assert account["kept_rows"] == 4  # c of study 3, a and h of study 6, d of study 7
    assert (account["subjects"], account["studies"]) == (2, 3)
    assert account["views_kept"] == {"AP": 2, "PA": 2}


def test_mark_of_byte_order_is_no_part_of_the_first_column(tmp_path):
    """As Excel and Windows write UTF-8."""
    expected, _ = query(tmp_path, write_tree(tmp_path))
    marked = []
    for path in write_tree(tmp_path):
        marked.append(path.with_suffix(""))
        marked[-1].write_bytes(b"\xef\xbb\xbf" + gzip.decompress(path.read_bytes()))
    assert query(tmp_path, marked)[0].equals(expected)


def test_limit_keeps_the_first_rows_whatever_the_order_of_the_file(tmp_path):
    first, _ = query(tmp_path, write_tree(tmp_path), limit=2)
    again, _ = query(tmp_path, write_tree(tmp_path, images=IMAGES[::-1]), limit=2)
    assert first["dicom_id"].to_list() == ["c", "a"]
    assert first.equals(again)


@pytest.mark.parametrize(
    "spell",
    [
        lambda name: name,
        lambda name: name.replace("Cardiomediastinum", "Cardiomedastinum"),
        lambda name: name.replace("Cardiomediastinum", "Cardiomedastinum").replace("_", " "),
    ],
    ids=["underscores", "misspelt", "misspelt, spaces"],
)
def test_every_spelling_ends_as_one_schema(tmp_path, spell):
    expected, _ = query(tmp_path, write_tree(tmp_path))
    table, _ = query(tmp_path, write_tree(tmp_path, spell=spell))
    assert table.equals(expected)


def test_uncompressed_csv_is_read_too(tmp_path):
    tables = write_tree(tmp_path)
    plain = []
    for path in tables:
        plain.append(path.with_suffix(""))
        plain[-1].write_bytes(gzip.decompress(path.read_bytes()))
    assert query(tmp_path, plain)[0].equals(query(tmp_path, tables)[0])


def test_same_sql_serves_bigquery(tmp_path, monkeypatch):
    """A stand-in for BigQuery: qualified names, FLOAT64 labels, no null parameter."""
    expected, expected_account = query(tmp_path, write_tree(tmp_path), limit=2)
    seen = {}

    def run_query(sql, parameters, cloud):
        seen.update(parameters)
        connection = duckdb.connect()
        connection.execute('ATTACH \':memory:\' AS "some-project"; CREATE SCHEMA "some-project".x')
        connection.execute(
            'CREATE TABLE "some-project".x.metadata AS SELECT * FROM (VALUES '
            + ", ".join(
                f"('{d}', {subject}, {study or 'NULL'}::BIGINT, "
                + (f"'{view}')" if view else "NULL)")
                for d, subject, study, view in IMAGES
            )
            + ") AS t(dicom_id, subject_id, study_id, ViewPosition)"
        )
        columns = ", ".join(f"{label} DOUBLE" for label in LABELS)
        connection.execute(
            'CREATE TABLE "some-project".x.chexpert '
            f"(subject_id BIGINT, study_id BIGINT, {columns})"
        )
        for ids, values in LABELS_OF.items():
            cells = [*ids, *(values.get(label) or None for label in LABELS)]
            connection.execute(
                f'INSERT INTO "some-project".x.chexpert VALUES ({", ".join("?" * 16)})', cells
            )
        (translated,) = sqlglot.transpile(sql, read="bigquery", write="duckdb")
        return connection.sql(translated, params=dict(parameters)).to_arrow_table()

    fake = ModuleType("peft_ablation.sources.mimic.bigquery")
    fake.run_query = run_query
    monkeypatch.setitem(sys.modules, "peft_ablation.sources.mimic.bigquery", fake)
    cloud = {
        "metadata_table": "some-project.x.metadata",
        "chexpert_table": "some-project.x.chexpert",
    }
    table, account = query(tmp_path, (None, None), limit=2, cloud=cloud)
    assert table.equals(expected)
    assert account == expected_account
    assert seen == {"views": ["AP", "PA"], "limit": 2}
    query(tmp_path, (None, None), cloud=cloud)
    assert isinstance(seen["limit"], int)


def test_sql_is_bigquery_with_a_total_order():
    statement = SQL.read_text(encoding="utf-8")
    tree = sqlglot.parse_one(statement, read="bigquery")
    assert [ordered.this.name for ordered in tree.args["order"].expressions] == [
        "subject_id",
        "study_id",
        "dicom_id",
    ]
    assert {p.name for p in tree.find_all(sqlglot.exp.Parameter)} == {"views", "limit"}


@pytest.mark.parametrize(
    ("value", "shown"), [("2.0", "2"), ("2", "2"), ("0.5", "0.5"), ("yes", "yes"), ("nan", "nan")]
)
def test_other_label_value_is_refused(tmp_path, value, shown):
    labels = LABELS_OF | {("20", "6"): {"Pleural_Other": value}}
    line = refusal(tmp_path, write_tree(tmp_path, labels=labels))
    assert "Pleural_Other of study 6" in line
    assert shown in line
    assert "chexpert.csv.gz" in line


def test_missing_columns_are_refused(tmp_path):
    metadata, chexpert = write_tree(tmp_path)
    other = tmp_path / "other.csv"
    pl.read_csv(chexpert).drop("Lung Lesion").write_csv(other)
    assert "Lung_Lesion" in refusal(tmp_path, (metadata, other))
    pl.read_csv(chexpert).drop("study_id").write_csv(other)
    assert "study_id" in refusal(tmp_path, (metadata, other))
    pl.read_csv(metadata).drop("ViewPosition").write_csv(other)
    assert "ViewPosition" in refusal(tmp_path, (other, chexpert))


def test_label_in_two_columns_is_refused(tmp_path):
    metadata, chexpert = write_tree(tmp_path)
    other = tmp_path / "other.csv"
    pl.read_csv(chexpert).with_columns(Lung_Lesion=pl.lit(None)).write_csv(other)
    assert "Lung_Lesion has two columns" in refusal(tmp_path, (metadata, other))


def test_repeated_dicom_id_is_refused(tmp_path):
    line = refusal(tmp_path, write_tree(tmp_path, images=[*IMAGES, ("a", "9", "3", "PA")]))
    assert "dicom_id a occurs 2 times" in line


def test_study_with_two_label_rows_is_refused(tmp_path):
    metadata, chexpert = write_tree(tmp_path)
    doubled = pl.read_csv(chexpert, infer_schema=False)
    doubled = pl.concat([doubled, doubled.head(1)])
    doubled.write_csv(tmp_path / "doubled.csv")
    assert "study 7 has 2 rows" in refusal(tmp_path, (metadata, tmp_path / "doubled.csv"))


def test_no_row_of_the_wanted_views_tells_which_exist(tmp_path):
    line = refusal(tmp_path, write_tree(tmp_path), views=["LL", "SWIMMERS"])
    assert "LL or SWIMMERS" in line
    assert "PA 3, AP 2, (empty) 1, LATERAL 1" in line


def test_no_label_row_at_all_is_told_apart(tmp_path):
    line = refusal(tmp_path, write_tree(tmp_path, labels={("1", "1"): {}}))
    assert "none of the 4 images" in line


def test_id_that_is_no_integer_is_refused(tmp_path):
    line = refusal(tmp_path, write_tree(tmp_path, images=[*IMAGES, ("z", "p10", "3", "PA")]))
    assert "subject_id in row 9 is 'p10'" in line


def _truncate(content: bytes) -> bytes:
    return content[:-40]


def _flip(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 0xFF]) + content[middle + 1 :]


@pytest.mark.parametrize(
    "damage",
    [
        _truncate,
        _flip,
        lambda content: b"",
        lambda content: gzip.compress(b""),
        lambda content: b"\x89PNG\r\n\x1a\n\x00\xff\xfe",
        lambda content: gzip.compress(gzip.decompress(content) + b'x,"never closed\n'),
    ],
    ids=["truncated", "flipped byte", "empty", "empty gzip", "not a CSV", "open quote"],
)
@pytest.mark.parametrize("which", [0, 1], ids=["metadata", "chexpert"])
def test_damaged_file_is_named(tmp_path, damage, which):
    tables = write_tree(tmp_path)
    tables[which].write_bytes(damage(tables[which].read_bytes()))
    assert refusal(tmp_path, tables).startswith(str(tables[which]))


def test_missing_file_is_named(tmp_path):
    metadata, chexpert = write_tree(tmp_path)
    chexpert.unlink()
    assert str(chexpert) in refusal(tmp_path, (metadata, chexpert))


def test_real_tree_counts_agree_with_its_csvs(tmp_path, shared_data):
    """Counted here by the standard library alone, from the files as they are."""
    root = shared_data / "nih-cxr-mimic-layout"
    tables = tuple(root / f"mimic-cxr-2.0.0-{name}.csv.gz" for name in ("metadata", "chexpert"))
    table, account = query(tmp_path, tables, views=["PA"])
    with gzip.open(tables[0], "rt", newline="") as file:
        images = [
            (row["subject_id"], row["study_id"], row["ViewPosition"])
            for row in csv.DictReader(file)
        ]
    with gzip.open(tables[1], "rt", newline="") as file:
        studies = {(row["subject_id"], row["study_id"]): row for row in csv.DictReader(file)}
    positives = Counter()
    for subject, study, view in images:
        if view == "PA":
            row = studies[subject, study]
            found = (name for name in LABELS if row[name.replace("_", " ")] in ("1", "1.0"))
            positives.update(found)
    views = Counter(view for *_, view in images)
    assert account["positives"] == {label: positives[label] for label in LABELS}
    assert sum(positives.values()) > 0
    assert table.height == views["PA"]
    assert account["dropped"]["other_view"] == views["AP"]
