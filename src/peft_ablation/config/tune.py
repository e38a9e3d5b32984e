"""The `tune:` section: every trained arm gets the same number of trials to choose its rate by."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Final, Self

from pydantic import AfterValidator, Field, model_validator

from peft_ablation.config.section import Name, Section, Seed
from peft_ablation.errors import InputError, near_miss

DIGITS: Final = 12
"""Digits of a product of rate and factor: 3 times 0.1 is 0.3."""


def _differ(values: tuple[float, ...]) -> tuple[float, ...]:
    repeated = [value for value, count in Counter(values).items() if count > 1]
    if repeated:
        raise ValueError(f"found {repeated[0]:g} more than once; a trial is made once")
    return tuple(sorted(values))


Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Grid = Annotated[tuple[Positive, ...], Field(min_length=1), AfterValidator(_differ)]
"""Numbers above 0, each once, ascending."""
Grids = dict[str, tuple[float, ...]]
"""Learning rates by arm."""


class Tune(Section):
    """How each arm's learning rate is chosen: one training a rate, the lowest validation loss."""

    learning_rate: Grid | None = None
    """Learning rates that every trained arm tries."""
    factors: Grid | None = None
    """In place of them: factors of each arm's own learning_rate."""
    arms: dict[Name, Grid] = Field(default_factory=dict)
    """Learning rates by arm, in place of those above; as many as every other arm tries."""
    epochs: int | None = Field(None, ge=1)
    """Epochs of a trial, with a schedule of their own; null: `train.epochs`."""
    seed: Seed = 100
    """Seed of all trials. Best none of `train.seeds`: a rate that was lucky with a seed is not then
    trained with it again."""

    @model_validator(mode="after")
    def _is_one_grid(self) -> Self:
        if self.learning_rate is not None and self.factors is not None:
            raise ValueError("learning_rate and factors are both set: keep one of them")
        return self


def grids(tune: Tune | None, trained: Mapping[str, float], arms: Iterable[str]) -> Grids:
    """Return the rates that each arm tries, ascending; none of an arm that is not trained.

    `trained` are the arms that are, with their own rates. Raises `InputError` where an arm has no
    grid or another number of trials than the others, and for a grid that no arm would read.
    """
    if tune is None:
        return {}
    arms = list(arms)
    for name in tune.arms:
        if name not in arms:
            raise InputError(
                f"tune.arms: found {name!r}, expected an arm: {', '.join(arms)}"
                f"{near_miss(name, arms)}"
            )
        if name not in trained:
            raise InputError(f"tune.arms.{name}: its method trains nothing; take it away")
    found = {name: tune.arms.get(name) or _shared(tune, name, trained[name]) for name in trained}
    if len(set(map(len, found.values()))) > 1:
        told = ", ".join(f"{name} {len(rates)}" for name, rates in found.items())
        raise InputError(
            f"tune: found different numbers of trials ({told}), expected the same for every arm: "
            "give each arm as many rates"
        )
    return found


def _shared(tune: Tune, name: str, rate: float) -> tuple[float, ...]:
    if tune.learning_rate is not None:
        return tune.learning_rate
    if tune.factors is not None:
        return tuple(float(f"{rate * factor:.{DIGITS}g}") for factor in tune.factors)
    raise InputError(
        f"tune: found no learning_rate, no factors and no arms.{name}; say which rates that arm "
        "tries"
    )


def refuse_swept_rates(raw: Mapping[str, Any]) -> None:
    """Raise `InputError` where a study, as it is written, both tunes and sweeps learning rates."""
    arms = raw.get("arms")
    if raw.get("tune") is None or not isinstance(arms, Mapping):
        return
    for name, arm in arms.items():
        sweep = arm.get("sweep") if isinstance(arm, Mapping) else None
        if isinstance(sweep, Mapping) and "learning_rate" in sweep:
            raise InputError(
                f"arms.{name}.sweep.learning_rate: a study with tune chooses each arm's rate by "
                "itself; leave out one of the two"
            )
