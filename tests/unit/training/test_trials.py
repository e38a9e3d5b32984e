"""Trials of learning rates: what is recorded, and which rate wins, by histories made by hand."""

import json
import math
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from tiny_study import TinyStudy, changed

from peft_ablation.artifacts import read_json, sha256_file, write_json
from peft_ablation.errors import InputError
from peft_ablation.training.checkpoint import MAY_DIVERGE
from peft_ablation.training.chunk import train_chunk
from peft_ablation.training.grid import edge_of
from peft_ablation.training.tuning import (
    choose_learning_rate,
    record_trial,
    with_chosen_rate,
)

NEVER = math.inf


def chunk(
    folder: Path,
    rate: float,
    losses: list[float],
    *,
    diverged: bool = False,
    unfinished: float = 0.0,
) -> Path:
    """The last chunk folder of a trial with these validation losses; each epoch trains 2 s."""
    best = min(losses, default=NEVER)
    rows = [
        {"epoch": epoch, "val_loss": loss, "seconds_training": 2.0}
        for epoch, loss in enumerate(losses, 1)
    ]
    state = {
        "history": rows,
        "position": {
            "best_val_loss": best,
            "best_epoch": losses.index(best) + 1 if losses else 0,
            "diverged": diverged,
        },
        "record": {"seconds": {"training": unfinished}},
    }
    write_json(folder / "state.json", state)
    path = folder / "state.json"
    write_json(
        folder / "manifest.json",
        {
            "files": {path.name: {"size": path.stat().st_size, "sha256": sha256_file(path)}},
            "fingerprint": {"arm": {"method": "full", "learning_rate": rate}, "seed": 9},
        },
    )
    return folder


def choose(folder: Path, **trials: Path) -> tuple[dict[str, Any], pl.DataFrame]:
    """Record and choose; returns the choice and the table of trials."""
    outcomes = []
    for name, path in trials.items():
        outcomes.append(folder / f"{name}.json")
        record_trial(path, history=folder / f"{name}.csv", trial=outcomes[-1])
    chosen, table = folder / "chosen.json", folder / "trials.csv"
    choose_learning_rate(outcomes, arm="fft", table=table, chosen=chosen)
    return read_json(chosen), pl.read_csv(table)


def test_the_lowest_loss_of_any_epoch_wins_and_not_that_of_the_last(tmp_path: Path) -> None:
    chosen, table = choose(
        tmp_path,
        c=chunk(tmp_path / "c", 4e-3, [0.8, 0.7]),
        a=chunk(tmp_path / "a", 1e-3, [0.9, 0.6]),
        b=chunk(tmp_path / "b", 2e-3, [0.5, 0.9]),
    )
    assert chosen == {
        "arm": "fft", "learning_rate": 2e-3, "val_loss": 0.5, "learning_rate_at_edge": "no",
    }  # fmt: skip
    assert table.rows() == [
        (1e-3, 9, 0.6, 2, 2, 4.0, False),
        (2e-3, 9, 0.5, 1, 2, 4.0, True),
        (4e-3, 9, 0.7, 2, 2, 4.0, False),
    ]
    assert pl.read_csv(tmp_path / "b.csv")["val_loss"].to_list() == [0.5, 0.9]


def test_of_equal_losses_the_smaller_rate_wins(tmp_path: Path) -> None:
    chosen, _ = choose(
        tmp_path, b=chunk(tmp_path / "b", 2e-3, [0.5]), a=chunk(tmp_path / "a", 1e-3, [0.5])
    )
    assert (chosen["learning_rate"], chosen["learning_rate_at_edge"]) == (1e-3, "smallest")


def test_a_trial_that_diverged_is_a_row_that_loses_however_low_it_was(tmp_path: Path) -> None:
    chosen, table = choose(
        tmp_path,
        a=chunk(tmp_path / "a", 1e-3, [0.9]),
        b=chunk(tmp_path / "b", 2e-3, [0.1], diverged=True, unfinished=0.5),
        c=chunk(tmp_path / "c", 4e-3, [], diverged=True, unfinished=0.25),
        # Losses of training were numbers, those of validation never.
        d=chunk(tmp_path / "d", 8e-3, [NEVER, NEVER]),
    )
    assert chosen["learning_rate"] == 1e-3
    assert table["val_loss"].to_list() == [0.9, None, None, None]
    assert table["epochs"].to_list() == [1, 1, 0, 2]
    assert table["train_seconds"].to_list() == [2.0, 2.5, 0.25, 4.0]


def test_an_arm_of_which_every_trial_diverged_is_refused(tmp_path: Path) -> None:
    lost = chunk(tmp_path / "a", 0.5, [], diverged=True)
    with pytest.raises(InputError, match=r"^tune: arm fft: all of its 1 trials .*rates 0.5\)"):
        choose(tmp_path, a=lost)
    assert not (tmp_path / "chosen.json").exists()


def test_a_damaged_chunk_is_refused(tmp_path: Path) -> None:
    damaged = chunk(tmp_path / "a", 1e-3, [0.5])
    (damaged / "state.json").write_text("{}")
    with pytest.raises(InputError, match=r"state.json has 2 bytes"):
        record_trial(damaged, history=tmp_path / "h.csv", trial=tmp_path / "t.json")


@pytest.mark.parametrize(
    ("rate", "rates", "edge"),
    [
        (2, (1, 2, 3), "no"),
        (1, (1, 2, 3), "smallest"),
        (3, (1, 2, 3), "largest"),
        (1, (1,), "only"),
    ],
)
def test_where_a_rate_stands_in_its_grid(rate: float, rates: tuple[float, ...], edge: str) -> None:
    assert edge_of(rate, rates) == edge


def test_training_is_made_with_the_rate_of_the_file(tmp_path: Path) -> None:
    arm = {"method": "full", "learning_rate": 0.5}
    (tmp_path / "chosen.json").write_text(json.dumps({"learning_rate": 0.25}))
    assert with_chosen_rate(arm, tmp_path / "chosen.json") == arm | {"learning_rate": 0.25}


def test_a_trial_that_diverges_ends_and_its_later_chunks_pass_it_on(
    tiny_study: TinyStudy, tmp_path: Path
) -> None:
    exploding = {"arm": {"learning_rate": 1e30}, "settings": {"max_loss": 1e9, MAY_DIVERGE: True}}
    for number, previous in enumerate([None, tmp_path / "chunk-0"]):
        job = tiny_study.job(tmp_path / f"chunk-{number}", "fft", epochs_per_chunk=2)
        train_chunk(**changed(job, **exploding) | {"chunk": number, "previous": previous})
    first, second = (read_json(tmp_path / f"chunk-{n}" / "state.json") for n in (0, 1))
    assert second["record"] == first["record"]  # seconds, too: it was not tried again
    record_trial(tmp_path / "chunk-1", history=tmp_path / "h.csv", trial=tmp_path / "t.json")
    trial = read_json(tmp_path / "t.json")
    assert (trial["learning_rate"], trial["val_loss"], trial["epochs"]) == (1e30, None, 0)
    assert trial["train_seconds"] > 0
