"""Site and study, read and checked.

The site (`config/config.yaml`) says where things are; a study (`config/studies/*.yaml`) is the
protocol, modelled in `peft_ablation.config.study`. `config/README.md` explains every key for
people, `peft_ablation.config.schemas` writes JSON schemas for editors.
"""

import json
import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from peft_ablation.as_published import OF_TEXTS
from peft_ablation.bases.architectures import Architecture
from peft_ablation.bases.fetch import check_base_id
from peft_ablation.bases.known import architecture_of, model_type_of
from peft_ablation.bases.location import Place, place_of
from peft_ablation.config.arms import MOST_ARMS, expanded_sweeps
from peft_ablation.config.base import RunOf
from peft_ablation.config.questions import refuse_reserved
from peft_ablation.config.section import Section
from peft_ablation.config.site import OfStudy, Site
from peft_ablation.config.study import UNKNOWN_NAME, Study, study_model
from peft_ablation.config.swept import swept_arms
from peft_ablation.config.tune import Grids, grids, refuse_swept_rates
from peft_ablation.data import NAMED_COLUMNS
from peft_ablation.errors import InputError, near_miss
from peft_ablation.methods import Method, open_method
from peft_ablation.sources import Source, source_class
from peft_ablation.tasks import Task, task_class

STUDIES: Final = Path(__file__).resolve().parents[1] / "studies"
"""Folder of the shipped studies: `config/studies/` of a checkout, package data where installed."""

OWN_STUDIES: Final = Path("config", "studies")
"""Folder of a person's own studies in the working directory; they go before the shipped ones."""

M = TypeVar("M", bound=BaseModel)

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
    _check(config, where)
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


def _check(config: Config, where: str) -> None:
    """Refuse what the sections allow one by one, but not together."""
    study = config.study
    units = list(config.source.units)
    if study.split.unit is not None and study.split.unit not in units:
        raise InputError(
            f"{where}: split.unit: found {study.split.unit!r}, allowed with this source: "
            f"{', '.join(units)}{near_miss(study.split.unit, units)}"
        )
    _check_columns(config.source, config, where)
    try:
        _ = config.grids
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
    _check_subgroups(config, where)
    for name in study.arms:
        _check_circle(config, (name,), where)
        _check_parts(config, (name,), where)
    bases = {"": study.base} | {f"arms.{n}.": arm.base for n, arm in study.arms.items() if arm.base}
    for key, base in bases.items():
        try:
            if base.kind == "fetched":
                check_base_id(base.id, base.revision)
        except InputError as error:
            raise InputError(f"{where}: {key}{error}") from None
        try:
            if base.run is not None:
                config.config_of(base.run)
        except InputError as error:
            raise InputError(f"{where}: {key}base.run: {error}") from None
    for name, arm in study.arms.items():
        told = arm.as_published.told if arm.as_published is not None else {}
        for defect in OF_TEXTS:
            if defect in told and not config.task.token_labels:
                raise InputError(
                    f"{where}: arms.{name}.as_published.{defect}: task {study.task.name} has no "
                    "labels of tokens, so there is nothing to do wrong; leave it out"
                )
        method = config.method(name)
        try:
            architecture = config.architecture(name)
        except InputError as error:
            raise InputError(f"{where}: arms.{name}: {error}") from None
        try:
            method.check(architecture)
            _check_recomputation(study, name, method)
            if method.wraps_forward and config.task.own_forward:
                raise InputError(
                    f"method: {study.arms[name].method} wraps the whole forward pass, which task "
                    f"{study.task.name} replaces by its own: it would be ignored; take another"
                )
        except InputError as error:
            raise InputError(f"{where}: arms.{name}.{error}") from None
    # Last: what is wrong with a base is told before what cannot be measured on it.
    _check_forgetting(config, where)
    try:
        _check_questions(config)
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
    _check_memory(config, where)


def _check_recomputation(study: Study, name: str, method: Method) -> None:
    """Refuse gradient checkpointing for a method that it would undo."""
    own = study.arms[name].gradient_checkpointing
    asked = study.train.gradient_checkpointing if own is None else own
    if asked and not method.recomputes:
        raise InputError(
            f"gradient_checkpointing: method {study.arms[name].method} gives each layer keys and "
            "values, which gradient checkpointing drops; set it to false for this arm"
        )


def _check_questions(config: Config) -> None:
    """Refuse questions that nobody can answer, and grades that are not there."""
    study, told = config.study, config.study.questions
    if told is None:
        return
    if not config.task.answers:
        raise InputError(
            f"questions: task {study.task.name} does not answer questions; leave questions out"
        )
    _ = told.asked
    refuse_reserved(study.arms)
    if told.seed is not None and told.seed not in study.train.seeds:
        raise InputError(
            f"questions.seed: found {told.seed}, expected one of train.seeds: "
            f"{', '.join(map(str, study.train.seeds))}"
        )
    if told.instruct is not None:
        if told.instruct.kind in ("run", "phantom"):
            raise InputError(
                "questions.instruct: found no id of a model, expected a hub id with its revision, "
                "or a folder"
            )
        try:
            if told.instruct.kind == "fetched":
                check_base_id(told.instruct.id, told.instruct.revision)
            architecture_of(told.instruct, config.task)
        except InputError as error:
            said = str(error).removeprefix("base").lstrip(".:").lstrip()
            raise InputError(f"questions.instruct.{said}") from None
    if told.grades is None:
        return
    if not Path(told.grades).is_file():
        raise InputError(
            f"questions.grades: no file {told.grades}; grade a copy of the sheet that target "
            "questions writes, and leave grades out until then"
        )
    if Path(config.results).resolve() in Path(told.grades).resolve().parents:
        raise InputError(
            f"questions.grades: {told.grades} lies among the results, where a later run writes its "
            "own files; keep grades elsewhere"
        )


def _check_forgetting(config: Config, where: str) -> None:
    """Refuse what an untouched base cannot be scored on."""
    study, told, source = config.study, config.study.forgetting, config.held_out
    if told is None:
        return
    if "name" in told.task:
        raise InputError(f"{where}: forgetting.task.name: it is the study's task; leave it out")
    own_task = config.own_task
    apart = [name for name in study.arms if study.base_of(name).kind != "phantom"]
    if told.pretraining is not None and apart:
        raise InputError(
            f"{where}: forgetting.pretraining: arm {apart[0]} starts from another base, expected "
            "id phantom; name held-out examples with forgetting.data"
        )
    if config.task.heads:
        raise InputError(
            f"{where}: forgetting: task {study.task.name} gives the base a new head "
            f"({config.task.heads[0]}), without which it cannot be scored; leave forgetting out"
        )
    if source is None:
        return
    if type(source).read is Source.read or source.fetched:
        raise InputError(
            f"{where}: forgetting.data: source {told.data and told.data.source} is made by rules "
            "of its own, expected files that are there, such as those of source table"
        )
    try:
        source.check()
        _check_columns(source, config, where, own_task)
    except InputError as error:
        said = str(error).removeprefix(f"{where}: ")
        raise InputError(f"{where}: forgetting.{said}") from None


def _check_memory(config: Config, where: str) -> None:
    """Refuse arms of the memory table that are not trained, and lengths that nothing has."""
    told, task = config.study.memory, config.study.task.name
    trained = [name for name in config.study.arms if config.method(name).trains]
    for name in told.arms or ():
        if name not in trained:
            raise InputError(
                f"{where}: memory.arms: found {name!r}, expected an arm that is trained: "
                f"{', '.join(trained) or 'there is none'}{near_miss(name, trained)}"
            )
    if told.lengths is not None and not config.task.length_unit:
        raise InputError(
            f"{where}: memory.lengths: examples of task {task} have no length that could be "
            "chosen; leave it out"
        )


def _check_columns(
    source: Source, config: Config, where: str, settings: Mapping[str, Any] | None = None
) -> None:
    """Refuse columns of a source that the task lacks, and those that nobody reads.

    `settings` are the task's, where they are not the study's.
    """
    found, task = source.columns, config.task
    if found is None:
        return
    name = config.study.task.name
    needed = task.needs(settings or config.study.task.model_dump(mode="json"))
    read = (*task.columns, *needed, *task.optional, *config.study.score.subgroups)
    known = (*NAMED_COLUMNS, *dict.fromkeys(read))
    for column in sorted(found):
        if column not in known:
            raise InputError(
                f"{where}: data.columns: found {column!r}, allowed with task {name}: "
                f"{', '.join(known)}{near_miss(column, known)}"
            )
    for column in needed:
        if column not in found:
            raise InputError(
                f"{where}: data.columns: no {column!r}, which task {name} reads, found "
                f"{', '.join(sorted(found))}; say which column of the table it is"
            )


def _check_subgroups(config: Config, where: str) -> None:
    """Refuse subgroups by columns that the examples lack, and by those of the chain itself."""
    source, task = config.source, config.task
    found = source.columns
    own = task.told(config.study.task.model_dump(mode="json"))
    chain = {*NAMED_COLUMNS, "image", *(name for unit in source.units.values() for name in unit)}
    allowed = sorted({*(found or ()), *source.subgroups} - chain)
    for column in config.study.score.subgroups:
        if column in chain or column in own:
            what = "an id or a path" if column in chain else "shown anyway"
            raise InputError(
                f"{where}: score.subgroups: found {column!r}, which is {what}; expected a column "
                f"that divides examples into few groups{_listed(allowed)}"
            )
        if column not in allowed and (found is not None or source.subgroups):
            raise InputError(
                f"{where}: score.subgroups: found {column!r}, which is no column of the examples"
                f"{_listed(allowed)}{near_miss(column, allowed)}"
            )


def _listed(allowed: Sequence[str]) -> str:
    return f", allowed: {', '.join(allowed)}" if allowed else ""


def _check_circle(config: Config, path: tuple[str, ...], where: str) -> None:
    """Refuse arms of one study that start from one another; `path` are arms, each from the next."""
    arm = config.study.arms.get(path[-1])
    if arm is None:
        return  # said where runs are looked up
    for run in (arm.init_from, config.study.base_of(path[-1]).run):
        if run is None or run.study != config.site.study:
            continue
        onward = (*path, run.arm)
        if run.arm in path:
            raise InputError(
                f"{where}: arms.{path[0]}: found a circle: {' → '.join(onward)}; an arm cannot "
                "start from its own result"
            )
        _check_circle(config, onward, where)


def _check_parts(config: Config, path: tuple[str, ...], where: str) -> None:
    """Refuse an arm made of others that cannot be added up; `path` are arms, each of the next."""
    arms = list(config.study.arms)
    for part in config.method(path[-1]).parts:
        onward = (*path, part)
        told = f"{where}: arms.{path[-1]}.of"
        if part not in arms:
            raise InputError(
                f"{told}: found {part!r}, expected an arm: {', '.join(arms)}{near_miss(part, arms)}"
            )
        if part in path:
            raise InputError(
                f"{told}: found a circle: {' → '.join(onward)}; an arm cannot be made of itself"
            )
        if not config.method(part).merges:
            raise InputError(
                f"{told}: {part} does not merge into its base (method "
                f"{config.study.arms[part].method}), so nothing of it can be added; take one "
                "that does"
            )
        if config.start(part) != config.start(path[-1]):
            raise InputError(
                f"{told}: {part} is of base {config.start(part)}, expected this arm's, "
                f"{config.start(path[-1])}; changes of another base do not fit"
            )
        if config.task.heads:
            raise InputError(
                f"{told}: task {config.study.task.name} gives each arm a head of its own "
                f"({config.task.heads[0]}), and heads do not add up"
            )
        _check_parts(config, onward, where)


def found_file(kind: str, name: str, folders: Sequence[Path]) -> tuple[Path, str]:
    """Return the YAML file of a study or a suite (`kind`) and its name.

    `name` is a path, or that of a file in the first of `folders` that has it. Raises `InputError`
    where there is none.
    """
    if name.endswith((".yaml", ".yml")):
        path = Path(name)
        if not path.is_file():
            raise InputError(f"config: {kind}: no file {name}; expected a {kind}'s YAML file")
        return path, path.stem
    for folder in folders:
        path = folder / f"{name}.yaml"
        if path.is_file():
            return path, name
    names = sorted({file.stem for folder in folders for file in folder.glob("*.yaml")})
    raise InputError(
        f"config: {kind}: found {name!r}, allowed: {', '.join(names)}{near_miss(name, names)}"
    )


def read_mapping(path: Path, where: str) -> dict[str, Any]:
    """Return the keys and values of a YAML file, named `where`; refuse what holds none."""
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{where}: not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(raw, dict):
        raise InputError(f"{where}: found {type(raw).__name__}, expected keys and values")
    return raw


def validated(model: type[M], value: Mapping[str, Any], where: str) -> M:
    """Return the model of plain values; raises `InputError` with one line that begins `where`."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise InputError(f"{where}: {_one_line(error)}") from None


def _one_line(error: ValidationError) -> str:
    """Render the first problem: key, what was found, what is allowed; and how many more."""
    problems = error.errors()
    first = problems[0]
    key = ".".join(str(part) for part in first["loc"] if part != "[key]")
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    if first["type"] == "unknown_key":
        return f"{key}{'.' * bool(key)}{first['msg']}{more}"
    if first["type"] == "missing":
        return f"{key}: missing{more}"
    if first["type"] == "value_error":
        prefix = f"{key}: " if key else ""
        return f"{prefix}{first['ctx']['error']}{more}"
    if first["type"] == UNKNOWN_NAME:
        return f"{key}: {first['msg']}{more}"
    return f"{key}: found {first['input']!r}, {_expected(first['msg'])}{more}"


def _expected(message: str) -> str:
    """Say pydantic's message in the words of a YAML file."""
    for pattern, words in (
        (r"a valid dictionary.*", "keys and values"),
        (r"a valid tuple", "a list"),
        (r"^(Tuple|Dictionary) should have (at least \d+ \w+) .*", r"expected \2"),
        (r"^(Input|String) should ", "expected "),
        (r"^expected be ", "expected "),
        (r"^expected (less|greater) ", r"expected a number \1 "),
        (r"^expected (match|have) ", r"expected to \1 "),
        (r"a valid ", "a "),
        (r"\ba integer", "an integer"),
    ):
        message = re.sub(pattern, words, message)
    return message
