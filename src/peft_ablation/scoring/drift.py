"""How far training has moved a model's weights from its base's."""

import re
from typing import Final

import torch
from torch import nn

from peft_ablation.bases.architectures import model_architecture

ALL: Final = "all"
TOWERS: Final = ("vision", "text")
"""Target sets that are told apart where the architecture has them."""


def weight_drift(model: nn.Module, base: nn.Module) -> dict[str, float]:
    """Return ‖W − W₀‖ / ‖W₀‖ (Frobenius, in float64) of a model without adapters beside its base.

    W are all parameters of `base` under their names in `model`: `all` of them, and those of the
    modules in the target sets `vision` and `text` of an architecture that has these.
    """
    found = dict(model.named_parameters())
    sets = model_architecture(base).targets
    groups = {ALL: re.compile(".*")} | {t: re.compile(sets[t]) for t in TOWERS if t in sets}
    moved, size = dict.fromkeys(groups, 0.0), dict.fromkeys(groups, 0.0)
    with torch.no_grad():
        for name, before in base.named_parameters():
            difference = float((found[name].double() - before.double()).square().sum())
            own = float(before.double().square().sum())
            for group, pattern in groups.items():
                if group == ALL or pattern.fullmatch(name.rpartition(".")[0]):
                    moved[group] += difference
                    size[group] += own
    return {group: (moved[group] / size[group]) ** 0.5 for group in groups}
