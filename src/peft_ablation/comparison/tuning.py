"""What is said of how learning rates were chosen, and what the choice cost."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import polars as pl

from peft_ablation.comparison.pages import NONE
from peft_ablation.training.grid import edge_of

Row = Mapping[str, Any]
NOT_TUNED: Final = "not tuned"
TUNED: Final = "tuned"
EDGES: Final = {
    "smallest": "the smallest tried",
    "largest": "the largest tried",
    "only": "the only one tried",
}
"""`learning_rate_at_edge` in words; `no` needs none."""


def tuning_columns(trials: str | Path | None, seeds: Sequence[int]) -> dict[str, Any]:
    """Return an arm's columns of the comparison, from its `trials.csv` if it was tuned.

    `seeds` are those that it is trained with; a rate that is chosen for its luck with one of them
    flatters that run (`tuning_seed_is_trained`).

    `learning_rate_at_edge` is `no`, or which edge of its grid the chosen rate is (`smallest`,
    `largest`, `only`); `tuning_seconds` are those of optimizer steps, of all trials.
    """
    if trials is None:
        return {
            "tuning": NOT_TUNED,
            "tuning_trials": 0,
            "tuning_seconds": 0.0,
            "learning_rate_at_edge": None,
            "tuning_seed_is_trained": None,
        }
    table = pl.read_csv(trials)
    (chosen,) = table.filter("chosen")["learning_rate"].to_list()
    return {
        "tuning": TUNED,
        "tuning_trials": table.height,
        "tuning_seconds": float(table["train_seconds"].sum()),
        "learning_rate_at_edge": edge_of(chosen, table["learning_rate"].to_list()),
        "tuning_seed_is_trained": not set(table["seed"]).isdisjoint(seeds),
    }


def tuning_cost(row: Row) -> str:
    """Return the cell of what choosing an arm's rate cost."""
    if not row["learning_rate"]:
        return NONE
    if row["tuning"] == NOT_TUNED:
        return NOT_TUNED
    return f"{row['tuning_seconds']:,.1f} in {row['tuning_trials']} trials"


def rate_and_edge(row: Row) -> str:
    """Return the cell of an arm's learning rate, which says where it is an edge of its grid."""
    if not row["learning_rate"]:
        return NONE
    edge = EDGES.get(row["learning_rate_at_edge"])
    return f"{row['learning_rate']:g}{f', {edge}' if edge else ''}"


def tuning_caveats(rows: Sequence[Row]) -> list[str]:
    """Return sentences on how fair the learning rates are."""
    trained = [row for row in rows if row["learning_rate"]]
    untuned = [row for row in trained if row["tuning"] == NOT_TUNED]
    tuned = [row for row in trained if row["tuning"] == TUNED]
    found = []
    if untuned:
        rates = ", ".join(f"{row['arm']} {row['learning_rate']:g}" for row in untuned)
        found.append(
            f"Not tuned: learning rates are set in the study ({rates}). Unless the study file says "
            "how they were chosen, the arms had no equal budget of tuning, and part of a "
            "difference may be one of learning rates."
        )
    if tuned:
        trials = " or ".join(sorted({str(row["tuning_trials"]) for row in tuned}))
        found.append(
            f"Learning rates were chosen by {trials} trials an arm, the lowest validation loss of "
            "one seed; no test example had a part in it. Other settings (rank, schedule, epochs) "
            "were not tuned, and a rate is only as good as its grid is fine."
        )
    if any(row["tuning_seed_is_trained"] for row in tuned):
        found.append(
            "The trials had a seed that arms are trained with, too: the run of that seed was "
            "chosen for its validation loss, and may flatter its arm. Another tune.seed does not."
        )
    edges = [row for row in tuned if row["learning_rate_at_edge"] != "no"]
    if edges:
        told = "; ".join(f"{row['arm']} {rate_and_edge(row)}" for row in edges)
        found.append(
            f"At the edge of the rates tried: {told}. A better one may lie beyond, so that such an "
            "arm is not given its best: widen the grid."
        )
    return found
