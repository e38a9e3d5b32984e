"""The comparison of arms across studies: headline scores, their mean and the mean rank.

Studies have test sets and training runs of their own, so their estimates are independent: the
variance of a mean over studies is made of theirs (`peft_ablation.metrics.intervals.mean_of`).
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl

from peft_ablation.artifacts import read_json, write_table, write_text
from peft_ablation.comparison.decision import BETTER, NOT_TOLD_APART, WORSE, of_interval
from peft_ablation.comparison.pages import html, markdown
from peft_ablation.comparison.rank_tests import ranked
from peft_ablation.comparison.suite_page import suite_page
from peft_ablation.comparison.suite_ranks import (
    published_ranks,
    rank_blocks,
    rank_rows,
    rank_tests,
)
from peft_ablation.comparison.suite_summary import suite_summary
from peft_ablation.comparison.sweep import sweep_blocks
from peft_ablation.comparison.words import Words, read_rows
from peft_ablation.metrics.intervals import Estimate, mean_of

log = logging.getLogger(__name__)

VERDICTS: Final = (BETTER, WORSE, NOT_TOLD_APART)


@dataclass(frozen=True)
class Outcome:
    """What one study found: its comparison by arm, and what the intervals are made of."""

    study: str
    words: Words
    rows: Mapping[str, Mapping[str, Any]]
    estimates: Mapping[str, Mapping[str, Mapping[str, float] | None]]
    """Of the headline score, by arm: `score`, and its `difference` to the reference arm."""

    @classmethod
    def read(
        cls, study: str, table: str | Path, words: str | Path, estimates: str | Path | None = None
    ) -> "Outcome":
        """Read what `compare_arms` wrote."""
        rows = read_rows(table)
        said = Words.read(words)
        found = {} if estimates is None else read_json(estimates)[said.headline]
        return cls(study, said, {row["arm"]: row for row in rows}, found)

    @property
    def higher_is_better(self) -> bool:
        """Whether more of the headline score is better."""
        return bool(self.words.metrics[self.words.headline]["higher_is_better"])

    @property
    def reference(self) -> str | None:
        """The arm that the others were compared with."""
        found = next(iter(self.rows.values()))["reference_arm"]
        return None if found is None else str(found)

    def value(self, arm: str, ending: str = "") -> float | None:
        """Return the headline score of an arm, or a column beside it; None where there is none."""
        found = self.rows.get(arm, {}).get(f"{self.words.headline}{ending}")
        return None if found is None else float(found)

    @property
    def baselines(self) -> dict[str, float]:
        """The headline scores of what is not trained, by title."""
        first = next(iter(self.rows.values()))
        found = {
            title: first.get(f"{name}_{self.words.headline}")
            for name, title in self.words.baselines.items()
        }
        return {title: float(value) for title, value in found.items() if value is not None}

    def estimate(self, arm: str, what: str) -> Estimate | None:
        """Return the estimate of an arm's `score`, or of its `difference` to the reference arm."""
        found = self.estimates.get(arm, {}).get(what)
        return None if found is None else Estimate(**found)

    def verdict(self, arm: str) -> str | None:
        """Return what the interval of an arm's difference to the reference says."""
        low, high = self.value(arm, "_difference_low"), self.value(arm, "_difference_high")
        return of_interval(low, high, self.higher_is_better)

    def ranks(self) -> dict[str, float]:
        """Return the rank of each arm's headline score, 1 the best; equal scores share the mean."""
        scores = {arm: self.value(arm) for arm in self.rows}
        known = {arm: score for arm, score in scores.items() if score is not None}
        return ranked(known, self.higher_is_better)


def compare_studies(
    *,
    suite: str,
    title: str,
    studies: Sequence[str],
    tables: Sequence[str | Path],
    words: Sequence[str | Path],
    estimates: Sequence[str | Path],
    confidence: float,
    published: Mapping[str, Sequence[Mapping[str, Any]]],
    table: str | Path,
    tests: str | Path,
    summary: str | Path,
    markdown_page: str | Path,
    html_page: str | Path,
    sweeps: Sequence[tuple[str, str, str | Path, str | Path]] = (),
) -> None:
    """Write the comparison across studies: CSV, Markdown and HTML, one row an arm.

    `tests` (CSV): one row a test of the arms' ranks, see `peft_ablation.comparison.suite_ranks`.
    `summary` (plain text): the paragraph that the report page begins with.

    `tables`, `words` and `estimates` are what `compare_arms` wrote, in the order of `studies`;
    `published` the numbers of `peft_ablation.comparison.published` by study; `sweeps` study, key,
    points and spreads of what `peft_ablation.comparison.sweep` wrote.
    """
    outcomes = [Outcome.read(*each) for each in zip(studies, tables, words, estimates, strict=True)]
    rows = suite_rows(outcomes, confidence)
    of_ranks = rank_tests(outcomes, confidence)
    write_table(pl.DataFrame(rows, infer_schema_length=None), table)
    write_table(pl.DataFrame(rank_rows(of_ranks), infer_schema_length=None), tests)
    blocks = suite_page(
        rows, outcomes, suite=suite, title=title, confidence=confidence, published=published,
        of_ranks=rank_blocks(of_ranks, published_ranks(outcomes, published)),
        sweeps=sweep_blocks(sweeps, confidence),
    )  # fmt: skip
    smoke = suite.endswith(".smoke")
    told = suite_summary(rows, outcomes, of_ranks, title=title, smoke=smoke)
    write_text(summary, f"{told}\n")
    write_text(markdown_page, markdown(blocks))
    write_text(html_page, html(blocks, f"{title}: comparison across studies"))
    log.info("compared %d arms over %d studies", len(rows), len(outcomes))


def suite_rows(outcomes: Sequence[Outcome], confidence: float) -> list[dict[str, Any]]:
    """Return one row an arm, in the order in which the studies name them.

    `mean` and `mean_rank` are over the studies that every arm is in and has a score in, `shared`;
    `mean_of_all` is over all studies, for arms that are in all. Means are None where in some
    studies more is better and in others less. `honest_learning` counts among `honest_known`.
    """
    arms = list(dict.fromkeys(arm for outcome in outcomes for arm in outcome.rows))
    shared = [o for o in outcomes if all(o.value(arm) is not None for arm in arms)]
    ranks = [outcome.ranks() for outcome in shared]
    rows = []
    for arm in arms:
        own = [outcome for outcome in outcomes if arm in outcome.rows]
        verdicts = [outcome.verdict(arm) for outcome in own]
        honest = [outcome.rows[arm].get("honest_learning") for outcome in own]
        everywhere = outcomes if all(o.value(arm) is not None for o in outcomes) else ()
        rows.append(
            {
                "arm": arm,
                "studies": len(own),
                "shared": len(shared),
                **_mean("mean_of_all", arm, everywhere, confidence),
                **_mean("mean", arm, shared, confidence),
                **_mean("mean_difference", arm, shared, confidence, "difference"),
                "mean_rank": float(np.mean([rank[arm] for rank in ranks])) if ranks else None,
                **{verdict.replace(" ", "_"): verdicts.count(verdict) for verdict in VERDICTS},
                "honest_learning": honest.count(True),
                "honest_known": len(honest) - honest.count(None),
                "trainable_parameters": max(o.rows[arm]["trainable_parameters"] for o in own),
                "train_seconds": float(sum(o.rows[arm]["train_seconds"] for o in own)),
                **{k: v for outcome in outcomes for k, v in _of_study(arm, outcome).items()},
            }
        )
    return rows


def _mean(
    name: str, arm: str, studies: Sequence[Outcome], confidence: float, what: str = "score"
) -> dict[str, Any]:
    """Return a mean over studies with its interval.

    None where scores of which more is better would be added to others, and where differences are
    to different arms.
    """
    estimates = [outcome.estimate(arm, what) for outcome in studies]
    known = [each for each in estimates if each is not None]
    one = len({(o.higher_is_better, o.reference if what == "difference" else "") for o in studies})
    if one != 1 or len(known) < len(estimates):
        return {name: None, f"{name}_low": None, f"{name}_high": None}
    found = mean_of(known)
    low, high = found.interval(confidence)
    return {name: found.value, f"{name}_low": low, f"{name}_high": high}


def _of_study(arm: str, outcome: Outcome) -> dict[str, Any]:
    ends = ("", "_low", "_high", "_difference", "_difference_low", "_difference_high")
    return {
        **{f"{outcome.study}{end}": outcome.value(arm, end) for end in ends},
        f"{outcome.study}_verdict": outcome.verdict(arm),
        f"{outcome.study}_rank": outcome.ranks().get(arm),
    }
