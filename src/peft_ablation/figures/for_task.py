"""Figures that a task brings along, drawn without knowing which task it is."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from peft_ablation.errors import InputError
from peft_ablation.tasks import task_class


@dataclass(frozen=True)
class FigureInputs:
    """What a task's figure may read: runs of the first seed, by arm."""

    task: Mapping[str, Any]
    """The study's `task:` section."""
    arms: Mapping[str, Mapping[str, Any]]
    """Settings of the arms."""
    predictions: Mapping[str, str | Path]
    models: Mapping[str, str | Path]
    """Model folders, for figures that need them; else empty."""
    bases: Mapping[str, str | Path]
    """Base folders, likewise."""
    assets: Mapping[str, str | Path]
    train: str | Path
    """Table of the training split."""
    public: bool
    """Whether images, texts and ids may be shown."""
    seed: int


def draw_task_figure(name: str, given: FigureInputs, outputs: Sequence[str | Path]) -> None:
    """Draw the figure `name` of a task.

    Raises `InputError` where it shows examples and the data are not public.
    """
    figure = task_class(given.task["name"]).figures[name]
    if figure.public_only and not given.public:
        raise InputError(
            f"figure {name}: data.public is false, and this figure shows examples; "
            "set data.public: true only for data that may be shown to anyone"
        )
    module, function = figure.draw.split(":")
    draw: Callable[[FigureInputs, Sequence[str | Path]], None]
    draw = getattr(import_module(module), function)
    draw(given, outputs)
