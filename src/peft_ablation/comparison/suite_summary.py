"""A suite in one paragraph: what was compared on what, and what came out."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from peft_ablation.comparison.captions import listed
from peft_ablation.comparison.pages import said_p

if TYPE_CHECKING:
    from peft_ablation.comparison.suite import Outcome
    from peft_ablation.comparison.suite_ranks import RankTests


def suite_summary(
    rows: Sequence[Mapping[str, Any]],
    outcomes: "Sequence[Outcome]",
    tests: "RankTests",
    *,
    title: str,
    smoke: bool,
) -> str:
    """Return one paragraph of plain text on a finished suite; `rows` are those of `suite.csv`."""
    arms = [str(row["arm"]) for row in rows]
    metrics = dict.fromkeys(o.words.title(o.words.headline) for o in outcomes)
    seeds = sorted({int(row["seeds"]) for o in outcomes for row in o.rows.values()})
    each = "–".join(map(str, dict.fromkeys([seeds[0], seeds[-1]])))
    said = [
        f"{title} compares {_number(len(arms), 'arm')} ({listed(arms)}) in "
        f"{_studies(len(outcomes))} ({listed([o.study for o in outcomes])}), each on its own data, "
        f"split and test set, with {each} seed{'s' * (seeds[-1] > 1)} an arm; scores are "
        f"{', '.join(metrics)}.",
        *(_against(row, outcomes) for row in rows),
        "Where an arm has one seed this is about its run alone." if seeds[0] < 2 else "",
        _ranks(tests),
        "A smoke run: its scores mean nothing." if smoke else "",
    ]
    return " ".join(filter(None, said))


def _against(row: Mapping[str, Any], outcomes: "Sequence[Outcome]") -> str:
    """Say in how many studies an arm is told from the reference, and on which side."""
    counts = [row[name] for name in ("better", "worse", "not_told_apart")]
    if not any(counts):
        return ""
    references = dict.fromkeys(str(o.reference) for o in outcomes if o.reference is not None)
    return (
        f"Against {listed(list(references))}, {row['arm']} is better in {counts[0]}, worse in "
        f"{counts[1]} and not told apart in {counts[2]} of {_studies(sum(counts))}."
    )


def _ranks(tests: "RankTests") -> str:
    if not tests.mean_ranks:
        return ""
    least = min(tests.mean_ranks.values())
    best = [arm for arm, rank in tests.mean_ranks.items() if rank == least]
    found = f"The best mean rank, {least:.2f}, has {listed(best)}"
    if tests.friedman is None:
        return f"{found}; too few arms or studies to test ranks by Friedman's test."
    verdict = "differ" if tests.differ else "differ no more than by chance"
    return f"{found}; the arms' ranks {verdict} (Friedman's test, p {said_p(tests.friedman.p)})."


def _number(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"


def _studies(number: int) -> str:
    return f"{number} stud{'y' if number == 1 else 'ies'}"
