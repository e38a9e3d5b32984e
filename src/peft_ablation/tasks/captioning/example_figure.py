"""Test images with their true report and what each arm wrote. For public data alone."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path

from peft_ablation.data.images import ImageCache
from peft_ablation.figures.for_task import FigureInputs
from peft_ablation.figures.style import FAINT, INK, WRONG, house_style, write_figure
from peft_ablation.sources.mimic.reports import normalise

EXAMPLES: Final = 4
WIDTH: Final = 7.5
IMAGE: Final = 1.5
GAP: Final = 0.18
LINE: Final = 0.155
TEXT_SIZE: Final = 7.5
"""Sizes in inches; of text, in points."""
PAGE: Final = 10.5
"""Height in inches that the examples fill at most, but for a single longer one."""


@dataclass(frozen=True)
class Piece:
    """A sentence or word as it is drawn."""

    text: str
    colour: str = INK


Line = list[tuple[float, Piece]]
"""Words and their distance from the left, in inches."""
Block = list[tuple[str, list[Line]]]
"""The named paragraphs of one example."""


def plot_reports(given: FigureInputs, outputs: Sequence[str | Path]) -> None:
    """Draw up to four test images, as many as fit a page, with what is and was written of them.

    The images are drawn by the seed, from groups of their own where there are enough.
    """
    arms = list(given.predictions)
    tables = {arm: pl.read_parquet(path) for arm, path in given.predictions.items()}
    first = tables[arms[0]]
    cache = ImageCache(given.assets["images"])
    positions = cache.position(first["example_id"].to_list())
    rows = drawn_rows(first["group"].to_numpy(), positions >= 0, given.seed)
    blocks = [_flowed(tables, arms, row) for row in rows]
    fitting = max(1, int((np.cumsum([_height(block) for block in blocks]) <= PAGE).sum()))
    rows, blocks = rows[:fitting], blocks[:fitting]
    shown = pl.DataFrame(
        {
            "example_id": first["example_id"][row],
            "arm": arm,
            "reference": first["reference"][row],
            "hypothesis": tables[arm]["hypothesis"][row],
        }
        for row in rows
        for arm in arms
    )
    with house_style():
        write_figure(_figure(blocks, cache.pixels(positions[rows])), shown, outputs)


def drawn_rows(
    subjects: npt.NDArray[np.int64], usable: npt.NDArray[np.bool_], seed: int
) -> list[int]:
    """Return up to four usable rows, in the order of the table, subjects apart if possible."""
    order = np.random.default_rng(seed).permutation(np.flatnonzero(usable))
    _, first = np.unique(subjects[order], return_index=True)
    apart = order[np.sort(first)]
    others = [row for row in order if row not in set(apart.tolist())]
    return sorted(int(row) for row in [*apart, *others][:EXAMPLES])


def _flowed(tables: dict[str, pl.DataFrame], arms: Sequence[str], row: int) -> Block:
    """Return the named paragraphs of one example, broken into lines."""
    reference = sentences(tables[arms[0]]["reference"][row])
    paragraphs = [("true report", [Piece(sentence) for sentence in reference])]
    for arm in arms:
        paragraphs.append((arm, marked(tables[arm]["hypothesis"][row], reference)))
    return [(name, flow(pieces, WIDTH - IMAGE - GAP)) for name, pieces in paragraphs]


def _height(block: Block) -> float:
    """Return how high an example is drawn, in inches."""
    return max(IMAGE, LINE * sum(len(text) + 1.25 for _, text in block)) + GAP


def sentences(text: str) -> list[str]:
    """Return the sentences of a report, each with its full stop and no space before it."""
    parts = (part.strip() for part in text.split("."))
    return [f"{part}." for part in parts if part]


def marked(text: str, reference: Sequence[str]) -> list[Piece]:
    """Return the sentences of `text`, those that `reference` has not marked, and what it lacks."""
    said = sentences(text)
    true = {normalise(sentence) for sentence in reference}
    pieces = [
        Piece(sentence) if normalise(sentence) in true else Piece(f"✗ {sentence}", WRONG)
        for sentence in said
    ]
    lacking = len(true - {normalise(sentence) for sentence in said})
    if not said:
        pieces.append(Piece("(nothing)", FAINT))
    if lacking:
        pieces.append(Piece(f"(lacks {lacking} of {len(true)})", FAINT))
    return pieces


def _figure(blocks: Sequence[Block], pixels: npt.NDArray[np.uint8]) -> Figure:
    """Lay out the examples one under another; the height follows from the texts."""
    heights = [_height(block) for block in blocks]
    figure = Figure(figsize=(WIDTH, sum(heights)))
    page = figure.add_axes((0, 0, 1, 1))
    page.set(xlim=(0, WIDTH), ylim=(sum(heights), 0))
    page.axis("off")
    top = 0.0
    for block, height, image in zip(blocks, heights, pixels, strict=True):
        page.imshow(
            image, cmap="gray", vmin=0, vmax=255, extent=(0, IMAGE, top + IMAGE, top), zorder=2
        )
        _write(page, block, top)
        top += height
    page.set(xlim=(0, WIDTH), ylim=(sum(heights), 0), aspect="auto")
    return figure


def _write(
    page: Axes, block: list[tuple[str, list[list[tuple[float, Piece]]]]], top: float
) -> None:
    left, line = IMAGE + GAP, top + LINE * 0.8
    for name, text in block:
        page.text(left, line, name, fontsize=TEXT_SIZE, weight="bold", va="baseline")
        for words in text:
            line += LINE
            for offset, piece in words:
                page.text(
                    left + offset,
                    line,
                    piece.text,
                    fontsize=TEXT_SIZE,
                    color=piece.colour,
                    va="baseline",
                    parse_math=False,
                )
        line += LINE * 1.25


def flow(pieces: Sequence[Piece], width: float) -> list[Line]:
    """Break pieces into lines of at most `width` inches; each word keeps its piece's colour.

    A word that is longer is broken anywhere.
    """
    font = FontProperties(family="DejaVu Sans", size=TEXT_SIZE)

    def inches(text: str) -> float:
        return float(text_to_path.get_text_width_height_descent(text, font, False)[0]) / 72

    def fitting(word: str) -> Iterator[str]:
        while len(word) > 1 and inches(word) > width:
            most = next(
                n for n in range(len(word) - 1, 0, -1) if n == 1 or inches(word[:n]) <= width
            )
            yield word[:most]
            word = word[most:]
        yield word

    space = inches("n n") - inches("nn")
    lines: list[Line] = [[]]
    at = 0.0
    for piece in pieces:
        for word in (part for whole in piece.text.split() for part in fitting(whole)):
            long = inches(word)
            if lines[-1] and at + long > width:
                lines.append([])
                at = 0.0
            lines[-1].append((at, Piece(word, piece.colour)))
            at += long + space
    return lines
