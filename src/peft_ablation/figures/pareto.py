"""Pareto fronts: the headline score with its interval against four costs."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import polars as pl
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter

from peft_ablation.comparison.pareto import COSTS
from peft_ablation.comparison.words import Words
from peft_ablation.figures.style import (
    FAINT,
    MEGABYTES,
    TIME,
    Look,
    house_style,
    legend_below,
    new_figure,
    scaled,
    write_figure,
)

AXES: Final[Mapping[str, tuple[str, tuple[tuple[float, str], ...] | None]]] = {
    "trainable_parameters": ("Trained parameters", None),
    "adapter_mb": ("Stored (MB)", None),
    "train_seconds": ("Training time", TIME),
    "peak_memory_mb": ("Peak memory", MEGABYTES),
}
"""Words of each cost's axis, and its units; one without units is on a logarithmic scale."""


def plot_pareto_fronts(
    table: str | Path, *, words: str | Path, outputs: Sequence[str | Path]
) -> None:
    """Draw the fronts of `pareto.csv`; a mark is as full as its arm is surely on the front."""
    said = Words.read(words)
    rows = pl.read_csv(table, infer_schema_length=None)
    arms = rows["arm"].to_list()
    look = Look(arms)
    with house_style():
        figure = new_figure(7.5, 5.8)
        grid = figure.subplots(2, 2, sharey=True).ravel()
        for axis, cost in zip(grid, COSTS, strict=True):
            _draw(axis, rows.to_dicts(), cost, look)
        for axis in grid[::2]:
            axis.set_ylabel(said.axis(said.headline))
        handles = [
            Line2D([], [], color=look.colour(arm), marker=look.marker(arm), linestyle="none", ms=7)
            for arm in arms
        ]
        line = Line2D([], [], color=FAINT, linewidth=1.2)
        legend_below(figure, [*handles, line], [*arms, "front"], 95)
        write_figure(figure, rows, outputs)


def _draw(axis: Axes, rows: Sequence[Mapping[str, Any]], cost: str, look: Look) -> None:
    title, units = AXES[cost]
    priced = [row for row in rows if row[cost] is not None]
    factor, unit = scaled([row[cost] for row in priced], units) if units else (1.0, "")
    axis.set_xlabel(f"{title} ({unit})" if unit else title)
    front = sorted((row[cost] * factor, row["score"]) for row in priced if row[f"{cost}_on_front"])
    for row in priced:
        spent, colour = row[cost] * factor, look.colour(row["arm"])
        axis.plot([spent] * 2, [row["score_low"], row["score_high"]], color=colour, linewidth=1.4)
        if units:
            between = [row[f"{cost}_low"] * factor, row[f"{cost}_high"] * factor]
            axis.plot(between, [row["score"]] * 2, color=colour, linewidth=1.4)
        mark: dict[str, Any] = {"marker": look.marker(row["arm"]), "ms": 8, "zorder": 3}
        # At a cost of 0 a mark lies on the axis, and is drawn whole.
        axis.plot(spent, row["score"], **mark, clip_on=False, mfc="white", mec="white")
        share = row[f"{cost}_on_front_probability"]
        axis.plot(
            spent,
            row["score"],
            **mark,
            clip_on=False,
            mfc=to_rgba(colour, share),
            mec=colour,
            mew=1.3,
        )
    if units is None:
        paid = [row[cost] for row in priced if row[cost] > 0]
        # An arm that is not trained stands at 0.
        if len(paid) < len(priced):
            axis.set_xscale("symlog", linthresh=min(paid, default=1.0))
            axis.set_xlim(left=0)
        else:
            _logarithmic(axis, paid, engineering=cost == "trainable_parameters")
    axis.margins(x=0.12)
    if front:
        # Beyond its dearest arm the front stays as it is.
        costs, scores = [*(x for x, _ in front), axis.get_xlim()[1]], [y for _, y in front]
        axis.step(costs, [*scores, scores[-1]], where="post", color=FAINT, linewidth=1.2, zorder=1)
        axis.set_xlim(right=costs[-1])


def _logarithmic(axis: Axes, values: Sequence[float], engineering: bool) -> None:
    """Make the x axis logarithmic, with so many numbers that they do not meet."""
    axis.set_xscale("log")
    wide = max(values) / min(values) > 100
    axis.xaxis.set_major_locator(LogLocator(subs=(1,) if wide else (1, 2, 5)))
    axis.xaxis.set_major_formatter(EngFormatter(sep="") if engineering else "{x:g}")
    axis.xaxis.set_minor_formatter(NullFormatter())
