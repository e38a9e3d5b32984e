"""Zero-shot classification: an image, one of K classes that are told by their names alone.

CLIP compares an image with texts of each class's name (Radford et al. 2021,
https://arxiv.org/abs/2103.00020). Those texts become a linear head, so that `method: none` is
zero-shot classification, `head_only` a linear probe that starts there, `lora` and `full` adapt the
image tower with it. Bases that are no CLIP are plain image classifiers, as in
`image_classification`: arms of both kinds stand in one study, each with its own base.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator

from peft_ablation.tasks import image_classification
from peft_ablation.tasks.image_classification import ImageClassification

TWO_TOWERS = "clip"
"""`model_type` of bases that texts can tell classes to."""

TEMPLATES = (
    "a photo of a {}.",
    "a blurry photo of a {}.",
    "a black and white photo of a {}.",
    "a low contrast photo of a {}.",
    "a high contrast photo of a {}.",
    "a bad photo of a {}.",
    "a good photo of a {}.",
    "a photo of a small {}.",
    "a photo of a big {}.",
    "a photo of the {}.",
    "a blurry photo of the {}.",
    "a black and white photo of the {}.",
    "a low contrast photo of the {}.",
    "a high contrast photo of the {}.",
    "a bad photo of the {}.",
    "a good photo of the {}.",
    "a photo of the small {}.",
    "a photo of the big {}.",
)
"""The ensemble that CLIP's authors publish for CIFAR-10 and CIFAR-100
(https://github.com/openai/CLIP, data/prompts.md, MIT licence)."""


class Settings(image_classification.Settings):
    """Which classes there are, and the texts that tell them to CLIP."""

    templates: tuple[str, ...] | None = Field(None, min_length=1)
    """Texts of a class for a CLIP, `{}` in place of its name (spaces for underscores); their
    embeddings are averaged. null: the 18 that CLIP's authors publish for CIFAR."""
    head: Literal["prompts", "random"] = "prompts"
    """Where the head of a CLIP starts: at the texts' embeddings, or at random weights."""

    @field_validator("templates")
    @classmethod
    def _have_one_place(cls, templates: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if templates is None:
            return None
        for template in templates:
            if template.count("{}") != 1:
                raise ValueError(
                    f"found {template!r}, expected a text with {{}} once, in place of the class"
                )
        if len(set(templates)) < len(templates):
            twice = next(t for t in templates if templates.count(t) > 1)
            raise ValueError(f"found {twice!r} twice, expected each text once")
        return templates


class ZeroShot(ImageClassification):
    """The class of an image, which a CLIP can tell untrained."""

    Settings = Settings
    architectures: ClassVar[Mapping[str, str]] = {
        **ImageClassification.architectures,
        TWO_TOWERS: "CLIPZeroShotClassifier",
    }
    hub_kind = "zero-shot-image-classification"
    tokenizer: ClassVar[bool | tuple[str, ...]] = (TWO_TOWERS,)
    beside_features: ClassVar[tuple[str, ...]] = ("templates", "head")

    @classmethod
    def prepares(cls, settings: Mapping[str, Any], model_type: str | None) -> bool:
        """Tell whether a head is made of texts: once, for all arms and seeds."""
        return model_type == TWO_TOWERS and settings["head"] == "prompts"

    def texts(self) -> list[list[str]]:
        """Return the texts of each class, in the order of the classes."""
        names = [name.replace("_", " ") for name in self.classes]
        templates = self.settings["templates"] or TEMPLATES
        return [[template.replace("{}", name) for template in templates] for name in names]

    def load_model(self, folder: str | Path) -> Any:
        """Return the classifier of a local folder; of a CLIP, with the head that the texts make."""
        from peft_ablation.tasks.zero_shot.model import is_clip, load_zero_shot

        if not is_clip(folder):
            return super().load_model(folder)
        texts = self.texts() if self.settings["head"] == "prompts" else None
        return load_zero_shot(folder, self.classes, texts)

    def frozen_features(self, base: str | Path, device: Any) -> Any:
        """Return all of a base but its head; of a CLIP, its image embeddings of unit length."""
        from peft_ablation.tasks.image_classification.model import PooledFeatures
        from peft_ablation.tasks.zero_shot.model import is_clip, load_zero_shot

        if not is_clip(base):
            return super().frozen_features(base, device)
        return PooledFeatures(base, device, load_zero_shot)


TASK = ZeroShot
