"""The comparison of arms across studies: headline scores, their mean and the mean rank.

Studies have test sets of their own, so their resamples are independent: an interval of a mean over
studies comes from the studies' replicates, each study's in a random order of its own. Within a
study the order is the same for all arms, so that differences stay paired.
"""

import logging
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from peft_ablation.artifacts import write_table, write_text
from peft_ablation.comparison.pages import html, markdown
from peft_ablation.comparison.suite_page import suite_page
from peft_ablation.comparison.words import Words
from peft_ablation.metrics.bootstrap import percentile_interval

log = logging.getLogger(__name__)

Array = NDArray[np.float64]
VERDICTS: Final = ("better", "worse", "not told apart")


@dataclass(frozen=True)
class Outcome:
    """What one study found: its comparison, by arm, and the replicates of its headline score."""

    study: str
    words: Words
    rows: Mapping[str, Mapping[str, Any]]
    replicates: Mapping[str, Array]

    @classmethod
    def read(
        cls, study: str, table: str | Path, words: str | Path, replicates: str | Path | None = None
    ) -> "Outcome":
        """Read what `compare_arms` wrote."""
        rows = pl.read_csv(table, infer_schema_length=None).iter_rows(named=True)
        said = Words.read(words)
        drawn = {}
        if replicates is not None:
            found = pl.read_parquet(replicates).filter(pl.col("metric") == said.headline)
            order = np.random.default_rng(zlib.crc32(study.encode()))
            place = order.permutation(len(found["replicates"][0]))
            drawn = {
                arm: np.asarray(values, dtype=np.float64)[place]
                for arm, values in found.select("arm", "replicates").iter_rows()
            }
        return cls(study, said, {row["arm"]: row for row in rows}, drawn)

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

    def verdict(self, arm: str) -> str | None:
        """Return what the interval of an arm's difference to the reference says."""
        low, high = self.value(arm, "_difference_low"), self.value(arm, "_difference_high")
        if low is None or high is None:
            return None
        if low <= 0 <= high:
            return VERDICTS[2]
        return VERDICTS[0] if (low > 0) == self.higher_is_better else VERDICTS[1]

    def ranks(self) -> dict[str, float]:
        """Return the rank of each arm's headline score, 1 the best; equal scores share the mean."""
        arms = [arm for arm in self.rows if self.value(arm) is not None]
        values = pl.Series([self.value(arm) for arm in arms], dtype=pl.Float64)
        ranks = values.rank("average", descending=self.higher_is_better)
        return dict(zip(arms, ranks.to_list(), strict=True))


def compare_studies(
    *,
    suite: str,
    title: str,
    studies: Sequence[str],
    tables: Sequence[str | Path],
    words: Sequence[str | Path],
    replicates: Sequence[str | Path],
    confidence: float,
    table: str | Path,
    markdown_page: str | Path,
    html_page: str | Path,
) -> None:
    """Write the comparison across studies: CSV, Markdown and HTML, one row an arm.

    `tables`, `words` and `replicates` are what `compare_arms` wrote, in the order of `studies`.
    """
    outcomes = [
        Outcome.read(*each) for each in zip(studies, tables, words, replicates, strict=True)
    ]
    rows = suite_rows(outcomes, confidence)
    write_table(pl.DataFrame(rows, infer_schema_length=None), table)
    blocks = suite_page(rows, outcomes, suite=suite, title=title, confidence=confidence)
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
                **_mean_score(arm, shared, confidence),
                **_mean_of_all(arm, everywhere, confidence),
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


def _mean_score(arm: str, shared: Sequence[Outcome], confidence: float) -> dict[str, Any]:
    """Return the mean headline score over studies and its difference to the reference's."""
    mean = _mean(arm, shared)
    references = {outcome.reference for outcome in shared} - {None, arm}
    theirs = _mean(str(references.pop()), shared) if len(references) == 1 else None
    one = len({outcome.reference for outcome in shared}) == 1
    difference = None
    if mean is not None and theirs is not None and one:
        difference = (mean[0] - theirs[0], mean[1] - theirs[1])
    return _told("mean", mean, confidence) | _told("mean_difference", difference, confidence)


def _mean_of_all(arm: str, studies: Sequence[Outcome], confidence: float) -> dict[str, Any]:
    return _told("mean_of_all", _mean(arm, studies), confidence)


def _mean(arm: str, studies: Sequence[Outcome]) -> tuple[float, Array] | None:
    """Return the mean score of an arm over studies, and its replicates; None where there is none.

    Scores of which more is better are not added to others.
    """
    if len({outcome.higher_is_better for outcome in studies}) != 1:
        return None
    values = np.array([outcome.value(arm) for outcome in studies], dtype=float)
    return float(values.mean()), np.mean([o.replicates[arm] for o in studies], axis=0)


def _told(name: str, mean: tuple[float, Array] | None, confidence: float) -> dict[str, Any]:
    value, drawn = mean or (None, None)
    low, high = (drawn is not None and percentile_interval(drawn, confidence)) or (None, None)
    return {name: value, f"{name}_low": low, f"{name}_high": high}


def _of_study(arm: str, outcome: Outcome) -> dict[str, Any]:
    ends = ("", "_low", "_high", "_difference", "_difference_low", "_difference_high")
    return {
        **{f"{outcome.study}{end}": outcome.value(arm, end) for end in ends},
        f"{outcome.study}_verdict": outcome.verdict(arm),
        f"{outcome.study}_rank": outcome.ranks().get(arm),
    }
