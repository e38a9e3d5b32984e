"""What others trained, scored as it is: a whole model, or a plain PEFT adapter on the arm's base.

The run's model folder then holds a whole model whose outputs are called as the study calls its
classes, so that all that follows treats it as any other.
"""

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final

from pydantic import Field, model_validator

from peft_ablation.artifacts import read_json, write_json
from peft_ablation.bases.architectures import Architecture
from peft_ablation.errors import InputError
from peft_ablation.methods import ArmSettings, Kept
from peft_ablation.methods._peft_types import PeftTypeSource, peft_type
from peft_ablation.methods.none import Untrained
from peft_ablation.methods.peft import MERGING

if TYPE_CHECKING:
    from torch import Tensor, nn

    from peft_ablation.methods import LoadModel

CONFIG: Final = "adapter_config.json"
WEIGHTS: Final = "adapter_model.safetensors"
_PICKLED: Final = ("adapter_model.bin", "adapter_model.pt")


class ForeignSettings(ArmSettings):
    """Keys of an arm that others trained."""

    learning_rate: float = Field(0.0, ge=0, le=0)
    """Nothing is trained here."""
    adapter: str | None = None
    """Folder of a plain PEFT adapter (`adapter_config.json`, `adapter_model.safetensors`) for the
    arm's base; null: the arm's base is the model."""
    labels: tuple[str, ...] | None = Field(None, min_length=2)
    """The study's classes in the order of the model's outputs. Needed with an adapter that brings
    its head, and with a model that calls its outputs otherwise (`LABEL_0`)."""
    known_as: str | None = None
    """What the adapter calls its base, where this arm's has another name and the same weights."""

    @model_validator(mode="after")
    def _labels_differ(self) -> "ForeignSettings":
        if self.labels is not None and len(set(self.labels)) < len(self.labels):
            raise ValueError("labels: a class is named twice")
        if self.known_as is not None and self.adapter is None:
            raise ValueError("known_as is what an adapter calls its base: set adapter, or leave it")
        return self


class Foreign(Untrained):
    """A model or an adapter from elsewhere."""

    Settings: ClassVar[type[ArmSettings]] = ForeignSettings
    elsewhere: ClassVar[bool] = True

    # -- without torch ---------------------------------------------------------------------------

    @property
    def inputs(self) -> tuple[str, ...]:
        """The adapter's folder."""
        adapter = self.arm.get("adapter")
        return () if adapter is None else (str(Path(adapter).resolve()),)

    def check(self, architecture: Architecture | None) -> None:
        """Refuse a folder that holds no adapter which can be read and merged."""
        if self.arm.get("adapter") is not None:
            self._config()

    def changes(self, module: str, architecture: Architecture) -> bool:
        """Return True: who knows what others changed."""
        return True

    def leaves_alone(
        self, architecture: Architecture | None, prefixes: Sequence[str], heads: Sequence[str]
    ) -> bool:
        """Return whether the base itself is the model."""
        return self.arm.get("adapter") is None

    def _config(self) -> dict[str, Any]:
        """Return what `adapter_config.json` says, checked."""
        folder = Path(self.arm["adapter"])
        if not (folder / CONFIG).is_file():
            found = "no such folder" if not folder.is_dir() else f"no {CONFIG}"
            raise InputError(
                f"adapter: {folder}: {found}; expected a folder that PEFT's save_pretrained wrote"
            )
        if not (folder / WEIGHTS).is_file():
            pickled = [name for name in _PICKLED if (folder / name).is_file()]
            beside = f" (found {pickled[0]}, a pickle, which is not read)" if pickled else ""
            raise InputError(
                f"adapter: {folder}: no {WEIGHTS}{beside}; save it with safe_serialization=True"
            )
        try:
            config = read_json(folder / CONFIG)
        except (json.JSONDecodeError, UnicodeDecodeError):
            raise InputError(f"adapter: {folder}: {CONFIG} is not JSON; fetch it again") from None
        if not isinstance(config, dict) or not isinstance(config.get("peft_type"), str):
            raise InputError(f"adapter: {folder}: {CONFIG} names no peft_type; fetch it again")
        try:
            kind = peft_type(config["peft_type"])
        except InputError as error:
            raise InputError(f"adapter: {folder}: {CONFIG}: peft_{error}") from None
        if kind.name not in MERGING:
            raise InputError(
                f"adapter: {folder}: peft_type {kind.name} does not merge into its base, and is "
                "not scored here"
            )
        _check_known(config, kind, folder)
        return config

    # -- with torch ------------------------------------------------------------------------------

    def keep(
        self,
        load_model: "LoadModel",
        base: str | Path,
        folder: str | Path,
        heads_of: "Callable[[nn.Module], Sequence[str]]",
    ) -> Kept:
        """Write the whole model, its outputs called as the task calls them.

        Raises `InputError` with one line for an adapter of another base, heads that are missing,
        and outputs that cannot be told apart.
        """
        if self.arm.get("adapter") is None:
            return self._keep_model(load_model, Path(base), Path(folder), heads_of)
        return self._keep_adapter(load_model, Path(base), Path(folder), heads_of)

    def load(self, load_model: "LoadModel", base: str | Path, folder: str | Path) -> "nn.Module":
        """Return the model that `keep` wrote."""
        return load_model(folder)

    def loading(self, class_name: str) -> str:
        """Return the Python that loads the model."""
        return f"{class_name}.from_pretrained(folder)"

    def _keep_model(
        self,
        load_model: "LoadModel",
        base: Path,
        folder: Path,
        heads_of: "Callable[[nn.Module], Sequence[str]]",
    ) -> Kept:
        model: Any = load_model(base)
        config = read_json(base / "config.json")
        heads = tuple(heads_of(model))
        if heads:
            lacking = _lacking(model, heads, _tensors(base))
            if lacking:
                raise InputError(
                    f"base {base}: no weights of its head {lacking[0]!r}: nobody trained it to "
                    "tell classes; give a model that was, or an adapter that brings its head"
                )
            labels = self._order(_names(model.config), _said(base), base)
            config["id2label"] = dict(enumerate(labels))
            config["label2id"] = {name: place for place, name in enumerate(labels)}
        for path in sorted((*base.glob("*.safetensors"), *base.glob("*.safetensors.index.json"))):
            shutil.copyfile(path, folder / path.name)
        write_json(folder / "config.json", config)
        size = sum(path.stat().st_size for path in base.glob("*.safetensors"))
        return Kept(load_model(folder), trained=0, megabytes=size / 1e6)

    def _keep_adapter(
        self,
        load_model: "LoadModel",
        base: Path,
        folder: Path,
        heads_of: "Callable[[nn.Module], Sequence[str]]",
    ) -> Kept:
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        adapter = Path(self.arm["adapter"])
        self._check_base(self._config(), base)
        try:
            saved = load_file(adapter / WEIGHTS)
        except SafetensorError:
            raise InputError(
                f"adapter: {adapter}: {WEIGHTS} is no whole safetensors file; fetch it again"
            ) from None
        model: Any = load_model(base)
        wanted, heads = _names(model.config), tuple(heads_of(model))
        brought = {head for head in heads if any(f".{head}." in name for name in saved)}
        # Heads of other classes were made anew, whatever the base has.
        kept = heads and sorted(_said(base)) == sorted(wanted)
        absent = _lacking(model, heads, _tensors(base)) if kept else heads
        lacking = [head for head in absent if head not in brought]
        if lacking:
            raise InputError(
                f"adapter: {adapter}: neither it nor base {base} has weights of the head "
                f"{lacking[0]!r} for {', '.join(wanted)}; give the model that it was trained on"
            )
        merged = _merged_with(model, adapter, saved, base)
        if heads and heads[-1] in brought:
            if self.arm["labels"] is None and len(wanted) > 1:
                raise InputError(
                    f"adapter: {adapter}: it does not say which of its outputs is which class; "
                    f"give labels: {', '.join(wanted)}, in the order of its outputs"
                )
            labels = self._order(wanted, wanted, adapter)
            merged.config.id2label = dict(enumerate(labels))
            merged.config.label2id = {name: place for place, name in enumerate(labels)}
        merged.save_pretrained(folder)
        trained = sum(tensor.numel() for tensor in saved.values())
        size = (adapter / WEIGHTS).stat().st_size
        return Kept(load_model(folder), trained=trained, megabytes=size / 1e6)

    def _order(self, wanted: Sequence[str], said: Sequence[str], where: Path) -> list[str]:
        """Return what the outputs are, by the names of the study, in the model's order."""
        if len(said) != len(wanted):
            raise InputError(
                f"{where}: found {len(said)} outputs ({', '.join(said)}), expected the study's "
                f"{len(wanted)} classes: {', '.join(wanted)}"
            )
        if len(wanted) == 1:
            return list(wanted)
        labels = list(self.arm["labels"] or said)
        if sorted(labels) == sorted(wanted):
            return labels
        if self.arm["labels"] is not None:
            raise InputError(
                f"labels: found {', '.join(labels)}, expected the study's classes, each once: "
                f"{', '.join(wanted)}"
            )
        raise InputError(
            f"{where}: its outputs are called {', '.join(said)}, the study's classes "
            f"{', '.join(wanted)}; give labels: these classes in the order of the outputs"
        )

    def _check_base(self, config: Mapping[str, Any], base: Path) -> None:
        """Refuse an adapter that names another base."""
        theirs = config.get("base_model_name_or_path")
        if not theirs:
            return
        record = read_json(base / "base.json") if (base / "base.json").is_file() else {}
        ours = str(record.get("id") or base)
        known = self.arm["known_as"] or ours
        if _last(str(theirs)) != _last(known):
            raise InputError(
                f"adapter: {self.arm['adapter']}: made for base {theirs!r}, found {known!r}; take "
                "that base, or, where this one has the same weights, set known_as to that name"
            )


def _last(name: str) -> str:
    return name.rstrip("/").rpartition("/")[2].lower()


def _names(config: Any) -> list[str]:
    return [str(config.id2label[place]) for place in range(config.num_labels)]


def _said(base: Path) -> list[str]:
    """Return what a model folder calls its outputs."""
    from transformers import AutoConfig

    return _names(AutoConfig.from_pretrained(base, local_files_only=True))


def _check_known(config: Mapping[str, Any], kind: PeftTypeSource, folder: Path) -> None:
    """Refuse settings that the installed PEFT has not, where they say anything: it drops them."""
    for key, value in config.items():
        if key not in kind.settings and value not in (None, False, "", [], {}):
            raise InputError(
                f"adapter: {folder}: {CONFIG} has {key}: {value!r}, which the installed PEFT does "
                f"not know of {kind.name}; install the release that wrote it"
            )


def _tensors(folder: Path) -> set[str]:
    """Return the names of all tensors in a model folder."""
    from safetensors import safe_open

    found: set[str] = set()
    for path in folder.glob("*.safetensors"):
        with safe_open(path, "pt") as file:
            found |= set(file.keys())
    return found


def _lacking(model: "nn.Module", heads: Sequence[str], found: set[str]) -> list[str]:
    """Return the heads of which a model folder with these tensors lacks a weight."""
    return [
        head
        for head in heads
        if any(
            f"{head}.{name}" not in found
            for name, _ in model.get_submodule(head).named_parameters()
        )
    ]


def _merged_with(
    model: "nn.Module", adapter: Path, saved: "Mapping[str, Tensor]", base: Path
) -> Any:
    """Return the base with the adapter merged; refuse one whose tensors have no place in it.

    PEFT passes over tensors without a place, and leaves modules without a tensor as they are.
    """
    import torch
    from peft import PeftModel, get_peft_model_state_dict

    from peft_ablation.methods._peft import merged, quiet

    other = f"adapter: {adapter}: made for another base than {base}"
    try:
        with quiet():
            adapted = PeftModel.from_pretrained(model, str(adapter))
    except (RuntimeError, ValueError, KeyError, AttributeError) as error:
        said = " ".join(str(error).split())[:200]
        raise InputError(f"{other}: {said}") from None
    own = get_peft_model_state_dict(adapted, save_embedding_layers=False)
    odd = sorted(own.keys() ^ saved.keys())
    if odd:
        raise InputError(
            f"{other}: {len(odd)} tensors without a partner, first {odd[0]!r}, of "
            f"{len(saved)} in the adapter"
        )
    for name, tensor in saved.items():
        if not torch.equal(own[name].float().cpu(), tensor.float()):
            raise InputError(f"{other}: {name!r} was not taken over")
    return merged(adapted)


METHOD = Foreign
