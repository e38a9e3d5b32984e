"""Arms at equal epochs, steps, seconds and joules; what it takes to reach the reference's loss."""

from pathlib import Path

import polars as pl
import pytest

from peft_ablation.comparison.pages import Table, markdown
from peft_ablation.comparison.views import compare_views, read_curves, views, views_blocks
from peft_ablation.training.history_table import COLUMNS, as_csv

ARM = {"steps": 10, "seconds_training": 2.0, "energy_joules": None}


def history(folder: Path, losses: list[float], accuracy: list[float] | None = None, **same) -> Path:
    rows = [
        {**dict.fromkeys(COLUMNS), **ARM, **same, "epoch": epoch, "val_loss": loss}
        for epoch, loss in enumerate(losses, 1)
    ]
    for row, value in zip(rows, accuracy or (), strict=False):
        row["val_accuracy"] = value
    path = folder / f"{len(list(folder.iterdir()))}.csv"
    path.write_text(as_csv(rows))
    return path


def rows_of(runs: list[tuple[str, int, Path]], reference: str | None = "full"):
    curves = read_curves([path for *_, path in runs], [(arm, seed) for arm, seed, _ in runs])
    return {(row["measure"], row["arm"]): row for row in views(curves, reference)}


def test_equal_epochs_are_those_of_the_run_that_stopped_first(tmp_path):
    rows = rows_of([
        ("full", 0, history(tmp_path, [4.0, 2.0, 3.0, 1.0])),
        ("lora", 0, history(tmp_path, [5.0, 2.5, 2.75])),
    ])  # fmt: skip
    full, lora = rows["val_loss", "full"], rows["val_loss", "lora"]
    assert full["epochs_budget"] == lora["epochs_budget"] == 3
    # The third epoch of `full` is worse than its second, whose checkpoint would be kept.
    assert (full["epochs_best"], lora["epochs_best"]) == (2.0, 2.5)
    assert full["final"] == 1.0


def test_equal_steps_and_seconds_count_what_an_epoch_of_an_arm_takes(tmp_path):
    rows = rows_of([
        ("full", 0, history(tmp_path, [4.0, 3.0, 2.0, 1.0], seconds_training=3.0)),
        ("lora", 0, history(tmp_path, [5.0, 4.5, 4.2, 4.1], seconds_training=1.5, steps=20)),
    ])  # fmt: skip
    full, lora = rows["val_loss", "full"], rows["val_loss", "lora"]
    # 4 x 10 steps of `full` are two epochs of `lora`; 4 x 1.5 s of `lora` are two of `full`.
    assert (full["steps_budget"], full["steps_best"], lora["steps_best"]) == (40, 1.0, 4.5)
    assert (full["seconds_budget"], full["seconds_best"], lora["seconds_best"]) == (6.0, 3.0, 4.1)


def test_an_arm_without_an_epoch_in_the_budget_has_no_loss_there(tmp_path):
    rows = rows_of([
        ("full", 0, history(tmp_path, [4.0, 3.0], seconds_training=30.0)),
        ("lora", 0, history(tmp_path, [5.0, 4.5], seconds_training=1.5)),
    ])  # fmt: skip
    assert rows["val_loss", "full"]["seconds_budget"] == 3.0
    assert rows["val_loss", "full"]["seconds_best"] is None
    assert rows["val_loss", "full"]["seconds_best_by_seed"] == "-"
    assert rows["val_loss", "lora"]["seconds_best"] == 4.5


def test_what_was_spent_when_the_reference_was_reached(tmp_path):
    joules = {"energy_joules": 7.0}
    rows = rows_of([
        ("full", 0, history(tmp_path, [4.0, 3.0, 2.0, 2.5], **joules)),
        ("fast", 0, history(tmp_path, [3.0, 2.0, 1.9, 1.8], seconds_training=5.0, **joules)),
        ("poor", 0, history(tmp_path, [4.0, 3.9, 3.8, 3.7], **joules)),
    ])  # fmt: skip
    full, fast, poor = (rows["val_loss", arm] for arm in ("full", "fast", "poor"))
    assert full["reference_level"] == 2.0
    spent = [f"{view}_to_reference" for view in ("epochs", "steps", "seconds", "energy")]
    assert [full[name] for name in spent] == [3, 30, 6.0, 21.0]
    assert [fast[name] for name in spent] == [2, 20, 10.0, 14.0]
    assert [poor[name] for name in spent] == [None] * 4
    assert poor["epochs_to_reference_by_seed"] == "-"


def test_seeds_are_averaged_by_epoch_and_a_stopped_run_keeps_its_best(tmp_path):
    rows = rows_of([
        ("full", 0, history(tmp_path, [4.0, 2.0, 1.0])),
        ("full", 1, history(tmp_path, [4.0, 3.0], seconds_training=4.0)),
        ("lora", 0, history(tmp_path, [2.5, 2.1, 2.1])),
        ("lora", 1, history(tmp_path, [2.5, 1.7, 1.7])),
    ])  # fmt: skip
    full, lora = rows["val_loss", "full"], rows["val_loss", "lora"]
    assert full["seeds"] == 2
    assert full["reference_level"] == full["final"] == (1.0 + 3.0) / 2
    # The reference itself is there at its last epoch, after the mean of 6 s and 8 s.
    assert (full["epochs_to_reference"], full["seconds_to_reference"]) == (2.5, 7.0)
    assert full["epochs_to_reference_by_seed"] == "2.0 -"
    # 2.1 and 1.7 are 1.9 on average, no worse than 2; seed 0 alone never is.
    assert (lora["epochs_to_reference"], lora["seconds_to_reference"]) == (2, 4.0)
    assert lora["epochs_to_reference_by_seed"] == "- 2.0"
    assert lora["epochs_best_by_seed"] == "2.1 1.7"
    assert (lora["epochs_budget"], lora["epochs_best"]) == (2, pytest.approx(1.9))


def test_what_a_task_counts_is_better_when_more(tmp_path):
    rows = rows_of([
        ("full", 0, history(tmp_path, [3.0, 2.0, 1.0], [0.5, 0.8, 0.7])),
        ("lora", 0, history(tmp_path, [3.0, 2.9, 2.8], [0.6, 0.7, 0.8])),
    ])  # fmt: skip
    full, lora = rows["val_accuracy", "full"], rows["val_accuracy", "lora"]
    assert (full["final"], full["reference_level"]) == (0.8, 0.8)
    assert (full["epochs_to_reference"], lora["epochs_to_reference"]) == (2, 3)


def test_energy_counts_where_every_run_tells_it(tmp_path):
    told = history(tmp_path, [3.0, 2.0], energy_joules=5.0)
    silent = history(tmp_path, [3.0, 2.0])
    both = rows_of([("full", 0, told), ("lora", 0, told)])["val_loss", "full"]
    assert (both["energy_budget"], both["energy_best"]) == (10.0, 2.0)
    one = rows_of([("full", 0, told), ("lora", 0, silent)])["val_loss", "lora"]
    assert one["energy_budget"] is one["energy_best"] is one["energy_to_reference"] is None


def test_untrained_arms_have_no_row_and_no_reference_no_level(tmp_path):
    untrained = history(tmp_path, [])
    rows = rows_of([("none", 0, untrained), ("a", 0, history(tmp_path, [2.0]))], reference=None)
    assert list(rows) == [("val_loss", "a")]
    assert rows["val_loss", "a"]["reference_level"] is None
    assert rows["val_loss", "a"]["epochs_to_reference"] is None


def test_the_page_reads_the_table_and_says_that_these_are_losses(tmp_path):
    runs = [
        ("full", 0, history(tmp_path, [4.0, 3.0, 2.0])),
        ("fast", 0, history(tmp_path, [3.0, 2.0, 1.9], seconds_training=5.0)),
        ("poor", 0, history(tmp_path, [4.0, 3.9, 3.8])),
    ]
    compare_views(
        [path for *_, path in runs], runs=[(arm, seed) for arm, seed, _ in runs],
        reference="full", table=tmp_path / "views.csv",
    )  # fmt: skip
    rows = pl.read_csv(tmp_path / "views.csv", infer_schema_length=None).to_dicts()
    blocks = views_blocks(rows, "cpu")
    (table,) = [block for block in blocks if isinstance(block, Table)]
    assert list(table.header) == [
        "arm", "validation loss after 3 epochs", "validation loss after 6.0 s of training",
        "epochs to full's 2.0000", "s of training to full's 2.0000",
    ]  # fmt: skip
    assert [list(row) for row in table.rows] == [
        ["full", "2.0000", "2.0000", "3", "6.0"],
        ["fast", "1.9000", "3.0000", "2 (0.67 x)", "10.0 (1.67 x)"],
        ["poor", "3.8000", "3.8000", "–", "–"],
    ]
    text = markdown(blocks)
    assert "not test scores" in text
    assert "10 optimizer steps an epoch" in text
    assert "does not tell the energy" in text
    assert "On the right" in text


def test_the_page_of_a_study_without_reference_has_budgets_alone(tmp_path):
    rows = rows_of([("a", 0, history(tmp_path, [3.0, 2.0], energy_joules=9.0))], reference=None)
    blocks = views_blocks(list(rows.values()), "a GPU")
    (table,) = [block for block in blocks if isinstance(block, Table)]
    assert list(table.header)[1:] == [
        "validation loss after 2 epochs", "validation loss after 4.0 s of training",
        "validation loss after 18 J",
    ]  # fmt: skip
    assert "On the right" not in markdown(blocks)
    assert views_blocks([], "a GPU") == []
