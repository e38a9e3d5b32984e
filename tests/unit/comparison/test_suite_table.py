"""The comparison across studies: means, ranks and verdicts worked out by hand."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from peft_ablation.artifacts import write_json
from peft_ablation.comparison.pages import Heading, Items, Table
from peft_ablation.comparison.suite import Outcome, compare_studies, suite_rows
from peft_ablation.comparison.suite_page import suite_page
from peft_ablation.comparison.words import Words

FLAT = dict.fromkeys(("low", "high"), None)


def words(metric: str = "accuracy", higher: bool = True) -> Words:
    said = {
        "name": metric, "title": metric, "definition": f"what {metric} is", "compared": True,
        "higher_is_better": higher, "unit": "0 to 1", "digits": 2,
    }  # fmt: skip
    return Words(
        example="row", group="row", headline=metric, metrics={metric: said}, shown=(metric,),
        baselines={"majority": "commonest class, always"}, claims=(), extras=(),
    )  # fmt: skip


def outcome(
    study: str, scores: dict[str, float | None], *, said: Words | None = None, **by_arm: Any
) -> Outcome:
    """A study with these scores by arm; the first arm is the reference. `by_arm`: other columns."""
    said = said or words()
    reference, name = next(iter(scores)), said.headline
    rows = {
        arm: {
            "arm": arm, "reference_arm": reference, "honest_learning": True, "seeds": 2,
            "trainable_parameters": 10, "train_seconds": 1.5, f"majority_{name}": 0.25,
            name: score, f"{name}_low": None, f"{name}_high": None,
            **{f"{name}_difference{end}": None for end in ("", "_low", "_high")},
            **by_arm.get(arm, {}),
        }
        for arm, score in scores.items()
    }  # fmt: skip
    drawn = {arm: np.full(4, score or 0.0) for arm, score in scores.items()}
    return Outcome(study, said, rows, drawn)


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
    blocks = suite_page(rows, outcomes, suite="x", title="X", confidence=0.95)
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
    blocks = suite_page(suite_rows(studies, 0.95), studies, suite="x", title="X", confidence=0.95)
    table = next(block for block in blocks if isinstance(block, Table))
    assert [list(row) for row in table.rows] == [
        ["fft", "0.50", "0.75"],
        ["commonest class, always (no training)", "0.25", "0.25"],
    ]


# -- intervals, from files -------------------------------------------------------------------------


@pytest.fixture
def write(tmp_path: Path) -> Any:
    """Return a function that writes a study's comparison with the given replicates by arm."""

    def written(study: str, drawn: dict[str, Any]) -> dict[str, Path]:
        folder = tmp_path / study
        folder.mkdir()
        rows = outcome(study, {arm: float(np.mean(v)) for arm, v in drawn.items()}).rows
        pl.DataFrame(list(rows.values()), infer_schema_length=None).write_csv(folder / "table.csv")
        write_json(folder / "words.json", words().as_json())
        pl.DataFrame(
            [{"arm": arm, "metric": m, "replicates": list(v)}
             for arm, v in drawn.items() for m in ("other", "accuracy")]
        ).write_parquet(folder / "replicates.parquet")  # fmt: skip
        return {
            "tables": folder / "table.csv", "words": folder / "words.json",
            "replicates": folder / "replicates.parquet",
        }  # fmt: skip

    return written


def compared(tmp_path: Path, files: dict[str, dict[str, Path]]) -> dict[str, dict[str, Any]]:
    compare_studies(
        suite="s.smoke", title="S", studies=list(files),
        **{key: [each[key] for each in files.values()]
           for key in ("tables", "words", "replicates")},
        confidence=0.95, table=tmp_path / "s.csv", markdown_page=tmp_path / "s.md",
        html_page=tmp_path / "s.html",
    )  # fmt: skip
    rows = pl.read_csv(tmp_path / "s.csv", infer_schema_length=None)
    return {row["arm"]: row for row in rows.iter_rows(named=True)}


def width(row: dict[str, Any], name: str) -> float:
    return float(row[f"{name}_high"] - row[f"{name}_low"])


def test_test_sets_are_independent_whatever_order_their_resamples_are_in(
    write: Any, tmp_path: Path
) -> None:
    """The mean of n independent scores of one spread has that spread over the root of n."""
    drawn = {"fft": np.random.default_rng(0).normal(0.5, 0.1, 4000)}
    single = np.quantile(drawn["fft"], 0.975) - np.quantile(drawn["fft"], 0.025)
    files = {f"study{number}": write(f"study{number}", drawn) for number in range(4)}
    found = compared(tmp_path, files)
    assert width(found["fft"], "mean") == pytest.approx(single / 2, rel=0.06)


def test_differences_stay_paired_within_a_study(write: Any, tmp_path: Path) -> None:
    drawn = np.random.default_rng(0).normal(0.5, 0.1, 400)
    both = {"fft": drawn, "lora": drawn + 0.125}
    found = compared(tmp_path, {"a": write("a", both), "b": write("b", both)})["lora"]
    assert found["mean_difference"] == pytest.approx(0.125)
    assert width(found, "mean_difference") == pytest.approx(0, abs=1e-12)
    assert width(found, "mean") > 0.1


def test_pages_of_a_smoke_run_say_so(write: Any, tmp_path: Path) -> None:
    compared(tmp_path, {"a": write("a", {"fft": np.full(10, 0.5)})})
    assert "Its scores mean nothing." in (tmp_path / "s.md").read_text()
    assert "<h1>S: comparison across studies</h1>" in (tmp_path / "s.html").read_text()
