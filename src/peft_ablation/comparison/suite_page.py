"""The comparison across studies for a reader: tables, what they mean, what they do not allow."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from peft_ablation.comparison.pages import (
    NONE,
    Block,
    Heading,
    Items,
    Paragraph,
    Table,
    plain,
    with_interval,
)
from peft_ablation.comparison.published import Ours, published_blocks

if TYPE_CHECKING:
    from peft_ablation.comparison.suite import Outcome

Row = Mapping[str, Any]
DIGITS: Final = 3
"""Decimals of means over studies, whose metrics may have different ones."""


def suite_page(
    rows: Sequence[Row],
    outcomes: "Sequence[Outcome]",
    *,
    suite: str,
    title: str,
    confidence: float,
    published: Mapping[str, Sequence[Mapping[str, Any]]],
    of_ranks: Sequence[Block] = (),
    sweeps: Sequence[Block] = (),
) -> list[Block]:
    """Return the page of a suite; `rows` are the rows of `suite.csv`.

    `published` are numbers of `peft_ablation.comparison.published` by study; `of_ranks` is the
    section on tests of ranks, `sweeps` those on numbers that arms were swept over.
    """
    level = f"{100 * confidence:g} %"
    smoke = (
        [Paragraph("A smoke run: it shows that the studies run. Its scores mean nothing.")]
        if suite.endswith(".smoke")
        else []
    )
    return [
        Heading(f"{title}: comparison across studies", 1),
        *smoke,
        Paragraph(
            f"{len(rows)} arms in {_studies(len(outcomes))}. Each study shows its headline score, "
            f"the mean over seeds, in brackets the {level} interval over its test groups and seeds."
        ),
        Heading("Scores"),
        _scores(rows, outcomes),
        Heading("Difference to the reference arm"),
        _differences(rows, outcomes),
        Heading("Over all studies"),
        _over_all(rows),
        *of_ranks,
        *sweeps,
        *published_blocks(
            {o.study: Ours(o.words, o.rows, published.get(o.study, ())) for o in outcomes}
        ),
        Heading("What the columns mean"),
        Items(_meanings(rows, outcomes, level)),
        Heading("What is not comparable"),
        Items(_caveats(rows, outcomes)),
    ]


def _scores(rows: Sequence[Row], outcomes: "Sequence[Outcome]") -> Table:
    titles = list(dict.fromkeys(title for outcome in outcomes for title in outcome.baselines))
    return Table(
        ("arm", *(f"{o.study}: {o.words.title(o.words.headline)}" for o in outcomes)),
        [
            *(
                [row["arm"], *(with_interval(row, o.study, _digits(o)) for o in outcomes)]
                for row in rows
            ),
            *(
                [
                    f"{title} (no training)",
                    *(plain(o.baselines.get(title), _digits(o)) for o in outcomes),
                ]
                for title in titles
            ),
        ],
    )


def _differences(rows: Sequence[Row], outcomes: "Sequence[Outcome]") -> Table:
    def cell(row: Row, outcome: "Outcome") -> str:
        difference = with_interval(row, f"{outcome.study}_difference", _digits(outcome), "+")
        verdict = row[f"{outcome.study}_verdict"]
        return difference if verdict is None else f"{difference}, {verdict}"

    references = {outcome.reference for outcome in outcomes}
    return Table(
        ("arm", *(f"{outcome.study}: to {outcome.reference or NONE}" for outcome in outcomes)),
        [
            [row["arm"], *(cell(row, outcome) for outcome in outcomes)]
            for row in rows
            if references != {row["arm"]}
        ],
    )


def _over_all(rows: Sequence[Row]) -> Table:
    shared = _studies(rows[0]["shared"])
    some = any(row["studies"] > row["shared"] for row in rows)
    return Table(
        (
            "arm",
            *(["mean score of all studies"] if some else []),
            f"mean score of {shared}",
            "difference to the reference",
            f"mean rank in {shared}",
            "better / worse / not told apart",
            "learnt honestly",
            "trainable parameters",
            "training, s",
        ),
        [
            [
                row["arm"],
                *([with_interval(row, "mean_of_all", DIGITS)] if some else []),
                with_interval(row, "mean", DIGITS),
                with_interval(row, "mean_difference", DIGITS, "+"),
                plain(row["mean_rank"], 2),
                _verdicts(row),
                f"{row['honest_learning']} of {row['honest_known']}"
                if row["honest_known"]
                else NONE,
                f"{row['trainable_parameters']:,}",
                plain(row["train_seconds"], 1),
            ]
            for row in rows
        ],
    )


def _verdicts(row: Row) -> str:
    counts = [row[name] for name in ("better", "worse", "not_told_apart")]
    return " / ".join(map(str, counts)) if any(counts) else NONE


def _meanings(rows: Sequence[Row], outcomes: "Sequence[Outcome]", level: str) -> list[str]:
    headlines = {o.words.headline: o.words.metrics[o.words.headline] for o in outcomes}
    told = [
        f"{said['title'][:1].upper()}{said['title'][1:]}: {said['definition']}."
        for said in headlines.values()
    ]
    shared, some = rows[0]["shared"], any(row["studies"] > rows[0]["shared"] for row in rows)
    return [
        *told,
        f"Mean score: the plain mean of the headline scores, each study with the same weight, over "
        f"the {_studies(shared)} that every arm is in"
        f"{', and for arms that are in all studies over all; compare within a column' * some}. "
        f"Its {level} "
        "interval takes the studies as given, and their test sets and runs as independent (arms "
        "that start from another study's runs share those): it says how far these studies' scores "
        "can be trusted, and nothing of a further study.",
        "Mean rank: in each of these studies the arms are ranked by their score, 1 the best, equal "
        "scores with the mean of their ranks; then the mean over studies. It is what leaderboards "
        "publish. A rank counts a difference of a thousandth as much as one of a tenth, and ranks "
        "of arms that are not told apart are chance.",
        "Better / worse / not told apart: in how many studies the interval of the difference to "
        "the reference leaves out 0, and on which side. Of twenty such intervals at 95 %, one "
        "leaves out 0 by chance alone: nothing here is corrected for their number.",
        "Learnt honestly: in how many of its studies the arm beats every baseline that it must and "
        "loses what it has when its inputs are permuted, as each study's own page says; studies "
        "where this is not known are left out.",
        "Trainable parameters: the largest of the studies, whose heads may differ. Training: the "
        "sum over studies of the mean seconds of a run.",
    ]


def _caveats(rows: Sequence[Row], outcomes: "Sequence[Outcome]") -> list[str]:
    found = []
    titles = list(dict.fromkeys(o.words.title(o.words.headline) for o in outcomes))
    if rows[0]["mean"] is None and rows[0]["shared"]:
        found.append(
            "There is no mean score: in some studies more is better, in others less. Ranks heed it."
        )
    elif len(titles) > 1:
        found.append(
            f"The mean adds scores of different metrics ({', '.join(titles)}), as GLUE's does. A "
            "point of one is not a point of another: read it beside the studies, not instead."
        )
    if not rows[0]["shared"]:
        found.append("No study has all arms: there is neither a mean score nor a mean rank.")
    references = {outcome.reference for outcome in outcomes}
    if len(references) > 1:
        found.append("Studies have different reference arms: there is no mean difference.")
    few = [o.study for o in outcomes if any(row["seeds"] < 2 for row in o.rows.values())]
    if few:
        found.append(
            f"One seed in {', '.join(few)}: these intervals tell nothing of how another run would "
            "come out."
        )
    found.append(
        "An arm of one name is one method, but its settings are each study's own: see the studies' "
        "files for learning rates and how they were chosen, and their pages for costs and caveats."
    )
    return found


def _studies(number: int) -> str:
    return f"{number} stud{'y' if number == 1 else 'ies'}"


def _digits(outcome: "Outcome") -> int:
    return int(outcome.words.metrics[outcome.words.headline]["digits"])
