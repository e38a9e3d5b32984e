"""Runs of studies that a study starts from: found, checked, and free of circles."""

from dataclasses import dataclass
from typing import Any

from peft_ablation.bases.location import SEED
from peft_ablation.config.base import RunOf
from peft_ablation.config.loading import Config
from peft_ablation.errors import InputError, near_miss


@dataclass(frozen=True)
class OtherRun:
    """A run that another one starts from: paths may hold `{seed}`, that of the run that starts."""

    config: Config
    run: RunOf

    @property
    def model(self) -> str:
        """Its model folder."""
        seed = SEED if self.run.seed is None else self.run.seed
        return f"{self.config.results}/runs/{self.run.arm}/seed-{seed}/model"

    @property
    def base(self) -> str:
        """The folder that it started from."""
        folder = self.config.start(self.run.arm)
        return folder if self.run.seed is None else folder.replace(SEED, str(self.run.seed))

    @property
    def train(self) -> str:
        """Its training split."""
        return f"{self.config.results}/splits/train.parquet"

    @property
    def task(self) -> dict[str, Any]:
        """Its task's settings, as plain values."""
        return dict(self.config.study.task.model_dump(mode="json"))

    @property
    def arm(self) -> dict[str, Any]:
        """Its arm's settings, as plain values."""
        return dict(self.config.study.arms[self.run.arm].model_dump(mode="json"))


def runs_needed(config: Config) -> dict[RunOf, OtherRun]:
    """Return what the study's bases and arms start from, by its `RunOf`.

    Raises `InputError` for a study, arm or seed that does not exist, for a start from an arm of
    another base, and for studies that start from one another in a circle.
    """
    found: dict[RunOf, OtherRun] = {}
    for where, run in _references(config):
        try:
            other = config.config_of(run)
        except InputError as error:
            raise InputError(f"{where}: {error}") from None
        _check(other, run, where)
        found[run] = OtherRun(other, run)
        if other is not config:
            runs_needed(other)
    for name, arm in config.study.arms.items():
        if arm.init_from is not None:
            _check_same_base(config, name, found[arm.init_from])
        for start in (arm.init_from, config.study.base_of(name).run):
            if start is not None:
                _check_trials(config, name, found[start])
    return found


def data_terms(config: Config) -> list[str]:
    """Return what stands against sharing the study's models freely, one text a kind of data.

    Data that are not public count, those of the runs that it starts from, too.
    """
    others = [other.config for other in runs_needed(config).values()]
    found = [] if config.study.data.public else [config.source.terms]
    for other in others:
        if other.name != config.name:
            found += data_terms(other)
    return list(dict.fromkeys(found))


def _references(config: Config) -> list[tuple[str, RunOf]]:
    study = config.study
    places = [("base.run", study.base.run)]
    for name, arm in study.arms.items():
        if arm.base is not None:
            places.append((f"arms.{name}.base.run", arm.base.run))
        places.append((f"arms.{name}.init_from", arm.init_from))
    return [(f"study {config.name}: {key}", run) for key, run in places if run is not None]


def _check(other: Config, run: RunOf, where: str) -> None:
    arms = list(other.study.arms)
    if run.arm not in arms:
        raise InputError(
            f"{where}: study {other.name} has no arm {run.arm!r}, allowed: {', '.join(arms)}"
            f"{near_miss(run.arm, arms)}"
        )
    seeds = other.study.train.seeds
    if run.seed is not None and run.seed not in seeds:
        raise InputError(
            f"{where}: study {other.name} has no seed {run.seed}, allowed: "
            f"{', '.join(map(str, seeds))}"
        )


def _check_trials(config: Config, name: str, start: OtherRun) -> None:
    """Refuse trials that would start from a run that nobody else needs."""
    tune, seeds = config.study.tune, start.config.study.train.seeds
    if tune is None or name not in config.grids or start.run.seed is not None:
        return
    if tune.seed not in seeds:
        raise InputError(
            f"study {config.name}: tune.seed: found {tune.seed}, but arm {name} starts from run "
            f"{start.run.study}/{start.run.arm} of the same seed, which has "
            f"{', '.join(map(str, seeds))}: set tune.seed to one of these"
        )


def _check_same_base(config: Config, name: str, start: OtherRun) -> None:
    ours, theirs = config.start(name), start.base
    base = config.study.base_of(name)
    other = start.config.study.base_of(start.run.arm) != base
    if ours != theirs and (
        other or (base.kind == "random" and base.random and base.random.of_texts)
    ):
        raise InputError(
            f"study {config.name}: arms.{name}.init_from: run {start.run.study}/{start.run.arm} is "
            f"of base {theirs}, expected this arm's, {ours}; an adapter fits its own base alone"
        )
