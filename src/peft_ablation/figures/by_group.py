"""Scores by subgroup: a line a subgroup, a mark an arm."""

from collections.abc import Sequence
from pathlib import Path

import polars as pl
from matplotlib.lines import Line2D

from peft_ablation.artifacts import read_json
from peft_ablation.figures.quality import make_room
from peft_ablation.figures.style import (
    Look,
    house_style,
    legend_below,
    literal,
    new_figure,
    rows_of_names,
    write_figure,
)


def plot_by_group(
    table: str | Path, *, account: str | Path, column: str, outputs: Sequence[str | Path]
) -> None:
    """Draw one column's scores of by_group.csv: the headline, or the only score there is."""
    (metric,) = (
        told["metric"]
        for told in read_json(account)["tables"]
        if told["column"] == column and told["headline"]
    )
    rows = pl.read_csv(table, infer_schema_length=None).filter(column=column, metric=metric)
    arms = rows["arm"].unique(maintain_order=True).to_list()
    values = rows["value"].unique(maintain_order=True).to_list()
    counts = dict(rows.select("value", "examples").iter_rows())
    look = Look(arms)
    step = 0.7 / len(arms)
    with house_style():
        height = 1.4 + len(values) * max(0.28, 0.13 * len(arms))
        figure = new_figure(7.5, height)
        axis = figure.subplots()
        for row in rows.iter_rows(named=True):
            if row["score"] is None:
                continue
            place = values.index(row["value"]) + step * (arms.index(row["arm"]) + 0.5) - 0.35
            colour = look.colour(row["arm"])
            if row["score_low"] is not None:
                ends = [row["score_low"], row["score_high"]]
                axis.plot(ends, [place, place], color=colour, lw=1.6, solid_capstyle="butt")
            axis.plot(row["score"], place, look.marker(row["arm"]), color=colour, ms=4.5)
        rows_of_names(axis, [f"{literal(value)} ({counts[value]:,})" for value in values])
        for place in range(1, len(values)):
            axis.axhline(place - 0.5, color="#e2e2e2", lw=0.6)
        make_room(axis)
        title = rows["title"][0]
        axis.set_xlabel(f"{title[:1].upper()}{title[1:]} ({rows['unit'][0]})")
        handles = [
            Line2D([], [], color=look.colour(arm), marker=look.marker(arm), ms=4.5, lw=1.6)
            for arm in arms
        ]
        legend_below(figure, handles, arms, 85)
        write_figure(figure, rows, outputs)
