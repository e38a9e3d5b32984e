"""PEFT's adapter types and the settings of each, read from its sources: no import, no torch.

Importing PEFT imports torch, which takes seconds; a study is checked whenever a DAG is built.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from peft_ablation.errors import InputError, near_miss


@dataclass(frozen=True)
class PeftTypeSource:
    """What the installed PEFT says about one adapter type."""

    name: str
    """As in `PeftType`, such as `LORA`."""
    settings: frozenset[str]
    """Fields of its configuration class, inherited ones included."""
    virtual_tokens: bool
    """Whether it adds virtual tokens (prompt learning) rather than adapters."""


def peft_type(name: str) -> PeftTypeSource:
    """Return the type of this name in any case; raises `InputError` for an unknown one."""
    types = peft_types()
    try:
        return types[name.upper()]
    except KeyError:
        raise InputError(
            f"type: found {name!r}, allowed by the installed PEFT: {', '.join(types)}"
            f"{near_miss(name.upper(), types)}"
        ) from None


@cache
def peft_types() -> dict[str, PeftTypeSource]:
    """Return all types of the installed PEFT by name, in alphabetical order."""
    folder = _package()
    classes = {
        node.name: node
        for path in [
            folder / "config.py",
            *sorted(folder.glob("tuners/*.py")),
            *sorted(folder.glob("tuners/*/config.py")),
        ]
        for node in _parsed(path).body
        if isinstance(node, ast.ClassDef)
    }
    found = {}
    for path in sorted(folder.glob("tuners/*/__init__.py")):
        for name, config in _registered(_parsed(path)):
            ancestors = list(_ancestors(config, classes))
            found[name] = PeftTypeSource(
                name,
                frozenset(field for node in ancestors for field in _fields(node)),
                any(node.name == "PromptLearningConfig" for node in ancestors),
            )
    return dict(sorted(found.items()))


def _package() -> Path:
    spec = find_spec("peft")
    if spec is None or spec.origin is None:
        raise InputError("method peft: the package peft is not installed; install it")
    return Path(spec.origin).parent


def _parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _registered(module: ast.Module) -> Iterator[tuple[str, str]]:
    """Yield name and configuration class of each `register_peft_method(...)` of a module."""
    for node in ast.walk(module):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id == "register_peft_method"
        ):
            given = {keyword.arg: keyword.value for keyword in node.keywords}
            name, config = given["name"], given["config_cls"]
            if isinstance(name, ast.Constant) and isinstance(config, ast.Name):
                yield str(name.value).upper(), config.id


def _ancestors(name: str, classes: dict[str, ast.ClassDef]) -> Iterator[ast.ClassDef]:
    node = classes.get(name)
    if node is None:
        return
    yield node
    for base in node.bases:
        if isinstance(base, ast.Name):
            yield from _ancestors(base.id, classes)


def _fields(node: ast.ClassDef) -> Iterator[str]:
    for statement in node.body:
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            yield statement.target.id
