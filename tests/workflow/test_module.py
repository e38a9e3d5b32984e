"""The workflow as a module of another workflow: from a checkout, from a URL, several in one DAG."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from workflow_runs import ROOT, TINY, Snakemake

MODULE = """
module {name}:
    snakefile:
        {snakefile}
    config:
        {config}
{prefix}

use rule * from {name} as {name}_*
"""


def module(
    name: str = "x",
    *,
    snakefile: str = repr(str(ROOT / "workflow" / "Snakefile")),
    config: str = repr({"study": str(TINY)}),
    prefix: str | None = None,
) -> str:
    """Return the lines by which another workflow uses this one, its rules named `<name>_…`."""
    placed = f"    prefix: {prefix!r}" if prefix else ""
    return MODULE.format(name=name, snakefile=snakefile, config=config, prefix=placed)


def write(folder: Path, *parts: str) -> tuple[str, str]:
    """Write an outer Snakefile into `folder` and return the words that run it."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "outer.smk"
    path.write_text("\n".join(parts))
    return "--snakefile", str(path)


def jobs(done: "subprocess.CompletedProcess[str]") -> dict[str, int]:
    found = re.findall(r"^(\w+) +(\d+)$", done.stdout + done.stderr, re.MULTILINE)
    return {rule: int(count) for rule, count in found}


@pytest.mark.parametrize("prefix", [None, "sub"])
def test_a_module_has_the_rules_of_the_workflow_under_its_name(
    prefix: str | None, tmp_path: Path, snakemake: Snakemake
) -> None:
    alone = jobs(snakemake(tmp_path, "--dry-run", "--config", f"study={TINY}"))
    alone["default"] = alone.pop("all")
    used = jobs(snakemake(tmp_path, *write(tmp_path, module(prefix=prefix)), "--dry-run"))
    total = used.pop("total")
    assert used == {f"x_{rule}": count for rule, count in alone.items() if rule != "total"}
    assert total == alone["total"]


@pytest.mark.parametrize("prefix", [None, "sub"])
def test_jobs_of_a_module_run_and_write_below_its_prefix(
    prefix: str | None, tmp_path: Path, snakemake: Snakemake
) -> None:
    outer = write(tmp_path, module(prefix=prefix))
    # A query of our SQL file, and images that are looked for where the phantom was rendered.
    snakemake(tmp_path, *outer, "x_stratify_splits", "x_index_images")
    results = tmp_path / (prefix or "") / "results" / "tiny"
    assert (results / "splits" / "train.parquet").is_file()
    assert (results / "images" / "index.parquet").is_file()
    beside = {path.name for path in tmp_path.iterdir()} - {".snakemake", "outer.smk"}
    assert beside == {prefix or "results"}


def test_training_of_a_module_keeps_its_checkpoints_below_its_prefix(
    tmp_path: Path, snakemake: Snakemake
) -> None:
    outer = write(tmp_path, module(prefix="sub"))
    snakemake(tmp_path, *outer, "sub/results/tiny/runs/fft/seed-0/model")
    assert (tmp_path / "sub" / "results" / "tiny" / "checkpoints" / "fft" / "seed-0").is_dir()
    beside = {path.name for path in tmp_path.iterdir()} - {".snakemake", "outer.smk"}
    assert beside == {"sub"}


def test_a_tree_is_found_from_the_working_directory_whatever_the_prefix(
    tmp_path: Path, snakemake: Snakemake
) -> None:
    for table in ("metadata", "chexpert"):
        path = tmp_path / "tree" / f"mimic-cxr-2.0.0-{table}.csv.gz"
        path.parent.mkdir(exist_ok=True)
        path.touch()
    config = repr({"study": "mimic_cxr_smoke", "data_root": "tree"})
    outer = write(tmp_path, module(config=config, prefix="sub"))
    assert jobs(snakemake(tmp_path, *outer, "--dry-run"))["x_query_metadata"] == 1


def test_several_studies_in_one_workflow_share_the_base_and_the_outer_config(
    tmp_path: Path, snakemake: Snakemake
) -> None:
    other = tmp_path / "other.yaml"
    other.write_text(TINY.read_text().replace("fft:", "everything:"))
    outer = write(
        tmp_path,
        f"config['study'] = {str(TINY)!r}",
        module("x", config="config"),
        module("y", config=f"config | dict(study={str(other)!r})"),
        "rule both:\n    default_target: True\n    input: rules.x_all.input, rules.y_all.input\n",
    )
    found = jobs(snakemake(tmp_path, *outer, "--dry-run"))
    assert found["x_pretrain_phantom_base"] == 1
    assert "y_pretrain_phantom_base" not in found
    assert found["x_train_fft_chunk"] == found["y_train_everything_chunk"] == 2
    assert "y_train_fft_chunk" not in found
    assert found["both"] == 1


def test_a_module_of_a_module_works(tmp_path: Path, snakemake: Snakemake) -> None:
    _, middle = write(tmp_path / "middle", module("x"))
    outer = write(tmp_path, module("y", snakefile=repr(middle), config="{}"))
    snakemake(tmp_path, *outer, "y_x_stratify_splits")
    assert (tmp_path / "results" / "tiny" / "splits" / "train.parquet").is_file()


def test_jobs_of_a_module_import_the_library_beside_its_snakefile(
    tmp_path: Path, snakemake: Snakemake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYTHONPATH", raising=False)
    told = "\nimport os\nprint('PYTHONPATH is', os.environ['PYTHONPATH'])\n"
    done = snakemake(
        tmp_path, *write(tmp_path, module("x"), module("y", prefix="y"), told), "--dry-run"
    )
    # Once, however many modules there are.
    assert f"PYTHONPATH is {ROOT / 'src'}\n" in done.stdout + done.stderr


def test_wrong_config_of_a_module_is_one_line(tmp_path: Path, snakemake: Snakemake) -> None:
    outer = write(tmp_path, module(config=repr({"study": "phantom_cx"})))
    done = snakemake(tmp_path, *outer, "--dry-run", check=False)
    output = done.stdout + done.stderr
    assert done.returncode != 0
    assert "Traceback" not in output
    (line,) = [line for line in output.splitlines() if line.startswith("peft-ablation: ")]
    assert "config: study: found 'phantom_cx', allowed: " in line
    assert "did you mean 'phantom_cxr'?" in line


@pytest.fixture
def hosted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module's `snakefile:` that names a repository on GitHub, which Snakemake has cloned before.

    The clone has no library: as a person would have it, that is installed (here: on PYTHONPATH).
    """
    source, cache = tmp_path / "source", tmp_path / "cache"
    for name in ("workflow", "config", "envs", "resources"):
        shutil.copytree(ROOT / name, source / name)
    shutil.copy(ROOT / "Snakefile", source)
    clone = cache / "snakemake/snakemake/source-cache/snakemake-git-cache/github.com/owner/name"
    person = ("-c", "user.name=test", "-c", "user.email=test@example.org")
    for words in (
        ("init", "--quiet"),
        ("add", "--all"),
        (*person, "commit", "--quiet", "--message", "All"),
        ("clone", "--quiet", "--bare", str(source), str(clone)),
    ):
        subprocess.run(["git", *words], cwd=source, check=True)
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=source, check=True, capture_output=True, text=True
    ).stdout.strip()
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "src"))
    return f"github('owner/name', path='workflow/Snakefile', commit='{commit}')"


def test_a_module_from_a_url_finds_studies_sql_and_scripts(
    hosted: str, tmp_path: Path, snakemake: Snakemake
) -> None:
    run = tmp_path / "run"
    shipped = write(run, module(snakefile=hosted, config=repr({"study": "phantom_cxr"})))
    # Two seeds of two chunks each.
    assert jobs(snakemake(run, *shipped, "--dry-run"))["x_train_fft_chunk"] == 4
    snakemake(run, *write(run, module(snakefile=hosted)), "x_plot_split_balance")
    assert (run / "results" / "tiny" / "figures" / "split_balance.svg").is_file()


def test_a_study_of_the_working_directory_goes_before_a_shipped_one_of_its_name(
    tmp_path: Path, snakemake: Snakemake
) -> None:
    own = tmp_path / "config" / "studies" / "phantom_cxr.yaml"
    own.parent.mkdir(parents=True)
    own.write_text(TINY.read_text())
    outer = write(tmp_path, module(config=repr({"study": "phantom_cxr"})))
    # One seed of two chunks; the shipped study has two seeds.
    assert jobs(snakemake(tmp_path, *outer, "--dry-run"))["x_train_fft_chunk"] == 2
