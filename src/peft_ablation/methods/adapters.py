"""Turn a base into an arm by the arm's fields alone; the engine's way until it calls a `Method`."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from peft_ablation.methods import (
    ParameterCount,
    count_parameters,
    load_trainable_state,
    trainable_state,
)
from peft_ablation.methods.targets import resolve_target

__all__ = [
    "ParameterCount",
    "as_arm",
    "count_parameters",
    "layer_counts",
    "load_trainable_state",
    "trainable_state",
]


def as_arm(model: nn.Module, arm: Mapping[str, Any], seed: int = 0) -> nn.Module:
    """Return `model` made ready to train as `arm` (the fields of `study.Arm`).

    `full` makes every parameter trainable; `lora` freezes them and adds adapters, whose initial
    values come from `seed` alone. Raises `InputError` if the targets match no module.
    """
    if arm["method"] == "full":
        return model.requires_grad_(True)
    from peft import LoraConfig, get_peft_model

    expression = resolve_target(arm["targets"], layer_counts(model))
    torch.manual_seed(seed)
    adapted: nn.Module = get_peft_model(
        model,
        LoraConfig(
            r=arm["r"],
            lora_alpha=arm["alpha"],
            lora_dropout=arm["dropout"],
            use_rslora=arm["rslora"],
            target_modules=expression,
        ),
    )
    return adapted


def layer_counts(model: nn.Module) -> tuple[int, int]:
    """Return the vision and text layers of a GIT model."""
    config: Any = model.config
    return config.vision_config.num_hidden_layers, config.num_hidden_layers
