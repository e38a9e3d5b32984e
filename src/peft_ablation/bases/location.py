"""Which folder each arm's base lies in, and what makes it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from peft_ablation.artifacts import sha256_json
from peft_ablation.bases.fetch import base_folder

if TYPE_CHECKING:
    from peft_ablation.config.base import Base, RunOf

SEED = "{seed}"
"""Stands for the seed of the run that starts from another run of the same seed."""


@dataclass(frozen=True)
class Place:
    """A base and its folder; the folder may hold `SEED`."""

    folder: str
    base: "Base"


def place_of(base: "Base", *, bases: str, results: str, prompt: str) -> Place:
    """Return where a base lies: under `bases`, shared by studies, or beside a study's results.

    In `<results>/bases/` are a run's result, this study's copy with adapters merged, and a random
    base whose tokenizer is trained on the study's texts.
    """
    if base.run is not None:
        return Place(f"{results}/bases/{run_name(base.run)}", base)
    values: Mapping[str, Any] = base.model_dump(mode="json")
    if base.kind == "random":
        # A tokenizer trained on this study's texts makes it this study's base.
        trained = isinstance(values["random"]["tokenizer"], dict)
        beside = f"{results}/bases" if trained else bases.rstrip("/")
        return Place(f"{beside}/random-{sha256_json(values['random'])[:8]}", base)
    return Place(base_folder(bases, values, prompt), base)


def run_name(run: "RunOf") -> str:
    """Return a run as a file name."""
    seed = SEED if run.seed is None else run.seed
    return f"{run.study.replace('/', '-').removesuffix('.yaml')}.{run.arm}.seed-{seed}"
