"""Further controls, from the columns of predictions to scores, table and page."""

import csv
import json

import numpy as np
import polars as pl
import pytest

from peft_ablation.artifacts import write_json, write_table
from peft_ablation.comparison.table import compare_arms
from peft_ablation.comparison.words import Words
from peft_ablation.config.study import Score
from peft_ablation.scoring.scores import score_predictions
from peft_ablation.tasks.text_classification import Settings, TextClassification

TASK = Settings(name="text_classification").model_dump(mode="json")
LABELS = ["no", "yes", "no", "yes"]
# Right of four: as they are all, without their texts two, without second texts three, of words one.
PREDICTED = {
    "": ["no", "yes", "no", "yes"],
    "_shuffled": ["yes", "no", "no", "yes"],
    "_second_shuffled": ["no", "yes", "no", "no"],
    "_words_shuffled": ["yes", "no", "yes", "yes"],
}
RIGHT = {"": 1, "_shuffled": 0.5, "_second_shuffled": 0.75, "_words_shuffled": 0.25}


@pytest.fixture
def train(tmp_path):
    table = pl.DataFrame({"text": ["a", "b", "c"], "text_pair": "d", "label": ["no", "yes", "no"]})
    write_table(table, tmp_path / "train.parquet")
    return tmp_path / "train.parquet"


def scored(folder, train, endings):
    columns = {"example_id": list("abcd"), "group": list("abcd"), "label": LABELS}
    for ending in endings:
        columns |= {
            f"predicted{ending}": PREDICTED[ending],
            f"probability{ending}": [0.75] * 4,
            f"nll{ending}": [0.5] * 4,
        }
    write_table(pl.DataFrame(columns), folder / "predictions.parquet")
    score_predictions(
        folder / "predictions.parquet", task=TASK, train=train, bootstrap_samples=50,
        confidence=0.95, seed=1, output=folder / "scores.json", sums=folder / "sums.parquet",
    )  # fmt: skip
    return json.loads((folder / "scores.json").read_text())


def test_each_control_is_scored_by_its_own_columns(tmp_path, train):
    scores = scored(tmp_path, train, PREDICTED)
    assert scores["accuracy"] == 1
    for control in ("shuffled", "second_shuffled", "words_shuffled"):
        assert scores[control]["accuracy"] == RIGHT[f"_{control}"]
        assert scores["definitions"][control]
    # All four columns of a control lie beside the model's in the sums.
    sums = pl.read_parquet(tmp_path / "sums.parquet")
    assert set(sums["predictions"]) == {
        "model", "shuffled", "second_shuffled", "words_shuffled", "majority",
    }  # fmt: skip


def test_controls_that_were_not_predicted_are_nothing(tmp_path, train):
    scores = scored(tmp_path, train, [""])
    assert scores["shuffled"] is scores["second_shuffled"] is scores["words_shuffled"] is None


def test_table_and_page_show_every_control_and_demand_of_one_alone(tmp_path, train):
    scored(tmp_path, train, PREDICTED)
    cost = {
        "trainable_parameters": 1, "total_parameters": 2, "rank": None, "base": "b",
        "epochs": 1, "best_epoch": 1, "peak_memory_mb": 1, "reserved_peak_memory_mb": 1,
    }  # fmt: skip
    write_json(tmp_path / "cost.json", cost)
    compare_arms(
        runs=[("fft", 0)], scores=[tmp_path / "scores.json"], sums=[tmp_path / "sums.parquet"],
        costs=[tmp_path / "cost.json"], arms={"fft": {"method": "full", "learning_rate": 1.0}},
        task=TASK, train=train, reference=None, group="row", study="s",
        config={"score": Score().model_dump(mode="json")}, confidence=0.95, published=[],
        table=tmp_path / "c.csv",
        words=tmp_path / "words.json", estimates=tmp_path / "e.json",
        looks=tmp_path / "looks.csv",
        markdown_page=tmp_path / "c.md", html_page=tmp_path / "c.html",
        manifest=tmp_path / "m.json",
    )  # fmt: skip
    with (tmp_path / "c.csv").open() as file:
        (row,) = csv.DictReader(file)
    for ending, right in RIGHT.items():
        assert float(row[f"accuracy{ending}"]) == right
    # Above the majority's half, half is lost of a whole: all of it.
    assert float(row["accuracy_lost_when_shuffled"]) == 1
    assert row["loses_half_when_shuffled"] == row["honest_learning"] == "true"
    page = (tmp_path / "c.md").read_text()
    assert "| accuracy of | fft |" in page
    shown = ("own inputs", "inputs shuffled", "second texts shuffled", "words shuffled")
    for title, right in zip(shown, RIGHT.values(), strict=True):
        (line,) = (line for line in page.splitlines() if line.startswith(f"| {title} | "))
        assert line.startswith(f"| {title} | {right:.3f} [")
    assert "| commonest class, always (no training) | 0.500 [" in page
    assert "empty text |" not in page  # was not predicted
    assert "- Second texts shuffled: the second texts alone are permuted" in page
    looks = pl.read_csv(tmp_path / "looks.csv")
    above = dict(looks.filter(metric="accuracy").select("given", "above").iter_rows())
    assert above == {
        "model": None, "shuffled": 0.5, "second_shuffled": 0.25, "words_shuffled": 0.75,
        "majority": 0.5,
    }  # fmt: skip
    # A constant has no loss.
    assert "majority" not in looks.filter(metric="test_loss")["given"]
    read = Words.read(tmp_path / "words.json")
    assert list(read.controls) == ["second_shuffled", "words_shuffled", "empty_text"]
    assert read == Words.of(TextClassification(TASK, pl.read_parquet(train)), "row")


def test_a_task_without_further_controls_says_nothing_of_them(tmp_path):
    from peft_ablation.tasks.image_classification import ImageClassification
    from peft_ablation.tasks.image_classification import Settings as ImageSettings

    class Plain(ImageClassification):
        nearest = None

        def controls(self):
            return {}

    task = Plain(
        ImageSettings(name="image_classification").model_dump(mode="json"),
        pl.DataFrame({"label": ["a", "b"]}),
    )
    words = Words.of(task, "image")
    assert "controls" not in words.as_json()
    write_json(tmp_path / "words.json", words.as_json())
    read = Words.read(tmp_path / "words.json")
    assert read.controls == {}
    assert list(read.baselines) == ["majority"]


def test_predicting_calls_every_control_with_the_seed(tmp_path, monkeypatch):
    import torch

    from peft_ablation.scoring import predictions
    from peft_ablation.tasks import Control

    asked = []

    class Rows:
        ids = ["a", "b"]  # noqa: RUF012
        lengths = np.array([1, 1])

        def __init__(self, name):
            self.name = name

        def __len__(self):
            return 2

    class Tells:
        def truth(self, rows):
            return {"label": ["x", "y"]}

        def __call__(self, rows, indices):
            return {"predicted": [rows.name] * len(indices)}

    class Bound:
        def predictor(self, *_):
            return Tells()

        def examples(self, *_):
            return Rows("own")

        def discriminates(self, _):
            return False

        def shuffled(self, rows, seed):
            asked.append(seed)
            return Rows("shuffled")

        def controls(self):
            def change(rows, seed):
                asked.append(seed)
                return Rows("second")

            return {"second_shuffled": Control("t", "m", change)}

    monkeypatch.setattr(predictions, "open_task", lambda *_: Bound())
    monkeypatch.setattr(predictions, "load_trained", lambda *_: torch.nn.Identity())
    write_table(
        pl.DataFrame({"example_id": ["a", "b"], "group": ["g", "g"]}), tmp_path / "t.parquet"
    )
    predictions.write_predictions(
        task={}, arm={}, model="", base="", train="", test=tmp_path / "t.parquet", assets={},
        precision="fp32", threads=1, batch_size=2, shuffle_inputs=True, controls=True,
        probe=True, seed=4,
        output=tmp_path / "p.parquet",
    )  # fmt: skip
    found = pl.read_parquet(tmp_path / "p.parquet")
    assert found["predicted"][0] == "own"
    assert found["predicted_shuffled"][0] == "shuffled"
    assert found["predicted_second_shuffled"][0] == "second"
    assert asked == [4, 4]
