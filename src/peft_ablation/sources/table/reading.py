"""One file of a table: its wanted columns as they stand in it, or one line on why not."""

import csv
import io
import json
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import polars as pl

from peft_ablation.data.google_access import scrubbed
from peft_ablation.data.storage import BadObject, read_objects
from peft_ablation.errors import InputError, near_miss
from peft_ablation.sources.table.location import on_disk
from peft_ablation.sources.table.squad import COLUMNS as SQUAD_COLUMNS
from peft_ablation.sources.table.squad import squad_rows

SEPARATORS: Final = {"csv": ",", "tsv": "\t"}
SHOWN: Final = 30
"""Most names of columns that a message lists."""
_BOM: Final = b"\xef\xbb\xbf"


def read_file(
    file: str,
    place: str,
    columns: Sequence[str | int],
    *,
    kind: str,
    header: bool = True,
    quotes: bool | None = None,
) -> pl.DataFrame:
    """Return the wanted columns of a file, named by `columns` written as text.

    `file` is what messages call it and `place` where it lies, a path or URL. `kind` is csv, tsv,
    parquet, jsonl or squad; `columns` are names, or places from 1 on. Columns of CSV and TSV are
    text, an empty field null; `quotes` says whether quote marks enclose their fields (null: in
    CSV). A byte order mark is no text. A line without any field is a row of nulls.

    Raises `InputError` for a file that cannot be read, is not UTF-8 or not of its kind, a line of
    too many fields, and a column that it lacks.
    """
    source, enclosed = _source(file, place), _enclosed(kind, quotes)
    with _told(file, source, kind, enclosed):
        found = _found(source, kind, header, enclosed)
        wanted = _named(file, found, columns, numbered=not header and kind in SEPARATORS)
        if kind == "parquet":
            table = pl.read_parquet(_fresh(source), columns=sorted(set(wanted.values())))
        elif kind == "jsonl":
            table = _json_lines(source)
        elif kind == "squad":
            table = squad_rows(file, _decoded(file, source))
        else:
            places = sorted({found.index(name) for name in wanted.values()})
            table = pl.read_csv(_fresh(source), columns=places, **_options(kind, header, enclosed))
            table.columns = [found[place] for place in places]
    return table.select(pl.col(name).alias(str(column)) for column, name in wanted.items())


def columns_of(
    file: str, place: str, *, kind: str, header: bool = True, quotes: bool | None = None
) -> list[str]:
    """Return the names of a file's columns, in order; arguments and errors as of `read_file`.

    Without `header` there are none: the list then says how many columns there are.
    """
    source = _source(file, place)
    with _told(file, source, kind, _enclosed(kind, quotes)):
        return _found(source, kind, header, _enclosed(kind, quotes))


def file_bytes(file: str, place: str) -> bytes:
    """Return a whole file, wherever it lies; raises `InputError` where it cannot be read."""
    source = _source(file, place)
    return source.read_bytes() if isinstance(source, Path) else source


def _source(file: str, place: str) -> Path | bytes:
    """Return the path of a local file, the bytes of any other."""
    if "://" not in place:
        return Path(place)
    *chain, last = place.split("::")
    remote = None if on_disk(last) else _fetched(file, last)
    if remote is not None and not chain:
        return remote
    # An archive from elsewhere is fetched whole: not every server gives parts of a file.
    with tempfile.NamedTemporaryFile() as archive:
        archive.write(remote or b"")
        archive.flush()
        return _opened(file, place if remote is None else "::".join([*chain, archive.name]))


def _fetched(file: str, url: str) -> bytes:
    root, _, name = url.rpartition("/")
    ((_, found),) = read_objects(root, [name], verify=False)
    if isinstance(found, BadObject):
        raise InputError(f"data: {file}: {found.detail} ({found.status}); check data.files")
    return found


def _opened(file: str, place: str) -> bytes:
    import fsspec

    try:
        with fsspec.open(place, "rb") as opened:
            data: bytes = opened.read()
            return data
    # Each file system of a chain has exceptions of its own.
    except Exception as error:
        told = scrubbed(error) or type(error).__name__
        raise InputError(
            f"data: {file}: cannot be read ({type(error).__name__}: {told}); check data.files"
        ) from None


def _enclosed(kind: str, quotes: bool | None) -> bool:
    return kind == "csv" if quotes is None else quotes


@contextmanager
def _told(file: str, source: Path | bytes, kind: str, enclosed: bool) -> Iterator[None]:
    """Turn what polars says of a file into one line without a word of its text."""
    try:
        yield
    except pl.exceptions.NoDataError:
        raise InputError(f"data: {file} is empty, expected rows") from None
    except pl.exceptions.PolarsError:
        raise InputError(f"data: {file}: {_why_not(source, kind, enclosed)}") from None


def _found(source: Path | bytes, kind: str, header: bool, enclosed: bool) -> list[str]:
    """Return the names of all columns; those of a file without header mean nothing."""
    if kind == "parquet":
        return list(pl.read_parquet_schema(_fresh(source)))
    if kind == "jsonl":
        return _json_lines(source).columns
    if kind == "squad":
        return list(SQUAD_COLUMNS)
    return pl.read_csv(_fresh(source), n_rows=1, **_options(kind, header, enclosed)).columns


def _options(kind: str, header: bool, enclosed: bool) -> dict[str, Any]:
    return {
        "separator": SEPARATORS[kind],
        "quote_char": '"' if enclosed else None,
        "has_header": header,
        "infer_schema": False,
    }


def _json_lines(source: Path | bytes) -> pl.DataFrame:
    data = source.read_bytes() if isinstance(source, Path) else source
    return pl.read_ndjson(data.removeprefix(_BOM), infer_schema_length=None)


def _decoded(file: str, source: Path | bytes) -> str:
    data = source.read_bytes() if isinstance(source, Path) else source
    data = data.removeprefix(_BOM)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"data: {file}: {_not_utf8(data, error)}") from None


def _not_utf8(data: bytes, error: UnicodeDecodeError) -> str:
    row = data.count(b"\n", 0, error.start) + 1
    return (
        f"is not UTF-8, found byte 0x{data[error.start]:02x} at place {error.start} in line "
        f"{row}; save it as UTF-8"
    )


def _fresh(source: Path | bytes) -> Path | io.BytesIO:
    return source if isinstance(source, Path) else io.BytesIO(source)


def _named(
    file: str, found: Sequence[str], columns: Sequence[str | int], numbered: bool = False
) -> dict[str | int, str]:
    """Return the name in the file of each wanted column."""
    named: dict[str | int, str] = {}
    told = f"{len(found)} columns" if numbered else ", ".join(found[:SHOWN])
    told += f" and {len(found) - SHOWN} more" if len(found) > SHOWN and not numbered else ""
    for column in columns:
        if isinstance(column, int):
            if column > len(found):
                raise InputError(
                    f"data: {file} has no column {column}, found {len(found)} columns; columns "
                    "are counted from 1"
                )
            named[column] = found[column - 1]
        elif numbered or column not in found:
            more = "; data.header is false: name columns by their place, from 1 on"
            raise InputError(
                f"data: {file} has no column {column!r}, found {told}"
                f"{more if numbered else near_miss(column, found)}"
            )
        elif f"{column}_duplicated_0" in found:
            raise InputError(
                f"data: {file} has two columns {column!r}; name the right one by its place, from 1 "
                "on"
            )
        else:
            named[column] = column
    return named


def _why_not(source: Path | bytes, kind: str, enclosed: bool) -> str:
    """Say why a file could not be read, without a word of its text."""
    if kind == "parquet":
        return "is no whole Parquet file; restore it, or say with data.format what it is"
    data = source.read_bytes() if isinstance(source, Path) else source
    if data[:2] == b"\x1f\x8b":
        import gzip

        data = gzip.decompress(data)
    data = data.removeprefix(_BOM)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        return _not_utf8(data, error)
    if kind == "jsonl":
        return _bad_json_line(text)
    # No newline translation: quoted fields hold line ends as they are.
    lines = csv.reader(
        io.StringIO(text, newline=""),
        delimiter=SEPARATORS[kind],
        quoting=csv.QUOTE_MINIMAL if enclosed else csv.QUOTE_NONE,
    )
    width = 0
    try:
        for number, line in enumerate(lines, 1):
            width = width or len(line)
            if len(line) > width:
                told = "quotes enclose fields" if enclosed else "quotes are text"
                return (
                    f"has {len(line)} fields in row {number}, expected {width} as in the first "
                    f"({told}: see data.quotes)"
                )
    except csv.Error:
        pass
    return (
        f"cannot be read as {kind.upper()}: is there a quote mark that no other closes? Where "
        "quotes are text, set data.quotes: false"
    )


def _bad_json_line(text: str) -> str:
    for number, line in enumerate(text.splitlines(), 1):
        try:
            found = json.loads(line) if line.strip() else {}
        except json.JSONDecodeError:
            return f"is not JSON in line {number}, expected one object a line"
        if not isinstance(found, dict):
            return f"has no JSON object in line {number}, expected one a line"
    return "cannot be read as JSON lines; expected one object a line"
