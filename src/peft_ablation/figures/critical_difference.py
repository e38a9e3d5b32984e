"""Mean ranks of the arms over a suite's studies, and which are not told apart (Demsar, 2006)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl
from matplotlib.axes import Axes

from peft_ablation.comparison.suite import Outcome
from peft_ablation.comparison.suite_ranks import RankTests, rank_tests
from peft_ablation.figures.style import FAINT, INK, Look, house_style, new_figure, write_figure

LINE: Final = 0.24
"""Inches from one line to the next."""


def plot_critical_difference(
    tables: Sequence[str | Path],
    *,
    words: Sequence[str | Path],
    studies: Sequence[str],
    confidence: float,
    outputs: Sequence[str | Path],
) -> None:
    """Draw the arms' mean ranks on one axis, from each study's `comparison.csv` and words.

    Bars join arms that Nemenyi's test does not tell apart; without a test there are none, and the
    figure says why.
    """
    outcomes = [Outcome.read(*each) for each in zip(studies, tables, words, strict=True)]
    tests = rank_tests(outcomes, confidence)
    arms = list(dict.fromkeys(arm for outcome in outcomes for arm in outcome.rows))
    sets = tests.not_told_apart
    half = -(-len(arms) // 2)
    lines = 3 + len(sets) + half
    with house_style():
        figure = new_figure(7.0, LINE * lines + 0.7)
        axis = figure.subplots()
        _axis(axis, len(arms), lines)
        _arms(axis, tests, Look(arms), 1 + len(sets), half)
        for place, names in enumerate(sets):
            ends = [tests.mean_ranks[name] for name in (names[0], names[-1])]
            axis.plot(ends, [1 + place] * 2, color=INK, linewidth=3, solid_capstyle="butt")
        _distance(axis, tests)
        write_figure(figure, _behind(tests), outputs)


def _axis(axis: Axes, arms: int, lines: int) -> None:
    """Make the axis of ranks the upper border; y counts lines downward."""
    axis.set_xlim(0.95, max(arms, 2) + 0.05)
    axis.set_ylim(lines - 2, -2)
    axis.spines["bottom"].set_visible(False)
    axis.spines["left"].set_visible(False)
    axis.spines["top"].set_visible(True)
    axis.spines["top"].set_position(("data", 0))
    axis.xaxis.tick_top()
    axis.set_xticks(np.arange(1, max(arms, 2) + 1))
    axis.set_yticks([])
    axis.grid(visible=False)
    axis.set_xlabel("Mean rank, 1 the best")


def _arms(axis: Axes, tests: RankTests, look: Look, first: int, half: int) -> None:
    """Draw a mark on the axis for each arm, and its name at the border that is nearer."""
    left, right = axis.get_xlim()
    ordered = sorted(tests.mean_ranks, key=lambda arm: tests.mean_ranks[arm])
    for place, arm in enumerate(ordered):
        rank, better = tests.mean_ranks[arm], place < half
        line = first + (place if better else len(ordered) - 1 - place)
        border = left if better else right
        axis.plot([rank, rank, border], [0, line, line], color=FAINT, linewidth=0.9, zorder=1)
        axis.plot(rank, 0, look.marker(arm), color=look.colour(arm), ms=6, clip_on=False)
        axis.annotate(
            f"{arm} {rank:.2f}",
            (border, line),
            xytext=(-4 if better else 4, 0),
            textcoords="offset points",
            ha="right" if better else "left",
            va="center",
            annotation_clip=False,
        )


def _distance(axis: Axes, tests: RankTests) -> None:
    """Draw the critical difference above the axis, or say that nothing is tested."""
    left, _ = axis.get_xlim()
    distance, studies = tests.critical_difference, len(tests.studies)
    over = f"{studies} stud{'y' if studies == 1 else 'ies'}"
    if distance is None:
        text = f"{over} with all arms, {len(tests.mean_ranks)} arms: not tested"
        axis.text(left, -1.4, text, color=INK, va="center")
        return
    axis.plot([1, 1 + distance], [-1.6] * 2, "|-", color=INK, linewidth=1.1, clip_on=False)
    found = "" if tests.differ else "\nFriedman's test finds no difference"
    axis.annotate(
        f"critical difference {distance:.2f}, {over}{found}",
        (1 + distance, -1.6),
        xytext=(6, 0),
        textcoords="offset points",
        va="center",
        annotation_clip=False,
    )


def _behind(tests: RankTests) -> pl.DataFrame:
    sets = tests.not_told_apart
    return pl.DataFrame(
        [
            {
                "arm": arm,
                "mean_rank": rank,
                "studies": len(tests.studies),
                "critical_difference": tests.critical_difference,
                "bars": " ".join(str(1 + place) for place, one in enumerate(sets) if arm in one),
            }
            for arm, rank in tests.mean_ranks.items()
        ],
        schema={
            "arm": pl.String, "mean_rank": pl.Float64, "studies": pl.Int64,
            "critical_difference": pl.Float64, "bars": pl.String,
        },
    )  # fmt: skip
