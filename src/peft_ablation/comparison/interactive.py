"""The comparison as one page for a browser: all its text, and the numbers to sort and to draw.

The page holds what it needs and asks no network. What `peft_ablation.comparison.page` says stands
in it as plain HTML, readable without scripts; the charts are drawn by the browser, from the rows of
`comparison.csv`, with the library in `browser/vendor`.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from string import Template
from typing import Any, Final

from peft_ablation.comparison.pages import Block, Heading, html_of
from peft_ablation.comparison.words import Words

Row = Mapping[str, Any]

BROWSER: Final = Path(__file__).parent / "browser"
"""The page's frame, style and script; `vendor/README.md` tells where the library comes from."""

LIBRARY: Final = ("vendor/d3-7.9.0.min.js", "vendor/plot-0.6.17.umd.min.js")


@dataclass(frozen=True)
class Cost:
    """A column of the comparison that a chart can show scores against."""

    name: str
    title: str
    digits: int = 0


COSTS: Final = (
    Cost("trainable_parameters", "trainable parameters"),
    Cost("train_seconds", "training, s", 1),
    Cost("peak_memory_mb", "peak memory, MB"),
    Cost("adapter_mb", "stored, MB", 2),
    Cost("energy_joules", "energy, J"),
)


GROUP_KEYS: Final = (
    "column", "value", "arm", "examples", "groups", "metric", "title", "unit", "digits",
    "score", "score_low", "score_high",
)  # fmt: skip
"""What the page shows of a row of by_group.csv."""


@dataclass(frozen=True)
class RunPage:
    """One run of an arm, and where its history lies."""

    seed: int
    history: str | None
    """Relative to the page; None for a run that was not trained."""


def interactive_page(
    blocks: Sequence[Block],
    title: str,
    *,
    rows: Sequence[Row],
    words: Words,
    runs: Mapping[str, Sequence[RunPage]],
    confidence: float,
    by_group: Sequence[Row] = (),
) -> str:
    """Return the page as one HTML file that needs nothing from elsewhere.

    `blocks` are the page's text. `rows` are those of `comparison.csv`; `runs` the runs of each arm,
    in the order of the rows' `<metric>_by_seed`. `by_group` are the rows of by_group.csv with
    `digits`, see `peft_ablation.comparison.by_group.by_group_rows`.
    """
    # What can be explored stands between the page's first words and its first section.
    first = next(
        (place for place, block in enumerate(blocks) if _begins_section(block)), len(blocks)
    )
    data = {
        "level": f"{100 * confidence:g} %",
        "example": words.example,
        "group": words.group,
        "reference": rows[0]["reference_arm"],
        "measures": [_measure(metric, words, rows[0]) for metric in words.compared],
        "costs": [
            {"name": cost.name, "title": cost.title, "digits": cost.digits}
            for cost in COSTS
            if any(row[cost.name] is not None for row in rows)
        ],
        "arms": [_arm(row, words, runs[row["arm"]]) for row in rows],
        "groups": [{key: row[key] for key in GROUP_KEYS} for row in by_group],
    }
    return Template(_read("page.html")).substitute(
        title=escape(title),
        style=_read("page.css"),
        top=html_of(blocks[:first]),
        rest=html_of(blocks[first:]),
        data=_embedded(data),
        charts="\n".join(_read(name) for name in LIBRARY),
        script=_read("page.js"),
    )


def _begins_section(block: Block) -> bool:
    return isinstance(block, Heading) and block.level > 1


def _measure(metric: str, words: Words, first: Row) -> dict[str, Any]:
    said = words.metrics[metric]
    lines = [(title, first.get(f"{name}_{metric}")) for name, title in words.baselines.items()]
    return {
        "name": metric,
        "axis": words.axis(metric),
        **{key: said[key] for key in ("title", "digits", "definition", "higher_is_better")},
        "baselines": [
            {"title": title, "value": value} for title, value in lines if value is not None
        ],
    }


def _arm(row: Row, words: Words, runs: Sequence[RunPage]) -> dict[str, Any]:
    return {
        "name": row["arm"],
        "seeds": row["seeds"],
        "runs": [{"seed": run.seed, "history": run.history} for run in runs],
        "costs": {cost.name: row[cost.name] for cost in COSTS},
        "scores": {metric: _score(row, metric, len(runs)) for metric in words.compared},
    }


def _score(row: Row, metric: str, runs: int) -> dict[str, Any]:
    by_seed = [float(value) for value in row[f"{metric}_by_seed"].split()]
    ends = ("low", "high", "difference", "difference_low", "difference_high", "shuffled", "verdict")
    return {
        "value": row[metric],
        **{end: row.get(f"{metric}_{end}") for end in ends},
        # Where a seed has no score nothing tells which of them it is.
        "by_seed": by_seed if len(by_seed) == runs else [],
    }


def _embedded(data: Any) -> str:
    """Return JSON that no text in it can end: in a script element `<` begins a tag."""
    text = json.dumps(_finite(data), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _finite(value: Any) -> Any:
    """Return the value with null in place of what JSON cannot say."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return value


def _read(name: str) -> str:
    return (BROWSER / name).read_text(encoding="utf-8")
