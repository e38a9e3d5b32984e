"""What models answer to a few questions that stand in no split, each asked alone."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import torch
from torch import nn

from peft_ablation.artifacts import write_table
from peft_ablation.scoring.answer_table import COLUMNS, END, LIMIT
from peft_ablation.scoring.predictions import load_trained
from peft_ablation.tasks import open_task
from peft_ablation.training.chunk import mixed_precision
from peft_ablation.training.launch import own_devices

log = logging.getLogger(__name__)


@own_devices(1)
def write_answers(
    *,
    task: Mapping[str, Any],
    questions: Sequence[str],
    arms: Mapping[str, Mapping[str, Any]],
    runs: Sequence[tuple[str, int]],
    models: Sequence[str | Path],
    bases: Sequence[str | Path],
    untouched: Sequence[tuple[str, int | None]],
    folders: Sequence[str | Path],
    train: str | Path,
    precision: str,
    threads: int,
    output: str | Path,
) -> None:
    """Write a row a question and model: first the untouched models, then the runs.

    `models` and `bases` are in the order of `runs`; `folders` are those of the `untouched` models,
    named with their seed where they have one. A question is asked alone, so that its answer does
    not depend on which others are asked.
    """
    torch.set_num_threads(threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    bf16 = mixed_precision(precision) == "bf16"
    bound = open_task(task, train)

    rows: list[tuple[int, str, str, int | None, str, int, str]] = []

    def ask(name: str, seed: int | None, model: nn.Module, base: str | Path) -> None:
        predictor = bound.predictor(model, base, device)
        for number, question in enumerate(questions, 1):
            with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=bf16):
                found = bound.answer(predictor, question)
            stopped = END if found.ended else LIMIT
            rows.append((number, question, name, seed, found.text, found.tokens, stopped))

    # A model is let go of before the next one is loaded.
    for (name, number), folder in zip(untouched, folders, strict=True):
        ask(name, number, bound.load_model(folder), folder)
    for (arm, seed), model, base in zip(runs, models, bases, strict=True):
        ask(arm, seed, load_trained(bound, arms[arm], base, model), base)
    write_table(pl.DataFrame(rows, schema=COLUMNS, orient="row"), output)
    log.info("%d answers to %d questions", len(rows), len(questions))
