"""Peak memory of a training step by configuration, over what the formula expects."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import polars as pl
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from peft_ablation.figures.style import (
    COLOURS,
    FAINT,
    INK,
    MEGABYTES,
    WRONG,
    house_style,
    legend_below,
    literal,
    new_figure,
    rows_of_names,
    scaled,
    write_figure,
)

PARTS: Final = {
    "expected_frozen_mb": ("weights that stay", FAINT),
    "expected_trained_mb": ("trained weights", COLOURS[0]),
    "expected_gradients_mb": ("gradients", COLOURS[4]),
    "expected_optimizer_mb": ("state of the optimizer", COLOURS[2]),
}
"""Bars of the formula: column of memory.csv, name, colour."""
HATCHED: Final[dict[str, Any]] = {"facecolor": "white", "edgecolor": FAINT, "hatch": "////"}
COUNTED: Final = "kept for backward, counted"


def plot_memory(table: str | Path, *, outputs: Sequence[str | Path]) -> None:
    """Draw a bar of what is expected for each row of memory.csv, and the measured peak over it.

    To what the formula says of weights comes what the forward pass was seen to keep: activations,
    and what there is of logits, which a frozen head does not keep at all.
    """
    rows = pl.read_csv(table, infer_schema_length=None)
    told = rows.rows(named=True)
    ends = [row["peak_mb"] or 0 for row in told] + [sum(_widths(row)) for row in told]
    factor, unit = scaled(ends, MEGABYTES)
    with house_style():
        figure = new_figure(9, 1.8 + 0.34 * len(told))
        axes = figure.subplots()
        for place, row in enumerate(told):
            *parts, kept = (width * factor for width in _widths(row))
            left = 0.0
            for width, (_, colour) in zip(parts, PARTS.values(), strict=True):
                axes.barh(place, width, left=left, height=0.62, color=colour)
                left += width
            if kept:
                axes.barh(place, kept, left=left, height=0.62, **HATCHED)
            left += kept
            if row["peak_mb"] is None:
                axes.annotate(
                    row["status"], (left, place), xytext=(5, 0), textcoords="offset points",
                    va="center", fontsize=8, color=WRONG,
                )  # fmt: skip
            else:
                axes.plot(row["peak_mb"] * factor, place, "D", color=INK, ms=5)
        rows_of_names(axes, [literal(_name(row)) for row in told])
        axes.set_xlim(0, (max(ends) * factor or 1) * 1.15)
        axes.set_xlabel(f"Memory of a training step ({unit})")
        handles: list[Patch | Line2D] = [Patch(color=colour) for _, colour in PARTS.values()]
        handles += [
            Patch(**HATCHED),
            Line2D([], [], color=INK, marker="D", ms=5, linestyle="none"),
        ]
        names = [name for name, _ in PARTS.values()]
        legend_below(figure, handles, [*names, COUNTED, "measured peak"], 105)
        write_figure(figure, rows, outputs)


def _widths(row: dict[str, Any]) -> list[float]:
    """Return the megabytes of each part, and of what is kept for the backward pass."""
    return [row[column] or 0.0 for column in (*PARTS, "kept_for_backward_mb")]


def _name(row: dict[str, Any]) -> str:
    """Return what a row is, such as `lora, 16 x 128, checkpointing`."""
    length = "" if row["length"] is None else f" × {row['length']}"
    checkpointing = ", checkpointing" if row["gradient_checkpointing"] else ""
    optimizer = "" if row["optimizer"] == "adamw" else f", {row['optimizer']}"
    return f"{row['arm']}, {row['batch_size']}{length}{checkpointing}{optimizer}"
