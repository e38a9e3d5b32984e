"""A study in one paragraph: what was compared on what, and what came out."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from peft_ablation.comparison.captions import counted, epochs, listed, named, sentence, tested_on
from peft_ablation.comparison.decision import (
    of_interval,
    of_runs,
)
from peft_ablation.comparison.pages import plain, with_interval
from peft_ablation.comparison.words import Words

Row = Mapping[str, Any]

MOST: Final = 8
"""Of more arms than this the paragraph names the best ones, and no difference of any."""


def summary(
    rows: Sequence[Row],
    words: Words,
    *,
    study: str,
    config: Mapping[str, Any],
    training: int,
    confidence: float,
) -> str:
    """Return one paragraph of plain text on a finished study.

    `rows` are those of `comparison.csv`, `config` the study's settings as plain values, `training`
    the number of training examples.
    """
    first = rows[0]
    head, digits = words.headline, words.metrics[words.headline]["digits"]
    better = words.metrics[head]["higher_is_better"]
    scored = [row for row in rows if row[head] is not None]
    order = sorted(scored, key=lambda row: row[head], reverse=better)
    shown = order if len(order) <= MOST else [*order[: MOST - 2], order[-1]]
    scores = [f"{row['arm']} {with_interval(row, head, digits)}" for row in shown]
    if len(shown) < len(order):
        scores.insert(-1, f"{len(order) - len(shown)} more")
    sentences = [
        *(["A smoke run: its scores mean nothing."] if study.endswith(".smoke") else []),
        f"Study {study} compares {listed([arm['arm'] for arm in rows])} on the task "
        f"{named(config)}, starting from {listed(_distinct(rows, 'base'))}: {training:,} "
        f"training {words.example}s from the source {config['data']['source']}, at most "
        f"{epochs(config)}, {_seeds(rows)}, scored on {tested_on(first, words)}.",
        f"{sentence(words.title(head))} (mean over seeds, {100 * confidence:g} % interval), best "
        f"first: {'; '.join(scores)}.",
        *_against_reference(rows, words),
        *_against_baselines(scored, words),
    ]
    return " ".join(sentences)


def _against_reference(rows: Sequence[Row], words: Words) -> list[str]:
    """Return what the differences to the reference say, arms of one verdict together."""
    reference, head = rows[0]["reference_arm"], words.headline
    if reference is None:
        return []
    seeds = {row["arm"]: row["seeds"] for row in rows}
    found: dict[str, list[str]] = {}
    for row in rows:
        said = verdict(row, words, head, seeds[reference])
        if row["arm"] != reference and said is not None:
            difference = with_interval(row, f"{head}_difference", _digits(words), "+")
            shown = f" ({difference})" if len(rows) <= MOST else ""
            found.setdefault(said, []).append(f"{row['arm']}{shown}")
    told = [f"{said}: {listed(arms)}" for said, arms in found.items()]
    return [f"Against {reference}, {'; '.join(told)}."] if told else []


def verdict(row: Row, words: Words, metric: str, reference_seeds: int) -> str | None:
    """Return what is said of an arm: the corrected test's verdict, or that of the interval.

    None where nothing was compared. The margin is named where the verdict rests on one.
    """
    tested = row.get(f"{metric}_verdict")
    if tested is not None:
        margin = row.get(f"{metric}_margin")
        by = "" if margin is None else f" of {plain(margin, words.metrics[metric]['digits'])}"
        return str(tested).replace("the margin", f"the margin{by}")
    low, high = row[f"{metric}_difference_low"], row[f"{metric}_difference_high"]
    said = of_interval(low, high, words.metrics[metric]["higher_is_better"])
    return None if said is None else said + of_runs(min(row["seeds"], reference_seeds))


def _against_baselines(rows: Sequence[Row], words: Words) -> list[str]:
    """Return the best score that needs no training, and the arms that do not reach it."""
    head, better = words.headline, words.metrics[words.headline]["higher_is_better"]
    lines = {
        title: rows[0][f"{name}_{head}"]
        for name, title in words.baselines.items()
        if rows and rows[0].get(f"{name}_{head}") is not None
    }
    if not lines:
        return []
    title = (max if better else min)(lines, key=lambda line: lines[line])
    best = lines[title]
    below = [row["arm"] for row in rows if (row[head] <= best if better else row[head] >= best)]
    missed = f", which {listed(below)} {_does(below)} not beat" if below else ""
    return [f"Without training, “{title}” has {plain(best, _digits(words))}{missed}."]


def _does(arms: Sequence[str]) -> str:
    return "does" if len(arms) == 1 else "do"


def _digits(words: Words) -> int:
    return int(words.metrics[words.headline]["digits"])


def _seeds(rows: Sequence[Row]) -> str:
    counts = sorted({row["seeds"] for row in rows})
    if len(counts) == 1:
        return f"{counted(counts[0], 'seed')} each"
    return f"{counts[0]} to {counts[-1]} seeds each"


def _distinct(rows: Sequence[Row], column: str) -> list[str]:
    return list(dict.fromkeys(str(row[column]) for row in rows))
