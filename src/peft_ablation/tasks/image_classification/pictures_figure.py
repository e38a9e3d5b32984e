"""Test images with their true class and what each arm took them for. For public data alone."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from peft_ablation.data.images import ImageCache
from peft_ablation.figures.for_task import FigureInputs
from peft_ablation.figures.style import FAINT, INK, WRONG, house_style, write_figure

PICTURES: Final = 8
COLUMNS: Final = 2
WIDTH: Final = 7.5
IMAGE: Final = 1.35
GAP: Final = 0.16
LINE: Final = 0.135
"""Sizes in inches."""
TEXT_SIZE: Final = 7


def plot_pictures(given: FigureInputs, outputs: Sequence[str | Path]) -> None:
    """Draw up to eight test images, drawn by the seed, and the predictions of each arm."""
    tables = {arm: pl.read_parquet(path) for arm, path in given.predictions.items()}
    cache = ImageCache(given.assets["images"])
    first = next(iter(tables.values()))
    rows = drawn_rows(first.height, PICTURES, given.seed)
    pixels = cache.pixels(cache.position(first["example_id"].gather(rows).to_list()))
    draw_pictures(pixels, {arm: table[rows] for arm, table in tables.items()}, outputs)


def drawn_rows(height: int, most: int, seed: int) -> list[int]:
    """Return up to `most` rows of `height`, drawn by `seed`, in their order."""
    return sorted(np.random.default_rng(seed).permutation(height)[:most].tolist())


def draw_pictures(
    pixels: NDArray[np.uint8],
    predictions: Mapping[str, pl.DataFrame],
    outputs: Sequence[str | Path],
) -> None:
    """Draw pixels (N, H, W) or (N, H, W, 3) beside the predictions of each arm, N rows each."""
    table = pl.concat(
        rows.select(
            "example_id", pl.lit(arm).alias("arm"), "label", "predicted", "probability"
        )
        for arm, rows in predictions.items()
    )  # fmt: skip
    height = max(IMAGE, LINE * (2 + 2 * len(predictions))) + GAP
    rows = -(-len(pixels) // COLUMNS)
    with house_style():
        figure = Figure(figsize=(WIDTH, rows * height))
        page = figure.add_axes((0, 0, 1, 1))
        for place, image in enumerate(pixels):
            left, top = WIDTH / COLUMNS * (place % COLUMNS), height * (place // COLUMNS)
            page.imshow(
                image, cmap="gray", vmin=0, vmax=255,
                extent=(left, left + IMAGE, top + IMAGE, top),
            )  # fmt: skip
            _write(page, left + IMAGE + GAP, top, place, predictions)
        page.set(xlim=(0, WIDTH), ylim=(rows * height, 0), aspect="auto")
        page.axis("off")
        write_figure(figure, table, outputs)


def _write(
    page: Axes, left: float, top: float, place: int, predictions: Mapping[str, pl.DataFrame]
) -> None:
    label = next(iter(predictions.values()))["label"][place]
    lines = [(label, INK, "bold")]
    for arm, rows in predictions.items():
        right = rows["predicted"][place] == label
        said = f"{rows['predicted'][place]}, {rows['probability'][place]:.2f}"
        lines += [(arm, FAINT, "normal")]
        lines += [(said if right else f"✗ {said}", INK if right else WRONG, "normal")]
    for number, (text, colour, weight) in enumerate(lines, 1):
        page.text(
            left, top + number * LINE, text, color=colour, weight=weight, fontsize=TEXT_SIZE,
            va="baseline", parse_math=False,
        )  # fmt: skip
