"""Who may know whom: layers import downward alone, and the engine names nobody's plugin.

A task, a method or a source is one module and its name in a study; what stands between them (the
engine) works for any. Imports under TYPE_CHECKING never run, and do not count.
"""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from peft_ablation.plugins import built_in

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src" / "peft_ablation"
RULES = ROOT / "workflow" / "rules"
SCRIPTS = ROOT / "workflow" / "scripts"
PLUGINS = {"tasks": "TASK", "methods": "METHOD", "sources": "SOURCE"}

LAYERS: list[set[str]] = [
    {"errors", "stale_locks"},
    {"logs", "artifacts", "plugins"},
    {"provenance"},
    {"verify"},
    # How a section is written, and what needs no more.
    {"config.section"},
    {"config.site", "config.arms", "config.swept", "config.tune"},
    {"data"},
    {"sources"},
    {"metrics"},
    {"bases"},
    {"config.base", "as_published"},
    {"methods", "tasks", "config.questions"},
    {"config.memory"},
    # The study as a whole, which names task, source and methods.
    {"config.study"},
    {"config.checks", "config.files"},
    {"config.loading"},
    {"config.runs"},
    # Several studies.
    {"config.suite"},
    {"config.schemas", "new_study"},
    {"config.__main__"},
    {"training"},
    {"scoring"},
    {"comparison"},
    {"figures"},
]
"""Units of the package, from what stands on nothing to what stands on all; a set is one layer,
whose units do not import one another."""

UPWARD: dict[tuple[str, str], str] = {
    ("sources.mimic.label_counts", "figures.style"): "a source's own figure looks as all figures",
    ("tasks.captioning", "figures"): "a task's own figures look as all figures",
    ("tasks.image_classification", "figures"): "a task's own figures look as all figures",
    ("tasks.image_classification.attention_figure", "methods"): (
        "it opens trained models by the method that saved them, whichever that is"
    ),
    ("bases.adopted", "methods"): "a run's result becomes a base by the method that saved it",
    ("bases.adopted", "tasks"): "and by the task that makes its model",
}
"""Imports that do not go downward, module and what it imports (or a package above either), and why
they may stay."""

ENGINE = [
    *(SOURCE / name for name in ("training", "scoring", "comparison", "figures", "data", "config")),
    SOURCE / "metrics" / "metric.py",
    SOURCE / "metrics" / "bootstrap.py",
    SOURCE / "metrics" / "randomisation.py",
    SOURCE / "plugins.py",
    SOURCE / "tasks" / "__init__.py",
    SOURCE / "methods" / "__init__.py",
    SOURCE / "sources" / "__init__.py",
]
"""What must work for any task, method and source."""

WORDS = {"chexpert", "git", "clip", "vit"}
"""Words of particular sources and bases, besides the plugins' own names."""

EVERYDAY = {"full", "none", "peft", "prefix", "prompt", "table", "tree"}
"""Names that mean other things too: they count where something is compared with them."""

NAMED: dict[tuple[str, str], str] = {
    ("config/study.py", "captioning"): "the default task",
    ("config/loading.py", "captioning"): "the default task",
    ("config/checks.py", "phantom"): "the kind of a base",
    ("config/study.py", "phantom"): "the kind of a base; the source of that name is another thing",
    ("config/base.py", "phantom"): "the kind of a base",
    ("config/site.py", "phantom"): "the default study",
    ("config/site.py", "mimic"): "where BigQuery and the bucket have MIMIC-CXR-JPG, as defaults",
    ("config/site.py", "chexpert"): "likewise",
    ("data/google_access.py", "mimic"): "who may be asked for access to MIMIC-CXR-JPG",
    ("rules/base.smk", "phantom"): "the kind of a base",
    ("rules/base.smk", "git"): "the model of that base",
}
"""Names in the engine, file and name, and why they may stay."""


@cache
def names() -> frozenset[str]:
    """Names of all built-in tasks, methods and sources, and words of particular ones."""
    found = {
        name
        for package, attribute in PLUGINS.items()
        for name in built_in(f"peft_ablation.{package}", attribute)
    }
    return frozenset(found | WORDS)


def module_of(path: Path) -> str:
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return ".".join(parts).removesuffix(".__init__")


def modules() -> list[Path]:
    return sorted(path for path in SOURCE.rglob("*.py") if SOURCE / "studies" not in path.parents)


def running(tree: ast.AST) -> list[ast.AST]:
    """Nodes of a module, less what stands under TYPE_CHECKING."""
    skipped = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
    }
    return [node for node in ast.walk(tree) if id(node) not in skipped]


def imports(path: Path) -> set[str]:
    """Modules of the package that a file imports at any time, less `peft_ablation.`."""
    found = set()
    for node in running(ast.parse(path.read_text(encoding="utf-8"))):
        named = []
        if isinstance(node, ast.ImportFrom) and node.module:
            named = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            named = [alias.name for alias in node.names]
        for name in named:
            if name.split(".")[0] == "peft_ablation":
                found.add(existing(name.removeprefix("peft_ablation").lstrip(".")))
    return found - {""}


def existing(name: str) -> str:
    """The module that a dotted name is, or the one that it is an attribute of."""
    place = SOURCE.joinpath(*name.split("."))
    if place.is_dir() or place.with_suffix(".py").is_file():
        return name
    return name.rpartition(".")[0]


def within(module: str, package: str) -> bool:
    return f"{module}.".startswith(f"{package}.")


def unit_of(module: str) -> str:
    """The unit of `LAYERS` that a module belongs to."""
    (found,) = {u for layer in LAYERS for u in layer if within(module, u)} or {module}
    return found


def layer_of(module: str) -> int:
    for place, layer in enumerate(LAYERS):
        if unit_of(module) in layer:
            return place
    raise AssertionError(f"{module} has no layer: add it to LAYERS where it belongs")


def upward(path: Path) -> Iterator[tuple[str, str]]:
    """Imports of a module from its own layer, if of another unit, and from those above."""
    module = module_of(path)
    for other in imports(path):
        if unit_of(other) != unit_of(module) and layer_of(other) >= layer_of(module):
            yield module, other


@pytest.mark.parametrize("path", modules(), ids=module_of)
def test_imports_go_downward(path: Path) -> None:
    if module_of(path) in ("", "config"):
        assert not imports(path)
        return
    allowed = [
        (module, other)
        for module, other in upward(path)
        if any(within(module, a) and within(other, b) for a, b in UPWARD)
    ]
    assert set(upward(path)) == set(allowed)


def test_every_exception_from_the_order_is_needed() -> None:
    all_of_them = {edge for path in modules() if module_of(path) for edge in edges(path)}
    for a, b in UPWARD:
        assert any(within(module, a) and within(other, b) for module, other in all_of_them), (a, b)


def edges(path: Path) -> list[tuple[str, str]]:
    return [] if module_of(path) in ("", "config") else list(upward(path))


def test_tasks_and_methods_do_not_know_one_another() -> None:
    """Neither by the other's modules nor by the other's names."""
    for package, other in (("tasks", "methods"), ("methods", "tasks")):
        for path in sorted((SOURCE / package).rglob("*.py")):
            known = {name for name in imports(path) if within(name, other) and name != other}
            assert not known, f"{module_of(path)} imports {known}"


def engine_files() -> list[Path]:
    files = [file for part in ENGINE for file in (part.rglob("*.py") if part.is_dir() else [part])]
    return sorted(files)


def workflow_files() -> list[Path]:
    """Rules and scripts, less those of sources."""
    of_sources = {
        script
        for path in (RULES / "sources").glob("*.smk")
        if path.stem in names()
        for script in re.findall(r"scripts/(\w+\.py)", path.read_text(encoding="utf-8"))
    }
    scripts = [path for path in SCRIPTS.glob("*.py") if path.name not in of_sources]
    return sorted([*RULES.glob("*.smk"), *scripts, RULES / "sources" / "read_examples.smk"])


def short(path: Path) -> str:
    base = SOURCE if SOURCE in path.parents else ROOT / "workflow"
    return str(path.relative_to(base))


def said(path: Path) -> set[str]:
    """Names in the texts of a file's code, docstrings and comments aside."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".smk":
        lines = [line for line in text.splitlines() if not line.strip().startswith("#")]
        code = re.sub(r'"""[\s\S]*?"""', "", "\n".join(lines))
        texts = re.findall(r'"([^"\n]*)"', code)
        compared = set(re.findall(r'(?:[!=]=|\bin) \(?"(\w+)"', code))
    else:
        nodes = running(ast.parse(text))
        documents = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
        texts = [n.value for n in nodes if is_text(n) and id(n) not in documents]
        sides = [node for node in nodes if isinstance(node, ast.Compare | ast.MatchValue)]
        compared = {n.value for side in sides for n in ast.walk(side) if is_text(n)}
    words = {word for one in texts for word in {one, *re.findall(r"[a-z]+", one.lower())}}
    return (words & (names() - EVERYDAY)) | (compared & EVERYDAY)


def is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


@pytest.mark.parametrize("path", [*engine_files(), *workflow_files()], ids=short)
def test_the_engine_names_no_task_method_or_source(path: Path) -> None:
    found = said(path)
    allowed = {name for file, name in NAMED if file == short(path)}
    assert found <= allowed, f"{short(path)} names {sorted(found - allowed)}"


@pytest.mark.parametrize("path", [*engine_files(), *workflow_files()], ids=short)
def test_the_engine_imports_no_task_method_or_source(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    rules = path.suffix == ".smk"
    known = set(re.findall(r"peft_ablation\.([\w.]+)", text)) if rules else imports(path)
    assert not {name for name in known if is_particular(name)}


def is_particular(module: str) -> bool:
    """Tell whether a module is of one task, method or source, or private to all of them."""
    package, _, rest = module.partition(".")
    return package in PLUGINS and (rest.split(".")[0] in names() or rest.startswith("_"))


def test_every_exception_for_a_name_is_needed() -> None:
    files = {short(path): path for path in [*engine_files(), *workflow_files()]}
    for file, name in NAMED:
        assert name in said(files[file]), f"{file} does not name {name} any more"
