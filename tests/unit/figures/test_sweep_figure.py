"""The figure over rank: lines, single seeds, published points and the reference at their places."""

from pathlib import Path
from typing import Any

import polars as pl
import pytest
from matplotlib.axes import Axes

from peft_ablation.comparison.sweep import POINTS, SPREADS
from peft_ablation.figures import sweep

SCORES = {1: 64.0, 4: 65.0, 16: 66.0}


def write(folder: Path, base: str, published: dict[int, float], up: float = 0.0) -> list[Path]:
    """Points and spreads of a study: BLEU and the validation loss of three ranks, and fft."""
    rows: list[dict[str, Any]] = []
    for metric, unit in (("bleu", "0 to 100"), ("best_val_loss", None)):
        told = {"metric": metric, "title": metric, "unit": unit, "digits": 1, "base": base}
        for rank, bleu in SCORES.items():
            score = bleu + up if metric == "bleu" else 2.0
            ours = {"kind": "ours", "line": "lora", "arm": f"lora_r{rank}", "swept": float(rank)}
            place = {**told, **ours, "trainable_percent": 0.02 * rank}
            seeds = f"{score - 0.5} {score + 0.5}"
            rows.append({**place, "score": score, "low": score - 1, "high": score + 1} |
                        {"by_seed": seeds})  # fmt: skip
            if metric == "bleu" and rank in published:
                rows.append({**place, "kind": "published", "score": published[rank]})
        rows.append({**told, "kind": "reference", "arm": "fft", "trainable_percent": 100.0} |
                    {"score": 65.5 + up, "low": 65.0, "high": 66.0})  # fmt: skip
    said = {"line": "lora", "metric": "bleu", "title": "BLEU", "values": 3}
    said |= {"seeds": 2, "sd_between": 1.06, "sd_seeds": 0.71, "matters": "undecided"}
    paths = [folder / f"{base}_sweep.csv", folder / f"{base}_spread.csv"]
    pl.DataFrame(rows, schema=POINTS).write_csv(paths[0])
    pl.DataFrame([said], schema=SPREADS).write_csv(paths[1])
    return paths


@pytest.fixture
def draw(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that draws studies; gives the figure and the table behind it."""
    found: dict[str, Any] = {}
    monkeypatch.setattr(
        sweep, "write_figure", lambda figure, table, _: found.update(f=figure, t=table)
    )

    def drawn(*studies: list[Path], key: str = "r") -> tuple[Any, pl.DataFrame]:
        names = [f"s{place}" for place in range(len(studies))]
        points, spreads = zip(*studies, strict=True)
        sweep.plot_sweep(points, spreads, studies=names, key=key, outputs=[])
        return found["f"], found["t"]

    return drawn


def hollow(axis: Axes) -> list[tuple[float, float]]:
    return [
        (float(line.get_xdata()[0]), float(line.get_ydata()[0]))  # type: ignore[index]
        for line in axis.lines
        if line.get_markerfacecolor() == "white"
    ]


def test_published_points_stand_at_rank_and_share(draw: Any, tmp_path: Path) -> None:
    figure, table = draw(write(tmp_path, "medium", {1: 64.4, 4: 63.3, 16: 66.2}))
    by_rank, by_share, loss, _ = figure.axes
    assert hollow(by_rank) == [(1, 64.4), (4, 63.3), (16, 66.2)]
    assert hollow(by_share) == [(0.02, 64.4), (0.08, 63.3), (0.32, 66.2)]
    assert hollow(loss) == []
    assert table.filter(pl.col("kind") == "published")["score"].to_list() == [64.4, 63.3, 66.2]
    assert table["study"].unique().to_list() == ["s0"]


def test_means_are_a_line_and_seeds_stand_beside_them(draw: Any, tmp_path: Path) -> None:
    figure, _ = draw(write(tmp_path, "medium", {}))
    axis = figure.axes[0]
    (means,) = [line for line in axis.lines if len(line.get_xdata()) == 3]
    assert list(means.get_ydata()) == [64.0, 65.0, 66.0]
    seeds = [line for line in axis.lines if line.get_marker() == "."]
    assert [list(line.get_ydata()) for line in seeds] == [[63.5, 64.5], [64.5, 65.5], [65.5, 66.5]]
    assert all(line.get_xdata()[0] > rank for line, rank in zip(seeds, SCORES, strict=True))
    assert axis.get_title(loc="left") == "SD 1.1 between ranks, 0.71 between seeds: undecided"
    assert [text.get_text() for text in axis.get_xticklabels()] == ["1", "4", "16"]
    assert figure.axes[2].get_ylabel() == "Best_val_loss"


def test_the_reference_stands_at_its_share_and_over_all_ranks(draw: Any, tmp_path: Path) -> None:
    figure, _ = draw(write(tmp_path, "medium", {}))
    by_rank, by_share = figure.axes[:2]
    dashes = [line for line in by_rank.lines if list(line.get_ydata()) == [65.5, 65.5]]
    assert len(dashes) == 1
    (star,) = [line for line in by_share.lines if line.get_marker() == "*"]
    assert (star.get_xdata()[0], star.get_ydata()[0]) == (100.0, 65.5)


def test_a_single_number_far_from_all_stands_at_the_edge_with_its_value(
    draw: Any, tmp_path: Path
) -> None:
    figure, table = draw(write(tmp_path, "large", {1: 0.0}))
    axis = figure.axes[0]
    low, high = axis.get_ylim()
    assert 62 < low < 63
    assert high < 68
    assert hollow(axis) == [(1, low)]
    assert [text.get_text() for text in axis.texts] == ["0.0"]
    assert table.filter(pl.col("kind") == "published")["score"].to_list() == [0.0]


def test_a_published_series_is_shown_whole(draw: Any, tmp_path: Path) -> None:
    figure, _ = draw(write(tmp_path, "large", {1: 0.0, 4: 30.0, 16: 60.0}))
    assert figure.axes[0].get_ylim()[0] < 0
    assert list(figure.axes[0].texts) == []


def test_an_axis_ends_where_scores_do(draw: Any, tmp_path: Path) -> None:
    figure, _ = draw(write(tmp_path, "poor", {}, up=-64.0))
    assert -2 < figure.axes[0].get_ylim()[0] < 0
    assert figure.axes[0].get_ylim()[1] > 2


def test_several_studies_are_a_line_a_base(draw: Any, tmp_path: Path) -> None:
    figure, table = draw(
        write(tmp_path, "small", {}), write(tmp_path, "medium", {}, up=2), write(tmp_path, "x", {})
    )
    (legend,) = figure.legends
    texts = [text.get_text() for text in legend.get_texts()]
    assert texts[:3] == ["small", "medium", "x"]
    assert texts[-1] == "fft"
    assert table["study"].unique(maintain_order=True).to_list() == ["s0", "s1", "s2"]
    assert figure.axes[0].get_title(loc="left") == ""
    lines = [line for line in figure.axes[0].lines if len(line.get_xdata()) == 3]
    assert [line.get_ydata()[0] for line in lines] == [64.0, 66.0, 64.0]


def test_studies_of_one_base_are_told_by_their_names(draw: Any, tmp_path: Path) -> None:
    same = write(tmp_path, "medium", {})
    figure, _ = draw(same, same)
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert texts[:2] == ["s0: lora", "s1: lora"]


def test_over_rates_there_is_a_panel_a_metric(draw: Any, tmp_path: Path) -> None:
    figure, _ = draw(write(tmp_path, "medium", {}), key="learning_rate")
    assert [axis.get_xlabel() for axis in figure.axes] == ["Learning rate (log scale)"] * 2
