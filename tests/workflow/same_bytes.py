"""What differs between two runs from scratch, in the files that may not.

    python tests/workflow/same_bytes.py one/results other/results

compares the results of two working directories in which the same was run, and ends with status 1
where any table, prediction, model, page or figure differs. Seconds, memory and energy are measured
anew in each run: their columns, keys and cells are left out, and so is a figure whose table has
such a column. Nothing else is, but what `APART` names.
"""

import csv
import io
import json
import re
import sys
from pathlib import Path
from typing import Any, Final

APART: Final = {
    "logs/": "times of day",
    "benchmarks/": "seconds and memory",
    ".lock": "who holds a checkpoint",
    ".snakemake_timestamp": "a time of day",
    ".html": "the blocks of the page in .md beside it, of which measured cells are left out",
    ".tex": "likewise",
}
"""Endings or folders of files that are not compared, and why."""

MEASURED: Final = re.compile(r"(?<!val_)seconds|per_second|memory_(?!kind)|joules|latency")
"""In names of columns and keys: what measures the machine."""

MEASURED_CELLS: Final = re.compile(r", s$|/s$|s of training|memory|time|energy|latency")
"""In headings of a page's tables: the same."""

CHECKOUT: Final = re.compile(r"(?<=Software: peft-ablation )[^,]*(, [^,]*)?(?=, Python)")
"""What a page says of the checkout that made it, which a commit between the runs changes."""


def differing(folder: Path, other: Path) -> list[str]:
    """Return the files of two folders that differ, or that only one of the two has."""
    found = [names(one) for one in (folder, other)]
    both = found[0] & found[1]
    return sorted(
        [
            *(found[0] ^ found[1]),
            *(name for name in both if read(folder / name) != read(other / name)),
        ]
    )


def names(folder: Path) -> set[str]:
    """Return the files to compare, relative to `folder`."""
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return {
        str(path.relative_to(folder))
        for path in paths
        if not any(f"/{part}" in f"/{path.relative_to(folder)}" for part in APART)
        and not path.name.endswith(tuple(APART))
    }


def read(path: Path) -> Any:
    """Return a file's content, less what is measured."""
    if path.suffix == ".csv":
        return table(path)[1]
    if path.suffix == ".json":
        return unmeasured(json.loads(path.read_text(encoding="utf-8")))
    if path.suffix == ".md":
        return page(path.read_text(encoding="utf-8"))
    behind = path.with_suffix(".csv")
    if path.parent.name == "figures" and behind.is_file() and table(behind)[0]:
        return None
    return path.read_bytes()


def table(path: Path) -> tuple[bool, str]:
    """Return whether a CSV has measured columns, and its text without them."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    measured = [place for place, name in enumerate(rows[0]) if MEASURED.search(name)]
    text = io.StringIO()
    kept = [[cell for place, cell in enumerate(row) if place not in measured] for row in rows]
    csv.writer(text).writerows(kept)
    return bool(measured), text.getvalue()


def unmeasured(value: Any) -> Any:
    """Return JSON without measured keys and hashes of files below, which are compared themselves.

    A manifest's state of the checkout is left out too: a commit between the runs would count.
    """
    if isinstance(value, list):
        return [unmeasured(one) for one in value]
    if not isinstance(value, dict):
        return value
    return {
        key: unmeasured(one)
        for key, one in value.items()
        if not MEASURED.search(key) and not ("/" in key and isinstance(one, str)) and key != "code"
    }


def page(text: str) -> list[list[str]]:
    """Return the lines of a Markdown page in cells, its tables without measured columns."""
    lines: list[list[str]] = []
    measured: list[int] = []
    before = ""
    for line in text.splitlines():
        if line.startswith("|"):
            cells = line.strip("| ").split(" | ")
            if not before.startswith("|"):
                measured = [n for n, cell in enumerate(cells) if MEASURED_CELLS.search(cell)]
            lines.append([cell for n, cell in enumerate(cells) if n not in measured])
        else:
            lines.append([CHECKOUT.sub("", line)])
        before = line
    return lines


if __name__ == "__main__":
    different = differing(Path(sys.argv[1]), Path(sys.argv[2]))
    compared = len(names(Path(sys.argv[1])))
    sys.exit("\n".join(different) if different else print(f"{compared} files identical"))
