"""What ranks over the studies of a suite can tell: tests, their table, their part of the page."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from peft_ablation.comparison.decision import holm
from peft_ablation.comparison.pages import Block, Heading, Items, Paragraph, Table, p_cell, said_p
from peft_ablation.comparison.rank_tests import (
    Friedman,
    SignedRanks,
    friedman,
    joined,
    least_p,
    mean_ranks,
    nemenyi_difference,
    nemenyi_p,
    ranked,
    signed_ranks,
)

if TYPE_CHECKING:
    from peft_ablation.comparison.suite import Outcome


@dataclass(frozen=True)
class RankTests:
    """Tests of a suite's arms over its studies."""

    confidence: float
    studies: tuple[str, ...]
    """Those that every arm has a score in; mean ranks, Friedman and Nemenyi are over them."""
    mean_ranks: Mapping[str, float]
    friedman: Friedman | None
    """None of fewer than three arms or two such studies."""
    critical_difference: float | None
    """Nemenyi's; None where there is no Friedman test."""
    reference: str | None
    """The arm that signed ranks are to; None where studies have different ones."""
    signed: Mapping[str, SignedRanks]
    """By arm, over all studies in which it and the reference have a score."""
    signed_holm: Mapping[str, float]

    @property
    def differ(self) -> bool:
        """Whether Friedman's test, by shuffled ranks, says that some arm ranks elsewhere."""
        return self.friedman is not None and self.friedman.p < 1 - self.confidence

    @property
    def not_told_apart(self) -> list[list[str]]:
        """The largest sets of arms that Nemenyi's test does not tell apart."""
        if self.critical_difference is None:
            return []
        return joined(self.mean_ranks, self.critical_difference)


def rank_tests(outcomes: "Sequence[Outcome]", confidence: float) -> RankTests:
    """Test the headline scores of the arms over the studies."""
    arms = list(dict.fromkeys(arm for outcome in outcomes for arm in outcome.rows))
    shared = [o for o in outcomes if all(o.value(arm) is not None for arm in arms)]
    ranks = [outcome.ranks() for outcome in shared]
    found = friedman(np.array([[rank[arm] for arm in arms] for rank in ranks])) if shared else None
    references = {outcome.reference for outcome in outcomes}
    (reference,) = references if len(references) == 1 else (None,)
    others = [arm for arm in arms if arm != reference] if reference is not None else []
    signed = {arm: signed_ranks(_gains(outcomes, arm, str(reference))) for arm in others}
    known = {arm: test for arm, test in signed.items() if test is not None}
    corrected = holm({(arm, str(reference)): test.p for arm, test in known.items()})
    means = mean_ranks(ranks)
    return RankTests(
        confidence,
        tuple(outcome.study for outcome in shared),
        {arm: means[arm] for arm in arms} if means else {},
        found,
        None if found is None else nemenyi_difference(found.arms, found.studies, confidence),
        reference,
        known,
        {arm: p for (arm, _), p in corrected.items()},
    )


def _gains(outcomes: "Sequence[Outcome]", arm: str, reference: str) -> list[float]:
    """Return by how much an arm is better than the reference, in each study that has both."""
    scores = [(o.value(arm), o.value(reference), o.higher_is_better) for o in outcomes]
    return [
        ours - theirs if higher else theirs - ours
        for ours, theirs, higher in scores
        if ours is not None and theirs is not None
    ]


def rank_rows(tests: RankTests) -> list[dict[str, Any]]:
    """Return one row a test: `friedman`, `iman_davenport`, `friedman_shuffled`, then by pair.

    `statistic` of `nemenyi` is the difference of mean ranks, of `nemenyi_critical_difference` what
    it must exceed, of `signed_ranks` the smaller sum.
    """
    empty = dict.fromkeys(
        ("test", "arm", "against", "studies", "statistic", "df", "df_residual", "p", "p_holm")
    )
    rows: list[dict[str, Any]] = []
    overall, critical = tests.friedman, tests.critical_difference
    if overall is not None and critical is not None:
        arms, studies = overall.arms, overall.studies
        free = {"studies": studies, "df": arms - 1}
        rows += [
            {
                "test": "friedman", "statistic": overall.chi_square, "p": overall.p_chi_square,
                **free,
            },
            {
                "test": "iman_davenport", "statistic": overall.f, "p": overall.p_f,
                "df_residual": (arms - 1) * (studies - 1), **free,
            },
            {"test": "friedman_shuffled", "studies": studies, "p": overall.p},
            {"test": "nemenyi_critical_difference", "studies": studies, "statistic": critical},
        ]  # fmt: skip
        names = list(tests.mean_ranks)
        for place, arm in enumerate(names):
            for against in names[place + 1 :]:
                difference = tests.mean_ranks[arm] - tests.mean_ranks[against]
                rows.append(
                    {
                        "test": "nemenyi", "arm": arm, "against": against, "studies": studies,
                        "statistic": difference, "p": nemenyi_p(difference, arms, studies),
                    }
                )  # fmt: skip
    for arm, test in tests.signed.items():
        rows.append(
            {
                "test": "signed_ranks", "arm": arm, "against": tests.reference,
                "studies": test.studies, "statistic": test.statistic, "p": test.p,
                "p_holm": tests.signed_holm[arm],
            }
        )  # fmt: skip
    return [{**empty, **row} for row in rows] or [empty]


@dataclass(frozen=True)
class PublishedRanks:
    """Mean ranks of a source's published scores, and ours of the same arms and studies."""

    source: str
    studies: tuple[str, ...]
    published: Mapping[str, float]
    ours: Mapping[str, float]


def published_ranks(
    outcomes: "Sequence[Outcome]", published: Mapping[str, Sequence[Mapping[str, Any]]]
) -> list[PublishedRanks]:
    """Rank what each source reports of several of our arms, in the studies where it has all.

    `published`: numbers of `peft_ablation.comparison.published` by study. Of several numbers for
    one arm the first counts.
    """
    by_source: dict[str, dict[str, dict[str, float]]] = {}
    for outcome in outcomes:
        for number in published.get(outcome.study, ()):
            arm = number["arm"]
            if number["metric"] == outcome.words.headline and outcome.value(arm) is not None:
                scores = by_source.setdefault(number["source"], {}).setdefault(outcome.study, {})
                scores.setdefault(arm, float(number["value"]) / number["scale"])
    found = []
    for source, by_study in by_source.items():
        arms = list(dict.fromkeys(arm for scores in by_study.values() for arm in scores))
        whole = [o for o in outcomes if by_study.get(o.study, {}).keys() == set(arms)]
        if len(arms) < 2 or not whole:
            continue
        theirs = [ranked(by_study[o.study], o.higher_is_better) for o in whole]
        ours = [
            ranked({arm: o.value(arm) or 0.0 for arm in arms}, o.higher_is_better) for o in whole
        ]
        found.append(
            PublishedRanks(
                source, tuple(o.study for o in whole), mean_ranks(theirs), mean_ranks(ours)
            )
        )
    return found


def rank_blocks(tests: RankTests, published: Sequence[PublishedRanks]) -> list[Block]:
    """Return the section on what ranks can tell, with what cannot be tested said."""
    blocks: list[Block] = [Heading("Do ranks tell the arms apart?")]
    studies = len(tests.studies)
    if tests.friedman is None:
        blocks.append(
            Paragraph(
                f"Friedman's and Nemenyi's tests need three arms and two studies that all arms are "
                f"in; here are {len(tests.mean_ranks) or 'no'} arms with a mean rank, over "
                f"{_studies(studies)}: not tested."
            )
        )
    else:
        blocks += _overall(tests, tests.friedman)
    if tests.reference is None:
        blocks.append(Paragraph("Signed ranks need one reference arm in all studies: not tested."))
    elif tests.signed:
        blocks += _signed(tests)
    else:
        blocks.append(
            Paragraph(
                f"Signed ranks need two studies that {tests.reference} and another arm are in: not "
                "tested."
            )
        )
    return [*blocks, *_published(published), *_meanings(tests, published)]


def _overall(tests: RankTests, found: Friedman) -> list[Block]:
    free = found.arms - 1
    result = (
        "some arm ranks elsewhere than another"
        if tests.differ
        else "the arms' ranks differ no more than by chance, and the bars of the figure join what "
        "chance may have put in this order"
    )
    apart = {
        arm: [other for other in tests.mean_ranks if other not in _with(arm, tests)]
        for arm in tests.mean_ranks
    }
    return [
        Paragraph(
            f"Friedman's test of {found.arms} arms over {found.studies} studies: χ²({free}) = "
            f"{found.chi_square:.2f}, p {said_p(found.p_chi_square)}; Iman and Davenport's "
            f"F({free}, {free * (found.studies - 1)}) = {_statistic(found.f)}, p "
            f"{said_p(found.p_f)}; by ranks shuffled within studies p {said_p(found.p)}: {result}. "
            f"Nemenyi's critical difference of mean ranks is {tests.critical_difference:.2f}."
        ),
        Table(
            ("arm", f"mean rank in {_studies(found.studies)}", "told apart from (Nemenyi)"),
            [
                [
                    arm,
                    f"{tests.mean_ranks[arm]:.2f}",
                    (", ".join(apart[arm]) or "none") if tests.differ else "none",
                ]
                for arm in sorted(tests.mean_ranks, key=lambda arm: tests.mean_ranks[arm])
            ],
        ),
    ]


def _statistic(value: float) -> str:
    return f"{value:.2f}" if math.isfinite(value) else "∞"


def _with(arm: str, tests: RankTests) -> set[str]:
    """Return an arm and those that Nemenyi's test does not tell from it."""
    return {arm}.union(*(group for group in tests.not_told_apart if arm in group))


def _signed(tests: RankTests) -> list[Block]:
    most = max(test.studies for test in tests.signed.values())
    least = len(tests.signed) * least_p(most)
    cannot: list[Block] = []
    if least >= 1 - tests.confidence:
        cannot = [
            Paragraph(
                f"Signed ranks of {_studies(most)} cannot tell {_arms(len(tests.signed))} from "
                f"{tests.reference} at {100 * tests.confidence:g} %: were every study to agree, "
                f"p, Holm, would be {min(1.0, least):.3g}."
            )
        ]
    return [
        Table(
            ("arm", f"studies with {tests.reference}", "better in", "p, signed ranks", "p, Holm"),
            [
                [
                    arm,
                    str(test.studies),
                    str(test.better),
                    p_cell(test.p),
                    p_cell(tests.signed_holm[arm]),
                ]
                for arm, test in tests.signed.items()
            ],
        ),
        *cannot,
    ]


def _published(published: Sequence[PublishedRanks]) -> list[Block]:
    if not published:
        return []
    return [
        Table(
            ("arm", "mean rank of the published scores", "ours", "studies", "source"),
            [
                [
                    arm,
                    f"{each.published[arm]:.2f}",
                    f"{each.ours[arm]:.2f}",
                    ", ".join(each.studies),
                    each.source,
                ]
                for each in published
                for arm in each.published
            ],
        )
    ]


def _meanings(tests: RankTests, published: Sequence[PublishedRanks]) -> list[Block]:
    told = []
    if tests.friedman is not None:
        told.append(
            "Friedman's test ranks the arms in each study and asks whether mean ranks differ by "
            "more than chance; the χ² is corrected for equal ranks. χ² and F hold for many "
            "studies (ten or more): with few the p of shuffled ranks decides. Nemenyi's test tells "
            "two arms apart whose mean ranks differ by the critical difference or more, corrected "
            "for all pairs, and counts only where Friedman's finds a difference (Demsar, 2006)."
        )
    if tests.signed:
        told.append(
            "Signed ranks: Wilcoxon's two-sided test of the differences to the reference, over the "
            "studies that have both arms, exact for up to 13; studies without a difference are "
            "split between both sides. It takes a larger difference in one study for more than a "
            "smaller one in another, also of different metrics. Holm's correction is over the arms."
        )
    if told:
        told.append(
            "All of these take the studies as drawn from some larger lot and their scores as "
            "known: how surely each score is known does not enter, and studies chosen by hand are "
            "no draw."
        )
    if published:
        told.append(
            "Mean rank of the published scores: computed here from the scores that the source "
            "reports for these arms, over the studies for which it reports all of them; they "
            "are not the source's own words. Ours is of the same arms and studies alone. What is "
            "not comparable in these scores stands below them."
        )
    return [Items(told)] if told else []


def _arms(number: int) -> str:
    return f"{number} arm{'s' * (number > 1)}"


def _studies(number: int) -> str:
    return f"{number} stud{'y' if number == 1 else 'ies'}"
