"""Published numbers of a study, set beside ours: `resources/published/<study>.csv`.

Free of torch and of tables' libraries: the Snakefile reads them, so that a changed number makes the
comparison again.
"""

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Final

from peft_ablation.comparison.pages import NONE, Block, Heading, Items, Paragraph, Table
from peft_ablation.comparison.words import Words
from peft_ablation.errors import InputError

PUBLISHED: Final = Path(__file__).resolve().parents[1] / "published"
"""Folder of the shipped tables: `resources/published/` of a checkout, package data elsewhere."""

OWN_PUBLISHED: Final = Path("resources", "published")
"""Folder of a person's own tables in the working directory; they go before the shipped ones."""

TITLES: Final = {
    "trainable_parameters": "trainable parameters",
    "total_parameters": "all parameters",
    "train_seconds": "training time",
    "peak_memory_mb": "peak memory",
    "adapter_mb": "stored size",
    "trainable_percent": "trainable share",
}
"""Columns of the comparison that are no metrics, as a table says them."""


@dataclass(frozen=True)
class Published:
    """One published number."""

    arm: str
    """Our arm that it stands beside; empty where there is none."""
    published_as: str
    """What the source calls it."""
    metric: str
    """Column of `comparison.csv`, or the source's own words where we have no such column."""
    value: str
    """To the digit."""
    unit: str
    scale: float
    """What a value of ours is multiplied by to be in this unit."""
    source: str
    not_comparable: str
    """One or more sentences; empty where nothing stands against comparing."""


def read_published(
    study: str, folders: Sequence[str | Path] = (OWN_PUBLISHED, PUBLISHED)
) -> list[dict[str, Any]]:
    """Return the published numbers of a study as plain values; none where no folder has any.

    Raises `InputError` for a table of other columns, and for a value or scale that is no number.
    """
    return [asdict(_row(row)) for _, row in published_rows(f"{study}.csv", Published, folders)]


def published_rows(
    name: str, kind: type[Any], folders: Sequence[str | Path]
) -> list[tuple[str, dict[str, str]]]:
    """Return the rows of a published table of this name, each with where it stands; see above.

    Its columns are the fields of the dataclass `kind`; `value` and `scale` are numbers.
    """
    path = next((p for p in (Path(folder, name) for folder in folders) if p.is_file()), None)
    if path is None:
        return []
    names = [field.name for field in fields(kind)]
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            if reader.fieldnames != names:
                raise InputError(
                    f"{path}: found the columns {', '.join(reader.fieldnames or ())}, expected "
                    f"{', '.join(names)}"
                )
            found = [(f"{path}: row {place}", row) for place, row in enumerate(reader, 1)]
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 at byte {error.start}; save it as UTF-8") from None
    for where, row in found:
        _check_cells(row, len(names), where)
    return found


def _check_cells(row: Mapping[Any, Any], expected: int, where: str) -> None:
    cells = [value for value in row.values() if isinstance(value, str)]
    if len(cells) != expected or None in row:
        found = len(cells) + len(row.get(None, ()))
        raise InputError(f"{where}: found {found} cells, expected {expected}; quote commas")
    for name in ("value", "scale"):
        if not _is_number(row[name]) or (name == "scale" and float(row[name]) <= 0):
            raise InputError(f"{where}: {name}: found {row[name]!r}, expected a number")


def _row(row: Mapping[str, Any]) -> Published:
    return Published(**{**row, "scale": float(row["scale"])})


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


@dataclass(frozen=True)
class Ours:
    """A study's comparison that published numbers are set beside."""

    words: Words
    arms: Mapping[str, Mapping[str, Any]]
    """Rows of `comparison.csv` by arm."""
    published: Sequence[Mapping[str, Any]]


def published_blocks(studies: Mapping[str, Ours]) -> list[Block]:
    """Return the section `Published` of a page; nothing where nothing was published.

    Of several studies the headline scores alone are shown, and each row names its study.
    """
    several = len(studies) > 1
    numbers = [
        (study, ours, number)
        for study, ours in studies.items()
        for number in (Published(**each) for each in ours.published)
        if not several or number.metric == ours.words.headline
    ]
    if not numbers:
        return []
    reasons: dict[str, list[str]] = {}
    for study, _, number in numbers:
        if number.not_comparable:
            reasons.setdefault(number.not_comparable, []).append(study)
    told = [
        f"{', '.join(dict.fromkeys(found))}: {reason}" if several else reason
        for reason, found in reasons.items()
    ]
    reasons_told: list[Block] = []
    if told:
        reasons_told = [Paragraph("What is not comparable in these:"), Items(told)]
    return [
        Heading("Published"),
        Paragraph(
            "What others reported, to the digit, beside the arm of ours that it is nearest to. "
            "Ours is in the published unit; no difference is computed, as what is compared differs "
            "in more than the method."
        ),
        Table(
            (
                *(["study"] if several else []),
                "published as", "measure", "published", "ours", "our arm", "source",
            ),
            [
                [
                    *([study] if several else []),
                    number.published_as,
                    _title(number.metric, ours.words),
                    f"{_grouped(number.value)}{_unit(number.unit)}",
                    _ours(number, ours.arms.get(number.arm)),
                    number.arm or NONE,
                    number.source,
                ]
                for study, ours, number in numbers
            ],
        ),
        *reasons_told,
    ]  # fmt: skip


def _title(metric: str, words: Words) -> str:
    return words.title(metric) if metric in words.metrics else TITLES.get(metric, metric)


def _unit(unit: str) -> str:
    return f" {unit}" if unit else ""


def _grouped(value: str) -> str:
    """Return a whole number with marks for thousands; any other as it is."""
    return f"{int(value):,}" if value.isdigit() else value


def _ours(number: Published, row: Mapping[str, Any] | None) -> str:
    """Return our value with its interval, with as many decimals as the published one."""
    value = (row or {}).get(number.metric)
    if row is None or value is None:
        return NONE
    digits = len(number.value.partition(".")[2])
    low, high = (row.get(f"{number.metric}{end}") for end in ("_low", "_high"))

    def said(one: float) -> str:
        return f"{one * number.scale:,.{digits}f}"

    interval = "" if low is None or high is None else f" [{said(low)}, {said(high)}]"
    return f"{said(value)}{interval}{_unit(number.unit)}"
