"""The critical-difference figure: the ranks and bars behind it, and what it says without a test."""

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from peft_ablation.artifacts import write_json
from peft_ablation.figures import style
from peft_ablation.figures.critical_difference import plot_critical_difference

ARMS = ("fft", "lora", "bitfit", "head")


@pytest.fixture
def draw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that draws studies of given scores; gives the table and the SVG."""
    # Text as text, so that a test can read it.
    monkeypatch.setitem(style.SETTINGS, "svg.fonttype", "none")

    def drawn(*scores: dict[str, float], confidence: float = 0.95) -> tuple[pl.DataFrame, str]:
        names = [f"s{place}" for place in range(len(scores))]
        said = {
            "name": "f1", "title": "F1", "definition": "F1", "compared": True, "digits": 2,
            "higher_is_better": True, "unit": "0 to 1",
        }  # fmt: skip
        words = {
            "example": "row", "group": "row", "headline": "f1", "metrics": [said],
            "shown": ["f1"], "baselines": [], "claims": [], "extras": [], "controls": [],
        }  # fmt: skip
        for name, by_arm in zip(names, scores, strict=True):
            rows = [{"arm": arm, "reference_arm": "fft", "f1": f1} for arm, f1 in by_arm.items()]
            pl.DataFrame(rows).write_csv(tmp_path / f"{name}.csv")
            write_json(tmp_path / f"{name}.json", words)
        outputs = [tmp_path / f"figure.{ending}" for ending in ("svg", "png", "csv")]
        plot_critical_difference(
            [tmp_path / f"{name}.csv" for name in names],
            words=[tmp_path / f"{name}.json" for name in names],
            studies=names, confidence=confidence, outputs=outputs,
        )  # fmt: skip
        return pl.read_csv(outputs[2]), outputs[0].read_text()

    return drawn


def test_ranks_and_bars_of_four_arms_in_eight_studies(draw: Any) -> None:
    scores = dict(zip(ARMS, (0.9, 0.8, 0.7, 0.6), strict=True))
    table, picture = draw(*[scores] * 8)
    # 2.569 x sqrt(4 x 5 / (6 x 8)), Demsar's table 5.
    assert table["critical_difference"].to_list() == pytest.approx([1.658] * 4, abs=1e-3)
    assert table.select("arm", "mean_rank", "bars").rows() == [
        ("fft", 1, "1"), ("lora", 2, "1 2"), ("bitfit", 3, "2 3"), ("head", 4, "3"),
    ]  # fmt: skip
    assert "critical difference 1.66, 8 studies" in picture
    assert "no difference" not in picture
    assert all(f"{arm} {place}.00" in picture for place, arm in enumerate(ARMS, 1))
    # A bar for each set: nothing else is so thick.
    assert picture.count('stroke-width: 3"') == 3


def test_without_a_test_it_says_so(draw: Any) -> None:
    table, picture = draw({"fft": 0.5, "lora": 0.6}, {"fft": 0.5, "lora": 0.4})
    assert table["mean_rank"].to_list() == [1.5, 1.5]
    assert table["bars"].to_list() == ["", ""]
    assert "2 studies with all arms, 2 arms: not tested" in picture
    table, picture = draw({"fft": 0.5}, {"lora": 0.4})
    assert table.is_empty()
    assert "0 studies with all arms, 0 arms: not tested" in picture


def test_chance_is_said_to_be_chance(draw: Any) -> None:
    _, picture = draw(
        {"fft": 0.9, "lora": 0.8, "head": 0.7}, {"fft": 0.7, "lora": 0.9, "head": 0.8}
    )
    assert "no difference" in picture
