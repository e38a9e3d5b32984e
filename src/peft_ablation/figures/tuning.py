"""The trials of learning rates: validation loss over rate, one line an arm."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import polars as pl
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, StrMethodFormatter

from peft_ablation.figures.style import Look, house_style, legend_below, new_figure, write_figure

LOGARITHMIC_FROM: Final = 10
"""Ratio of the largest loss to the smallest from which the axis is logarithmic."""
PLAIN_BELOW: Final = 1000
"""Ratio of the largest rate to the smallest below which 1, 2 and 5 of each decade are labelled."""
COLUMNS: Final = ("arm", "learning_rate", "val_loss", "best_epoch", "epochs", "chosen")


def plot_tuning(
    tables: Sequence[str | Path], *, arms: Sequence[str], outputs: Sequence[str | Path]
) -> None:
    """Draw each arm's lowest validation loss over the rates it tried, from its `trials.csv`.

    A ring marks the rate that is chosen, a cross on the upper edge one whose trial diverged.
    """
    table = pl.concat(
        pl.read_csv(path).select(
            pl.lit(arm).alias("arm"),
            pl.col("learning_rate", "val_loss").cast(pl.Float64),
            *COLUMNS[3:],
        )
        for path, arm in zip(tables, arms, strict=True)
    )
    look = Look(arms)
    with house_style():
        figure = new_figure(7.5, 4.2)
        axis = figure.subplots()
        for arm in arms:
            own = table.filter(pl.col("arm") == arm)
            ended, chosen = own.drop_nulls("val_loss"), own.filter("chosen")
            colour = look.colour(arm)
            axis.plot(
                ended["learning_rate"], ended["val_loss"], color=colour, linewidth=1.6,
                marker=look.marker(arm), ms=5,
            )  # fmt: skip
            axis.plot(
                chosen["learning_rate"], chosen["val_loss"], "o", ms=12, mfc="none", mec=colour,
                mew=1.5,
            )  # fmt: skip
            diverged = own.filter(pl.col("val_loss").is_null())["learning_rate"]
            if len(diverged):
                axis.plot(
                    diverged, [1.0] * len(diverged), "x", color=colour, ms=8, mew=2, clip_on=False,
                    transform=axis.get_xaxis_transform(),
                )  # fmt: skip
        losses = table["val_loss"].drop_nulls().to_list()
        if min(losses) > 0 and max(losses) / min(losses) > LOGARITHMIC_FROM:
            axis.set_yscale("log")
        axis.set_xscale("log")
        rates = table["learning_rate"].to_list()
        if max(rates) / min(rates) < PLAIN_BELOW:
            axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
            axis.minorticks_off()
        axis.set_xlabel("Learning rate (log scale)")
        axis.set_ylabel("Lowest validation loss")
        handles = [
            Line2D([], [], color=look.colour(arm), marker=look.marker(arm), linewidth=1.6, ms=5)
            for arm in arms
        ]
        ring = Line2D([], [], color="black", marker="o", mfc="none", ms=10, linestyle="none")
        cross = Line2D([], [], color="black", marker="x", ms=8, mew=2, linestyle="none")
        some = table["val_loss"].null_count() > 0
        legend_below(
            figure,
            [*handles, ring, *([cross] if some else [])],
            [*arms, "chosen", *(["diverged"] if some else [])],
            95,
        )
        write_figure(figure, table, outputs)
