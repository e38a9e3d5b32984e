"""Scores by subgroup: against scikit-learn's of the subgroup's rows, and by hand."""

import json

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import accuracy_score, f1_score

from peft_ablation.comparison.by_group import MISSING, by_group_blocks, compare_by_group, subgroups
from peft_ablation.comparison.pages import markdown
from peft_ablation.comparison.words import Words
from peft_ablation.config.loading import load_config
from peft_ablation.errors import InputError
from peft_ablation.metrics.findings import findings_breakdown, findings_metrics
from peft_ablation.metrics.metric import statistics_of
from peft_ablation.scoring.scores import score_predictions
from peft_ablation.sources.mimic.reports import load_template
from peft_ablation.tasks.text_classification import Settings, TextClassification

TASK = Settings(name="text_classification").model_dump(mode="json")
CLASSES = ["bad", "fair", "good"]
GENRES = ["letters", "travel", None]
RIGHT = {"fft": 0.9, "lora": 0.6}


def drawn(rows=90):
    random = np.random.default_rng(3)
    return pl.DataFrame(
        {
            "example_id": [f"e{row}" for row in range(rows)],
            # Three rows a group, of different genres: a group lies in several subgroups.
            "group": [f"g{row // 3}" for row in range(rows)],
            "label": random.choice(CLASSES, rows),
            "genre": [GENRES[row % 3] if row % 7 else "rare" for row in range(rows)],
        }
    )


def predicted(table, right, seed):
    random = np.random.default_rng([seed, int(10 * right)])
    guess = np.where(
        random.random(table.height) < right, table["label"], random.choice(CLASSES, table.height)
    )
    return table.select("example_id", "group", "label").with_columns(
        predicted=pl.Series(guess), probability=pl.lit(0.5),
        nll=pl.Series(random.random(table.height)),
    )  # fmt: skip


@pytest.fixture
def compared(tmp_path):
    """Return a function that compares two arms of two seeds on a test table by its columns."""

    def run(test, columns, arms=RIGHT, public=True):
        train = tmp_path / "train.parquet"
        pl.DataFrame({"text": CLASSES, "label": CLASSES}).write_parquet(train)
        test.write_parquet(tmp_path / "test.parquet")
        runs = [(arm, seed) for arm in arms for seed in (0, 1)]
        paths = []
        for arm, seed in runs:
            folder = tmp_path / f"{arm}-{seed}"
            folder.mkdir(exist_ok=True)
            predicted(drawn(), arms[arm], seed).join(
                test.select("example_id"), on="example_id", maintain_order="left"
            ).write_parquet(folder / "p.parquet")
            score_predictions(
                folder / "p.parquet", task=TASK, train=train, bootstrap_samples=10,
                confidence=0.95, seed=1, output=folder / "s.json", sums=folder / "sums.parquet",
            )  # fmt: skip
            paths.append(folder)
        compare_by_group(
            runs=runs, sums=[path / "sums.parquet" for path in paths],
            predictions=[path / "p.parquet" for path in paths], test=tmp_path / "test.parquet",
            columns=columns, public=public, task=TASK, train=train, reference="fft",
            confidence=0.95, table=tmp_path / "by.csv", account=tmp_path / "by.json",
        )  # fmt: skip
        told = json.loads((tmp_path / "by.json").read_text())["tables"]
        return pl.read_csv(tmp_path / "by.csv"), told

    return run


def test_scores_are_those_of_the_rows_of_each_subgroup(compared):
    test = drawn()
    rows, _ = compared(test, ["genre"])
    for value in ("letters", "travel", "rare", MISSING):
        genre = None if value == MISSING else value
        chosen = test["genre"].eq_missing(genre)
        for arm, right in RIGHT.items():
            (row,) = rows.filter(
                column="genre", value=value, arm=arm, metric="accuracy"
            ).iter_rows(named=True)  # fmt: skip
            runs = [predicted(test, right, seed).filter(chosen) for seed in (0, 1)]
            expected = [accuracy_score(run["label"], run["predicted"]) for run in runs]
            assert row["score"] == pytest.approx(np.mean(expected))
            assert row["examples"] == chosen.sum()
            assert row["groups"] == test.filter(chosen)["group"].n_unique()


def test_every_class_is_a_line_with_its_f1(compared):
    test = drawn()
    rows, _ = compared(test, [])
    assert rows["value"].unique(maintain_order=True).to_list() == CLASSES
    runs = [predicted(test, RIGHT["lora"], seed) for seed in (0, 1)]
    for value in CLASSES:
        (row,) = rows.filter(column="class", value=value, arm="lora").iter_rows(named=True)
        expected = [
            f1_score(run["label"], run["predicted"], labels=[value], average="macro")
            for run in runs
        ]
        assert row["score"] == pytest.approx(np.mean(expected))
        assert row["examples"] == (test["label"] == value).sum()


def test_a_subgroup_is_compared_as_if_the_test_held_nothing_else(compared):
    test = drawn()
    rows, _ = compared(test, ["genre"])
    part, _ = compared(test.filter(genre="travel"), ["genre"])
    own = rows.filter(column="genre", value="travel").drop("p_holm")
    alone = part.filter(column="genre").drop("p_holm")
    assert own.equals(alone)
    assert own.filter(arm="lora")["difference_low"].null_count() == 0


def test_a_subgroup_of_one_group_has_a_score_and_no_interval(compared):
    sites = {"g4": "small", "g5": "pair", "g6": "pair"}
    test = drawn().with_columns(site=pl.col("group").replace_strict(sites, default="large"))
    rows, _ = compared(test, ["site"])
    small = rows.filter(column="site", value="small", metric="accuracy")
    assert (small["examples"][0], small["groups"][0]) == (3, 1)
    assert small["score"].null_count() == 0
    assert small["score_low"].null_count() == small["difference"].null_count() == 2
    for value in ("large", "pair"):
        own = rows.filter(column="site", value=value, metric="accuracy")
        assert own["score_low"].null_count() == 0


def test_a_class_of_one_group_has_a_score_and_no_interval(compared):
    test = drawn()
    one = test.filter(label="bad")["group"][0]
    rows, _ = compared(test.filter((pl.col("label") != "bad") | (pl.col("group") == one)), [])
    bad = rows.filter(value="bad")
    assert bad["groups"].to_list() == [1, 1]
    assert bad["score"].null_count() == 0
    assert bad["score_low"].null_count() == bad["difference"].null_count() == 2


def test_groups_that_have_nothing_of_a_class_do_not_count(compared):
    test = drawn()
    runs = [predicted(test, right, seed) for right in RIGHT.values() for seed in (0, 1)]
    of_bad = [
        run.filter((pl.col("label") == "bad") | (pl.col("predicted") == "bad")) for run in runs
    ]
    touched = pl.concat(of_bad)["group"].unique()
    assert len(touched) < test["group"].n_unique()
    rows, _ = compared(test, [])
    fewer, _ = compared(test.filter(pl.col("group").is_in(touched.implode())), [])
    own, alone = (found.filter(value="bad").drop("p_holm") for found in (rows, fewer))
    assert own.equals(alone)


def test_a_difference_is_that_of_the_arm_less_the_reference(compared, tmp_path):
    rows, told = compared(drawn(), ["genre"], {"lora": 0.6, "fft": 0.9})
    for _, own in rows.filter(column="genre", metric="accuracy").group_by("value"):
        fft, lora = (own.filter(arm=arm).row(0, named=True) for arm in ("fft", "lora"))
        assert fft["difference"] is None
        assert lora["difference"] == pytest.approx(lora["score"] - fft["score"])
    for table in told:
        assert table["largest"]["difference"] > 0
    accuracy = next(t["largest"] for t in told if t["title"] == "accuracy")
    assert (accuracy["arm"], accuracy["other"]) == ("fft", "lora")


def test_holm_corrects_over_the_subgroups_of_a_table(compared):
    rows, told = compared(drawn(), ["genre"], {"fft": 0.9, "lora": 0.5, "ia3": 0.7})
    tests = rows.filter(column="genre", metric="accuracy")["p_holm"].drop_nulls()
    assert len(tests) == 8  # two arms against the reference in four subgroups
    (accuracy,) = (t for t in told if t["column"] == "genre" and t["metric"] == "accuracy")
    largest = accuracy["largest"]
    assert largest["comparisons"] == 12  # three pairs in four subgroups
    scores = rows.filter(column="genre", metric="accuracy")
    spread = {
        value: own["score"].max() - own["score"].min() for (value,), own in scores.group_by("value")
    }
    assert largest["value"] == max(spread, key=spread.get)
    assert largest["difference"] == pytest.approx(max(spread.values()))
    assert largest["difference_low"] < largest["difference"] < largest["difference_high"]


def test_the_page_shows_the_headline_of_a_column_and_names_the_largest_difference(
    compared, tmp_path
):
    compared(drawn(), ["genre"])
    words = Words.of(TextClassification(TASK, pl.read_parquet(tmp_path / "train.parquet")), "row")
    page = markdown(by_group_blocks(tmp_path / "by.csv", tmp_path / "by.json", words, 0.95))
    headings = [line for line in page.splitlines() if line.startswith("###")]
    assert headings == ["### F1 by class", "### Accuracy by genre"]
    assert f"| {MISSING} | 26 | 26 | " in page
    assert page.count("Largest difference between arms: fft less lora at ") == 2


@pytest.mark.parametrize(
    ("column", "public", "told"),
    [
        ("absent", True, "is not there, found example_id, group, label, genre, note, tags"),
        ("tags", True, "holds lists"),
        ("example_id", True, "has 90 values in 90 rows, expected at most 50;"),
        ("note", False, "has 46 values in 90 rows, expected at most 50 and two rows a value;"),
    ],
)
def test_a_column_that_tells_no_subgroups_is_refused_in_one_line(tmp_path, column, public, told):
    table = drawn().with_columns(
        note=pl.Series([f"n{min(row, 45)}" for row in range(90)]),
        tags=pl.Series([["a"]] * 90),
    )
    table.write_parquet(tmp_path / "test.parquet")
    with pytest.raises(InputError) as caught:
        subgroups(tmp_path / "test.parquet", [column], public)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "n45" not in str(caught.value)


def test_a_public_study_may_show_values_of_single_rows(tmp_path):
    table = drawn().with_columns(note=pl.Series([f"n{min(row, 45)}" for row in range(90)]))
    table.write_parquet(tmp_path / "test.parquet")
    assert subgroups(tmp_path / "test.parquet", ["note"], True)["note"].n_unique() == 46


@pytest.mark.parametrize(
    ("column", "told"),
    [
        ("view", "no column of the examples, allowed: Atelectasis, "),
        ("view_positon", "did you mean 'view_position'"),
        ("subject_id", "which is an id or a path"),
        ("example_id", "which is an id or a path"),
        ("finding", "which is shown anyway"),
    ],
)
def test_a_study_that_names_another_column_is_refused_before_anything_runs(column, told):
    overrides = {"score": {"subgroups": [column]}}
    with pytest.raises(InputError) as caught:
        load_config({"study": "phantom_cxr", "overrides": overrides})
    assert f"score.subgroups: found {column!r}" in str(caught.value)
    assert told in str(caught.value)


def test_a_table_may_have_a_column_for_subgroups_alone(tmp_path):
    (tmp_path / "MNLI").mkdir()
    for name in ("train", "dev_matched"):
        (tmp_path / "MNLI" / f"{name}.tsv").touch()
    config = load_config({"study": "glue_mnli", "data_root": str(tmp_path)})
    assert config.study.score.subgroups == ("genre",)
    assert "genre" in config.source.columns


def test_f1_of_a_finding_by_hand():
    write = load_template("corrected").render
    texts = [({"Edema": 1}, {"Edema": 1}), ({"Edema": 1}, {"Fracture": 1}), ({}, {"Fracture": 0})]
    (metric, _) = findings_metrics("corrected")
    table = pl.DataFrame(
        {
            "hypothesis": [write(stated) or "" for stated, _ in texts],
            "reference": [write(true) or "" for _, true in texts],
        }
    )
    sums = dict(zip(metric.statistics.columns, statistics_of([metric], table).sum(0), strict=True))
    told = findings_breakdown()

    def of(name):
        own = np.array([sums[column] for column in told.parts[name]])
        return told.value(own), own[list(told.counted)].sum()

    assert of("Edema") == (pytest.approx(2 / 3), 1)
    assert of("Fracture") == (0, 1)
    assert np.isnan(of("Pneumonia")[0])
    assert len(told.parts) == 14
