"""What is forgotten against what is learnt, a point an arm."""

from collections.abc import Sequence
from pathlib import Path

import polars as pl
from matplotlib.lines import Line2D

from peft_ablation.comparison.words import Words
from peft_ablation.figures.style import (
    FAINT,
    Look,
    house_style,
    legend_below,
    new_figure,
    write_figure,
)


def plot_forgetting(
    table: str | Path,
    *,
    comparison: str | Path,
    words: str | Path,
    outputs: Sequence[str | Path],
) -> None:
    """Draw the change on the base's own task over the headline score, with both intervals.

    One panel for the first metric of which more is better (the headline, if it is measured there),
    and one for the first of which less is (a loss).
    `table` is that of `compare_forgetting`, `comparison` and `words` those of `compare_arms`.
    """
    said = Words.read(words)
    head = said.headline
    scores = pl.read_csv(comparison, infer_schema_length=None)
    changes = pl.read_csv(table, infer_schema_length=None)
    told = [name for name in said.compared if f"{name}_change" in changes.columns]
    quality = scores.select("arm", *(f"{head}{end}" for end in ("", "_low", "_high")))
    better, losses = (
        [name for name in told if said.metrics[name]["higher_is_better"] == higher]
        for higher in (True, False)
    )
    panels = [*better[:1], *losses[:1]]
    ends = ("", "_low", "_high")
    shown = quality.join(
        changes.select("arm", *(f"{name}_change{end}" for name in panels for end in ends)),
        on="arm",
        maintain_order="left",
    )
    look = Look(shown["arm"])
    with house_style():
        figure = new_figure(3.6 * len(panels) + 0.4, 3.8)
        for axis, metric in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels,
                                strict=True):  # fmt: skip
            axis.axhline(0, color=FAINT, linewidth=0.9)
            for row in shown.to_dicts():
                x, y = row[head], row[f"{metric}_change"]
                if x is None or y is None:
                    continue
                colour = look.colour(row["arm"])
                of_x, of_y = ([row[f"{name}_{end}"] for end in ("low", "high")]
                              for name in (head, f"{metric}_change"))  # fmt: skip
                if None not in of_x:
                    axis.plot(of_x, [y, y], color=colour, linewidth=1.4)
                if None not in of_y:
                    axis.plot([x, x], of_y, color=colour, linewidth=1.4)
                axis.plot(x, y, look.marker(row["arm"]), color=colour, ms=7)
            if not said.metrics[metric]["higher_is_better"]:
                axis.invert_yaxis()  # up is less forgotten, in every panel
            axis.set_xlabel(f"{said.axis(head)}, own task")
            title = said.title(metric)
            axis.set_ylabel(f"Change of {title} on the base's task")
            axis.margins(0.12)
        handles = [
            Line2D([], [], color=look.colour(name), marker=look.marker(name), linestyle="")
            for name in shown["arm"]
        ]
        legend_below(figure, handles, shown["arm"].to_list(), 40 * len(panels))
        write_figure(figure, shown, outputs)
