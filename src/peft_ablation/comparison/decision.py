"""Whether an arm is good enough: tests of its difference to the reference arm.

A p value is that of the interval (see `peft_ablation.metrics.intervals`): 1 less the level at which
it ends at the null. Shuffling groups between two arms, the usual randomisation test of systems
trained once (`peft_ablation.metrics.randomisation`), takes the seeds as given, and among the labels
of 2 x 2 runs there are too few shuffles for a p below a third: it is shown and decides nothing.
Holm's correction (1979) is over all tests of the study.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from peft_ablation.metrics.intervals import Estimate

BETTER, WORSE, EQUIVALENT, UNDECIDED = (
    "better", "worse", "equivalent within the margin", "undecided",
)  # fmt: skip
NOT_TOLD_APART: Final = "not told apart"
HIGHER, LOWER = "higher", "lower"
"""What is said where neither direction is better."""
SMALL_LOSS: Final = "worse, within the margin"
MOST_SEEDS: Final = 50
MOST_GROUPS: Final = 20
"""No more seeds, and no more times the test groups, are looked at to tell what would decide."""


@dataclass(frozen=True)
class Compared:
    """The difference of an arm to the reference in one metric, as it was found."""

    arm: str
    metric: str
    difference: Estimate
    """Arm less reference."""
    higher_is_better: bool
    seeds: int
    """Seeds of the arm or of the reference, whichever has fewer."""
    groups: int
    margin: float | None = None
    """By how much the arm may be worse and still be good enough, in the metric's unit."""

    @property
    def gain(self) -> Estimate:
        """The difference in the direction that is better."""
        return self.difference if self.higher_is_better else self.difference.negative

    @property
    def effect_size(self) -> float | None:
        """The difference over the standard deviation of what single groups contribute to it.

        Cohen's d_z of paired groups (1988, section 2.3.5), of mean scores over seeds; None where no
        group differs from another.
        """
        deviation = math.sqrt(self.difference.of_groups * self.groups)
        return self.difference.value / deviation if deviation else None


@dataclass(frozen=True)
class Decision:
    """What a study can say of an arm in one metric."""

    effect_size: float | None
    """See `Compared.effect_size`."""
    p: float
    """Two-sided p of no difference."""
    p_holm: float
    p_not_worse: float | None
    """One-sided p, Holm's, of being worse by the margin or more; None without a margin."""
    verdict: str
    seeds_to_decide: int | None
    """Fewest seeds an arm with which this difference would decide; None: decided, or not by 50."""
    groups_to_decide: int | None
    """Fewest test groups with which it would; None: decided, or not by twenty times as many."""


def decide(found: Sequence[Compared], confidence: float) -> dict[tuple[str, str], Decision]:
    """Return the decision on each of a study's tests, by arm and metric."""
    alpha = 1 - confidence
    keys = [(one.arm, one.metric) for one in found]
    p = {key: one.difference.p_value() for key, one in zip(keys, found, strict=True)}
    p_holm = holm(p)
    not_worse = holm(
        {
            key: one.gain.p_at_most(-one.margin)
            for key, one in zip(keys, found, strict=True)
            if one.margin is not None
        }
    )
    result = {}
    for key, one in zip(keys, found, strict=True):
        # One-sided at half the level, so that it agrees with the interval.
        close = key in not_worse and not_worse[key] < alpha / 2
        if p_holm[key] < alpha:
            verdict = BETTER if one.gain.value > 0 else SMALL_LOSS if close else WORSE
        else:
            verdict = EQUIVALENT if close else UNDECIDED
        open_ = verdict == UNDECIDED
        result[key] = Decision(
            one.effect_size,
            p[key],
            p_holm[key],
            not_worse.get(key),
            verdict + of_runs(one.seeds),
            _seeds_to_decide(one, alpha / len(found)) if open_ else None,
            _groups_to_decide(one, alpha / len(found)) if open_ else None,
        )
    return result


SIZES: Final = ((0.2, "negligible"), (0.5, "small"), (0.8, "medium"), (math.inf, "large"))
"""Effect sizes below, and what they are called (Cohen, 1988, section 2.2.3)."""


def size_word(effect_size: float) -> str:
    """Return Cohen's word for an effect of this size."""
    return next(word for below, word in SIZES if abs(effect_size) < below)


def of_runs(seeds: int) -> str:
    """Return what is added to a verdict of so many seeds: one tells nothing of its arm."""
    return " in these runs" if seeds < 2 else ""


def of_interval(low: float | None, high: float | None, higher_is_better: bool | None) -> str | None:
    """Return what the interval of a difference to the reference says by itself; None: no such."""
    if low is None or high is None:
        return None
    if low <= 0 <= high:
        return NOT_TOLD_APART
    if higher_is_better is None:
        return HIGHER if low > 0 else LOWER
    return BETTER if (low > 0) == higher_is_better else WORSE


def holm(p_values: Mapping[tuple[str, str], float]) -> dict[tuple[str, str], float]:
    """Return the p values corrected for their number (Holm, 1979)."""
    corrected: dict[tuple[str, str], float] = {}
    least = 0.0
    ordered = sorted(p_values, key=lambda key: p_values[key])
    for place, key in enumerate(ordered):
        least = max(least, min(1.0, (len(ordered) - place) * p_values[key]))
        corrected[key] = least
    return corrected


def _would_decide(one: Compared, planned: Estimate, alpha: float) -> bool:
    """Tell whether an interval leaves out 0, or lies above the margin, if the value stays."""
    gain = one.gain.value
    distance = max(abs(gain), gain + one.margin if one.margin is not None else 0)
    return planned.quantile(1 - alpha) * planned.error < distance


def _seeds_to_decide(one: Compared, alpha: float) -> int | None:
    if one.seeds < 2:
        return None
    tried = range(one.seeds + 1, MOST_SEEDS + 1)
    return next(
        (s for s in tried if _would_decide(one, one.difference.planned(one.seeds, s), alpha)), None
    )


def _groups_to_decide(one: Compared, alpha: float) -> int | None:
    if one.seeds < 2:
        return None
    times = (1 + step / 10 for step in range(1, 10 * (MOST_GROUPS - 1) + 1))
    for factor in times:
        planned = one.difference.planned(one.seeds, one.seeds, factor)
        if _would_decide(one, planned, alpha):
            return round(one.groups * factor)
    return None
