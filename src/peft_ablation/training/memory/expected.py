"""What a formula expects a step to hold, before anything is trained."""

from collections.abc import Sequence
from typing import Any, Final, get_args

import torch

from peft_ablation.errors import InputError
from peft_ablation.methods import Optimizer, Weights, open_method
from peft_ablation.tasks import open_task
from peft_ablation.training.inputs import RunInputs
from peft_ablation.training.memory.sizes import batch_of
from peft_ablation.training.optimizers import state_bytes

LOGIT: Final = 4
"""Bytes of a logit: losses are computed in float32."""


def expected(given: RunInputs, sizes: Sequence[tuple[int, int | None]]) -> dict[str, Any]:
    """Return the expected megabytes of a run, by what they depend on.

    `held`: `frozen`, `trained` and `gradients`; `optimizer`: its state by the optimizer's name;
    `sizes`, by batch size and length as asked: `logits` of one batch, once (None where the task
    does not say), `length` of the longest example, and `supervised`, what the batch's loss is
    divided by; or `refused`, why there is no such batch.
    """
    torch.set_num_threads(given.settings["threads"])
    task, method = open_task(given.task, given.train), open_method(given.arm)
    examples = task.examples(given.train, given.assets, given.base)
    torch.manual_seed(given.seed)
    model = task.load_model(given.base)
    found: dict[str, Any] = {}
    for batch_size, length in sizes:
        try:
            rows, indices = batch_of(task, examples, given.base, batch_size, length)
        except InputError as error:
            found[f"{batch_size} {length}"] = {"refused": str(error)}
            continue
        logits = task.logits(model, rows, indices)
        found[f"{batch_size} {length}"] = {
            "logits": None if logits is None else logits * LOGIT / 1e6,
            "length": int(rows.lengths[indices].max()),
            "supervised": rows.weight(indices),
        }
    steps = given.settings["epochs"] * -(-len(examples) // given.settings["batch_size"])
    weights = method.expected_weights(model, heads=task.heads_of(model), steps=steps)
    return {
        "held": held_mb(weights),
        "optimizer": {
            name: {"optimizer": state_bytes(name, weights.trained) / 1e6}
            for name in get_args(Optimizer)
        },
        "sizes": found,
    }


def held_mb(weights: Weights) -> dict[str, float]:
    """Return the megabytes of weights and gradients."""
    trained = sum(parameter.nbytes for parameter in weights.trained)
    held = {"frozen": weights.frozen, "trained": trained, "gradients": trained}
    return {name: value / 1e6 for name, value in held.items()}
