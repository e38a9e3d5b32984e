"""What a published protocol did wrong, done again on purpose.

Here alone: which defects there are (`AsPublished`, the section of that name of an arm), and, in
`protocol`, what each does to examples and batches.
"""

from collections.abc import Mapping
from typing import Any, Final

from pydantic import Field

from peft_ablation.config.section import Section


class AsPublished(Section):
    """Defects of a published protocol; an arm without any is the corrected one."""

    prompt_as_input: bool = False
    """Inputs are not the labels: the model is given the padded prompt instead of the text that it
    must continue, so that nothing is teacher-forced and a word is guessed from its place alone."""
    padding_supervised: bool = False
    """Every text is padded to `task.max_tokens`, and the loss counts the padding, which is easily
    guessed and outnumbers the words."""
    labels_shifted_twice: bool = False
    """The loss shifts labels that are shifted already, as transformers 4.48.3 to 5.14 do for GIT:
    after token t the model learns token t + 2."""
    batches_an_epoch: int | None = Field(None, ge=1)
    """Training breaks off after so many batches of each epoch, so that most examples are never
    seen."""
    val_examples: int | None = Field(None, ge=1)
    """The best epoch is chosen by the first so many validation examples alone."""
    test_examples: int | None = Field(None, ge=1)
    """Scores are claimed from the first so many test examples alone."""
    memory_after_loading: bool = False
    """The memory claimed is what is in use once the model is loaded, not the peak of training."""
    time_with_waiting: bool = False
    """The time claimed includes waiting for images to arrive."""

    @property
    def told(self) -> dict[str, str]:
        """One sentence of warning by the name of each defect that is switched on."""
        return {
            name: " ".join((field.description or "").split())
            for name, field in type(self).model_fields.items()
            if getattr(self, name) not in (None, False)
        }

    @property
    def of_texts(self) -> bool:
        """Whether batches of texts are made in another way."""
        return any(getattr(self, name) for name in OF_TEXTS)


OF_TEXTS: Final = ("prompt_as_input", "padding_supervised", "labels_shifted_twice")
"""Defects of batches that hold `input_ids` and `labels`, one a token."""
OF_CLAIMS: Final = ("test_examples", "memory_after_loading", "time_with_waiting")
"""Defects of what is claimed: training knows nothing of them."""


def of_training(arm: Mapping[str, Any]) -> dict[str, Any]:
    """Return an arm's settings with the defects that training has; without any, without the key."""
    told = {
        name: value
        for name, value in (arm.get("as_published") or {}).items()
        if name not in OF_CLAIMS and value not in (None, False)
    }
    rest = {key: value for key, value in arm.items() if key != "as_published"}
    return rest | {"as_published": told} if told else rest
