"""AdaLoRA: adapters in the form of a singular value decomposition, whose ranks move while training.

Zhang et al., Adaptive Budget Allocation for Parameter-Efficient Fine-Tuning (2023),
https://arxiv.org/abs/2303.10512. All targets begin with `init_r`; between the first and the last
phase the least important singular values go, until `r` a target are left on average. A and B are
kept near orthogonal by a term of the loss.
"""

import re
from typing import Any, ClassVar, Final, Self

from pydantic import Field, model_validator

from peft_ablation.bases.architectures import Architecture
from peft_ablation.methods import ArmSettings
from peft_ablation.methods._peft import PeftMethod
from peft_ablation.methods.lora import stores_transposed
from peft_ablation.methods.targets import check_targets, resolve_target

_KINDS: Final = ("Linear", "Conv1D", "Conv2d")


class AdaloraSettings(ArmSettings):
    """Keys of an AdaLoRA arm."""

    targets: str
    """Name of a target set (see config/README.md), or `regex:` and a full-match expression over
    module names."""
    r: int = Field(8, ge=1)
    """Mean rank in the end."""
    init_r: int = Field(12, ge=1)
    """Rank of every target in the beginning."""
    alpha: float = Field(16, gt=0)
    """Scale of the update: alpha / init_r."""
    dropout: float = Field(0.05, ge=0, lt=1)
    """Dropout before the adapter."""
    first: float = Field(0.1, ge=0, lt=1)
    """Share of all steps before the first rank goes."""
    last: float = Field(0.3, ge=0, lt=1)
    """Share of all steps after the last rank has gone."""
    every: int = Field(1, ge=1)
    """Steps between two allocations of ranks."""
    smoothing: float = Field(0.85, gt=0, lt=1)
    """Decay of the running means of importance and of its uncertainty."""
    orthogonality: float = Field(0.5, ge=0)
    """Weight of the orthogonality term in the loss."""

    @model_validator(mode="after")
    def _phases_leave_room(self) -> Self:
        if self.first + self.last >= 1:
            raise ValueError(f"first + last is {self.first + self.last:g}, expected less than 1")
        if self.init_r < self.r:
            raise ValueError(f"init_r is {self.init_r}, expected at least r, {self.r}")
        return self


class Adalora(PeftMethod):
    """Adapters of moving rank on the targets."""

    Settings: ClassVar[type[ArmSettings]] = AdaloraSettings

    def check(self, architecture: Architecture | None) -> None:
        """Refuse targets that are none of the base's."""
        check_targets(self.arm["targets"], architecture, method="adalora", kinds=_KINDS)

    def changes(self, module: str, architecture: Architecture) -> bool:
        """Tell whether a module is adapted."""
        return re.fullmatch(self._expression(architecture), module) is not None

    @property
    def rank(self) -> int | None:
        """Mean rank in the end."""
        return int(self.arm["r"])

    def config(self, architecture: Architecture, steps: int) -> Any:
        """Return the `AdaLoraConfig` of a run of so many steps."""
        from peft import AdaLoraConfig

        first, last = int(self.arm["first"] * steps), int(self.arm["last"] * steps)
        expression = self._expression(architecture)
        return AdaLoraConfig(
            target_r=self.arm["r"],
            init_r=self.arm["init_r"],
            lora_alpha=self.arm["alpha"],
            lora_dropout=self.arm["dropout"],
            tinit=first,
            tfinal=last,
            total_step=steps,
            deltaT=self.arm["every"],
            beta1=self.arm["smoothing"],
            beta2=self.arm["smoothing"],
            orth_reg_weight=self.arm["orthogonality"],
            target_modules=expression,
            fan_in_fan_out=stores_transposed(expression, architecture),
        )

    def _expression(self, architecture: Architecture) -> str:
        return resolve_target(self.arm["targets"], architecture, method="adalora", kinds=_KINDS)


METHOD = Adalora
