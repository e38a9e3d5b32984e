"""How far a score spreads between values of a setting, against between seeds of one value.

Runs are a balanced one-way classification of random effects: `V` values of `S` seeds each (Searle,
Casella and McCulloch, 1992, chapter 3). All are scored on the same test set, which is taken as
given. With one seed a value, what the value does and what the seed does is one and the same.
"""

from dataclasses import dataclass
from typing import Final

from scipy.stats import f as fisher

from peft_ablation.metrics.metric import Array

MORE, LESS, UNDECIDED = "more", "less", "undecided"
FEWEST: Final = 2
"""Values, and seeds of each, without which there is no spread."""


@dataclass(frozen=True)
class Spread:
    """Variance components of a score, and the interval of their ratio."""

    between: float
    """Variance between values, beyond what seeds explain of their means; 0 where that is less."""
    within: float
    """Variance between seeds of one value."""
    low: float
    """End of the interval of the ratio `between / within`, 0 or more; exact for normal scores."""
    high: float
    """The other end."""

    @property
    def ratio(self) -> float:
        """How many times larger the variance between values is than that between seeds."""
        if not self.within:
            return float("inf") if self.between else float("nan")
        return self.between / self.within

    @property
    def verdict(self) -> str:
        """Whether the setting matters `more` or `less` than the seed, or neither is sure."""
        if self.low > 1:
            return MORE
        return LESS if self.high < 1 else UNDECIDED


def spread(runs: Array, confidence: float) -> Spread | None:
    """Return the spread of scores (V, S), or None of fewer than two values or seeds."""
    values, seeds = runs.shape
    if min(values, seeds) < FEWEST:
        return None
    of_values = seeds * float(runs.mean(axis=1).var(ddof=1))
    within = float(runs.var(axis=1, ddof=1).mean())
    between = max(of_values - within, 0.0) / seeds
    if not within:
        # Seeds that do not differ at all: any difference between values is more.
        end = float("inf") if between else float("nan")
        return Spread(between, within, end, end)
    freedom = values - 1, values * (seeds - 1)
    tail = (1 - confidence) / 2
    ends = [
        max((of_values / within / float(fisher.ppf(share, *freedom)) - 1) / seeds, 0.0)
        for share in (1 - tail, tail)
    ]
    return Spread(between, within, *ends)
