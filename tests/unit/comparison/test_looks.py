"""The table of what models have without their inputs: scores, and differences of the same runs."""

import numpy as np
import pytest
from scipy.stats import t as student

from peft_ablation.comparison.looks import looks_blocks, looks_table
from peft_ablation.comparison.pages import markdown
from peft_ablation.comparison.words import Words
from peft_ablation.metrics.texts import mean_of

METRIC = mean_of("skill", "skill", "above", "below", "more is better", higher_is_better=True)
COLUMNS = METRIC.statistics.columns


def words():
    return Words(
        example="row", group="row", headline="skill", metrics={"skill": METRIC.words()},
        shown=("skill",), baselines={"mean": "mean, always", "nearest": "nearest row"}, claims=(),
        extras=(), nearest="by eye", controls={"empty": {"title": "no input", "meaning": "blank"}},
    )  # fmt: skip


def sums(values):
    """Groups of one row each: value and 1."""
    return np.stack([values, np.ones(len(values))], axis=1)


def drawn(count=40):
    random = np.random.default_rng(2)
    own = [random.normal(1, 1, count) for _ in range(3)]
    shuffled = [run - 0.5 + random.normal(0, 0.1, count) for run in own]
    constant = random.normal(0.2, 1, count)
    return own, shuffled, constant


def table(absent=None):
    own, shuffled, constant = drawn()
    sets = {
        "model": [sums(run) for run in own],
        "shuffled": [sums(run) for run in shuffled],
        "mean": [sums(constant)] * 3,
    }
    return looks_table({"fft": sets}, COLUMNS, [METRIC], absent or {}, words(), 0.95)


def row(given):
    (found,) = table().filter(given=given).iter_rows(named=True)
    return found


def test_scores_are_means_over_runs():
    own, shuffled, constant = drawn()
    for given, runs in (("model", own), ("shuffled", shuffled), ("mean", [constant])):
        assert row(given)["score"] == pytest.approx(np.mean(runs))
    assert row("shuffled")["above"] == pytest.approx(np.mean(own) - np.mean(shuffled))
    assert row("model")["above"] is None


def test_a_difference_is_of_the_same_runs():
    """Of what seeds and rows share nothing is left: far narrower than scores apart would tell."""
    own, shuffled, _ = drawn()
    found = row("shuffled")
    wide = row("model")["score_high"] - row("model")["score_low"]
    assert found["above_high"] - found["above_low"] < wide / 3
    # Rows and seeds differ by noise alone, so that the interval is about that of their mean.
    differences = np.stack(own) - np.stack(shuffled)
    error = differences.mean(axis=0).std(ddof=1) / np.sqrt(differences.shape[1])
    least = student.ppf(0.975, differences.shape[1] - 1) * error
    assert found["above_high"] - found["above"] >= least * 0.999
    assert found["above_high"] - found["above"] < 4 * least


def test_a_constant_has_the_interval_of_its_rows():
    _, _, constant = drawn()
    found = row("mean")
    error = constant.std(ddof=1) / np.sqrt(len(constant))
    reach = student.ppf(0.975, len(constant) - 1) * error
    assert found["score_low"] == pytest.approx(constant.mean() - reach)
    assert found["score_high"] == pytest.approx(constant.mean() + reach)


def test_what_was_not_predicted_or_has_no_such_score_is_left_out():
    assert table()["given"].to_list() == ["model", "shuffled", "mean"]
    assert table({"mean": ["skill"]})["given"].to_list() == ["model", "shuffled"]


def test_the_page_has_a_line_for_each_and_says_what_it_is():
    rows = [
        {
            "arm": "fft", "skill_lost_when_shuffled": 0.5, "loses_half_when_shuffled": True,
            "honest_learning": None,
        }
    ]  # fmt: skip
    page = markdown(looks_blocks(table(), rows, words()))
    first = [line.split(" | ")[0] for line in page.splitlines() if line.startswith("| ")]
    assert first == [
        "| skill of", "| ---", "| own inputs", "| inputs shuffled", "| mean, always (no training)",
        "| lost when inputs are shuffled", "| loses half when shuffled", "| all of these",
    ]  # fmt: skip
    assert "- No input: blank." in page
    assert "- Nearest row: by eye." in page
    assert "| lost when inputs are shuffled | 50 % |" in page
    assert "| all of these | – |" in page
