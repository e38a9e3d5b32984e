"""Write `architectures.json`: the modules of each class, as the installed transformers builds it.

    python -m peft_ablation.bases.write_architectures

What the classes are called, which of their parts are targets, heads and stacks of layers, is said
here; names, types and defaults are read off models built on the meta device. Another class is
another `Described`; one that counts its layers in a new way is a condition in `architectures`.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from peft_ablation.artifacts import write_text
from peft_ablation.bases.architectures import describe, nested

Sets = Mapping[str, str]
Settings = Mapping[str, Any]
"""Settings of a config by dotted key."""


@dataclass(frozen=True)
class Described:
    """What is known of a class beyond its modules."""

    class_name: str
    blocks: Mapping[str, str]
    """Path of a repeated block → dotted key of the config that counts it."""
    targets: Sets
    heads: tuple[str, ...] = ()
    layers: str = ""
    """Path of the blocks that are `Architecture.layers`; empty: none."""
    tied_to: str = ""
    """Embedding that the head shares its weight with, if it is tied at all."""
    tied_by: str = "tie_word_embeddings"
    """Key that says whether it is."""
    task_type: str | None = None
    vision: str | None = None
    """Where the keys of its images begin in the config (empty: at the top); None: no images."""
    text: str | None = None
    """Where the keys of its vocabulary begin; None: no text."""
    requires: Settings = field(default_factory=dict)
    """Settings that change which modules or biases there are, with the value described."""
    when: Mapping[str, str] = field(default_factory=dict)
    """Expression searched in names → condition (see `architectures`) of these modules."""
    package: str = "transformers"
    """Module that has the class."""
    build: Settings = field(default_factory=dict)
    """Settings of the model that is looked at, where the defaults lack a module."""


def _tower(path: str, attention: str, mlp: str, **more: str) -> dict[str, str]:
    """Return the sets of a stack of transformer blocks at the expression `path`."""
    sets = {"all": f"({attention}|{mlp})", "attention": attention, "mlp": mlp, **more}
    return {name: f"{path}{expression}" for name, expression in sets.items()}


def _towers(vision: Sets, text: Sets) -> dict[str, str]:
    """Return the sets of two towers: each one's, and of both what both have."""
    both = {name: f"({vision[name]})|({text[name]})" for name in vision if name in text}
    return {
        **both,
        "vision": vision["all"],
        "vision_attention": vision["attention"],
        "vision_mlp": vision["mlp"],
        "text": text["all"],
        "text_attention": text["attention"],
        "text_mlp": text["mlp"],
        "vision_and_text": both["all"],
    }


def _vit(path: str) -> dict[str, str]:
    return _tower(
        path, r"attention\.(q|k|v|o)_proj", r"mlp\.fc[12]", query_value=r"attention\.[qv]_proj"
    )


def _clip(path: str) -> dict[str, str]:
    return _tower(
        path, r"self_attn\.(q|k|v|out)_proj", r"mlp\.fc[12]", query_value=r"self_attn\.[qv]_proj"
    )


def _bert(path: str) -> dict[str, str]:
    return _tower(
        path,
        r"attention\.(self\.(query|key|value)|output\.dense)",
        r"(intermediate|output)\.dense",
        query_value=r"attention\.self\.(query|value)",
    )


_VIT: Final = _vit(r"vit\.layers\.\d+\.")
_CLIP_VISION: Final = _clip(r"vision_model\.encoder\.layers\.\d+\.")
_CLIP_TEXT: Final = _clip(r"text_model\.encoder\.layers\.\d+\.")
_CONVOLUTIONS: Final = r"resnet\.(embedder|encoder)\..*convolution"
_GPT2: Final = _tower(
    r"transformer\.h\.\d+\.",
    r"attn\.c_(attn|proj)",
    r"mlp\.c_(fc|proj)",
    query_key_value=r"attn\.c_attn",
)
_LLAMA: Final = _tower(
    r"model\.layers\.\d+\.",
    r"self_attn\.(q|k|v|o)_proj",
    r"mlp\.(gate|up|down)_proj",
    query_value=r"self_attn\.[qv]_proj",
)
_DEBERTA_V3: Final = {
    "relative_attention": True,
    "position_biased_input": False,
    "share_att_key": True,
    "norm_rel_ebd": "layer_norm",
    "type_vocab_size": 0,
    "conv_kernel_size": 0,
}
"""What of DeBERTa-v3 decides which modules there are; its config.json says each of them."""
_NO_DECODER: Final = {"is_decoder": False, "add_cross_attention": False}

CLASSES: Final = (
    Described(
        "GitForCausalLM",
        blocks={
            "git.image_encoder.vision_model.encoder.layers.{layer}": (
                "vision_config.num_hidden_layers"
            ),
            "git.encoder.layer.{layer}": "num_hidden_layers",
        },
        targets={
            **_towers(
                _clip(r"git\.image_encoder\.vision_model\.encoder\.layers\.\d+\."),
                _bert(r"git\.encoder\.layer\.\d+\."),
            ),
            "projection": r"git\.visual_projection\.visual_projection\.0",
        },
        heads=("output",),
        layers="git.encoder.layer.{layer}",
        tied_to="git.embeddings.word_embeddings",
        vision="vision_config.",
        text="",
        requires={"num_image_with_embedding": None},
    ),
    Described(
        "ViTForImageClassification",
        blocks={"vit.layers.{layer}": "num_hidden_layers"},
        targets=_VIT,
        heads=("classifier",),
        layers="vit.layers.{layer}",
        vision="",
        requires={"qkv_bias": True},
    ),
    Described(
        "ResNetForImageClassification",
        blocks={"resnet.encoder.stages.{stage}.layers.{layer}": "depths"},
        targets={"all": _CONVOLUTIONS, "convolutions": _CONVOLUTIONS},
        heads=("classifier",),
        layers="resnet.encoder.stages.{stage}.layers.{layer}",
        vision="",
        when={
            r"\.shortcut\.": "shortcut",
            r"\.layer\.2(\.|$)": "bottleneck",
        },
    ),
    Described(
        "CLIPModel",
        blocks={
            "text_model.encoder.layers.{layer}": "text_config.num_hidden_layers",
            "vision_model.encoder.layers.{layer}": "vision_config.num_hidden_layers",
        },
        targets=_towers(_CLIP_VISION, _CLIP_TEXT),
        vision="vision_config.",
        text="text_config.",
    ),
    Described(
        "CLIPForImageClassification",
        blocks={"vision_model.encoder.layers.{layer}": "vision_config.num_hidden_layers"},
        targets=_CLIP_VISION,
        heads=("classifier",),
        layers="vision_model.encoder.layers.{layer}",
        vision="vision_config.",
    ),
    Described(
        "CLIPZeroShotClassifier",
        package="peft_ablation.bases.clip",
        blocks={"vision_model.encoder.layers.{layer}": "vision_config.num_hidden_layers"},
        targets={
            **_CLIP_VISION,
            "vision": _CLIP_VISION["all"],
            "vision_attention": _CLIP_VISION["attention"],
            "vision_mlp": _CLIP_VISION["mlp"],
        },
        heads=("classifier",),
        layers="vision_model.encoder.layers.{layer}",
        vision="vision_config.",
    ),
    Described(
        "RobertaForSequenceClassification",
        blocks={"roberta.encoder.layer.{layer}": "num_hidden_layers"},
        targets=_bert(r"roberta\.encoder\.layer\.\d+\."),
        heads=("classifier",),
        layers="roberta.encoder.layer.{layer}",
        text="",
        task_type="SEQ_CLS",
        requires=_NO_DECODER,
    ),
    Described(
        "BertForSequenceClassification",
        blocks={"bert.encoder.layer.{layer}": "num_hidden_layers"},
        targets=_bert(r"bert\.encoder\.layer\.\d+\."),
        heads=("classifier",),
        layers="bert.encoder.layer.{layer}",
        text="",
        task_type="SEQ_CLS",
        requires=_NO_DECODER,
    ),
    Described(
        "DistilBertForSequenceClassification",
        blocks={"distilbert.transformer.layer.{layer}": "n_layers"},
        targets=_tower(
            r"distilbert\.transformer\.layer\.\d+\.",
            r"attention\.(q|k|v|out)_lin",
            r"ffn\.lin[12]",
            query_value=r"attention\.[qv]_lin",
        ),
        heads=("pre_classifier", "classifier"),
        layers="distilbert.transformer.layer.{layer}",
        text="",
        # No task type: PEFT does not find the width that prompts need.
    ),
    Described(
        "DebertaV2ForSequenceClassification",
        blocks={"deberta.encoder.layer.{layer}": "num_hidden_layers"},
        targets=_tower(
            r"deberta\.encoder\.layer\.\d+\.",
            r"attention\.(self\.(query|key|value)_proj|output\.dense)",
            r"(intermediate|output)\.dense",
            query_value=r"attention\.self\.(query|value)_proj",
        ),
        heads=("pooler", "classifier"),
        layers="deberta.encoder.layer.{layer}",
        text="",
        task_type="SEQ_CLS",
        requires=_DEBERTA_V3,
    ),
    Described(
        "ElectraForSequenceClassification",
        blocks={"electra.encoder.layer.{layer}": "num_hidden_layers"},
        targets=_bert(r"electra\.encoder\.layer\.\d+\."),
        heads=("classifier",),
        layers="electra.encoder.layer.{layer}",
        text="",
        # No task type: PEFT does not find the width that prompts need.
        requires=_NO_DECODER,
        when={r"embeddings_project": "narrow_embedding"},
    ),
    Described(
        "GPT2ForSequenceClassification",
        blocks={"transformer.h.{layer}": "n_layer"},
        targets=_GPT2,
        heads=("score",),
        layers="transformer.h.{layer}",
        text="",
        task_type="SEQ_CLS",
        requires={"add_cross_attention": False},
    ),
    Described(
        "LlamaForSequenceClassification",
        blocks={"model.layers.{layer}": "num_hidden_layers"},
        targets=_LLAMA,
        heads=("score",),
        layers="model.layers.{layer}",
        text="",
        task_type="SEQ_CLS",
        requires={"attention_bias": False, "mlp_bias": False},
    ),
    Described(
        "GPT2LMHeadModel",
        blocks={"transformer.h.{layer}": "n_layer"},
        targets=_GPT2,
        heads=("lm_head",),
        layers="transformer.h.{layer}",
        tied_to="transformer.wte",
        text="",
        task_type="CAUSAL_LM",
        requires={"add_cross_attention": False},
    ),
    Described(
        "LlamaForCausalLM",
        blocks={"model.layers.{layer}": "num_hidden_layers"},
        targets=_LLAMA,
        heads=("lm_head",),
        layers="model.layers.{layer}",
        tied_to="model.embed_tokens",
        text="",
        task_type="CAUSAL_LM",
        requires={"attention_bias": False, "mlp_bias": False},
    ),
    Described(
        "VisionEncoderDecoderModel",
        blocks={
            "encoder.layers.{layer}": "encoder.num_hidden_layers",
            "decoder.transformer.h.{layer}": "decoder.n_layer",
        },
        targets={
            **_towers(
                _vit(r"encoder\.layers\.\d+\."),
                _tower(
                    r"decoder\.transformer\.h\.\d+\.",
                    r"(attn|crossattention)\.(c_attn|q_attn|c_proj)",
                    r"mlp\.c_(fc|proj)",
                ),
            ),
            "text_without_cross_attention": r"decoder\.transformer\.h\.\d+\.(attn|mlp)\.c_\w+",
        },
        heads=("decoder.lm_head",),
        layers="decoder.transformer.h.{layer}",
        tied_to="decoder.transformer.wte",
        tied_by="decoder.tie_word_embeddings",
        vision="encoder.",
        text="decoder.",
        requires={
            "encoder.model_type": "vit",
            "encoder.qkv_bias": True,
            "decoder.model_type": "gpt2",
            "decoder.is_decoder": True,
            "decoder.add_cross_attention": True,
        },
        when={r"^enc_to_dec_proj$": "projection"},
        build={"encoder.hidden_size": 384},
    ),
)


def entries() -> dict[str, Any]:
    """Return what the file says of each class, by name."""
    return {described.class_name: _entry(described) for described in CLASSES}


def _entry(described: Described) -> dict[str, Any]:
    import torch

    model_class = getattr(import_module(described.package), described.class_name)
    config_class = model_class.config_class
    with torch.device("meta"):
        model = model_class(config_class(**nested({**described.requires, **described.build})))
    config, aliases = _keys(config_class, described.requires)
    tied = {"by": described.tied_by, "to": described.tied_to} if described.tied_to else None
    return {
        "package": described.package,
        "model_type": config_class.model_type,
        "blocks": dict(described.blocks),
        "config": config,
        "aliases": aliases,
        "requires": dict(described.requires),
        "targets": dict(described.targets),
        "heads": list(described.heads),
        "layers": described.layers or None,
        "tied": tied,
        "task_type": described.task_type,
        "vision": described.vision,
        "text": described.text,
        "modules": list(_rows(model, described)),
    }


def _keys(config_class: Any, requires: Settings) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the keys of a config class with their defaults, and other names → key."""
    from transformers import CONFIG_MAPPING, PreTrainedConfig

    common = {field.name for field in fields(PreTrainedConfig)}
    keys = {
        field.name: field.default
        for field in fields(config_class)
        if field.name not in common and not field.name.startswith("_")
    }
    keys |= {key: value for key, value in requires.items() if "." not in key}
    aliases = dict(config_class.attribute_map)
    for part in sorted(config_class.sub_configs):
        inner = {
            key.removeprefix(f"{part}."): value
            for key, value in requires.items()
            if key.startswith(f"{part}.")
        }
        named = inner.get("model_type")
        part_class = CONFIG_MAPPING[named] if named else config_class.sub_configs[part]
        keys[part], others = _keys(part_class, inner)
        aliases |= {f"{part}.{alias}": f"{part}.{key}" for alias, key in others.items()}
    return keys, aliases


def _rows(model: Any, described: Described) -> Iterator[dict[str, Any]]:
    """Yield a row for each module, with `{stage}` and `{layer}` in place of what is counted.

    Only the first block of the last stage is taken: it has all that a block can have.
    """
    for name, kind, bias in describe(model):
        path = _path(name, model, described)
        if path is not None:
            row: dict[str, Any] = {"name": path}
            if kind:
                row["kind"] = kind
            if bias:
                row["bias"] = True
            for expression, condition in described.when.items():
                if re.search(expression, path):
                    row["when"] = condition
            yield row


def _path(name: str, model: Any, described: Described) -> str | None:
    """Return a module's name with places for numbers; None in a block that is not taken."""
    for block, key in described.blocks.items():
        stages, _, _ = block.partition("{stage}")
        for path in (block, f"{stages}{{stage}}") if stages != block else (block,):
            expression = re.escape(path)
            for place in ("stage", "layer"):
                expression = expression.replace(rf"\{{{place}\}}", rf"(?P<{place}>\d+)")
            found = re.fullmatch(rf"{expression}(?P<rest>(\..*)?)", name)
            if found:
                numbers = found.groupdict()
                last = len(getattr(model.config, key)) - 1 if "stage" in numbers else 0
                taken = numbers.get("layer", "0") == "0" and numbers.get("stage", "0") == str(last)
                return path + found["rest"] if taken else None
    return name


def as_text(described: Mapping[str, Any]) -> str:
    """Return the file's JSON, a module on each line."""
    rows: list[str] = []

    def kept(value: Any) -> Any:
        if isinstance(value, dict) and "name" in value:
            rows.append(json.dumps(value))
            return f"<row {len(rows) - 1}>"
        if isinstance(value, dict):
            return {key: kept(inner) for key, inner in value.items()}
        return [kept(inner) for inner in value] if isinstance(value, list) else value

    text = json.dumps(kept(described), indent=1, sort_keys=True)
    return re.sub(r'"<row (\d+)>"', lambda found: rows[int(found[1])], text) + "\n"


if __name__ == "__main__":
    write_text(Path(__file__).with_name("architectures.json"), as_text(entries()))
