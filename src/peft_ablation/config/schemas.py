"""JSON schemas of site, study and suite for an editor: which keys there are, what they may hold.

A file may hold a part alone (a study that extends another, the smoke settings), so nothing is
required here, and null takes a key away; `peft_ablation.config.loading` says what is missing in
the whole.
"""

import json
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Union

from pydantic import ConfigDict, Field, StringConstraints, create_model

from peft_ablation.config.section import Name, Section
from peft_ablation.config.site import Site
from peft_ablation.config.study import Forgetting, Study
from peft_ablation.config.suite import SuiteFile
from peft_ablation.plugins import built_in, plugin
from peft_ablation.sources import source_class

Dotted = Annotated[str, StringConstraints(pattern=r"\.")]
Sweep = Annotated[
    dict[str, list[Any]] | None,
    Field(description="Lists of values by key: this arm stands for one of each combination."),
]

WORDS: Final = ("title", "description", "default")


class OwnModule(Section):
    """A module of one's own, by its dotted name."""

    model_config = ConfigDict(extra="allow")


def write_schemas(folder: str | Path) -> list[Path]:
    """Write the JSON schemas of site, study and suite into `folder` and return their paths."""
    written = []
    schemas = {
        "config": Site.model_json_schema(),
        "study": study_schema(),
        "suite": SuiteFile.model_json_schema(),
    }
    for name, schema in schemas.items():
        path = Path(folder) / f"{name}.schema.json"
        path.write_text(json.dumps(schema, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        written.append(path)
    return written


def study_schema() -> dict[str, Any]:
    """Return the schema of a study file, with the settings of all that the package brings."""
    tasks, sources = _settings("tasks", "TASK", "name"), _settings("sources", "SOURCE", "source")
    arms = [
        _model(arm.__name__, arm, sweep=(Sweep, None))
        for arm in _settings("methods", "METHOD", "method")
    ]
    parts: dict[str, Any] = {
        "task": (Union[(*tasks, str)], _as_in("task")),
        "data": (Union[(*sources, str)], _as_in("data")),
        "forgetting": (
            _model("Forgetting", Forgetting, data=(Union[(*sources, str, None)], None)) | None,
            _as_in("forgetting"),
        ),
        "arms": (dict[Name, Union[(*arms, None)]], _as_in("arms")),  # type: ignore[valid-type]
        "extends": (str | None, Field(None, description="Study that this one changes.")),
        "smoke": (
            dict[str, Any] | None,
            Field(None, description="What is changed for a run of minutes on two CPU cores."),
        ),
    }
    for name in built_in("peft_ablation.sources", "SOURCE"):
        sections = source_class(name).sections
        parts |= {key: (section, section()) for key, section in sections.items()}
    schema = _model("Study", Study, **parts).model_json_schema()
    schema["properties"]["smoke"]["anyOf"][0] = {"$ref": "#"}
    schema["properties"]["arms"]["additionalProperties"] = False
    for part in (schema, *schema["$defs"].values()):
        part.pop("required", None)
        part["properties"] = {key: _or_null(value) for key, value in part["properties"].items()}
    return schema


def _or_null(value: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a key's value, null allowed; names of tasks, methods, sources stay."""
    if "const" in value or {"type": "null"} in value.get("anyOf", ()):
        return value
    words: dict[str, Any] = {k: v for k, v in value.items() if k in WORDS}
    kind = {key: part for key, part in value.items() if key not in WORDS}
    options = kind["anyOf"] if kind.keys() == {"anyOf"} else [kind]
    return {"anyOf": [*options, {"type": "null"}], **words}


def _settings(package: str, attribute: str, key: str) -> list[type[Section]]:
    """Return the settings of each built-in module, their `key` narrowed to its name.

    The last one stands for a module of one's own, whose further keys are not known.
    """
    package = f"peft_ablation.{package}"
    found = []
    for name in built_in(package, attribute):
        kind: Any = plugin(package, name, attribute)
        settings: type[Section] = kind.Settings
        told = settings.model_fields[key].description
        found.append(
            _model(f"{name} ({key})", settings, **{key: (Literal[name], Field(description=told))})
        )
    own = _model(f"own {key}", OwnModule, **{key: (Dotted, Field(description=told))})
    return [*found, own]


def _model(name: str, base: type[Section], /, **fields: Any) -> type[Section]:
    made: type[Section] = create_model(name, __base__=base, __doc__=base.__doc__, **fields)
    return made


def _as_in(key: str) -> Any:
    """Return the default and description of a field of `Study`."""
    field = Study.model_fields[key]
    return Field(field.default, description=field.description)
