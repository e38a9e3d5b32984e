"""How evenly the splits share each label."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl
from matplotlib.lines import Line2D

from peft_ablation.data.examples import SPLITS
from peft_ablation.data.splits import EXCELLENT, MODERATE
from peft_ablation.figures.style import (
    COLOURS,
    FAINT,
    INK,
    house_style,
    literal,
    new_figure,
    rows_of_names,
    write_figure,
)

NAMES: Final = {"train": "training", "val": "validation", "test": "test"}
MARKS: Final = "^os"
VERDICTS: Final = {
    "excellent": (COLOURS[2], "o", f"excellent, < {100 * EXCELLENT:g} %"),
    "moderate": (COLOURS[4], "s", f"moderate, < {100 * MODERATE:g} %"),
    "poor": (COLOURS[1], "X", "poor"),
}


def plot_split_balance(balance: str | Path, *, outputs: Sequence[str | Path]) -> None:
    """Draw each label's share of examples by split, and its coefficient of variation."""
    # Classes may be called 0 and 1.
    table = pl.read_csv(balance, infer_schema_length=None, schema_overrides={"label": pl.String})
    if table.is_empty():
        _say_that_there_is_nothing(table, outputs)
        return
    labels = [literal(label.replace("_", " ")) for label in table["label"]]
    places = np.arange(len(labels))
    with house_style():
        figure = new_figure(7.5, 4.8)
        left, right = figure.subplots(1, 2, sharey=True)
        for number, (split, marker) in enumerate(zip(SPLITS, MARKS, strict=True)):
            left.plot(
                100 * table[f"prevalence_{split}"],
                # Side by side, since the three are nearly equal.
                places + (number - 1) * 0.22,
                marker,
                color=COLOURS[number],
                ms=4.5,
            )
        left.set_xlim(left=-0.03 * left.get_xlim()[1])
        left.set_xlabel("Examples with the label (%)")
        for verdict, (colour, marker, _) in VERDICTS.items():
            chosen = (table["verdict"] == verdict).to_numpy()
            variation = 100 * table["coefficient_of_variation"].to_numpy()[chosen]
            right.plot(variation, places[chosen], marker, color=colour, ms=7)
        for place in places[table["coefficient_of_variation"].is_null().to_numpy()]:
            right.text(
                0.02,
                place,
                "none has it",
                transform=right.get_yaxis_transform(),
                va="center",
                color=FAINT,
                fontsize=8,
                bbox={"color": "white", "pad": 1},
            )
        for bound in (EXCELLENT, MODERATE):
            right.axvline(100 * bound, color=INK, linewidth=0.9, linestyle=(0, (5, 2)), zorder=1)
        largest = table["coefficient_of_variation"].max() or 0.0
        shown = 100 * max(1.15 * MODERATE, 1.1 * float(largest))  # type: ignore[arg-type]
        right.set_xlim(-0.03 * shown, shown)
        right.set_xlabel("Coefficient of variation over the splits (%)")
        rows_of_names(left, labels)
        left.grid(visible=True, axis="y")
        right.grid(visible=True, axis="y")
        right.tick_params(axis="y", length=0)
        for axis, handles in ((left, _splits()), (right, _verdicts(table["verdict"].to_list()))):
            axis.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, -0.12))
        write_figure(figure, table, outputs)


def _say_that_there_is_nothing(table: pl.DataFrame, outputs: Sequence[str | Path]) -> None:
    with house_style():
        figure = new_figure(7.5, 1.0)
        figure.text(0.5, 0.5, "The examples have no classes or labels to balance.", ha="center")
        write_figure(figure, table, outputs)


def _splits() -> list[Line2D]:
    return [
        Line2D([], [], color=colour, marker=marker, ls="none", ms=5, label=NAMES[split])
        for split, marker, colour in zip(SPLITS, MARKS, COLOURS, strict=False)
    ]


def _verdicts(found: Sequence[str]) -> list[Line2D]:
    return [
        Line2D([], [], color=colour, marker=marker, ls="none", ms=7, label=text)
        for verdict, (colour, marker, text) in VERDICTS.items()
        if verdict in found
    ]
