"""The conda environments and the image hold the releases of the lock file, and all they need."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src" / "peft_ablation"
FETCHING = ("cache_images.py", "plan_download.py", "query_metadata.py")
CLOUD = (SOURCE / "data" / "storage.py", SOURCE / "sources" / "mimic" / "bigquery.py")
"""Imported late by `images` and `cohort`, and reached by the scripts that fetch alone."""
OF_TABLES = {SOURCE / "metrics" / "coco.py", SOURCE / "tasks" / "_nearest.py"}
"""Imported late by tasks to score texts and to look up examples, which stages of `tables` do."""
ENVIRONMENTS = sorted((ROOT / "envs").glob("*.yaml"))
OURS = "peft_ablation"
MODEL = {"accelerate", "peft", "safetensors", "tokenizers", "torch", "transformers"}
"""What tasks import late, in what they do with a model: no stage of `tables` asks for that."""


def normal(name: str) -> str:
    """Return a distribution's name as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(lines: list[str]) -> dict[str, str]:
    found = [line.split("==") for line in lines if line.strip() and not line.startswith("#")]
    return {normal(name.strip()): release.strip() for name, release in found}


LOCK = pins((ROOT / "requirements.lock").read_text().splitlines())


def pip_pins(environment: Path) -> dict[str, str]:
    """Return the pip packages of a conda environment file."""
    dependencies = yaml.safe_load(environment.read_text())["dependencies"]
    return pins(next(entry["pip"] for entry in dependencies if isinstance(entry, dict)))


def scripts_by_environment() -> dict[Path, set[Path]]:
    """Return the scripts of the rules by the environment that their rule names."""
    found: dict[Path, set[Path]] = {}
    for rules in sorted((ROOT / "workflow" / "rules").rglob("*.smk")):
        text = rules.read_text()
        pattern = r'conda:\s*"([^"]+)"|script:\s*"([^"]+)"'
        environment = None
        for conda, script in re.findall(pattern, text):
            if conda:
                environment = (rules.parent / conda).resolve()
            else:
                assert environment is not None, f"{rules.name}: {script} has no conda environment"
                found.setdefault(environment, set()).add((rules.parent / script).resolve())
                environment = None
    return found


def survives_absence(handler: ast.ExceptHandler) -> bool:
    """Tell whether an `except` clause catches a failing import."""
    return handler.type is None or ast.unparse(handler.type) in ("Exception", "ImportError")


def modules_of(nodes: list[ast.AST]) -> set[str]:
    """Return the dotted names that import statements among `nodes` mean, attributes too."""
    modules: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            modules |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return modules


def plugins_of(nodes: list[ast.AST]) -> set[Path]:
    """Return the files of the packages whose modules are imported by a name from a study.

    A module `fetch` is imported by a script of its own, where there is a network.
    """
    packages = {
        node.args[0].value.split(".")[-1]
        for node in nodes
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "plugin"
        and isinstance(node.args[0], ast.Constant)
    }  # fmt: skip
    files = {file for package in packages for file in (SOURCE / package).rglob("*.py")}
    return {file for file in files if file.stem != "fetch"}


def needs_a_model(path: Path) -> bool:
    """Tell whether a file imports torch or the like as soon as it is imported itself."""
    top = {module.split(".")[0] for module in modules_of(ast.parse(path.read_text()).body)}
    return bool(top & MODEL)


def imports(path: Path, seen: set[Path], model: bool) -> set[str]:
    """Return the top-level modules that a file imports at any time, through our own modules.

    Tasks, methods and sources that a study can name count, though no import statement names them;
    where no `model` is run, less what they do with one. Imports under TYPE_CHECKING never run, and
    those in a `try` that excepts their absence are done without: neither counts.
    """
    if path in seen:
        return set()
    seen.add(path)
    tree = ast.parse(path.read_text())
    unused = {
        id(inner)
        for node in ast.walk(tree)
        if (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test))
        or (isinstance(node, ast.Try) and any(survives_absence(h) for h in node.handlers))
        for inner in ast.walk(node)
    }
    nodes = [node for node in ast.walk(tree) if id(node) not in unused]
    found: set[str] = set()
    files = plugins_of(nodes)
    for module in modules_of(nodes):
        top, *rest = module.split(".")
        if top != OURS:
            found.add(top)
            continue
        file = SOURCE.joinpath(*rest)
        files |= {f for f in (file.with_suffix(".py"), file / "__init__.py") if f.is_file()}
    by_name = any(SOURCE / package in path.parents for package in ("tasks", "methods", "sources"))
    if by_name and not model:
        found -= MODEL
        files = {file for file in files if not needs_a_model(file)}
    for file in sorted(files):
        if model or not (file in plugins_of(nodes) and needs_a_model(file)):
            found |= imports(file, seen, model)
    return found - set(sys.stdlib_module_names)


def test_every_rule_names_an_environment() -> None:
    assert set(scripts_by_environment()) == set(ENVIRONMENTS)
    scripts = set().union(*scripts_by_environment().values())
    assert scripts == set((ROOT / "workflow" / "scripts").glob("*.py"))


@pytest.mark.parametrize("environment", ENVIRONMENTS, ids=lambda path: path.stem)
def test_releases_are_those_of_the_lock_file(environment: Path) -> None:
    found = pip_pins(environment)
    assert found
    assert found == {name: LOCK.get(name) for name in found}


@pytest.mark.parametrize("environment", ENVIRONMENTS, ids=lambda path: path.stem)
def test_environment_holds_what_its_scripts_import(environment: Path) -> None:
    """Also what is imported late, on one branch only: such a lack shows after hours."""
    distributions = packages_distributions()
    held = set(pip_pins(environment))
    for script in sorted(scripts_by_environment()[environment]):
        beside = set() if script.name in FETCHING else set(CLOUD)
        model = environment.stem == "torch"
        beside |= OF_TABLES if model else set()
        wanted = imports(script, beside, model) - {"google"}  # a namespace of several packages
        lacking = {
            module
            for module in wanted
            if not held & {normal(name) for name in distributions.get(module, [module])}
        }
        assert not lacking, f"{script.name} imports {sorted(lacking)}"


def test_tasks_and_methods_are_found_though_a_study_alone_names_them() -> None:
    scripts = ROOT / "workflow" / "scripts"
    assert "peft" in imports(scripts / "train.py", set(), model=True)
    assert "sacrebleu" in imports(scripts / "score.py", set(), model=False)
    assert "torch" not in imports(scripts / "score.py", set(), model=False)


def test_environments_have_the_project_s_python() -> None:
    wanted = re.search(r'requires-python = ">=([\d.]+)"', (ROOT / "pyproject.toml").read_text())
    assert wanted is not None
    for environment in ENVIRONMENTS:
        assert f"python ={wanted[1]}" in yaml.safe_load(environment.read_text())["dependencies"]
    assert f"FROM python:{wanted[1]}-" in (ROOT / "envs" / "Dockerfile").read_text()


def test_image_installs_the_lock_file_and_nothing_else() -> None:
    text = (ROOT / "envs" / "Dockerfile").read_text()
    installs = re.findall(r"pip install (.*)", text)
    assert installs == [
        "--no-cache-dir --requirement requirements.lock",
        "--no-cache-dir --no-deps --editable .",
    ]
    copied = {word for line in re.findall(r"COPY (.*)", text) for word in line.split()[:-1]}
    assert {"requirements.lock", "Snakefile", "src", "workflow", "config"} <= copied
    assert all((ROOT / name).exists() for name in copied)


def test_lock_file_pins_all_that_the_project_declares() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = [*project["project"]["dependencies"], *project["dependency-groups"]["dev"]]
    declared = [re.match(r"[A-Za-z0-9_.-]+", entry)[0] for entry in wanted]
    assert {normal(name) for name in declared} <= set(LOCK)


LINKED = {
    "studies": "config/studies", "suites": "config/suites", "published": "resources/published",
}  # fmt: skip
"""Folders of the checkout that are links in the library."""


def test_an_installed_library_has_its_data_files_and_the_shipped_studies() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    (patterns,) = project["tool"]["setuptools"]["package-data"].values()
    packed = {path for pattern in patterns for path in SOURCE.glob(pattern)}
    kinds = {"", ".py", ".pyc"}
    found = {
        path
        for folder in (SOURCE, *(SOURCE / name for name in LINKED))
        for path in folder.rglob("*")
        if path.is_file() and path.suffix not in kinds
    }
    assert packed == found
    for name, folder in LINKED.items():
        shipped = {path for path in (ROOT / folder).rglob("*") if path.is_file()}
        linked = {
            path.relative_to(SOURCE / name) for path in packed if SOURCE / name in path.parents
        }
        assert linked == {path.relative_to(ROOT / folder) for path in shipped}
