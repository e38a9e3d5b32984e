"""The comparison of arms: means, intervals, paired differences and verdicts."""

import csv
import json
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
from tiny_study import SCORE, task_of

from peft_ablation.comparison.page import _at_chance
from peft_ablation.comparison.table import compare_arms
from peft_ablation.comparison.words import Words
from peft_ablation.errors import InputError
from peft_ablation.scoring.scores import score_predictions
from peft_ablation.sources.mimic.labels import LABELS, PATHOLOGIES
from peft_ablation.sources.mimic.reports import load_template
from peft_ablation.tasks import Claim

TEMPLATE = load_template("corrected")
ARMS = {
    "fft": {"method": "full", "learning_rate": 1e-3},
    "lora_text": {"method": "lora", "targets": "text", "r": 8, "learning_rate": 5e-3},
}
NEEDED = [
    "arm",
    "seeds",
    "trainable_parameters",
    "total_parameters",
    "trainable_percent",
    "bleu",
    "findings_f1",
    "test_loss",
    "train_seconds",
    "peak_memory_mb",
    "adapter_mb",
    "rank",
]


def predictions(skill: float, seed: int, subjects: int = 60) -> pl.DataFrame:
    """Return predictions that state a label as the reference does with probability `skill`."""
    truth, chance = np.random.default_rng(0), np.random.default_rng([1, seed])

    def draw(source):
        return source.choice([0, 1], p=[0.7, 0.3], size=len(PATHOLOGIES))

    def text(values):
        labels = {label: 1 for label, value in zip(PATHOLOGIES, values, strict=True) if value}
        return TEMPLATE.render(labels or {"No_Finding": 1})

    rows = []
    for row in range(subjects * 2):
        reference = draw(truth)
        right = chance.random(len(PATHOLOGIES)) < skill
        rows.append(
            {
                "example_id": f"d{row}",
                "group": str(row // 2),
                "reference": text(reference),
                "hypothesis": text(np.where(right, reference, draw(chance))),
                "tokens": 20,
                "nll": 20.0 * (1.5 - skill) + chance.random(),
                "hypothesis_shuffled": text(draw(chance)),
                "nll_shuffled": 40.0,
            }
        )
    return pl.DataFrame(rows)


@pytest.fixture
def compare(tmp_path: Path):
    """Return a function that compares arms of given skill by seed; gives the rows of the CSV."""
    training = pl.DataFrame(
        [
            {**dict.fromkeys(LABELS), "Edema": 1, "report": TEMPLATE.render({"Edema": 1})},
            {**dict.fromkeys(LABELS), "Fracture": 1, "report": TEMPLATE.render({"Fracture": 1})},
        ],
        schema={**dict.fromkeys(LABELS, pl.Int8), "report": pl.String},
    )
    training.write_parquet(tmp_path / "train.parquet")

    def compared(
        skills: dict[str, list[float]],
        arms=ARMS,
        subjects=None,
        reference="fft",
        study="toy",
        metrics=None,
        bases=None,
        score=None,
        trials=None,
        **costs,
    ):
        runs, paths = [], {"scores": [], "sums": [], "costs": []}
        for arm, by_seed in skills.items():
            for seed, skill in enumerate(by_seed):
                folder = tmp_path / f"{arm}-{seed}"
                folder.mkdir(exist_ok=True)
                number = (subjects or {}).get(arm, 60)
                predictions(skill, seed * 7 + len(arm), number).write_parquet(folder / "p.parquet")
                score_predictions(
                    folder / "p.parquet",
                    task=task_of(),
                    train=tmp_path / "train.parquet",
                    bootstrap_samples=20,
                    confidence=0.95,
                    seed=1,
                    output=folder / "scores.json",
                    sums=folder / "sums.parquet",
                )
                cost = {
                    "base": (bases or {}).get(arm, "tiny"),
                    "trainable_parameters": 1000 if arm == "fft" else 50,
                    "total_parameters": 1000 if arm == "fft" else 1050,
                    "rank": None if arm == "fft" else 8,
                    "adapter_mb": 4.0,
                    "train_seconds": 10.0 + seed,
                    "evaluate_seconds": 1.0,
                    "saving_seconds": 0.5,
                    "waiting_seconds": 0.25 + seed,
                    "peak_memory_mb": 100.0 + seed,
                    "mean_memory_mb": 90.0,
                    "reserved_peak_memory_mb": 120.0 - seed,
                    "reserved_mean_memory_mb": 110.0,
                    "memory_kind": "process_rss",
                    "energy_joules": None,
                    "epochs": 6,
                    "best_epoch": 6 - seed,
                    "examples_per_second": 500.0,
                    "tokens_per_second": 9000.0,
                    "device": "cpu",
                    "precision": "fp32",
                    **costs,
                }
                (folder / "cost.json").write_text(json.dumps(cost))
                runs.append((arm, seed))
                for kind, name in zip(
                    paths, ("scores.json", "sums.parquet", "cost.json"), strict=True
                ):
                    paths[kind].append(folder / name)
        compare_arms(
            runs=runs,
            **paths,
            arms=arms,
            task=task_of(),
            train=tmp_path / "train.parquet",
            reference=reference,
            group="subject",
            study=study,
            config={"arms": arms, "score": {**SCORE, "metrics": metrics} | (score or {})},
            confidence=0.95,
            published=[],
            trials=trials,
            table=tmp_path / "comparison.csv",
            words=tmp_path / "words.json",
            estimates=tmp_path / "estimates.json",
            looks=tmp_path / "looks.csv",
            markdown_page=tmp_path / "comparison.md",
            html_page=tmp_path / "comparison.html",
            manifest=tmp_path / "manifest.json",
        )
        with (tmp_path / "comparison.csv").open() as file:
            return {row["arm"]: row for row in csv.DictReader(file)}

    return compared


def scores_of(tmp_path: Path, run: str) -> dict:
    return json.loads((tmp_path / run / "scores.json").read_text())


def test_one_row_an_arm_with_every_needed_column(compare):
    rows = compare({"fft": [0.9, 0.8], "lora_text": [0.6, 0.7]})
    assert list(rows) == ["fft", "lora_text"]
    assert set(NEEDED) <= set(rows["fft"])
    assert all(rows["lora_text"][column] for column in NEEDED)
    assert rows["fft"]["rank"] == ""
    assert float(rows["lora_text"]["trainable_percent"]) == pytest.approx(100 * 50 / 1050)


def test_scores_are_means_over_seeds_and_memory_is_the_largest(compare, tmp_path):
    row = compare({"fft": [0.9, 0.8], "lora_text": [0.6, 0.7]})["lora_text"]
    for metric in ("bleu", "findings_f1", "test_loss"):
        values = [scores_of(tmp_path, f"lora_text-{seed}")[metric] for seed in (0, 1)]
        assert float(row[metric]) == pytest.approx(sum(values) / 2)
        # Of two values the sample standard deviation is their distance over the root of two.
        assert float(row[f"{metric}_sd"]) == pytest.approx(abs(values[0] - values[1]) / 2**0.5)
        assert [float(value) for value in row[f"{metric}_by_seed"].split()] == values
        assert float(row[f"{metric}_low"]) < float(row[metric]) < float(row[f"{metric}_high"])
    assert float(row["train_seconds"]) == 10.5
    assert float(row["peak_memory_mb"]) == 101
    assert float(row["reserved_peak_memory_mb"]) == 120
    assert float(row["waiting_seconds"]) == 0.75
    assert row["best_epoch"] == "6 5"


def test_an_interval_ends_where_its_metric_does(compare):
    row = compare({"fft": [0.2, 1.0], "lora_text": [0.7, 0.7]})["fft"]
    assert (float(row["findings_f1_low"]), float(row["findings_f1_high"])) == (0, 1)
    assert float(row["bleu_high"]) == 100


def test_interval_widens_when_seeds_disagree(compare):
    def width(row):
        return float(row["findings_f1_high"]) - float(row["findings_f1_low"])

    agree = compare({"fft": [0.7, 0.7], "lora_text": [0.7, 0.7]})["fft"]
    disagree = compare({"fft": [0.4, 0.95], "lora_text": [0.7, 0.7]})["fft"]
    assert width(disagree) > 2 * width(agree)


def test_difference_is_paired_and_signed(compare):
    rows = compare({"fft": [0.9, 0.9], "lora_text": [0.6, 0.6]})
    row = rows["lora_text"]
    assert row["reference_arm"] == "fft"
    expected = float(row["findings_f1"]) - float(rows["fft"]["findings_f1"])
    assert float(row["findings_f1_difference"]) == pytest.approx(expected)
    assert float(row["findings_f1_difference_high"]) < 0
    assert float(row["test_loss_difference_low"]) > 0
    assert rows["fft"]["findings_f1_difference"] == ""


def test_pairing_narrows_the_difference_of_like_arms(compare, tmp_path):
    # The same texts in both arms: whatever subjects are drawn, the difference is nought.
    same = predictions(0.7, 5)
    compare({"fft": [0.7], "lora_text": [0.7]})
    for arm in ("fft-0", "lora_text-0"):
        same.write_parquet(tmp_path / arm / "p.parquet")
        score_predictions(
            tmp_path / arm / "p.parquet",
            task=task_of(),
            train=tmp_path / "train.parquet",
            bootstrap_samples=20,
            confidence=0.95,
            seed=1,
            output=tmp_path / arm / "scores.json",
            sums=tmp_path / arm / "sums.parquet",
        )
    names = ("fft-0", "lora_text-0")
    compare_arms(
        runs=[("fft", 0), ("lora_text", 0)],
        scores=[tmp_path / name / "scores.json" for name in names],
        sums=[tmp_path / name / "sums.parquet" for name in names],
        costs=[tmp_path / name / "cost.json" for name in names],
        arms=ARMS,
        task=task_of(),
        train=tmp_path / "train.parquet",
        reference="fft",
        group="subject",
        study="toy",
        config={"score": SCORE},
        confidence=0.95,
        published=[],
        table=tmp_path / "c.csv",
        words=tmp_path / "w.json",
        estimates=tmp_path / "e.json",
        looks=tmp_path / "looks.csv",
        markdown_page=tmp_path / "c.md",
        html_page=tmp_path / "c.html",
        manifest=tmp_path / "m.json",
    )
    row = pl.read_csv(tmp_path / "c.csv").to_dicts()[1]
    assert row["bleu_difference"] == row["bleu_difference_low"] == row["bleu_difference_high"] == 0
    assert row["bleu_low"] < row["bleu_high"]
    assert row["bleu_sd"] is None


def test_verdicts_of_a_model_that_looks_and_of_one_that_does_not(compare, tmp_path):
    rows = compare({"fft": [0.95], "lora_text": [0.0]})
    looks, guesses = rows["fft"], rows["lora_text"]
    assert looks["honest_learning"] == looks["beats_label_prior_findings_f1"] == "true"
    lost = float(looks["findings_f1_lost_when_shuffled"])
    expected = 1 - float(looks["findings_f1_shuffled"]) / float(looks["findings_f1"])
    assert lost == pytest.approx(expected)
    assert (lost >= 0.5) == (looks["loses_half_when_shuffled"] == "true")
    assert guesses["loses_half_when_shuffled"] == guesses["honest_learning"] == "false"
    baselines = scores_of(tmp_path, "fft-0")["baselines"]
    assert float(looks["label_prior_findings_f1"]) == baselines["label_prior"]["findings_f1"]
    assert float(looks["constant_report_bleu"]) == baselines["constant_report"]["bleu"]


def test_runs_on_other_groups_are_refused_in_one_line(compare):
    with pytest.raises(InputError, match="arm lora_text seed 0: tested on 50 groups") as error:
        compare({"fft": [0.9], "lora_text": [0.9]}, subjects={"lora_text": 50})
    assert "\n" not in str(error.value)


def test_without_full_fine_tuning_there_is_no_difference(compare, tmp_path):
    rows = compare({"lora_text": [0.8, 0.8]}, arms={"lora_text": ARMS["lora_text"]}, reference=None)
    assert rows["lora_text"]["reference_arm"] == rows["lora_text"]["bleu_difference"] == ""
    assert "no arm that trains every weight" in (tmp_path / "comparison.md").read_text()


def test_one_seed_gives_no_verdict_about_an_arm(compare, tmp_path):
    compare({"fft": [0.95], "lora_text": [0.3, 0.3]})
    assert "worse in these runs" in (tmp_path / "comparison.md").read_text()
    compare({"fft": [0.95, 0.95], "lora_text": [0.3, 0.3]})
    page = (tmp_path / "comparison.md").read_text()
    assert "in these runs" not in page
    assert "| worse |" in page


def test_the_headline_is_tested_and_a_margin_can_make_an_arm_equivalent(compare, tmp_path):
    skills = {"fft": [0.7, 0.7, 0.7], "lora_text": [0.7, 0.7, 0.7]}
    rows = compare(skills)
    row = rows["lora_text"]
    assert row["findings_f1_verdict"] == "undecided"
    assert 0.05 < float(row["findings_f1_p"]) == float(row["findings_f1_p_holm"])
    assert rows["fft"]["findings_f1_verdict"] == row["findings_f1_margin"] == ""
    assert "bleu_verdict" not in row
    row = compare(skills, score={"margin": {"findings_f1": 0.9}, "tested": ["bleu", "findings_f1"]})
    row = row["lora_text"]
    assert row["findings_f1_verdict"] == "equivalent within the margin"
    assert row["bleu_verdict"] == "undecided"
    page = (tmp_path / "comparison.md").read_text()
    assert page.count("equivalent within the margin |") == 1
    # Both are in one family: the smaller p counts twice.
    assert float(row["bleu_p_holm"]) >= 2 * min(float(row["bleu_p"]), float(row["findings_f1_p"]))


def test_runs_are_randomised_in_pairs_of_one_seed(compare, tmp_path):
    few = {"score": {"tested": ["bleu"]}, "subjects": {"fft": 20, "lora_text": 20}}
    rows = compare({"fft": [0.9, 0.9], "lora_text": [0.5, 0.5]}, **few)
    row = rows["lora_text"]
    assert float(row["bleu_p_randomised"]) == pytest.approx(1 / 10_001)
    assert float(row["bleu_effect_size"]) < -0.8
    assert rows["fft"]["bleu_p_randomised"] == rows["fft"]["bleu_effect_size"] == ""
    page = (tmp_path / "comparison.md").read_text()
    assert f"| {float(row['bleu_effect_size']):+.2f}, large |" in page
    alike = compare({"fft": [0.7, 0.7], "lora_text": [0.7, 0.7]}, **few)
    assert float(alike["lora_text"]["bleu_p_randomised"]) > 0.05
    # One run of the arm has no partner.
    alone = compare({"fft": [0.9], "lora_text": [0.5, 0.5]}, **few)
    assert alone["lora_text"]["bleu_p_randomised"] == ""


def test_a_metric_without_a_better_direction_is_told_but_not_tested(compare, tmp_path):
    compare({"fft": [0.9], "lora_text": [0.1]})
    page = (tmp_path / "comparison.md").read_text()
    lines = page.partition("## Difference to fft")[2].splitlines()
    header, row = ([cell.strip() for cell in lines[n].split("|")] for n in (2, 4))
    told = dict(zip(header, row, strict=True))
    assert told["BLEU, verdict"] == "worse in these runs"
    # Texts of an unskilled arm hold more chance findings, or fewer: never a better or worse.
    assert told["length, verdict"].split()[0] in ("higher", "lower", "not")
    with pytest.raises(InputError, match=r"^score.tested: found 'length', allowed .*: findings_f1"):
        compare({"fft": [0.9], "lora_text": [0.1]}, score={"tested": ["length"]})


@pytest.mark.parametrize("key", ["tested", "margin"])
def test_a_test_of_a_metric_that_the_task_has_not_is_refused(compare, key):
    value = {"tested": ["bluu"], "margin": {"bluu": 0.1}}[key]
    with pytest.raises(InputError, match=rf"score\.{key}: found 'bluu', allowed with this"):
        compare({"fft": [0.9], "lora_text": [0.8]}, score={key: value})


def test_any_arm_can_be_the_reference(compare):
    skills = {"fft": [0.9], "lora_text": [0.6]}
    to_fft, to_lora = compare(skills), compare(skills, reference="lora_text")
    assert to_lora["lora_text"]["bleu_difference"] == ""
    for metric in ("bleu", "findings_f1", "test_loss"):
        one, other = (
            float(row[f"{metric}_difference"]) for row in (to_fft["lora_text"], to_lora["fft"])
        )
        assert one == pytest.approx(-other)
        assert one != 0


def test_same_input_same_bytes(compare, tmp_path):
    names = ["comparison.csv", "comparison.md", "comparison.html", "manifest.json", "words.json"]
    compare({"fft": [0.9, 0.8], "lora_text": [0.6, 0.7]})
    first = [(tmp_path / name).read_bytes() for name in names]
    compare({"fft": [0.9, 0.8], "lora_text": [0.6, 0.7]})
    assert first == [(tmp_path / name).read_bytes() for name in names]


def test_an_arm_fares_the_same_whatever_arms_stand_beside_it(compare):
    both = compare({"fft": [0.9, 0.8], "lora_text": [0.6, 0.7]})["lora_text"]
    alone = compare(
        {"lora_text": [0.6, 0.7]}, arms={"lora_text": ARMS["lora_text"]}, reference=None
    )["lora_text"]
    for column in ("findings_f1", "findings_f1_low", "findings_f1_high", "bleu_low"):
        assert both[column] == alone[column]


class Cells(HTMLParser):
    def __init__(self):
        super().__init__()
        self.cells: list[str] = []
        self.open = False

    def handle_starttag(self, tag, attrs):
        self.open = tag in ("td", "th")
        if self.open:
            self.cells.append("")

    def handle_endtag(self, tag):
        self.open = False

    def handle_data(self, data):
        if self.open:
            self.cells[-1] += data


def test_markdown_and_html_hold_the_same_tables_of_even_rows(compare, tmp_path):
    compare({"fft": [0.9, 0.8], "lora_text": [0.6, 0.7]})
    text = (tmp_path / "comparison.md").read_text()
    lines = [line for line in text.splitlines() if line.startswith("|")]
    for table in text.split("\n\n"):
        widths = {line.count("|") for line in table.splitlines() if line.startswith("|")}
        assert len(widths) <= 1
    cells = [
        cell.strip()
        for line in lines
        if not line.startswith("| ---")
        for cell in line.strip("|").split(" | ")
    ]
    parser = Cells()
    parser.feed((tmp_path / "comparison.html").read_text())
    assert [cell.strip() for cell in parser.cells] == cells
    assert "lora_text" in cells and "commonest findings, always (no training)" in cells


def test_page_says_what_is_not_comparable(compare, tmp_path):
    compare({"fft": [0.9], "lora_text": [0.6]})
    text = (tmp_path / "comparison.md").read_text()
    assert "no equal budget of tuning" in text
    assert "fft 0.001, lora_text 0.005" in text
    assert "one seed" in text
    assert "Peak memory is that of the whole process" in text


def test_page_says_where_arms_start_from_different_bases(compare, tmp_path):
    skills = {"fft": [0.95], "lora_text": [0.9]}
    compare(skills)
    assert "different bases" not in (tmp_path / "comparison.md").read_text()
    compare(skills, bases={"lora_text": "small"})
    page = (tmp_path / "comparison.md").read_text()
    assert "different bases (fft tiny, lora_text small)" in page


def test_an_arm_at_chance_is_named_and_one_beyond_the_baseline_is_not():
    """Chance for ten classes is 0.1, and 2.3 nats: 0.1035 of 10,000 images is chance."""
    words = SimpleNamespace(
        claims=(Claim("accuracy", "majority"), Claim("loss", "majority")),
        baselines={"majority": "commonest class, always"},
        metrics={
            "accuracy": {"higher_is_better": True, "title": "accuracy"},
            "loss": {"higher_is_better": False, "title": "test loss"},
        },
        title=str,
    )

    def row(arm, accuracy, loss):
        baselines = {"majority_accuracy": 0.1, "majority_loss": 2.3}
        ends = {"accuracy_low": accuracy[0], "accuracy_high": accuracy[1]}
        return {"arm": arm, **baselines, **ends, "loss_low": loss[0], "loss_high": loss[1]}

    rows = [
        row("cnn", (0.0975, 0.1095), (2.29, 2.31)),
        row("vit", (0.69, 0.72), (0.9, 1.1)),
        row("worse", (0.05, 0.08), (2.4, 2.6)),
    ]
    by_accuracy, by_loss = (block.text for block in _at_chance(rows, words))
    assert "commonest class, always, or below it, by the interval of accuracy: cnn, worse." in (
        by_accuracy
    )
    assert "by the interval of loss: cnn, worse." in by_loss
    assert _at_chance(rows[1:2], words) == []


def test_manifest_names_config_and_every_input(compare, tmp_path):
    compare({"fft": [0.9], "lora_text": [0.6]})
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert len(manifest["inputs"]) == 6
    assert len(manifest["config_sha256"]) == 64
    assert manifest["study"] == "toy"


def test_words_are_those_of_the_task_and_come_back_from_their_file(compare, tmp_path):
    rows = compare({"fft": [0.9], "lora_text": [0.6]}, metrics=["bleu"])
    words = Words.read(tmp_path / "words.json")
    written = json.loads((tmp_path / "words.json").read_text())
    assert json.loads(json.dumps(words.as_json())) == written
    assert (words.example, words.group, words.headline) == ("report", "subject", "findings_f1")
    variety = ["distinct_1", "distinct_2", "length", "length_ratio"]
    assert words.compared == ["findings_f1", "bleu", "test_loss", *variety]
    assert words.shown == ("bleu",)
    assert words.axis("bleu") == "BLEU (0 to 100)"
    assert not words.metrics["test_loss"]["higher_is_better"]
    assert list(words.baselines) == ["constant_report", "label_prior", "best_prior", "nearest"]
    verdicts = {words.claim(claim) for claim in words.claims}
    assert verdicts == {
        "beats_constant_report_bleu",
        "beats_constant_report_findings_f1",
        "beats_label_prior_findings_f1",
    }
    assert verdicts <= set(rows["fft"])


def test_a_metric_that_the_task_has_not_is_refused_with_those_it_has(compare):
    with pytest.raises(InputError, match=r"^score.metrics: found 'blue', allowed.*'bleu'\?$"):
        compare({"fft": [0.9], "lora_text": [0.6]}, metrics=["blue"])


def test_counts_of_the_test_split_stand_in_table_and_page(compare, tmp_path):
    rows = compare({"fft": [0.9], "lora_text": [0.6]})
    assert (rows["fft"]["test_examples"], rows["fft"]["test_groups"]) == ("120", "60")
    assert "120 test reports of 60 subjects" in (tmp_path / "comparison.md").read_text()


@pytest.mark.parametrize(("study", "says"), [("toy", False), ("toy.smoke", True)])
def test_only_the_page_of_a_smoke_run_says_that_its_scores_mean_nothing(
    study, says, compare, tmp_path
):
    compare({"fft": [0.9], "lora_text": [0.6]}, study=study)
    for page in ("comparison.md", "comparison.html"):
        assert ("Its scores mean nothing." in (tmp_path / page).read_text()) is says


def test_an_arm_without_trials_is_said_not_to_be_tuned(compare, tmp_path):
    rows = compare({"fft": [0.9], "lora_text": [0.6]})
    assert {row["tuning"] for row in rows.values()} == {"not tuned"}
    assert [row["tuning_trials"] for row in rows.values()] == ["0", "0"]
    assert rows["fft"]["learning_rate_at_edge"] == ""
    page = (tmp_path / "comparison.md").read_text()
    assert "Not tuned: learning rates are set in the study (fft 0.001, lora_text 0.005)." in page
    assert page.count("| not tuned |") == 2


def trials_of(folder, arm, rates, chosen, seed=100):
    path = folder / f"{arm}.csv"
    pl.DataFrame(
        {
            "learning_rate": rates,
            "seed": [seed] * len(rates),
            "val_loss": [0.5] * len(rates),
            "train_seconds": [10.0, 2.5, 0.25][: len(rates)],
            "chosen": [rate == chosen for rate in rates],
        }
    ).write_csv(path)
    return path


def test_a_tuned_arm_has_the_rate_it_was_trained_with_its_trials_and_their_cost(compare, tmp_path):
    tuned = trials_of(tmp_path, "fft", [1e-4, 3e-4, 9e-4], 3e-4)
    rows = compare({"fft": [0.9], "lora_text": [0.6]}, trials={"fft": tuned}, learning_rate=3e-4)
    fft = rows["fft"]
    assert float(fft["learning_rate"]) == 3e-4  # and not the 1e-3 of its setting
    assert (fft["tuning"], fft["tuning_trials"], fft["tuning_seconds"]) == ("tuned", "3", "12.75")
    assert fft["learning_rate_at_edge"] == "no"
    assert rows["lora_text"]["tuning"] == "not tuned"
    page = (tmp_path / "comparison.md").read_text()
    assert "| 12.8 in 3 trials |" in page
    assert "Learning rates were chosen by 3 trials an arm" in page
    assert "At the edge" not in page
    assert "may flatter" not in page
    assert str(tuned) in json.loads((tmp_path / "manifest.json").read_text())["inputs"]


def test_a_rate_at_the_edge_of_its_grid_and_a_seed_of_training_are_said(compare, tmp_path):
    tuned = trials_of(tmp_path, "fft", [1e-4, 3e-4], 3e-4, seed=0)
    rows = compare({"fft": [0.9], "lora_text": [0.6]}, trials={"fft": tuned}, learning_rate=3e-4)
    assert rows["fft"]["learning_rate_at_edge"] == "largest"
    page = (tmp_path / "comparison.md").read_text()
    assert "| 0.0003, the largest tried |" in page
    assert "At the edge of the rates tried: fft 0.0003, the largest tried." in page
    assert rows["fft"]["tuning_seed_is_trained"] == "true"  # both have seed 0
    assert "The trials had a seed that arms are trained with, too" in page
