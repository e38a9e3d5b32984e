"""Claims beside the truth: rows, words, and what full fine-tuning buys."""

import json
import math
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from tiny_study import task_of

from peft_ablation.comparison.claims import (
    as_published_blocks,
    as_published_columns,
    compare_claims,
    counterpart,
    in_order,
)
from peft_ablation.comparison.pages import markdown
from peft_ablation.comparison.words import Words
from peft_ablation.errors import InputError
from peft_ablation.figures.claims import plot_claims
from peft_ablation.figures.headline import bought, plot_headline
from peft_ablation.sources.mimic.labels import LABELS
from peft_ablation.tasks import task_class

TRAINING = pl.DataFrame({label: [1, None] for label in LABELS} | {"report": ["a.", "b."]})
ARMS: dict[str, dict[str, Any]] = {
    "fft": {"learning_rate": 2e-3, "as_published": None},
    "fft_all": {
        "learning_rate": 1e-5,
        "as_published": {"prompt_as_input": True, "test_examples": 64},
    },
    "lora": {"learning_rate": 1e-2, "as_published": None},
}
TRUE = {
    "fft": (0.4, 60.0, 0.60), "fft_all": (3.0, 5.0, 0.10), "lora": (0.5, 58.0, 0.57),
}  # fmt: skip
CLAIMED = {"fft": [(0.4, 60.0, 0.60)] * 2, "lora": [(0.5, 58.0, 0.57)] * 2,
           "fft_all": [(6.0, 9.0, 0.13), (8.0, 11.0, 0.11)]}  # fmt: skip
MEASURES = ("test_loss", "bleu", "findings_f1")
V = 150


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """A folder with comparison, words, claims and what `compare_claims` makes of them."""
    said = Words.of(task_class("captioning")(task_of(), TRAINING), "subject", list(MEASURES[1:]))
    (tmp_path / "words.json").write_text(json.dumps(said.as_json(), sort_keys=True))
    rows: list[dict[str, Any]] = []
    for arm, values in TRUE.items():
        row: dict[str, Any] = {"arm": arm, "reference_arm": "fft", "findings_f1_margin": 0.05}
        row |= {"peak_memory_mb": 900.0, "train_seconds": 30.0, "learning_rate": 1e-3}
        for measure, value, first in zip(MEASURES, values, TRUE["fft"], strict=True):
            row |= {
                measure: value, f"{measure}_low": 0.9 * value, f"{measure}_high": 1.1 * value,
                f"{measure}_difference": None if arm == "fft" else value - first,
                f"{measure}_difference_low": None if arm == "fft" else value - first - 0.01,
                f"{measure}_difference_high": None if arm == "fft" else value - first + 0.02,
            }  # fmt: skip
        rows.append(row)
    pl.DataFrame(rows, infer_schema_length=None).write_csv(tmp_path / "comparison.csv")
    claims = [
        {
            "arm": arm, "seed": seed, "measure": measure, "claimed": values[place],
            "true": TRUE[arm][place], "uniform": math.log(V) if measure == "test_loss" else None,
        }
        for arm, by_seed in CLAIMED.items()
        for seed, values in enumerate(by_seed)
        for place, measure in enumerate(MEASURES)
    ]  # fmt: skip
    pl.DataFrame(claims, infer_schema_length=None).write_csv(tmp_path / "claims.csv")
    compare_claims(
        claims=tmp_path / "claims.csv", comparison=tmp_path / "comparison.csv",
        words=tmp_path / "words.json", arms=ARMS, study="toy", confidence=0.95,
        output=tmp_path / "claimed.csv", page=tmp_path / "audit.md",
    )  # fmt: skip
    return tmp_path


def rows_of(folder: Path) -> dict[tuple[str, str], dict[str, Any]]:
    table = pl.read_csv(folder / "claimed.csv", infer_schema_length=None)
    return {(row["arm"], row["measure"]): row for row in table.iter_rows(named=True)}


def test_claims_are_means_over_seeds_beside_the_truth_with_its_interval(written: Path) -> None:
    row = rows_of(written)["fft_all", "test_loss"]
    assert row["claimed"] == pytest.approx(7.0)
    assert (row["true"], row["true_low"], row["true_high"]) == pytest.approx((3.0, 2.7, 3.3))
    assert (row["counterpart"], row["as_published"]) == ("fft", "prompt_as_input test_examples")


def test_the_page_says_what_is_wrong_in_words(written: Path) -> None:
    page = (written / "audit.md").read_text()
    assert (
        "fft_all: claims a loss of 7.000 where 3.000 is true, worse than a uniform guess (5.011); "
        in page
    )
    assert "findings F1 0.100 [0.090, 0.110], claimed 0.120, outside of its interval, " in page
    assert "0.500 below fft" in page
    assert "Prompt as input: Inputs are not the labels" in page
    assert "ln 150 = 5.011" in page
    assert "fft: claims" not in page


def test_an_arm_is_named_after_the_one_that_it_differs_from() -> None:
    names = ["fft", "lora", "lora_text", "lora_text_padding", "fftish"]
    assert counterpart("lora_text_padding", names) == "lora_text"
    assert counterpart("fftish", names) is None
    mixed = ["fft", "lora", "fft_all", "untrained", "lora_all"]
    assert in_order(mixed) == ["fft", "fft_all", "lora", "lora_all", "untrained"]


def test_the_comparison_warns_of_arms_with_defects_and_of_no_others() -> None:
    rows = [{"arm": name, **as_published_columns(arm)} for name, arm in ARMS.items()]
    page = markdown(as_published_blocks(rows))
    assert "| fft_all | prompt as input, test examples |" in page
    assert "Test examples: Scores are claimed" in page and "Padding supervised" not in page
    assert "| lora |" not in page
    assert as_published_blocks([row for row in rows if row["arm"] != "fft_all"]) == []


def test_the_figure_of_claims_has_a_row_a_measure_and_arm(written: Path) -> None:
    outputs = [written / "claims.svg", written / "claims.csv"]
    plot_claims(written / "claimed.csv", words=written / "words.json", outputs=outputs)
    table = pl.read_csv(outputs[1], infer_schema_length=None)
    assert table.select("arm", "measure").rows() == [
        (arm, measure) for arm in ARMS for measure in MEASURES
    ]


def test_what_full_fine_tuning_buys_is_the_difference_turned_round(written: Path) -> None:
    found = {
        (row["arm"], row["metric"]): row
        for row in bought(written / "comparison.csv", written / "claimed.csv", ["findings_f1"])
    }
    row = found["lora", "findings_f1"]
    assert (row["bought"], row["bought_low"], row["bought_high"]) == pytest.approx(
        (0.03, 0.01, 0.04)
    )
    assert (row["margin"], row["claimed"]) == pytest.approx((0.05, 0.03))
    assert found["fft_all", "findings_f1"]["claimed"] == pytest.approx(0.60 - 0.12)
    plot_headline(
        written / "comparison.csv", claimed=written / "claimed.csv",
        words=written / "words.json", outputs=[written / "headline.png"],
    )  # fmt: skip
    assert (written / "headline.png").read_bytes().startswith(b"\x89PNG")


def test_studies_without_a_common_arm_have_no_headline(written: Path) -> None:
    table = pl.read_csv(written / "claimed.csv").filter(pl.col("arm") == "fft")
    table.write_csv(written / "fewer.csv")
    with pytest.raises(InputError, match="no arm of"):
        bought(written / "comparison.csv", written / "fewer.csv", ["bleu"])
