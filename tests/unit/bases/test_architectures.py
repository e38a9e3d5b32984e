"""What the file says of a class is what transformers builds."""

import re
import subprocess
import sys
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

import pytest
import torch
from architecture_cases import CASES, RESNET_18, VIT_TINY, built
from peft import PromptTuningConfig, get_peft_model
from torch import nn

from peft_ablation.bases.architectures import (
    Module,
    architecture,
    architecture_of,
    known_classes,
    model_architecture,
)
from peft_ablation.bases.write_architectures import as_text, entries
from peft_ablation.errors import InputError
from peft_ablation.tasks.text_classification import HEADS, TextClassification

TINY = {
    "hidden_size": 16, "intermediate_size": 24, "num_attention_heads": 2, "vocab_size": 40,
    "max_position_embeddings": 24, "num_hidden_layers": 1, "pad_token_id": 0,
}  # fmt: skip


@pytest.mark.parametrize(("class_name", "config"), CASES)
def test_modules_are_those_of_the_built_model_in_its_order(
    class_name: str, config: dict[str, Any]
) -> None:
    model = built(class_name, config)
    with_weights = [
        Module(name, type(module).__name__, "bias" in dict(module.named_parameters(recurse=False)))
        for name, module in model.named_modules()
        if name and list(module.parameters(recurse=False))
    ]
    others = [
        name
        for name, module in model.named_modules()
        if name and not list(module.parameters(recurse=False))
    ]
    told = architecture(class_name, config)
    assert told is not None
    assert list(told.modules) == with_weights
    assert list(told.others) == others


@pytest.mark.parametrize(("class_name", "config"), CASES)
def test_config_as_saved_and_the_model_itself_say_the_same(
    class_name: str, config: dict[str, Any]
) -> None:
    model = built(class_name, config)
    told = architecture(class_name, config)
    assert told == architecture(class_name, model.config.to_dict())
    assert told == model_architecture(model)


def test_every_class_is_covered_above() -> None:
    assert {class_name for class_name, _ in CASES} == set(known_classes())


def test_file_is_what_the_script_writes() -> None:
    text = files("peft_ablation.bases").joinpath("architectures.json").read_text(encoding="utf-8")
    assert text == as_text(entries()), "run python -m peft_ablation.bases.write_architectures"


def by_default(class_name: str) -> Any:
    told = architecture(class_name, {})
    assert told is not None
    return told


@pytest.mark.parametrize(
    ("class_name", "config"),
    [
        ("ViTForImageClassification", {}),
        ("ResNetForImageClassification", RESNET_18),
        ("CLIPForImageClassification", {}),
        ("CLIPZeroShotClassifier", {}),
        ("RobertaForSequenceClassification", {}),
        ("BertForSequenceClassification", {}),
        ("DistilBertForSequenceClassification", {}),
        ("DebertaV2ForSequenceClassification", {}),
        ("ElectraForSequenceClassification", {}),
        ("GPT2ForSequenceClassification", {"num_hidden_layers": 1}),
        ("LlamaForSequenceClassification", {"num_hidden_layers": 1}),
    ],
)
def test_heads_of_classifiers_hold_all_that_follows_the_number_of_classes(
    class_name: str, config: dict[str, Any]
) -> None:
    three, seven = (
        {
            name: p.shape
            for name, p in built(class_name, {**config, "num_labels": n}).named_parameters()
        }
        for n in (3, 7)
    )
    head = by_default(class_name).heads[-1]
    changed = [name for name in three if three[name] != seven[name]]
    assert changed
    assert all(name.startswith(f"{head}.") for name in changed)
    names = {name for name, _ in built(class_name, config).named_modules()}
    assert set(by_default(class_name).heads) <= names


def test_heads_of_texts_are_those_that_the_task_makes_anew() -> None:
    described = {
        kind: by_default(name).heads
        for kind, name in TextClassification.architectures.items()
        if name in known_classes()
    }
    assert len(described) == 7
    assert described == {kind: HEADS[kind] for kind in described}


@pytest.mark.parametrize("class_name", ["GPT2LMHeadModel", "LlamaForCausalLM", "GitForCausalLM"])
@pytest.mark.parametrize("tied", [True, False])
def test_vocabulary_head_and_what_it_is_tied_to(class_name: str, tied: bool) -> None:
    layers = {"num_hidden_layers": 1, "vision_config": {"num_hidden_layers": 1}}
    if class_name != "GitForCausalLM":
        del layers["vision_config"]
    check_head(class_name, {**layers, "tie_word_embeddings": tied}, tied)


@pytest.mark.parametrize("tied", [True, False])
def test_vocabulary_head_of_an_encoder_decoder_is_its_decoders(tied: bool) -> None:
    decoder = {"n_layer": 1, "tie_word_embeddings": tied}
    config = {"encoder": {"num_hidden_layers": 1}, "decoder": decoder}
    check_head("VisionEncoderDecoderModel", config, tied)


def check_head(class_name: str, config: Mapping[str, Any], tied: bool) -> None:
    model: Any = built(class_name, config)
    told = architecture(class_name, config)
    assert told is not None
    (head,) = told.heads
    assert model.get_submodule(head) is model.get_output_embeddings()
    if tied:
        assert told.tied_head is not None
        assert model.get_submodule(told.tied_head).weight is model.get_submodule(head).weight
    else:
        assert told.tied_head is None
        embeddings = [m for m in model.modules() if isinstance(m, nn.Embedding)]
        assert all(m.weight is not model.get_submodule(head).weight for m in embeddings)


def test_tying_is_by_default_as_in_transformers() -> None:
    tied = {name for name in known_classes() if by_default(name).tied_head}
    assert tied == {"GPT2LMHeadModel", "VisionEncoderDecoderModel"}


def test_layers_are_in_order_and_of_the_stack_that_ends_in_the_head() -> None:
    git = architecture("GitForCausalLM", {"num_hidden_layers": 11})
    resnet = architecture(
        "ResNetForImageClassification", {"depths": [1, 2], "hidden_sizes": [8, 8]}
    )
    assert git is not None and resnet is not None
    assert git.layers == tuple(f"git.encoder.layer.{layer}" for layer in range(11))
    assert resnet.layers == (
        "resnet.encoder.stages.0.layers.0",
        "resnet.encoder.stages.1.layers.0",
        "resnet.encoder.stages.1.layers.1",
    )
    assert by_default("VisionEncoderDecoderModel").layers[-1] == "decoder.transformer.h.11"


def test_towers_side_by_side_have_no_layers_before_one_head() -> None:
    clip = by_default("CLIPModel")
    assert (clip.layers, clip.heads, clip.tied_head) == ((), (), None)


def test_norms_are_the_layers_that_normalise() -> None:
    norms = (nn.LayerNorm, nn.BatchNorm2d)
    for class_name in ("ViTForImageClassification", "ResNetForImageClassification"):
        model = built(class_name, {})
        own = [name for name, module in model.named_modules() if isinstance(module, norms)]
        assert list(by_default(class_name).norms) == own
    assert by_default("LlamaForCausalLM").norms[-1] == "model.norm"


@pytest.mark.parametrize(
    ("class_name", "config", "side"),
    [
        ("ViTForImageClassification", {"image_size": 32}, 32),
        ("GitForCausalLM", {"vision_config": {"image_size": 48}}, 48),
        ("VisionEncoderDecoderModel", {"encoder": {"image_size": 64}}, 64),
        ("CLIPModel", {}, 224),
        ("ResNetForImageClassification", {}, None),
        ("GPT2LMHeadModel", {}, None),
    ],
)
def test_side_of_images_is_the_bases(
    class_name: str, config: dict[str, Any], side: int | None
) -> None:
    told = architecture(class_name, config)
    assert told is not None
    assert told.image_size == side


def test_part_of_a_config_that_is_null_has_the_defaults() -> None:
    told = architecture("GitForCausalLM", {"vision_config": None, "num_hidden_layers": None})
    assert told == architecture("GitForCausalLM", {})


@pytest.mark.parametrize("layers", ["12", 0, -1, True, 2.0])
def test_number_of_layers_that_is_none_is_refused(layers: object) -> None:
    with pytest.raises(
        InputError, match=r"config\.num_hidden_layers: found .*, expected whole num"
    ):
        architecture("ViTForImageClassification", {"num_hidden_layers": layers})


def test_class_or_setting_that_the_file_does_not_describe_is_none() -> None:
    assert architecture("SwinForImageClassification", {}) is None
    assert architecture("LlamaForCausalLM", {"attention_bias": True}) is None
    swin = {"encoder": {"model_type": "swin"}, "decoder": {"model_type": "gpt2"}}
    assert architecture("VisionEncoderDecoderModel", swin) is None


def test_tasks_mapping_chooses_the_class_and_else_the_config_names_it() -> None:
    config = {"model_type": "clip", "architectures": ["CLIPModel"]}
    chosen = architecture_of(config, {"clip": "CLIPForImageClassification"})
    assert chosen is not None and chosen.class_name == "CLIPForImageClassification"
    named = architecture_of(config, {})
    assert named is not None and named.class_name == "CLIPModel"
    assert architecture_of(config, {"vit": "ViTForImageClassification"}) is None
    assert architecture_of({"model_type": "clip"}) is None


def test_class_that_is_not_described_has_its_modules_and_no_sets() -> None:
    class Quantised(nn.Linear):
        pass

    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(Quantised(2, 3), nn.ReLU())
            self.head = nn.Linear(3, 2, bias=False)

    told = model_architecture(Own())
    assert told.class_name == "Own"
    assert told.modules == (Module("body.0", "Linear", True), Module("head", "Linear"))
    assert told.others == ("body", "body.1")
    assert (dict(told.targets), told.heads, told.layers, told.task_type) == ({}, (), (), None)


@pytest.mark.parametrize("class_name", known_classes())
def test_prompts_can_be_learnt_where_a_task_type_is_given(class_name: str) -> None:
    task_type = by_default(class_name).task_type
    towers = ("Git", "CLIP", "ViT", "ResNet", "VisionEncoderDecoder")
    # PEFT looks for a width that is called otherwise, or is not the embedding's.
    unfit = ("DistilBert", "Electra")
    assert (task_type is None) == class_name.startswith((*towers, *unfit))
    assert by_default(class_name).causal == (class_name in ("GPT2LMHeadModel", "LlamaForCausalLM"))
    if task_type:
        model: Any = get_peft_model(
            built(class_name, TINY, "cpu"),
            PromptTuningConfig(task_type=task_type, num_virtual_tokens=3),
        )
        ids = torch.tensor([[5, 6, 7, 8]])
        logits = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
        assert logits.shape == ((1, 2) if task_type == "SEQ_CLS" else (1, 3 + 4, 40))


def test_dag_time_imports_no_torch() -> None:
    code = (
        "import sys\n"
        "from peft_ablation.bases.architectures import architecture\n"
        "import peft_ablation.bases.random, peft_ablation.methods.targets\n"
        "assert architecture('LlamaForCausalLM', {'num_hidden_layers': 16}).layers[15]\n"
        "assert not {'torch', 'transformers', 'peft'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


SETS = {
    "GitForCausalLM": (
        {"num_hidden_layers": 2, "vision_config": {"num_hidden_layers": 3}},
        {"all": 30, "attention": 20, "mlp": 10, "query_value": 10, "vision": 18,
         "vision_attention": 12, "vision_mlp": 6, "text": 12, "text_attention": 8, "text_mlp": 4,
         "vision_and_text": 30, "projection": 1},
    ),
    "ViTForImageClassification": (
        {**VIT_TINY, "num_hidden_layers": 2},
        {"all": 12, "attention": 8, "mlp": 4, "query_value": 4},
    ),
    # 16 of 3 × 3, three of shortcuts, and the first.
    "ResNetForImageClassification": (RESNET_18, {"all": 20, "convolutions": 20}),
    "CLIPModel": (
        {"text_config": {"num_hidden_layers": 2}, "vision_config": {"num_hidden_layers": 3}},
        {"all": 30, "attention": 20, "mlp": 10, "query_value": 10, "vision": 18,
         "vision_attention": 12, "vision_mlp": 6, "text": 12, "text_attention": 8, "text_mlp": 4,
         "vision_and_text": 30},
    ),
    "CLIPForImageClassification": (
        {"vision_config": {"num_hidden_layers": 3}},
        {"all": 18, "attention": 12, "mlp": 6, "query_value": 6},
    ),
    "CLIPZeroShotClassifier": (
        {"vision_config": {"num_hidden_layers": 3}},
        {"all": 18, "attention": 12, "mlp": 6, "query_value": 6, "vision": 18,
         "vision_attention": 12, "vision_mlp": 6},
    ),
    "RobertaForSequenceClassification": (
        {"num_hidden_layers": 2}, {"all": 12, "attention": 8, "mlp": 4, "query_value": 4},
    ),
    "BertForSequenceClassification": (
        {"num_hidden_layers": 2}, {"all": 12, "attention": 8, "mlp": 4, "query_value": 4},
    ),
    "DistilBertForSequenceClassification": (
        {"n_layers": 2}, {"all": 12, "attention": 8, "mlp": 4, "query_value": 4},
    ),
    "DebertaV2ForSequenceClassification": (
        {"num_hidden_layers": 2}, {"all": 12, "attention": 8, "mlp": 4, "query_value": 4},
    ),
    "ElectraForSequenceClassification": (
        {"num_hidden_layers": 2}, {"all": 12, "attention": 8, "mlp": 4, "query_value": 4},
    ),
    "GPT2ForSequenceClassification": (
        {"n_layer": 2}, {"all": 8, "attention": 4, "mlp": 4, "query_key_value": 2},
    ),
    "LlamaForSequenceClassification": (
        {"num_hidden_layers": 2}, {"all": 14, "attention": 8, "mlp": 6, "query_value": 4},
    ),
    "GPT2LMHeadModel": (
        {"n_layer": 2}, {"all": 8, "attention": 4, "mlp": 4, "query_key_value": 2},
    ),
    "LlamaForCausalLM": (
        {"num_hidden_layers": 2}, {"all": 14, "attention": 8, "mlp": 6, "query_value": 4},
    ),
    # A block of the decoder: two of self attention, three of cross attention, two of the MLP.
    "VisionEncoderDecoderModel": (
        {"encoder": {"num_hidden_layers": 3}, "decoder": {"n_layer": 2}},
        {"all": 32, "attention": 22, "mlp": 10, "vision": 18, "vision_attention": 12,
         "vision_mlp": 6, "text": 14, "text_attention": 10, "text_mlp": 4, "vision_and_text": 32,
         "text_without_cross_attention": 8},
    ),
}  # fmt: skip


@pytest.mark.parametrize("class_name", known_classes())
def test_each_set_names_as_many_modules_as_worked_out_by_hand(class_name: str) -> None:
    config, counts = SETS[class_name]
    model = built(class_name, config)
    found = {
        name: [n for n, _ in model.named_modules() if re.fullmatch(expression, n)]
        for name, expression in by_default(class_name).targets.items()
    }
    assert {name: len(names) for name, names in found.items()} == counts
    of_attention = {
        name: {"attn" in module or "attention" in module for module in names}
        for name, names in found.items()
    }
    assert of_attention.get("mlp", {False}) == {False}
    assert of_attention.get("attention", {True}) == {True}
