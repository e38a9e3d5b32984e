"""Site and study, read and checked.

The site (`config/config.yaml`) says where things are; a study (`config/studies/*.yaml`) is the
protocol, modelled in `peft_ablation.config.study`. `config/README.md` explains every key for
people, `peft_ablation.config.schemas` writes JSON schemas for editors.
"""

import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final

from peft_ablation.bases.architectures import Architecture
from peft_ablation.bases.known import architecture_of, model_type_of
from peft_ablation.bases.location import Place, place_of
from peft_ablation.config.arms import MOST_ARMS, expanded_sweeps
from peft_ablation.config.base import RunOf
from peft_ablation.config.checks import check
from peft_ablation.config.files import found_file, read_mapping, validated
from peft_ablation.config.section import Section
from peft_ablation.config.site import OfStudy, Site
from peft_ablation.config.study import Study, study_model
from peft_ablation.config.swept import swept_arms
from peft_ablation.config.tune import Grids, grids, refuse_swept_rates
from peft_ablation.errors import InputError
from peft_ablation.methods import Method, open_method
from peft_ablation.sources import Source, source_class
from peft_ablation.tasks import Task, task_class

STUDIES: Final = Path(__file__).resolve().parents[1] / "studies"
"""Folder of the shipped studies: `config/studies/` of a checkout, package data where installed."""

OWN_STUDIES: Final = Path("config", "studies")
"""Folder of a person's own studies in the working directory; they go before the shipped ones."""

MOVED: Final = {
    "train.prompt": "task.prompt",
    "train.max_tokens": "task.max_tokens",
    "train.too_long": "task.too_long",
    "train.shift_augmentation": "task.shift_augmentation",
    "train.cache_vision_features": "train.cache_frozen_features",
    "score.max_new_tokens": "task.max_new_tokens",
    "score.num_beams": "task.num_beams",
    "score.shuffle_images": "score.shuffle_inputs",
}
"""Keys of study files before tasks had settings of their own, and where they stand now."""

NAMED: Final = {"task": "name", "data": "source"}
"""Sections that may be written as a name alone, and the key that it is."""


class Config(Section):
    """A validated site with its validated study."""

    site: Site
    study: Study
    name: str
    """Name of the study; with `.smoke` where its smoke settings are run."""
    told: Site
    """The site as it was given; `site` has the data root of this study."""
    chain: tuple[str, ...] = ()
    """Studies that are being read because they start from runs of this one."""

    @property
    def results(self) -> str:
        """Folder of this study's results, relative to the working directory or absolute."""
        return f"{self.site.results.rstrip('/')}/{self.name}"

    @property
    def source(self) -> Source:
        """Where examples come from."""
        kind = source_class(self.study.data.source)
        return kind(self.study.data, self.site, self.results)

    @property
    def held_out(self) -> Source | None:
        """Where the examples of `forgetting.data` come from, None where the study names none."""
        told = self.study.forgetting and self.study.forgetting.data
        if not told:
            return None
        return source_class(told.source)(told, self.site, self.results)

    @property
    def own_task(self) -> dict[str, Any]:
        """Settings of the task on what the bases could do before, as plain values.

        Raises `InputError` for one that the task has not.
        """
        over = self.study.forgetting.task if self.study.forgetting else {}
        settings = {**self.study.task.model_dump(mode="json"), **over}
        found = validated(self.task.Settings, settings, f"study {self.name}: forgetting.task")
        return found.model_dump(mode="json")

    @property
    def task(self) -> type[Task]:
        """Class of the task."""
        return task_class(self.study.task.name)

    @property
    def swept(self) -> dict[str, list[str]]:
        """Arms that differ in one number alone, by that setting; chosen rates are no setting."""
        arms = {name: arm.model_dump(mode="json") for name, arm in self.study.arms.items()}
        return swept_arms(arms, tuned=bool(self.grids))

    def method(self, arm: str) -> Method:
        """Return the method of an arm."""
        return open_method(self.study.arms[arm].model_dump(mode="json"))

    def place(self, arm: str) -> Place:
        """Return where an arm's base lies."""
        return place_of(
            self.study.base_of(arm),
            bases=self.site.bases,
            results=self.results,
            prompt=getattr(self.study.task, "prompt", ""),
        )

    @property
    def instruct(self) -> Place | None:
        """Where the instruct model that questions are put to lies, None where there is none."""
        told = self.study.questions and self.study.questions.instruct
        if not told:
            return None
        return place_of(told, bases=self.site.bases, results=self.results, prompt="")

    def start(self, arm: str) -> str:
        """Return the folder that an arm starts from: its base, or what the task has made of it."""
        return self.prepared(arm) or self.place(arm).folder

    def prepared(self, arm: str) -> str | None:
        """Return the folder of what the task makes of an arm's base once; None where it does not.

        It follows from what is known before a base is fetched, so that the DAG does not change.
        """
        base = self.study.base_of(arm)
        task = self.study.task.model_dump(mode="json")
        if base.run is not None or not self.task.prepares(task, model_type_of(base)):
            return None
        return f"{self.results}/bases/{Path(self.place(arm).folder).name}.prepared"

    def architecture(self, arm: str, *, fetched: bool = True) -> Architecture | None:
        """Return the architecture of an arm's base, None where it cannot be known yet.

        Without `fetched`, what a fetched base says of itself is left aside: the answer does not
        change when it arrives.
        """
        base = self.study.base_of(arm)
        if base.run is None:
            folder = self.place(arm).folder if fetched else None
            return architecture_of(base, self.task, folder)
        other = self.config_of(base.run)
        if base.run.arm not in other.study.arms:
            return None
        return other.architecture(base.run.arm, fetched=fetched)

    def config_of(self, run: RunOf) -> "Config":
        """Return the config of the study of another run, or this one.

        It has this site, less the overrides. Raises `InputError` for studies that start from one
        another in a circle.
        """
        if run.study == self.site.study:
            return self
        chain = (*self.chain, self.site.study)
        if run.study in chain:
            raise InputError(
                f"found a circle: {' → '.join((*chain, run.study))}; a run cannot start from its "
                "own result"
            )
        site = self.told.model_copy(update={"study": run.study, "overrides": {}})
        return _load_other(site.model_dump_json(), chain)

    @property
    def grids(self) -> Grids:
        """Learning rates that each arm tries, ascending; none of a study without `tune`."""
        arms = self.study.arms
        trained = {name: arms[name].learning_rate for name in arms if self.method(name).trains}
        return grids(self.study.tune, trained, arms)

    @property
    def memory(self) -> dict[str, Any]:
        """The `memory:` section as plain values, with what it leaves to the rest of the study."""
        train, told = self.study.train, self.study.memory.model_dump(mode="json")
        share = -(-train.batch_size // train.num_processes)
        told["batch_sizes"] = told["batch_sizes"] or [train.micro_batch_size or share]
        told["arms"] = told["arms"] or [
            name for name in self.study.arms if self.method(name).trains
        ]
        return told

    @property
    def reference(self) -> str | None:
        """The arm that others are compared with: named, or the first that trains every weight."""
        if self.study.reference is not None:
            return self.study.reference
        every = (arm for arm in self.study.arms if not self.method(arm).freezes_base)
        return next(every, None)


def load_config(
    site: Mapping[str, Any],
    studies: Sequence[str | Path] = (OWN_STUDIES, STUDIES),
    chain: tuple[str, ...] = (),
) -> Config:
    """Validate the site mapping and the study it names, a file in the first of `studies` with it.

    `chain` are the studies that start from runs of this one.

    Raises `InputError` with one line that names the key, what was found and what is allowed.
    """
    parsed_site = validated(Site, site, "config")
    raw, name = read_study(parsed_site.study, [Path(folder) for folder in studies])
    smoke = raw.pop("smoke", None)
    if parsed_site.smoke:
        if smoke is None:
            raise InputError(f"config: smoke: study {name} has no smoke settings; leave smoke out")
        raw, name = merged(raw, smoke), f"{name}.smoke"
    where = f"study {name}"
    own = parsed_site.studies.get(name.removesuffix(".smoke"), OfStudy())
    for overrides in (parsed_site.overrides, own.overrides):
        raw = merged(raw, _written_out(overrides, where))
    raw = _filled(raw)
    if isinstance(raw.get("arms"), Mapping):
        try:
            refuse_swept_rates(raw)
            raw["arms"] = expanded_sweeps(raw["arms"], most=_most_arms(raw.get("max_arms")))
        except InputError as error:
            raise InputError(f"{where}: {error}") from None
    data = raw.get("data")
    source = data.get("source", "tree") if isinstance(data, Mapping) else "tree"
    try:
        model = study_model(str(source))
    except InputError as error:
        raise InputError(f"{where}: data.source: {error}") from None
    study = validated(model, raw, where)
    site_of_study = parsed_site.model_copy(update={"data_root": own.below(parsed_site.data_root)})
    config = Config(site=site_of_study, told=parsed_site, study=study, name=name, chain=chain)
    config.source.check()
    check(config, where)
    return config


@cache
def _load_other(site: str, chain: tuple[str, ...]) -> Config:
    """Load another study; each is asked for once an arm."""
    return load_config(json.loads(site), chain=chain)


def read_study(
    study: str, studies: Sequence[Path], seen: tuple[Path, ...] = ()
) -> tuple[dict[str, Any], str]:
    """Return a study file's content, merged over the study that it `extends`, and its name."""
    path, name = found_file("study", study, studies)
    if path.resolve() in seen:
        chain = " → ".join(p.stem for p in (*seen, path))
        raise InputError(f"study {seen[0].stem}: extends: found a circle: {chain}; break it")
    raw = _written_out(read_mapping(path, f"study {path}"), f"study {name}")
    parent = raw.pop("extends", None)
    if parent is not None:
        # A study of one's own may extend one that lies beside it.
        content, _ = read_study(str(parent), [path.parent, *studies], (*seen, path.resolve()))
        raw = merged(content, raw)
    return raw, name


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return `base` with `over` merged in, mapping by mapping; other values are replaced.

    A value of null removes the key, so that an override can drop an arm.
    """
    result = dict(base)
    for key, value in over.items():
        # Snakemake hands on null inside a mapping of the command line as this text.
        if value is None or value == "null":
            result.pop(key, None)
        elif isinstance(value, Mapping) and isinstance(result.get(key), Mapping):
            result[key] = merged(result[key], value)
        else:
            result[key] = value
    return result


def _written_out(layer: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return what is merged, a file or overrides, with each key where it stands now.

    A name that stands for a section (`task: captioning`) becomes that section, so that merging
    meets mappings. Raises `InputError` where a key is set in its former and in its present place.
    """
    result = {key: dict(v) if isinstance(v, Mapping) else v for key, v in layer.items()}
    for section, key in NAMED.items():
        if isinstance(result.get(section), str):
            result[section] = {key: result[section]}
    for old, new in MOVED.items():
        (section, key), (into, name) = old.split("."), new.split(".")
        if not isinstance(result.get(section), dict) or key not in result[section]:
            continue
        target = result.setdefault(into, {})
        if not isinstance(target, dict):
            continue  # the models say what is wrong
        if name in target:
            raise InputError(f"{where}: {old} is called {new} now, and both are set: keep {new}")
        target[name] = result[section].pop(key)
    smoke = result.get("smoke")
    return result if not isinstance(smoke, dict) else result | {"smoke": _written_out(smoke, where)}


def _filled(raw: dict[str, Any]) -> dict[str, Any]:
    """Return the study with what its source means for its task."""
    task, data = raw.get("task", {}), raw.get("data", {})
    if not isinstance(task, Mapping) or not isinstance(data, Mapping):
        return raw
    task = {"name": "captioning", **task}
    try:
        known = task_class(str(task["name"])).Settings.model_fields
        told = source_class(str(data.get("source", "tree"))).task_defaults(raw)
    except InputError:
        return {**raw, "task": task}  # the models say what is wrong
    defaults = {key: value for key, value in told.items() if key in known}
    return {**raw, "task": {**defaults, **task}, "data": {"source": "tree", **data}}


def _most_arms(value: Any) -> int:
    """Return `max_arms`; where it is no such number, the default, until the models say so."""
    try:
        return int(value) if int(value) > 0 else MOST_ARMS
    except (TypeError, ValueError):
        return MOST_ARMS
