"""What methods with virtual tokens share: they live in the forward of the wrapped model alone.

PEFT drops `position_ids` with prompts, so a model with learnt positions (GPT-2) needs texts padded
on the right; prefixes raise under gradient checkpointing.
"""

from peft_ablation.bases.architectures import Architecture
from peft_ablation.methods._modules import prompt_task
from peft_ablation.methods._peft import PeftMethod


class VirtualTokensMethod(PeftMethod):
    """Virtual tokens before the text; nothing of the base changes, and nothing can be merged."""

    @property
    def wraps_forward(self) -> bool:
        """Return True: modules of the base called by themselves know of no virtual token."""
        return True

    @property
    def merges(self) -> bool:
        """Return False: there are no weights to put them into."""
        return False

    def check(self, architecture: Architecture | None) -> None:
        """Refuse models of images, and whatever does not write or classify text."""
        if architecture is not None:
            prompt_task(architecture)

    def changes(self, module: str, architecture: Architecture) -> bool:
        """Return True: every module sees other inputs."""
        return True
