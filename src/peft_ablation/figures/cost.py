"""What each arm costs: parameters, storage, time, speed, memory and energy, a panel each."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import polars as pl
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import ScaledTranslation

from peft_ablation.figures.style import (
    FAINT,
    MEGABYTES,
    TIME,
    Look,
    house_style,
    new_figure,
    rows_of_names,
    scaled,
    write_figure,
)


@dataclass(frozen=True)
class Cost:
    """A panel: what its axis is called, its units from small to large, its columns."""

    title: str
    units: Sequence[tuple[float, str]]
    bars: Sequence[tuple[str, str]]
    """Column of `comparison.csv` and what it is called; several are stacked."""
    marks: Sequence[tuple[str, str, str]] = ()
    """Column, what it is called, and matplotlib's marker, drawn over the bar."""


ONE: Final = ((1.0, ""),)
COUNTS: Final = ((1.0, ""), (1e3, "thousand"), (1e6, "million"), (1e9, "billion"))
ENERGY: Final = ((1.0, "J"), (1e3, "kJ"), (1e6, "MJ"))
COSTS: Final = (
    Cost("Trained parameters", COUNTS, [("trainable_parameters", "")]),
    Cost("To be stored for the arm", MEGABYTES, [("adapter_mb", "")]),
    Cost(
        "Time of a run",
        TIME,
        [
            ("train_seconds", "training"),
            ("evaluate_seconds", "evaluating"),
            ("saving_seconds", "saving"),
            ("waiting_seconds", "waiting for data"),
        ],
    ),
    Cost("Training speed, examples a second", ONE, [("examples_per_second", "")]),
    Cost(
        "Memory in training",
        MEGABYTES,
        [("peak_memory_mb", "allocated, peak")],
        [
            ("mean_memory_mb", "allocated, mean", "|"),
            ("reserved_peak_memory_mb", "reserved, peak", "d"),
            ("reserved_mean_memory_mb", "reserved, mean", "x"),
        ],
    ),
    Cost("Energy of training", ENERGY, [("energy_joules", "")]),
)
SHADES: Final = (1.0, 0.6, 0.35, 0.15)
"""Opacity of the parts of a stacked bar."""


def plot_cost(table: str | Path, *, outputs: Sequence[str | Path]) -> None:
    """Draw the costs of each arm as bars with their values, from `comparison.csv`."""
    arms = pl.read_csv(table, infer_schema_length=None)
    names = arms["arm"].to_list()
    look = Look(names)
    columns = [column for cost in COSTS for column, *_ in (*cost.bars, *cost.marks)]
    with house_style():
        figure = new_figure(7.5, 3.2 + 0.9 * len(names))
        panels = figure.subplots(3, 2, sharey=True).ravel()
        for axis, cost in zip(panels, COSTS, strict=True):
            _draw(axis, arms, cost, look)
            rows_of_names(axis, names)
        told = ["arm", *columns, "tokens_per_second", "trainable_percent", "memory_kind"]
        write_figure(figure, arms.select(told), outputs)


def _draw(axis: Axes, arms: pl.DataFrame, cost: Cost, look: Look) -> None:
    values = {
        column: arms[column].cast(pl.Float64).to_list() for column, *_ in (*cost.bars, *cost.marks)
    }
    if any(value is None for parts in values.values() for value in parts):
        axis.text(0.5, 0.5, "not told by this device", transform=axis.transAxes, ha="center",
                  va="center", color=FAINT)  # fmt: skip
        axis.set_xticks([])
        axis.set_xlabel(cost.title)
        return
    ends = [sum(parts) for parts in zip(*(values[column] for column, _ in cost.bars), strict=True)]
    most = max(ends + [value for column, *_ in cost.marks for value in values[column]])
    factor, unit = scaled([most], cost.units)
    colours = [look.colour(name) for name in arms["arm"]]
    left = [0.0] * len(ends)
    for (column, _), shade in zip(cost.bars, SHADES, strict=False):
        widths = [value * factor for value in values[column]]
        axis.barh(range(len(ends)), widths, left=left, color=colours, height=0.62, alpha=shade)
        left = [start + width for start, width in zip(left, widths, strict=True)]
    for column, _, marker in cost.marks:
        at = [value * factor for value in values[column]]
        axis.plot(at, range(len(ends)), marker, color="black", ms=6, linestyle="none")
    labels = [_figure(end * factor) for end in ends]
    if cost.bars[0][0] == "trainable_parameters":
        shares = arms["trainable_percent"]
        labels = [f"{text} ({shares[row]:.3g} %)" for row, text in enumerate(labels)]
    for row, text in enumerate(labels):
        last = max([ends[row], *(values[column][row] for column, *_ in cost.marks)]) * factor
        axis.annotate(
            text, (last, row), xytext=(8 if cost.marks else 3, 0), textcoords="offset points",
            va="center", fontsize=8,
        )  # fmt: skip
    # Room for the value of the longest bar.
    axis.set_xlim(0, (most * factor or 1) * (1.5 if "(" in labels[0] else 1.3))
    axis.xaxis.set_major_locator(MaxNLocator(5))
    axis.set_xlabel(f"{cost.title} ({unit})" if unit else cost.title)
    _legend(axis, cost)


def _legend(axis: Axes, cost: Cost) -> None:
    """Say below a panel what its shades and marks are."""
    if len(cost.bars) + len(cost.marks) == 1:
        return
    handles: list[Patch | Line2D] = [
        Patch(color=FAINT, alpha=shade, label=name)
        for (_, name), shade in zip(cost.bars, SHADES, strict=False)
    ]
    handles += [
        Line2D([], [], color="black", marker=marker, linestyle="none", label=name)
        for _, name, marker in cost.marks
    ]
    below_the_label = ScaledTranslation(0, -34 / 72, axis.figure.dpi_scale_trans)
    axis.legend(
        handles=handles, loc="upper center", bbox_to_anchor=(0.5, 0), fontsize=7,
        bbox_transform=axis.transAxes + below_the_label, ncols=2 if cost.marks else 4,
        handlelength=1, columnspacing=1, handletextpad=0.4,
    )  # fmt: skip


def _figure(value: float) -> str:
    """Return a number with three digits that count, and none of them lost before the point."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
