"""Class metrics against scikit-learn and against values worked out by hand."""

import numpy as np
import polars as pl
import pytest
from sklearn import metrics as reference

from peft_ablation.metrics.classes import (
    class_details,
    class_metrics,
    confusion,
    f1_of,
    matthews_correlation,
)
from peft_ablation.metrics.metric import present, statistics_of, sum_columns, value_of

CLASSES = ["ant", "bee", "cat", "dog"]


def random_predictions(seed: int, rows: int = 200, classes=CLASSES) -> pl.DataFrame:
    source = np.random.default_rng(seed)
    label = source.choice(classes, rows, p=source.dirichlet(np.ones(len(classes))))
    guess = source.choice(classes, rows)
    return pl.DataFrame(
        {
            "label": label,
            "predicted": np.where(source.random(rows) < 0.6, label, guess),
            "probability": source.uniform(1 / len(classes), 1, rows),
            "nll": source.exponential(1, rows),
        }
    )


def scores(predictions: pl.DataFrame, classes=CLASSES) -> dict[str, float]:
    found = present(class_metrics(classes), predictions.columns)
    sums = statistics_of(found, predictions).sum(axis=0)
    return {m.name: float(value_of(m, sum_columns(found), sums)) for m in found}


@pytest.mark.parametrize("seed", range(5))
def test_accuracy_and_macro_f1_are_those_of_scikit_learn(seed):
    table = random_predictions(seed)
    true, predicted = table["label"].to_list(), table["predicted"].to_list()
    found = scores(table)
    assert found["accuracy"] == pytest.approx(reference.accuracy_score(true, predicted))
    expected = reference.f1_score(true, predicted, average="macro", zero_division=0)
    assert found["macro_f1"] == pytest.approx(expected)


def test_a_class_that_is_never_true_nor_predicted_has_no_part_in_macro_f1():
    table = random_predictions(1, classes=CLASSES[:2])
    true, predicted = table["label"].to_list(), table["predicted"].to_list()
    expected = reference.f1_score(true, predicted, average="macro")
    assert scores(table)["macro_f1"] == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(3))
def test_confusion_and_scores_by_class_are_those_of_scikit_learn(seed):
    table = random_predictions(seed)
    true, predicted = table["label"].to_list(), table["predicted"].to_list()
    expected = reference.confusion_matrix(true, predicted, labels=CLASSES)
    assert (confusion(table, CLASSES) == expected).all()
    details = class_details(table, CLASSES)
    assert details["confusion"]["true_by_predicted"] == expected.tolist()
    by_class = reference.precision_recall_fscore_support(
        true, predicted, labels=CLASSES, zero_division=0
    )
    for place, name in enumerate(CLASSES):
        own = details["by_class"][name]
        # What has no value here is 0 there.
        values = [own[score] or 0 for score in ("precision", "recall", "f1", "true")]
        assert values == pytest.approx([column[place] for column in by_class])


def test_a_class_never_predicted_has_no_precision_and_one_never_true_no_recall():
    table = pl.DataFrame({"label": ["ant", "ant", "bee"], "predicted": ["ant", "cat", "ant"]})
    by_class = class_details(table, CLASSES)["by_class"]
    assert by_class["bee"]["precision"] is None
    assert (by_class["bee"]["recall"], by_class["bee"]["f1"]) == (0, 0)
    assert by_class["cat"]["recall"] is None
    assert (by_class["dog"]["precision"], by_class["dog"]["f1"]) == (None, None)
    assert by_class["ant"]["precision"] == by_class["ant"]["recall"] == 0.5


def test_calibration_error_by_hand():
    # Bins of 1/15: 0.62 and 0.65 share (0.6, 2/3]; 0.95 and 1.0 share (14/15, 1].
    table = pl.DataFrame(
        {
            "label": ["ant", "ant", "ant", "ant"],
            "predicted": ["ant", "bee", "ant", "ant"],
            "probability": [0.62, 0.65, 0.95, 1.0],
        }
    )
    # (|1 - 1.27| + |2 - 1.95|) / 4
    assert scores(table)["calibration_error"] == pytest.approx(0.32 / 4)


def test_a_bin_holds_its_upper_bound():
    # 0.2 = 3/15 belongs to (2/15, 3/15], where 0.15 is; 0.21 belongs to the next.
    table = pl.DataFrame(
        {"label": ["ant"] * 2, "predicted": ["ant", "bee"], "probability": [0.2, 0.15]}
    )
    assert scores(table)["calibration_error"] == pytest.approx(abs(1 - 0.35) / 2)
    apart = table.with_columns(probability=pl.Series([0.21, 0.15]))
    assert scores(apart)["calibration_error"] == pytest.approx((0.79 + 0.15) / 2)


def test_calibration_error_is_that_of_a_plain_loop_over_bins():
    table = random_predictions(3)
    p, right = table["probability"].to_numpy(), (table["label"] == table["predicted"]).to_numpy()
    error = 0.0
    for low in np.arange(15) / 15:
        inside = (p > low) & (p <= low + 1 / 15)
        if inside.any():
            error += inside.mean() * abs(right[inside].mean() - p[inside].mean())
    assert scores(table)["calibration_error"] == pytest.approx(error)


def test_test_loss_is_the_mean_of_nll():
    table = pl.DataFrame({"label": ["ant"] * 2, "predicted": ["ant"] * 2, "nll": [0.5, 2.0]})
    assert scores(table)["test_loss"] == pytest.approx(1.25)


def test_a_table_without_probabilities_has_the_other_metrics():
    table = random_predictions(2).select("label", "predicted")
    assert set(scores(table)) == {"accuracy", "macro_f1"}


def test_sums_of_parts_give_the_score_of_the_whole():
    table = random_predictions(4)
    found = class_metrics(CLASSES)
    values = statistics_of(found, table)
    parts = np.stack([values[:70].sum(axis=0), values[70:].sum(axis=0)]).sum(axis=0)
    for metric in found:
        whole = scores(table)[metric.name]
        assert float(value_of(metric, sum_columns(found), parts)) == pytest.approx(whole)


def test_no_examples_have_no_score():
    found = class_metrics(CLASSES)
    columns = sum_columns(found)
    nothing = np.zeros((3, len(columns)))
    assert all(np.isnan(value_of(metric, columns, nothing)).all() for metric in found)


def test_a_class_outside_of_the_classes_is_no_prediction():
    table = pl.DataFrame({"label": ["ant"], "predicted": ["elk"]})
    with pytest.raises(pl.exceptions.InvalidOperationError, match="elk"):
        scores(table)


@pytest.mark.parametrize("count", [2, 3, 5])
def test_matthews_and_the_f1_of_one_class_are_those_of_scikit_learn(count):
    random = np.random.default_rng(count)
    classes = [f"c{n}" for n in range(count)]
    true = random.choice(classes, 80)
    predicted = np.where(random.random(80) < 0.4, true, random.choice(classes, 80))
    table = pl.DataFrame({"label": true, "predicted": predicted})
    metrics = {m.name: m for m in class_metrics(classes, matthews=True, positive="c1")}
    found = present(list(metrics.values()), table.columns)
    sums = statistics_of(found, table).sum(axis=0)
    columns = sum_columns(found)
    matthews, f1 = (float(value_of(metrics[name], columns, sums)) for name in ("matthews", "f1"))
    assert matthews == pytest.approx(reference.matthews_corrcoef(true, predicted))
    expected = reference.f1_score(true, predicted, labels=["c1"], average=None)[0]
    assert f1 == pytest.approx(expected)
    assert 0 < matthews < 1


def test_matthews_of_one_class_always_is_0_and_of_no_example_undefined():
    # True 3 a and 1 b; a is predicted for all.
    always = np.array([[3, 1], [4, 0], [3, 0]])
    assert matthews_correlation(always) == 0
    assert f1_of(always, 0) == pytest.approx(6 / 7)
    assert f1_of(always, 1) == 0
    assert np.isnan(matthews_correlation(np.zeros((3, 2))))
    assert np.isnan(f1_of(np.zeros((3, 2)), 0))


def test_pictures_keep_the_metrics_they_had():
    names = [metric.name for metric in class_metrics(["a", "b"])]
    assert names == ["accuracy", "macro_f1", "test_loss", "calibration_error"]
