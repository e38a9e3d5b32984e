"""Test images with their references and what each arm wrote, a column an arm. For public data."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from peft_ablation.data.images import ImageCache
from peft_ablation.figures.for_task import FigureInputs
from peft_ablation.figures.style import FAINT, INK, broken, house_style, write_figure
from peft_ablation.tasks.captioning.example_figure import (
    GAP,
    IMAGE,
    LINE,
    TEXT_SIZE,
    Line,
    Piece,
    drawn_rows,
    flow,
    plot_reports,
)

REFERENCES: Final = 2.1
ARM: Final = 1.25
"""Widths of columns in inches."""
NAME: Final = 18
"""Signs of an arm's name in a line, at most."""


def plot_examples(given: FigureInputs, outputs: Sequence[str | Path]) -> None:
    """Draw up to four test images: with several references as columns, else as paragraphs."""
    tables = {arm: pl.read_parquet(path) for arm, path in given.predictions.items()}
    first = next(iter(tables.values()))
    if first.schema["reference"] != pl.List(pl.String):
        plot_reports(given, outputs)
        return
    cache = ImageCache(given.assets["images"])
    positions = cache.position(first["example_id"].to_list())
    rows = drawn_rows(first["group"].to_numpy(), positions >= 0, given.seed)
    draw_captions(
        cache.pixels(positions[rows]), {arm: table[rows] for arm, table in tables.items()}, outputs
    )


def draw_captions(
    pixels: npt.NDArray[np.uint8],
    predictions: Mapping[str, pl.DataFrame],
    outputs: Sequence[str | Path],
) -> None:
    """Draw pixels (N, H, W) or (N, H, W, 3), and references and texts of N rows for each arm."""
    first = next(iter(predictions.values()))
    shown = pl.concat(
        rows.select(
            "example_id",
            pl.lit(arm).alias("arm"),
            pl.col("reference").list.join(" | ").alias("references"),
            "hypothesis",
        )
        for arm, rows in predictions.items()
    )
    columns = [[_several(texts) for texts in first["reference"].to_list()]]
    columns += [
        [flow([_said(text)], ARM) for text in rows["hypothesis"].to_list()]
        for rows in predictions.values()
    ]
    names = ["references", *(broken(arm, NAME) for arm in predictions)]
    with house_style():
        write_figure(_figure(pixels, names, columns), shown, outputs)


def _said(text: str) -> Piece:
    return Piece(text) if text.strip() else Piece("(nothing)", FAINT)


def _several(texts: Sequence[str]) -> list[Line]:
    """Return the lines of several texts, each begun by a dash."""
    return [line for text in texts for line in flow([Piece("–", FAINT), Piece(text)], REFERENCES)]


def _figure(
    pixels: npt.NDArray[np.uint8], names: Sequence[str], columns: Sequence[Sequence[list[Line]]]
) -> Figure:
    """Lay out a row an image; `columns` holds the lines of each image, column by column."""
    widths = [REFERENCES, *[ARM] * (len(columns) - 1)]
    lefts = IMAGE + GAP + np.concatenate([[0], np.cumsum(np.add(widths, GAP))])
    head = LINE * (1.5 + max(name.count("\n") for name in names))
    heights = [
        max(IMAGE, LINE * (max(len(column[row]) for column in columns) + 0.5)) + GAP
        for row in range(len(pixels))
    ]
    size = float(lefts[-1] - GAP), head + sum(heights)
    figure = Figure(figsize=size)
    page = figure.add_axes((0, 0, 1, 1))
    for left, name in zip(lefts, names, strict=False):
        page.text(
            left, head - LINE * 0.6, name, fontsize=TEXT_SIZE, weight="bold", color=INK,
            va="bottom", parse_math=False,
        )  # fmt: skip
    top = head
    for row, (image, height) in enumerate(zip(pixels, heights, strict=True)):
        page.imshow(image, cmap="gray", vmin=0, vmax=255, extent=(0, IMAGE, top + IMAGE, top))
        for left, column in zip(lefts, columns, strict=False):
            _write(page, column[row], float(left), top)
        top += height
    page.set(xlim=(0, size[0]), ylim=(size[1], 0), aspect="auto")
    page.axis("off")
    return figure


def _write(page: Axes, lines: Sequence[Line], left: float, top: float) -> None:
    for number, words in enumerate(lines):
        for offset, piece in words:
            page.text(
                left + offset, top + LINE * (number + 0.8), piece.text, fontsize=TEXT_SIZE,
                color=piece.colour, va="baseline", parse_math=False,
            )  # fmt: skip
