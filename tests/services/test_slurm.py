"""A study through `profiles/slurm` on a real Slurm, its jobs cut off in every way a cluster knows.

`slurm_cluster` boots Slurm with one node and one A100 gres. The profile is the shipped one; only
the values that it marks as the site's own are replaced, and waits are shortened.
"""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import slurm_cluster
import yaml

from peft_ablation.training.history_table import MEASURED

pytestmark = pytest.mark.slurm

ROOT = Path(__file__).resolve().parents[2]
PROFILE = ROOT / "profiles" / "slurm" / "config.yaml"
ARMS = ("fft", "lora_text")
TARGETS = [f"results/lab/runs/{arm}/seed-0/scores.json" for arm in ARMS]

# Every Python that a job starts notes its command line and what it is told about the hub.
SITECUSTOMIZE = """
import json, os, sys
with open({notes!r}, "a") as file:
    file.write(json.dumps([sys.orig_argv, os.environ.get("HF_HUB_OFFLINE")]) + chr(10))
"""


def study() -> dict[str, Any]:
    """Return the tiny study with two arms and a checkpoint after each step."""
    tiny = yaml.safe_load((ROOT / "tests/workflow/tiny.yaml").read_text())
    tiny["images"]["shards"] = 1
    tiny["train"] |= {
        "epochs": 12, "epochs_per_chunk": 6, "checkpoint_every_steps": 1,
        "cache_frozen_features": False,
    }  # fmt: skip
    tiny["arms"] = {arm: tiny["arms"][arm] for arm in ARMS}
    return tiny


def site_profile(folder: Path, **default_resources: str | int) -> Path:
    """Write a copy of the shipped profile for the test cluster and return its folder."""
    profile = yaml.safe_load(PROFILE.read_text())
    profile |= {
        "slurm-status-command": "squeue",
        "slurm-init-seconds-before-status-checks": 1,
        "latency-wait": 5,
    }
    profile["default-resources"] |= {"slurm_account": "'lab'", **default_resources}
    folder.mkdir()
    (folder / "config.yaml").write_text(yaml.safe_dump(profile))
    return folder


def command(folder: Path, *words: str) -> list[str]:
    return [
        str(Path(sys.executable).with_name("snakemake")), "--snakefile", str(ROOT / "Snakefile"),
        "--directory", str(folder), "--workflow-profile", str(ROOT / "profiles/default"),
        "--config", f"study={folder.parent / 'lab.yaml'}", *words,
    ]  # fmt: skip


def noting(folder: Path, environment: dict[str, str]) -> dict[str, str]:
    """Return the environment in which each Python notes itself in `folder/notes`."""
    (folder / "site").mkdir(parents=True)
    text = SITECUSTOMIZE.format(notes=str(folder / "notes"))
    (folder / "site" / "sitecustomize.py").write_text(text)
    return environment | {"PYTHONPATH": str(folder / "site")}


def told_about_hub(folder: Path, script: str) -> set[str | None]:
    """Return the values of HF_HUB_OFFLINE that the runs of a workflow script saw."""
    notes = [json.loads(line) for line in (folder / "notes").read_text().splitlines()]
    return {told for words, told in notes if any(word.endswith(f".{script}") for word in words)}


@pytest.fixture(scope="session")
def cluster() -> Iterator[slurm_cluster.Cluster]:
    """Boot Slurm; skip, saying why, where there is none and none can be installed."""
    reason = slurm_cluster.install()
    if reason:
        pytest.skip(reason)
    # Not under pytest's folder, which is closed to others: munge wants its socket reachable.
    with tempfile.TemporaryDirectory(prefix="slurm-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        running = slurm_cluster.Cluster(Path(folder, "lab"))
        yield running
        running.stop()


@pytest.fixture(scope="session")
def local(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Working directory in which the study has run without a cluster."""
    folder = tmp_path_factory.mktemp("study")
    (folder / "lab.yaml").write_text(yaml.safe_dump(study()))
    done = subprocess.run(
        command(folder / "local", "--cores", "2", "--resources", "gpu=1", "--", *TARGETS),
        env=noting(folder / "local", dict(os.environ)), capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    return folder / "local"


def without_runs(local: Path, name: str) -> Path:
    """Copy the finished study but for its runs, so that a cluster has only them to make."""
    folder = local.with_name(name)
    shutil.copytree(local, folder, symlinks=True)
    shutil.rmtree(folder / "results/lab/runs")
    for left in ("checkpoints", "logs/train"):
        shutil.rmtree(folder / "results/lab" / left, ignore_errors=True)
    for left in ("site", "notes"):
        path = folder / left
        path.unlink() if path.is_file() else shutil.rmtree(path)
    return folder


def training_process(folder: Path, arm: str, chunk: int) -> int | None:
    """Return the process that trains a chunk: the one whose log of that chunk is open."""
    log = str(folder / f"results/lab/logs/train/{arm}.seed-0.chunk-{chunk}.log")
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                if any(str(fd.readlink()) == log for fd in (process / "fd").iterdir()):
                    return int(process.name)
            except OSError:
                continue
    return None


class Study:
    """A run of Snakemake on the cluster, watched."""

    def __init__(self, folder: Path, cluster: slurm_cluster.Cluster, *words: str) -> None:
        self.folder, self.cluster = folder, cluster
        self.output = (folder / "snakemake.log").open("w")
        self.process = subprocess.Popen(
            command(folder, *words), env=noting(folder, cluster.environment),
            stdout=self.output, stderr=subprocess.STDOUT,
        )  # fmt: skip
        self.on_gpu: list[list[str]] = []

    def text(self) -> str:
        return (self.folder / "snakemake.log").read_text()

    def until(self, what: str, happened: Callable[[], Any], seconds: float = 300) -> Any:
        """Wait for something; fail with the log if it does not come or Snakemake ends."""
        deadline = time.monotonic() + seconds
        while not (result := happened()):
            ended = self.process.poll()
            if ended is not None or time.monotonic() > deadline:
                pytest.fail(f"{what} did not happen (exit {ended}):\n{self.text()[-5000:]}")
            time.sleep(0.02)
        return result

    def checkpoint(self, arm: str, chunk: int) -> Path:
        """Wait for the first whole checkpoint of a chunk."""
        root = self.folder / f"results/lab/checkpoints/{arm}/seed-0/chunk-{chunk}"
        return self.until(
            f"a checkpoint of {arm} chunk {chunk}",
            lambda: next(root.glob("*/step-*/manifest.json"), None),
        )

    def job(self, arm: str, chunk: int) -> str:
        """Return the id of the running Slurm job of a chunk."""
        name = f"rule_train_{arm}_chunk_wildcards_0_{chunk}"
        rows = [job for job in self.cluster.jobs() if job["comment"] == name]
        return next(job["id"] for job in rows if job["state"] == "RUNNING")

    def states(self, arm: str, chunk: int) -> list[tuple[str, str]]:
        """Return state and memory of each Slurm job of a chunk, oldest first."""
        name = f"rule_train_{arm}_chunk_wildcards_0_{chunk}"
        rows = [job for job in self.cluster.jobs() if job["comment"] == name]
        return [(job["state"], job["memory"]) for job in sorted(rows, key=lambda j: int(j["id"]))]

    def continued(self, arm: str, chunk: int) -> bool:
        """Tell whether the last attempt at a chunk began at a checkpoint of that chunk.

        Snakemake empties a job's log before each attempt.
        """
        log = self.folder / f"results/lab/logs/train/{arm}.seed-0.chunk-{chunk}.log"
        own = f"from results/lab/checkpoints/{arm}/seed-0/chunk-{chunk}/"
        return f"continuing {arm} seed 0 {own}" in log.read_text()


@pytest.fixture(scope="session")
def cut_off(cluster: slurm_cluster.Cluster, local: Path, tmp_path_factory: Any) -> Iterator[Study]:
    """A study whose chunks were cancelled, killed for memory, requeued and met their limit."""
    folder = without_runs(local, "cut_off")
    profile = site_profile(
        tmp_path_factory.mktemp("profile") / "slurm",
        # Second attempts get too little memory to load torch; the others what they need.
        mem_mb="(150 if attempt == 2 and wildcards.chunk == '0' else 3000)"
        " if hasattr(wildcards, 'chunk') else 2000",
        # Only chunks after the first have a chunk of their arm as input.
        runtime="1 if '/fft/seed-0/chunk-' in str(input) and attempt == 1 else 20",
        slurm_extra="'--signal=TERM@10' if hasattr(wildcards, 'chunk') else ''",
    )
    run = Study(folder, cluster, "--profile", str(profile), "--", *TARGETS)
    try:
        first = run.until(
            "training",
            lambda: next((arm for arm in ARMS if training_process(folder, arm, 0)), None),
        )
        second = next(arm for arm in ARMS if arm != first)
        run.on_gpu.append([job["state"] for job in cluster.jobs() if job["partition"] == "gpu"])
        run.checkpoint(first, 0)
        cluster.ask("scancel", run.job(first, 0))
        run.checkpoint(second, 0)
        requeued = run.job(second, 0)
        cluster.ask("scontrol", "requeue", requeued)
        # A process that stands still until Slurm, before the limit, wakes and warns it. On a busy
        # machine the first attempt may have been warned before its first checkpoint.
        run.checkpoint("fft", 1)
        if len(run.states("fft", 1)) == 1:
            os.kill(training_process(folder, "fft", 1) or 0, signal.SIGSTOP)
            run.until("the time limit", lambda: run.states("fft", 1)[0][0] != "RUNNING")
        run.first, run.second, run.requeued = first, second, requeued
        assert run.process.wait(timeout=420) == 0, run.text()[-5000:]
        yield run
    finally:
        run.process.kill()  # its jobs end with the cluster
        run.output.close()


def history(folder: Path, arm: str) -> list[dict[str, str]]:
    with (folder / f"results/lab/runs/{arm}/seed-0/history.csv").open() as file:
        return [{k: v for k, v in r.items() if k not in MEASURED} for r in csv.DictReader(file)]


def files(folder: Path, arm: str) -> dict[str, bytes]:
    """Return what a run leaves, but for measurements of time and memory."""
    run = folder / f"results/lab/runs/{arm}/seed-0"
    weights = {path.name: path.read_bytes() for path in (run / "model").glob("*.safetensors")}
    return weights | {
        name: (run / name).read_bytes() for name in ("predictions.parquet", "scores.json")
    }


@pytest.mark.parametrize("arm", ARMS)
def test_jobs_cut_off_give_the_bytes_of_a_local_run(cut_off: Study, local: Path, arm: str) -> None:
    assert files(cut_off.folder, arm) == files(local, arm)
    assert history(cut_off.folder, arm) == history(local, arm)
    assert len(history(local, arm)) == study()["train"]["epochs"]


def test_cancelled_then_killed_for_memory_continues(cut_off: Study) -> None:
    states = cut_off.states(cut_off.first, 0)
    assert [state for state, memory in states][-1] == "COMPLETED"
    assert len(states) == 3 and states[1][1] == "150M", states
    assert "stopped by SIGTERM; the same command continues" in cut_off.text()
    assert cut_off.continued(cut_off.first, 0)


def test_requeued_under_its_own_id_continues(cut_off: Study) -> None:
    assert [state for state, memory in cut_off.states(cut_off.second, 0)] == ["COMPLETED"]
    shown = cut_off.cluster.ask("scontrol", "show", "job", cut_off.requeued)
    assert "Restarts=1" in shown and "Requeue=1" in shown
    assert cut_off.continued(cut_off.second, 0)


def test_chunk_at_its_time_limit_is_warned_and_continues(cut_off: Study) -> None:
    ended, *others = [state for state, memory in cut_off.states("fft", 1)]
    assert ended in ("FAILED", "TIMEOUT") and others == ["COMPLETED"]
    logs = cut_off.folder.glob(".snakemake/slurm_logs/rule_train_fft_chunk/0_1/*.log")
    told = "".join(path.read_text() for path in logs)
    assert "CANCELLED" in told and "stopped by SIGTERM" in told, told
    assert cut_off.continued("fft", 1)


def test_arms_queue_for_the_one_gpu(cut_off: Study) -> None:
    assert [sorted(states) for states in cut_off.on_gpu] == [["PENDING", "RUNNING"]]
    shown = cut_off.cluster.ask("scontrol", "show", "job", cut_off.requeued)
    assert "TresPerJob=gres:gpu:a100:1" in shown, shown
    assert "Partition=gpu" in shown


def test_the_end_of_a_run_is_one_job(cut_off: Study) -> None:
    ends = [job for job in cut_off.cluster.jobs() if "score" in job["comment"]]
    assert len(ends) == len(ARMS)
    assert {job["comment"] for job in ends} == {"rule_evaluation_predict_score_select_checkpoint"}
    assert {(job["state"], job["partition"]) for job in ends} == {("COMPLETED", "gpu")}


def test_training_jobs_are_kept_from_the_hub(cut_off: Study, local: Path) -> None:
    for folder in (local, cut_off.folder):
        for script in ("train.py", "predict.py", "select_checkpoint.py"):
            assert told_about_hub(folder, script) == {"1"}, (folder.name, script)


def test_whole_study_on_a_cluster_that_knows_only_gres(
    cluster: slurm_cluster.Cluster, tmp_path: Path
) -> None:
    """From nothing to the figures, by the recipe of `profiles/README.md` as it stands there."""
    text = (ROOT / "profiles" / "README.md").read_text()
    recipe = yaml.safe_load(text.split("```yaml\n")[1].split("  ```")[0])
    folder = site_profile(tmp_path / "slurm", **recipe["default-resources"])
    profile = yaml.safe_load((folder / "config.yaml").read_text())
    gpu = recipe["set-resources"]["pretrain_phantom_base"]
    for name, resources in profile["set-resources"].items():
        if "gpu_model" in resources:
            profile["set-resources"][name] = resources | gpu
    (folder / "config.yaml").write_text(yaml.safe_dump(profile))
    short = study()
    short["train"] |= {"epochs": 2, "epochs_per_chunk": 2, "cache_frozen_features": True}
    del short["arms"]["fft"]
    (tmp_path / "lab.yaml").write_text(yaml.safe_dump(short))
    before = {job["id"] for job in cluster.jobs()}
    done = subprocess.run(
        command(tmp_path / "run", "--profile", str(folder)),
        env=cluster.environment, capture_output=True, text=True, timeout=450,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-5000:]
    results = tmp_path / "run/results/lab"
    assert (results / "comparison/comparison.csv").stat().st_size
    assert {"quality.png", "cost.svg"} <= {path.name for path in (results / "figures").iterdir()}
    jobs = [job for job in cluster.jobs() if job["id"] not in before]
    assert {job["state"] for job in jobs} == {"COMPLETED"}
    # The cohort's tables, the end of each run and all figures are one job each.
    groups = [job["comment"].split("_")[1] for job in jobs if "wildcards" not in job["comment"]]
    assert groups.count("cohort") == groups.count("figures") == 1
    assert groups.count("evaluation") == 1
    assert not any(job["comment"].startswith(("rule_plot", "rule_score")) for job in jobs)
    # One plot after the other: the job fits the smallest node.
    (figures,) = (job for job in jobs if job["comment"].startswith("rule_figures"))
    assert (figures["cores"], figures["memory"], figures["limit"]) == ("1", "2000M", "1:35:00")
    assert all(job["name"].startswith("peft-ablation_") for job in jobs)
    for job in jobs:
        assert (job["gres"] == "gres:gpu:a100:1") == (job["partition"] == "gpu"), job
