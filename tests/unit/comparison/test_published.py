"""Published numbers: to the digit, in our unit beside ours, and with what is not comparable."""

import re
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from peft_ablation.comparison.looks import COLUMNS
from peft_ablation.comparison.page import comparison_page
from peft_ablation.comparison.pages import Items, Table, html, markdown
from peft_ablation.comparison.published import (
    PUBLISHED,
    TITLES,
    Ours,
    published_blocks,
    read_published,
)
from peft_ablation.comparison.words import Words
from peft_ablation.config.arms import expanded_sweeps
from peft_ablation.config.loading import read_study
from peft_ablation.errors import InputError

HEADER = "arm,published_as,metric,value,unit,scale,source,not_comparable\n"
SHIPPED = sorted(path.stem for path in PUBLISHED.glob("*.csv"))
STUDIES = Path(__file__).resolve().parents[3] / "config" / "studies"
METRICS = {
    "accuracy", "matthews", "pearson", "bleu", "cider", "meteor", "nist", "rouge_l", "test_loss",
}  # fmt: skip


def words() -> Words:
    said = {
        "name": "accuracy", "title": "accuracy", "definition": "the share", "compared": True,
        "higher_is_better": True, "unit": "0 to 1", "digits": 3,
    }  # fmt: skip
    return Words(
        example="row", group="row", headline="accuracy", metrics={"accuracy": said},
        shown=("accuracy",), baselines={}, claims=(), extras=(),
    )  # fmt: skip


def number(**changed: Any) -> dict[str, Any]:
    return {
        "arm": "fft", "published_as": "FFT", "metric": "accuracy", "value": "91.65", "unit": "%",
        "scale": 100.0, "source": "a report", "not_comparable": "One run.", **changed,
    }  # fmt: skip


OURS = {
    "fft": {
        "arm": "fft", "accuracy": 0.9, "accuracy_low": 0.85, "accuracy_high": 0.95,
        "trainable_parameters": 5_526_346, "train_seconds": 61.26,
    },
}  # fmt: skip


def table(*numbers: dict[str, Any]) -> list[list[str]]:
    (found,) = [
        block
        for block in published_blocks({"s": Ours(words(), OURS, numbers)})
        if isinstance(block, Table)
    ]
    return [list(row) for row in found.rows]


def test_ours_stands_beside_it_in_its_unit_and_with_its_decimals() -> None:
    assert table(number()) == [
        ["FFT", "accuracy", "91.65 %", "90.00 [85.00, 95.00] %", "fft", "a report"]
    ]
    assert table(number(value="91.6"))[0][2:4] == ["91.6 %", "90.0 [85.0, 95.0] %"]


def test_costs_are_columns_too() -> None:
    found = table(
        number(metric="trainable_parameters", value="177418", unit="", scale=1.0),
        number(metric="train_seconds", value="2.5", unit="min", scale=1 / 60),
    )
    assert [row[1:4] for row in found] == [
        ["trainable parameters", "177,418", "5,526,346"], ["training time", "2.5 min", "1.0 min"],
    ]  # fmt: skip


def test_what_we_have_not_is_a_dash() -> None:
    found = table(number(arm=""), number(arm="lora"), number(metric="judge's grade"))
    assert [row[3:5] for row in found] == [["–", "–"], ["–", "lora"], ["–", "fft"]]


def test_reasons_are_told_once() -> None:
    blocks = published_blocks(
        {"s": Ours(words(), OURS, [number(), number(value="91.45"), number(not_comparable="")])}
    )
    (items,) = [block for block in blocks if isinstance(block, Items)]
    assert list(items.items) == ["One run."]


def test_across_studies_headlines_alone_are_shown_with_their_study() -> None:
    one = Ours(words(), OURS, [number(), number(metric="train_seconds", value="1", scale=1.0)])
    blocks = published_blocks({"a": one, "b": one, "c": Ours(words(), OURS, ())})
    (found,) = [block for block in blocks if isinstance(block, Table)]
    assert [row[:3] for row in found.rows] == [["a", "FFT", "accuracy"], ["b", "FFT", "accuracy"]]
    (items,) = [block for block in blocks if isinstance(block, Items)]
    assert list(items.items) == ["a, b: One run."]


def test_a_study_without_published_numbers_has_no_such_section() -> None:
    assert read_published("phantom_cxr") == []
    assert read_published("glue_cola.smoke") == []
    assert published_blocks({"s": Ours(words(), OURS, [])}) == []


def test_the_page_of_a_comparison_has_the_section_in_both_forms() -> None:
    row = {
        **OURS["fft"], "seeds": 2, "test_examples": 5, "test_groups": 5, "accuracy_sd": 0.1,
        "accuracy_shuffled": 0.1, "accuracy_lost_when_shuffled": 1.0, "rank": None,
        "loses_half_when_shuffled": True, "honest_learning": True, "trainable_percent": 100.0,
        "examples_per_second": 1.0, "base": "b", "peak_memory_mb": 1.0, "adapter_mb": 1.0,
        "learning_rate": 1e-3, "best_epoch": "1", "epochs": 1, "memory_kind": "x", "device": "x",
        "precision": "x", "tuning": "not tuned", "learning_rate_at_edge": None,
    }  # fmt: skip

    def page(published: list[dict[str, Any]]) -> Any:
        return comparison_page(
            [row],
            words(),
            pl.DataFrame(schema=COLUMNS),
            study="s",
            reference="fft",
            confidence=0.95,
            tested=(),
            published=published,
        )

    assert "## Published" in markdown(page([number()]))
    assert "<td>91.65 %</td>" in html(page([number()]), "x")
    assert "- One run." in markdown(page([number()]))
    assert "they do not belong beside these" not in markdown(page([number()]))
    assert "Published" not in markdown(page([]))


# -- files -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("study", SHIPPED)
def test_arms_and_measures_of_shipped_numbers_are_those_of_their_study(study: str) -> None:
    raw, _ = read_study(study, [STUDIES])
    for row in read_published(study, [PUBLISHED]):
        assert row["arm"] in {"", *expanded_sweeps(raw["arms"])}, row
        assert row["metric"] in METRICS | TITLES.keys(), row
        assert row["source"], row


@pytest.mark.parametrize("study", SHIPPED)
def test_shipped_values_are_those_that_were_read_in_the_reports(
    study: str, shared_data: Path
) -> None:
    notes = [shared_data.parent / name for name in ("FACTS.md", "recipes/companions.md")]
    if not all(path.is_file() for path in notes):
        pytest.skip(f"no {' or '.join(map(str, notes))}")
    texts = " ".join(path.read_text().replace(",", "") for path in notes)
    read = set(re.findall(r"\d*\.\d+|\d+", texts))
    for row in read_published(study, [PUBLISHED]):
        assert row["value"] in read, row


def test_the_published_rank_sweeps_are_whole_and_say_what_is_wrong_with_them() -> None:
    def series(study: str, metric: str) -> list[str]:
        found = read_published(study, [PUBLISHED])
        return [n["value"] for n in found if n["metric"] == metric and "sweep" in n["published_as"]]

    assert len(series("e2e_gpt2_ranks", "trainable_percent")) == 11
    medium = [float(value) for value in series("e2e_gpt2_ranks", "bleu")]
    assert len(medium) == 11
    # What the remark says of the sweep, from the numbers themselves.
    assert round(max(medium) - min(medium), 3) == 0.037
    twice = [n for n in read_published("e2e_gpt2_ranks", [PUBLISHED]) if n["arm"] == "lora_r4"]
    scores = [n for n in twice if n["metric"] == "bleu"]
    assert round(float(scores[1]["value"]) - float(scores[0]["value"]), 3) == 0.029
    assert all(".029 apart" in number["not_comparable"] for number in scores)
    assert len(series("squad_gpt2_ranks", "bleu")) == 11
    assert set(series("squad_gpt2_ranks", "cider")) == {"0.0917"}
    large = read_published("e2e_gpt2_large_ranks", [PUBLISHED])
    assert [n["value"] for n in large if n["metric"] == "bleu"] == ["0.0000"]


def test_own_numbers_go_before_the_shipped_ones(tmp_path: Path) -> None:
    (tmp_path / "glue_rte.csv").write_text(
        f"{HEADER}lora,theirs,accuracy,70,%,100,a blog,\n", encoding="utf-8"
    )
    (row,) = read_published("glue_rte", [tmp_path, PUBLISHED])
    assert (row["value"], row["scale"], row["not_comparable"]) == ("70", 100.0, "")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("arm,value\nfft,3\n", "found the columns arm, value, expected arm, published_as, "),
        (f"{HEADER}fft,x,accuracy,high,%,100,y,\n", "row 1: value: found 'high', expected a num"),
        (
            f"{HEADER}fft,x,accuracy,9,%,100,y,\nfft,x,accuracy,9,%,0,y,\n",
            "row 2: scale: found '0'",
        ),
        (f"{HEADER}fft,x,accuracy,nan,%,100,y,\n", "row 1: value: found 'nan', expected a number"),
        (f"{HEADER}fft,x,accuracy,9,%,100\n", "row 1: found 6 cells, expected 8; quote commas"),
        (f"{HEADER}a,b,c,1,%,1,s,one, two\n", "row 1: found 9 cells, expected 8; quote commas"),
    ],
)
def test_a_table_of_published_numbers_that_is_none_is_refused(
    content: str, told: str, tmp_path: Path
) -> None:
    path = tmp_path / "mine.csv"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(InputError) as refused:
        read_published("mine", [tmp_path])
    assert str(refused.value).startswith(f"{path}: {told}"), refused.value
    assert "\n" not in str(refused.value)
