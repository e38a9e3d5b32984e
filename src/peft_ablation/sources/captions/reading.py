"""Captions files become examples: an image with all its captions, what is bad named or counted."""

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl

from peft_ablation.data.examples import SPLITS
from peft_ablation.data.storage import is_local
from peft_ablation.errors import InputError
from peft_ablation.sources.captions import LEAVES, CaptionsData
from peft_ablation.sources.table.reading import columns_of, file_bytes, read_file

NAMED: Final = 10
"""Most bad places that a message names; the rest it counts."""
KARPATHY_SPLITS: Final = {"train": "train", "restval": "train", "val": "val", "test": "test"}
"""What Karpathy calls splits; `restval` are images of COCO's validation that are trained on."""
_LAYOUTS: Final = (
    "expected COCO's (`images` and `annotations`), Karpathy's (`images`, each with `sentences`), "
    "or a CSV with the columns image and caption"
)


@dataclass(frozen=True)
class Captioned:
    """One image as a captions file has it."""

    where: str
    """Its place in the file, as a message says it."""
    image: str | None
    """Its path relative to the folder of images."""
    split: str | None = None
    captions: list[tuple[str, str | None]] = field(default_factory=list)
    """Place in the file and text of each caption."""


@dataclass(frozen=True)
class Problem:
    """What is wrong at one place of a file."""

    where: str
    reason: str
    """For the account, such as `empty_caption`."""
    expected: str


def read_captions(
    files: Sequence[tuple[str | None, str, str, str]], settings: CaptionsData, *, root: str
) -> tuple[pl.DataFrame, dict[str, Any]]:
    """Return the examples table of captions files, and an account of it.

    `files` are split (None where the file may give it), name, place and folder of images of each.
    Columns: `example_id` (path of the image without its ending, with it where two differ in nothing
    else), `group` (the same), `split`, `image` (path relative to `root`) and `report` (the captions
    of the image, a list; white space in them is single spaces), in the order of the files.

    Raises `InputError` for a file of another layout or not UTF-8, bad places (an empty caption, one
    of no image, an image without a caption or without a file), and an image that is there twice.
    """
    rows: list[tuple[str | None, str, list[str]]] = []
    told: list[dict[str, Any]] = []
    problems: list[tuple[str, Problem]] = []
    for split, file, place, folder in files:
        layout, pictures, orphans = _parsed(file, place)
        found = [(file, problem) for problem in orphans]
        present = _files(root, folder, pictures) if is_local(root) else None
        for picture in pictures:
            captions, wrong = _checked(picture, present)
            found += [(file, problem) for problem in wrong]
            if captions:
                path = f"{folder.rstrip('/')}/{picture.image}" if folder else str(picture.image)
                rows.append((split or picture.split, path, captions))
        problems += found
        count = sum(len(picture.captions) for picture in pictures)
        told.append(
            {"file": file, "layout": layout, "images": len(pictures), "captions": count}
            | ({} if split is None else {"split": split})
        )
    places = sum(part["images"] + part["captions"] for part in told)
    _refuse(problems, places, settings)
    table = _table(rows, [file for _, file, _, _ in files])
    dropped = Counter(problem.reason for _, problem in problems)
    table, dropped["limit"] = _limited(table, settings.limit)
    captions_of = Counter(table["report"].list.len().to_list())
    account = {
        "rows_in": sum(part["images"] for part in told),
        "rows_out": table.height,
        "dropped": {reason: count for reason, count in sorted(dropped.items()) if count},
        "files": told,
        "images_by_captions": {str(n): captions_of[n] for n in sorted(captions_of)},
        "splits": {s: int((table["split"] == s).sum()) for s in SPLITS if s in table["split"]},
    }
    return table, account


def _table(rows: Sequence[tuple[str | None, str, list[str]]], files: Sequence[str]) -> pl.DataFrame:
    if not rows:
        raise InputError(
            f"data: {', '.join(files)}: no image is left, expected at least three, one a split"
        )
    paths = [path for _, path, _ in rows]
    twice = [path for path, count in Counter(paths).items() if count > 1]
    if twice:
        raise InputError(
            f"data: {', '.join(files)}: {len(twice)} images are there more than once, first the "
            f"one at place {paths.index(twice[0]) + 1}; expected each once, with all its captions"
        )
    stems = [path.removesuffix(Path(path).suffix) for path in paths]
    times = Counter(stems)
    ids = [path if times[stem] > 1 else stem for path, stem in zip(paths, stems, strict=True)]
    return pl.DataFrame(
        {
            "example_id": ids,
            "group": ids,
            "split": pl.Series([split for split, _, _ in rows], dtype=pl.String),
            "image": paths,
            "report": pl.Series([captions for _, _, captions in rows], dtype=pl.List(pl.String)),
        }
    )


def _limited(
    table: pl.DataFrame, limit: int | Mapping[Any, int] | None
) -> tuple[pl.DataFrame, int]:
    """Return at most so many images, of all or of each split, and how many are left out."""
    if limit is None:
        return table, 0
    kept = np.ones(table.height, dtype=np.bool_)
    for split, most in (limit if isinstance(limit, Mapping) else {None: limit}).items():
        own = [split is None or found == split for found in table["split"]]
        places = np.flatnonzero(own)
        if split is not None and not len(places):
            raise InputError(
                f"data.limit.{split}: no image is of split {split} in these files; give a number "
                "for all, or files by split"
            )
        drawn = np.random.default_rng(0).permutation(places)[:most]
        kept[np.setdiff1d(places, drawn)] = False
    return table.filter(pl.Series(kept)), int((~kept).sum())


def _files(root: str, folder: str, pictures: Sequence[Captioned]) -> set[str]:
    """Return those paths of images, relative to `folder`, that are files; each folder read once."""
    inside: dict[Path, set[str]] = {}

    def there(path: Path) -> bool:
        if path.parent not in inside:
            is_folder = path.parent.is_dir()
            found = path.parent.iterdir() if is_folder else ()
            inside[path.parent] = {entry.name for entry in found}
        return path.name in inside[path.parent]

    names = [picture.image for picture in pictures if picture.image]
    inner = [name for name in names if not re.search(LEAVES, name)]
    return {name for name in inner if there(Path(root, folder, name))}


def _checked(picture: Captioned, present: set[str] | None) -> tuple[list[str], list[Problem]]:
    """Return the captions of an image that can be used, and what is wrong with it."""
    where, name = picture.where, picture.image
    if not name:
        return [], [Problem(where, "no_image", "the name of an image")]
    if re.search(LEAVES, name):
        return [], [Problem(where, "no_image", "an image inside of the folder of images")]
    if present is not None and name not in present:
        return [], [Problem(where, "no_image", "an image that is there")]
    captions, problems = [], []
    for place, text in picture.captions:
        said = " ".join(text.split()) if isinstance(text, str) else ""
        if said:
            captions.append(said)
        else:
            problems.append(Problem(place, "empty_caption", "a caption"))
    if not captions:
        problems.append(Problem(where, "no_caption", "a caption of the image"))
    return captions, problems


def _refuse(problems: Sequence[tuple[str, Problem]], places: int, settings: CaptionsData) -> None:
    share = len(problems) / max(places, 1)
    if not problems or (settings.on_bad_row == "drop" and share <= settings.max_dropped_share):
        return
    named = "; ".join(
        f"{file} {problem.where}: expected {problem.expected}" for file, problem in problems[:NAMED]
    )
    more = f"; and {len(problems) - NAMED} more" if len(problems) > NAMED else ""
    what = (
        f"data.max_dropped_share allows {settings.max_dropped_share:.2%}, found {share:.2%}"
        if settings.on_bad_row == "drop"
        else "mend them, or leave them out with data.on_bad_row: drop"
    )
    raise InputError(f"data: {len(problems)} bad places: {named}{more}; {what}")


def _parsed(file: str, place: str) -> tuple[str, list[Captioned], list[Problem]]:
    """Return a file's layout, its images, and its captions of no image."""
    name = file.split("::")[0].lower()
    if not name.endswith(".json"):
        return "flickr8k", list(_flickr8k(file, place)), []
    content = _json(file, file_bytes(file, place))
    images = content.get("images") if isinstance(content, dict) else None
    if not isinstance(images, list) or not all(isinstance(image, dict) for image in images):
        raise _other_layout(file, content)
    annotations = content.get("annotations")
    if isinstance(annotations, list) and all(isinstance(row, dict) for row in annotations):
        return "coco", *_coco(images, annotations)
    if images and all(isinstance(image.get("sentences"), list) for image in images):
        return "karpathy", list(_karpathy(file, images)), []
    raise _other_layout(file, content)


def _json(file: str, data: bytes) -> Any:
    try:
        return json.loads(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise InputError(
            f"data: {file}: is not UTF-8, found byte 0x{data[error.start]:02x} at place "
            f"{error.start}; save it as UTF-8"
        ) from None
    except (json.JSONDecodeError, RecursionError) as error:
        line = f" in line {error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        raise InputError(f"data: {file}: is not JSON{line}; restore the file") from None


def _other_layout(file: str, content: object) -> InputError:
    keys = ", ".join(list(content)[:8]) if isinstance(content, dict) else ""
    found = f"the keys {keys}" if keys else f"a {type(content).__name__}"
    return InputError(f"data: {file}: unknown layout, found {found}; {_LAYOUTS}")


def _flickr8k(file: str, place: str) -> Iterator[Captioned]:
    """Yield the images of a CSV, in the order of their first rows; the header is row 1."""
    names = columns_of(file, place, kind="csv")
    if not {"image", "caption"} <= set(names):
        raise InputError(
            f"data: {file}: unknown layout, found the columns {', '.join(names[:8])}; {_LAYOUTS}"
        )
    rows = read_file(file, place, ("image", "caption"), kind="csv").with_row_index("row", 2)
    rows = rows.filter(~pl.all_horizontal(pl.col("image", "caption").is_null()))
    pictures: dict[str, Captioned] = {}
    for row, name, caption in rows.iter_rows():
        where = f"row {row}"
        if name is None:
            yield Captioned(where, None)
            continue
        picture = pictures.setdefault(name.strip(), Captioned(where, name.strip()))
        picture.captions.append((where, caption))
    yield from pictures.values()


def _coco(
    images: Sequence[Mapping[str, Any]], annotations: Sequence[Mapping[str, Any]]
) -> tuple[list[Captioned], list[Problem]]:
    """Return images and captions of no image; captions in the order of the file."""
    pictures = {
        str(image.get("id")): Captioned(f"images[{place}]", _text(image.get("file_name")))
        for place, image in enumerate(images)
    }
    problems = []
    for place, row in enumerate(annotations):
        where, picture = f"annotations[{place}]", pictures.get(str(row.get("image_id")))
        if picture is None:
            problems.append(Problem(where, "caption_of_no_image", "an image_id of images"))
        else:
            picture.captions.append((where, _text(row.get("caption"))))
    if len(pictures) < len(images):
        problems.append(Problem("images", "no_image", "an id of its own for each image"))
    return list(pictures.values()), problems


def _karpathy(file: str, images: Sequence[Mapping[str, Any]]) -> Iterator[Captioned]:
    for place, image in enumerate(images):
        where, split = f"images[{place}]", image.get("split")
        if split is not None and split not in KARPATHY_SPLITS:
            raise InputError(
                f"data: {file} {where}: split is {split!r}, expected {', '.join(KARPATHY_SPLITS)}"
            )
        name, folder = _text(image.get("filename")), _text(image.get("filepath"))
        captions: list[tuple[str, str | None]] = [
            (
                f"{where}.sentences[{number}]",
                _text(said.get("raw") if isinstance(said, dict) else None),
            )
            for number, said in enumerate(image["sentences"])
        ]
        path = f"{folder}/{name}" if folder and name else name
        yield Captioned(where, path, split and KARPATHY_SPLITS[split], captions)


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
