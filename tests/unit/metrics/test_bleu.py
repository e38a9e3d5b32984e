"""BLEU from summed statistics against sacrebleu and the reference implementation's scores."""

import csv
import math
import random
from pathlib import Path

import numpy as np
import pytest
import sacrebleu
from hypothesis import given
from hypothesis import strategies as st
from sacrebleu.metrics.bleu import BLEU

from peft_ablation.metrics.bleu import corpus_bleu, sentence_statistics, signature, unsmoothed_bleu

WORDS = (
    "evidence",
    "of",
    "edema",
    "is",
    "present.",
    "No",
    "fracture,",
    "X-ray",
    "appears",
    "normal",
)


def random_texts(seed: int, number: int) -> list[str]:
    source = random.Random(seed)
    return [" ".join(source.choices(WORDS, k=source.randint(0, 12))) for _ in range(number)]


@pytest.mark.parametrize("lowercase", [False, True])
def test_equals_sacrebleu_on_any_subset(lowercase: bool):
    hypotheses, references = random_texts(1, 200), random_texts(2, 200)
    statistics = sentence_statistics(
        hypotheses, [[text] for text in references], lowercase=lowercase
    )
    source = np.random.default_rng(3)
    for size in (1, 3, 20, 200):
        rows = source.integers(0, 200, size)
        expected = sacrebleu.corpus_bleu(
            [hypotheses[row] for row in rows],
            [[references[row] for row in rows]],
            lowercase=lowercase,
        )
        assert corpus_bleu(statistics[rows].sum(axis=0)) == pytest.approx(expected.score, abs=1e-9)


counts = st.integers(0, 30)


@given(st.lists(st.tuples(counts, counts), min_size=4, max_size=4), counts, counts)
def test_formula_is_sacrebleus_for_any_counts(orders, length, reference):
    matches = [min(pair) for pair in orders]
    totals = [max(pair) for pair in orders]
    for smooth, ours, scale in (("exp", corpus_bleu, 1), ("none", unsmoothed_bleu, 100)):
        expected = BLEU.compute_bleu(list(matches), list(totals), length, reference, smooth).score
        value = ours(np.array([length, reference, reference, *matches, *totals]))
        assert value * scale == pytest.approx(expected, abs=1e-9)


def test_statistics_of_one_sentence_by_hand():
    # the cat the cat (4 tokens) against the cat sat: 1-grams the, cat; 2-gram "the cat" once.
    row = sentence_statistics(["the cat the cat"], [["the cat sat"]])[0]
    assert row.tolist() == [4, 3, 3, 2, 1, 0, 0, 4, 3, 2, 1]
    # No brevity penalty; precisions 2/4, 1/3, 1/(2*2), 1/(4*1).
    expected = 100 * (2 / 4 * 1 / 3 * 1 / 4 * 1 / 4) ** 0.25
    assert corpus_bleu(row) == pytest.approx(expected)
    assert unsmoothed_bleu(row) == 0


def test_brevity_penalty_of_a_short_hypothesis():
    row = sentence_statistics(["a b c d"], [["a b c d e f"]])[0]
    assert unsmoothed_bleu(row) == pytest.approx(math.exp(1 - 6 / 4))


def test_unsmoothed_takes_the_shortest_reference_and_sacrebleu_the_closest():
    row = sentence_statistics(["a b c d e"], [["a b c d", "a b c d e f"]])[0]
    assert row[:3].tolist() == [5, 4, 4]
    row = sentence_statistics(["a b c d e"], [["a b", "a b c d e f"]])[0]
    assert row[:3].tolist() == [5, 6, 2]


def test_brevity_is_measured_by_the_shortest_reference_or_the_closest():
    """All n-grams match, so that the penalty alone is left: 5 tokens against 2 or against 6."""
    row = sentence_statistics(["a b c d e"], [["a b", "a b c d e f"]])[0]
    assert unsmoothed_bleu(row) == pytest.approx(1)
    assert corpus_bleu(row) == pytest.approx(100 * math.exp(1 - 6 / 5))


def test_empty_texts_score_nothing():
    row = sentence_statistics(["", "a b c d"], [["a b c d"], [""]])
    assert corpus_bleu(row[0]) == unsmoothed_bleu(row[0]) == 0
    assert corpus_bleu(row[1]) == unsmoothed_bleu(row[1]) == 0


def test_signature_is_sacrebleus():
    metric = BLEU(lowercase=True)
    metric.corpus_score(["a", "b"], [["a", "b"]])
    assert signature([["a"], ["b"]], lowercase=True) == str(metric.get_signature())
    assert "nrefs:var" in signature([["a"], ["b", "c"]])


def test_reference_implementation_on_e2e(shared_data: Path):
    folder = shared_data / "e2e-metric-golden"
    hypotheses = (folder / "hyp_first_ref.txt").read_text().splitlines()
    groups = (folder / "refs.txt").read_text().strip("\n").split("\n\n")
    with (folder / "scores.tsv").open() as file:
        golden = float(next(csv.DictReader(file, delimiter="\t"))["BLEU"])
    rows = sentence_statistics(hypotheses, [group.split("\n") for group in groups], lowercase=True)
    # mteval-v13a ignores case; its score is given to four decimals.
    assert corpus_bleu(rows.sum(axis=0)) / 100 == pytest.approx(golden, abs=5e-5)
