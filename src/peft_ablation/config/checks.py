"""What the sections of a study allow one by one, but not together."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peft_ablation.as_published import OF_TEXTS
from peft_ablation.bases.fetch import check_base_id
from peft_ablation.bases.known import architecture_of
from peft_ablation.config.questions import refuse_reserved
from peft_ablation.config.study import Study
from peft_ablation.data import NAMED_COLUMNS
from peft_ablation.errors import InputError, near_miss
from peft_ablation.methods import Method
from peft_ablation.sources import Source

if TYPE_CHECKING:
    from peft_ablation.config.loading import Config


def check(config: "Config", where: str) -> None:
    """Raise `InputError`, one line that begins `where`, for what does not go together."""
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


def _check_questions(config: "Config") -> None:
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


def _check_forgetting(config: "Config", where: str) -> None:
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


def _check_memory(config: "Config", where: str) -> None:
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
    source: Source, config: "Config", where: str, settings: Mapping[str, Any] | None = None
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


def _check_subgroups(config: "Config", where: str) -> None:
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


def _check_circle(config: "Config", path: tuple[str, ...], where: str) -> None:
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


def _check_parts(config: "Config", path: tuple[str, ...], where: str) -> None:
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
