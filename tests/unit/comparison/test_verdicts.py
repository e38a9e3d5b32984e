"""Verdicts on what an arm has learnt, from predictions whose findings F1 is known by hand."""

import csv
import json
from pathlib import Path

import polars as pl
import pytest
from tiny_study import SCORE, task_of

from peft_ablation.comparison.page import shared_by_splits
from peft_ablation.comparison.table import compare_arms
from peft_ablation.scoring.scores import score_predictions
from peft_ablation.sources.mimic.labels import LABELS
from peft_ablation.sources.mimic.reports import load_template

TEMPLATE = load_template("corrected")
COST = {
    "base": "tiny", "trainable_parameters": 10, "total_parameters": 10, "rank": None,
    "adapter_mb": 1.0,
    "train_seconds": 1.0, "evaluate_seconds": 1.0, "saving_seconds": 1.0, "waiting_seconds": 1.0,
    "peak_memory_mb": 1.0, "mean_memory_mb": 1.0, "reserved_peak_memory_mb": 1.0,
    "reserved_mean_memory_mb": 1.0, "memory_kind": "process_rss", "energy_joules": None,
    "epochs": 1, "best_epoch": 1, "examples_per_second": 1.0, "tokens_per_second": 1.0,
    "device": "cpu", "precision": "fp32",
}  # fmt: skip
TRAINING: list[tuple[str, ...]] = [
    ("No_Finding",), ("No_Finding",), ("No_Finding",),
    ("Edema",), ("Edema", "Pneumonia"), ("Edema", "Fracture"), ("Edema", "Cardiomegaly"),
]  # fmt: skip
"""Findings of the training reports: the commonest report is normal, the commonest finding edema."""


def report(*findings: str) -> str:
    text = TEMPLATE.render(dict.fromkeys(findings, 1))
    assert text is not None
    return text


def verdicts(
    folder: Path,
    references: list[str],
    written: list[str],
    shuffled: list[str] | None,
) -> dict[str, str]:
    """The row of an arm that has `written` and, of shuffled images, `shuffled`; a finding each."""
    pl.DataFrame(
        [
            {label: int(label in row) or None for label in LABELS} | {"report": report(*row)}
            for row in TRAINING
        ],
        schema={**dict.fromkeys(LABELS, pl.Int8), "report": pl.String},
    ).write_parquet(folder / "train.parquet")
    table = pl.DataFrame(
        {
            "example_id": [f"d{row}" for row in range(len(references))],
            "group": [f"g{row}" for row in range(len(references))],
            "reference": [report(finding) for finding in references],
            "hypothesis": [report(finding) for finding in written],
            "tokens": pl.Series([10] * len(references), dtype=pl.Int32),
            "nll": [10.0] * len(references),
        }
    )
    if shuffled is not None:
        table = table.with_columns(
            pl.Series("hypothesis_shuffled", [report(finding) for finding in shuffled]),
            nll_shuffled=pl.lit(10.0),
        )
    table.write_parquet(folder / "predictions.parquet")
    scores, sums, cost = (folder / name for name in ("scores.json", "sums.parquet", "cost.json"))
    score_predictions(
        folder / "predictions.parquet", task=task_of(), train=folder / "train.parquet",
        bootstrap_samples=4, confidence=0.9, seed=1, output=scores, sums=sums,
    )  # fmt: skip
    cost.write_text(json.dumps(COST))
    compare_arms(
        runs=[("fft", 0)], scores=[scores], sums=[sums], costs=[cost],
        arms={"fft": {"method": "full", "learning_rate": 1e-3}}, task=task_of(),
        train=folder / "train.parquet", reference="fft", group="subject", study="toy",
        config={"score": SCORE}, confidence=0.9,
        published=[],
        table=folder / "comparison.csv", words=folder / "words.json",
        estimates=folder / "estimates.json",
        looks=folder / "looks.csv",
        markdown_page=folder / "comparison.md", html_page=folder / "comparison.html",
        manifest=folder / "manifest.json",
    )  # fmt: skip
    with (folder / "comparison.csv").open() as file:
        (row,) = csv.DictReader(file)
    return row


FOUR = ["Edema", "Fracture", "Pneumonia", "Cardiomegaly"]
"""Four images, a finding each."""


def test_all_right_and_nothing_right_without_the_images_is_learning(tmp_path: Path) -> None:
    row = verdicts(tmp_path, FOUR, FOUR, FOUR[1:] + FOUR[:1])
    assert float(row["findings_f1"]) == 1
    assert float(row["findings_f1_lost_when_shuffled"]) == 1
    assert row["honest_learning"] == "true"


def test_without_shuffled_images_it_is_unknown_whether_the_model_looks(tmp_path: Path) -> None:
    row = verdicts(tmp_path, FOUR, FOUR, None)
    assert row["beats_constant_report_bleu"] == row["beats_constant_report_findings_f1"] == "true"
    assert row["beats_label_prior_findings_f1"] == "true"
    assert row["loses_half_when_shuffled"] == row["honest_learning"] == ""


def test_without_shuffled_images_a_model_below_a_baseline_has_not_learnt(tmp_path: Path) -> None:
    row = verdicts(tmp_path, FOUR, ["Pneumothorax"] * 4, None)
    assert float(row["findings_f1"]) == 0
    assert row["honest_learning"] == "false"


def test_label_prior_is_a_baseline_of_its_own(tmp_path: Path) -> None:
    """The commonest report is normal, F1 0; the commonest finding is right in three of four."""
    row = verdicts(
        tmp_path,
        ["Edema", "Edema", "Edema", "Fracture"],
        ["Edema", "Pneumonia", "Pneumonia", "Pneumonia"],
        ["Pneumonia"] * 4,
    )
    assert float(row["findings_f1"]) == pytest.approx(1 / 4)
    assert float(row["constant_report_findings_f1"]) == 0
    assert float(row["label_prior_findings_f1"]) == pytest.approx(3 / 4)
    assert row["beats_constant_report_findings_f1"] == "true"
    assert row["beats_label_prior_findings_f1"] == "false"
    assert row["honest_learning"] == "false"


def test_as_good_as_a_baseline_does_not_beat_it(tmp_path: Path) -> None:
    row = verdicts(tmp_path, FOUR, ["Edema"] * 4, ["Pneumothorax"] * 4)
    assert float(row["findings_f1"]) == float(row["label_prior_findings_f1"]) > 0
    assert row["beats_label_prior_findings_f1"] == "false"


@pytest.mark.parametrize(
    ("right", "lost", "loses_half"), [(1, 3 / 4, "true"), (2, 1 / 2, "true"), (3, 1 / 4, "false")]
)
def test_half_of_the_score_lost_is_enough(
    right: int, lost: float, loses_half: str, tmp_path: Path
) -> None:
    """Of four findings `right` are right whatever the image, and the others another's."""
    shuffled = FOUR[:right] + ["Pneumothorax"] * (4 - right)
    row = verdicts(tmp_path, FOUR, FOUR, shuffled)
    assert float(row["findings_f1_shuffled"]) == pytest.approx(right / 4)
    assert float(row["findings_f1_lost_when_shuffled"]) == lost
    assert row["loses_half_when_shuffled"] == row["honest_learning"] == loses_half


def test_what_training_and_test_share_is_said_with_its_number():
    pairs = {"train_val": 5, "train_test": 0, "val_test": 5}
    splits = {
        "unit": "group",
        "leakage": {"group": pairs | {"train_test": 2}, "example": pairs | {"train_test": 9}},
        "equal_texts": {"text": pairs, "text_pair": pairs | {"train_test": 1234}},
    }
    told = shared_by_splits([splits, {"equal_images": pairs | {"train_test": 3}}])
    assert [line.partition(":")[0] for line in told] == [
        "Training and test share 2 groups",
        "Training and test share 1,234 texts (column text_pair; case and white space aside)",
        "Training and test share 3 images (pixel by pixel)",
    ]
    assert shared_by_splits([{"unit": "group", "leakage": {"group": pairs}}]) == []
