"""YAML files of studies and suites, and what is wrong with one in one line."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from peft_ablation.config.study import UNKNOWN_NAME
from peft_ablation.errors import InputError, near_miss

M = TypeVar("M", bound=BaseModel)


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
