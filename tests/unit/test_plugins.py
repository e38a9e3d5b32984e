"""Tasks, methods and sources by name; the DAG is built from their modules, so without torch."""

import subprocess
import sys

import pytest

from peft_ablation.errors import InputError
from peft_ablation.plugins import built_in, plugin

PACKAGES = {"tasks": "TASK", "methods": "METHOD", "sources": "SOURCE"}


@pytest.mark.parametrize("package", PACKAGES)
def test_no_module_that_the_dag_is_built_from_imports_torch_or_tables(package: str) -> None:
    named = built_in(f"peft_ablation.{package}", PACKAGES[package])
    assert len(named) >= 2
    program = (
        "import sys\nfrom importlib import import_module\n"
        f"for name in {named!r}:\n"
        f"    import_module('peft_ablation.{package}.' + name)\n"
        "    heavy = {'torch', 'transformers', 'peft', 'polars', 'numpy'} & set(sys.modules)\n"
        "    assert not heavy, (name, heavy)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_module_that_defines_none_is_not_offered() -> None:
    assert "targets" not in built_in("peft_ablation.methods", "METHOD")
    with pytest.raises(InputError, match="found 'targets', a module without METHOD"):
        plugin("peft_ablation.methods", "targets", "METHOD")


def test_an_unknown_name_is_refused_with_the_nearest() -> None:
    with pytest.raises(InputError, match=r"found 'loar', allowed: .*, lora, .*did you mean 'lora'"):
        plugin("peft_ablation.methods", "loar", "METHOD")


def test_an_import_that_fails_inside_a_module_is_not_taken_for_an_unknown_name(
    tmp_path: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pathlib import Path

    folder = Path(str(tmp_path))
    (folder / "own_method.py").write_text("import no_such_library\n")
    (folder / "package").mkdir()
    (folder / "package" / "own.py").write_text("import no_such_library\n")
    monkeypatch.syspath_prepend(str(folder))
    with pytest.raises(ModuleNotFoundError, match="no_such_library"):
        plugin("peft_ablation.methods", "package.own", "METHOD")
