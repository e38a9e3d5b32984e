"""Rows of a file as they stand in it, and what a format makes of them."""

import gzip
import io
import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from peft_ablation.errors import InputError

USER: Final = "user"
ASSISTANT: Final = "assistant"
SYSTEM: Final = "system"
EMPTY: Final = "empty_answer"
"""A turn of the assistant without a word."""
UNANSWERED: Final = "no_answer"
"""A conversation without a turn of the assistant."""
UNASKED: Final = "begins_with_answer"
"""A conversation that the assistant begins."""

_BOM: Final = b"\xef\xbb\xbf"
_GZIP: Final = b"\x1f\x8b"
_MISSING: Final = object()


@dataclass(frozen=True)
class Message:
    """What somebody says."""

    role: str
    content: str


@dataclass(frozen=True)
class Conversation:
    """Messages in order."""

    row: int
    """The row that it comes from, counted from 1."""
    messages: Sequence[Message]
    opening: str | None = None
    """What it begins with apart from what differs (the instruction, without what is given for it);
    None: the first words of the user. Conversations that begin alike belong together."""
    topic: str | None = None
    """What else it belongs to, in this set; None: nothing."""


@dataclass(frozen=True)
class LeftOut:
    """A conversation that the set has and that is of no use."""

    row: int
    reason: str


Found = Iterator[Conversation | LeftOut]


@dataclass(frozen=True)
class Row:
    """A row of a file."""

    file: str
    number: int
    """Counted from 1: the line of JSON lines, the place in a JSON list or a Parquet file."""
    values: Mapping[str, Any]

    def refused(self, what: str) -> InputError:
        """Return the error of this row."""
        return InputError(f"data: {self.file} row {self.number}: {what}")

    def text(self, key: str, default: str | None = None) -> str:
        """Return a text; raises `InputError` where it is none, or missing without `default`."""
        return text_of(self, self.values, key, default)

    def parts(self, key: str, *, required: bool = True) -> list[Mapping[str, Any]]:
        """Return a list of objects; raises `InputError` where it is none."""
        return parts_of(self, self.values, key, required=required)


def parts_of(
    row: Row, values: Mapping[str, Any], key: str, *, required: bool = True
) -> list[Mapping[str, Any]]:
    """Return a list of objects of a row, or of an object inside of it; see `Row.parts`."""
    found = values.get(key)
    if found is None and not required:
        return []
    if not isinstance(found, list) or not all(isinstance(part, Mapping) for part in found):
        raise row.refused(f"{key!r} is {_said(found)}, expected a list of objects")
    return found


def text_of(row: Row, values: Mapping[str, Any], key: str, default: str | None = None) -> str:
    """Return a text of a row, or of an object inside of it; see `Row.text`."""
    found = values.get(key, _MISSING)
    if default is not None and (found is _MISSING or found is None):
        return default
    if found is _MISSING:
        keys = ", ".join(map(str, values)) or "none"
        raise row.refused(f"no key {key!r}, found {keys}; is it another format?")
    if not isinstance(found, str):
        raise row.refused(f"{key!r} is {_said(found)}, expected a text")
    return found


def _said(value: object) -> str:
    """Return what a value is, without a word of it."""
    kinds = {
        type(None): "nothing", bool: "true or false", int: "a number", float: "a number",
        str: "a text", list: "a list", dict: "an object",
    }  # fmt: skip
    return kinds.get(type(value), type(value).__name__)


def rows_of(file: str, data: bytes) -> Iterator[Row]:
    """Yield the rows of a file: JSON lines, a JSON list of objects, or Parquet; gzip or not.

    `file` is what messages call it, `data` its bytes. Empty lines are no rows. Raises `InputError`
    for one that is not UTF-8, no such file, or without any row.
    """
    data = _unpacked(file, data)
    if data[:4] == b"PAR1":
        yield from _parquet(file, data)
        return
    text = _decoded(file, data.removeprefix(_BOM))
    count = 0
    for number, value in _json_values(file, text):
        if not isinstance(value, dict):
            raise InputError(
                f"data: {file} row {number}: found {_said(value)}, expected an object; is it a "
                "set of instructions?"
            )
        count += 1
        yield Row(file, number, value)
    if not count:
        raise InputError(f"data: {file} is empty, expected rows")


def _unpacked(file: str, data: bytes) -> bytes:
    if data[:2] != _GZIP:
        return data
    try:
        return gzip.decompress(data)
    except (EOFError, OSError, zlib.error):
        raise InputError(f"data: {file} is no whole gzip file; restore it") from None


def _parquet(file: str, data: bytes) -> Iterator[Row]:
    import polars as pl

    try:
        table = pl.read_parquet(io.BytesIO(data))
    except pl.exceptions.PolarsError:
        raise InputError(f"data: {file} is no whole Parquet file; restore it") from None
    for number, values in enumerate(table.iter_rows(named=True), 1):
        yield Row(file, number, values)


def _decoded(file: str, data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"data: {file} is not UTF-8, found byte 0x{data[error.start]:02x} at place "
            f"{error.start} in line {line}; save it as UTF-8"
        ) from None


def _json_values(file: str, text: str) -> Iterator[tuple[int, Any]]:
    if text.lstrip().startswith("["):
        try:
            yield from enumerate(json.loads(text), 1)
        except json.JSONDecodeError as error:
            raise InputError(
                f"data: {file} is not JSON in line {error.lineno}, expected a list of objects"
            ) from None
        return
    # Not `splitlines`: a text may hold other line ends as they are.
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                yield number, json.loads(line)
            except json.JSONDecodeError:
                raise InputError(
                    f"data: {file} is not JSON in line {number}, expected one object a line"
                ) from None


def asked(row: int, instruction: str, given: str, answer: str) -> Conversation | LeftOut:
    """Return a question, what is given for it (or nothing) after an empty line, and the answer."""
    if not answer.strip():
        return LeftOut(row, EMPTY)
    question = f"{instruction}\n\n{given}" if given.strip() else instruction
    messages = (Message(USER, question), Message(ASSISTANT, answer))
    return Conversation(row, messages, opening=instruction)
