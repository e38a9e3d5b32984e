"""Figures of subgroups and likelihoods: a mark where the table has a score, a bar for its ends."""

import json

import polars as pl
import pytest

from peft_ablation.comparison import by_group, likelihoods
from peft_ablation.figures import by_group as by_group_figure
from peft_ablation.figures import likelihoods as likelihoods_figure

ARMS = ("fft", "lora")


@pytest.fixture
def drawn(monkeypatch):
    """Return what a figure module hands to be written: axes and table."""
    found = {}
    for module in (by_group_figure, likelihoods_figure):
        monkeypatch.setattr(
            module, "write_figure", lambda figure, table, _: found.update(f=figure, t=table)
        )
    return lambda: (found["f"].axes, found["t"])


def marks(axis):
    """Return the single marks as (x, y), and bars as (low, high, y), of an axis."""
    lines = [(list(line.get_xdata()), list(line.get_ydata())) for line in axis.lines]
    points = [(x[0], y[0]) for x, y in lines if len(x) == 1]
    bars = [(*x, y[0]) for x, y in lines if len(x) == 2 and y[0] == y[1] and x != [0, 1]]
    return points, bars


def write_groups(folder):
    rows = []
    for arm, low in zip(ARMS, (0.2, 0.4), strict=True):
        for value, shift in (("AP", 0.0), ("PA", 0.1), ("(missing)", 0.2)):
            for metric, score in (("bleu", 50.0), ("f1", low + shift)):
                one = {"column": "view", "value": value, "arm": arm, "examples": 1200}
                ends = (None, None) if value == "PA" else (score - 0.05, score + 0.05)
                one |= {"score": score, "score_low": ends[0], "score_high": ends[1]}
                rows.append(one | {"metric": metric, "title": "F1 score", "unit": "0 to 1"})
    pl.DataFrame(rows, schema_overrides=by_group.COLUMNS).write_csv(folder / "g.csv")
    tables = [
        {"column": "view", "metric": "bleu", "headline": False},
        {"column": "view", "metric": "f1", "headline": True},
    ]
    (folder / "g.json").write_text(json.dumps({"tables": tables}))


def test_subgroups_are_rows_with_the_headline_of_each_arm(drawn, tmp_path):
    write_groups(tmp_path)
    by_group_figure.plot_by_group(
        tmp_path / "g.csv", account=tmp_path / "g.json", column="view", outputs=[]
    )
    (axis,), table = drawn()
    labels = [text.get_text() for text in axis.get_yticklabels()]
    assert labels == ["AP (1,200)", "PA (1,200)", "(missing) (1,200)"]
    points, bars = marks(axis)
    assert sorted(x for x, _ in points) == pytest.approx([0.2, 0.3, 0.4, 0.4, 0.5, 0.6])
    assert len(bars) == 4  # PA has no interval
    # Each mark lies in the row of its subgroup, the arms beside one another.
    places = {(round(x, 3), round(y)) for x, y in points}
    assert places == {(0.2, 0), (0.3, 1), (0.4, 2), (0.4, 0), (0.5, 1), (0.6, 2)}
    assert len({y for _, y in points}) == 6
    assert axis.get_xlabel() == "F1 score (0 to 1)"
    assert table["metric"].unique().to_list() == ["f1"]


def test_likelihoods_are_areas_beside_the_reliability_curve(drawn, tmp_path):
    rows = [
        {
            "statement": name, "arm": "fft", "metric": metric, "score": score,
            "score_low": score and score - 0.1, "score_high": score and score + 0.1,
        }
        for name, metric, score in (
            ("Edema", "auroc", 0.8), ("Fracture", "auroc", None), ("all", "auroc", 0.7),
            ("all", "brier", 0.2),
        )
    ]  # fmt: skip
    pl.DataFrame(rows, schema_overrides=likelihoods.COLUMNS).write_csv(tmp_path / "l.csv")
    curve = {"arm": ["fft"] * 2, "probability": [0.1, 0.7], "share": [0.3, 0.6]}
    pl.DataFrame(curve).write_csv(tmp_path / "r.csv")
    likelihoods_figure.plot_likelihoods(
        tmp_path / "l.csv", reliability=tmp_path / "r.csv", outputs=[]
    )
    (areas, right), _ = drawn()
    assert [t.get_text() for t in areas.get_yticklabels()] == ["Edema", "Fracture", "all"]
    points, bars = marks(areas)
    assert [(x, round(y)) for x, y in points] == [(0.8, 0), (0.7, 2)]
    assert bars[0][:2] == pytest.approx((0.7, 0.9))
    (diagonal, line) = right.lines
    assert list(diagonal.get_xdata()) == list(diagonal.get_ydata()) == [0, 1]
    assert (list(line.get_xdata()), list(line.get_ydata())) == ([0.1, 0.7], [0.3, 0.6])
