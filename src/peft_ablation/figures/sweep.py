"""The headline score and the validation loss over a number that arms were swept over."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl
from matplotlib.lines import Line2D

from peft_ablation.comparison.words import Words
from peft_ablation.config.swept import SWEPT, swept_lines
from peft_ablation.figures.style import Look, house_style, legend_below, new_figure, write_figure


def plot_sweep(
    table: str | Path,
    *,
    words: str | Path,
    arms: Mapping[str, Mapping[str, Any]],
    key: str,
    outputs: Sequence[str | Path],
) -> None:
    """Draw a line for each group of `arms` that differ in `key` alone, from `comparison.csv`.

    The bar of a point is the interval of its arm; single seeds are short marks beside it, so that
    the spread between values can be held against that between seeds.
    """
    said = Words.read(words)
    metric = said.headline
    comparison = {
        row["arm"]: row for row in pl.read_csv(table, infer_schema_length=None).to_dicts()
    }
    lines = swept_lines(arms, key)
    look = Look(lines)
    rows = [
        {
            "line": line,
            "arm": name,
            key: float(arms[name][key]),
            **{
                column: comparison[name][column]
                for column in (metric, f"{metric}_low", f"{metric}_high", "best_val_loss")
            },
        }
        for line, names in lines.items()
        for name in names
    ]
    with house_style():
        figure = new_figure(7.5, 3.6)
        left, right = figure.subplots(1, 2)
        for line, names in lines.items():
            own = [row for row in rows if row["line"] == line]
            places = [row[key] for row in own]
            style = {"color": look.colour(line), "marker": look.marker(line), "ms": 6}
            for axis, column in ((left, metric), (right, "best_val_loss")):
                axis.plot(places, [_value(row[column]) for row in own], linewidth=1.4, **style)
            for row in own:
                low, high = row[f"{metric}_low"], row[f"{metric}_high"]
                if low is not None:
                    left.plot([row[key]] * 2, [low, high], color=look.colour(line), linewidth=1.6)
            for name in names:
                seeds = str(comparison[name][f"{metric}_by_seed"] or "").split()
                if len(seeds) > 1:
                    left.plot(
                        [float(arms[name][key])] * len(seeds), list(map(float, seeds)), "_",
                        color=look.colour(line), ms=8,
                    )  # fmt: skip
        for axis, title in ((left, said.axis(metric)), (right, "Validation loss")):
            axis.set_xscale("log", base=2 if key == "r" else 10)
            axis.set_ylabel(title)
            title_of_axis = SWEPT[key]
            axis.set_xlabel(f"{title_of_axis[:1].upper()}{title_of_axis[1:]} (log scale)")
        if key == "r":
            ranks = sorted({row[key] for row in rows})
            for axis in (left, right):
                axis.set_xticks(ranks, [f"{rank:g}" for rank in ranks])
                axis.minorticks_off()
        legend_below(
            figure,
            [Line2D([], [], color=look.colour(n), marker=look.marker(n)) for n in lines],
            list(lines),
            95,
        )
        write_figure(figure, pl.DataFrame(rows), outputs)


def _value(value: float | None) -> float:
    return float("nan") if value is None else value
