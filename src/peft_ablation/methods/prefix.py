"""Prefix tuning: learnt keys and values are put before the text's own, in every layer.

Li & Liang, Prefix-Tuning: Optimizing Continuous Prompts for Generation (2021),
https://arxiv.org/abs/2101.00190. For models of text alone; not with gradient checkpointing.
"""

from typing import Any, ClassVar

from pydantic import Field

from peft_ablation.bases.architectures import Architecture
from peft_ablation.methods import ArmSettings
from peft_ablation.methods._modules import prompt_task
from peft_ablation.methods._virtual_tokens import VirtualTokensMethod


class PrefixSettings(ArmSettings):
    """Keys of a prefix-tuning arm."""

    tokens: int = Field(20, ge=1)
    """Number of virtual tokens."""
    projection: bool = False
    """Learn the prefix through a two-layer network, as in the paper; only its output is saved."""


class Prefix(VirtualTokensMethod):
    """Keys and values before those of the text."""

    Settings: ClassVar[type[ArmSettings]] = PrefixSettings

    @property
    def recomputes(self) -> bool:
        """Return False: a layer that computes again drops the keys and values it was given."""
        return False

    def config(self, architecture: Architecture, steps: int) -> Any:
        """Return the `PrefixTuningConfig` of the arm."""
        from peft import PrefixTuningConfig

        return PrefixTuningConfig(
            task_type=prompt_task(architecture),
            num_virtual_tokens=self.arm["tokens"],
            prefix_projection=self.arm["projection"],
        )


METHOD = Prefix
