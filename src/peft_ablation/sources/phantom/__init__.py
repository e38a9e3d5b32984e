"""Rendered chest phantoms in the layout of MIMIC-CXR-JPG: an openly shareable stand-in."""

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from peft_ablation.config.section import Section, Seed
from peft_ablation.sources.mimic import Mimic, MimicData


class Population(Section):
    """The rendered chest phantom."""

    subjects: int = Field(1500, ge=3)
    """Number of subjects; each has one or more studies of one or more images."""
    size: int = Field(96, ge=32)
    """Side of the rendered square radiograph, in pixels."""
    seed: Seed = 2000
    """Seed of everything about the phantom."""


class PhantomData(MimicData):
    """Which phantoms are rendered, and which images count."""

    phantom: Population = Population()
    """Settings of the rendered phantoms."""


class Phantom(Mimic):
    """A tree that the study renders for itself."""

    Settings = PhantomData
    settings: PhantomData
    rules = "phantom.smk"

    def check(self) -> None:
        """Nothing has to be there."""

    @property
    def root(self) -> str | None:
        """Folder of the rendered tree."""
        return f"{self.results}/phantom"

    @property
    def cloud(self) -> dict[str, Any] | None:
        """None: nothing is read from a cloud."""
        return None

    def inputs(self) -> Mapping[str, str]:
        """Return the tables that `render_phantom` makes."""
        return {
            table: f"{self.root}/mimic-cxr-2.0.0-{table}.csv.gz"
            for table in ("metadata", "chexpert")
        }


SOURCE = Phantom
