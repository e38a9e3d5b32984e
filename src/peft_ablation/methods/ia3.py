"""(IA)³: each channel of the targets is scaled by a learnt number.

Liu et al., Few-Shot Parameter-Efficient Fine-Tuning is Better and Cheaper than In-Context Learning
(2022), https://arxiv.org/abs/2205.05638. There: the outputs of the key and value projections, and
the inputs of the second feed-forward layer (`feedforward`).
"""

import re
from typing import Any, ClassVar, Final

from peft_ablation.bases.architectures import Architecture
from peft_ablation.errors import InputError
from peft_ablation.methods import ArmSettings
from peft_ablation.methods._peft import PeftMethod
from peft_ablation.methods.lora import stores_transposed
from peft_ablation.methods.targets import check_targets, resolve_target

_KINDS: Final = ("Linear", "Conv1D", "Conv2d")


class Ia3Settings(ArmSettings):
    """Keys of an (IA)³ arm."""

    targets: str
    """Name of a target set (see config/README.md), or `regex:` and a full-match expression over
    module names."""
    feedforward: str | None = None
    """Those of the targets whose inputs are scaled rather than their outputs: a set or `regex:…`;
    null: none."""


class Ia3(PeftMethod):
    """Learnt scales of channels."""

    Settings: ClassVar[type[ArmSettings]] = Ia3Settings

    def check(self, architecture: Architecture | None) -> None:
        """Refuse targets that are none of the base's, and `feedforward` that are none of these."""
        for key in ("targets", "feedforward"):
            if self.arm[key] is not None:
                try:
                    check_targets(self.arm[key], architecture, method="ia3", kinds=_KINDS)
                except InputError as error:
                    raise InputError(str(error).replace("targets:", f"{key}:", 1)) from None
        if architecture is None or self.arm["feedforward"] is None:
            return
        scaled = self._expression("targets", architecture)
        inputs = self._expression("feedforward", architecture)
        for module in architecture.modules:
            if re.fullmatch(inputs, module.name) and not re.fullmatch(scaled, module.name):
                raise InputError(
                    f"feedforward: {self.arm['feedforward']!r} matches {module.name}, which is "
                    "none of the targets; expected some of the targets"
                )

    def changes(self, module: str, architecture: Architecture) -> bool:
        """Tell whether a module is scaled."""
        return re.fullmatch(self._expression("targets", architecture), module) is not None

    def config(self, architecture: Architecture, steps: int) -> Any:
        """Return the `IA3Config` of the arm."""
        from peft import IA3Config

        expression = self._expression("targets", architecture)
        inputs = None
        if self.arm["feedforward"] is not None:
            inputs = self._expression("feedforward", architecture)
        return IA3Config(
            target_modules=expression,
            # Left out, PEFT would look for the model's type in a list of its own.
            feedforward_modules=[] if inputs is None else inputs,
            fan_in_fan_out=stores_transposed(expression, architecture),
        )

    def _expression(self, key: str, architecture: Architecture) -> str:
        return resolve_target(self.arm[key], architecture, method="ia3", kinds=_KINDS)


METHOD = Ia3
