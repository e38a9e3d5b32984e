"""Bytes of many objects under one root, in order and verified: a local tree or cloud storage."""

import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peft_ablation.errors import InputError

CHECKSUM_FILES = ("SHA256SUMS.txt", "SHA256SUMS")


@dataclass(frozen=True)
class BadObject:
    """An object that gave no trustworthy bytes."""

    status: str
    """One of `missing`, `empty`, `checksum`, `forbidden`, `unreadable`."""
    detail: str
    """What was found, in a few words."""


def is_local(root: str | Path) -> bool:
    """Tell whether `root` is a folder of this machine rather than a URL."""
    return "://" not in str(root)


def read_objects(
    root: str | Path,
    paths: Sequence[str],
    *,
    checksums: Mapping[str, str] | None = None,
    verify: bool = True,
    cloud: Mapping[str, Any] | None = None,
) -> Iterator[tuple[str, bytes | BadObject]]:
    """Yield each path with its bytes, or with what is wrong with it, in the order of `paths`.

    `checksums` maps a path to its SHA-256 (lower-case hex); with `verify`, a path that is not
    in it is bad too. Bytes that do not fit their checksum are never passed on.
    """
    del cloud
    for path in paths:
        yield path, _read_local(Path(root, path), path, checksums if verify else None)


def _read_local(file: Path, path: str, checksums: Mapping[str, str] | None) -> bytes | BadObject:
    try:
        data = file.read_bytes()
    except FileNotFoundError:
        return BadObject("missing", "no such file")
    except PermissionError:
        return BadObject("forbidden", "no permission to read the file")
    except OSError as error:
        return BadObject("unreadable", error.strerror or type(error).__name__)
    return _verified(data, path, checksums)


def _verified(data: bytes, path: str, checksums: Mapping[str, str] | None) -> bytes | BadObject:
    if not data:
        return BadObject("empty", "0 bytes")
    if checksums is not None:
        if path not in checksums:
            return BadObject("checksum", "not listed in SHA256SUMS")
        if hashlib.sha256(data).hexdigest() != checksums[path]:
            return BadObject("checksum", f"SHA-256 of {len(data)} bytes differs from SHA256SUMS")
    return data


def read_checksums(root: str | Path, wanted: Collection[str]) -> dict[str, str] | None:
    """Return path → SHA-256 of the `wanted` paths from a local root's SHA256SUMS, None without one.

    The format is that of sha256sum, as PhysioNet publishes it: `<hex>  <path>` a line. Only
    `wanted` is kept: MIMIC-CXR-JPG lists more than 600,000 files.
    """
    file = next((Path(root, name) for name in CHECKSUM_FILES if Path(root, name).is_file()), None)
    if file is None:
        return None
    keep = set(wanted)
    found: dict[str, str] = {}
    with file.open(encoding="utf-8", errors="replace") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            digest, _, name = line.strip().partition(" ")
            if len(digest) != 64 or not name:
                raise InputError(
                    f"{file}: line {number} is not '<SHA-256>  <path>'; restore the file, or set "
                    "images.verify: false"
                )
            path = name.lstrip(" *").removeprefix("./")
            if path in keep:
                found[path] = digest.lower()
    return found
