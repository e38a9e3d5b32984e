"""What each arm's protocol would have claimed, beside what is true."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import polars as pl
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullFormatter

from peft_ablation.comparison.words import Words
from peft_ablation.figures.style import (
    FAINT,
    INK,
    WRONG,
    house_style,
    legend_below,
    new_figure,
    rows_of_names,
    write_figure,
)

LOSS: Final = "test_loss"
TRUE: Final = "#0072B2"


def plot_claims(table: str | Path, *, words: str | Path, outputs: Sequence[str | Path]) -> None:
    """Draw claimed and true loss and scores by arm, from `claimed.csv` and the comparison's words.

    The loss has a logarithmic axis with a line at that of a uniform guess.
    """
    found = pl.read_csv(table, infer_schema_length=None)
    said = Words.read(words)
    arms = found["arm"].unique(maintain_order=True).to_list()
    measures = [name for name in (LOSS, *said.shown) if name in set(found["measure"])]
    values = {(row["arm"], row["measure"]): row for row in found.iter_rows(named=True)}
    uniform = found["uniform"].cast(pl.Float64).drop_nulls().to_list()
    with house_style():
        figure = new_figure(1.6 + 2.5 * len(measures), 1.5 + 0.3 * len(arms))
        panels = figure.subplots(1, len(measures), sharey=True, squeeze=False)[0]
        for axis, measure in zip(panels, measures, strict=True):
            for place, arm in enumerate(arms):
                _draw(axis, place, values[arm, measure])
            rows_of_names(axis, arms)
            for place in _first_of_each(arms, values):
                axis.axhline(place - 0.5, color=FAINT, linewidth=0.6)
            axis.set_xlabel(said.axis(measure))
            if measure == LOSS:
                _logarithmic(axis)
                for guess in uniform[:1]:
                    axis.axvline(guess, color=INK, linewidth=1.1, linestyle="dotted")
            else:
                axis.set_xlim(left=min(0.0, axis.get_xlim()[0]))
        legend_below(
            figure,
            [
                Line2D([], [], color=TRUE, marker="o", ms=6, linewidth=2.2),
                Line2D([], [], color=WRONG, marker="X", ms=7, ls="none"),
                Line2D([], [], color=INK, linewidth=1.1, linestyle="dotted"),
            ],
            ["true, with interval", "claimed", _guess(uniform)],
            110,
        )
        write_figure(figure, found.filter(pl.col("measure").is_in(measures)), outputs)


def _guess(uniform: Sequence[float]) -> str:
    told = f", ln {round(math.exp(uniform[0])):,} = {uniform[0]:.2f}" if uniform else ""
    return f"loss of a uniform guess{told}"


def _logarithmic(axis: Axes) -> None:
    """Give the axis a logarithmic scale whose ticks are plain numbers."""
    axis.set_xscale("log")
    axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.xaxis.set_major_formatter("{x:g}")
    axis.xaxis.set_minor_formatter(NullFormatter())


def _draw(axis: Axes, place: int, row: Mapping[str, Any]) -> None:
    if row["true_low"] is not None:
        axis.plot(
            [row["true_low"], row["true_high"]], [place, place],
            color=TRUE, linewidth=2.2, solid_capstyle="butt",
        )  # fmt: skip
    if row["true"] is not None:
        axis.plot(row["true"], place, "o", color=TRUE, ms=6)
    if row["claimed"] is not None and row["claimed"] != row["true"]:
        axis.plot(row["claimed"], place, "X", color=WRONG, ms=7)


def _first_of_each(arms: Sequence[str], values: Mapping[tuple[str, str], Any]) -> list[int]:
    """Return the rows at which an arm stands that others are named after, less the first row."""
    return [
        place
        for place, arm in enumerate(arms)
        if place
        and values[arm, LOSS]["counterpart"] is None
        and any(values[other, LOSS]["counterpart"] == arm for other in arms)
    ]
