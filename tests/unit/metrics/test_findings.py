"""Findings scores: worked by hand, and against scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import f1_score, precision_recall_fscore_support

from peft_ablation.metrics.findings import (
    label_matrix,
    macro_f1,
    mention_counts,
    mention_scores,
    micro_f1,
)
from peft_ablation.sources.mimic.labels import LABELS, PATHOLOGIES, Mention

REFERENCES = [
    {"Edema": 1, "Fracture": 0},
    {"No_Finding": 1},
    {"Edema": 1, "Pneumonia": -1},
]
HYPOTHESES = [
    {"Edema": 1, "Fracture": 1},
    {"No_Finding": 1, "Edema": 1},
    {"Pneumonia": 1, "Fracture": 0},
]


def scores(mention: Mention, hypotheses=HYPOTHESES, references=REFERENCES):
    counts = mention_counts(label_matrix(hypotheses), label_matrix(references), mention)
    return mention_scores(counts.sum(axis=0))


def test_present_by_hand():
    present = scores(Mention.PRESENT)
    # Edema: one found, one wrongly stated in the normal report, one missed. Fracture, Pneumonia:
    # wrongly stated. No Finding is right in row 2 and has no part in micro.
    assert present["labels"]["Edema"] == {
        "precision": 0.5,
        "recall": 0.5,
        "f1": 0.5,
        "tp": 1,
        "fp": 1,
        "fn": 1,
    }
    assert present["micro"] == {
        "precision": 1 / 4,
        "recall": 1 / 2,
        "f1": 2 / (2 + 3 + 1),
        "tp": 1,
        "fp": 3,
        "fn": 1,
    }
    assert present["labels"]["No_Finding"]["f1"] == 1
    # Only Edema is present in a reference.
    assert present["macro"] == {"precision": 0.5, "recall": 0.5, "f1": 0.5, "labels": 1}


def test_absent_and_suspected_by_hand():
    absent = scores(Mention.ABSENT)["micro"]
    assert (absent["tp"], absent["fp"], absent["fn"]) == (0, 1, 1)
    assert absent["f1"] == 0
    suspected = scores(Mention.SUSPECTED)["micro"]
    assert (suspected["tp"], suspected["fp"], suspected["fn"]) == (0, 0, 1)
    assert (suspected["precision"], suspected["recall"], suspected["f1"]) == (None, 0, 0)


def test_precision_of_what_is_never_stated_lowers_the_macro_mean():
    references = [{"Edema": 1}, {"Edema": 1}, {"Fracture": 1}]
    found = scores(Mention.PRESENT, [{"Edema": 1}, {"Pneumonia": 1}, {}], references)
    # Edema: precision 1, recall 1/2, F1 2/3. Fracture: never stated, so null, 0, 0. Pneumonia is in
    # no reference and so in no mean.
    assert found["labels"]["Fracture"]["precision"] is None
    assert found["macro"] == {
        "precision": 1 / 2,
        "recall": 1 / 4,
        "f1": pytest.approx(1 / 3),
        "labels": 2,
    }


def test_nothing_stated_and_nothing_to_state_is_undefined_and_not_perfect():
    empty = scores(Mention.PRESENT, [{}, {"No_Finding": 1}], [{}, {"No_Finding": 1}])
    assert empty["micro"] == {
        "precision": None,
        "recall": None,
        "f1": None,
        "tp": 0,
        "fp": 0,
        "fn": 0,
    }
    assert empty["macro"] == {"precision": None, "recall": None, "f1": None, "labels": 0}


def random_matrices(seed: int):
    source = np.random.default_rng(seed)
    choices = np.array([-128, -1, 0, 1])
    shape = (300, len(LABELS))
    hypotheses = source.choice(choices, p=[0.5, 0.1, 0.2, 0.2], size=shape).astype(np.int8)
    references = np.where(
        source.random(shape) < 0.6, hypotheses, source.choice(choices, size=shape)
    ).astype(np.int8)
    return hypotheses, references


@pytest.mark.parametrize("mention", list(Mention))
def test_agrees_with_scikit_learn(mention: Mention):
    hypotheses, references = random_matrices(1)
    counts = mention_counts(hypotheses, references, mention).sum(axis=0)
    ours = mention_scores(counts)
    n = len(PATHOLOGIES)
    true, stated = references[:, :n] == mention, hypotheses[:, :n] == mention
    for average in ("micro", "macro"):
        precision, recall, f1, _ = precision_recall_fscore_support(true, stated, average=average)
        assert ours[average]["precision"] == pytest.approx(precision)
        assert ours[average]["recall"] == pytest.approx(recall)
        assert ours[average]["f1"] == pytest.approx(f1)
    by_label = f1_score(references == mention, hypotheses == mention, average=None)
    assert [ours["labels"][label]["f1"] for label in LABELS] == pytest.approx(list(by_label))


def test_vectorised_scores_equal_those_of_each_resample():
    hypotheses, references = random_matrices(2)
    # Few rows, so that some labels do not occur in a resample.
    counts = mention_counts(hypotheses, references, Mention.SUSPECTED)
    resamples = np.random.default_rng(3).integers(0, 300, size=(20, 8))
    sums = counts[resamples].sum(axis=1)
    for row, micro, macro in zip(sums, micro_f1(sums), macro_f1(sums), strict=True):
        expected = mention_scores(row)
        assert micro == pytest.approx(expected["micro"]["f1"] or 0)
        assert macro == pytest.approx(expected["macro"]["f1"] or 0)
