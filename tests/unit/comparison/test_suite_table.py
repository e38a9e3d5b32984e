"""The comparison across studies: means, ranks and verdicts worked out by hand."""

from pathlib import Path
from typing import Any

import polars as pl
import pytest
from studies_made_up import outcome, parts, words

from peft_ablation.artifacts import write_json
from peft_ablation.comparison.pages import Heading, Items, Table
from peft_ablation.comparison.suite import Outcome, compare_studies, suite_rows
from peft_ablation.comparison.suite_page import suite_page


def by_arm(*outcomes: Outcome) -> dict[str, dict[str, Any]]:
    return {row["arm"]: row for row in suite_rows(outcomes, 0.95)}


def test_mean_and_mean_rank_of_two_studies() -> None:
    found = by_arm(
        outcome("a", {"fft": 0.75, "lora": 0.5, "head": 0.25}),
        outcome("b", {"fft": 0.5, "lora": 1.0, "head": 0.0}),
    )
    assert [row["mean"] for row in found.values()] == [0.625, 0.75, 0.125]
    assert [row["mean_rank"] for row in found.values()] == [1.5, 1.5, 3.0]
    assert [row["mean_difference"] for row in found.values()] == [None, 0.125, -0.5]
    assert [row["shared"] for row in found.values()] == [2, 2, 2]


def test_equal_scores_share_the_mean_of_their_ranks() -> None:
    found = by_arm(outcome("a", {"fft": 0.5, "lora": 0.5, "head": 0.25}))
    assert [row["a_rank"] for row in found.values()] == [1.5, 1.5, 3.0]


def test_the_smallest_of_errors_has_rank_one_and_a_fall_is_better() -> None:
    error = words("error", higher=False)
    lower = {"error_difference": -0.2, "error_difference_low": -0.3, "error_difference_high": -0.1}
    found = by_arm(outcome("a", {"fft": 0.5, "lora": 0.3}, said=error, lora=lower))
    assert [row["a_rank"] for row in found.values()] == [2.0, 1.0]
    assert found["lora"]["a_verdict"] == "better"


def test_there_is_no_mean_of_scores_of_opposite_directions_but_there_are_ranks() -> None:
    rows = suite_rows(
        studies := [
            outcome("a", {"fft": 0.5, "lora": 0.75}),
            outcome("b", {"fft": 3.0, "lora": 2.0}, said=words("error", higher=False)),
        ],
        0.95,
    )
    assert [row["mean"] for row in rows] == [None, None]
    assert [row["mean_rank"] for row in rows] == [2.0, 1.0]
    assert any("There is no mean score" in line for line in caveats(rows, studies))


def test_means_are_over_the_studies_that_every_arm_has_a_score_in() -> None:
    found = by_arm(
        outcome("a", {"fft": 0.5, "lora": 0.25}),
        outcome("b", {"fft": 1.0}),
        outcome("c", {"fft": 0.0, "lora": None}),
    )
    assert [found[arm]["mean"] for arm in ("fft", "lora")] == [0.5, 0.25]
    assert [found[arm]["mean_of_all"] for arm in ("fft", "lora")] == [0.5, None]
    assert [found[arm]["studies"] for arm in ("fft", "lora")] == [3, 2]
    assert found["fft"]["shared"] == 1
    assert found["lora"]["b"] is None


def test_without_a_shared_study_there_is_neither_mean_nor_rank() -> None:
    studies = [outcome("a", {"fft": 0.5}), outcome("b", {"lora": 0.5})]
    rows = suite_rows(studies, 0.95)
    assert [(row["mean"], row["mean_rank"]) for row in rows] == [(None, None)] * 2
    assert any("No study has all arms" in line for line in caveats(rows, studies))


def test_verdicts_are_counted_over_studies() -> None:
    def difference(low: float, high: float) -> dict[str, float]:
        return {"accuracy_difference_low": low, "accuracy_difference_high": high}

    found = by_arm(
        outcome("a", {"fft": 0.5, "lora": 0.6}, lora=difference(0.05, 0.15)),
        outcome("b", {"fft": 0.5, "lora": 0.4}, lora=difference(-0.2, -0.1)),
        outcome("c", {"fft": 0.5, "lora": 0.5}, lora=difference(-0.1, 0.0)),
        outcome("d", {"fft": 0.5, "lora": 0.4}, lora=difference(-0.2, -0.1)),
    )
    lora = found["lora"]
    assert (lora["better"], lora["worse"], lora["not_told_apart"]) == (1, 2, 1)
    assert found["fft"]["better"] == found["fft"]["not_told_apart"] == 0


def test_there_is_no_mean_difference_where_references_differ() -> None:
    found = by_arm(
        outcome("a", {"fft": 0.5, "lora": 0.25}), outcome("b", {"lora": 0.5, "fft": 0.25})
    )
    assert [row["mean_difference"] for row in found.values()] == [None, None]


def caveats(rows: list[dict[str, Any]], outcomes: list[Outcome]) -> list[str]:
    blocks = suite_page(rows, outcomes, suite="x", title="X", confidence=0.95, published={})
    (place,) = [
        number for number, block in enumerate(blocks)
        if isinstance(block, Heading) and block.text == "What is not comparable"
    ]  # fmt: skip
    found = blocks[place + 1]
    assert isinstance(found, Items)
    return list(found.items)


def test_a_mean_of_different_metrics_is_called_so() -> None:
    studies = [outcome("a", {"fft": 0.5}), outcome("b", {"fft": 0.5}, said=words("matthews"))]
    lines = caveats(suite_rows(studies, 0.95), studies)
    assert any("different metrics (accuracy, matthews)" in line for line in lines)
    alike = [outcome("a", {"fft": 0.5}), outcome("b", {"fft": 0.5})]
    assert not any("different metrics" in line for line in caveats(suite_rows(alike, 0.95), alike))


def test_the_page_shows_what_needs_no_training_in_rows_of_its_own() -> None:
    studies = [outcome("a", {"fft": 0.5}), outcome("b", {"fft": 0.75})]
    blocks = suite_page(
        suite_rows(studies, 0.95), studies, suite="x", title="X", confidence=0.95, published={}
    )
    table = next(block for block in blocks if isinstance(block, Table))
    assert [list(row) for row in table.rows] == [
        ["fft", "0.50", "0.75"],
        ["commonest class, always (no training)", "0.25", "0.25"],
    ]


def test_the_interval_of_a_mean_is_that_of_independent_studies() -> None:
    """Of n scores of one variance, the mean has that variance over n."""
    studies = []
    for name in ("a", "b", "c", "d"):
        one = outcome(name, {"fft": 0.5, "lora": 0.75})
        estimates = {
            "fft": {"score": parts(0.5, 0.01), "difference": None},
            "lora": {"score": parts(0.75, 0.01), "difference": parts(0.25, 0.0004)},
        }
        studies.append(Outcome(name, one.words, one.rows, estimates))
    fft, lora = suite_rows(studies, 0.95)
    assert (fft["mean"], lora["mean_difference"]) == (0.5, 0.25)
    assert fft["mean_high"] - 0.5 == pytest.approx(1.96 * 0.05, abs=1e-4)
    assert 0.25 - lora["mean_difference_low"] == pytest.approx(1.96 * 0.01, abs=1e-4)


def test_without_an_estimate_in_a_study_there_is_no_mean() -> None:
    whole, lacking = outcome("a", {"fft": 0.5}), outcome("b", {"fft": 0.5})
    lacking = Outcome("b", lacking.words, lacking.rows, {"fft": {"score": None}})
    assert by_arm(whole, lacking)["fft"]["mean"] is None


def test_tables_and_pages_are_written_from_what_studies_wrote(tmp_path: Path) -> None:
    for name in ("a", "b"):
        found = outcome(name, {"fft": 0.5, "lora": 0.75})
        pl.DataFrame(list(found.rows.values()), infer_schema_length=None).write_csv(
            tmp_path / f"{name}.csv"
        )
        write_json(tmp_path / f"{name}.words.json", found.words.as_json())
        write_json(tmp_path / f"{name}.estimates.json", {"other": {}, "accuracy": found.estimates})
    compare_studies(
        suite="s.smoke", title="S", studies=["a", "b"],
        tables=[tmp_path / "a.csv", tmp_path / "b.csv"],
        words=[tmp_path / "a.words.json", tmp_path / "b.words.json"],
        estimates=[tmp_path / "a.estimates.json", tmp_path / "b.estimates.json"],
        confidence=0.95, published={}, table=tmp_path / "s.csv",
        tests=tmp_path / "tests.csv", summary=tmp_path / "s.txt", markdown_page=tmp_path / "s.md",
        html_page=tmp_path / "s.html",
    )  # fmt: skip
    rows = pl.read_csv(tmp_path / "s.csv", infer_schema_length=None)
    assert rows.select("arm", "mean", "a", "b_rank").rows() == [
        ("fft", 0.5, 0.5, 2.0), ("lora", 0.75, 0.75, 1.0),
    ]  # fmt: skip
    assert "Its scores mean nothing." in (tmp_path / "s.md").read_text()
    assert "<h1>S: comparison across studies</h1>" in (tmp_path / "s.html").read_text()
