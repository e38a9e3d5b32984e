"""What a trained arm predicts for the test examples."""

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from torch import nn
from tqdm import tqdm

from peft_ablation.artifacts import write_table
from peft_ablation.data.examples import Indices, read_columns
from peft_ablation.logs import bars_hidden
from peft_ablation.methods import open_method
from peft_ablation.tasks import Examples, Task, open_task
from peft_ablation.training.batches import ordered_batches
from peft_ablation.training.chunk import mixed_precision
from peft_ablation.training.launch import own_devices

log = logging.getLogger(__name__)

SHUFFLED = "shuffled"
"""Name of the control that every task has, and ending of the columns predicted under it."""


Ask = Callable[[Any, Indices], Mapping[str, Sequence[Any]]]
"""Examples and places of some → prediction columns of these."""


def load_trained(
    task: Task, arm: Mapping[str, Any], base: str | Path, model: str | Path
) -> nn.Module:
    """Return the model of a run's `model/` folder, adapters merged into the base if they can be."""
    return open_method(arm).load(task.load_model, base, model)


def predict_table(
    *,
    task: Mapping[str, Any],
    arm: Mapping[str, Any] | None,
    model: str | Path | None,
    base: str | Path,
    train: str | Path,
    test: str | Path,
    assets: Mapping[str, str | Path],
    precision: str,
    threads: int,
    batch_size: int,
    shuffle_inputs: bool,
    controls: bool,
    probe: bool,
    seed: int,
    output: str | Path,
) -> None:
    """Write one row a test example: its id and group, what is true and what is predicted.

    With `shuffle_inputs` also what is predicted when the test inputs are permuted among themselves
    by `seed`, in columns that end in `_shuffled`; with `controls` also under each further control
    of the task, in columns that end in its name; with `probe` what the task asks of models that
    discriminate. Without `arm` and `model` it is the base itself
    that predicts, loaded anew.
    """
    torch.set_num_threads(threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    bound = open_task(task, train)
    loaded = (
        bound.load_model(base)
        if arm is None or model is None
        else load_trained(bound, arm, base, model)
    )
    predictor = bound.predictor(loaded, base, device)
    examples = bound.examples(test, assets, base)
    groups = dict(read_columns(test, ("example_id", "group")).iter_rows())
    bf16 = mixed_precision(precision) == "bf16"

    def predicted(rows: Examples, title: str, ask: Ask = predictor) -> dict[str, list[Any]]:
        with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            return _in_order(ask, rows, batch_size, title)

    columns = {
        "example_id": list(examples.ids),
        "group": [groups[example] for example in examples.ids],
        **predictor.truth(examples),
        **predicted(examples, "predict"),
    }
    if probe and bound.discriminates(task):
        asked = partial(bound.probe, predictor)
        columns |= predicted(examples, "predict, likelihoods", asked)
    changed: dict[str, Callable[[Any, int], Any]]
    changed = {SHUFFLED: bound.shuffled} if shuffle_inputs else {}
    if controls:
        changed |= {name: control.change for name, control in bound.controls().items()}
    for control, change in changed.items():
        again = predicted(change(examples, seed), f"predict, {control}")
        columns |= {f"{name}_{control}": values for name, values in again.items()}
    write_table(pl.DataFrame(columns), output)
    log.info("%d predictions written to %s", len(examples), output)


write_predictions = own_devices(1)(predict_table)
"""`predict_table` in a job of its own."""


def _in_order(ask: Ask, rows: Examples, batch_size: int, title: str) -> dict[str, list[Any]]:
    """Predict batch by batch, and return the columns in the order of the examples."""
    found: dict[str, list[Any]] = {}
    # Sorted by length, so that a batch holds little padding.
    batches = ordered_batches(np.asarray(rows.lengths), batch_size)
    for indices in tqdm(batches, desc=title, disable=bars_hidden()):
        for name, values in ask(rows, indices).items():
            column = found.setdefault(name, [None] * len(rows))
            for place, value in zip(indices, values, strict=True):
                column[place] = value
    return found
