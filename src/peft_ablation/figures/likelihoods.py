"""What likelihoods of statements tell: areas under the ROC curve, and the reliability curve."""

from collections.abc import Sequence
from pathlib import Path

import polars as pl
from matplotlib.lines import Line2D

from peft_ablation.figures.style import (
    FAINT,
    Look,
    house_style,
    legend_below,
    literal,
    new_figure,
    rows_of_names,
    write_figure,
)


def plot_likelihoods(
    table: str | Path, *, reliability: str | Path, outputs: Sequence[str | Path]
) -> None:
    """Draw likelihoods.csv beside reliability.csv."""
    rows = pl.read_csv(table, infer_schema_length=None).filter(metric="auroc")
    curve = pl.read_csv(reliability)
    arms = rows["arm"].unique(maintain_order=True).to_list()
    names = rows["statement"].unique(maintain_order=True).to_list()
    look, step = Look(arms), 0.7 / max(len(arms), 1)
    with house_style():
        figure = new_figure(9, 1.6 + len(names) * max(0.28, 0.13 * len(arms)))
        areas, right = figure.subplots(1, 2, width_ratios=(3, 2))
        areas.axvline(0.5, color=FAINT, lw=1)
        for row in rows.drop_nulls("score").iter_rows(named=True):
            place = names.index(row["statement"]) + step * (arms.index(row["arm"]) + 0.5) - 0.35
            colour = look.colour(row["arm"])
            ends = [row["score_low"], row["score_high"]]
            areas.plot(ends, [place, place], color=colour, lw=1.6, solid_capstyle="butt")
            areas.plot(row["score"], place, look.marker(row["arm"]), color=colour, ms=4.5)
        rows_of_names(areas, [literal(name) for name in names])
        areas.set_xlabel("Area under the ROC curve (0 to 1)")
        right.plot([0, 1], [0, 1], color=FAINT, lw=1)
        for arm in arms:
            own = curve.filter(arm=arm)
            right.plot(
                own["probability"], own["share"], color=look.colour(arm), marker=look.marker(arm),
                ms=4.5, lw=1.2,
            )  # fmt: skip
        right.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
        right.set_xlabel("Probability by the likelihoods")
        right.set_ylabel("Share that is true")
        handles = [
            Line2D([], [], color=look.colour(arm), marker=look.marker(arm), ms=4.5, lw=1.6)
            for arm in arms
        ]
        legend_below(figure, handles, arms, 105)
        write_figure(figure, rows, outputs)
