"""Names of a base's modules by its class, without torch and without building it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Module:
    """One module of a model: its name in `named_modules()` and the name of its type."""

    name: str
    kind: str
    """`Linear`, `Conv1D`, `Conv2d`, `Embedding`, `LayerNorm`, `BatchNorm2d`, …"""


@dataclass(frozen=True)
class Architecture:
    """A model class at the sizes of one base."""

    class_name: str
    """As in transformers, such as `ViTForImageClassification`."""
    modules: tuple[Module, ...]
    """All leaf modules that hold weights."""
    targets: Mapping[str, str]
    """Target sets by name, as full-match expressions over module names."""
    causal: bool = False
    """Whether prompt methods have a meaning on it (PEFT's task type)."""


def architecture(class_name: str, config: Mapping[str, Any]) -> Architecture | None:
    """Return the architecture of a class at the sizes of a `config.json`; None if not shipped."""
    return None
