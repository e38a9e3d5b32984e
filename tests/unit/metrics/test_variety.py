"""Distinct-n and length of texts: by hand, as sets count them, and where there is nothing."""

import math

import numpy as np
import polars as pl
import pytest

from peft_ablation.metrics.metric import statistics_of, sum_columns, value_of
from peft_ablation.metrics.texts import variety_metrics
from peft_ablation.metrics.variety import COLUMNS, text_statistics


def scores(texts: list[str], truths: list[list[str]], **settings: bool) -> dict[str, float]:
    metrics = variety_metrics(**settings)
    pairs = pl.DataFrame({"hypothesis": texts, "reference": truths})
    sums = statistics_of(metrics, pairs).sum(axis=0)
    return {m.name: float(value_of(m, sum_columns(metrics), sums)) for m in metrics}


def test_scores_by_hand() -> None:
    # Six words, of which a b c differ; pairs a-b b-a a-b, a-c: three of four differ.
    found = scores(["a b a b", "a  c"], [["x y", "x y z w"], ["x"]])
    assert found["distinct_1"] == pytest.approx(3 / 6)
    assert found["distinct_2"] == pytest.approx(3 / 4)
    assert found["length"] == 3.0
    assert found["length_ratio"] == pytest.approx(6 / (3 + 1))


def test_the_part_of_each_text_by_hand() -> None:
    # a is written three times, b twice, c once.
    first, second = text_statistics(["a b a b", "a c"], [["x"], ["x"]])
    assert first[COLUMNS.index("distinct_1")] == pytest.approx(2 / 3 + 2 / 2)
    assert second[COLUMNS.index("distinct_1")] == pytest.approx(1 / 3 + 1)
    assert second[COLUMNS.index("distinct_2")] == 1.0


@pytest.mark.parametrize("n", [1, 2])
def test_all_texts_together_have_as_many_ngrams_as_a_set_counts(n: int) -> None:
    rng = np.random.default_rng(n)
    texts = [" ".join(rng.choice(list("abcdefgh"), rng.integers(0, 12))) for _ in range(50)]
    ngrams = [
        tuple(words[k : k + n])
        for words in (text.split() for text in texts)
        for k in range(len(words) - n + 1)
    ]
    found = scores(texts, [["."]] * 50)[f"distinct_{n}"]
    assert found == pytest.approx(len(set(ngrams)) / len(ngrams))


def test_the_same_text_always_has_few_distinct_words() -> None:
    assert scores(["a b c d"] * 10, [["."]] * 10)["distinct_1"] == pytest.approx(4 / 40)


def test_case_is_ignored_where_told() -> None:
    texts, truths = ["The the", "THE"], [["."]] * 2
    assert scores(texts, truths)["distinct_1"] == pytest.approx(1)
    assert scores(texts, truths, lowercase=True)["distinct_1"] == pytest.approx(1 / 3)


def test_marks_are_words_where_texts_are_normalised() -> None:
    found = scores(["A dog. No"], [["a dog"]], normalised=True)
    assert found["length"] == 4.0
    assert found["length_ratio"] == 2.0


def test_texts_without_words_have_no_distinct_ones_and_count_for_the_length() -> None:
    empty = scores(["", " "], [["a b"], ["a"]])
    assert math.isnan(empty["distinct_1"]) and math.isnan(empty["distinct_2"])
    assert (empty["length"], empty["length_ratio"]) == (0.0, 0.0)
    assert scores(["a", ""], [["b"], ["b"]])["length"] == 0.5


def test_no_direction_is_better() -> None:
    assert [metric.higher_is_better for metric in variety_metrics()] == [None] * 4
