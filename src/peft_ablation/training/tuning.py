"""Trials of learning rates: what each came to, and which rate an arm is trained with.

A trial is a run like any other, with a rate, epochs and a seed of its own; it sees the training and
the validation split alone. Nothing here needs torch.
"""

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from peft_ablation.artifacts import read_json, write_json, write_table, write_text
from peft_ablation.errors import InputError
from peft_ablation.training.checkpoint import damage
from peft_ablation.training.grid import edge_of
from peft_ablation.training.history_table import as_csv

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Trial:
    """What one learning rate came to."""

    learning_rate: float
    seed: int
    val_loss: float | None
    """Lowest validation loss of its epochs; None where it diverged, and so loses."""
    best_epoch: int
    """Epoch of that loss, from 1; 0 where none was ended well."""
    epochs: int
    """Epochs that it ended."""
    train_seconds: float
    """Of optimizer steps, those of a broken epoch too."""


def record_trial(chunk: str | Path, *, history: str | Path, trial: str | Path) -> None:
    """Write the `history` (CSV) and the outcome (JSON, a `Trial`) of a trial's last chunk folder.

    Raises `InputError` if the folder is damaged.
    """
    chunk = Path(chunk)
    wrong = damage(chunk)
    if wrong:
        raise InputError(f"chunk {chunk}: {wrong}; delete the folder and run again")
    state = read_json(chunk / "state.json")
    rows, position = state["history"], state["position"]
    made_from = read_json(chunk / "manifest.json")["fingerprint"]
    loss = position["best_val_loss"]
    lost = position["diverged"] or not math.isfinite(loss)
    found = Trial(
        learning_rate=made_from["arm"]["learning_rate"],
        seed=made_from["seed"],
        val_loss=None if lost else loss,
        best_epoch=position["best_epoch"],
        epochs=len(rows),
        train_seconds=sum(row["seconds_training"] for row in rows)
        + state["record"]["seconds"]["training"],
    )
    write_text(history, as_csv(rows))
    write_json(trial, asdict(found))


def best_trial(trials: Sequence[Trial]) -> Trial | None:
    """Return the trial of the lowest validation loss, of equal ones that of the smallest rate.

    None where all diverged.
    """
    ended = [trial for trial in trials if trial.val_loss is not None]
    return min(ended, key=lambda trial: (trial.val_loss, trial.learning_rate), default=None)


def choose_learning_rate(
    trials: Sequence[str | Path], *, arm: str, table: str | Path, chosen: str | Path
) -> None:
    """Write the trials of an arm (CSV, ascending by rate), and the rate that it is trained with.

    `chosen` (JSON): `arm`, `learning_rate`, its `val_loss` and `learning_rate_at_edge`. Raises
    `InputError` where every trial diverged.
    """
    import polars as pl

    found = sorted((Trial(**read_json(path)) for path in trials), key=lambda one: one.learning_rate)
    rates = [trial.learning_rate for trial in found]
    best = best_trial(found)
    if best is None:
        raise InputError(
            f"tune: arm {arm}: all of its {len(found)} trials diverged (learning rates "
            f"{', '.join(f'{rate:g}' for rate in rates)}), expected one that does not; give it "
            "smaller rates"
        )
    edge = edge_of(best.learning_rate, rates)
    if edge != "no":
        log.warning(
            "%s: the chosen learning rate %g is the %s of its grid; a better one may lie beyond",
            arm, best.learning_rate, edge,
        )  # fmt: skip
    rows = [asdict(trial) | {"chosen": trial is best} for trial in found]
    write_table(pl.DataFrame(rows, infer_schema_length=None), table)
    write_json(
        chosen,
        {
            "arm": arm,
            "learning_rate": best.learning_rate,
            "val_loss": best.val_loss,
            "learning_rate_at_edge": edge,
        },
    )


def with_chosen_rate(arm: Mapping[str, Any], chosen: str | Path) -> dict[str, Any]:
    """Return the arm's settings with the rate of the file `chosen`."""
    return {**arm, "learning_rate": float(read_json(chosen)["learning_rate"])}
