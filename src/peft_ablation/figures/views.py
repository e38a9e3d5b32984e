"""The lowest validation loss so far against epochs, steps, seconds and joules, one line an arm."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import polars as pl
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from peft_ablation.comparison.views import LOSS, VIEWS, Curve, mean_curve, read_curves
from peft_ablation.figures.loss_curves import LOGARITHMIC_FROM
from peft_ablation.figures.style import (
    FAINT,
    TIME,
    Look,
    house_style,
    legend_below,
    new_figure,
    scaled,
    write_figure,
)

JOULES: Final = ((1.0, "J"), (1e3, "kJ"), (1e6, "MJ"))


def plot_views(
    histories: Sequence[str | Path],
    *,
    runs: Sequence[tuple[str, int]],
    table: str | Path,
    outputs: Sequence[str | Path],
) -> None:
    """Draw the best loss so far of each run (arm, seed) against each cost that the device tells.

    `table` is `views.csv`: the reference's level is a dotted line, the largest budget that every
    run has reached a grey one.
    """
    curves = read_curves(histories, runs)
    said = pl.read_csv(table, infer_schema_length=None).filter(pl.col("measure") == LOSS).row(
        0, named=True
    )  # fmt: skip
    arms = list(dict.fromkeys(curve.arm for curve in curves))
    look = Look(arms)
    told = [view for view in VIEWS if said[f"{view}_budget"] is not None]
    with house_style():
        figure = new_figure(7.5, 5.6)
        grid = figure.subplots(2, 2, sharey=True).ravel()
        for axis in grid[len(told) :]:
            axis.set_axis_off()
            told_by = "Energy: this device does not tell it"
            axis.text(0.5, 0.5, told_by, ha="center", color=FAINT, transform=axis.transAxes)
        for axis, view in zip(grid, told, strict=False):
            factor, label = _scale(view, curves)
            for arm in arms:
                own = [curve for curve in curves if curve.arm == arm]
                _draw(axis, own, view, factor, look)
            axis.axvline(factor * said[f"{view}_budget"], color=FAINT, linewidth=1, zorder=1)
            if said["reference_level"] is not None:
                axis.axhline(said["reference_level"], color="black", linewidth=1, linestyle=":")
            axis.set_xlabel(label)
            axis.set_xlim(left=0)
            if view == "epochs":
                axis.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        for axis in grid[::2]:
            axis.set_ylabel("Lowest validation loss so far")
        losses = [float(end) for curve in curves for end in curve.best[LOSS][[0, -1]]]
        if min(losses) > 0 and max(losses) / min(losses) > LOGARITHMIC_FROM:
            grid[0].set_yscale("log")
        handles = [
            Line2D([], [], color=look.colour(arm), marker=look.marker(arm), linewidth=2, ms=5)
            for arm in arms
        ]
        names = list(arms)
        if said["reference_level"] is not None:
            handles.append(Line2D([], [], color="black", linewidth=1, linestyle=":"))
            names.append(f"{said['reference_arm']} in the end")
        handles.append(Line2D([], [], color=FAINT, linewidth=1))
        legend_below(figure, handles, [*names, "largest equal budget"], 95)
        write_figure(figure, pl.concat([_rows(curve) for curve in curves]), outputs)


def _scale(view: str, curves: Sequence[Curve]) -> tuple[float, str]:
    """Return the factor of what is spent, and the words of its axis."""
    most = [float(curve.spent[view][-1]) for curve in curves]
    if view == "seconds":
        factor, unit = scaled(most, TIME)
        return factor, f"Training time ({unit})"
    if view == "energy":
        factor, unit = scaled(most, JOULES)
        return factor, f"Energy ({unit})"
    return 1.0, VIEWS[view][:1].upper() + VIEWS[view][1:]


def _draw(axis: Axes, runs: Sequence[Curve], view: str, factor: float, look: Look) -> None:
    colour = look.colour(runs[0].arm)
    for run in runs if len(runs) > 1 else ():
        axis.plot(factor * run.spent[view], run.best[LOSS], color=colour, linewidth=0.7, alpha=0.55)
    mean = mean_curve(runs)
    axis.plot(
        factor * mean.spent[view],
        mean.best[LOSS],
        color=colour,
        linewidth=2,
        marker=look.marker(runs[0].arm),
        ms=4,
    )


def _rows(curve: Curve) -> pl.DataFrame:
    return pl.DataFrame(
        {
            **dict(curve.spent),
            f"{LOSS}_so_far": curve.best[LOSS],
            "arm": [curve.arm] * len(curve.best[LOSS]),
            "seed": [curve.seed] * len(curve.best[LOSS]),
        }
    ).select("arm", "seed", f"{LOSS}_so_far", *(pl.col(view).fill_nan(None) for view in VIEWS))
