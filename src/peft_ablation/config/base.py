"""The `base:` section: what an arm starts from."""

from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from peft_ablation.bases.random import RandomBase
from peft_ablation.config.section import Name, Section, Seed


class Pretraining(Section):
    """Pre-training of the tiny base on clean schematic phantoms (`base.id: phantom`)."""

    images: int = Field(8000, ge=1)
    """Schematic images an epoch, one or two findings each, drawn afresh every time."""
    epochs: int = Field(8, ge=1)
    """Number of epochs."""
    batch_size: int = Field(64, ge=1)
    """Images a step."""
    learning_rate: float = Field(1e-3, gt=0)
    """Peak of the one-cycle schedule."""
    image_size: int = Field(48, ge=16)
    """Side of the model's input, in pixels."""
    patch_size: int = Field(8, ge=1)
    """Side of a patch, in pixels."""
    hidden_size: int = Field(96, ge=8)
    """Width of both towers."""
    vision_layers: int = Field(3, ge=1)
    """Layers of the vision tower."""
    text_layers: int = Field(2, ge=1)
    """Layers of the text decoder."""
    attention_heads: int = Field(4, ge=1)
    """Heads a layer."""
    seed: Seed = 1000
    """Seed of images, initial weights and order."""
    threads: int = Field(2, ge=1)
    """CPU threads of torch; another number gives other weights."""

    @model_validator(mode="after")
    def _shapes_divide(self) -> Self:
        if self.image_size % self.patch_size:
            raise ValueError(f"image_size {self.image_size} is no multiple of patch_size")
        if self.hidden_size % self.attention_heads:
            raise ValueError(f"hidden_size {self.hidden_size} is no multiple of attention_heads")
        return self


class RunOf(Section):
    """A finished run of another study, or of this one."""

    study: str
    """Study, as the site's `study` names it."""
    arm: Name
    """Its arm."""
    seed: Seed | None = None
    """Its seed; null: the seed of the run that starts from it."""


class Base(Section):
    """The pretrained model that arms start from."""

    id: str = "phantom"
    """`phantom` (pre-trained here), `random` (sizes from `base.random`, weights from a seed), a hub
    id such as `microsoft/git-base`, or a local folder."""
    revision: str | None = None
    """Commit of the hub id; required for a hub id, so that a rerun meets the same weights."""
    model_type: str | None = None
    """`model_type` of a hub id's config.json, to match targets before it is fetched."""
    run: RunOf | None = None
    """The result of a run, in place of an `id`: adapters are merged into its own base."""
    pretraining: Pretraining = Pretraining()
    """Settings of `id: phantom`; unused otherwise."""
    random: RandomBase | None = None
    """Settings of `id: random`; unused otherwise."""

    @model_validator(mode="after")
    def _is_one_kind(self) -> Self:
        if self.run is not None and "id" in self.model_fields_set:
            raise ValueError("id and run are both set: keep one of them")
        if self.run is None and self.id == "random" and self.random is None:
            raise ValueError("random is missing: say architecture, config and seed of id random")
        return self

    @property
    def kind(self) -> str:
        """`run`, `phantom`, `random` or `fetched`."""
        if self.run is not None:
            return "run"
        return self.id if self.id in ("phantom", "random") else "fetched"

    @property
    def is_folder(self) -> bool:
        """Whether the id is a folder that exists."""
        return self.kind == "fetched" and Path(self.id).is_dir()
