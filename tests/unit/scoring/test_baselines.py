"""Baselines of a training split, by hand and read from the scores of a run."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from tiny_study import task_of

from peft_ablation.scoring.files import main
from peft_ablation.scoring.scores import score_predictions
from peft_ablation.sources.mimic.labels import LABELS
from peft_ablation.sources.mimic.reports import load_template

TEMPLATE = load_template("corrected")
Findings = tuple[str, ...]


def report(findings: Findings) -> str:
    text = TEMPLATE.render(dict.fromkeys(findings, 1))
    assert text is not None
    return text


@pytest.fixture
def baselines(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Return a function that scores the baselines of training reports against one reference."""

    def scored(training: list[Findings], reference: Findings = ("Edema",)) -> dict[str, Any]:
        pl.DataFrame(
            [
                {label: int(label in row) or None for label in LABELS} | {"report": report(row)}
                for row in training
            ],
            schema={**dict.fromkeys(LABELS, pl.Int8), "report": pl.String},
        ).write_parquet(tmp_path / "train.parquet")
        pl.DataFrame(
            {
                "example_id": ["d"], "group": ["1"], "reference": [report(reference)],
                "hypothesis": [""], "tokens": [5], "nll": [5.0],
            }
        ).write_parquet(tmp_path / "predictions.parquet")  # fmt: skip
        score_predictions(
            tmp_path / "predictions.parquet", task=task_of(), train=tmp_path / "train.parquet",
            bootstrap_samples=2, confidence=0.9, seed=1,
            output=tmp_path / "scores.json", sums=tmp_path / "sums.parquet",
        )  # fmt: skip
        found: dict[str, Any] = json.loads((tmp_path / "scores.json").read_text())["baselines"]
        return found

    return scored


ONE, TWO, NORMAL = ("Edema",), ("Edema", "Fracture"), ("No_Finding",)


@pytest.mark.parametrize(
    ("training", "stated"),
    [
        ([ONE, ONE, ONE, TWO], ["Edema"]),  # 5 findings in 4 reports: 1.25
        ([ONE, TWO], ["Edema", "Fracture"]),  # 3 in 2: 1.5
        ([ONE, TWO, TWO, TWO], ["Edema", "Fracture"]),  # 7 in 4: 1.75
        ([ONE, NORMAL, NORMAL, NORMAL], ["Edema"]),  # 0.25: at least one
    ],
)
def test_as_many_findings_are_stated_as_a_report_has_on_average(
    training: list[Findings], stated: list[str], baselines: Callable[..., dict[str, Any]]
) -> None:
    assert baselines(training)["label_prior"]["pathologies"] == stated


def test_of_equally_common_findings_the_first_of_the_labels_is_stated(
    baselines: Callable[..., dict[str, Any]],
) -> None:
    found = baselines([("Pneumonia",), ("Fracture",), ("Cardiomegaly",)])
    assert found["label_prior"]["pathologies"] == ["Cardiomegaly"]


# "Evidence of edema …" sorts before "Evidence of fracture …" and "Evidence of pneumonia …".
@pytest.mark.parametrize("first", [0, 1, 2])
def test_of_equally_common_reports_the_one_that_sorts_first_is_given(
    first: int, baselines: Callable[..., dict[str, Any]]
) -> None:
    order: list[Findings] = [("Pneumonia",), ("Fracture",), ("Edema",)]
    training = order[first:] + order[:first] + [NORMAL]
    assert sorted(map(report, training))[0] == report(("Edema",))
    found = baselines(training, reference=("Edema",))["constant_report"]
    assert (found["bleu"], found["training_reports"]) == (pytest.approx(100), 1 / 4)


def test_a_commoner_report_goes_before_one_that_sorts_first(
    baselines: Callable[..., dict[str, Any]],
) -> None:
    found = baselines([("Edema",), ("Fracture",), ("Fracture",)], reference=("Fracture",))
    assert found["constant_report"]["bleu"] == pytest.approx(100)
    assert found["constant_report"]["training_reports"] == 2 / 3


def test_command_measures_brevity_by_the_shortest_of_several_references(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """All n-grams match; five tokens are compared with two by `bleu_0_1`, with six by `bleu`."""
    (tmp_path / "h.txt").write_text("a b c d e\n")
    (tmp_path / "r.txt").write_text("a b\na b c d e f\n")
    assert main([str(tmp_path / "h.txt"), str(tmp_path / "r.txt"), "--bootstrap-samples=2"]) == 0
    scores = json.loads(capsys.readouterr().out)
    assert scores["bleu_0_1"] == pytest.approx(1)
    assert scores["bleu"] == pytest.approx(81.873075)  # 100 exp(1 - 6 / 5)
