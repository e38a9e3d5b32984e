"""Prompt tuning: learnt vectors are put before the embedded text.

Lester, Al-Rfou & Constant, The Power of Scale for Parameter-Efficient Prompt Tuning (2021),
https://arxiv.org/abs/2104.08691. For models of text alone.
"""

from typing import Any, ClassVar, Literal

from pydantic import Field

from peft_ablation.bases.architectures import Architecture
from peft_ablation.methods import ArmSettings
from peft_ablation.methods._modules import prompt_task
from peft_ablation.methods._virtual_tokens import VirtualTokensMethod


class PromptSettings(ArmSettings):
    """Keys of a prompt-tuning arm."""

    tokens: int = Field(20, ge=1)
    """Number of virtual tokens."""
    init: Literal["vocabulary", "random"] = "vocabulary"
    """`vocabulary`: embeddings of tokens drawn at random; `random`: normal numbers."""


class Prompt(VirtualTokensMethod):
    """Virtual tokens before the text."""

    Settings: ClassVar[type[ArmSettings]] = PromptSettings

    def config(self, architecture: Architecture, steps: int) -> Any:
        """Return the `PromptTuningConfig` of the arm."""
        from peft import PromptTuningConfig, PromptTuningInit

        vocabulary = self.arm["init"] == "vocabulary"
        return PromptTuningConfig(
            task_type=prompt_task(architecture),
            num_virtual_tokens=self.arm["tokens"],
            prompt_tuning_init=(
                PromptTuningInit.SAMPLE_VOCAB if vocabulary else PromptTuningInit.RANDOM
            ),
        )


METHOD = Prompt
