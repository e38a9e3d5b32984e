"""Scores and validation loss over a number that arms were swept over, and over what it trains."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import polars as pl
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullFormatter

from peft_ablation.comparison.captions import sentence
from peft_ablation.comparison.sweep import (
    LOSS,
    OURS,
    PUBLISHED,
    REFERENCE,
    drawn_metrics,
    in_short,
    read_points,
    read_spreads,
)
from peft_ablation.config.swept import LEAST, SWEPT
from peft_ablation.figures.style import (
    FAINT,
    Look,
    house_style,
    legend_below,
    literal,
    new_figure,
    write_figure,
)
from peft_ablation.metrics.metric import bounds

SHARE: Final = "trainable_percent"
ASIDE: Final = 1.1
"""Factor by which single seeds stand beside the mean."""
APART: Final = 1.5
"""Factor by which the lines of several studies stand apart at one rank, or rate, in all."""
ROOM: Final = 0.06
"""Share of the axis that is left free above and below what is drawn."""
EDGE: Final = 0.02
"""Share of it beyond what a score can be, so that its marks are whole."""

DECADES: Final = 100
"""A logarithmic axis whose ends are nearer has marks between the powers of ten."""

Row = Mapping[str, Any]


def plot_sweep(
    points: Sequence[str | Path],
    spreads: Sequence[str | Path],
    *,
    studies: Sequence[str],
    key: str,
    outputs: Sequence[str | Path],
) -> None:
    """Draw what `compare_sweep` wrote of each study: a line for each group of swept arms.

    A row of panels is a metric: the headline score, what others published over the same number, the
    validation loss. Where arms differ in rank there is a second column, over the trainable share.
    Large marks are means over seeds with their intervals, small ones single seeds, hollow ones
    published; dashes are the reference arm, which stands at its own share too.
    """
    tables = [read_points(path) for path in points]
    metrics = list(dict.fromkeys(name for table in tables for name in drawn_metrics(table)))
    # Last also where studies differ in what else they show.
    metrics.sort(key=lambda name: name == LOSS)
    whole = pl.concat(
        [
            table.select(pl.lit(study).alias("study"), pl.all())
            for study, table in zip(studies, tables, strict=True)
        ]
    ).filter(pl.col("metric").is_in(metrics))
    rows = _labelled(whole.to_dicts())
    look = Look(row["label"] for row in rows)
    across = ["swept", SHARE] if key == "r" else ["swept"]
    told = [
        row
        for study, path in zip(studies, spreads, strict=True)
        for row in read_spreads(path).to_dicts()
    ]
    with house_style():
        if len(across) > 1:
            figure = new_figure(7.5, 0.6 + 2.6 * len(metrics))
            grid = figure.subplots(len(metrics), 2, sharey="row", squeeze=False)
        else:
            figure = new_figure(3.75 * len(metrics), 3.4)
            grid = figure.subplots(1, len(metrics), squeeze=False).T
        for panels, metric in zip(grid, metrics, strict=True):
            own = [row for row in rows if row["metric"] == metric]
            low, high = _limits(own)
            for axis, column in zip(panels, across, strict=True):
                axis.set_ylim(low, high)
                _draw(axis, own, column, look)
                _scale(axis, own, column, key)
            first = own[0]
            unit = f" ({first['unit']})" if first["unit"] else ""
            panels[0].set_ylabel(f"{sentence(first['title'])}{unit}")
            of_metric = [row for row in told if row["metric"] == metric]
            if len(of_metric) == 1:
                panels[0].set_title(in_short(of_metric[0], key), loc="left", fontsize=8)
        legend_below(figure, *_legend(rows, look), 95)
        write_figure(figure, whole, outputs)


def _labelled(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return the rows with `label`: the line, and of several studies the base or the study.

    A reference arm has the label of its study's first line.
    """
    lines = list(dict.fromkeys((r["study"], r["line"]) for r in rows if r["kind"] == OURS))
    bases = {(r["study"], r["line"]): r["base"] for r in rows if r["kind"] == OURS}
    several = len({study for study, _ in lines}) > 1
    if not several:
        names = {line: line[1] for line in lines}
    elif len(set(bases.values())) == len(lines):
        names = bases
    else:
        names = {line: ": ".join(line) for line in lines}
    first = {study: names[study, line] for study, line in reversed(lines)}
    return [
        {**row, "label": names.get((row["study"], row["line"]), first[row["study"]])}
        for row in rows
    ]


def _seeds(row: Row) -> list[float]:
    found = [float(value) for value in (row["by_seed"] or "").split()]
    return found if len(found) > 1 else []


def _limits(rows: Sequence[Row]) -> tuple[float, float]:
    """Return the ends of the axis: all of ours, and published numbers that are a series."""
    shown = [
        value
        for row in rows
        if row["kind"] != PUBLISHED
        for value in (row["score"], row["low"], row["high"], *_seeds(row))
    ]
    theirs: dict[str, list[float]] = {}
    for row in rows:
        if row["kind"] == PUBLISHED:
            theirs.setdefault(row["label"], []).append(row["score"])
    shown += [value for values in theirs.values() if len(values) >= LEAST for value in values]
    known = [value for value in shown if value is not None] or [0.0, 1.0]
    least, most = bounds(rows[0]["unit"] or "")
    # Where nothing differs, the unit says what is little.
    apart = max(known) - min(known) or (most - least if math.isfinite(most) else 1.0)
    room, edge = ROOM * apart, EDGE * apart
    return max(min(known) - room, least - edge), min(max(known) + room, most + edge)


def _draw(axis: Axes, rows: Sequence[Row], column: str, look: Look) -> None:
    labels = list(dict.fromkeys(row["label"] for row in rows))
    for number, label in enumerate(labels):
        colour, marker = look.colour(label), look.marker(label)
        # Shares differ by themselves.
        apart = 1.0 if column == SHARE else APART ** ((number + 0.5) / len(labels) - 0.5)
        kinds = {
            kind: [row for row in rows if row["label"] == label and row["kind"] == kind]
            for kind in (OURS, REFERENCE, PUBLISHED)
        }
        ours = kinds[OURS]
        axis.plot(
            [row[column] * apart for row in ours],
            [float("nan") if row["score"] is None else row["score"] for row in ours],
            color=colour, marker=marker, ms=5, linewidth=1.3,
        )  # fmt: skip
        for row in ours:
            place, seeds = row[column] * apart, _seeds(row)
            _bar(axis, row, place, colour)
            aside = place * (ASIDE if len(labels) == 1 else math.sqrt(ASIDE))
            axis.plot([aside] * len(seeds), seeds, ".", color=colour, ms=3.5)
        for row in kinds[REFERENCE]:
            if row["score"] is None:
                continue
            axis.axhline(row["score"], color=colour, linewidth=1, linestyle=(0, (5, 3)), zorder=1)
            if column == SHARE:
                axis.plot(row[SHARE], row["score"], "*", color=colour, ms=8)
                _bar(axis, row, row[SHARE], colour)
        for row in kinds[PUBLISHED]:
            _draw_published(axis, row, row[column] * apart, colour, marker)


def _bar(axis: Axes, row: Row, place: float, colour: str) -> None:
    if row["low"] is not None:
        axis.plot([place] * 2, [row["low"], row["high"]], color=colour, linewidth=1.6, alpha=0.6)


def _draw_published(axis: Axes, row: Row, place: float, colour: str, marker: str) -> None:
    """Draw a published number; one far from all others stands at the edge, with its value."""
    low, high = axis.get_ylim()
    value = row["score"]
    hollow: dict[str, Any] = {"mfc": "white", "mec": colour, "mew": 1.2}
    if low <= value <= high:
        axis.plot(place, value, marker, ms=5, zorder=3, **hollow)
        return
    below = value < low
    edge, mark = (low, "v") if below else (high, "^")
    axis.plot(place, edge, mark, ms=6, clip_on=False, zorder=3, **hollow)
    axis.annotate(
        f"{value:.{row['digits']}f}", (place, edge), (7, 3 if below else -9),
        textcoords="offset points", fontsize=7, color=colour,
    )  # fmt: skip


def _scale(axis: Axes, rows: Sequence[Row], column: str, key: str) -> None:
    name = "trainable share, %" if column == SHARE else SWEPT[key]
    ranks = column == "swept" and key == "r"
    axis.set_xscale("log", base=2 if ranks else 10)
    axis.set_xlabel(f"{sentence(name)} (log scale)")
    if ranks:
        found = sorted({row["swept"] for row in rows if row["swept"] is not None})
        axis.set_xticks(found, [f"{rank:g}" for rank in found], fontsize=7 if len(found) > 8 else 9)
        axis.minorticks_off()
    else:
        low, high = axis.get_xlim()
        axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < DECADES * low else (1,)))
        axis.xaxis.set_major_formatter("{x:g}")
        axis.xaxis.set_minor_formatter(NullFormatter())


def _legend(rows: Sequence[Row], look: Look) -> tuple[list[Line2D], list[str]]:
    labels = list(dict.fromkeys(row["label"] for row in rows))
    entries = [
        (
            Line2D([], [], color=look.colour(label), marker=look.marker(label), ms=5),
            literal(label),
        )
        for label in labels
    ]
    mean = Line2D([], [], color=FAINT, marker="o", ms=5, linewidth=1.6)
    entries.append((mean, "mean over seeds, interval"))
    if any(_seeds(row) for row in rows):
        entries.append((Line2D([], [], color=FAINT, marker=".", ms=4, ls="none"), "single seeds"))
    if any(row["kind"] == PUBLISHED for row in rows):
        hollow = Line2D([], [], ls="none", marker="o", ms=5, mfc="white", mec=FAINT, mew=1.2)
        entries.append((hollow, "published"))
    references = dict.fromkeys(row["arm"] for row in rows if row["kind"] == REFERENCE)
    if references:
        dashes = Line2D([], [], color=FAINT, linewidth=1, linestyle=(0, (5, 3)))
        entries.append((dashes, ", ".join(references)))
    handles, texts = zip(*entries, strict=True)
    return list(handles), list(texts)
