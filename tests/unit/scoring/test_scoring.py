"""Scores of a run: values worked by hand, baselines, intervals, and the command for two files."""

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import sacrebleu
from tiny_study import task_of

from peft_ablation.errors import InputError
from peft_ablation.metrics.metric import sum_columns
from peft_ablation.scoring.files import main
from peft_ablation.scoring.scores import score_predictions
from peft_ablation.sources.mimic.labels import LABELS, PATHOLOGIES
from peft_ablation.sources.mimic.reports import load_template, normalise
from peft_ablation.tasks import open_task
from peft_ablation.tasks.captioning.baselines import constant_reports

TEMPLATE = load_template("corrected")
VARIETY = {"distinct_1", "distinct_2", "length", "length_ratio"}


def report(**labels: int) -> str:
    return TEMPLATE.render(labels)


def labelled(rows: list[dict[str, int]]) -> pl.DataFrame:
    return pl.DataFrame(
        [{**dict.fromkeys(LABELS), **row, "report": report(**row)} for row in rows],
        schema={**dict.fromkeys(LABELS, pl.Int8), "report": pl.String},
    )


TRAINING = labelled(
    [
        {"Edema": 1, "Fracture": 1},
        {"Edema": 1},
        {"No_Finding": 1},
        {"No_Finding": 1},
        {"Fracture": 1, "Pneumonia": 0},
        {"Edema": 1, "Cardiomegaly": 1, "Pneumonia": 1},
    ]
)


@pytest.fixture
def score(tmp_path: Path):
    """Return a function that scores rows of (group, reference, hypothesis, tokens, nll)."""

    def scored(rows, shuffled=None, **settings):
        table = pl.DataFrame(
            rows, schema=["group", "reference", "hypothesis", "tokens", "nll"], orient="row"
        ).with_columns(
            pl.col("group").cast(pl.String),
            pl.col("tokens").cast(pl.Int32),
            pl.col("nll").cast(pl.Float64),
            pl.Series("example_id", [f"d{row}" for row in range(len(rows))]),
        )
        if shuffled:
            table = table.with_columns(
                pl.Series("hypothesis_shuffled", shuffled),
                (pl.col("nll") * 2).alias("nll_shuffled"),
            )
        table.write_parquet(tmp_path / "predictions.parquet")
        TRAINING.write_parquet(tmp_path / "train.parquet")
        score_predictions(
            tmp_path / "predictions.parquet",
            task=task_of(),
            train=tmp_path / "train.parquet",
            **{"bootstrap_samples": 200, "confidence": 0.95, "seed": 1, **settings},
            output=tmp_path / "scores.json",
            sums=tmp_path / "sums.parquet",
        )
        return json.loads((tmp_path / "scores.json").read_text())

    return scored


ROWS = [
    (1, report(Edema=1), report(Edema=1), 10, 5.0),
    (1, report(No_Finding=1), report(Fracture=1), 20, 30.0),
    (2, report(Edema=1, Pneumonia=-1), report(Pneumonia=-1), 10, 13.0),
]


def test_loss_is_weighted_by_token(score):
    assert score(ROWS)["test_loss"] == pytest.approx(48 / 40)


def test_bleu_is_sacrebleus_of_normalised_texts(score):
    scores = score(ROWS)
    hypotheses = [normalise(row[2]) for row in ROWS]
    references = [normalise(row[1]) for row in ROWS]
    expected = sacrebleu.corpus_bleu(hypotheses, [references])
    assert scores["bleu"] == pytest.approx(expected.score)
    assert scores["bleu_signature"].startswith("nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp")


def test_text_decoded_from_wordpiece_scores_as_the_report_itself(score):
    rows = [(s, r, normalise(r), t, n) for s, r, _, t, n in ROWS]
    scores = score(rows)
    assert scores["bleu"] == pytest.approx(100)
    assert scores["bleu_0_1"] == pytest.approx(1)
    assert scores["findings_f1"] == 1
    assert scores["unparsable_share"] == 0


def test_findings_by_hand(score):
    scores = score(ROWS)
    # Present: Edema found once and missed once, Fracture wrongly stated.
    assert scores["findings_f1"] == pytest.approx(2 / (2 + 1 + 1))
    assert scores["findings"]["suspected"]["micro"]["f1"] == 1
    assert scores["findings"]["present"]["labels"]["No_Finding"]["recall"] == 0


def test_texts_that_are_no_report_are_told(score):
    rows = [
        (1, report(Edema=1), "Evidence of edema is present. The moon is round.", 1, 1.0),
        (2, report(Edema=1), "", 1, 1.0),
        (3, report(Edema=1), "", 1, 1.0),
    ]
    scores = score(rows)
    assert scores["unparsable_share"] == 0.5
    assert (scores["distinct_texts"], scores["empty_texts"], scores["sentences"]) == (2, 2, 2)


def test_shuffled_stands_apart(score):
    scores = score(ROWS, shuffled=[report(Edema=0)] * 3)
    assert scores["shuffled"]["findings_f1"] == 0
    assert scores["shuffled"]["test_loss"] == pytest.approx(2 * 48 / 40)
    assert scores["findings_f1"] == 0.5
    assert score(ROWS)["shuffled"] is None


def test_every_score_is_defined_where_it_stands(score):
    scores = score(ROWS, shuffled=[report(Edema=0)] * 3)
    numbers = {"test_loss", "bleu", "bleu_0_1", "findings_f1", "findings_macro_f1", *VARIETY}
    assert numbers <= scores.keys()
    assert set(scores["definitions"]) == numbers | {"intervals", "shuffled", "mean_image"}
    assert "sacrebleu, 0 to 100" in scores["definitions"]["bleu"]


def test_constants_by_hand():
    constants = constant_reports(TRAINING, "corrected")
    assert constants["constant_report"].columns == {"hypothesis": report(No_Finding=1)}
    assert constants["constant_report"].account == {"training_reports": 2 / 6}
    # 7 present pathologies in 6 reports: one a report. Edema three times, the commonest.
    assert constants["label_prior"].account == {"pathologies": ["Edema"]}
    assert constants["label_prior"].columns == {"hypothesis": report(Edema=1)}
    # F1 of the k commonest: 6/13, 10/19, 12/25, 14/31: the best is two.
    assert constants["best_prior"].account == {"pathologies": ["Edema", "Fracture"]}


def test_baselines_are_scored_as_if_a_model_wrote_them(score):
    baselines = score(ROWS)["baselines"]
    as_model = score([(s, r, report(Edema=1), t, n) for s, r, _, t, n in ROWS])
    assert baselines["label_prior"]["findings_f1"] == as_model["findings_f1"] == 4 / 5
    assert baselines["label_prior"]["bleu"] == as_model["bleu"]
    assert baselines["constant_report"]["findings_f1"] == 0


def test_sums_by_group_give_the_scores_back(score, tmp_path):
    scores = score(ROWS, shuffled=[row[1] for row in ROWS])
    sums = pl.read_parquet(tmp_path / "sums.parquet")
    model = sums.filter(pl.col("predictions") == "model")
    assert model["group"].to_list() == ["1", "2"]
    assert (scores["rows"], scores["groups"]) == (3, 2)
    metrics = open_task(task_of(), tmp_path / "train.parquet").metrics
    assert set(sum_columns(metrics)) == {*model.columns} - {"predictions", "group"}
    for metric in metrics:
        total = model.select(metric.statistics.columns).to_numpy().sum(axis=0)
        assert scores[metric.name] == pytest.approx(float(metric.value(total)))
    assert {metric.name for metric in metrics} == {
        "test_loss", "bleu", "bleu_0_1", "findings_f1", "findings_macro_f1", *VARIETY,
    }  # fmt: skip
    assert set(sums["predictions"]) == {
        "model", "shuffled", "constant_report", "label_prior", "best_prior",
    }  # fmt: skip


def many(rows: int, seed: int = 0):
    source = np.random.default_rng(seed)

    def text():
        labels = {
            label: int(value)
            for label in PATHOLOGIES
            if (value := source.choice([-2, -1, 0, 1], p=[0.6, 0.1, 0.15, 0.15])) > -2
        }
        return TEMPLATE.render(labels) or report(No_Finding=1)

    references = [text() for _ in range(rows)]
    return [
        (row // 3, reference, reference if source.random() < 0.5 else text(), 30, 20.0)
        for row, reference in enumerate(references)
    ]


def test_intervals_hold_the_score_and_shrink_with_groups(score):
    few, more = score(many(60)), score(many(600))
    for name in ("bleu", "bleu_0_1", "findings_f1", "findings_macro_f1"):
        for scores in (few, more):
            low, high = scores["intervals"][name]
            assert low < scores[name] < high
        width = [np.diff(scores["intervals"][name])[0] for scores in (few, more)]
        assert width[1] < 0.6 * width[0]


def test_same_input_same_bytes(score, tmp_path):
    score(many(60))
    first = [(tmp_path / name).read_bytes() for name in ("scores.json", "sums.parquet")]
    score(many(60))
    assert first == [(tmp_path / name).read_bytes() for name in ("scores.json", "sums.parquet")]


def test_a_thousand_rows_take_seconds(score):
    rows = many(1000)
    start = time.process_time()
    score(rows, shuffled=[row[2] for row in rows[::-1]], bootstrap_samples=1000)
    # About one second on one core; the bound only catches a bootstrap that scores texts anew.
    assert time.process_time() - start < 10


def test_a_missing_column_is_one_line(score, tmp_path):
    score(ROWS)
    pl.read_parquet(tmp_path / "predictions.parquet").drop("nll").write_parquet(
        tmp_path / "other.parquet"
    )
    with pytest.raises(InputError, match="no column 'nll'") as error:
        score_predictions(
            tmp_path / "other.parquet",
            task=task_of(),
            train=tmp_path / "train.parquet",
            bootstrap_samples=10,
            confidence=0.95,
            seed=1,
            output=tmp_path / "none.json",
            sums=tmp_path / "none.parquet",
        )
    assert "\n" not in str(error.value)
    assert not (tmp_path / "none.json").exists()


def test_command_scores_real_text_as_the_reference_implementation(shared_data, capsys):
    folder = shared_data / "e2e-metric-golden"
    status = main([str(folder / "hyp_first_ref.txt"), str(folder / "refs.txt"), "--lowercase"])
    scores = json.loads(capsys.readouterr().out)
    assert status == 0
    assert scores["bleu_0_1"] == pytest.approx(0.5995, abs=5e-5)
    assert (scores["rows"], scores["references"]) == (547, 4672 - 547)
    assert scores["unparsable_share"] == 1
    assert scores["findings_f1"] is None


def test_command_is_sacrebleus_default_and_reads_findings(tmp_path, capsys):
    hypotheses, references = [row[2] for row in ROWS], [row[1] for row in ROWS]
    (tmp_path / "h.txt").write_text("\n".join(hypotheses) + "\n")
    (tmp_path / "r.txt").write_text("\n".join(references) + "\n")
    assert main([str(tmp_path / "h.txt"), str(tmp_path / "r.txt")]) == 0
    scores = json.loads(capsys.readouterr().out)
    assert scores["bleu"] == pytest.approx(sacrebleu.corpus_bleu(hypotheses, [references]).score)
    assert scores["findings_f1"] == 0.5


@pytest.mark.parametrize(
    ("content", "expected"),
    [("one line\n", "1 lines, expected 2"), (None, "No such file"), ("", "empty")],
)
def test_command_refuses_in_one_line_without_traceback(tmp_path, content, expected):
    (tmp_path / "h.txt").write_text("one\ntwo\n")
    if content is not None:
        (tmp_path / "r.txt").write_text(content)
    done = subprocess.run(
        [sys.executable, "-m", "peft_ablation.scoring", tmp_path / "h.txt", tmp_path / "r.txt"],
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert expected in done.stderr
    assert done.stderr.count("\n") == 1


def test_command_says_why_a_measure_is_absent(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("peft_ablation.metrics.coco.missing", lambda: "java is not installed")
    (tmp_path / "texts").write_text("a cat\n\n", encoding="utf-8")
    (tmp_path / "truths").write_text("a cat\na dog\n", encoding="utf-8")
    assert main([str(tmp_path / "texts"), str(tmp_path / "truths"), "--bootstrap-samples=9"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["absent"] == {"meteor, rouge_l, cider": "java is not installed"}
    assert not {"meteor", "rouge_l", "cider"} & set(found)
    assert found["exact_match"] == 0.5
    assert {"bleu", "chrf", "nist"} <= set(found)


def test_command_tells_variety_and_length_with_intervals(tmp_path, capsys):
    (tmp_path / "texts").write_text("a cat\nThe cat sat\nthe\n", encoding="utf-8")
    (tmp_path / "truths").write_text("a cat\na dog\nno\n", encoding="utf-8")
    files = [str(tmp_path / "texts"), str(tmp_path / "truths"), "--bootstrap-samples=50"]
    assert main([*files, "--lowercase"]) == 0
    found = json.loads(capsys.readouterr().out)
    # a cat the sat of six words; three pairs, all different; 6 words where the references have 5.
    expected = {"distinct_1": 4 / 6, "distinct_2": 1.0, "length": 2.0, "length_ratio": 6 / 5}
    assert {name: found[name] for name in VARIETY} == pytest.approx(expected)
    low, high = found["intervals"]["length"]
    assert 1 <= low < 2 < high <= 3
    assert main(files) == 0
    assert json.loads(capsys.readouterr().out)["distinct_1"] == pytest.approx(5 / 6)


def test_torch_is_not_imported():
    code = "import sys, peft_ablation.scoring.scores; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
