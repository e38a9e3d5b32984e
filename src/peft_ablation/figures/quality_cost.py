"""The headline score against what an arm costs, each arm named at the side."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.text import OffsetFrom
from matplotlib.transforms import offset_copy

from peft_ablation.comparison.words import Words
from peft_ablation.figures.style import (
    TIME,
    Look,
    house_style,
    new_figure,
    scaled,
    write_figure,
)

LABEL_HEIGHT: Final = 0.085
"""Least distance of two names, as a share of the axis."""


def plot_quality_cost(
    table: str | Path, *, words: str | Path, outputs: Sequence[str | Path]
) -> None:
    """Draw the headline with its interval against trained parameters and training time."""
    said = Words.read(words)
    metric = said.headline
    arms = pl.read_csv(table, infer_schema_length=None)
    names = arms["arm"].to_list()
    look = Look(names)
    scores = arms[metric].cast(pl.Float64).fill_null(0).to_list()
    factor, unit = scaled(arms["train_seconds"].to_list(), TIME)
    with house_style():
        figure = new_figure(7.5, max(3.2, 1.2 + 0.32 * len(names)))
        left, right = figure.subplots(1, 2, sharey=True)
        for axis, costs in (
            (left, arms["trainable_parameters"].to_list()),
            (right, [value * factor for value in arms["train_seconds"]]),
        ):
            for row, (name, cost, score) in enumerate(zip(names, costs, scores, strict=True)):
                low, high = (arms[f"{metric}_{end}"][row] for end in ("low", "high"))
                colour = look.colour(name)
                if low is not None:
                    axis.plot([cost, cost], [low, high], color=colour, linewidth=1.6)
                axis.plot(cost, score, look.marker(name), color=colour, ms=8)
        # An arm that is not trained stands at 0.
        untrained = min(arms["trainable_parameters"]) == 0
        left.set_xscale(
            "symlog" if untrained else "log", **({"linthresh": 100} if untrained else {})
        )
        left.set_xlabel("Trained parameters (log scale)")
        right.set_xlabel(f"Training time ({unit})")
        left.set_ylabel(said.axis(metric))
        left.margins(x=0.15)
        right.margins(x=0.15)
        right.set_xlim(left=0)
        highest = max(0.05, left.get_ylim()[1])
        # Room for the mark of an arm that scores 0.
        left.set_ylim(-0.03 * highest, 1.02 * highest)
        _name_at_the_side(right, names, scores, look)
        columns = ["arm", metric, f"{metric}_low", f"{metric}_high"]
        write_figure(
            figure, arms.select(*columns, "trainable_parameters", "train_seconds"), outputs
        )


def _name_at_the_side(
    axis: Axes, names: Sequence[str], scores: Sequence[float], look: Look
) -> None:
    """Write each name right of the axis at the height of its score, none over another."""
    bottom, top = axis.get_ylim()
    heights = spread([(score - bottom) / (top - bottom) for score in scores], LABEL_HEIGHT)
    for name, score, height in zip(names, scores, heights, strict=True):
        colour = look.colour(name)
        axis.annotate(
            "",
            xy=(1, (score - bottom) / (top - bottom)),
            xycoords="axes fraction",
            xytext=(14, 0),
            textcoords=OffsetFrom(axis.bbox, (1, height), "points"),
            arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.8, "shrinkB": 0},
        )
        marker_at, text_at = (
            offset_copy(axis.transAxes, axis.get_figure(root=True), x=points, units="points")
            for points in (18, 27)
        )
        axis.plot(
            1, height, look.marker(name), color=colour, ms=6, transform=marker_at, clip_on=False
        )
        axis.text(1, height, name, transform=text_at, va="center")


def spread(places: Sequence[float], distance: float) -> list[float]:
    """Return places moved apart to at least `distance`, in the same order, around where they were.

    Neighbours that are too near form a group; a group is laid out evenly around its mean, and
    joined with the next one that it then meets.
    """
    order = np.argsort(np.asarray(places), kind="stable")
    groups: list[list[int]] = []
    centre: list[float] = []
    for index in order:
        groups.append([int(index)])
        centre.append(float(places[index]))
        while len(groups) > 1:
            reach = (len(groups[-1]) + len(groups[-2])) * distance / 2
            if centre[-1] - centre[-2] >= reach - 1e-12:
                break
            size = len(groups[-1]), len(groups[-2])
            middle = (centre[-1] * size[0] + centre[-2] * size[1]) / sum(size)
            groups[-2:] = [groups[-2] + groups[-1]]
            centre[-2:] = [middle]
    result = [0.0] * len(places)
    for group, middle in zip(groups, centre, strict=True):
        for number, index in enumerate(group):
            result[index] = middle + (number - (len(group) - 1) / 2) * distance
    return result
