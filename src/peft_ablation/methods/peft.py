"""Any adapter of the installed PEFT library, by its own name and settings.

`type` is one of PEFT's types (https://huggingface.co/docs/peft), such as LOHA, VERA or BOFT, and
`settings` are keys of its configuration class; both are checked without importing PEFT. Which types
work on which architecture stands in docs/methods.md, measured.
"""

import re
from collections.abc import Collection
from typing import Any, ClassVar, Final, Self

from pydantic import Field, model_validator

from peft_ablation.bases.architectures import Architecture
from peft_ablation.errors import InputError, near_miss
from peft_ablation.methods import ArmSettings
from peft_ablation.methods._modules import prompt_task
from peft_ablation.methods._peft import PeftMethod
from peft_ablation.methods._peft_types import PeftTypeSource, peft_type
from peft_ablation.methods.targets import check_targets, resolve_target

_OURS: Final = {
    "peft_type": "it is the arm's `type`",
    "task_type": "it follows from the base",
    "target_modules": "name them by the arm's `targets`",
    "inference_mode": "it is set by training and loading",
    "total_step": "it is the length of the run",
    "auto_mapping": "it is written with the adapter",
    "base_model_name_or_path": "it is the study's base",
    "revision": "it is the study's base",
    "peft_version": "it is the installed one",
    "shadow_model": "it is a smaller one of the base's kind",
}
"""Fields of PEFT's configurations that are not the arm's to set."""
_UNFIT: Final = {
    "CPT": "its loss is PEFT's own, and saving it moves its weights",
    "MULTITASK_PROMPT_TUNING": "it needs a task's number with every batch",
    "POLY": "it needs a task's number with every batch",
    "XLORA": "it mixes adapters that other runs have trained",
}
"""Types that a run of one task from one base cannot have."""
MERGING: Final = frozenset({
    "ADALORA", "ADAMSS", "BOFT", "C3A", "DEFT", "DELORA", "FROD", "GLORA", "GRALORA", "HIRA",
    "HRA", "IA3", "LN_TUNING", "LOHA", "LOKR", "LORA", "MISS", "OFT", "OSF", "PEANUT", "PSOFT",
    "PVERA", "RANDLORA", "ROAD", "SHIRA", "SUPERTUNING", "TINYLORA", "UNILORA", "VBLORA", "VERA",
    "WAVEFT",
})  # fmt: skip
"""Types whose merging into the base was seen to keep the outputs to 1e-5 on every architecture."""
_KINDS: Final = {"OFT": ("Linear",)}
"""Kinds of types that PEFT 0.21 gets wrong on others, where it has no word to say: OFT on a
convolution begins with another function than the base's."""
_GIVING_KEYS: Final = ("CARTRIDGE", "PREFIX_TUNING")
"""Types whose virtual tokens are keys and values given to each layer."""
_NEED_DATA: Final = ("corda", "lora_ga", "loftq")
"""Values of `init_lora_weights` that need a pass over data or a quantiser before step 1."""


class PeftSettings(ArmSettings):
    """Keys of an arm with any of PEFT's types."""

    type: str
    """PEFT's name of the adapter, in any case."""
    targets: str | None = None
    """Name of a target set (see config/README.md), or `regex:` and a full-match expression over
    module names; null: what PEFT itself takes for the base's model type, if it knows it."""
    settings: dict[str, Any] = Field(default_factory=dict)
    """Keys of the type's configuration class."""

    @model_validator(mode="after")
    def _peft_has_it(self) -> Self:
        try:
            known = peft_type(self.type)
        except InputError as error:
            raise ValueError(str(error)) from None
        if known.name in _UNFIT:
            raise ValueError(f"type: {known.name} cannot be had, {_UNFIT[known.name]}")
        allowed = sorted(known.settings - _OURS.keys())
        for key in self.settings:
            if key in _OURS:
                raise ValueError(f"settings.{key}: not to be set here, {_OURS[key]}")
            if key not in allowed:
                raise ValueError(
                    f"settings.{key}: unknown setting of {known.name}, allowed: "
                    f"{', '.join(allowed)}{near_miss(key, allowed)}"
                )
            if key.endswith("_config"):
                raise ValueError(f"settings.{key}: it is prepared by code of its own; not offered")
        if self.targets is not None and "target_modules" not in known.settings:
            raise ValueError(f"targets: type {known.name} takes none; leave it out")
        if self.settings.get("use_asa"):
            raise ValueError("settings.use_asa: its state is in no checkpoint; not offered")
        if known.name == "SHADOW" and self.settings.get("auxiliary_loss_weight") != 0:
            raise ValueError(
                "settings.auxiliary_loss_weight: expected 0, as PEFT adds that loss to its own "
                "alone, which no task uses"
            )
        init = str(self.settings.get("init_lora_weights", "")).lower()
        if init in _NEED_DATA:
            raise ValueError(
                f"settings.init_lora_weights: found {init!r}, which prepares the base before the "
                "first step; not offered, choose another"
            )
        return self


class Peft(PeftMethod):
    """An adapter of PEFT's."""

    Settings: ClassVar[type[ArmSettings]] = PeftSettings

    @property
    def wraps_forward(self) -> bool:
        """Whether the type works in the forward of the wrapped model alone."""
        return self._source.virtual_tokens

    @property
    def merges(self) -> bool:
        """Whether merging this type was seen to keep the outputs."""
        return self._source.name in MERGING

    @property
    def recomputes(self) -> bool:
        """Whether the type gives layers no keys and values."""
        return self._source.name not in _GIVING_KEYS

    @property
    def rank(self) -> int | None:
        """The setting `r`, where the arm sets it."""
        r = self.arm["settings"].get("r")
        return r if isinstance(r, int) else None

    def check(self, architecture: Architecture | None) -> None:
        """Refuse targets that are none of the base's; virtual tokens on models of images."""
        if architecture is not None and self._source.virtual_tokens:
            prompt_task(architecture)
        if architecture is not None and self._source.name == "SHADOW" and not architecture.causal:
            raise InputError(
                f"type: SHADOW is not defined for {architecture.class_name}, expected a model that "
                "writes text alone; choose another type"
            )
        if self.arm["targets"] is not None:
            kinds = self._kinds(architecture) if architecture else ()
            check_targets(self.arm["targets"], architecture, method=self._name, kinds=kinds)

    def changes(self, module: str, architecture: Architecture) -> bool:
        """Tell whether a module is adapted; without `targets` each may be."""
        expression = self._expression(architecture)
        return expression is None or re.fullmatch(expression, module) is not None

    def config(self, architecture: Architecture, steps: int) -> Any:
        """Return the type's configuration with the arm's settings."""
        from peft import get_peft_config

        given: dict[str, Any] = {"peft_type": self._source.name, **self.arm["settings"]}
        if self._source.virtual_tokens:
            given["task_type"] = prompt_task(architecture)
        expression = self._expression(architecture)
        if expression is not None:
            given["target_modules"] = expression
        if "total_step" in self._source.settings:
            given["total_step"] = steps
        return get_peft_config(given)

    @property
    def _source(self) -> PeftTypeSource:
        return peft_type(self.arm["type"])

    @property
    def _name(self) -> str:
        return f"peft {self._source.name}"

    def _expression(self, architecture: Architecture) -> str | None:
        if self.arm["targets"] is None:
            return None
        kinds = self._kinds(architecture)
        return resolve_target(self.arm["targets"], architecture, method=self._name, kinds=kinds)

    def _kinds(self, architecture: Architecture) -> Collection[str]:
        every = {module.kind for module in architecture.modules}
        return _KINDS.get(self._source.name, every)


METHOD = Peft
