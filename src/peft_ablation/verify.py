"""Whether a finished study is still what it was: its files hashed again, against its manifest.

`python -m peft_ablation.verify results/phantom_cxr`, or the workflow's target `verify`.
"""

import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from peft_ablation.artifacts import read_json, sha256_file, write_json
from peft_ablation.errors import InputError
from peft_ablation.provenance import manifest as describe

NAME: Final = "manifest.json"
"""The manifest of a study, in its folder of results."""


def seal(
    paths: Iterable[str | Path], *, study: str, config: Mapping[str, Any], output: str | Path
) -> None:
    """Write the manifest of a finished study: what it was made with, and the hash of each file.

    `paths` are files, and folders with all that is in them, beneath the folder of `output`.
    `folders` of the manifest are those that hold nothing else: what is new in one is told.
    """
    root = Path(output).parent
    files = sorted(set(_files(map(Path, paths))))
    recorded = {path.relative_to(root).as_posix(): sha256_file(path) for path in files}
    folders = sorted({path.parent for path in files} - {root})
    closed = [
        folder.relative_to(root).as_posix()
        for folder in folders
        if set(_held(folder)) <= set(files)
    ]
    made = {key: value for key, value in describe(config).items() if key != "inputs"}
    write_json(output, {"study": study, **made, "folders": closed, "files": recorded})


def verify(root: str | Path) -> list[str]:
    """Return one line for each file of a study that is not as its manifest says; none: all are.

    Raises `InputError` where the folder holds no finished study.
    """
    folder = Path(root)
    if not (folder / NAME).is_file():
        raise InputError(
            f"{folder}: no {NAME}, expected a finished study; run its workflow to the end first"
        )
    told = read_json(folder / NAME)
    if not isinstance(told, dict) or not {"files", "folders"} <= told.keys():
        raise InputError(
            f"{folder / NAME}: found no files and folders, expected a study's manifest"
        )
    lines = [
        line for name, digest in told["files"].items() if (line := _state(folder, name, digest))
    ]
    extra = {
        path.relative_to(folder).as_posix()
        for name in told["folders"]
        if (folder / name).is_dir()
        for path in _held(folder / name)
    } - told["files"].keys()
    return [*lines, *(f"extra: {name}" for name in sorted(extra))]


def _state(folder: Path, name: str, recorded: str) -> str | None:
    path = folder / name
    if not path.is_file():
        return f"missing: {name}"
    found = sha256_file(path)
    if found == recorded:
        return None
    return f"changed: {name} (SHA-256 {found[:12]}…, recorded {recorded[:12]}…)"


def checked(root: str | Path) -> int:
    """Verify a study and return how many files it has.

    Raises `InputError` that names every file that is not as recorded, a line each.
    """
    lines = verify(root)
    count = len(read_json(Path(root, NAME))["files"])
    if lines:
        listed = "\n".join(lines)
        raise InputError(
            f"{root}: not as its {NAME} of {count} files says ({len(lines)})\n{listed}"
        )
    return count


def _files(paths: Iterable[Path]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            yield from (file for file in path.rglob("*") if file.is_file() and _counts(file))
        else:
            yield path


def _held(folder: Path) -> list[Path]:
    """Return the files right in a folder."""
    return [path for path in folder.iterdir() if path.is_file() and _counts(path)]


def _counts(path: Path) -> bool:
    """Tell whether a file is part of a result: Snakemake and editors leave hidden ones."""
    return not path.name.startswith(".")


def main() -> None:
    """Verify the study in the folder that the command line names."""
    if len(sys.argv) != 2:
        sys.exit("usage: python -m peft_ablation.verify RESULTS/STUDY")
    try:
        print(f"{sys.argv[1]}: {checked(sys.argv[1])} files are as recorded")
    except InputError as error:
        sys.exit(f"peft-ablation: {error}")


if __name__ == "__main__":
    main()
