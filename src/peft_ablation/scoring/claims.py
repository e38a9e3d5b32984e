"""What each run would have claimed under the defects of its arm, beside what is true of it.

`peft_ablation.as_published` says what the defects are. The truth is that of the run's own
predictions and costs, which know no defect.
"""

import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl
import torch
from tqdm import tqdm

from peft_ablation.artifacts import read_json, write_table
from peft_ablation.as_published import AsPublished
from peft_ablation.as_published.protocol import Protocol
from peft_ablation.logs import bars_hidden
from peft_ablation.metrics.metric import Metric, present, statistics_of, sum_columns, value_of
from peft_ablation.scoring.predictions import load_trained
from peft_ablation.tasks import Examples, Task, open_task
from peft_ablation.training.chunk import mixed_precision
from peft_ablation.training.launch import own_devices

log = logging.getLogger(__name__)

LOSS: Final = "test_loss"
"""Metric that every task calls its mean loss on the test split."""
MEMORY, TIME = "peak_memory_mb", "train_seconds"
"""Costs of a run that are claimed."""
BYTES: Final = 4
"""Of a weight in float32, as models are loaded."""


@own_devices(1)
def write_claims(
    *,
    task: Mapping[str, Any],
    arms: Mapping[str, Mapping[str, Any]],
    runs: Sequence[tuple[str, int]],
    models: Sequence[str | Path],
    bases: Sequence[str | Path],
    predictions: Sequence[str | Path],
    costs: Sequence[str | Path],
    train: str | Path,
    test: str | Path,
    assets: Mapping[str, str | Path],
    precision: str,
    threads: int,
    batch_size: int,
    output: str | Path,
) -> None:
    """Write a row for each run and measure: `claimed`, and `true` of the same run.

    `models`, `bases`, `predictions` and `costs` are in the order of `runs`. `uniform` is the loss
    of a uniform guess over the base's vocabulary, ln V, in nats; null where it has none.
    """
    torch.set_num_threads(threads)
    bound = open_task(task, train)
    bf16 = mixed_precision(precision) == "bf16"
    rows = []
    for (arm, seed), model, base, predicted, cost in zip(
        runs, models, bases, predictions, costs, strict=True
    ):
        protocol = Protocol(arms[arm], task)
        table, spent = pl.read_parquet(predicted), read_json(cost)
        true = _scores(bound.metrics, table)
        claimed = dict(true)
        if protocol.defects.test_examples is not None:
            claimed = _scores(bound.metrics, table.head(protocol.defects.test_examples))
        if protocol.defects.of_texts and LOSS in claimed:
            examples = protocol.test(bound.examples(test, assets, base))
            claimed[LOSS] = _loss(bound, arms[arm], model, base, examples, batch_size, bf16)
        true |= {MEMORY: spent[MEMORY], TIME: spent[TIME]}
        claimed |= claimed_costs(protocol.defects, spent)
        vocabulary = read_json(Path(base, "config.json")).get("vocab_size")
        rows += [
            {
                "arm": arm,
                "seed": int(seed),
                "measure": measure,
                "claimed": claimed[measure],
                "true": true[measure],
                "uniform": math.log(vocabulary) if vocabulary and measure == LOSS else None,
            }
            for measure in true
        ]
    write_table(pl.DataFrame(rows, infer_schema_length=None), output)
    log.info("claims of %d runs", len(runs))


def claimed_costs(defects: AsPublished, cost: Mapping[str, Any]) -> dict[str, float]:
    """Return the memory (MB) and time (s) that are claimed of a run whose `cost.json` is given."""
    memory, seconds = cost[MEMORY], cost[TIME]
    if defects.memory_after_loading:
        memory = cost["total_parameters"] * BYTES / 1e6
    if defects.time_with_waiting:
        seconds += cost["waiting_seconds"]
    return {MEMORY: memory, TIME: seconds}


def _scores(metrics: Sequence[Metric], table: pl.DataFrame) -> dict[str, float | None]:
    """Return the compared metrics of these predictions, None where one is undefined."""
    found = [metric for metric in present(metrics, table.columns) if metric.compared]
    columns, sums = sum_columns(found), statistics_of(found, table).sum(axis=0)
    values = {metric.name: float(value_of(metric, columns, sums)) for metric in found}
    return {name: None if math.isnan(value) else value for name, value in values.items()}


@torch.no_grad()
def _loss(
    task: Task,
    arm: Mapping[str, Any],
    model: str | Path,
    base: str | Path,
    examples: Examples,
    batch_size: int,
    bf16: bool,
) -> float:
    """Return the mean loss over all targets of the batches, in the order of the table."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    module = task.loss_module(load_trained(task, arm, base, model), base).to(device).eval()
    starts = range(0, len(examples), batch_size)
    total, targets = 0.0, 0
    for start in tqdm(starts, desc="claim", disable=bars_hidden()):
        indices = np.arange(start, min(start + batch_size, len(examples)))
        batch = {name: value.to(device) for name, value in examples.batch(indices).items()}
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            total += float(module(**batch))
        targets += examples.weight(indices)
    return total / targets
