"""The Slurm profile without a Slurm: it is read, and large studies are planned quickly."""

import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
PROFILE = ROOT / "profiles" / "slurm"
ARMS, SEEDS, CHUNKS = 100, 3, 4


@pytest.fixture(scope="module")
def dry_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, float]:
    """Plan a study of many arms; return what Snakemake prints and the CPU seconds it took."""
    folder = tmp_path_factory.mktemp("many_arms")
    study = yaml.safe_load((ROOT / "tests/workflow/tiny.yaml").read_text())
    arm = study["arms"]["lora_text"]
    study["arms"] = {f"lora_{number}": arm for number in range(ARMS)}
    study["train"] |= {"seeds": list(range(SEEDS)), "epochs": CHUNKS, "epochs_per_chunk": 1}
    (folder / "many.yaml").write_text(yaml.safe_dump(study))
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [
            str(Path(sys.executable).with_name("snakemake")),
            "--snakefile", str(ROOT / "Snakefile"), "--profile", str(PROFILE),
            "--directory", str(folder), "--dry-run",
            "--config", f"study={folder / 'many.yaml'}",
        ],
        capture_output=True, text=True,
    )  # fmt: skip
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, done.stderr[-3000:]
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return done.stdout + done.stderr, seconds


def test_many_arms_are_planned_in_seconds(dry_run: tuple[str, float]) -> None:
    text, seconds = dry_run
    counts = dict(re.findall(r"^(\w+) +(\d+)$", text, re.M))
    assert sum(int(n) for rule, n in counts.items() if rule.startswith("train_")) == (
        ARMS * SEEDS * CHUNKS
    )
    assert seconds < 15


def test_short_jobs_are_grouped(dry_run: tuple[str, float]) -> None:
    text, _ = dry_run
    groups = re.findall(r"Group job (\w+)", text)
    assert groups.count("cohort") == 1
    assert groups.count("figures") == 1
    assert groups.count("evaluation") == ARMS * SEEDS


def test_groups_and_resources_name_rules_that_exist(tmp_path: Path) -> None:
    profile = yaml.safe_load((PROFILE / "config.yaml").read_text())
    done = subprocess.run(
        [
            str(Path(sys.executable).with_name("snakemake")), "--list-rules",
            "--snakefile", str(ROOT / "Snakefile"), "--directory", str(tmp_path),
            "--config", "study=phantom_cxr",
        ],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    rules = set(done.stdout.split())
    assert "train_lora_text_chunk" in rules
    assert set(profile["groups"]) <= rules
    assert set(profile["set-resources"]) <= rules


def test_jobs_of_a_group_ask_for_the_same_texts() -> None:
    """Snakemake refuses a group whose jobs differ in a resource that cannot be added up."""
    profile = yaml.safe_load((PROFILE / "config.yaml").read_text())
    asked: dict[str, set[tuple[str, str]]] = {}
    for rule, group in profile["groups"].items():
        own = profile["set-resources"].get(rule, {})
        texts = (own.get("slurm_partition", "default"), own.get("gpu_model", "default"))
        asked.setdefault(group, set()).add(texts)
    assert all(len(texts) == 1 for texts in asked.values()), asked


def test_rules_of_the_figures_are_run_one_after_the_other() -> None:
    """Else their group asks for the sum of those that do not depend on one another."""
    profile = yaml.safe_load((PROFILE / "config.yaml").read_text())
    figures = [rule for rule, group in profile["groups"].items() if group == "figures"]
    assert {profile["set-resources"][rule]["drawing"] for rule in figures} == {1}
    assert profile["resources"] == {"drawing": 1}
    assert profile["set-resource-scopes"] == {"drawing": "local"}


def test_no_rule_speaks_of_a_cluster() -> None:
    for path in (ROOT / "Snakefile", *(ROOT / "workflow").rglob("*.smk")):
        assert not re.search(r"slurm|partition|\bgres\b|account\s*=\s*[\"']", path.read_text()), (
            path
        )
