"""Which classes are taken for which, by arm."""

from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from numpy.typing import NDArray

from peft_ablation.figures.for_task import FigureInputs
from peft_ablation.figures.style import (
    FAINT,
    INK,
    broken,
    house_style,
    literal,
    new_figure,
    write_figure,
)
from peft_ablation.metrics.classes import confusion
from peft_ablation.tasks.image_classification import ImageClassification

NAMED: Final = 40
"""Most classes that are named on the axes."""
NUMBERED: Final = 12
"""Most classes whose shares are written into the cells."""
WIDTH: Final = 7.5
CELL: Final = 0.245
"""Sizes in inches."""


def plot_confusion(given: FigureInputs, outputs: Sequence[str | Path]) -> None:
    """Draw the confusion matrix of each arm, from its predictions."""
    classes = ImageClassification(given.task, pl.read_parquet(given.train)).classes
    matrices = {
        arm: confusion(pl.read_parquet(path), classes) for arm, path in given.predictions.items()
    }
    draw_confusion(matrices, classes, outputs)


def draw_confusion(
    matrices: Mapping[str, NDArray[np.int64]],
    classes: Sequence[str],
    outputs: Sequence[str | Path],
) -> None:
    """Draw counts (K, K), row the true class and column the predicted one, by arm.

    Each cell is coloured by its share of the true class.
    """
    table = pl.DataFrame(
        [
            (arm, classes[true], classes[said], int(counts[true, said]), share[true, said])
            for arm, counts in matrices.items()
            for share in [_shares(counts)]
            for true, said in product(range(len(classes)), repeat=2)
        ],
        schema=["arm", "true", "predicted", "images", "share_of_true"],
        orient="row",
    )
    side = max(CELL * min(len(classes), NUMBERED), 1.2)
    names = 0.075 * max(map(len, classes)) + 0.3 if len(classes) <= NAMED else 0.5
    columns = max(1, min(len(matrices), int((WIDTH - names) // (side + 0.2))))
    rows = -(-len(matrices) // columns)
    with house_style():
        figure = new_figure(columns * (side + 0.2) + names, rows * (side + 0.4) + names + 0.4)
        panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
        for axes, (arm, counts) in zip(panels, matrices.items(), strict=False):
            _draw_matrix(axes, _shares(counts), classes)
            axes.set_title(broken(arm, int(side / 0.075)), fontsize=9)
        for axes in panels[len(matrices) :]:
            axes.set_visible(False)
        figure.supxlabel("Predicted class", fontsize=9)
        figure.supylabel("True class", fontsize=9)
        write_figure(figure, table, outputs)


def _shares(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return counts as shares of their row; 0 for a class without images."""
    return np.asarray(counts / np.maximum(counts.sum(axis=1, keepdims=True), 1), dtype=np.float64)


def _draw_matrix(axes: Axes, shares: NDArray[np.float64], classes: Sequence[str]) -> None:
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.grid(visible=False)
    axes.tick_params(length=0, labelsize=7)
    for spine in axes.spines.values():
        spine.set(visible=True, color=FAINT)
    if len(classes) <= NAMED:
        names = list(map(literal, classes))
        axes.set_xticks(range(len(classes)), names, rotation=90)
        axes.set_yticks(range(len(classes)), names)
    if len(classes) > NUMBERED:
        return
    for true, said in product(range(len(classes)), repeat=2):
        share = shares[true, said]
        if share >= 0.005:
            axes.text(
                said, true, f"{100 * share:.0f}", ha="center", va="center", fontsize=6.5,
                color="white" if share > 0.6 else INK,
            )  # fmt: skip
