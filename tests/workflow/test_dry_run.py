"""The DAG of each study, made without network, credentials or torch; the workflow's own linters."""

import re
import resource
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from workflow_runs import ROOT, Snakemake

RADIOGRAPHS = {
    "query_metadata", "sample_5000_per_label", "make_reports", "plot_label_counts",
    "plot_by_finding", "plot_by_view_position", "compare_likelihoods", "plot_likelihoods",
}  # fmt: skip
ALWAYS = {
    "stratify_splits", "cache_images", "index_images", "count_equal_images",
    "cache_frozen_features", "select_checkpoint", "predict", "score", "compare_arms",
    "plot_loss_curves", "plot_quality", "plot_cost", "plot_quality_cost",
    "plot_split_balance", "compare_views", "plot_views", "find_pareto_fronts",
    "plot_pareto_fronts", "look_up_nearest", "compare_by_group", "write_up", "write_cards",
    "seal", "all",
}  # fmt: skip
THREE = {"train_fft_chunk", "train_lora_vision_chunk", "train_lora_text_chunk"}
FORGETTING = {"hold_out_pretraining", "forget", "compare_forgetting", "plot_forgetting"}
STUDIES = {
    "phantom_cxr": {*RADIOGRAPHS, *THREE, *FORGETTING, "render_phantom", "pretrain_phantom_base",
                    "plot_examples"},
    "phantom_cxr_tuned": {
        *RADIOGRAPHS, *THREE, *FORGETTING, "render_phantom", "pretrain_phantom_base",
        "plot_examples",
        *(rule.replace("train_", "tune_") for rule in THREE), "record_trial",
        "choose_learning_rate", "plot_tuning",
    },
    "phantom_cxr_methods": {
        *RADIOGRAPHS, *FORGETTING, "render_phantom", "pretrain_phantom_base", "plot_examples",
        "keep_base", "compose",
        *(f"train_{arm}_chunk" for arm in (
            "fft", "lora_vision", "lora_text", "rslora", "dora", "loraplus", "pissa", "adalora",
            "ia3", "bitfit",
            "last_layer",
        )),
    },
    "phantom_cxr_as_published": {
        *RADIOGRAPHS, *THREE, "render_phantom", "pretrain_phantom_base", "plot_examples",
        "claim", "compare_claims", "plot_claims",
    },
    "mimic_cxr_smoke": {*RADIOGRAPHS, *THREE, "pretrain_phantom_base"},
    "mimic_cxr_git": {*RADIOGRAPHS, *THREE, "fetch_base"},
}  # fmt: skip
"""Rules of each study of radiographs, besides those of all."""


def tree(folder: Path) -> Path:
    """Make a folder that looks like a MIMIC-CXR-JPG tree from outside."""
    folder.mkdir()
    for table in ("metadata", "chexpert"):
        (folder / f"mimic-cxr-2.0.0-{table}.csv.gz").touch()
    return folder


def data_root(study: str, folder: Path) -> list[str]:
    """Return the site's key for a study that reads a tree of radiographs."""
    return [f"data_root={tree(folder / 'tree')}"] if study == "mimic_cxr_smoke" else []


def jobs(done: "subprocess.CompletedProcess[str]") -> dict[str, int]:
    """Read Snakemake's table of jobs: how many a rule."""
    return {
        name: int(count)
        for name, count in re.findall(r"^(\w+) +(\d+)$", done.stdout + done.stderr, re.MULTILINE)
        if name != "total"
    }


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize("study", STUDIES)
def test_every_study_plans_its_jobs_offline(
    study: str, tmp_path: Path, snakemake: Snakemake
) -> None:
    root = data_root(study, tmp_path)
    cpu, clock = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = snakemake(tmp_path / "run", "--dry-run", "--config", f"study={study}", *root)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_seconds = used.ru_utime + used.ru_stime - cpu.ru_utime - cpu.ru_stime
    print(f"{study}: {time.perf_counter() - clock:.1f} s, of the CPU {cpu_seconds:.1f} s")
    assert set(jobs(done)) == ALWAYS | STUDIES[study]
    # Wanted are 3 s on an idle machine; the CPU's time is counted, loosely, as others may work.
    assert cpu_seconds < 10
    assert not (tmp_path / "run" / "results").exists()


@pytest.mark.parametrize(
    ("study", "arms"),
    [
        ("mimic_cxr_target_modules", {
            "fft", "lora_vision", "lora_text", "lora_both", "lora_attention", "lora_mlp",
            "lora_projection",
        }),
        ("mimic_cxr_ranks", {"lora_r1", "lora_r2", "lora_r4"}),
        ("mimic_cxr_methods", {
            "fft", "lora_text", "rslora", "dora", "loraplus", "pissa", "olora", "eva", "adalora",
            "ia3", "bitfit", "last_layer", "head_only",
        }),
        ("phantom_cxr_target_modules", {"lora_mlp", "lora_projection"}),
        ("phantom_cxr_ranks", {"lora_r1", "lora_r2", "lora_r4"}),
        ("phantom_cxr_tuned", {"fft", "lora_text"}),
    ],
)  # fmt: skip
def test_smoke_of_a_study_that_is_not_run_plans_its_arms(
    study: str, arms: set[str], tmp_path: Path, snakemake: Snakemake
) -> None:
    """Their data path is that of a smoke that is run, their arms run in unit tests."""
    words = [f"study={study}", "smoke=true", f"data_root={tree(tmp_path / 'tree')}"]
    found = jobs(snakemake(tmp_path / "run", "--dry-run", "--config", *words))
    assert {rule for rule in found if rule.startswith("train_")} == {
        f"train_{arm}_chunk" for arm in arms
    }
    assert found["compare_arms"] == 1
    assert ("plot_r_sweep" in found) == study.endswith("_ranks")


def test_the_memory_table_trains_nothing(tmp_path: Path, snakemake: Snakemake) -> None:
    found = jobs(snakemake(tmp_path, "memory_table", "--dry-run"))
    assert found["measure_memory"] == found["write_memory_page"] == found["plot_memory"] == 1
    assert not {rule for rule in found if rule.startswith(("train_", "predict", "score"))}


def test_a_fourth_arm_becomes_its_rules(tmp_path: Path, snakemake: Snakemake) -> None:
    arm = "{method: lora, targets: vision_and_text, learning_rate: 1.0e-3}"
    done = snakemake(
        tmp_path, "--dry-run", "--config", f"overrides={{arms: {{both: {arm}, fft: null}}}}"
    )
    found = jobs(done)
    # Two seeds, two chunks each.
    assert found["train_both_chunk"] == found["train_lora_text_chunk"] == 4
    assert "train_fft_chunk" not in found
    one = snakemake(
        tmp_path, "train_both", "--dry-run", "--config", f"overrides={{arms: {{both: {arm}}}}}"
    )
    trained = {rule for rule in jobs(one) if rule.startswith("train_")}
    assert trained == {"train_both", "train_both_chunk"}


@pytest.mark.parametrize(
    ("arm", "overrides", "readers"),
    [
        ("lora_text", "{}", {"train_lora_text_chunk", "predict"}),
        ("lora_text", "{task: {num_beams: 2}}", {"train_lora_text_chunk"}),
        ("lora_text", "{train: {cache_frozen_features: false}}", set()),
        ("lora_text", "{task: {shift_augmentation: 2}}", set()),
        ("lora_vision", "{}", set()),
    ],
)
def test_who_reads_the_cached_output_of_the_frozen_part(
    arm: str, overrides: str, readers: set[str], tmp_path: Path, snakemake: Snakemake
) -> None:
    target = f"results/phantom_cxr/runs/{arm}/seed-0/predictions.parquet"
    graph = snakemake(tmp_path, target, "--dag", "--config", f"overrides={overrides}").stdout
    label = dict(re.findall(r'(\d+)\[label = "(\w+)', graph))
    edges = [(label[a], label[b]) for a, b in re.findall(r"(\d+) -> (\d+)", graph)]
    assert {reader for maker, reader in edges if maker == "cache_frozen_features"} == readers


def rules() -> dict[str, str]:
    """Text of each rule that runs a script, by the script's name."""
    found = {}
    for path in sorted((ROOT / "workflow" / "rules").rglob("*.smk")):
        for block in re.split(r"(?m)^ *rule(?: \w+)?:$", path.read_text(encoding="utf-8"))[1:]:
            script = re.search(r'"(?:\.\./)+scripts/(\w+)\.py"', block)
            if script:
                found[script[1]] = block
    return found


def test_every_script_belongs_to_a_rule_with_log_and_environment() -> None:
    scripts = {path.stem for path in (ROOT / "workflow" / "scripts").glob("*.py")}
    assert set(rules()) == scripts
    for name, block in rules().items():
        assert "log:" in block, name
        assert re.search(r'"(?:\.\./)+envs/(tables|torch)\.yaml"', block), name


def test_stages_without_a_model_do_not_import_torch() -> None:
    free = [name for name, block in rules().items() if "envs/tables.yaml" in block]
    assert {"query_metadata", "cache_images", "score", "compare_arms", "plot_quality"} <= set(free)
    program = (
        "import pathlib, sys\n"
        "for path in map(pathlib.Path, sys.argv[1:]):\n"
        "    lines = path.read_text().splitlines()\n"
        "    exec('\\n'.join(line for line in lines if line.startswith(('from ', 'import '))))\n"
        "    assert not {'torch', 'transformers', 'peft'} & set(sys.modules), path.name\n"
        "    print(path.stem)\n"
    )
    paths = [str(ROOT / "workflow" / "scripts" / f"{name}.py") for name in free]
    done = subprocess.run(
        [sys.executable, "-c", program, *paths], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == free


@pytest.mark.parametrize("kind", ["tables", "torch"])
def test_environments_have_the_releases_of_the_lock_file(kind: str) -> None:
    lock = set((ROOT / "requirements.lock").read_text().split())
    listed = yaml.safe_load((ROOT / "envs" / f"{kind}.yaml").read_text())["dependencies"]
    (pins,) = [entry["pip"] for entry in listed if isinstance(entry, dict)]
    assert pins
    assert set(pins) <= lock


WITHOUT_GPU = {
    "count_tokens", "fetch_base", "fetch_data", "make_random_base", "adopt_run", "keep_base",
    "select_checkpoint", "compose", "record_trial", "choose_learning_rate", "write_cards",
}  # fmt: skip
"""Rules in torch's environment that load, copy or fetch, but run no model."""


def test_jobs_that_run_a_model_ask_for_a_gpu() -> None:
    for name, block in rules().items():
        needs = "envs/torch.yaml" in block and name not in WITHOUT_GPU
        assert bool(re.search(r"\bgpu=|\"gpu\":", block)) is needs, name


@pytest.mark.parametrize(
    ("words", "gpu_model"),
    [((), "a100"), (("--set-resources", "pretrain_phantom_base:gpu_model=h100"), "h100")],
    ids=["profile", "command line"],
)
def test_gpu_model_comes_from_the_profile_or_the_command_line(
    words: tuple[str, ...], gpu_model: str, tmp_path: Path, snakemake: Snakemake
) -> None:
    # A bound of another type is refused with the value that the job asks for.
    done = snakemake(
        tmp_path, "pretrain_phantom_base", "--dry-run",
        "--workflow-profile", str(ROOT / "profiles" / "slurm"), "--resources", "gpu_model=1",
        *words, check=False,
    )  # fmt: skip
    assert f'Resource("gpu_model", "{gpu_model}")' in done.stdout + done.stderr


@pytest.mark.parametrize("study", STUDIES)
def test_linter_of_snakemake_is_content(study: str, tmp_path: Path, snakemake: Snakemake) -> None:
    root = data_root(study, tmp_path)
    done = snakemake(tmp_path, "--lint", "--config", f"study={study}", *root)
    assert "workflow is in a good condition" in done.stdout + done.stderr


def test_rules_are_formatted() -> None:
    done = subprocess.run(
        [str(Path(sys.executable).with_name("snakefmt")), "--check", "Snakefile", "workflow"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("words", "declared"),
    [
        ((), '"gpu_model", "a100"'),
        (("--default-resources", "gpu_model='h100'"), '"gpu_model", "h100"'),
        (("--set-resources", "train_fft_chunk:gpu_model=l40"), '"gpu_model", "l40"'),
    ],
    ids=["rule", "default of a profile", "set by rule"],
)
def test_training_declares_a_gpu_that_a_profile_can_overrule(
    words: tuple[str, ...], declared: str, tmp_path: Path, snakemake: Snakemake
) -> None:
    # A bound of another type is refused with the value that the job asks for.
    bound = ("--resources", "gpu_model=1", "--set-resources", "pretrain_phantom_base:gpu_model=1")
    both = (*bound, *words[1:]) if words[:1] == ("--set-resources",) else (*bound, *words)
    done = snakemake(tmp_path, "train_fft", "--dry-run", *both, check=False)
    assert f"Resource({declared})" in done.stdout + done.stderr
    assert "train_fft_chunk" in done.stdout + done.stderr
