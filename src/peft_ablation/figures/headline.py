"""What training every weight buys over an adapter, done right, and what was claimed instead.

    python -m peft_ablation.figures.headline results/phantom_cxr results/phantom_cxr_as_published \
        docs/phantom/headline.png

The first folder is that of a study done right, the second of one with arms of the same names under
a published protocol; each must have its comparison, the second its claims, too.
"""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import polars as pl
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from peft_ablation.comparison.words import Words
from peft_ablation.errors import InputError
from peft_ablation.figures.style import (
    INK,
    WRONG,
    house_style,
    legend_below,
    new_figure,
    rows_of_names,
    write_figure,
)

RIGHT: Final = "#0072B2"
ENOUGH: Final = "#e3f1ea"


def bought(
    comparison: str | Path, claimed: str | Path, metrics: Sequence[str]
) -> list[dict[str, Any]]:
    """Return a row for each arm and metric: what the reference arm has more than this arm.

    `comparison` is the `comparison.csv` of the study done right, with the interval of each
    difference; `claimed` the `claimed.csv` of the other. Raises `InputError` where they share no
    arm beside the reference.
    """
    right = pl.read_csv(comparison, infer_schema_length=None).to_dicts()
    claims = {
        (row["arm"], row["measure"]): row["claimed"]
        for row in pl.read_csv(claimed, infer_schema_length=None).iter_rows(named=True)
    }
    reference = right[0]["reference_arm"]
    rows = [
        {
            "arm": row["arm"],
            "reference": reference,
            "metric": metric,
            "bought": -row[f"{metric}_difference"],
            "bought_low": _less(row[f"{metric}_difference_high"]),
            "bought_high": _less(row[f"{metric}_difference_low"]),
            "margin": row.get(f"{metric}_margin"),
            "claimed": _claim(claims, str(reference), row["arm"], metric),
        }
        for metric in metrics
        for row in right
        if row["arm"] != reference and (row["arm"], metric) in claims
    ]
    if not rows:
        raise InputError(
            f"{claimed}: no arm of {comparison} besides {reference}, expected arms of the same "
            "names; name them so in the study"
        )
    return rows


def _less(value: float | None) -> float | None:
    return None if value is None else -value


def _claim(
    claims: Mapping[tuple[str, str], float | None], reference: str, arm: str, metric: str
) -> float | None:
    most, least = claims.get((reference, metric)), claims.get((arm, metric))
    return None if most is None or least is None else most - least


def plot_headline(
    comparison: str | Path,
    *,
    claimed: str | Path,
    words: str | Path,
    outputs: Sequence[str | Path],
) -> None:
    """Draw what the reference arm buys over each other, with margin and claim; see `bought`."""
    said = Words.read(words)
    rows = bought(comparison, claimed, said.shown)
    arms = list(dict.fromkeys(row["arm"] for row in rows))
    reference = rows[0]["reference"]
    metrics = sorted(said.shown, key=lambda metric: metric != said.headline)
    with house_style():
        figure = new_figure(7.5, 1.5 + 0.45 * len(arms))
        panels = figure.subplots(1, len(metrics), sharey=True, squeeze=False)[0]
        for axis, metric in zip(panels, metrics, strict=True):
            own = {row["arm"]: row for row in rows if row["metric"] == metric}
            for place, arm in enumerate(arms):
                _draw(axis, place, own[arm])
            axis.axvline(0, color=INK, linewidth=1.0, zorder=1)
            rows_of_names(axis, [f"over {arm}" for arm in arms])
            margin = own[arms[0]]["margin"]
            if margin is not None:
                left, right = axis.get_xlim()
                right = max(right, 1.5 * margin)
                axis.axvspan(left, margin, color=ENOUGH, zorder=0)
                axis.axvline(margin, color=INK, linewidth=1.0, linestyle="dotted", zorder=1)
                axis.set_xlim(left, right)
            axis.xaxis.set_major_locator(MaxNLocator(5))
            axis.set_xlabel(f"{said.axis(metric)}:\nwhat {reference} has more")
        legend_below(figure, *_legend(any(row["margin"] is not None for row in rows)), 110)
        write_figure(figure, pl.DataFrame(rows, infer_schema_length=None), outputs)


def _draw(axis: Axes, place: int, row: Mapping[str, Any]) -> None:
    if row["bought_low"] is not None:
        axis.plot(
            [row["bought_low"], row["bought_high"]], [place, place],
            color=RIGHT, linewidth=2.4, solid_capstyle="butt",
        )  # fmt: skip
    axis.plot(row["bought"], place, "o", color=RIGHT, ms=7)
    if row["claimed"] is not None:
        axis.plot(row["claimed"], place, "X", color=WRONG, ms=8)


def _legend(margin: bool) -> tuple[list[Line2D | Patch], list[str]]:
    entries: list[tuple[Line2D | Patch, str]] = [
        (Line2D([], [], color=RIGHT, marker="o", ms=7, linewidth=2.4), "done right, with interval"),
        (Line2D([], [], color=WRONG, marker="X", ms=8, ls="none"), "claimed as published"),
    ]
    if margin:
        entries.append((Patch(color=ENOUGH), "the other is good enough, by the margin"))
    return [handle for handle, _ in entries], [label for _, label in entries]


def main(arguments: Sequence[str]) -> None:
    """Draw the figure from two results folders to a path; see the module."""
    if len(arguments) != 3:
        raise SystemExit(__doc__)
    right, published, output = arguments
    try:
        plot_headline(
            Path(right, "comparison/comparison.csv"),
            claimed=Path(published, "comparison/claimed.csv"),
            words=Path(right, "comparison/words.json"),
            outputs=[output],
        )
    except InputError as error:
        raise SystemExit(f"peft-ablation: {error}") from None


if __name__ == "__main__":
    main(sys.argv[1:])
