"""Figures: what they show is in their CSV, nothing is cut or overlaps, bytes do not change."""

import itertools
import json
import re
from pathlib import Path

import matplotlib.axes
import matplotlib.text
import numpy as np
import polars as pl
import pytest
from matplotlib.figure import Figure
from PIL import Image
from tiny_study import task_of

from peft_ablation.comparison.pareto import COSTS
from peft_ablation.comparison.sweep import POINTS, SPREADS
from peft_ablation.comparison.views import compare_views
from peft_ablation.comparison.words import Words
from peft_ablation.errors import InputError
from peft_ablation.figures.cost import plot_cost
from peft_ablation.figures.for_task import FigureInputs, draw_task_figure
from peft_ablation.figures.loss_curves import plot_loss_curves
from peft_ablation.figures.pareto import plot_pareto_fronts
from peft_ablation.figures.quality import make_room, plot_quality
from peft_ablation.figures.quality_cost import plot_quality_cost, spread
from peft_ablation.figures.split_balance import plot_split_balance
from peft_ablation.figures.style import MEGABYTES, TIME, Look, broken, scaled
from peft_ablation.figures.sweep import plot_sweep
from peft_ablation.figures.tuning import plot_tuning
from peft_ablation.figures.views import plot_views
from peft_ablation.sources.mimic.label_counts import plot_label_counts
from peft_ablation.sources.mimic.labels import LABELS
from peft_ablation.tasks import task_class
from peft_ablation.tasks.captioning.example_figure import flow, marked, sentences

ARMS = {
    "one": ["fft"],
    "three": ["fft", "lora_vision", "lora_text"],
    "six": [
        "full_fine_tuning_everything",
        "lora_vision_rank_8_rslora",
        "lora_text_rank_8_alpha_16",
        "lora_vision_and_text_rank_64",
        "lora_text_attention_only_r4",
        "adalora_budgeted_rank_12_to_4",
    ],
}


def comparison(path: Path, names: list[str], energy: bool = True) -> Path:
    source = np.random.default_rng(len(names))
    rows = []
    for number, name in enumerate(names):
        f1, bleu = source.uniform(0.3, 0.35), source.uniform(25, 50)
        rows.append(
            {
                "arm": name,
                "seeds": 2,
                "trainable_parameters": 10 ** (8 - number),
                "trainable_percent": 100 / 10**number,
                "bleu": bleu,
                "bleu_low": bleu - 2,
                "bleu_high": bleu + 2,
                "bleu_by_seed": f"{bleu - 1} {bleu + 1}",
                "bleu_shuffled": bleu - 15,
                "findings_f1": f1,
                "findings_f1_low": f1 - 0.03,
                "findings_f1_high": f1 + 0.03,
                "findings_f1_by_seed": f"{f1 - 0.01} {f1 + 0.01}",
                "findings_f1_shuffled": 0.14,
                "constant_report_bleu": 3.0,
                "label_prior_bleu": 43.7,
                "constant_report_findings_f1": 0.013,
                "label_prior_findings_f1": 0.102,
                "best_prior_bleu": 41.0,
                "best_prior_findings_f1": 0.13,
                "train_seconds": 9000.0 / (number + 1),
                "evaluate_seconds": 700.0,
                "saving_seconds": 90.0,
                "waiting_seconds": 40.0,
                "examples_per_second": 80.0 * (number + 1),
                "tokens_per_second": 2000.0 * (number + 1),
                "peak_memory_mb": 4752.0,
                "mean_memory_mb": 4100.0,
                "reserved_peak_memory_mb": 5300.0,
                "reserved_mean_memory_mb": 5250.0,
                "energy_joules": 2.5e6 / (number + 1) if energy else None,
                "memory_kind": "gpu_allocated",
                "adapter_mb": 706.5 / 10**number,
            }
        )
    pl.DataFrame(rows).write_csv(path)
    return path


TRAINING = pl.DataFrame(
    {label: [1, None] for label in LABELS} | {"report": ["evidence of edema is present.", "none."]}
)


def words(folder: Path) -> Path:
    task = task_class("captioning")(task_of(), TRAINING)
    said = Words.of(task, "subject", ["bleu", "findings_f1"])
    path = folder / "words.json"
    path.write_text(json.dumps(said.as_json(), sort_keys=True))
    return path


def draw_quality(folder: Path, names: list[str], outputs):
    table = comparison(folder / "comparison.csv", names)
    plot_quality(table, words=words(folder), outputs=outputs)


def draw_cost(folder: Path, names: list[str], outputs):
    plot_cost(comparison(folder / "comparison.csv", names), outputs=outputs)


def draw_quality_cost(folder: Path, names: list[str], outputs):
    table = comparison(folder / "comparison.csv", names)
    plot_quality_cost(table, words=words(folder), outputs=outputs)


def draw_loss_curves(folder: Path, names: list[str], outputs):
    runs, paths = list(itertools.product(names, [0, 1])), []
    for number, (arm, seed) in enumerate(runs):
        path = folder / f"{arm}-{seed}.csv"
        pl.DataFrame(
            {
                "epoch": [1, 2, 3],
                "train_loss": [2.0 + number, 1.0, 0.5],
                "val_loss": [2.5, 1.5 + 0.1 * number, 1.6],
                "learning_rate": [1e-4, 5e-5, 1e-6],
                "grad_norm": [3.0 + number, 1.0, 0.8],
            }
        ).write_csv(path)
        paths.append(path)
    plot_loss_curves(paths, runs=runs, outputs=outputs)


def draw_tuning(folder: Path, names: list[str], outputs):
    paths = []
    for number, name in enumerate(names):
        paths.append(folder / f"{name}.csv")
        pl.DataFrame(
            {
                "learning_rate": [10.0 ** (power - number) for power in (-3, -2, -1)],
                "val_loss": [0.5 + 0.1 * number, 0.4, None],
                "best_epoch": [3, 2, 1],
                "epochs": [3, 3, 1],
                "train_seconds": [9.0, 9.0, 3.5],
                "chosen": [False, True, False],
            }
        ).write_csv(paths[-1])
    plot_tuning(paths, arms=names, outputs=outputs)


def labels_table(path: Path, rows: int, seed: int) -> Path:
    source = np.random.default_rng(seed)
    values = source.choice([1, 0, -1, 9], p=[0.2, 0.1, 0.1, 0.6], size=(rows, len(LABELS)))
    columns = {
        label: pl.Series([None if value == 9 else value for value in column], dtype=pl.Int8)
        for label, column in zip(LABELS, values.T, strict=True)
    }
    columns["Pleural_Other"] = pl.Series([None] * rows, dtype=pl.Int8)
    pl.DataFrame(columns).write_parquet(path)
    return path


def draw_label_counts(folder: Path, names: list[str], outputs):
    paths = [
        labels_table(folder / f"{seed}.parquet", rows, seed)
        for seed, rows in enumerate((4000, 1000, 600, 200, 200))
    ]
    plot_label_counts(paths[0], paths[1], paths[2:], outputs=outputs)


def draw_split_balance(folder: Path, names: list[str], outputs):
    verdicts = ["excellent", "moderate", "poor", "no positives"]
    variation = [0.01, 0.03, 0.09, None]
    pl.DataFrame(
        {
            "label": list(LABELS),
            **{f"positives_{split}": [10] * 14 for split in ("train", "val", "test")},
            **{f"prevalence_{split}": [0.1] * 14 for split in ("train", "val", "test")},
            "coefficient_of_variation": [variation[row % 4] for row in range(14)],
            "verdict": [verdicts[row % 4] for row in range(14)],
        }
    ).write_csv(folder / "balance.csv")
    plot_split_balance(folder / "balance.csv", outputs=outputs)


LONG = " ".join(f"evidence of {label.lower().replace('_', ' ')} is present ." for label in LABELS)


def draw_examples(folder: Path, names: list[str], outputs, public=True):
    ids = [f"d{row}" for row in range(6)]
    np.save(folder / "shard-0.npy", np.full((6, 16, 16), 128, np.uint8))
    pl.DataFrame(
        {
            "example_id": ids,
            "shard": pl.Series([0] * 6, dtype=pl.Int32),
            "row": pl.Series(range(6), dtype=pl.Int32),
            "status": ["ok"] * 6,
            "detail": [""] * 6,
        }
    ).write_parquet(folder / "index.parquet")
    paths = {}
    for number, name in enumerate(names):
        paths[name] = folder / f"{name}.parquet"
        pl.DataFrame(
            {
                "example_id": ids,
                "group": ["1", "1", "1", "2", "3", "4"],
                "reference": ["evidence of edema is present . no evidence of fracture ."] * 6,
                "hypothesis": [LONG if number % 2 else "evidence of edema is present ."] * 6,
            }
        ).write_parquet(paths[name])
    draw_task_figure("examples", figure_inputs(folder, paths, public), outputs)


def figure_inputs(folder: Path, predictions: dict[str, Path], public: bool) -> FigureInputs:
    return FigureInputs(
        task=task_of(),
        arms={name: {} for name in predictions},
        predictions=predictions,
        models={},
        bases={},
        assets={"images": folder / "index.parquet"},
        train=folder / "train.parquet",
        public=public,
        seed=7,
    )


def draw_pareto(folder: Path, names: list[str], outputs):
    rows = []
    for number, name in enumerate(names):
        row = {"arm": name, "score": 0.3 + 0.02 * number, "score_low": 0.28, "score_high": 0.42}
        for cost in COSTS:
            price = 500.0 * 10 ** (number if cost == "trainable_parameters" else number / 4)
            row |= {cost: price, f"{cost}_low": 0.9 * price, f"{cost}_high": 1.1 * price}
            row |= {f"{cost}_on_front": number != 1, f"{cost}_on_front_probability": number / 6}
        rows.append(row)
    pl.DataFrame(rows).write_csv(folder / "pareto.csv")
    plot_pareto_fronts(folder / "pareto.csv", words=words(folder), outputs=outputs)


def draw_views(folder: Path, names: list[str], outputs, energy=None):
    runs, paths = list(itertools.product(names, [0, 1])), []
    for number, (arm, seed) in enumerate(runs):
        paths.append(folder / f"{arm}-{seed}.csv")
        pl.DataFrame(
            {
                "epoch": [1, 2, 3],
                "steps": [10] * 3,
                "val_loss": [2.5, 1.5 + 0.1 * number, 1.6],
                "seconds_training": [40.0 + number] * 3,
                "energy_joules": [energy] * 3,
            }
        ).write_csv(paths[-1])
    table = folder / "views.csv"
    compare_views(paths, runs=runs, reference=names[0], table=table)
    plot_views(paths, runs=runs, table=table, outputs=outputs)


def draw_sweep(folder: Path, names: list[str], outputs):
    """One study a name, of eleven ranks; a published number is far from all others."""
    points, spreads = [], []
    for number, name in enumerate(names):
        rows = []
        for metric, title, scale in (("bleu", "BLEU", 60.0), ("best_val_loss", "loss", 2.0)):
            told = {"base": f"org--{name}@main", "metric": metric, "title": title, "digits": 1}
            for power in range(11):
                score = scale + power + number
                own = {"kind": "ours", "line": "lora", "arm": f"lora_r{2**power}"}
                own |= {"swept": 2.0**power, "trainable_percent": 0.02 * 2**power}
                bar = {"score": score, "low": score - 1, "high": score + 1}
                rows.append({**told, **own, **bar, "by_seed": f"{score - 0.5} {score + 0.5}"})
                if metric == "bleu" and power in (0, 4):
                    rows.append({**told, **own, "kind": "published", "score": 16.0 * power})
            rows.append({**told, "kind": "reference", "arm": "fft", "trainable_percent": 100.0})
            rows[-1] |= {"score": scale + 5, "low": scale + 4, "high": scale + 6}
        points.append(folder / f"{name}-sweep.csv")
        pl.DataFrame(rows, schema=POINTS).write_csv(points[-1])
        spread = {"metric": "bleu", "line": "lora", "values": 11, "seeds": 2}
        spread |= {"sd_between": 1.0, "sd_seeds": 0.5, "matters": "undecided"}
        spreads.append(folder / f"{name}-spread.csv")
        pl.DataFrame([spread], schema=SPREADS).write_csv(spreads[-1])
    plot_sweep(points, spreads, studies=names, key="r", outputs=outputs)


FIGURES = {
    "sweep": draw_sweep,
    "pareto": draw_pareto,
    "views": draw_views,
    "quality": draw_quality,
    "cost": draw_cost,
    "quality_cost": draw_quality_cost,
    "loss_curves": draw_loss_curves,
    "tuning": draw_tuning,
    "label_counts": draw_label_counts,
    "split_balance": draw_split_balance,
    "examples": draw_examples,
}


@pytest.fixture
def drawn_texts(monkeypatch):
    """Collect every text that is drawn, with the box it takes on the page."""
    texts: list[tuple[str, tuple]] = []
    original = matplotlib.text.Text.draw

    def draw(self, renderer, *args, **kwargs):
        original(self, renderer, *args, **kwargs)
        if self.get_visible() and self.get_text().strip():
            box = self.get_window_extent(renderer)
            texts.append((self.get_text(), tuple(box.extents)))

    monkeypatch.setattr(matplotlib.text.Text, "draw", draw)
    return texts


@pytest.mark.parametrize("number", ARMS)
@pytest.mark.parametrize("name", FIGURES)
def test_nothing_is_cut_and_no_text_lies_on_another(name, number, tmp_path, drawn_texts):
    if number != "three" and name in ("label_counts", "split_balance"):
        pytest.skip("this figure does not know of arms")
    png = tmp_path / "figure.png"
    FIGURES[name](tmp_path, ARMS[number], [png])
    pixels = np.asarray(Image.open(png).convert("L"))
    border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    assert border.min() >= 250
    # The page is drawn more than once: first to find its extent, last for the file.
    last = {(text, box) for text, box in drawn_texts[-len(drawn_texts) // 3 :]}
    for (one, a), (other, b) in itertools.combinations(sorted(last), 2):
        if one == other:
            continue
        wide = min(a[2], b[2]) - max(a[0], b[0])
        high = min(a[3], b[3]) - max(a[1], b[1])
        # Boxes hold the room of letters that hang below the line; lines of text may share it.
        assert wide <= 1 or high <= 4, f"{one!r} lies on {other!r}"


@pytest.mark.parametrize("name", FIGURES)
def test_same_data_same_bytes_and_no_date(name, tmp_path):
    suffixes = (".svg", ".png", ".csv")
    outputs = [[tmp_path / f"{copy}{end}" for end in suffixes] for copy in ("a", "b")]
    for paths in outputs:
        FIGURES[name](tmp_path, ARMS["three"], paths)
    for one, other in zip(*outputs, strict=True):
        assert one.read_bytes() == other.read_bytes()
        assert one.stat().st_size > 100
    assert not re.search(r"dc:date|\b20\d\d-\d\d-\d\d", outputs[0][0].read_text())


def csv_of(name: str, tmp_path: Path, arms="three") -> pl.DataFrame:
    path = tmp_path / "figure.csv"
    FIGURES[name](tmp_path, ARMS[arms], [path])
    return pl.read_csv(path)


def test_cost_csv_is_the_comparison_and_energy_may_be_unknown(tmp_path):
    table = csv_of("cost", tmp_path)
    source = pl.read_csv(tmp_path / "comparison.csv")
    assert table.equals(source.select(table.columns))
    apart = {f"{what}_seconds" for what in ("train", "evaluate", "saving", "waiting")}
    memory = {"peak_memory_mb", "mean_memory_mb"}
    memory |= {f"reserved_{name}" for name in memory}
    assert apart | memory | {"examples_per_second", "energy_joules"} <= set(table.columns)
    unknown = comparison(tmp_path / "unknown.csv", ARMS["three"], energy=False)
    plot_cost(unknown, outputs=[tmp_path / "unknown.svg"])
    # A device that tells no energy gets a panel that says so.
    known = comparison(tmp_path / "known.csv", ARMS["three"])
    plot_cost(known, outputs=[tmp_path / "known.svg"])
    assert (tmp_path / "unknown.svg").read_bytes() != (tmp_path / "known.svg").read_bytes()


def test_loss_curves_csv_is_the_histories(tmp_path):
    table = csv_of("loss_curves", tmp_path)
    assert table.height == 3 * 2 * 3
    row = table.filter(arm="lora_text", seed=1, epoch=2).to_dicts()[0]
    assert row["train_loss"] == 1
    assert (row["learning_rate"], row["grad_norm"]) == (5e-5, 1)
    assert row["val_loss"] == pytest.approx(1.5 + 0.1 * 5)


def test_views_csv_is_what_was_spent_and_the_best_so_far(tmp_path):
    row = csv_of("views", tmp_path).filter(arm="lora_text", seed=1).to_dicts()
    spent = [[each[view] for each in row] for view in ("epochs", "steps", "seconds", "energy")]
    assert spent == [[1, 2, 3], [10, 20, 30], [45, 90, 135], [None] * 3]
    assert [each["val_loss_so_far"] for each in row] == [2.5, 2.0, 1.6]


def test_views_have_a_panel_for_energy_where_the_device_tells_it(tmp_path, drawn_texts):
    draw_views(tmp_path, ["fft"], [tmp_path / "a.png"])
    assert "Energy: this device does not tell it" in {text for text, _ in drawn_texts}
    drawn_texts.clear()
    draw_views(tmp_path, ["fft"], [tmp_path / "b.png"], energy=5000.0)
    assert "Energy (kJ)" in {text for text, _ in drawn_texts}


def test_pareto_front_is_a_step_from_the_cheapest_arm_on_it(tmp_path, monkeypatch):
    steps = []
    monkeypatch.setattr(
        matplotlib.axes.Axes, "step", lambda axis, x, y, **how: steps.append((x, y, how["where"]))
    )
    draw_pareto(tmp_path, ARMS["three"], [tmp_path / "a.png"])
    assert len(steps) == 4
    # The second arm is off the front; beyond the third it goes on as it is.
    x, y, where = steps[0]
    assert (x[:2], where) == ([500.0, 50_000.0], "post")
    assert y == pytest.approx([0.3, 0.34, 0.34])
    assert x[2] > 50_000


def test_an_untrained_arm_stands_at_no_cost_on_a_logarithmic_scale(tmp_path, drawn_texts):
    draw_pareto(tmp_path, ARMS["three"], [tmp_path / "a.png"])
    assert drawn_texts and "$\\mathdefault{0}$" not in {text for text, _ in drawn_texts}
    rows = pl.read_csv(tmp_path / "pareto.csv")
    free = pl.when(pl.col("arm") == "fft").then(0.0).otherwise(pl.col("adapter_mb"))
    rows.with_columns(free.alias("adapter_mb")).write_csv(tmp_path / "pareto.csv")
    drawn_texts.clear()
    plot_pareto_fronts(tmp_path / "pareto.csv", words=words(tmp_path), outputs=[tmp_path / "b.png"])
    assert "$\\mathdefault{0}$" in {text for text, _ in drawn_texts}


def test_loss_curves_draw_what_some_arms_count_beside_the_loss(tmp_path):
    """One arm counts, one does not, and one was never trained: its history is empty."""
    columns = {"epoch": [1, 2], "train_loss": [2.0, 1.0], "val_loss": [2.5, 1.5]}
    columns |= {"learning_rate": [1e-4, 1e-6], "grad_norm": [3.0, 1.0]}
    histories = {
        "counts": pl.DataFrame(columns | {"val_accuracy": [0.25, 0.5]}),
        "plain": pl.DataFrame(columns),
        "untrained": pl.DataFrame(columns).clear(),
    }
    for arm, history in histories.items():
        history.write_csv(tmp_path / f"{arm}.csv")
    outputs = [tmp_path / f"curves{end}" for end in (".svg", ".csv")]
    plot_loss_curves(
        [tmp_path / f"{arm}.csv" for arm in histories],
        runs=[(arm, 0) for arm in histories], outputs=outputs,
    )  # fmt: skip
    table = pl.read_csv(outputs[1])
    assert table.select("arm", "epoch", "val_accuracy").rows() == [
        ("counts", 1, 0.25), ("counts", 2, 0.5), ("plain", 1, None), ("plain", 2, None),
    ]  # fmt: skip
    assert outputs[0].stat().st_size > 0


def test_label_counts_csv_counts_values(tmp_path):
    table = csv_of("label_counts", tmp_path)
    assert table["stage"].unique(maintain_order=True).to_list() == [
        "all",
        "sampled",
        "train",
        "val",
        "test",
    ]
    counted = table.select("present", "absent", "suspected", "unmentioned").sum_horizontal()
    assert counted.to_list() == table["images"].to_list()
    cohort = pl.read_parquet(tmp_path / "0.parquet")
    row = table.filter(stage="all", label="Edema").to_dicts()[0]
    assert row["present"] == (cohort["Edema"] == 1).sum()
    assert row["suspected"] == (cohort["Edema"] == -1).sum()


def test_quality_csv_holds_the_baselines(tmp_path):
    table = csv_of("quality", tmp_path)
    assert table["arm"].to_list() == ARMS["three"]
    assert table["label_prior_bleu"].to_list() == [43.7] * 3
    # The first two of the task, in its order; the third is in the comparison alone.
    assert [column for column in table.columns if "_prior" in column or "constant" in column] == [
        "constant_report_bleu",
        "constant_report_findings_f1",
        "label_prior_bleu",
        "label_prior_findings_f1",
    ]


def test_examples_are_of_different_groups_and_of_every_arm(tmp_path):
    table = csv_of("examples", tmp_path, "one")
    # Four groups: one image of the first, whose three images are alike, and the others.
    assert table["example_id"].n_unique() == 4
    assert len({1 if name in ("d0", "d1", "d2") else name for name in table["example_id"]}) == 4
    assert (
        csv_of("examples", tmp_path)["arm"].unique(maintain_order=True).to_list() == ARMS["three"]
    )


def test_examples_of_data_that_are_not_public_are_refused_before_anything_is_read(tmp_path):
    png = tmp_path / "figure.png"
    nothing = figure_inputs(tmp_path / "none", {"fft": tmp_path / "none.parquet"}, public=False)
    with pytest.raises(InputError, match=r"data\.public is false"):
        draw_task_figure("examples", nothing, [png])
    assert not png.exists()


def test_sentences_that_the_reference_has_not_are_marked():
    reference = sentences("Evidence of edema is present. No evidence of fracture.")
    pieces = marked("evidence of edema is present . there is suspicion of pneumonia .", reference)
    assert [piece.text for piece in pieces] == [
        "evidence of edema is present.",
        "✗ there is suspicion of pneumonia.",
        "(lacks 1 of 2)",
    ]
    assert [piece.text for piece in marked("", reference)] == ["(nothing)", "(lacks 2 of 2)"]


def test_flow_keeps_every_word_in_order_within_the_width():
    pieces = marked(LONG, [])
    lines = flow(pieces, 2.0)
    words = [piece.text for line in lines for _, piece in line]
    assert words == " ".join(piece.text for piece in pieces).split()
    assert len(lines) > 5
    assert all(line[0][0] == 0 and line[-1][0] < 2 for line in lines)


def test_spread_moves_apart_as_little_as_needed():
    assert spread([0.1, 0.5], 0.1) == [0.1, 0.5]
    assert spread([0.5, 0.5], 0.1) == pytest.approx([0.45, 0.55])
    # 0.52 and 0.5 part and then meet 0.6: all three evenly around their mean 0.54.
    assert spread([0.52, 0.5, 0.6], 0.1) == pytest.approx([0.54, 0.44, 0.64])
    places = sorted(spread(list(np.random.default_rng(0).random(9)), 0.1))
    assert np.diff(places).min() >= 0.1 - 1e-9


def test_names_break_after_underscores_alone():
    assert broken("lora", 8) == "lora"
    assert broken("lora_text_rank_8", 10) == "lora_text_\nrank_8"
    assert broken("adaloradalora_r4", 8) == "adaloradalora_\nr4"
    assert broken("_x__y", 3).replace("\n", "") == "_x__y"


def test_units_follow_the_largest_value():
    assert scaled([90.0, 3.0], TIME) == (1, "s")
    assert scaled([600.0], TIME) == (pytest.approx(1 / 60), "min")
    assert scaled([2650.0, 10.0], MEGABYTES) == (pytest.approx(1 / 1000), "GB")


def test_fifty_arms_have_looks_of_their_own():
    names = [f"arm_{number}" for number in range(50)]
    look = Look(names)
    assert len({(look.colour(name), look.marker(name)) for name in names}) == 50
    assert len({look.colour(name) for name in names[:7]}) == 7


def test_balance_of_classes_that_are_numbers_or_look_like_formulas(tmp_path):
    outputs = [tmp_path / name for name in ("a.svg", "a.png", "a.csv")]
    for labels in (["0", "1"], ["$10 to $20_{", "less_than_$10"]):
        pl.DataFrame(
            {
                "label": labels,
                **{f"positives_{split}": [10, 20] for split in ("train", "val", "test")},
                **{f"prevalence_{split}": [0.3, 0.6] for split in ("train", "val", "test")},
                "coefficient_of_variation": [0.01, 0.2],
                "verdict": ["excellent", "poor"],
            }
        ).write_csv(tmp_path / "balance.csv")
        plot_split_balance(tmp_path / "balance.csv", outputs=outputs)
        assert pl.read_csv(outputs[2], infer_schema=False)["label"].to_list() == labels


@pytest.mark.parametrize(("values", "lowest"), [([0.2, 0.8], 0), ([-0.5, 0.8], -0.5)])
def test_a_score_below_zero_is_not_cut(values, lowest):
    axis = Figure().subplots()
    axis.plot(values, [0, 1], "o")
    make_room(axis)
    left, right = axis.get_xlim()
    assert lowest - 0.05 < left < lowest
    assert right > 0.8
