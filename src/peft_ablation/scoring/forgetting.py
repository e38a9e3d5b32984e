"""What is left of what a base could do: it and all that was made of it, on the same examples.

"Before" is the base of its folder, loaded for this alone and never given to a method: PEFT's own
comparison took it from the adapted model for a year, and shifted no labels
(huggingface/peft#3419). The losses are those of the task, as everywhere.
"""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from peft_ablation.artifacts import write_table
from peft_ablation.errors import InputError
from peft_ablation.methods import open_method
from peft_ablation.scoring.drift import weight_drift
from peft_ablation.scoring.predictions import load_trained, predict_table
from peft_ablation.tasks import open_task
from peft_ablation.training.launch import own_devices

log = logging.getLogger(__name__)


@own_devices(1)
def write_forgetting(
    *,
    task: Mapping[str, Any],
    arms: Mapping[str, Mapping[str, Any]],
    runs: Sequence[tuple[str, int]],
    models: Sequence[str | Path],
    bases: Sequence[str | Path],
    train: str | Path,
    examples: str | Path,
    assets: Mapping[str, str | Path],
    precision: str,
    threads: int,
    batch_size: int,
    before: Mapping[str, str | Path],
    after: Sequence[str | Path],
    drift: str | Path,
) -> None:
    """Write what each untouched base and each run predict for `examples`, and the drift of weights.

    `models`, `bases` and `after` are in the order of `runs`; `before` has a file for each distinct
    base. `drift` has a row a run and group of modules (`arm`, `seed`, `group`, `drift`), none for a
    run whose method keeps something beside the base's weights. Raises `InputError` where the base
    lacks a head that the task has given the arms.
    """
    bound = open_task(task, train)
    for untouched in before:
        heads = bound.heads_of(bound.load_model(untouched))
        if heads:
            raise InputError(
                f"forgetting: task {task['name']} gives base {untouched} a new head ({heads[0]}), "
                "without which it cannot be scored; leave forgetting out"
            )

    def predict(
        arm: Mapping[str, Any] | None, model: str | Path | None, base: str | Path, to: str | Path
    ) -> None:
        predict_table(
            task=task, arm=arm, model=model, base=base, train=train, test=examples, assets=assets,
            precision=precision, threads=threads, batch_size=batch_size, shuffle_inputs=False,
            controls=False, probe=False, seed=0, output=to,
        )  # fmt: skip

    for untouched, to in before.items():
        predict(None, None, untouched, to)
    rows: list[tuple[str, int, str, float]] = []
    for (arm, seed), model, base, output in zip(runs, models, bases, after, strict=True):
        predict(arms[arm], model, base, output)
        if open_method(arms[arm]).merges:
            loaded = load_trained(bound, arms[arm], base, model)
            moved = weight_drift(loaded, bound.load_model(base))
            rows += [(arm, int(seed), group, value) for group, value in moved.items()]
    schema = {"arm": pl.String, "seed": pl.Int64, "group": pl.String, "drift": pl.Float64}
    write_table(pl.DataFrame(rows, schema=schema, orient="row"), drift)
    log.info("%d runs scored on what their bases could do", len(runs))
