"""Rows of files become examples: each role typed, bad rows named, the rest counted."""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl

from peft_ablation.data import NAMED_COLUMNS
from peft_ablation.data.examples import SPLITS
from peft_ablation.data.storage import is_local
from peft_ablation.errors import InputError, near_miss
from peft_ablation.sources.table import LISTS, NUMBERS, Column, Gather, TableData
from peft_ablation.sources.table.reading import read_file

NAMED_ROWS: Final = 10
"""Most bad rows that a message names; the rest it counts."""
QUANTILES: Final = 10
"""Parts into which a score is divided for the balance of splits."""
SPLIT_WORDS: Final = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val",
    "dev": "val", "test": "test",
}  # fmt: skip
"""What splits are called in tables, in lower case."""
SHOWN: Final = ("label", "score", "split")
"""Roles whose found values messages show; others may hold what nobody else should read."""
_LEAVES: Final = r"^[/\\]|^[A-Za-z]:[/\\]|(^|[/\\])\.\.([/\\]|$)|://"
"""Paths that are not inside of a root as they are written."""


@dataclass(frozen=True)
class Problem:
    """What is wrong with some rows of a role."""

    rows: pl.Series
    """Bool: the rows."""
    role: str
    found: pl.Series | None
    """Text that stands there; None: not to be shown."""
    expected: str


def read_rows(
    files: Sequence[tuple[str | None, str, str]], settings: TableData, *, root: str | None
) -> tuple[pl.DataFrame, dict[str, Any]]:
    """Return the examples table of files, and an account of it.

    `files` are split (None where the files give none), name and place of each. Columns are the
    roles of `settings.columns`, all text but for `score` (Float64), `balance` (a list) and what
    `LISTS` names where files have lists, in the order of files and rows. Without a role
    `example_id` it is file and row, without `group` the `example_id`, without `balance` the label
    or a tenth of the score. A row is counted from 1, the header of CSV and TSV among them, as
    spreadsheets do.

    Raises `InputError` for a file that `read_file` refuses, bad rows, hidden labels of -1, repeated
    ids, and no rows at all.
    """
    dropped: Counter[str] = Counter()
    parts, problems = [], []
    told: list[dict[str, Any]] = []
    for split, file, place in files:
        kind = settings.format_of(file)
        columns = list(dict.fromkeys(n for c in settings.columns.values() for n in c.columns))
        raw = read_file(
            file, place, columns, kind=kind, header=settings.header, quotes=settings.quotes
        )
        first = 2 if kind in ("csv", "tsv") and settings.header else 1
        raw = raw.with_row_index("#row", first).filter(
            ~pl.all_horizontal(pl.col(map(str, columns)).is_null())
        )
        told.append({"file": file, "split": split, "rows": raw.height})
        part, bad, unmatched = _roles(raw, file, settings, root)
        dropped["no_match"] += int(unmatched.sum())
        if split is not None:
            part = part.with_columns(pl.lit(split).alias("split"))
        part = part.with_columns(pl.lit(file).alias("#file"), raw["#row"].alias("#row"))
        wrong = _any(part.height, [problem.rows for problem in bad])
        if bad:
            problems.append((file, raw["#row"], [p for p in bad if p.rows.any()]))
        dropped["bad_row"] += int((wrong & ~unmatched).sum())
        parts.append(part.filter(~(wrong | unmatched)))
    if dropped["bad_row"]:
        _refuse(problems, dropped["bad_row"], sum(part["rows"] for part in told), settings)
    table = pl.concat(parts)
    if table.is_empty():
        left = f" ({dropped['no_match']} without a match)" if dropped["no_match"] else ""
        raise InputError(
            f"data: {', '.join(file for _, file, _ in files)}: no row is left{left}, expected at "
            "least three, one a split"
        )
    table = _with_ids(table)
    if any(column.alike == "any" for column in settings.columns.values()):
        table = table.with_columns(_connected(table).alias("group"))
    if isinstance(settings.limit, int):
        table, dropped["limit"] = _limited(table, settings.limit)
    if settings.gather is not None:
        if isinstance(table.schema[settings.gather.role], pl.List):
            raise InputError(
                f"data.gather.role: {settings.gather.role} holds lists already in "
                f"{files[0][1]}; leave data.gather out"
            )
        rows = table.height
        table = _gathered(table, settings.gather)
        dropped["gathered"] = rows - table.height
    if isinstance(settings.limit, dict):
        # What a split has beyond its limit goes: of gathered rows the whole example.
        numbered = table.with_row_index("#place")
        limits = {str(split): most for split, most in settings.limit.items()}
        kept = [_limited(numbered.filter(split=split), limits.get(split)) for split in SPLITS]
        table = pl.concat([part for part, _ in kept]).sort("#place").drop("#place")
        dropped["limit"] = sum(left for _, left in kept)
    table = table.with_columns(_balance(table, settings).alias("balance"))
    first_columns = [name for name in NAMED_COLUMNS if name in table.columns]
    others = [role for role in settings.columns if role not in NAMED_COLUMNS]
    account = {
        "rows_in": sum(part["rows"] for part in told),
        "rows_out": table.height,
        "dropped": {reason: count for reason, count in sorted(dropped.items()) if count},
        "files": told,
        "columns": {role: column.column for role, column in settings.columns.items()},
    }
    if "label" in table.columns:
        account["classes"] = dict(sorted(Counter(table["label"]).items()))
    if "split" in table.columns:
        account["splits"] = {split: int((table["split"] == split).sum()) for split in SPLITS}
    return table.select(*first_columns, *others), account


def _limited(table: pl.DataFrame, limit: int | None) -> tuple[pl.DataFrame, int]:
    """Return at most so many rows, drawn by a fixed seed, in their order; and how many are left."""
    if limit is None or limit >= table.height:
        return table, 0
    drawn = np.random.default_rng(0).choice(table.height, limit, replace=False)
    return table[np.sort(drawn)], table.height - limit


def _any(height: int, masks: Sequence[pl.Series]) -> pl.Series:
    found = pl.Series(np.zeros(height, dtype=np.bool_))
    for mask in masks:
        found = found | mask
    return found


def _roles(
    raw: pl.DataFrame, file: str, settings: TableData, root: str | None
) -> tuple[pl.DataFrame, list[Problem], pl.Series]:
    """Return a file's roles, what is wrong with them, and which rows have no match to extract."""
    values: dict[str, pl.Series] = {}
    problems: list[Problem] = []
    unmatched = _any(raw.height, [])
    for role, column in settings.columns.items():
        if role == "balance" and _is_list(raw, column):
            values[role] = raw[str(column.column)]
            continue
        if role in LISTS and _is_list(raw, column):
            values[role], lacking = _several(raw[str(column.column)], role)
            problems.append(Problem(lacking, role, None, "a list of texts"))
            continue
        texts = [_text(raw[str(name)], file, str(name)) for name in column.columns]
        value = texts[0] if len(texts) == 1 else _joined(texts, column.joined)
        if role in ("label", "split", "score", "image"):
            value = value.str.strip_chars()
        if column.extract is not None:
            taken = _extracted(value, role, column.extract)
            unmatched = unmatched | (value.is_not_null() & taken.is_null())
            value = taken
        if column.alike == "any":
            values |= {f"#alike {k}": text.alias(f"#alike {k}") for k, text in enumerate(texts)}
        missing = value.is_null() | (value.str.len_bytes() == 0)
        read = value
        if role == "label" and "-1" not in (column.names or {}):
            _refuse_hidden(value, file)
        if column.names is not None or role == "split":
            read = _translated(value, role, column.names)
            expected = f"one of {', '.join(column.names or SPLIT_WORDS)}"
            problems.append(_problem(read.is_null() & ~missing, role, value, expected))
        if role in NUMBERS or (role == "balance" and column.quantiles):
            read = value.cast(pl.Float64, strict=False)
            odd = (read.is_null() | ~read.is_finite().fill_null(False)) & ~missing
            problems.append(_problem(odd, role, value, "a finite number"))
        if role == "image":
            outside = value.str.contains(_LEAVES) & ~missing
            problems.append(_problem(outside, role, value, "a path inside of data_root"))
            problems.append(
                _problem(
                    _linked_out(value, outside | missing, root),
                    role,
                    value,
                    "a path inside of data_root, not a link that leaves it",
                )
            )
        if role != "balance":
            problems.append(Problem(missing & ~unmatched, role, None, "a value"))
        values[role] = read.alias(role)
    return pl.DataFrame(values), problems, unmatched


def _problem(rows: pl.Series, role: str, found: pl.Series, expected: str) -> Problem:
    return Problem(rows.fill_null(False), role, found if role in SHOWN else None, expected)


def _is_list(raw: pl.DataFrame, column: Column) -> bool:
    return isinstance(raw.schema[str(column.column)], pl.List | pl.Array)


def _text(values: pl.Series, file: str, name: str) -> pl.Series:
    """Return values as text; whole numbers and truth values as they are written."""
    kind = values.dtype
    if kind == pl.String:
        return values
    if kind.is_float() and (values == values.round()).all():
        values = values.cast(pl.Int64)
    if kind.is_numeric() or kind == pl.Boolean or isinstance(kind, pl.Categorical | pl.Enum):
        return values.cast(pl.String)
    if kind == pl.Null:
        return values.cast(pl.String)
    raise InputError(
        f"data: {file}: column {name!r} holds {str(kind).split('(')[0]}, expected text or numbers; "
        "write its values as text, image files as paths"
    )


def _several(lists: pl.Series, role: str) -> tuple[pl.Series, pl.Series]:
    """Return lists with each text once, and which of them lack a text."""
    empty = pl.element().is_null() | (pl.element().str.strip_chars() == "")
    table = pl.DataFrame({role: lists.cast(pl.List(pl.String))}).select(
        pl.col(role).list.unique(maintain_order=True),
        lacking=(pl.col(role).list.len() == 0) | pl.col(role).list.eval(empty).list.any(),
    )
    return table[role], table["lacking"].fill_null(True)


def _joined(texts: Sequence[pl.Series], between: str | None = None) -> pl.Series:
    """Return one text for several; null where one is null.

    Without `between` it is different where any of them is, with it null also where one is empty.
    """
    if between is not None:
        table = pl.DataFrame([text.alias(str(n)) for n, text in enumerate(texts)])
        whole = pl.when(pl.all_horizontal(pl.all() != ""))
        joined = whole.then(pl.concat_str(pl.all(), separator=between))
        return table.select(joined.alias("joined")).to_series()
    parts = [
        text.str.replace_all("|", "||", literal=True).alias(str(n)) for n, text in enumerate(texts)
    ]
    return pl.DataFrame(parts).select(pl.concat_str(pl.all(), separator=" | ")).to_series()


def _connected(table: pl.DataFrame) -> pl.Series:
    """Return one group for all rows that share a value, directly or by way of others.

    It is the `example_id` of its first row.
    """
    columns = [name for name in table.columns if name.startswith("#alike ")]
    values = pl.concat([table[name].alias("value") for name in columns])
    codes = values.rank("dense").to_numpy().astype(np.int64).reshape(len(columns), -1) - 1
    least = np.arange(table.height)
    while True:
        by_value = np.full(codes.max() + 1, table.height)
        for code in codes:
            np.minimum.at(by_value, code, least)
        lower = by_value[codes].min(axis=0)
        lower = lower[lower]
        if (lower == least).all():
            return table["example_id"].gather(least)
        least = lower


def _extracted(value: pl.Series, role: str, pattern: str) -> pl.Series:
    try:
        return value.str.extract(pattern, 1)
    except pl.exceptions.ComputeError:
        raise InputError(
            f"data.columns.{role}.extract: {pattern!r} is no pattern of Rust's regex, which has no "
            "look-around and no back-references"
        ) from None


def _translated(value: pl.Series, role: str, names: Mapping[str, str] | None) -> pl.Series:
    """Return what values are called, null for those that have no name."""
    if role == "split":
        words = {**SPLIT_WORDS, **{key.lower(): name for key, name in (names or {}).items()}}
        value, names = value.str.to_lowercase(), words
    return value.replace_strict(dict(names or {}), default=None, return_dtype=pl.String)


def _refuse_hidden(labels: pl.Series, file: str) -> None:
    hidden = int((labels == "-1").sum())
    if hidden:
        raise InputError(
            f"data: {file}: {hidden} rows have the label -1, which is how test labels are hidden, "
            "in GLUE for instance; leave the file out and name as test one that has labels (GLUE: "
            "dev.tsv), or give -1 a name in data.columns.label.names"
        )


def _linked_out(paths: pl.Series, skipped: pl.Series, root: str | None) -> pl.Series:
    """Tell which paths leave a local root by a symbolic link; each folder is asked but once."""
    if root is None or not is_local(root):
        return pl.Series(np.zeros(len(paths), dtype=np.bool_))
    top, base = os.path.realpath(root), Path(root)
    inside: dict[Path, bool] = {}

    def leaves(path: str) -> bool:
        file = base / path
        if file.parent not in inside:
            inside[file.parent] = _within(os.path.realpath(file.parent), top)
        linked = file.is_symlink() and not _within(os.path.realpath(file), top)
        return linked or not inside[file.parent]

    asked = zip(paths, skipped.fill_null(True), strict=True)
    return pl.Series([not skip and leaves(path) for path, skip in asked], dtype=pl.Boolean)


def _within(path: str, top: str) -> bool:
    return os.path.commonpath([path, top]) == top


def _refuse(
    problems: Sequence[tuple[str, pl.Series, Sequence[Problem]]],
    bad: int,
    rows: int,
    settings: TableData,
) -> None:
    share = bad / rows
    if settings.on_bad_row == "drop" and share <= settings.max_dropped_share:
        return
    named = []
    for file, numbers, found in problems:
        places = sorted(
            (int(row), order)
            for order, problem in enumerate(found)
            for row in problem.rows.arg_true()[:NAMED_ROWS]
        )
        for row, order in places:
            named.append(_told(file, int(numbers[row]), row, found[order], settings))
    more = sum(int(p.rows.sum()) for _, _, found in problems for p in found) - NAMED_ROWS
    listed = "; ".join(named[:NAMED_ROWS]) + (f"; and {more} more" if more > 0 else "")
    what = (
        f"data.max_dropped_share allows {settings.max_dropped_share:.2%}, found {share:.2%}"
        if settings.on_bad_row == "drop"
        else "mend them, or leave them out with data.on_bad_row: drop"
    )
    raise InputError(f"data: {bad} of {rows} rows are bad: {listed}; {what}")


def _told(file: str, number: int, row: int, problem: Problem, settings: TableData) -> str:
    column = settings.columns[problem.role]
    near = ""
    if problem.found is None:
        found = "nothing" if problem.expected == "a value" else "another (not shown)"
    else:
        value = str(problem.found[row])
        found = repr(value[:40])
        near = near_miss(value, (column.names or {}).keys()) if column.names else ""
    names = ", ".join(str(name) for name in column.columns)
    return (
        f"{file} row {number} column {names} ({problem.role}): found {found}, expected "
        f"{problem.expected}{near}"
    )


def _with_ids(table: pl.DataFrame) -> pl.DataFrame:
    """Return the table with unique `example_id`; without one it is file and row."""
    if "example_id" not in table.columns:
        files = table["#file"].unique(maintain_order=True).to_list()
        stem = pl.col("#file").replace_strict(_stems(files), return_dtype=pl.String)
        made = pl.concat_str(stem, pl.lit(":"), pl.col("#row").cast(pl.String))
        return table.with_columns(made.alias("example_id"))
    repeated = table.filter(pl.col("example_id").is_duplicated())
    if repeated.height:
        alike = repeated.filter(pl.col("example_id") == repeated["example_id"][0])
        (one, first), (other, second) = alike.select("#file", "#row").head(2).rows()
        raise InputError(
            f"data: {repeated.height} of {table.height} rows share their example_id with another, "
            f"first {one} row {first} and {other} row {second}; make the ids unique, or leave out "
            "data.columns.example_id: file and row are one"
        )
    return table


def _gathered(table: pl.DataFrame, gather: Gather) -> pl.DataFrame:
    """Return rows of one input as one, in the place of the first; values once each."""
    role = gather.role
    split = pl.col("split") if "split" in table.columns else pl.lit(None, dtype=pl.String)
    everywhere = set(gather.splits) == set(SPLITS)
    gathers = split.is_in(gather.splits).fill_null(everywhere)
    own = ("example_id", "#file", "#row", role)
    alike = [name for name in table.columns if name not in own]
    table = table.with_columns(
        pl.when(gathers).then(None).otherwise(pl.col("example_id")).alias("#alone")
    )
    return (
        table.group_by(*alike, "#alone", maintain_order=True)
        .agg(
            pl.col("example_id", "#file", "#row").first(), pl.col(role).unique(maintain_order=True)
        )
        .drop("#alone")
    )


def _stems(files: Sequence[str]) -> dict[str, str]:
    """Return what ids call each file: its path less folders above, protocol and endings."""
    paths = {file: file.split("::")[0].split("://")[-1] for file in files}
    paths = {
        file: Path(path).name if Path(path).is_absolute() else path for file, path in paths.items()
    }
    stems = {file: path.removesuffix(".gz").rsplit(".", 1)[0] for file, path in paths.items()}
    return stems if len(set(stems.values())) == len(files) else {file: file for file in files}


def _balance(table: pl.DataFrame, settings: TableData) -> pl.Series:
    """Return what the splits share evenly: a list of labels for each row."""
    column = settings.columns.get("balance")
    if column is None and "label" in table.columns:
        given = dict.fromkeys((settings.columns["label"].names or {}).values())
        found = set(table["label"].unique())
        labels = [label for label in given if label in found] or sorted(found)
        return _each(table["label"].cast(pl.Enum(labels)))
    if column is None:
        return (
            _parts(table["score"], QUANTILES) if "score" in table.columns else _none(table.height)
        )
    values = table["balance"]
    if column.quantiles:
        return _parts(values, column.quantiles)
    if column.separator:
        values = values.str.split(column.separator)
    if not isinstance(values.dtype, pl.List):
        return _each(values)
    inner = pl.element().cast(pl.String).str.strip_chars()
    lists = values.list.eval(inner.filter(pl.element().cast(pl.String).str.len_bytes() > 0))
    return lists.fill_null([])


def _each(values: pl.Series) -> pl.Series:
    """Return lists of the one value of each row, none for null."""
    return values.reshape((-1, 1)).arr.to_list().list.drop_nulls()


def _none(height: int) -> pl.Series:
    return pl.Series([[]] * height, dtype=pl.List(pl.String))


def _parts(values: pl.Series, count: int) -> pl.Series:
    """Return lists of the quantile part of each number, `1.5 to 2`; alike ones stay together."""
    numbers = values.drop_nulls().to_numpy()
    edges = np.unique(np.quantile(numbers, np.linspace(0, 1, count + 1)))
    inner = edges[1:-1]
    low = [edges[0], *inner]
    names = [
        f"{a:g} to {b:g}" for a, b in zip(low, edges[1:] if len(edges) > 1 else edges, strict=True)
    ]
    names = list(dict.fromkeys(names))
    places = np.searchsorted(inner, values.fill_null(np.nan).to_numpy(), side="left")
    found = pl.Series(np.minimum(places, len(names) - 1))
    labels = found.replace_strict(dict(enumerate(names)), return_dtype=pl.Enum(names))
    return _each(pl.select(pl.when(values.is_not_null()).then(labels)).to_series())
