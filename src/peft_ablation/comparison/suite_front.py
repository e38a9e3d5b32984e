"""The paragraph on a suite's report page: what was compared on what, and what came out."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from peft_ablation.comparison.pages import said_p

if TYPE_CHECKING:
    from peft_ablation.comparison.suite import Outcome
    from peft_ablation.comparison.suite_ranks import RankTests


def suite_front(
    rows: Sequence[Mapping[str, Any]],
    outcomes: "Sequence[Outcome]",
    tests: "RankTests",
    *,
    title: str,
    smoke: bool,
) -> str:
    """Return the paragraph in reStructuredText; `rows` are the rows of `suite.csv`."""
    arms = [str(row["arm"]) for row in rows]
    metrics = dict.fromkeys(o.words.title(o.words.headline) for o in outcomes)
    seeds = sorted({int(row["seeds"]) for o in outcomes for row in o.rows.values()})
    each = "–".join(map(str, dict.fromkeys([seeds[0], seeds[-1]])))
    said = [
        f"**{_plain(title)}** compares {_number(len(arms), 'arm')} ({_names(arms)}) in "
        f"{_studies(len(outcomes))} ({_names(o.study for o in outcomes)}), each on its own data, "
        f"split and test set, with {each} seed{'s' * (seeds[-1] > 1)} an arm; scores are "
        f"{_plain(', '.join(metrics))}.",
        *(_against(row, outcomes) for row in rows),
        _ranks(tests),
        "A smoke run: its scores mean nothing." if smoke else "",
        "Start with the comparison across studies; the figures beside it show each study's scores "
        "and the mean ranks, and the other sections each study by itself.",
    ]
    return " ".join(filter(None, said)) + "\n"


def _against(row: Mapping[str, Any], outcomes: "Sequence[Outcome]") -> str:
    """Say in how many studies an arm is told from the reference, and on which side."""
    counts = [row[name] for name in ("better", "worse", "not_told_apart")]
    if not any(counts):
        return ""
    references = dict.fromkeys(str(o.reference) for o in outcomes if o.reference is not None)
    return (
        f"Against {_names(references)}, {_names([row['arm']])} is better in {counts[0]}, worse in "
        f"{counts[1]} and not told apart in {counts[2]} of {_studies(sum(counts))}."
    )


def _ranks(tests: "RankTests") -> str:
    if not tests.mean_ranks:
        return ""
    least = min(tests.mean_ranks.values())
    best = [arm for arm, rank in tests.mean_ranks.items() if rank == least]
    found = f"The best mean rank, {least:.2f}, has {_names(best)}"
    if tests.friedman is None:
        return f"{found}; too few arms or studies to test ranks by Friedman's test."
    verdict = "differ" if tests.differ else "differ no more than by chance"
    return f"{found}; the arms' ranks {verdict} (Friedman's test, p {said_p(tests.friedman.p)})."


def _names(names: Iterable[str]) -> str:
    return ", ".join(f"``{name}``" for name in names)


def _plain(text: str) -> str:
    """Return a text whose signs mean nothing in reStructuredText."""
    return re.sub(r"([\\*_`|<>])", r"\\\1", text)


def _number(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"


def _studies(number: int) -> str:
    return f"{number} stud{'y' if number == 1 else 'ies'}"
