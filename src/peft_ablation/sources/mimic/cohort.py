"""The cohort: image metadata joined with the CheXpert labels of each image's study.

One SQL file serves two engines: BigQuery as it is, and DuckDB over the CSVs of a MIMIC-CXR-JPG
tree after sqlglot has transpiled it. Both give one canonical table.
"""

import csv
import gzip
import io
import logging
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import polars as pl

from peft_ablation.artifacts import write_json, write_table
from peft_ablation.errors import InputError
from peft_ablation.sources.mimic.labels import LABELS, canonical_label

log = logging.getLogger(__name__)

ORDER: Final = ("subject_id", "study_id", "dicom_id")
"""Sort keys of every table of the chain; dicom_id is unique, so the order is total."""

REASONS: Final = ("null_id", "null_view", "other_view", "no_label_row", "limit")
"""Why a row of the metadata is not in the cohort, in the order in which they are tested."""

SCHEMA: Final[dict[str, type[pl.DataType]]] = {
    "dicom_id": pl.String,
    "subject_id": pl.Int64,
    "study_id": pl.Int64,
    "view_position": pl.String,
    **dict.fromkeys(LABELS, pl.Int8),
}
"""Columns and types of the cohort table; a null label is a finding the report does not mention."""

_NO_LIMIT: Final = 2**63 - 1
_UNREADABLE: Final = (OSError, EOFError, zlib.error, UnicodeDecodeError)


def query_metadata(
    sql: str | Path,
    *,
    metadata: str | Path | None,
    chexpert: str | Path | None,
    views: Sequence[str],
    limit: int | None,
    cloud: Mapping[str, Any] | None,
    output: str | Path,
    account: str | Path,
) -> None:
    """Write the cohort table to `output` and what was dropped, by reason, to `account`.

    Reads BigQuery where `cloud` is given, otherwise the CSVs `metadata` and `chexpert`. Raises
    `InputError` for a file that cannot be read, a missing column, a label value that is not
    -1, 0, 1 or empty, a repeated dicom_id or label row, and for a cohort without rows.
    """
    statement = Path(sql).read_text(encoding="utf-8")
    parameters = {"views": list(views), "limit": _NO_LIMIT if limit is None else limit}
    if cloud is not None:
        where = str(cloud["metadata_table"])
        rows = _run_on_bigquery(statement, parameters, cloud)
    elif metadata is not None and chexpert is not None:
        where = str(metadata)
        rows = run_on_csvs(statement, parameters, metadata, chexpert)
    else:
        raise ValueError("query_metadata needs either cloud or both CSVs")
    check_unique(rows, where)
    kept = rows.filter(pl.col("dropped").is_null()).select(*SCHEMA).sort(ORDER)
    if kept.is_empty():
        raise InputError(_why_empty(rows, views, where))
    counts = account_of(rows, kept)
    write_table(kept, output)
    write_json(account, counts)
    log.info("kept %d of %d images; dropped %s", kept.height, rows.height, counts["dropped"])


def run_on_csvs(
    statement: str,
    parameters: Mapping[str, Any],
    metadata: str | Path,
    chexpert: str | Path,
) -> pl.DataFrame:
    """Run the BigQuery statement with DuckDB over the two CSVs of a tree.

    Returns one row per row of `metadata`: `SCHEMA`, `label_rows` and `dropped` (null where kept).
    """
    import duckdb
    import sqlglot

    tables = {
        "metadata": read_metadata_csv(metadata),
        "chexpert": read_chexpert_csv(chexpert),
    }
    filled = fill_tables(statement, metadata="metadata", chexpert="chexpert")
    (translated,) = sqlglot.transpile(filled, read="bigquery", write="duckdb")
    with duckdb.connect() as connection:
        for name, table in tables.items():
            connection.register(name, table)
        answer = connection.sql(translated, params=dict(parameters))
        rows: pl.DataFrame = answer.pl()
    return _canonical_types(rows)


def _run_on_bigquery(
    statement: str, parameters: Mapping[str, Any], cloud: Mapping[str, Any]
) -> pl.DataFrame:
    from peft_ablation.sources.mimic.bigquery import run_query

    names = {"metadata": cloud["metadata_table"], "chexpert": cloud["chexpert_table"]}
    table = run_query(fill_tables(statement, **names), parameters, cloud)
    rows = pl.DataFrame(pl.from_arrow(table))
    return _canonical_types(checked_labels(rows, str(cloud["chexpert_table"])))


def _canonical_types(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.with_columns(pl.col(name).cast(dtype) for name, dtype in SCHEMA.items())


def fill_tables(statement: str, *, metadata: str, chexpert: str) -> str:
    """Put table names in the place of `{metadata_table}` and `{chexpert_table}`."""
    return statement.replace("{metadata_table}", metadata).replace("{chexpert_table}", chexpert)


def read_metadata_csv(path: str | Path) -> pl.DataFrame:
    """Read dicom_id, subject_id, study_id and ViewPosition of a metadata CSV, gzipped or not."""
    columns = {name: name for name in ("dicom_id", "subject_id", "study_id", "ViewPosition")}
    return _integer_ids(_read_csv(path, columns), path)


def read_chexpert_csv(path: str | Path) -> pl.DataFrame:
    """Read a CheXpert CSV, gzipped or not, under canonical names and with Int8 labels.

    Label columns may be spelt with spaces or underscores, and `Enlarged Cardiomedastinum`.
    """
    columns = {"subject_id": "subject_id", "study_id": "study_id"}
    for column in _header(_read_bytes(path), path):
        label = canonical_label(column)
        if label in columns.values():
            raise InputError(
                f"{path}: label {label} has two columns, {column!r} among them; keep one"
            )
        if label is not None:
            columns[column] = label
    missing = [label for label in LABELS if label not in columns.values()]
    if missing:
        raise InputError(
            f"{path}: no column for label {', '.join(missing)}; expected the 14 CheXpert labels "
            "of mimic-cxr-2.0.0-chexpert.csv.gz, with spaces or underscores"
        )
    table = _read_csv(path, columns).select("subject_id", "study_id", *LABELS)
    return checked_labels(_integer_ids(table, path), path)


def checked_labels(table: pl.DataFrame, where: str | Path) -> pl.DataFrame:
    """Return `table` with its label columns as Int8; raise where one is not -1, 0, 1 or null."""
    numbers = table.select(
        "study_id",
        *(pl.col(label).cast(pl.Float64, strict=False) for label in LABELS),
    )
    for label in LABELS:
        allowed = numbers[label].is_in([-1.0, 0.0, 1.0]).fill_null(False)
        bad = (table[label].is_not_null() & ~allowed).arg_true()
        if len(bad):
            row = int(bad[0])
            raise InputError(
                f"{where}: {label} of study {table['study_id'][row]} is {table[label][row]}, "
                f"expected 1, 0, -1 or empty ({len(bad)} such value{'s' * (len(bad) > 1)})"
            )
    return table.with_columns(numbers[label].cast(pl.Int8) for label in LABELS)


def check_unique(rows: pl.DataFrame, where: str) -> None:
    """Raise where a study has several label rows, or a dicom_id occurs more than once."""
    doubled = rows.filter(pl.col("label_rows") > 1)
    if not doubled.is_empty():
        first = doubled.row(0, named=True)
        raise InputError(
            f"{where}: study {first['study_id']} has {first['label_rows']} rows of CheXpert "
            f"labels, expected one ({doubled['study_id'].n_unique()} such studies); "
            "remove the repeated rows"
        )
    ids = rows["dicom_id"].drop_nulls()
    if ids.n_unique() < len(ids):
        repeated = ids.filter(ids.is_duplicated()).sort()
        raise InputError(
            f"{where}: dicom_id {repeated[0]} occurs {int((repeated == repeated[0]).sum())} times, "
            f"expected once ({repeated.n_unique()} such ids); remove the repeated rows"
        )


def account_of(rows: pl.DataFrame, kept: pl.DataFrame) -> dict[str, Any]:
    """Return what came in, what was kept and why the rest was not, as plain values."""
    dropped = dict(rows["dropped"].drop_nulls().value_counts().iter_rows())
    return {
        "metadata_rows": rows.height,
        "kept_rows": kept.height,
        "dropped": {reason: int(dropped.get(reason, 0)) for reason in REASONS},
        "subjects": kept["subject_id"].n_unique(),
        "studies": kept.select("subject_id", "study_id").n_unique(),
        "views_in_metadata": _views(rows),
        "views_kept": _views(kept),
        "positives": {label: int((kept[label] == 1).sum()) for label in LABELS},
    }


def _views(rows: pl.DataFrame) -> dict[str, int]:
    counts = rows["view_position"].fill_null("(empty)").value_counts()
    return {view: int(count) for view, count in counts.sort("view_position").iter_rows()}


def _why_empty(rows: pl.DataFrame, views: Sequence[str], where: str) -> str:
    wanted = " or ".join(views)
    if rows.is_empty():
        return f"{where}: no rows, expected one an image"
    unlabelled = int((rows["dropped"] == "no_label_row").sum())
    if unlabelled:
        return (
            f"{where}: none of the {unlabelled} images of view {wanted} has a row of CheXpert "
            "labels with its subject_id and study_id; are both tables of one release?"
        )
    existing = sorted(_views(rows).items(), key=lambda item: (-item[1], item[0]))
    found = ", ".join(f"{view} {count}" for view, count in existing[:12])
    return f"{where}: no image of view {wanted}; found {found}; set data.views to some of them"


def _read_bytes(path: str | Path) -> bytes:
    """Return the CSV's text; the whole gzip stream is read, so its checksum has been verified."""
    try:
        raw = Path(path).read_bytes()
        return gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw
    except _UNREADABLE as error:
        raise InputError(
            f"{path}: cannot be read ({_first_line(error)}); fetch the file again"
        ) from None


def _header(content: bytes, path: str | Path) -> list[str]:
    line = content.split(b"\n", 1)[0]
    try:
        names = next(csv.reader([line.decode("utf-8-sig").rstrip("\r")]), [])
    except UnicodeDecodeError:
        raise InputError(f"{path}: not a CSV file in UTF-8; fetch the file again") from None
    if not names:
        raise InputError(f"{path}: empty, expected a CSV file with a header; fetch it again")
    return names


def _read_csv(path: str | Path, columns: Mapping[str, str]) -> pl.DataFrame:
    """Read the named columns as strings, renamed by `columns`; empty cells are null."""
    content = _read_bytes(path)
    header = _header(content, path)
    missing = [column for column in columns if column not in header]
    if missing:
        raise InputError(
            f"{path}: no column {', '.join(missing)}; found {', '.join(header[:8])}"
            f"{' …' * (len(header) > 8)}"
        )
    try:
        table = pl.read_csv(io.BytesIO(content), columns=list(columns), infer_schema=False)
    except pl.exceptions.PolarsError as error:
        raise InputError(
            f"{path}: not a well-formed CSV file ({_first_line(error)}); fetch the file again"
        ) from None
    return table.rename(dict(columns))


def _integer_ids(table: pl.DataFrame, where: str | Path) -> pl.DataFrame:
    for column in ("subject_id", "study_id"):
        number = table[column].cast(pl.Int64, strict=False)
        bad = (table[column].is_not_null() & number.is_null()).arg_true()
        if len(bad):
            raise InputError(
                f"{where}: {column} in row {int(bad[0]) + 2} is {table[column][int(bad[0])]!r}, "
                "expected an integer"
            )
        table = table.with_columns(number)
    return table


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].strip()
