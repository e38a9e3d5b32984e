"""Captioned images as COCO, Flickr8k and Karpathy's splits have them: captions files, a folder."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final, Literal, Self

from pydantic import Field, PositiveInt, model_validator

from peft_ablation.errors import InputError
from peft_ablation.sources import DataSettings, Source
from peft_ablation.sources.table.location import located, on_disk

if TYPE_CHECKING:
    import polars as pl

Split = Literal["train", "val", "test"]
File = Annotated[str, Field(min_length=1)]
LEAVES: Final = r"^[/\\]|^[A-Za-z]:[/\\]|(^|[/\\])\.\.([/\\]|$)|://"
"""Paths that are not inside of a folder as they are written."""


class CaptionsData(DataSettings):
    """Which captions files are read, and where their images are."""

    files: File | Annotated[dict[Split, File], Field(min_length=1)]
    """A captions file, or one a split: COCO's JSON, Karpathy's JSON, or a CSV with the columns
    `image` and `caption`, as Flickr8k's; under `data_root`, an absolute path, or a URL."""
    images: str | dict[Split, str] = ""
    """Folder under `data_root` that names of images are relative to; by split as `files`."""
    on_bad_row: Literal["fail", "drop"] = "fail"
    """A caption that is empty or of no image, an image without a caption or a file: stop and name
    it, or drop it (counted)."""
    max_dropped_share: float = Field(0.01, ge=0, le=1)
    """With `on_bad_row: drop`, stop all the same when more than this share is bad."""
    limit: PositiveInt | Annotated[dict[Split, PositiveInt], Field(min_length=1)] | None = None
    """At most so many images, drawn by a fixed seed, of all or of each split that is named
    (`{train: 50}`); null: all."""

    @model_validator(mode="after")
    def _folders_are_of_the_files(self) -> Self:
        folders = self.images if isinstance(self.images, dict) else {None: self.images}
        if isinstance(self.images, dict):
            splits = set(self.files) if isinstance(self.files, dict) else set()
            if set(self.images) != splits:
                raise ValueError("images: by split, but files are not of the same splits")
        for folder in folders.values():
            if re.search(LEAVES, folder):
                raise ValueError(f"images: found {folder!r}, expected a folder under data_root")
        return self

    @property
    def listed(self) -> "list[tuple[Split | None, str, str]]":
        """Split (None where the file itself may give it), captions file and folder of images."""
        files: Mapping[Any, str]
        files = self.files if isinstance(self.files, dict) else {None: self.files}
        return [
            (split, file, self.images[split] if isinstance(self.images, dict) else self.images)
            for split, file in files.items()
        ]


class Captions(Source):
    """Captions files, and the images that they name under the site's `data_root`."""

    Settings = CaptionsData
    settings: CaptionsData
    group = "image"
    units: ClassVar[Mapping[str, tuple[str, ...]]] = {"image": ("example_id",)}

    def check(self) -> None:
        """Raise `InputError` for a captions file or a folder of images that is not there."""
        if self.root is None:
            raise self._no_root()
        for _, file, folder in self.settings.listed:
            path = on_disk(self._place(file))
            if path is not None and not path.is_file():
                raise InputError(
                    f"data.files: no file {path}; expected it under data_root, or give an "
                    "absolute path"
                )
            if "://" not in self.root and not Path(self.root, folder).is_dir():
                raise InputError(
                    f"data.images: no folder {Path(self.root, folder)}; expected the images there"
                )

    @property
    def columns(self) -> frozenset[str]:
        """Columns of the examples table: an image and its texts."""
        return frozenset(("image", "report"))

    def inputs(self) -> Mapping[str, str]:
        """Return the local captions files; what lies elsewhere is read but once."""
        paths = [on_disk(self._place(file)) for _, file, _ in self.settings.listed]
        local = dict.fromkeys(str(path) for path in paths if path is not None)
        return {f"captions_{number}": path for number, path in enumerate(local, 1)}

    def read(self) -> "tuple[pl.DataFrame, dict[str, Any]]":
        """Return the examples table and an account of it."""
        from peft_ablation.sources.captions.reading import read_captions

        if self.root is None:
            raise self._no_root()
        files = [
            (split, file, self._place(file), folder) for split, file, folder in self.settings.listed
        ]
        return read_captions(files, self.settings, root=self.root)

    def _place(self, file: str) -> str:
        place = located(file, self.root)
        if place is None:
            raise self._no_root()
        return place

    def _no_root(self) -> InputError:
        return InputError(
            f"config: data_root: not set, but study {self.study} reads captioned images; set it, "
            "e.g. --config data_root=/data/flickr30k"
        )


SOURCE = Captions
