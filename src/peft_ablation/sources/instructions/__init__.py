"""Instruction sets of several formats as one table of conversations.

A format is a module of this package: its `conversations` makes conversations of a file's rows.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from peft_ablation.config.section import Section
from peft_ablation.errors import InputError
from peft_ablation.sources import DataSettings, Source
from peft_ablation.sources.table.location import by_split, located, on_disk

if TYPE_CHECKING:
    import polars as pl

Format = Literal[
    "alpaca", "gsm8k", "guanaco", "hh_rlhf", "longform", "messages", "oasst1", "oig",
    "self_instruct", "unnatural_instructions",
]  # fmt: skip
Files = Annotated[str, Field(min_length=1)] | Annotated[tuple[str, ...], Field(min_length=1)]
Split = Literal["train", "val", "test"]


class InstructionSet(Section):
    """One set of instructions."""

    format: Format
    """How its rows are read: the public format of the set of that name; `messages`: objects with
    a list `messages` of `{role, content}`, for your own."""
    files: Files | Annotated[dict[Split, Files], Field(min_length=1)]
    """A file, a list of files, or files by split: under `data_root`, an absolute path, or a URL
    that fsspec reads; JSON lines, a JSON list or Parquet, gzip or not."""
    name: str | None = Field(None, min_length=1)
    """What it is called in the column `source`; null: as its format."""
    limit: int | None = Field(None, ge=1)
    """At most so many conversations, drawn by a fixed seed; null: all."""

    @property
    def source(self) -> str:
        """What it is called."""
        return self.name or self.format

    @property
    def listed(self) -> list[tuple[Split | None, str]]:
        """Each file with its split, None where the files give none."""
        return by_split(self.files)


class InstructionsData(DataSettings):
    """Which sets are read."""

    sets: Annotated[tuple[InstructionSet, ...], Field(min_length=1)]
    """The sets, each with its format and files."""

    @model_validator(mode="after")
    def _names_are_unique(self) -> Self:
        names = [one.source for one in self.sets]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(
                    f"sets: found {name!r} {names.count(name)} times; give each a name of its own, "
                    "or list the files of one set together"
                )
        return self


class Instructions(Source):
    """Sets of instructions, wherever they lie."""

    Settings = InstructionsData
    settings: InstructionsData
    group = "conversation"
    units: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "group": ("group",),
        "conversation": ("example_id",),
    }

    def check(self) -> None:
        """Raise `InputError` for a local file that is not there."""
        for path in self._local():
            if not path.is_file():
                raise InputError(
                    f"data.sets: no file {path}; expected it under data_root, or give an absolute "
                    "path"
                )

    @property
    def columns(self) -> frozenset[str]:
        """Messages, and the set that they come from."""
        return frozenset(("messages", "source"))

    def inputs(self) -> Mapping[str, str]:
        """Return the local files, archives included; what lies elsewhere is read but once."""
        local = dict.fromkeys(map(str, self._local()))
        return {f"set_{number}": path for number, path in enumerate(local, 1)}

    def read(self) -> "tuple[pl.DataFrame, dict[str, Any]]":
        """Return the examples table and an account of it."""
        from peft_ablation.sources.instructions.reading import read_sets

        return read_sets(self.settings.sets, {file: self._place(file) for file in self._files()})

    def _files(self) -> list[str]:
        return [file for one in self.settings.sets for _, file in one.listed]

    def _local(self) -> list[Path]:
        paths = [on_disk(self._place(file)) for file in self._files()]
        return [path for path in paths if path is not None]

    def _place(self, file: str) -> str:
        place = located(file, self.root)
        if place is None:
            raise InputError(
                f"config: data_root: not set, but study {self.study} reads {file} under it; set "
                "it, e.g. --config data_root=/data/instructions"
            )
        return place


SOURCE = Instructions
