"""Classes at sizes of their own, built on the meta device, where no weight is made."""

from collections.abc import Mapping
from typing import Any

import torch
import transformers
from torch import nn

from peft_ablation.bases import clip

RESNET_18 = {"layer_type": "basic", "hidden_sizes": [64, 128, 256, 512], "depths": [2, 2, 2, 2]}
VIT_TINY = {"hidden_size": 192, "num_attention_heads": 3, "intermediate_size": 768}

CASES: list[tuple[str, dict[str, Any]]] = [
    ("GitForCausalLM", {}),
    ("GitForCausalLM", {"num_hidden_layers": 2, "vision_config": {"num_hidden_layers": 3}}),
    ("ViTForImageClassification", {}),
    ("ViTForImageClassification", {**VIT_TINY, "num_hidden_layers": 2}),
    ("ResNetForImageClassification", {}),
    ("ResNetForImageClassification", RESNET_18),
    (
        "ResNetForImageClassification",
        {"layer_type": "basic", "hidden_sizes": [64, 64], "depths": [1, 3]},
    ),
    (
        "ResNetForImageClassification",
        {"hidden_sizes": [64], "depths": [2], "downsample_in_first_stage": True},
    ),
    ("CLIPModel", {}),
    (
        "CLIPModel",
        {"text_config": {"num_hidden_layers": 2}, "vision_config": {"num_hidden_layers": 3}},
    ),
    ("CLIPForImageClassification", {"vision_config": {"num_hidden_layers": 3}}),
    ("CLIPZeroShotClassifier", {"vision_config": {"num_hidden_layers": 3}}),
    ("RobertaForSequenceClassification", {}),
    ("RobertaForSequenceClassification", {"num_hidden_layers": 2}),
    ("BertForSequenceClassification", {"num_hidden_layers": 2}),
    ("DistilBertForSequenceClassification", {}),
    ("DistilBertForSequenceClassification", {"n_layers": 2}),
    ("DebertaV2ForSequenceClassification", {}),
    ("DebertaV2ForSequenceClassification", {"num_hidden_layers": 2}),
    ("ElectraForSequenceClassification", {}),
    ("ElectraForSequenceClassification", {"num_hidden_layers": 2, "embedding_size": 256}),
    ("GPT2ForSequenceClassification", {"num_hidden_layers": 2}),
    ("LlamaForSequenceClassification", {"num_hidden_layers": 2}),
    ("GPT2LMHeadModel", {}),
    ("GPT2LMHeadModel", {"num_hidden_layers": 2}),
    ("LlamaForCausalLM", {}),
    ("LlamaForCausalLM", {"num_hidden_layers": 2}),
    ("VisionEncoderDecoderModel", {}),
    (
        "VisionEncoderDecoderModel",
        {"encoder": {**VIT_TINY, "num_hidden_layers": 3}, "decoder": {"n_layer": 2}},
    ),
]

GIVEN: dict[str, dict[str, Any]] = {
    "DebertaV2ForSequenceClassification": {
        "relative_attention": True,
        "position_biased_input": False,
        "share_att_key": True,
        "norm_rel_ebd": "layer_norm",
        "type_vocab_size": 0,
        "conv_kernel_size": 0,
    },
    "VisionEncoderDecoderModel": {
        "encoder": {"model_type": "vit"},
        "decoder": {"model_type": "gpt2", "is_decoder": True, "add_cross_attention": True},
    },
}
"""What a config must say for the class to be the one meant."""


def built(class_name: str, config: Mapping[str, Any], device: str = "meta") -> nn.Module:
    model_class = getattr(transformers, class_name, None) or getattr(clip, class_name)
    given = {
        part: {**settings, **config.get(part, {})} if isinstance(settings, dict) else settings
        for part, settings in GIVEN.get(class_name, {}).items()
    }
    with torch.device(device):
        model: nn.Module = model_class(model_class.config_class(**{**config, **given}))
    return model
