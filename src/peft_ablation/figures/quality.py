"""Quality by arm, beside the same arm with shuffled inputs and the baselines."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import polars as pl
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from peft_ablation.comparison.words import Words
from peft_ablation.figures.style import (
    FAINT,
    INK,
    Look,
    house_style,
    legend_below,
    new_figure,
    rows_of_names,
    write_figure,
)

DASHES: Final = ((0, (1, 1.5)), (0, (5, 2)), (0, (3, 1, 1, 1)))
BASELINES: Final = 2
"""Most baselines that are drawn: the first ones of the task."""


def plot_quality(table: str | Path, *, words: str | Path, outputs: Sequence[str | Path]) -> None:
    """Draw the shown metrics by arm, from `comparison.csv` and its words."""
    arms = pl.read_csv(table, infer_schema_length=None)
    said = Words.read(words)
    metrics = said.shown
    names = arms["arm"].to_list()
    baselines = dict(list(said.baselines.items())[:BASELINES])
    look = Look(names)
    with house_style():
        figure = new_figure(max(7.5, 3.75 * len(metrics)), 1.7 + 0.42 * len(names))
        panels = figure.subplots(1, len(metrics), sharey=True, squeeze=False)[0]
        for axis, metric in zip(panels, metrics, strict=True):
            for place, row in enumerate(arms.iter_rows(named=True)):
                _draw_arm(axis, place, row, metric, look)
            for name, dashes in zip(baselines, DASHES, strict=False):
                column = f"{name}_{metric}"
                value = arms[column][0] if column in arms.columns else None
                if value is not None:
                    axis.axvline(value, color=INK, linewidth=1.1, linestyle=dashes, zorder=1)
            rows_of_names(axis, names)
            make_room(axis)
            axis.set_xlabel(said.axis(metric))
        legend_below(figure, *_legend(arms, baselines), 85)
        columns = [
            "arm",
            *(
                f"{metric}{end}"
                for metric in metrics
                for end in ("", "_low", "_high", "_by_seed", "_shuffled")
            ),
            *(
                f"{name}_{metric}"
                for name in baselines
                for metric in metrics
                if f"{name}_{metric}" in arms.columns
            ),
        ]
        write_figure(figure, arms.select(columns), outputs)


def make_room(axis: Axes) -> None:
    """Let the horizontal axis hold 0 and all that is drawn, with room for the marks at its ends."""
    lowest, highest = min(0.0, axis.dataLim.x0), axis.get_xlim()[1]
    room = 0.02 * (highest - lowest)
    axis.set_xlim(lowest - room, highest + room)


def _draw_arm(axis: Axes, place: int, row: dict[str, Any], metric: str, look: Look) -> None:
    colour, marker = look.colour(row["arm"]), look.marker(row["arm"])
    low, high = row[f"{metric}_low"], row[f"{metric}_high"]
    if low is not None:
        axis.plot([low, high], [place, place], color=colour, linewidth=2.2, solid_capstyle="butt")
    seeds = [float(value) for value in str(row[f"{metric}_by_seed"] or "").split()]
    if len(seeds) > 1:
        axis.plot(seeds, [place + 0.24] * len(seeds), "|", color=colour, ms=6, mew=1.2)
    if row[f"{metric}_shuffled"] is not None:
        axis.plot(
            row[f"{metric}_shuffled"], place - 0.24, marker, mfc="white", mec=colour, mew=1.3, ms=6
        )
    if row[metric] is not None:
        axis.plot(row[metric], place, marker, color=colour, ms=7)


def _legend(arms: pl.DataFrame, baselines: Mapping[str, str]) -> tuple[list[Line2D], list[str]]:
    def dot(**look: Any) -> Line2D:
        return Line2D([], [], color=FAINT, marker="o", **look)

    entries = [(dot(ms=7, linewidth=2.2), "mean over seeds, interval")]
    if (arms["seeds"] > 1).any():
        entries.append(
            (Line2D([], [], color=FAINT, marker="|", ls="none", mew=1.2), "single seeds")
        )
    entries.append((dot(ms=6, mfc="white", mew=1.3, ls="none"), "test inputs shuffled"))
    entries += [
        (Line2D([], [], color=INK, linewidth=1.1, linestyle=dashes), title)
        for title, dashes in zip(baselines.values(), DASHES, strict=False)
    ]
    handles, labels = zip(*entries, strict=True)
    return list(handles), list(labels)
