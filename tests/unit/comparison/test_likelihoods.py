"""What likelihoods of findings tell, from predictions to table and page."""

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import brier_score_loss, roc_auc_score
from tiny_study import task_of

from peft_ablation.comparison.likelihoods import compare_likelihoods, likelihood_blocks
from peft_ablation.comparison.pages import markdown
from peft_ablation.errors import InputError
from peft_ablation.sources.mimic.labels import LABELS
from peft_ablation.sources.mimic.reports import load_template
from peft_ablation.tasks import task_class

WRITE = load_template("corrected").render
EDEMA, FRACTURE = LABELS.index("Edema"), LABELS.index("Fracture")
VALUES = (1, 0, -1, None)
COUNT = 120


def truth():
    """Edema in turn present, absent, suspected and not mentioned; a fracture five times each."""
    return [
        {
            "Edema": VALUES[row % 4],
            "Fracture": 1 if row < 5 else 0 if row < 10 else None,
            "No_Finding": 0,
        }
        for row in range(COUNT)
    ]


def log_odds(seed, skill):
    random = np.random.default_rng(seed)
    found = random.normal(0, 1, (COUNT, len(LABELS)))
    found[:, EDEMA] += skill * np.array([VALUES[row % 4] == 1 for row in range(COUNT)])
    return found


@pytest.fixture
def compared(tmp_path):
    train = tmp_path / "train.parquet"
    pl.DataFrame({"example_id": ["x"], "report": ["a"]}).write_parquet(train)

    def run(skills, drop=()):
        paths, runs = [], []
        for arm, skill in skills.items():
            for seed in (0, 1):
                paths.append(tmp_path / f"{arm}-{seed}.parquet")
                runs.append((arm, seed))
                pl.DataFrame(
                    {
                        "example_id": [f"e{row}" for row in range(COUNT)],
                        "group": [f"g{row // 2}" for row in range(COUNT)],
                        "reference": [WRITE(values) for values in truth()],
                        "hypothesis": [""] * COUNT,
                        "log_odds": log_odds([seed, int(skill)], skill).tolist(),
                    }
                ).drop(drop).write_parquet(paths[-1])
        compare_likelihoods(
            runs=runs, predictions=paths, task=task_of(), train=train, reference="fft",
            confidence=0.95, table=tmp_path / "l.csv", reliability=tmp_path / "r.csv",
        )  # fmt: skip
        return pl.read_csv(tmp_path / "l.csv"), pl.read_csv(tmp_path / "r.csv")

    return run


def expected(skill):
    """Area of edema where the report says either, by scikit-learn."""
    known = [row for row in range(COUNT) if VALUES[row % 4] in (0, 1)]
    true = [VALUES[row % 4] == 1 for row in known]
    runs = [log_odds([seed, int(skill)], skill)[known, EDEMA] for seed in (0, 1)]
    return np.mean([roc_auc_score(true, run) for run in runs]), true, runs


def test_areas_are_of_reports_that_say_either(compared):
    rows, _ = compared({"fft": 2.0, "lora": 1.0})
    for arm, skill in (("fft", 2.0), ("lora", 1.0)):
        (row,) = rows.filter(statement="Edema", arm=arm).iter_rows(named=True)
        assert (row["positives"], row["negatives"]) == (30, 30)
        assert row["score"] == pytest.approx(expected(skill)[0])
        assert row["score_low"] < row["score"] < row["score_high"] <= 1
    lora = rows.filter(statement="Edema", arm="lora").row(0, named=True)
    assert lora["difference"] == pytest.approx(expected(1.0)[0] - expected(2.0)[0])


def test_too_few_statements_have_no_area_and_no_part_in_the_mean(compared):
    rows, _ = compared({"fft": 2.0})
    (row,) = rows.filter(statement="Fracture").iter_rows(named=True)
    assert (row["positives"], row["negatives"], row["score"]) == (5, 5, None)
    (mean,) = rows.filter(statement="all", metric="auroc").iter_rows(named=True)
    assert mean["score"] == pytest.approx(expected(2.0)[0])
    assert (mean["positives"], mean["negatives"]) == (30, 30)


def test_odds_are_held_against_the_truth_as_probabilities(compared):
    rows, curve = compared({"fft": 2.0})
    scores = []
    for seed in (0, 1):
        odds = log_odds([seed, 2], 2.0)
        table = [
            (odds[row, LABELS.index(label)], value == 1)
            for row, values in enumerate(truth())
            for label, value in values.items()
            if value in (0, 1)
        ]
        probability = [1 / (1 + np.exp(-odd)) for odd, _ in table]
        scores.append(brier_score_loss([true for _, true in table], probability))
    (row,) = rows.filter(metric="brier").iter_rows(named=True)
    assert row["score"] == pytest.approx(np.mean(scores))
    assert curve["examples"].sum() == 2 * len(table)
    assert curve["probability"].is_sorted()


def test_the_page_has_a_line_a_finding(compared, tmp_path):
    compared({"fft": 2.0})
    page = markdown(likelihood_blocks(tmp_path / "l.csv"))
    assert "| AUROC, Fracture | 5 | 5 | – |" in page
    assert f"| AUROC, Edema | 30 | 30 | {expected(2.0)[0]:.3f} [" in page
    assert "| AUROC, mean of these | 30 | 30 | " in page
    assert page.count("| Brier score | ") == page.count("| calibration error | ") == 1


def test_predictions_without_likelihoods_are_refused(compared):
    with pytest.raises(InputError, match=r"no column 'log_odds', found example_id, group"):
        compared({"fft": 2.0}, drop=("log_odds",))


def test_a_task_without_findings_asks_for_nothing():
    assert task_class("captioning").discriminates(task_of())
    assert not task_class("captioning").discriminates(task_of(findings=None))
    assert not task_class("image_classification").discriminates({})
