"""Where a file of a table lies: under the root, on disk, or behind a URL that fsspec reads.

A URL may be a chain, as fsspec has it: `zip://train.csv::https://host/all.zip` is a file in an
archive. The last part of a chain is the one that lies somewhere.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def by_split(files: Any) -> list[tuple[Any, str]]:
    """Return each file with its split, None where the files give none.

    `files` is a file or several, or a mapping of splits to these.
    """
    parts: Mapping[Any, str | Sequence[str]]
    parts = files if isinstance(files, Mapping) else {None: files}
    return [
        (split, file)
        for split, several in parts.items()
        for file in ((several,) if isinstance(several, str) else several)
    ]


def located(file: str, root: str | None) -> str | None:
    """Return the path or URL of a file, relative to `root`; None where it needs one and has none.

    `root` may be a chain itself: `zip://::/data/all.zip` is the inside of an archive.
    """
    *chain, last = file.split("::")
    if "://" not in last and not Path(last).is_absolute():
        if root is None:
            return None
        inner, *outer = root.split("::")
        last = "::".join([f"{inner}{'' if inner.endswith('/') else '/'}{last}", *outer])
    return "::".join([*chain, last])


def on_disk(place: str) -> Path | None:
    """Return the local file that a path or URL reads, such as an archive; None for a remote one."""
    last = place.split("::")[-1].removeprefix("file://")
    return None if "://" in last else Path(last)
