"""Every key that a person can write in a site or a study, and how a table of keys says it."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from peft_ablation.config.site import Site
from peft_ablation.config.study import Study
from peft_ablation.config.suite import SuiteFile
from peft_ablation.methods import ArmSettings
from peft_ablation.plugins import built_in, plugin
from peft_ablation.sources import DataSettings
from peft_ablation.tasks import TaskSettings

KINDS: dict[str, tuple[str, str, type[BaseModel]]] = {
    "task": ("TASK", "task.", TaskSettings),
    "source": ("SOURCE", "data.", DataSettings),
    "method": ("METHOD", "arms.<name>.", ArmSettings),
}
"""What has settings of its own: attribute of its module, its section, settings that all have."""
ELSEWHERE = {
    "arms.<name>.base": "`base`", "arms.<name>.init_from": "`base.run`",
    "forgetting.data": "`data`", "questions.instruct": "`base`",
}  # fmt: skip
"""Keys whose own keys are those of another section."""
NAMED = {"arms": "<name>.", "columns": "<role>.", "studies": "<name>."}
"""Mappings whose keys a person chooses."""


@dataclass(frozen=True)
class Key:
    """One key, dotted; an arm's keys stand under `arms.<name>`."""

    name: str
    field: FieldInfo

    @property
    def default(self) -> str:
        """The default as JSON, or `required`."""
        if self.field.is_required():
            return "required"
        value = self.field.get_default(call_default_factory=True)
        return json.dumps(list(value) if isinstance(value, tuple) else value)

    @property
    def row(self) -> str:
        """A row of a table of keys: key, default, meaning, allowed."""
        meaning = " ".join((self.field.description or "").split()).replace("|", r"\|")
        shown = self.default.strip('"')
        default = shown if shown == "required" else f"`{shown}`"
        elsewhere = ELSEWHERE.get(self.name)
        told = f"keys of {elsewhere}, `null`" if elsewhere else allowed(self.field)
        return f"| `{self.name}` | {default} | {meaning} | {told} |"


def site_keys() -> list[Key]:
    """Keys of the site."""
    return keys(Site)


def suite_keys() -> list[Key]:
    """Keys of a suite."""
    return keys(SuiteFile)


def study_keys() -> list[Key]:
    """Keys of every study, whatever its task, source and methods."""
    return keys(Study)


def owners() -> list[tuple[str, str]]:
    """Each built-in task, source and method: its kind and name."""
    return [
        (kind, name)
        for kind, (attribute, _, _) in KINDS.items()
        for name in built_in(f"peft_ablation.{kind}s", attribute)
    ]


def own_keys(kind: str, name: str) -> list[Key]:
    """Keys that only studies with this task, source or method have."""
    attribute, section, common = KINDS[kind]
    owner: Any = plugin(f"peft_ablation.{kind}s", name, attribute)
    found = [key for key in keys(owner.Settings, section) if not is_common(key, section, common)]
    for further, model in getattr(owner, "sections", {}).items():
        found += keys(model, f"{further}.")
    return found


def is_common(key: Key, section: str, common: type[BaseModel]) -> bool:
    """Tell whether a key is one of those that all of a kind have, default and all."""
    own, _, below = key.name.removeprefix(section).partition(".")
    field = common.model_fields.get(own)
    if below:
        return field is not None
    return field is not None and (field.is_required(), field.default) == (
        key.field.is_required(), key.field.default,
    )  # fmt: skip


def keys(model: type[BaseModel], prefix: str = "") -> list[Key]:
    """Every key of a model."""
    found: list[Key] = []
    for name, field in model.model_fields.items():
        own = f"{prefix}{name}"
        nested = [kind for kind in parts(field.annotation) if is_model(kind)]
        if not nested or own in ELSEWHERE:
            found.append(Key(own, field))
            continue
        origin = get_origin(field.annotation)
        if origin is not dict and str in get_args(field.annotation):  # a name will do, too
            found.append(Key(own, field))
        chosen = "" if origin is tuple else NAMED.get(name, "")
        found += keys(nested[0], f"{own}.{chosen}")
    return found


def is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def parts(annotation: Any) -> Iterator[Any]:
    """The types that an annotation is made of."""
    yield annotation
    if get_origin(annotation) is not Literal:
        for part in get_args(annotation):
            yield from parts(part)


def allowed(field: FieldInfo) -> str:
    """What a field may hold, for people."""
    return said(field.annotation, bounds_of(field.metadata))


def bounds_of(metadata: Iterable[Any]) -> str:
    """Bounds of a number, such as `≥ 0, < 2³²`."""
    flat = [part for one in metadata for part in getattr(one, "metadata", [one])]
    return ", ".join(
        f"{sign} {getattr(bound, attribute)}".replace(str(2**32), "2³²")
        for bound in flat
        for attribute, sign in (("gt", ">"), ("ge", "≥"), ("lt", "<"), ("le", "≤"))
        if getattr(bound, attribute, None) is not None
    )


WORDS = {bool: "`true`, `false`", int: "integer", float: "number", str: "text"}


def said(annotation: Any, bounds: str = "") -> str:
    """A type in words."""
    origin, inside = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return said(inside[0], bounds or bounds_of(inside[1:]))
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in inside)
    if origin in (Union, UnionType):
        return ", ".join("`null`" if part is type(None) else said(part, bounds) for part in inside)
    if origin is tuple:
        word, *rest = said(inside[0]).split(" ", 1)
        return " ".join([f"list of {word}{'s' * (word[0] != '`')}", *rest])
    if origin is dict:
        value = "" if inside[1] is Any else f", each {said(inside[1])}"
        return f"keys and values{value}"
    return " ".join(filter(None, (WORDS.get(annotation, "any"), bounds)))
