"""Several texts that may follow one prompt, as one row, so that what they share is read once."""

from collections.abc import Sequence

import torch
from torch import Tensor

from peft_ablation.bases.causal import IGNORED


def reference_rows(
    prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[Sequence[int]]]
) -> dict[str, Tensor]:
    """Return what `causal.token_losses` takes, int64, padded on the right by length.

    `answers` are the texts of each prompt, each with its end token, which is told but not read.
    """
    several = any(len(own) > 1 for own in answers)
    rows = [_row(*pair) for pair in zip(prompts, answers, strict=True)]
    fillers = {"input_ids": 0, "sources": 0, "targets": IGNORED}
    if several:
        fillers |= {"position_ids": 0, "reference": -1}
    return {name: padded([row[name] for row in rows], fillers[name]) for name in fillers}


def _row(prompt: Sequence[int], answers: Sequence[Sequence[int]]) -> dict[str, list[int]]:
    row: dict[str, list[int]] = {
        "input_ids": list(prompt),
        "position_ids": list(range(len(prompt))),
        "reference": [0] * len(prompt),
        "sources": [],
        "targets": [],
    }
    for number, answer in enumerate(answers, 1):
        begin, read = len(row["input_ids"]), len(answer) - 1
        row["sources"] += [len(prompt) - 1, *range(begin, begin + read)]
        row["targets"] += answer
        row["input_ids"] += answer[:-1]
        row["position_ids"] += range(len(prompt), len(prompt) + read)
        row["reference"] += [number] * read
    return row


def padded(rows: Sequence[Sequence[int]], filler: int) -> Tensor:
    """Return rows as one tensor, int64, with `filler` after the end of shorter ones."""
    longest = max(map(len, rows))
    return torch.tensor([[*row, *[filler] * (longest - len(row))] for row in rows])
