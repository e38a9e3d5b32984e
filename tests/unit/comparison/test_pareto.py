"""Pareto fronts by hand, and by law: how surely an arm is on one."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from tiny_study import task_of

from peft_ablation.comparison.pages import Table, markdown
from peft_ablation.comparison.pareto import (
    COSTS,
    drawn_scores,
    find_pareto_fronts,
    fronts,
    on_front,
    pareto_blocks,
)
from peft_ablation.comparison.words import Words
from peft_ablation.errors import InputError
from peft_ablation.metrics.intervals import ArmScores, estimate
from peft_ablation.sources.mimic.labels import LABELS
from peft_ablation.tasks import task_class

GROUPS = 200
NOISE = np.random.default_rng(5).normal(size=(4, GROUPS))


def arm(mean: float, spread: float = 0.0, seeds: int = 1, seed_sd: float = 0.0, own=0):
    """Return scores of an arm: groups vary by `spread`, runs by exactly `seed_sd`."""
    noise = (NOISE[own] - NOISE[own].mean()) / NOISE[own].std(ddof=1)
    steps = np.arange(seeds) - (seeds - 1) / 2
    offsets = seed_sd * steps / (steps.std(ddof=1) if seeds > 1 else 1)
    return ArmScores(mean + offsets, mean + offsets[:, None] + spread * noise)


def costs(*prices: float, seconds=None):
    """Return costs by arm that all are the same number, but for the seconds of each run."""
    result = {}
    for place, price in enumerate(prices):
        result[f"arm{place}"] = {name: np.array([price]) for name in COSTS}
        if seconds:
            result[f"arm{place}"]["train_seconds"] = np.array(seconds[place])
    return result


def found(arms, prices, higher=True, **more):
    named = {f"arm{place}": each for place, each in enumerate(arms)}
    return fronts(named, prices, higher, 0.95, **more)


def shares(rows, cost="trainable_parameters"):
    return [row[f"{cost}_on_front_probability"] for row in rows]


@pytest.mark.parametrize(
    ("gains", "prices", "expected"),
    [
        ([0.5], [3], [True]),
        ([0.5, 0.6], [1, 2], [True, True]),
        ([0.6, 0.5], [1, 2], [True, False]),
        # The third is better than the first, but not than the second, which is cheaper.
        ([0.4, 0.7, 0.6, 0.9], [1, 2, 3, 4], [True, True, False, True]),
        ([0.5, 0.5], [1, 2], [True, False]),
        ([0.5, 0.6], [1, 1], [False, True]),
        ([0.5, 0.5, 0.4], [1, 1, 1], [True, True, False]),
        ([0.1 + 0.2, 0.3], [1, 1], [True, True]),
    ],
    ids=[
        "alone", "both", "dominated", "between", "as good, dearer", "as dear, worse", "tie",
        "tie but for rounding",
    ],
)  # fmt: skip
def test_front_by_hand(gains, prices, expected):
    assert on_front(np.array(gains), np.array(prices, dtype=float)).tolist() == expected


def test_fronts_of_many_draws_are_those_of_each():
    random = np.random.default_rng(0)
    gains, prices = random.normal(size=(50, 5)), random.integers(1, 4, size=5).astype(float)
    many = on_front(gains, prices)
    assert many.tolist() == [on_front(row, prices).tolist() for row in gains]


def test_where_less_is_better_the_front_turns_around():
    arms = [arm(2.0), arm(1.0), arm(1.5)]
    rows = found(arms, costs(1, 2, 3), higher=False)
    assert [row["adapter_mb_on_front"] for row in rows] == [True, True, False]
    assert shares(rows) == [1.0, 1.0, 0.0]
    assert [row["score"] for row in rows] == [2.0, 1.0, 1.5]


def test_what_is_certain_is_told_so():
    rows = found([arm(0.9, 1e-6), arm(0.5, 1e-6), arm(0.95, 1e-6)], costs(1, 2, 3))
    assert shares(rows) == [1.0, 0.0, 1.0]
    assert [row["trainable_parameters_on_front"] for row in rows] == [True, False, True]


def test_one_arm_is_surely_on_the_front():
    assert shares(found([arm(0.5, 0.2)], costs(3))) == [1.0]


def test_arms_that_are_alike_share_the_front():
    """Equal price and equal scores; seeds of their own decide, each way half of the time."""
    rows = found([arm(0.5, 0.1, 3, 0.02), arm(0.5, 0.1, 3, 0.02)], costs(1, 1))
    assert sum(shares(rows)) == pytest.approx(1)
    assert shares(rows)[0] == pytest.approx(0.5, abs=0.015)


def test_the_same_predictions_tie_in_every_draw():
    rows = found([arm(0.5, 0.3), arm(0.5, 0.3), arm(0.5, 0.3)], costs(1, 1, 2))
    assert shares(rows) == [1.0, 1.0, 0.0]


@pytest.mark.parametrize("gap", [0.0, 0.02, 0.04])
def test_two_runs_are_as_sure_as_the_paired_test_of_their_difference(gap):
    """The dearer arm is on the front where it is better; groups are shared, so errors are paired.

    Of one run each, the difference has a t of G - 1 degrees of freedom.
    """
    cheap, dear = arm(0.5, 0.3), arm(0.5 + gap, 0.3, own=1)
    p = estimate(dear, cheap).p_value()
    rows = found([cheap, dear], costs(1, 2))
    assert shares(rows)[0] == 1.0
    assert shares(rows)[1] == pytest.approx(1 - p / 2, abs=0.015)


def test_arms_that_miss_the_same_groups_are_told_apart_more_surely():
    alike = ArmScores(np.array([0.51]), arm(0.51, 0.3).groups + 0.02 * arm(0, 1, own=1).groups)
    paired = shares(found([arm(0.5, 0.3), alike], costs(1, 2)))[1]
    apart = shares(found([arm(0.5, 0.3), arm(0.51, 0.3, own=1)], costs(1, 2)))[1]
    assert paired > 0.99
    assert apart < 0.8


def test_draws_have_the_errors_of_the_intervals():
    """At many seeds and groups Student's t is normal, and the spread that of the estimate."""
    arms = [arm(0.5, 0.4, 40, 0.2), arm(0.7, 0.2, 40, 0.05, own=1)]
    drawn = drawn_scores(arms, 40_000, np.random.default_rng(1))
    expected = [estimate(each).error for each in arms]
    assert expected[0] == pytest.approx((0.4**2 / GROUPS + 0.2**2 / 40) ** 0.5)
    # A t of 39 degrees of freedom is sqrt(39 / 37) as wide as a normal.
    assert drawn.std(axis=0) == pytest.approx(expected, rel=0.04)
    assert drawn.mean(axis=0) == pytest.approx([0.5, 0.7], abs=0.002)
    theirs = np.corrcoef(arms[0].groups.mean(axis=0), arms[1].groups.mean(axis=0))[0, 1]
    covariance = theirs * 0.4 * 0.2 / GROUPS
    assert np.cov(drawn.T)[0, 1] == pytest.approx(covariance, abs=2e-5)


def test_the_groups_noise_within_runs_counts_once():
    """Runs that differ by the noise of their groups alone say nothing of seeds."""
    groups = np.random.default_rng(3).normal(0.5, 0.4, size=(40, GROUPS))
    noisy = ArmScores(groups.mean(axis=1), groups)
    known = estimate(noisy)
    assert (known.of_groups + known.of_seeds) ** 0.5 > 1.2 * known.error
    drawn = drawn_scores([noisy], 40_000, np.random.default_rng(1))
    assert drawn.std() == pytest.approx(known.error, rel=0.04)


def test_training_time_is_drawn_where_seeds_tell_its_spread():
    seconds = [[9.0, 11.0], [9.5, 11.5]]
    rows = found([arm(0.5), arm(0.5)], costs(1, 1, seconds=seconds))
    fast, slow = rows
    assert (fast["train_seconds"], fast["train_seconds_low"]) == (10.0, 9.0)
    assert (fast["train_seconds_on_front"], slow["train_seconds_on_front"]) == (True, False)
    assert 0.5 < shares(rows, "train_seconds")[0] < 0.75
    assert sum(shares(rows, "train_seconds")) == pytest.approx(1)
    once = found([arm(0.5), arm(0.5)], costs(1, 1, seconds=[[10.0], [10.5]]))
    assert shares(once, "train_seconds") == [1.0, 0.0]


def test_peak_memory_is_the_largest_of_the_runs():
    prices = costs(1, 1)
    prices["arm0"]["peak_memory_mb"] = np.array([90.0, 110.0])
    prices["arm1"]["peak_memory_mb"] = np.array([101.0, 101.0])
    rows = found([arm(0.5), arm(0.5)], prices)
    assert [row["peak_memory_mb"] for row in rows] == [110.0, 101.0]
    assert [row["peak_memory_mb_on_front"] for row in rows] == [False, True]


def test_the_same_study_gives_the_same_shares():
    arms = [arm(0.5, 0.3, 2, 0.05), arm(0.52, 0.3, 2, 0.02, own=1)]
    assert found(arms, costs(1, 2)) == found(arms, costs(1, 2))
    assert found(arms, costs(1, 2)) != found(arms, costs(1, 2), seed=2)


TRAINING = pl.DataFrame(
    {label: [1, None] for label in LABELS} | {"report": ["evidence of edema is present.", "none."]}
)
TASK = task_class("captioning")(task_of(), TRAINING)
RUNS = [("full", 0), ("lora", 0), ("other", 0)]


@pytest.fixture
def study(tmp_path: Path):
    """Return a function that writes sums and costs of `RUNS` and finds their fronts."""
    TRAINING.write_parquet(tmp_path / "train.parquet")
    columns = next(m for m in TASK.metrics if m.name == TASK.headline).statistics.columns

    def find(groups=("a", "b", "c", "d")) -> list[dict]:
        sums, paid = [], []
        for place, (name, _) in enumerate(RUNS):
            own = groups if place else ("a", "b", "c", "d")
            # True positives of the first pathology, and false ones: F1 is 2 tp / (2 tp + fp).
            counts = dict.fromkeys(columns, [0.0] * 8)
            counts[columns[0]] = [4.0, 4.0, 4.0, 4.0] * 2
            counts[columns[1]] = [2.0 * place, 0.0, place, 1.0] * 2
            kinds = ["model"] * 4 + ["shuffled"] * 4
            path = tmp_path / f"{name}.parquet"
            pl.DataFrame({"predictions": kinds, "group": [*own] * 2, **counts}).write_parquet(path)
            sums.append(path)
            cost = dict.fromkeys(COSTS, 10.0 - place) | {"device": "a GPU"}
            cost |= {"trained_elsewhere": name == "other"}
            paid.append(tmp_path / f"{name}.json")
            paid[-1].write_text(json.dumps(cost))
        find_pareto_fronts(
            runs=RUNS, sums=sums, costs=paid, task=task_of(), train=tmp_path / "train.parquet",
            confidence=0.95, table=tmp_path / "pareto.csv",
        )  # fmt: skip
        return pl.read_csv(tmp_path / "pareto.csv", infer_schema_length=None).to_dicts()

    return find


def test_scores_are_the_headline_of_the_model_within_its_bounds(study):
    rows = study()
    assert {row["metric"] for row in rows} == {"findings_f1"}
    # 16 true positives and 1, 4 or 7 false ones.
    assert [row["score"] for row in rows] == pytest.approx([32 / 33, 32 / 36, 32 / 39])
    assert all(row["score_low"] < row["score"] < row["score_high"] <= 1 for row in rows)
    assert rows[0]["score_high"] == 1
    assert [row["adapter_mb_on_front"] for row in rows] == [True, True, True]


def test_what_others_paid_is_not_known(study):
    other = study()[2]
    assert other["train_seconds"] is None
    assert other["peak_memory_mb_on_front"] is None
    assert other["trainable_parameters_on_front"] is True


def test_runs_on_other_groups_are_refused(study):
    with pytest.raises(InputError, match="arm lora seed 0: tested on other groups than arm full"):
        study(groups=("a", "b", "c", "e"))


def test_the_page_says_who_is_on_the_front_and_of_what_device(study):
    blocks = pareto_blocks(study(), Words.of(TASK, "subject"), 0.95)
    (table,) = [block for block in blocks if isinstance(block, Table)]
    assert table.header[2:4] == (
        "findings F1 against trained parameters", "findings F1 against stored, MB",
    )  # fmt: skip
    sure = "surely on in these runs, 100 %"
    assert [list(row) for row in table.rows] == [
        ["full", "0.970 [0.874, 1.000]", *["on in these runs, 89 %"] * 4],
        ["lora", "0.889 [0.760, 1.000]", *["on in these runs, 91 %"] * 2, sure, sure],
        ["other", "0.821 [0.585, 1.000]", sure, sure, "–", "–"],
    ]
    text = markdown(blocks)
    assert "in seconds on a GPU" in text
    assert "With one seed (full, lora, other)" in text
    assert "What others paid to train other is not known" in text


def test_off_is_sure_where_the_share_is_small():
    arms = [arm(0.9, 0.1, 2), arm(0.5, 0.1, 2), arm(0.893, 0.1, 2, own=1)]
    rows = found(arms, costs(1, 2, 3))
    (table,) = [
        block
        for block in pareto_blocks(
            [row | {"device": "cpu"} for row in rows], Words.of(TASK, "subject"), 0.95
        )
        if isinstance(block, Table)
    ]
    assert [row[2] for row in table.rows][:2] == ["surely on, 100 %", "surely off, 0 %"]
    assert table.rows[2][2].startswith("off, ")
