"""Class folders: `<root>/<class>/*.jpg`, or `<root>/<split>/<class>/*.jpg` with splits given."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal

from pydantic import Field

from peft_ablation.errors import InputError, near_miss
from peft_ablation.sources import DataSettings, Source

if TYPE_CHECKING:
    import polars as pl

SUFFIXES: Final = frozenset(
    (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
)
"""Endings of image files, in lower case."""
SPLITS: Final = {
    "train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test",
}  # fmt: skip
"""Names of folders that are splits, in lower case."""
_HOW: Final = "expected <class>/*.jpg, or train/<class>/*.jpg beside val/ and test/"


class ClassFoldersData(DataSettings):
    """Which class folders are read, and what the classes are called."""

    classes: tuple[str, ...] | None = Field(None, min_length=2)
    """Class folders to use; null: all."""
    class_names: dict[str, str] = Field(default_factory=dict)
    """Name of a class by its folder, where they differ, such as `n02086240: Shih-Tzu`; folders of
    one name are one class."""
    split_names: dict[str, Literal["train", "val", "test"]] = Field(default_factory=dict)
    """Split by its folder, where it is not called so: `val: test` where the images that others
    report on are in `val/`, as in ImageWoof."""


class ClassFolders(Source):
    """The site's `data_root`, a folder of class folders."""

    Settings = ClassFoldersData
    settings: ClassFoldersData
    group = "image"
    units: ClassVar[Mapping[str, tuple[str, ...]]] = {"image": ("example_id",)}

    def check(self) -> None:
        """Raise `InputError` where there are no class folders."""
        _layout(self._folder(), self.settings.split_names)

    def read(self) -> "tuple[pl.DataFrame, dict[str, Any]]":
        """Return the examples table and an account of it."""
        return read_class_folders(
            self._folder(),
            classes=self.settings.classes,
            class_names=self.settings.class_names,
            split_names=self.settings.split_names,
        )

    def _folder(self) -> str:
        if self.root is None:
            raise InputError(
                f"config: data_root: not set, but study {self.study} reads class folders; "
                "set it, e.g. --config data_root=/data/imagewoof"
            )
        return self.root


def read_class_folders(
    root: str | Path,
    *,
    classes: Sequence[str] | None = None,
    class_names: Mapping[str, str] | None = None,
    split_names: Mapping[str, str] | None = None,
) -> "tuple[pl.DataFrame, dict[str, Any]]":
    """Return the examples table of a folder of class folders, and an account of it.

    Columns: `example_id` (path without its ending, with it where two files differ in nothing else),
    `group` (the same), `split` (`train`, `val`, `test`, or null where no folder gives it),
    `balance` (the class, in a list), `image` (path relative to `root`) and `label`. Rows are in
    the order of the paths. The account counts files by what became of them: image files of other
    classes, files that are no images, and folders inside of a class are dropped.

    Raises `InputError` for a root without class folders, a class without images, in all or in a
    split, fewer than two classes, and names in `classes` or `class_names` that are no folders.
    """
    import polars as pl

    parts = _layout(root, split_names or {})
    folders = sorted({folder.name for part in parts.values() for folder in _folders(part)})
    for key, names in (("classes", classes or ()), ("class_names", class_names or {})):
        for name in names:
            if name not in folders:
                raise InputError(
                    f"data.{key}: {root} has no class folder {name!r}, found "
                    f"{', '.join(folders)}{near_miss(name, folders)}"
                )
    used = set(classes or folders)
    dropped: Counter[str] = Counter()
    rows: list[tuple[str | None, str, Path]] = []
    for split, part in parts.items():
        for folder in _folders(part):
            images = _images(folder, dropped)
            if folder.name not in used:
                dropped["other_class"] += len(images)
                continue
            if not images:
                raise InputError(
                    f"data: class folder {folder} holds no image ({', '.join(sorted(SUFFIXES))}); "
                    "fill it, remove it, or leave it out with data.classes"
                )
            label = (class_names or {}).get(folder.name, folder.name)
            rows += [(split, label, path) for path in images]
    labels = sorted({label for _, label, _ in rows})
    _check_classes(rows, labels, root)
    paths = [path.relative_to(root).as_posix() for _, _, path in rows]
    stems = [path.removesuffix(Path(path).suffix) for path in paths]
    times = Counter(stems)
    ids = [path if times[stem] > 1 else stem for path, stem in zip(paths, stems, strict=True)]
    table = pl.DataFrame(
        {
            "example_id": ids,
            "group": ids,
            "split": pl.Series([split for split, _, _ in rows], dtype=pl.String),
            "balance": pl.Series([[label] for _, label, _ in rows], dtype=pl.List(pl.Enum(labels))),
            "image": paths,
            "label": [label for _, label, _ in rows],
        }
    ).sort("image")
    account = {
        "rows_in": table.height + dropped.total(),
        "rows_out": table.height,
        "dropped": dict(sorted(dropped.items())),
        "classes": dict(sorted(Counter(table["label"]).items())),
        "splits": {split: table["split"].to_list().count(split) for split in parts if split},
    }
    return table, account


def _layout(root: str | Path, split_names: Mapping[str, str]) -> dict[str | None, Path]:
    """Return the folders that hold class folders, by split; one without a split is None."""
    if not Path(root).is_dir():
        raise InputError(f"config: data_root: no folder {root}; {_HOW}")
    folders = _folders(root)
    if not folders:
        raise InputError(f"config: data_root: {root} has no class folders; {_HOW}")
    # A class may be called train, too: then it holds images, and no folders.
    if not any(folder.name.lower() == "train" and _folders(folder) for folder in folders):
        return {None: Path(root)}
    parts: dict[str | None, Path] = {}
    for folder in folders:
        split = split_names.get(folder.name, SPLITS.get(folder.name.lower()))
        if split is None or split in parts:
            raise InputError(
                f"config: data_root: {root} has a folder {folder.name!r} beside its splits, "
                f"expected one each of train, val and test; move it away"
            )
        parts[split] = folder
    return parts


def _folders(path: str | Path) -> list[Path]:
    return sorted(p for p in Path(path).iterdir() if p.is_dir() and not p.name.startswith("."))


def _images(folder: Path, dropped: Counter[str]) -> list[Path]:
    """Return a class's images in order; what else it holds is counted."""
    images = []
    for path in sorted(folder.iterdir()):
        if path.is_dir():
            dropped["folder_in_class"] += 1
        elif path.suffix.lower() not in SUFFIXES or path.name.startswith("."):
            dropped["no_image_file"] += 1
        else:
            images.append(path)
    return images


def _check_classes(
    rows: Sequence[tuple[str | None, str, Path]], labels: Sequence[str], root: str | Path
) -> None:
    if len(labels) < 2:
        raise InputError(
            f"data: {root} has one class only, {labels[0]!r}, expected two or more; {_HOW}"
        )
    for split in dict.fromkeys(split for split, _, _ in rows):
        lacking = sorted(set(labels) - {label for part, label, _ in rows if part == split})
        if lacking:
            raise InputError(
                f"data: {root}: class {lacking[0]!r} is missing from split {split} "
                f"({len(lacking)} of {len(labels)} classes are); add its images, or leave it out "
                "with data.classes"
            )


SOURCE = ClassFolders
