"""Headline scores by arm, one panel a study."""

from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Final

import polars as pl
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from peft_ablation.comparison.suite import Outcome
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

MOST: Final = 4
"""Panels side by side."""


def plot_suite(
    tables: Sequence[str | Path],
    *,
    words: Sequence[str | Path],
    studies: Sequence[str],
    outputs: Sequence[str | Path],
) -> None:
    """Draw each study's headline score by arm, from its `comparison.csv` and words.

    An arm that a study lacks has an empty row there.
    """
    outcomes = [Outcome.read(*each) for each in zip(studies, tables, words, strict=True)]
    arms = list(dict.fromkeys(arm for outcome in outcomes for arm in outcome.rows))
    look = Look(arms)
    columns = min(MOST, len(outcomes))
    lines = -(-len(outcomes) // columns)
    with house_style():
        figure = new_figure(1.2 + 2.6 * columns, 0.7 + lines * (0.9 + 0.3 * len(arms)))
        panels = figure.subplots(lines, columns, sharey=True, squeeze=False).flatten()
        for axis, outcome in zip_longest(panels, outcomes):
            if outcome is None:
                axis.set_visible(False)
            else:
                _draw(axis, outcome, arms, look)
        legend_below(
            figure,
            [
                Line2D([], [], color=FAINT, marker="o", ms=6, linewidth=2.2),
                Line2D([], [], color=FAINT, linewidth=1.1),
                Line2D([], [], color=INK, linewidth=1.1, linestyle="dotted"),
            ],
            ["mean over seeds, interval", "reference arm", "best without training"],
            34 * columns,
        )
        write_figure(figure, _behind(outcomes), outputs)


def _draw(axis: Axes, outcome: Outcome, arms: Sequence[str], look: Look) -> None:
    for place, arm in enumerate(arms):
        value, low, high = (outcome.value(arm, end) for end in ("", "_low", "_high"))
        colour = look.colour(arm)
        if low is not None and high is not None:
            axis.plot([low, high], [place] * 2, color=colour, linewidth=2.2, solid_capstyle="butt")
        if value is not None:
            axis.plot(value, place, look.marker(arm), color=colour, ms=6)
    best = _best(outcome)
    if best is not None:
        axis.axvline(best, color=INK, linewidth=1.1, linestyle="dotted", zorder=1)
    reference = outcome.value(outcome.reference) if outcome.reference else None
    if reference is not None:
        axis.axvline(reference, color=FAINT, linewidth=1.1, zorder=1)
    rows_of_names(axis, arms)
    axis.set_title(outcome.study)
    axis.set_xlabel(outcome.words.axis(outcome.words.headline))


def _best(outcome: Outcome) -> float | None:
    values = list(outcome.baselines.values())
    if not values:
        return None
    return max(values) if outcome.higher_is_better else min(values)


def _behind(outcomes: Sequence[Outcome]) -> pl.DataFrame:
    ends = ("", "_low", "_high")
    return pl.DataFrame(
        [
            {
                "study": outcome.study,
                "metric": outcome.words.headline,
                "arm": arm,
                **{f"score{end}": outcome.value(arm, end) for end in ends},
                "best_without_training": _best(outcome),
            }
            for outcome in outcomes
            for arm in outcome.rows
        ],
        infer_schema_length=None,
    )
