"""Peak memory of a training step by configuration: the page of memory.csv, with published numbers.

Free of torch and of tables' libraries at import: the Snakefile reads what was published, so that a
changed number makes the page again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from peft_ablation.artifacts import write_text
from peft_ablation.comparison.pages import (
    NONE,
    Block,
    Heading,
    Items,
    Paragraph,
    Table,
    markdown,
    plain,
)
from peft_ablation.comparison.published import OWN_PUBLISHED, PUBLISHED, published_rows
from peft_ablation.errors import InputError

Row = Mapping[str, Any]

FOLDER: Final = "memory"
"""Folder of published memory beside the other published numbers, a file a study."""

KINDS: Final = {
    "gpu_allocated": "what torch had allocated of the GPU at most in three steps, the model "
    "included and the driver's own share not; reserved is what it had taken for that",
    "process_rss_growth": "how far the resident memory of the process grew at most in three steps, "
    "since before the model was built: weights, what the step holds, and what is held besides, "
    "such as texts as token ids. The libraries themselves are not counted. Tensors leave the "
    "process when they are freed; a training's own process can hold more, in holes between them",
}
"""What a peak means, by `memory_kind`."""

MEASURED: Final = "measured"


@dataclass(frozen=True)
class PublishedMemory:
    """One published peak of memory."""

    arm: str
    """Our arm that it stands beside."""
    published_as: str
    batch_size: int
    length: int
    gradient_checkpointing: bool
    value: str
    """To the digit."""
    unit: str
    scale: float
    """What our megabytes are multiplied by to be in this unit."""
    source: str
    not_comparable: str


def read_published_memory(
    study: str, folders: Sequence[str | Path] = (OWN_PUBLISHED, PUBLISHED)
) -> list[dict[str, Any]]:
    """Return the published memory of a study as plain values; none where no folder has any.

    Raises `InputError` for a table of other columns, and for a number that is none.
    """
    found = published_rows(f"{FOLDER}/{study}.csv", PublishedMemory, folders)
    return [asdict(_published(row, where)) for where, row in found]


def _published(row: Mapping[str, Any], where: str) -> PublishedMemory:
    checkpointing = {"true": True, "false": False}.get(row["gradient_checkpointing"])
    if checkpointing is None:
        raise InputError(
            f"{where}: gradient_checkpointing: found {row['gradient_checkpointing']!r}, expected "
            "true or false"
        )
    for name in ("batch_size", "length"):
        try:
            int(row[name])
        except ValueError:
            raise InputError(f"{where}: {name}: found {row[name]!r}, expected a number") from None
    return PublishedMemory(
        **{
            **row,
            "batch_size": int(row["batch_size"]),
            "length": int(row["length"]),
            "gradient_checkpointing": checkpointing,
            "scale": float(row["scale"]),
        }
    )


def write_memory_page(
    table: str | Path, *, published: Sequence[Row], study: str, page: str | Path
) -> None:
    """Write memory.csv as a page in Markdown, with the published rows beside ours."""
    import polars as pl

    rows = pl.read_csv(table, infer_schema_length=None).rows(named=True)
    write_text(page, markdown(memory_blocks(rows, published, study)))


def memory_blocks(rows: Sequence[Row], published: Sequence[Row], study: str) -> list[Block]:
    """Return the page; `rows` are those of memory.csv."""
    return [
        Heading(f"Memory of a training step, study {study}", 1),
        *_measured(rows),
        *_expected(rows),
        *_beside_published(rows, [PublishedMemory(**one) for one in published]),
    ]


def _measured(rows: Sequence[Row]) -> list[Block]:
    seen = {(row["device"], row["precision"], row["memory_kind"]) for row in rows if row["device"]}
    told = [
        f"Device {device}, precision {precision}. Peak is {KINDS[kind]}."
        for device, precision, kind in sorted(seen)
    ]
    reasons = [
        f"{_name(row)}: {row['status']}: {row['reason']}"
        for row in rows
        if row["status"] != MEASURED and row["reason"]
    ]
    return [
        Paragraph(
            "Each row was measured in a process of its own, by the steps that training takes. Kept "
            "for backward is what the forward pass of the first step was seen to keep for its "
            "backward pass, each storage once: activations, masks of dropout, logits. Supervised "
            "is what the loss of the batch is divided by (tokens, or examples). Numbers are "
            "megabytes of 10⁶ bytes."
        ),
        *map(Paragraph, told),
        Table(
            (
                "arm", "method", "batch size", "length", "supervised", "gradient checkpointing",
                "optimizer", "peak", "reserved", "kept for backward", "expected by the formula",
            ),
            [
                [
                    row["arm"], row["method"], str(row["batch_size"]), _whole(row["length"]),
                    _whole(row["supervised"]), _yes(row["gradient_checkpointing"]),
                    row["optimizer"],
                    plain(row["peak_mb"], 1) if row["status"] == MEASURED else row["status"],
                    plain(row["reserved_peak_mb"], 1), plain(row["kept_for_backward_mb"], 1),
                    plain(row["expected_mb"], 1),
                ]
                for row in rows
            ],
        ),
        *((Paragraph("Not measured:"), Items(reasons)) if reasons else ()),
    ]  # fmt: skip


def _expected(rows: Sequence[Row]) -> list[Block]:
    held = {(row["arm"], row["optimizer"]): row for row in rows}
    return [
        Heading("What the formula adds up"),
        Paragraph(
            "Weights as they are stored, a gradient of each trained one, what the optimizer keeps "
            "of it, and the logits of one batch, once, in float32 (none are kept where the head is "
            "frozen); the table above has their sum. What else a step keeps for its backward pass "
            "is not in it, nor the copies in bf16 that autocast makes. Gradients and activations "
            "are not at their peaks at the same moment, so that a measured peak may also be below "
            "the sum."
        ),
        Table(
            ("arm", "optimizer", "weights that stay", "trained weights", "gradients", "its state"),
            [
                [
                    arm, optimizer,
                    *(
                        plain(row[f"expected_{part}_mb"], 1)
                        for part in ("frozen", "trained", "gradients", "optimizer")
                    ),
                ]
                for (arm, optimizer), row in held.items()
            ],
        ),
    ]  # fmt: skip


def _beside_published(rows: Sequence[Row], published: Sequence[PublishedMemory]) -> list[Block]:
    if not published:
        return []
    reasons = dict.fromkeys(one.not_comparable for one in published if one.not_comparable)
    return [
        Heading("Published"),
        Paragraph(
            "What others reported, to the digit, beside our measurement of that arm, batch size, "
            "length and gradient checkpointing, where the study's `memory` has it."
        ),
        Table(
            (
                "published as", "batch size", "length", "gradient checkpointing", "published",
                "ours", "our arm", "source",
            ),
            [
                [
                    one.published_as, str(one.batch_size), str(one.length),
                    _yes(one.gradient_checkpointing), f"{one.value} {one.unit}",
                    _ours(one, rows), one.arm, one.source,
                ]
                for one in published
            ],
        ),
        *((Paragraph("What is not comparable in these:"), Items(list(reasons))) if reasons else ()),
    ]  # fmt: skip


def _ours(one: PublishedMemory, rows: Sequence[Row]) -> str:
    """Return our peak in the published unit, with as many decimals; of several optimizers all."""
    keys = ("arm", "batch_size", "length", "gradient_checkpointing")
    digits = len(one.value.partition(".")[2])
    found = [
        plain(row["peak_mb"], digits, one.scale, f" {one.unit}")
        if row["status"] == MEASURED
        else row["status"]
        for row in rows
        if all(row[key] == getattr(one, key) for key in keys)
    ]
    return ", ".join(found) or NONE


def _name(row: Row) -> str:
    checkpointing = ", gradient checkpointing" if row["gradient_checkpointing"] else ""
    length = "" if row["length"] is None else f" of length {row['length']}"
    return f"{row['arm']}, {row['batch_size']} examples{length}{checkpointing}, {row['optimizer']}"


def _yes(flag: bool) -> str:
    return "yes" if flag else "no"


def _whole(value: int | None) -> str:
    return NONE if value is None else f"{value:,}"
