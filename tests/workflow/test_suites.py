"""Suites: studies run as one DAG, with one table and one figure across them."""

import csv
import json
import re
import resource
import subprocess
from html import unescape
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import save_file
from same_bytes import differing, names
from workflow_runs import ROOT, Snakemake

LINE: dict[str, Any] = {
    "task": {"name": "toy.toy_task"},
    "data": {"source": "toy.toy_source", "public": True},
    "base": {"id": "line_base"},
    "train": {
        "epochs": 4, "epochs_per_chunk": 4, "batch_size": 8, "precision": "fp32", "seeds": [0],
        "schedule": "constant", "warmup": 0.0, "weight_decay": 0.0, "threads": 1,
    },
    "arms": {
        "fft": {"method": "full", "learning_rate": 0.05},
        "shift": {"method": "toy.toy_method", "learning_rate": 0.05},
    },
    "score": {"bootstrap_samples": 50},
    "smoke": {"train": {"epochs": 1, "epochs_per_chunk": 1}},
}  # fmt: skip
STUDIES = {
    "line_a": LINE,
    "line_c": {
        "extends": "line_a",
        "base": {"id": None, "run": {"study": "line_a", "arm": "fft"}},
        "arms": {
            "shift": {"learning_rate": 0.01},
            "more": {"method": "full", "learning_rate": 0.02},
        },
    },
}
"""Points on a line; the second study starts from the first one's runs, and has an arm more."""


def write(folder: Path, kind: str, name: str, content: object) -> Path:
    path = folder / "config" / kind / f"{name}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return path


def lines(folder: Path) -> Path:
    """Put the studies, their base, and the suite `lines` of them into a working directory."""
    for name, content in STUDIES.items():
        write(folder, "studies", name, content)
    # The one that starts from another stands before it.
    write(folder, "suites", "lines", {"title": "Lines", "studies": ["line_c", "line_a"]})
    base = folder / "line_base"
    base.mkdir()
    tensors = {"slope.weight": [[0.1]], "shift.weight": [[1.0]], "shift.bias": [0.0]}
    save_file({n: torch.tensor(v) for n, v in tensors.items()}, base / "model.safetensors")
    (base / "config.json").write_text(json.dumps({"model_type": "line"}))
    return folder


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, snakemake: Snakemake) -> Path:
    """Working directory in which the suite of lines has run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT / "tests" / "workflow"))
        folder = lines(tmp_path_factory.mktemp("lines"))
        snakemake(folder, "suite", "--config", "suite=lines")
    return folder


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Working directory in which nothing has run."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "tests" / "workflow"))
    return lines(tmp_path)


def table(path: Path) -> dict[str, dict[str, str]]:
    with path.open() as file:
        return {row["arm"]: row for row in csv.DictReader(file)}


def jobs(done: "subprocess.CompletedProcess[str]") -> dict[str, int]:
    found = re.findall(r"^(\w+) +(\d+)$", done.stdout + done.stderr, re.MULTILINE)
    return {name: int(count) for name, count in found if name != "total"}


def test_the_table_has_the_scores_of_each_study_s_own_comparison(finished: Path) -> None:
    across = table(finished / "results/suites/lines/comparison/suite.csv")
    assert list(across) == ["fft", "shift", "more"]
    for study in STUDIES:
        own = table(finished / "results" / study / "comparison" / "comparison.csv")
        for arm, row in own.items():
            for end in ("", "_low", "_high", "_difference", "_difference_low"):
                assert across[arm][f"{study}{end}"] == row[f"squared_error{end}"], (study, arm)
    assert across["more"]["line_a"] == ""
    assert [across[arm]["studies"] for arm in across] == ["2", "2", "1"]


def test_means_and_ranks_are_over_the_studies_that_every_arm_is_in(finished: Path) -> None:
    across = table(finished / "results/suites/lines/comparison/suite.csv")
    scores = {arm: float(row["line_c"]) for arm, row in across.items()}
    for arm, row in across.items():
        assert float(row["mean"]) == pytest.approx(scores[arm])
        in_all = (scores[arm] + float(row["line_a"])) / 2 if row["line_a"] else None
        assert (float(row["mean_of_all"]) if in_all else None) == pytest.approx(in_all)
        # Of errors the smallest is the best.
        assert float(row["mean_rank"]) == 1 + sum(other < scores[arm] for other in scores.values())
    page = (finished / "results/suites/lines/comparison/suite.md").read_text()
    assert (
        "over the 1 study that every arm is in, and for arms that are in all studies over all"
        in page
    )
    assert "| mean, always (no training) |" in page


def test_the_figure_has_a_row_an_arm_and_study(finished: Path) -> None:
    figures = finished / "results/suites/lines/figures"
    with (figures / "suite.csv").open() as file:
        rows = [(row["study"], row["arm"]) for row in csv.DictReader(file)]
    assert rows == [
        ("line_c", "fft"), ("line_c", "shift"), ("line_c", "more"), ("line_a", "fft"),
        ("line_a", "shift"),
    ]  # fmt: skip
    assert (figures / "suite.svg").is_file()


def test_a_finished_suite_has_nothing_to_do_alone_or_together(
    finished: Path, snakemake: Snakemake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "tests" / "workflow"))
    again = snakemake(finished, "suite", "--dry-run", "--config", "suite=lines")
    assert "Nothing to be done" in again.stdout + again.stderr
    alone = snakemake(finished, "compare_arms", "--dry-run", "--config", "study=line_c")
    assert "Nothing to be done" in alone.stdout + alone.stderr


def test_the_report_of_a_suite_begins_with_what_the_suite_found(
    finished: Path, tmp_path: Path, snakemake: Snakemake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "tests" / "workflow"))
    page = tmp_path / "report.html"
    snakemake(finished, "suite", "--config", "suite=lines", "--report", str(page))
    html = unescape(page.read_text())
    told = (finished / "results/suites/lines/comparison/suite_summary.txt").read_text().strip()
    assert told.startswith("Lines compares 3 arms (fft, shift and more) in 2 studies")
    assert told in html
    assert html.index(told) < html.index("Several studies, run as one")
    assert {"suite.svg", "critical_difference.svg", "suite_tests.csv"} <= set(
        re.findall(r"[\w.]+\.(?:svg|csv)", html)
    )


def test_two_runs_from_scratch_give_the_same_bytes(
    finished: Path, folder: Path, snakemake: Snakemake
) -> None:
    # The other figures draw seconds or memory, and would not be compared.
    targets = ("write_up", "plot_loss_curves", "plot_quality", "plot_split_balance")
    for place in (finished, folder):
        snakemake(place, *targets, "--config", "study=line_a")
    one, other = (place / "results" / "line_a" for place in (finished, folder))
    compared = names(one)
    assert {
        "cohort/examples.parquet", "splits/test.parquet", "runs/fft/seed-0/history.csv",
        "runs/shift/seed-0/model/shift.safetensors", "runs/fft/seed-0/predictions.parquet",
        "runs/fft/seed-0/scores.json", "comparison/comparison.csv", "comparison/comparison.md",
        "comparison/estimates.json", "comparison/manifest.json", "comparison/methods.md",
        "comparison/summary.txt", "figures/quality.csv", "figures/quality.svg",
    } <= compared  # fmt: skip
    assert differing(one, other) == []


def test_what_differs_between_two_runs_is_named(tmp_path: Path) -> None:
    for place in ("one", "other"):
        for name, text in {
            "figures/cost.csv": f"arm,train_seconds,rank\na,{place},1\n",
            "figures/cost.svg": place,
            "figures/quality.csv": "arm,f1\na,0.5\n",
            "figures/quality.svg": place,
            "logs/train.log": place,
            "page.md": f"# Page\n\n| arm | f1 | training, s |\n| a | 0.5 | {place} |\n",
            "scores.json": json.dumps({"f1": place, "peak_memory_mb": place}),
        }.items():
            path = tmp_path / place / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    (tmp_path / "one" / "more.csv").write_text("arm\n")
    found = differing(tmp_path / "one", tmp_path / "other")
    assert found == ["figures/quality.svg", "more.csv", "scores.json"]
    page = tmp_path / "one" / "page.md"
    page.write_text(page.read_text().replace("0.5", "0.6"))
    assert "page.md" in differing(tmp_path / "one", tmp_path / "other")


def test_what_several_studies_need_is_made_once(folder: Path, snakemake: Snakemake) -> None:
    found = jobs(snakemake(folder, "suite", "--dry-run", "--config", "suite=lines"))
    assert [name for name in found if name.endswith("_fetch_base")] == ["line_a_fetch_base"]
    trained = {name: n for name, n in found.items() if name.endswith("_chunk")}
    assert trained == {
        "line_a_train_fft_chunk": 1, "line_a_train_shift_chunk": 1,
        "line_c_train_fft_chunk": 1, "line_c_train_shift_chunk": 1, "line_c_train_more_chunk": 1,
    }  # fmt: skip
    assert found["line_c_adopt_run"] == 1
    assert not any("figure" in name or name.endswith("plot_quality") for name in found)


def test_without_a_target_the_figures_of_every_study_are_drawn_too(
    folder: Path, snakemake: Snakemake
) -> None:
    found = jobs(snakemake(folder, "--dry-run", "--config", "suite=lines"))
    assert {f"{study}_plot_quality" for study in STUDIES} | {"compare_studies"} <= set(found)


def test_a_study_outside_of_the_suite_gives_its_runs_alone(
    folder: Path, snakemake: Snakemake
) -> None:
    write(folder, "suites", "one", {"studies": ["line_c"]})
    found = jobs(snakemake(folder, "suite", "--dry-run", "--config", "suite=one"))
    assert found["line_c_line_a_train_fft_chunk"] == 1
    assert "line_c_line_a_predict" not in found


def test_smoke_and_overrides_go_to_every_study(folder: Path, snakemake: Snakemake) -> None:
    done = snakemake(
        folder, "suite", "--dry-run", "--config", "suite=lines", "smoke=true",
        "overrides={train: {seeds: [3, 4]}}",
    )  # fmt: skip
    found = jobs(done)
    assert {found[name] for name in found if name.endswith("_chunk")} == {2}
    output = done.stdout + done.stderr
    assert "results/suites/lines.smoke/comparison/suite.csv" in output
    assert "results/line_a.smoke/runs/fft/seed-3/model" in output
    assert "seed-0" not in output


def test_the_suite_s_and_the_site_s_own_words_on_one_study_reach_it_wherever_it_is_run(
    folder: Path, snakemake: Snakemake
) -> None:
    members = [
        {"study": "line_c", "overrides": {"train": {"seeds": [7]}}},
        {"study": "line_a", "overrides": {"train": {"seeds": [7, 8], "epochs": 2}}},
    ]
    write(folder, "suites", "changed", {"studies": members})
    done = snakemake(
        folder, "suite", "--dry-run", "--config", "suite=changed",
        "studies={line_a: {overrides: {train: {epochs_per_chunk: 1}}}}",
    )  # fmt: skip
    # Two seeds of two chunks, and one seed of one.
    found = jobs(done)
    assert found["line_a_train_fft_chunk"] == 4
    assert found["line_c_train_fft_chunk"] == 1
    assert "results/line_a/runs/fft/seed-7/model" in done.stdout + done.stderr


def test_a_suite_is_used_as_a_module_below_a_prefix(folder: Path, snakemake: Snakemake) -> None:
    outer = folder / "outer.smk"
    outer.write_text(
        f"module x:\n    snakefile: {str(ROOT / 'workflow' / 'Snakefile')!r}\n"
        "    config: {'suite': 'lines'}\n    prefix: 'sub'\n\nuse rule * from x as x_*\n"
    )
    done = snakemake(folder, "--snakefile", str(outer), "x_suite", "--dry-run")
    found = jobs(done)
    assert found["x_line_a_train_fft_chunk"] == 1
    assert found["x_compare_studies"] == 1
    assert "sub/results/suites/lines/comparison/suite.csv" in done.stdout + done.stderr
    assert not re.search(r"(?<!sub/)results/", done.stdout + done.stderr)


def test_what_is_no_suite_is_refused_in_one_line_before_any_job(
    folder: Path, snakemake: Snakemake
) -> None:
    done = snakemake(folder, "suite", "--dry-run", "--config", "suite=linse", check=False)
    output = done.stdout + done.stderr
    assert done.returncode != 0
    assert "Traceback" not in output
    (line,) = [line for line in output.splitlines() if line.startswith("peft-ablation: ")]
    assert line.startswith("peft-ablation: config: suite: found 'linse', allowed: ")
    assert line.endswith("did you mean 'lines'?")


def test_the_linter_of_snakemake_is_content_with_a_suite(
    folder: Path, snakemake: Snakemake
) -> None:
    done = snakemake(folder, "--lint", "--config", "suite=lines")
    assert "workflow is in a good condition" in done.stdout + done.stderr


@pytest.mark.usefixtures("offline")
def test_the_eight_tasks_of_glue_are_planned_offline_and_soon(
    tmp_path: Path, shared_data: Path, snakemake: Snakemake
) -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = snakemake(
        tmp_path, "suite", "--dry-run", "--config", "suite=glue",
        f"data_root={shared_data / 'glue-slices'}",
    )  # fmt: skip
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    found = jobs(done)
    # One base for all. Three seeds; MNLI's LoRA, in one chunk, is where an arm of the seven others
    # starts: CoLA, MRPC, STS-B and RTE of 20 epochs, SST-2 of 10, QQP and QNLI of 5, 5 a chunk.
    assert sum(found[name] for name in found if name.endswith("_fetch_base")) == 1
    assert found["glue_mnli_train_lora_chunk"] == 3
    started = sum(found[name] for name in found if name.endswith("_train_lora_mnli_chunk"))
    assert started == 3 * (4 * 4 + 2 + 1 + 1)
    # Wanted are 8 s on an idle machine; the CPU's time is counted, loosely, as others may work.
    cpu = used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime
    print(f"glue: of the CPU {cpu:.1f} s")
    assert cpu < 15


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize(
    ("suite", "data"), [("e2e_gpt2_ranks", "e2e-nlg"), ("squad_gpt2_ranks", "squad-xquad-en")]
)
def test_suites_over_rank_plan_every_rank_on_three_bases_offline(
    suite: str, data: str, tmp_path: Path, shared_data: Path, snakemake: Snakemake
) -> None:
    root = shared_data / data
    if suite.startswith("squad"):
        # SQuAD itself is not at hand: its files are looked for, not into, when the DAG is made.
        root = tmp_path / "squad"
        root.mkdir()
        for split in ("train", "dev"):
            (root / f"{split}-v1.1.json").touch()
    words = ("--config", f"suite={suite}", f"data_root={root}")
    found = jobs(snakemake(tmp_path, "suite", "--dry-run", *words))
    assert sum(found[name] for name in found if name.endswith("_fetch_base")) == 3
    trained = {name: count for name, count in found.items() if re.search("_train_.*_chunk$", name)}
    # Three bases, eleven ranks and full fine-tuning; three seeds of five epochs, one a chunk.
    assert len(trained) == 3 * 12
    assert set(trained.values()) == {15}
    assert found["plot_r_sweep"] == 1
    assert sum(name.endswith("_compare_r_sweep") for name in found) == 3
