"""What the nearest training example of each test example has, instead of a prediction."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from peft_ablation.artifacts import write_table
from peft_ablation.tasks import open_task


def write_nearest(
    *,
    task: Mapping[str, Any],
    train: str | Path,
    test: str | Path,
    assets: Mapping[str, str | Path],
    output: str | Path,
) -> None:
    """Write `example_id` and prediction columns of each test example's nearest training example."""
    write_table(open_task(task, train).look_up(pl.read_parquet(test), assets), output)
