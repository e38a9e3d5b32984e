"""Anybody's table: CSV, TSV, Parquet, JSON lines or SQuAD's JSON, with what its columns are.

`data.columns` maps roles to columns of the files. Four roles are known everywhere (`example_id`,
`group`, `split`, `balance`); the others are what the task reads: `image`, `text`, `label`, `score`.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final, Literal, Self

from pydantic import BeforeValidator, Field, PositiveInt, model_validator

from peft_ablation.config.section import Name, Section
from peft_ablation.data import NAMED_COLUMNS
from peft_ablation.errors import InputError
from peft_ablation.sources import DataSettings, Source
from peft_ablation.sources.table.location import by_split, located, on_disk

if TYPE_CHECKING:
    import polars as pl

    from peft_ablation.config.site import Site

ENDINGS: Final = {
    ".csv": "csv", ".tsv": "tsv", ".tab": "tsv", ".parquet": "parquet", ".jsonl": "jsonl",
    ".ndjson": "jsonl",
}  # fmt: skip
"""Format by the ending of a file's name, in lower case and without `.gz`."""

NUMBERS: Final = ("score",)
"""Roles that hold numbers; the others hold text."""

LISTS: Final = ("reference",)
"""Roles that may hold a list of texts in each row; `balance` has labels."""


def _names(value: Any) -> Any:
    """Return `names` with keys as the table's text has them; YAML reads 0 and no as it likes."""
    if not isinstance(value, Mapping):
        return value
    for key, name in value.items():
        if not isinstance(name, str):
            raise ValueError(f"the name of {key!r} is {name!r}, expected text: put it in quotes")
    return {str(k).lower() if isinstance(k, bool) else str(k): v for k, v in value.items()}


class Column(Section):
    """A column of the table, and how it is read."""

    column: str | PositiveInt | Annotated[tuple[str | PositiveInt, ...], Field(min_length=1)]
    """Its name, or its place from 1 on; for `group`, and with `joined`, also a list."""
    alike: Literal["all", "any"] = "all"
    """For a list: rows of a group are alike in all of the columns, or in any value of any (the same
    question first here, second there), directly or by way of other rows."""
    joined: str | None = None
    """For a list in another role than `group`: what stands between the values, as one text."""
    extract: str | None = None
    """Regular expression with one group: what it finds is the value; a row without is left out."""
    names: Annotated[dict[str, str], BeforeValidator(_names)] | None = None
    """What values are called (`{0: unacceptable, 1: acceptable}`); another value is a bad row."""
    separator: str | None = Field(None, min_length=1)
    """For `balance`: what stands between several labels of a row."""
    quantiles: int | None = Field(None, ge=2)
    """For `balance`: divide a number into so many parts of equal size."""

    @model_validator(mode="after")
    def _reads_one_way(self) -> Self:
        if self.extract is not None:
            try:
                groups = re.compile(self.extract).groups
            except re.error as error:
                raise ValueError(f"extract: {self.extract!r} is no pattern ({error})") from None
            if groups != 1:
                raise ValueError(
                    f"extract: {self.extract!r} has {groups} groups, expected one (in brackets)"
                )
        if self.joined is not None and len(self.columns) < 2:
            raise ValueError("joined: is set for one column, expected a list of columns")
        if self.separator and self.quantiles:
            raise ValueError("separator and quantiles are both set: keep one of them")
        return self

    @property
    def columns(self) -> tuple[str | int, ...]:
        """The columns it is made of, each a name or a place from 1 on."""
        return self.column if isinstance(self.column, tuple) else (self.column,)


def _column(value: Any) -> Any:
    """Return a column that is given by its name, place or list alone as a mapping."""
    return {"column": value} if isinstance(value, str | int | list | tuple) else value


Given = Annotated[
    Column,
    BeforeValidator(
        _column, json_schema_input_type=Column | str | PositiveInt | list[str | PositiveInt]
    ),
]
"""A column as a study gives it."""
Files = Annotated[str, Field(min_length=1)] | Annotated[tuple[str, ...], Field(min_length=1)]
Split = Literal["train", "val", "test"]


class Hub(Section):
    """A data set of the hub, at a commit."""

    id: Annotated[str, Field(pattern=r"^\w[\w.-]*/\w[\w.-]*$")]
    """Its id, such as `nyu-mll/glue`."""
    revision: Annotated[str, Field(min_length=1)]
    """Its commit, so that a rerun meets the same rows."""


class Gather(Section):
    """Several rows of one input, made one example with all that may be told of it."""

    role: Name = "reference"
    """The role whose values are gathered into a list."""
    splits: Annotated[tuple[Split, ...], Field(min_length=1)] = ("val", "test")
    """Given splits in which rows that are alike in all other roles become one; in others each row
    stays an example with a list of one. Rows without a given split need all three."""


class TableData(DataSettings):
    """Which files are read, and what their columns are."""

    files: Files | Annotated[dict[Split, Files], Field(min_length=1)]
    """A file, a list of files, or files by split (`{train: a.tsv, test: b.tsv}`): under
    `data_root`, an absolute path, or a URL that fsspec reads."""
    hub: Hub | None = None
    """Fetch `files` of a hub data set (Parquet, CSV, JSON lines), once; offline from then on."""
    columns: Annotated[dict[Name, Given], Field(min_length=1)]
    """Column by role: `example_id`, `group`, `split`, `balance`, and what the task reads."""
    format: Literal["csv", "tsv", "parquet", "jsonl", "squad"] | None = None
    """Format of the files; null: by their endings. `squad`: SQuAD v1.1's JSON, a row a question."""
    header: bool = True
    """Whether the first line of CSV and TSV names the columns; without, they have places."""
    quotes: bool | None = None
    """Whether quotes enclose fields; null: in CSV they do, in TSV they are text."""
    on_bad_row: Literal["fail", "drop"] = "fail"
    """A row without a value, or with one that cannot be: stop and name it, or drop it (counted)."""
    max_dropped_share: float = Field(0.01, ge=0, le=1)
    """With `on_bad_row: drop`, stop all the same when more than this share is bad."""

    gather: Gather | None = None
    """Make one example of rows that share their input: several references of a prompt, say."""
    limit: PositiveInt | Annotated[dict[Split, PositiveInt], Field(min_length=1)] | None = None
    """At most so many rows, drawn by a fixed seed, to use a part; null: all. By given split
    (`{train: 6000, test: 150}`): so many examples, gathered rows counted as the one they become."""

    @model_validator(mode="after")
    def _settings_agree(self) -> Self:
        gathered = None if self.gather is None else self.gather.role
        if gathered is not None and gathered not in self.columns:
            raise ValueError(f"gather.role: found {gathered!r}, which columns does not name")
        if gathered in (*NAMED_COLUMNS, *NUMBERS, "label", "image"):
            raise ValueError(f"gather.role: found {gathered!r}, which cannot be a list")
        for role, column in self.columns.items():
            if role != "group" and len(column.columns) > 1 and column.joined is None:
                raise ValueError(
                    f"columns.{role}: found a list, which only group may be, or a role with joined"
                )
            if role in ("group", *NUMBERS, "label", "split", "image") and column.joined is not None:
                raise ValueError(f"columns.{role}: joined makes one text, which this role has not")
            if column.alike == "any" and (len(column.columns) < 2 or column.extract):
                raise ValueError(f"columns.{role}: alike any is for a list of columns as they are")
            if role != "balance" and (column.separator or column.quantiles):
                raise ValueError(f"columns.{role}: separator and quantiles are for balance alone")
        if self.hub is not None:
            for _, file in self.listed:
                if "://" in file or not re.fullmatch(r"(?!\.\.?/)[\w.+ -][\w.+ /-]*", file):
                    raise ValueError(f"files: found {file!r}, expected a file of the hub data set")
                if ".." in Path(file).parts:
                    raise ValueError(f"files: found {file!r}, expected a path without ..")
        if isinstance(self.limit, dict) and "split" not in self.columns:
            given = list(self.files) if isinstance(self.files, dict) else []
            for split in self.limit:
                if split not in given:
                    raise ValueError(f"limit.{split}: found, but files give no split {split}")
        if "split" in self.columns and isinstance(self.files, dict):
            raise ValueError("columns.split and files by split both give splits: keep one of them")
        return self

    @property
    def listed(self) -> list[tuple[Split | None, str]]:
        """Each file with its split, None where the files give none."""
        return by_split(self.files)

    def format_of(self, file: str) -> str:
        """Return the format of a file; raises `InputError` where its ending does not tell."""
        name = file.split("::")[0].split("?")[0].lower().removesuffix(".gz")
        found = self.format or ENDINGS.get(Path(name).suffix)
        if found is None:
            raise InputError(
                f"data.files: {file} does not end in {', '.join(ENDINGS)}; say what it is with "
                "data.format"
            )
        return found


class Table(Source):
    """Files of rows, wherever they lie."""

    Settings = TableData
    settings: TableData
    rules = "table.smk"
    site_keys = ("data_root", "datasets")
    units: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "group": ("group",),
        "example": ("example_id",),
    }

    def __init__(self, settings: DataSettings, site: "Site", results: str) -> None:
        """Bind to the section, the site, and the study's folder of results."""
        super().__init__(settings, site, results)
        if "group" not in self.settings.columns:
            self.group = "row"

    def check(self) -> None:
        """Raise `InputError` for a local file that is not there, or of no format."""
        if self.root is None and "image" in self.settings.columns:
            raise self._no_root("image paths")
        for _, file in self.settings.listed:
            self.settings.format_of(file)
            path = on_disk(self._place(file))
            if self.settings.hub is None and path is not None and not path.is_file():
                raise InputError(
                    f"data.files: no file {path}; expected it under data_root, or give an "
                    "absolute path"
                )

    @property
    def columns(self) -> frozenset[str]:
        """Columns of the examples table: the roles."""
        return frozenset(self.settings.columns)

    def inputs(self) -> Mapping[str, str]:
        """Return the local files, archives included; what lies elsewhere is read but once."""
        paths = [on_disk(self._place(file)) for _, file in self.settings.listed]
        local = dict.fromkeys(str(path) for path in paths if path is not None)
        return {f"table_{number}": path for number, path in enumerate(local, 1)}

    def read(self) -> "tuple[pl.DataFrame, dict[str, Any]]":
        """Return the examples table and an account of it."""
        from peft_ablation.sources.table.rows import read_rows

        return read_rows(
            [(split, file, self._place(file)) for split, file in self.settings.listed],
            self.settings,
            root=self.root,
        )

    @property
    def fetched(self) -> Mapping[str, str]:
        """Files of the hub data set that are fetched: where each is kept → its name there."""
        if self.settings.hub is None:
            return {}
        return {self._place(file): file for _, file in self.settings.listed}

    def _place(self, file: str) -> str:
        hub = self.settings.hub
        if hub is not None:
            revision = re.sub(r"[^\w.-]+", "-", hub.revision)
            folder = f"{hub.id.replace('/', '--')}@{revision}"
            return f"{self.site.datasets.rstrip('/')}/{folder}/{file}"
        place = located(file, self.root)
        if place is None:
            raise self._no_root(file)
        return place

    def _no_root(self, what: str) -> InputError:
        return InputError(
            f"config: data_root: not set, but study {self.study} reads {what} under it; set it, "
            "e.g. --config data_root=/data/mine"
        )


SOURCE = Table
