"""What each arm costs: parameters, time, memory and storage, a panel each."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import polars as pl
from matplotlib.ticker import MaxNLocator

from peft_ablation.figures.style import (
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
    """A column of `comparison.csv`, how its axis is called, and its units from small to large."""

    column: str
    title: str
    units: Sequence[tuple[float, str]]


COUNTS: Final = ((1.0, ""), (1e3, "thousand"), (1e6, "million"), (1e9, "billion"))
COSTS: Final = (
    Cost("trainable_parameters", "Trained parameters", COUNTS),
    Cost("train_seconds", "Training time", TIME),
    Cost("peak_memory_mb", "Peak memory in training", MEGABYTES),
    Cost("adapter_mb", "To be stored for the arm", MEGABYTES),
)


def plot_cost(table: str | Path, *, outputs: Sequence[str | Path]) -> None:
    """Draw the costs of each arm as bars with their values, from `comparison.csv`."""
    arms = pl.read_csv(table, infer_schema_length=None)
    names = arms["arm"].to_list()
    look = Look(names)
    with house_style():
        figure = new_figure(7.5, 1.6 + 0.6 * len(names))
        panels = figure.subplots(2, 2, sharey=True).ravel()
        for axis, cost in zip(panels, COSTS, strict=True):
            values = arms[cost.column].cast(pl.Float64).to_list()
            factor, unit = scaled(values, cost.units)
            bars = axis.barh(
                range(len(names)),
                [value * factor for value in values],
                color=[look.colour(name) for name in names],
                height=0.62,
            )
            shares = arms["trainable_percent"] if cost.column == "trainable_parameters" else None
            axis.bar_label(
                bars,
                [
                    _figure(value * factor) + ("" if shares is None else f" ({shares[row]:.3g} %)")
                    for row, value in enumerate(values)
                ],
                padding=3,
                fontsize=8,
            )
            rows_of_names(axis, names)
            # Room for the value of the longest bar.
            axis.set_xlim(0, (max(values) * factor or 1) * (1.3 if shares is None else 1.5))
            axis.xaxis.set_major_locator(MaxNLocator(5))
            axis.set_xlabel(f"{cost.title} ({unit})" if unit else cost.title)
        columns = ["arm", *(cost.column for cost in COSTS), "trainable_percent", "memory_kind"]
        write_figure(figure, arms.select(columns), outputs)


def _figure(value: float) -> str:
    """Return a number with three digits that count, and none of them lost before the point."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
