"""Intervals of an arm's score, and of the difference of two, from few seeds.

Two things vary: the test groups, which all runs share, and the training seeds, an arm's own. A
score is the mean over seeds; resampling seeds with replacement is not calibrated at two to five of
them (it counts the noise twice where they agree, and knows only (S - 1) / S of their variance where
they do not). Here the variance is that of a crossed random-effects design (Searle, Casella and
McCulloch, 1992, chapter 4), and Student's t quantile is the mean of those of its parts, weighted by
the parts (Cochran and Cox, 1957, section 4.14). Satterthwaite's degrees of freedom alone cover too
little at two seeds. Scores that are no means enter by their jackknife pseudo-values (Tukey, 1958),
one a group, which also weighs groups of unequal size.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import brentq
from scipy.special import stdtrit

from peft_ablation.metrics.metric import Array


@dataclass(frozen=True)
class ArmScores:
    """A score of each run of an arm, and what each test group contributes to it."""

    runs: Array
    """(S,): the score of each run."""
    groups: Array
    """(S, G): pseudo-values, whose mean over groups is about the run's score."""

    @classmethod
    def of(cls, value: Callable[[Array], Array], sums: Sequence[Array]) -> "ArmScores | None":
        """Return them for sums by group of each run, (G, K) each.

        None where a run has no score, or there is but one group.
        """
        count = len(sums[0])
        totals = [run.sum(axis=0) for run in sums]
        runs = np.array([value(total) for total in totals], dtype=np.float64)
        if np.isnan(runs).any() or count < 2:
            return None
        rows = []
        for score, total, run in zip(runs, totals, sums, strict=True):
            without = value(total - run)
            # Undefined without this group, as where it alone has a class: taken as no change.
            without = np.where(np.isnan(without), score, without)
            rows.append(count * score - (count - 1) * without)
        return cls(runs, np.stack(rows))


@dataclass(frozen=True)
class Estimate:
    """A score or a difference of scores, and the parts of its variance."""

    value: float
    of_groups: float
    """Variance by the choice of test groups, with the noise of each."""
    groups_df: float
    of_seeds: float
    """Variance by the choice of seeds, with the same noise; 0 where no arm has two."""
    seeds_df: float
    """Degrees of freedom of `of_seeds` (Satterthwaite, 1946); 0 where no arm has two seeds."""
    noise: float
    """Variance that both parts hold, once too often."""

    @property
    def error(self) -> float:
        """Standard error."""
        total = self.of_groups + self.of_seeds - self.noise
        return float(np.sqrt(max(total, self.of_groups)))

    def quantile(self, confidence: float) -> float:
        """Return how many standard errors an interval of this level reaches to either side."""
        tail = (1 + confidence) / 2
        both = self.of_groups + self.of_seeds
        of_groups = float(stdtrit(self.groups_df, tail))
        if not self.of_seeds:
            return of_groups
        of_seeds = float(stdtrit(self.seeds_df, tail))
        return (self.of_groups * of_groups + self.of_seeds * of_seeds) / both

    def interval(self, confidence: float) -> tuple[float, float]:
        """Return the interval of this level."""
        reach = self.quantile(confidence) * self.error
        return self.value - reach, self.value + reach

    @property
    def negative(self) -> "Estimate":
        """The same with the other sign."""
        return replace(self, value=-self.value)

    def p_value(self, truth: float = 0.0) -> float:
        """Return the two-sided p of `truth`: 1 less the level whose interval ends there."""
        distance = abs(self.value - truth)
        if not self.error or not distance:
            return float(not distance)
        most = 1 - 1e-12
        if self.quantile(most) * self.error <= distance:
            return 1 - most
        level = brentq(lambda c: self.quantile(c) * self.error - distance, 0, most, xtol=1e-12)
        return 1 - float(level)

    def p_at_most(self, bound: float) -> float:
        """Return the one-sided p of a truth of at most `bound`: small where it is above."""
        half = self.p_value(bound) / 2
        return half if self.value > bound else 1 - half

    def planned(self, seeds: int, as_many: int, groups: float = 1.0) -> "Estimate":
        """Return what to expect of `as_many` seeds instead of `seeds`, and of so many times groups.

        The value stays, and so do the variances of one seed and one group. `seeds` is two or more.
        """
        more = as_many / seeds
        noise = self.noise / more / groups
        return Estimate(
            value=self.value,
            of_groups=max(self.of_groups - self.noise, 0) / groups + noise,
            groups_df=(self.groups_df + 1) * groups - 1,
            of_seeds=max(self.of_seeds - self.noise, 0) / more + noise,
            seeds_df=self.seeds_df * (as_many - 1) / (seeds - 1),
            noise=noise,
        )


def estimate(ours: ArmScores, theirs: ArmScores | None = None) -> Estimate:
    """Return an arm's mean score over seeds, or its difference to another arm's on the same groups.

    With one seed in an arm nothing is known of what its seeds do: the estimate is then of that run
    alone, not of the arm.
    """
    arms = [ours] if theirs is None else [ours, theirs]
    signs = (1, -1)
    count = ours.groups.shape[1]
    value = sum(sign * float(arm.runs.mean()) for sign, arm in zip(signs, arms, strict=False))
    by_group = sum(sign * arm.groups.mean(axis=0) for sign, arm in zip(signs, arms, strict=False))
    of_seeds, noise = [], 0.0
    for arm in arms:
        seeds = len(arm.runs)
        if seeds < 2:
            continue
        of_seeds.append((float(arm.runs.var(ddof=1)) / seeds, seeds - 1))
        rest = arm.groups - arm.groups.mean(axis=1, keepdims=True) - arm.groups.mean(axis=0)
        squares = float(((rest + arm.groups.mean()) ** 2).sum())
        noise += squares / ((seeds - 1) * (count - 1)) / (count * seeds)
    total = sum(part for part, _ in of_seeds)
    weight = sum(part**2 / df for part, df in of_seeds)
    return Estimate(
        value=value,
        of_groups=float(np.var(by_group, ddof=1)) / count,
        groups_df=count - 1.0,
        of_seeds=total,
        seeds_df=total**2 / weight if weight else 0.0,
        noise=noise,
    )


def mean_of(estimates: Sequence[Estimate]) -> Estimate:
    """Return the mean of independent estimates, such as of studies with test sets of their own.

    Variances add up over the square of their number; degrees of freedom are Satterthwaite's (1946).
    """
    count = len(estimates)

    def part(of: Callable[[Estimate], tuple[float, float]]) -> tuple[float, float]:
        found = [of(each) for each in estimates]
        total = sum(variance for variance, _ in found)
        weight = sum(variance**2 / df for variance, df in found if df)
        return total / count**2, total**2 / weight if weight else max(df for _, df in found)

    of_groups, groups_df = part(lambda each: (each.of_groups, each.groups_df))
    of_seeds, seeds_df = part(lambda each: (each.of_seeds, each.seeds_df))
    return Estimate(
        value=sum(each.value for each in estimates) / count,
        of_groups=of_groups,
        groups_df=groups_df,
        of_seeds=of_seeds,
        seeds_df=seeds_df,
        noise=sum(each.noise for each in estimates) / count**2,
    )
