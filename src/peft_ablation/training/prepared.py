"""What a task makes of a base, once for all arms and seeds that start from it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from peft_ablation.bases.adopted import write_base
from peft_ablation.tasks import open_task
from peft_ablation.training.launch import own_devices


@own_devices(1)
def prepare_base(
    base: str | Path,
    *,
    task: Mapping[str, Any],
    train: str | Path,
    threads: int,
    output: str | Path,
) -> None:
    """Write the model that the task makes of `base` to the folder `output`.

    Nothing of it is drawn at random; see `Task.prepares`.
    """
    torch.set_num_threads(threads)
    write_base(open_task(task, train).load_model(base), base, output, identity="prepared")
