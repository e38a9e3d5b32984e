"""Names of a base's modules by its class, without torch and without building it.

A wrong target is refused when the DAG is built, where importing torch would cost seconds. What is
needed for that lies in `architectures.json`: the modules of each class as transformers builds it,
with `{layer}` (and `{stage}`) in place of the numbers that a key of its config counts. The file is
written by `python -m peft_ablation.bases.write_architectures`; a test compares it with
`named_modules()`. Names on disk do not serve: safetensors files keep those of older versions.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final

from peft_ablation.errors import InputError

if TYPE_CHECKING:
    from torch import nn

Entry = Mapping[str, Any]
"""What the file says of one class; see `write_architectures.entry`."""


@dataclass(frozen=True)
class Module:
    """One module of a model that holds weights of its own."""

    name: str
    """As in `named_modules()`."""
    kind: str
    """`Linear`, `Conv1D`, `Conv2d`, `Embedding`, `LayerNorm`, `BatchNorm2d`, …: torch's class where
    its own derives from one, as a quantised linear layer's does."""
    bias: bool = False
    """Whether it has a parameter `bias`."""


@dataclass(frozen=True)
class Architecture:
    """A model class at the sizes of one base."""

    class_name: str
    """As in transformers, such as `ViTForImageClassification`."""
    modules: tuple[Module, ...]
    """All modules that hold weights of their own, in the order of `named_modules()`."""
    targets: Mapping[str, str]
    """Target sets by name, as full-match expressions over module names."""
    others: tuple[str, ...] = ()
    """All modules that hold none (containers, activations, dropout): nothing to adapt."""
    heads: tuple[str, ...] = ()
    """Modules that turn features into the output: classifier, or vocabulary head."""
    tied_head: str | None = None
    """The embedding whose weight the head shares: training one is training both."""
    layers: tuple[str, ...] = ()
    """Blocks in the order they are run, where there is one stack that leads to the output; of an
    encoder and a decoder, the decoder's. None for two towers side by side."""
    task_type: str | None = None
    """PEFT's task type, `CAUSAL_LM` or `SEQ_CLS`, where prompt methods have a meaning."""
    image_size: int | None = None
    """Side of the images it takes, in pixels; None for any, or none."""
    norms: tuple[str, ...] = field(init=False)
    """Its normalisation layers."""

    def __post_init__(self) -> None:
        """Pick the normalisation layers by their kind."""
        norms = tuple(module.name for module in self.modules if "Norm" in module.kind)
        object.__setattr__(self, "norms", norms)

    @property
    def causal(self) -> bool:
        """Whether it is a causal language model to PEFT."""
        return self.task_type == "CAUSAL_LM"


def known_classes() -> list[str]:
    """Return the names of the classes that the file describes."""
    return sorted(_entries())


def made_classes() -> list[str]:
    """Return those of them that transformers has, so that a base can be made of them."""
    return sorted(name for name, entry in _entries().items() if entry["package"] == "transformers")


def model_type(class_name: str) -> str:
    """Return the `model_type` that the config of a described class says."""
    return str(_entries()[class_name]["model_type"])


def known_sets() -> list[str]:
    """Return the names of the target sets that some class has."""
    return sorted({name for entry in _entries().values() for name in entry["targets"]})


def architecture(class_name: str, config: Mapping[str, Any]) -> Architecture | None:
    """Return the architecture of a class at the sizes of a `config.json`.

    A key that `config` lacks has the default of the class, as in transformers. None for a class
    that the file does not describe, or a setting of it that changes its modules otherwise than in
    number (`requires` in the file). Raises `InputError` where a size is no size.
    """
    entry = _entries().get(class_name)
    if entry is None:
        return None
    value = _values(entry, config)
    if any(value(key) != needed for key, needed in entry["requires"].items()):
        return None
    rows = list(_named(entry, value, entry["modules"]))
    modules = tuple(
        Module(name, row["kind"], row.get("bias", False)) for name, row in rows if "kind" in row
    )
    others = tuple(name for name, row in rows if "kind" not in row)
    return _assembled(class_name, modules, others, config)


def architecture_of(
    config: Mapping[str, Any], classes: Mapping[str, str] | None = None
) -> Architecture | None:
    """Return the architecture that a task makes of a base with this `config.json`.

    `classes` maps `model_type` to the class that is made of it (a task's `architectures`). Where it
    is empty the class is the first that the config itself names. None where neither tells, or the
    class is unknown here.
    """
    if classes:
        name = classes.get(config.get("model_type", ""))
    else:
        name = next(iter(config.get("architectures") or ()), None)
    return architecture(name, config) if name else None


def model_architecture(model: "nn.Module") -> Architecture:
    """Return the architecture of a built model of transformers, not wrapped by PEFT.

    Modules are the model's own. Sets, heads and layers are the file's; a class that it does not
    describe has none.
    """
    described = list(describe(model))
    modules = tuple(Module(name, kind, bias) for name, kind, bias in described if kind)
    others = tuple(name for name, kind, _ in described if not kind)
    own = getattr(model, "config", None)
    config = own.to_dict() if own is not None else {}
    return _assembled(type(model).__name__, modules, others, config)


def describe(model: "nn.Module") -> Iterator[tuple[str, str | None, bool]]:
    """Yield name, kind (None without weights of its own) and bias of each module but the root."""
    for name, module in model.named_modules():
        if name:
            own = dict(module.named_parameters(recurse=False))
            yield name, _kind(type(module)) if own else None, "bias" in own


@dataclass(frozen=True)
class ConfigKeys:
    """What the config of a class may hold."""

    defaults: Mapping[str, Any]
    """Each key with its default; of a part of the config (a tower's), a mapping."""
    aliases: Mapping[str, str]
    """Other names of keys, such as `num_hidden_layers` of GPT-2's `n_layer`, both dotted."""
    required: Mapping[str, Any]
    """Settings without which the class has other modules than the file says, by dotted key."""
    vision: str | None
    """Where the dotted keys of its images begin (empty: at the top); None: no images."""
    text: str | None
    """Where the dotted keys of its vocabulary begin; None: no text."""


def config_keys(class_name: str) -> ConfigKeys:
    """Return what the config of a described class may hold."""
    entry = _entries()[class_name]
    return ConfigKeys(
        entry["config"], entry["aliases"], entry["requires"], entry["vision"], entry["text"]
    )


def nested(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings by dotted key as nested mappings."""
    result: dict[str, Any] = {}
    for key, value in settings.items():
        *parents, last = key.split(".")
        inner = result
        for parent in parents:
            inner = inner.setdefault(parent, {})
        inner[last] = value
    return result


@cache
def _entries() -> Mapping[str, Entry]:
    text = files("peft_ablation.bases").joinpath("architectures.json").read_text(encoding="utf-8")
    entries: Mapping[str, Entry] = json.loads(text)
    return entries


def _kind(own: type) -> str:
    for base in own.__mro__:
        if base.__module__.startswith("torch.nn.modules.") and base.__name__ != "Module":
            return base.__name__
    return own.__name__


def _assembled(
    class_name: str,
    modules: tuple[Module, ...],
    others: tuple[str, ...],
    config: Mapping[str, Any],
) -> Architecture:
    entry = _entries().get(class_name)
    if entry is None:
        return Architecture(class_name, modules, {}, others)
    value = _values(entry, config)
    tied = entry["tied"]
    layers = [{"name": entry["layers"]}] if entry["layers"] else []
    size = None if entry["vision"] is None else value(f"{entry['vision']}image_size")
    return Architecture(
        class_name,
        modules,
        entry["targets"],
        others,
        heads=tuple(entry["heads"]),
        tied_head=tied["to"] if tied and value(tied["by"]) else None,
        layers=tuple(name for name, _ in _named(entry, value, layers)),
        task_type=entry["task_type"],
        image_size=size if isinstance(size, int) else None,
    )


Values = Callable[[str], Any]
"""A setting by its dotted key."""


def _values(entry: Entry, config: Mapping[str, Any]) -> Values:
    """Return the lookup of a setting: the config's, by this or its other names, or the default."""
    names: dict[str, list[str]] = {}
    for alias, key in entry["aliases"].items():
        names.setdefault(key, []).append(alias)

    def value(key: str) -> Any:
        for name in (key, *names.get(key, ())):
            found = _at(config, name)
            if found is not None:
                return found
        return _at(entry["config"], key)

    return value


def _at(config: Mapping[str, Any], key: str) -> Any:
    found: Any = config
    for part in key.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found


def _named(entry: Entry, value: Values, rows: Sequence[Entry]) -> Iterator[tuple[str, Entry]]:
    """Yield the name of each module of `rows` with its row, in the order of `named_modules()`."""
    beginnings: dict[str, str] = {
        path.partition("{")[0]: key for path, key in entry["blocks"].items()
    }

    def counted_by(row: Entry) -> str | None:
        name: str = row["name"]
        if "{" not in name:
            return None
        return next(key for begin, key in beginnings.items() if name.startswith(begin))

    for key, group in groupby(rows, counted_by):
        block = list(group)
        for stage, layer in _places(key, value(key)) if key else [(0, 0)]:
            for row in block:
                if layer and "{layer}" not in row["name"] and key:
                    continue
                if "when" not in row or _CONDITIONS[row["when"]](value, stage, layer):
                    name = row["name"].replace("{stage}", str(stage))
                    yield name.replace("{layer}", str(layer)), row


def _places(key: str, count: Any) -> Iterable[tuple[int, int]]:
    """Return stage and layer of each block: of a number of layers, or of layers by stage."""
    stages = count if isinstance(count, list | tuple) else [count]
    if not stages or not all(type(layers) is int and layers > 0 for layers in stages):
        raise InputError(f"config.{key}: found {count!r}, expected whole numbers above 0")
    return [(stage, layer) for stage, layers in enumerate(stages) for layer in range(layers)]


def _has_shortcut(value: Values, stage: int, layer: int) -> bool:
    """Tell whether a ResNet block projects its residual: where width or resolution change."""
    if layer:
        return False
    changes_width = value("embedding_size") != value("hidden_sizes")[0]
    return stage > 0 or changes_width or bool(value("downsample_in_first_stage"))


def _has_projection(value: Values, _stage: int, _layer: int) -> bool:
    """Tell whether an encoder's output is projected to the width of its decoder."""
    return (
        value("encoder.hidden_size") != value("decoder.n_embd")
        and value("decoder.cross_attention_hidden_size") is None
    )


_CONDITIONS: Final[Mapping[str, Callable[[Values, int, int], bool]]] = {
    "bottleneck": lambda value, _stage, _layer: value("layer_type") == "bottleneck",
    "shortcut": _has_shortcut,
    "projection": _has_projection,
    "narrow_embedding": lambda value, _stage, _layer: (
        value("embedding_size") != value("hidden_size")
    ),
}
"""When a module is there, for those that are not always: (settings, stage, layer) to yes or no."""
