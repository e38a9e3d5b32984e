"""How every figure looks, and how it is written.

Colours are those of Okabe and Ito (2008), told apart with any colour vision; each comes with a
marker of its own, so that a figure can be read in grey.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Final

import matplotlib
import polars as pl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from peft_ablation.artifacts import whole_file, write_table

COLOURS: Final = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS: Final = ("o", "s", "^", "D", "v", "P", "X", "<")
INK: Final = "#1a1a1a"
FAINT: Final = "#767676"
WRONG: Final = "#D55E00"

SETTINGS: Final[dict[str, Any]] = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.labelsize": 9,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e2e2e2",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    # Ids in the SVG come from this salt and not from chance.
    "svg.hashsalt": "peft-ablation",
    "svg.fonttype": "path",
}

DOTS_PER_INCH: Final = 200


class Look:
    """Colour and marker of each name of a sequence, in its order."""

    def __init__(self, names: Iterable[str]) -> None:
        """Give `names` looks; after seven names colours begin again, with other markers."""
        self._looks = {
            name: (COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)])
            for number, name in enumerate(dict.fromkeys(names))
        }

    def colour(self, name: str) -> str:
        """Return the colour as #rrggbb."""
        return self._looks[name][0]

    def marker(self, name: str) -> str:
        """Return matplotlib's letter of the marker."""
        return self._looks[name][1]


def house_style() -> AbstractContextManager[None]:
    """Return a context in which figures are drawn and written as `SETTINGS` say."""
    return matplotlib.rc_context(SETTINGS)  # type: ignore[arg-type]


def literal(text: str) -> str:
    """Return a text from the data so that it is drawn as it is: `$` begins no formula."""
    return text.replace("$", r"\$")


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure of a size in inches; no window system and no global state."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def write_figure(figure: Figure, table: pl.DataFrame, outputs: Sequence[str | Path]) -> None:
    """Write `figure` to each path ending in .svg or .png, and `table` to the one in .csv.

    Nothing in the files tells when they were made: the same figure gives the same bytes.
    """
    metadata: Mapping[str, dict[str, str | None]] = {
        ".svg": {"Date": None, "Creator": None},
        ".png": {"Software": None},
    }
    for path in map(Path, outputs):
        if path.suffix == ".csv":
            write_table(table, path)
            continue
        with whole_file(path) as part:
            figure.savefig(
                part,
                format=path.suffix[1:],
                dpi=DOTS_PER_INCH,
                bbox_inches="tight",
                pad_inches=0.1,
                metadata=metadata[path.suffix],
            )


def rows_of_names(axes: Axes, names: Sequence[str]) -> None:
    """Make the y axis one row a name, the first on top."""
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")


def legend_below(figure: Figure, handles: Sequence[Any], labels: Sequence[str], width: int) -> None:
    """Put one legend under the figure, its columns so many that the texts fit in `width` signs."""
    longest = max(len(label) for label in labels) + 6
    columns = max(1, min(len(labels), width // longest))
    figure.legend(
        handles,
        labels,
        loc="outside lower center",
        ncols=columns,
    )


def broken(name: str, signs: int) -> str:
    """Return a name in lines of at most so many signs where its underscores allow it."""
    lines = [""]
    for part in re.findall(r"[^_]*_|[^_]+", name):
        if lines[-1] and len(lines[-1] + part) > signs:
            lines.append("")
        lines[-1] += part
    return "\n".join(lines)


def scaled(values: Sequence[float], units: Sequence[tuple[float, str]]) -> tuple[float, str]:
    """Return the factor to the largest unit of which the largest value is two or more, its name.

    `units` go from small to large, as (size in the values' unit, name).
    """
    largest = max(values, default=0)
    reached = [unit for unit in units if largest >= 2 * unit[0]]
    size, name = reached[-1] if reached else units[0]
    return 1 / size, name


TIME: Final = ((1.0, "s"), (60.0, "min"), (3600.0, "h"))
MEGABYTES: Final = ((1.0, "MB"), (1000.0, "GB"))
