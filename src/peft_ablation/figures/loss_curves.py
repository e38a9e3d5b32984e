"""Training by epoch: losses, rate, gradient norm and what a task counts, one colour an arm."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from peft_ablation.figures.style import Look, house_style, legend_below, new_figure, write_figure

PARTS: Final = (
    ("train_loss", "Training loss"),
    ("val_loss", "Validation loss"),
    ("learning_rate", "Learning rate"),
    ("grad_norm", "Gradient norm before clipping"),
)
LOGARITHMIC_FROM: Final = 30
"""Ratio of the largest loss to the smallest from which the axis is logarithmic."""


def plot_loss_curves(
    histories: Sequence[str | Path],
    *,
    runs: Sequence[tuple[str, int]],
    outputs: Sequence[str | Path],
) -> None:
    """Draw both losses, learning rate and gradient norm of each run (arm, seed).

    What the task counts on the validation split beside the loss (`val_accuracy`, say) is drawn
    too. Thin lines are runs, thick lines the mean over the seeds that have the epoch; a ring marks
    the mean's lowest validation loss.
    """
    read = [pl.read_csv(path) for path in histories]
    counted = sorted({name for history in read for name in history.columns if _is_counted(name)})
    parts = (*PARTS, *((name, _title(name)) for name in counted))
    table = pl.concat(
        (
            history.select(
                pl.lit(arm).alias("arm"),
                pl.lit(int(seed)).alias("seed"),
                pl.col("epoch").cast(pl.Int64),
                pl.col(*(name for name, _ in parts if name in history.columns)).cast(pl.Float64),
            )
            for history, (arm, seed) in zip(read, runs, strict=True)
        ),
        how="diagonal",
    )
    arms = list(dict.fromkeys(arm for arm, _ in runs))
    look = Look(arms)
    with house_style():
        rows = -(-len(parts) // 2)
        figure = new_figure(7.5, 2.8 * rows)
        grid = figure.subplots(rows, 2, sharex=True).ravel()
        axes = grid[: len(parts)]
        for axis in grid[len(parts) :]:
            axis.set_axis_off()
        axes[1].sharey(axes[0])
        for axis, (column, title) in zip(axes, parts, strict=True):
            for arm in arms:
                _draw(axis, table.filter(pl.col("arm") == arm), column, look, arm)
            axis.set_title(title, loc="left")
            axis.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        for axis in axes[-2:]:
            axis.set_xlabel("Epoch")
            axis.xaxis.set_tick_params(labelbottom=True)
        axes[2].set_yscale("log")
        axes[3].set_ylim(bottom=0)
        largest_rate = float(table["learning_rate"].max() or 1)  # type: ignore[arg-type]
        # A schedule ends near zero, which is of no interest.
        axes[2].set_ylim(largest_rate / 1000, 2 * largest_rate)
        axes[0].set_ylabel("Mean loss")
        losses = table.select("train_loss", "val_loss").to_numpy()
        losses = losses[np.isfinite(losses) & (losses > 0)]
        if losses.size and losses.max() / losses.min() > LOGARITHMIC_FROM:
            axes[0].set_yscale("log")
        handles = [
            Line2D([], [], color=look.colour(arm), marker=look.marker(arm), linewidth=2, ms=5)
            for arm in arms
        ]
        ring = Line2D([], [], color="black", marker="o", mfc="none", ms=10, linestyle="none")
        legend_below(figure, [*handles, ring], [*arms, "lowest validation loss"], 95)
        write_figure(figure, table, outputs)


def _is_counted(column: str) -> bool:
    return column.startswith("val_") and column != "val_loss"


def _title(column: str) -> str:
    return f"Validation {column.removeprefix('val_').replace('_', ' ')}"


def _draw(axis: Axes, history: pl.DataFrame, column: str, look: Look, arm: str) -> None:
    colour = look.colour(arm)
    seeds = history["seed"].unique().to_list()
    if len(seeds) > 1:
        for seed in sorted(seeds):
            run = history.filter(pl.col("seed") == seed)
            axis.plot(run["epoch"], run[column], color=colour, linewidth=0.7, alpha=0.55)
    mean = history.group_by("epoch").agg(pl.col(column).mean()).sort("epoch")
    axis.plot(mean["epoch"], mean[column], color=colour, linewidth=2, marker=look.marker(arm), ms=4)
    lowest = mean[column].arg_min()
    if column == "val_loss" and lowest is not None:
        axis.plot(
            mean["epoch"][lowest],
            mean[column][lowest],
            marker="o",
            ms=10,
            mfc="none",
            mec=colour,
            mew=1.3,
        )
