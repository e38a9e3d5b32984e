"""Parameters to the unit, of published configurations, by the target sets of the file."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import pytest
from architecture_cases import RESNET_18, VIT_TINY, built
from peft import LoraConfig, get_peft_model

from peft_ablation.bases.architectures import architecture
from peft_ablation.config.arms import expanded_sweeps
from peft_ablation.config.loading import STUDIES, read_study
from peft_ablation.methods import method_class, open_method
from peft_ablation.methods.parameters import count_parameters
from peft_ablation.methods.targets import resolve_target

ROBERTA = {"max_position_embeddings": 514, "type_vocab_size": 1}
GPT2 = {
    "small": {},
    "medium": {"n_embd": 1024, "n_layer": 24, "n_head": 16},
    "large": {"n_embd": 1280, "n_layer": 36, "n_head": 20},
}
LLAMA_1B = {
    "vocab_size": 128_256, "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16,
    "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 64,
    "tie_word_embeddings": True,
}  # fmt: skip


class Count(NamedTuple):
    trainable: int
    total: int


def count(class_name: str, config: Mapping[str, Any]) -> int:
    return sum(p.numel() for p in built(class_name, config).parameters())


def lora(
    class_name: str,
    config: Mapping[str, Any],
    targets: str,
    r: int,
    saved: list[str] | None = None,
) -> Count:
    """Count what LoRA trains on the meta device; targets resolved without the model."""
    told = architecture(class_name, config)
    assert told is not None
    expression = resolve_target(targets, told, method="lora")
    model = get_peft_model(
        built(class_name, config),
        LoraConfig(r=r, target_modules=expression, modules_to_save=saved),
    )
    return Count(
        sum(p.numel() for p in model.parameters() if p.requires_grad),
        sum(p.numel() for p in model.parameters()),
    )


@pytest.mark.parametrize(
    ("class_name", "config", "parameters"),
    [
        ("GitForCausalLM", {}, 176_619_066),
        ("ViTForImageClassification", {**VIT_TINY, "num_labels": 10}, 5_526_346),
        ("ViTForImageClassification", {**VIT_TINY, "num_labels": 1000}, 5_717_416),
        ("ResNetForImageClassification", {**RESNET_18, "num_labels": 1000}, 11_689_512),
        ("ResNetForImageClassification", {**RESNET_18, "num_labels": 10}, 11_181_642),
        ("CLIPModel", {}, 151_277_313),
        ("VisionEncoderDecoderModel", {}, 239_195_904),
        ("RobertaForSequenceClassification", ROBERTA, 124_647_170),
        ("GPT2LMHeadModel", GPT2["small"], 124_439_808),
        ("GPT2LMHeadModel", GPT2["medium"], 354_823_168),
        ("GPT2LMHeadModel", GPT2["large"], 774_030_080),
        ("LlamaForCausalLM", LLAMA_1B, 1_235_814_400),
    ],
)
def test_whole_models(class_name: str, config: dict[str, Any], parameters: int) -> None:
    assert count(class_name, config) == parameters


@pytest.mark.parametrize(
    ("targets", "trainable", "total", "percent"),
    [
        ("vision", 1_327_104, 177_946_170, 0.7458),
        ("text", 663_552, 177_282_618, 0.3743),
        ("vision_and_text", 1_990_656, 178_609_722, 1.1145),
    ],
)
def test_git_rank_8(targets: str, trainable: int, total: int, percent: float) -> None:
    counted = lora("GitForCausalLM", {}, targets, 8)
    assert counted == (trainable, total)
    assert round(100 * counted.trainable / counted.total, 4) == percent


A = 8 * (768 + 768)
"""Parameters of rank 8 beside a square matrix of git-base, whose towers are both 768 wide."""
M = 8 * (768 + 3072)
"""Beside one of the two matrices of an MLP."""


@pytest.mark.parametrize(
    ("targets", "trainable"),
    [
        # 12 vision layers and 6 text layers, each of four square matrices and two of an MLP.
        ("attention", (12 + 6) * 4 * A),
        ("vision_attention", 12 * 4 * A),
        ("text_attention", 6 * 4 * A),
        ("mlp", (12 + 6) * 2 * M),
        ("vision_mlp", 12 * 2 * M),
        ("text_mlp", 6 * 2 * M),
        ("query_value", (12 + 6) * 2 * A),
        ("projection", A),
        ("all", (12 + 6) * (4 * A + 2 * M)),
    ],
)
def test_git_rank_8_of_each_target_set(targets: str, trainable: int) -> None:
    assert lora("GitForCausalLM", {}, targets, 8).trainable == trainable


@pytest.mark.parametrize(
    ("study", "arm", "trainable"),
    [
        ("mimic_cxr_target_modules", "lora_attention", 884_736),
        ("mimic_cxr_target_modules", "lora_mlp", 1_105_920),
        ("mimic_cxr_target_modules", "lora_vision", 1_327_104),
        ("mimic_cxr_target_modules", "lora_text", 663_552),
        ("mimic_cxr_target_modules", "lora_both", 1_990_656),
        ("mimic_cxr_target_modules", "lora_projection", 12_288),
        # A row and a column of each of the 36 matrices of the text tower, of the given rank.
        ("mimic_cxr_ranks", "lora_r1", 663_552 // 8),
        ("mimic_cxr_ranks", "lora_r64", 663_552 * 8),
    ],
)
def test_arms_of_the_mimic_studies_train_so_many_of_git_base(
    study: str, arm: str, trainable: int
) -> None:
    raw, _ = read_study(study, [STUDIES])
    settings = expanded_sweeps(raw["arms"])[arm]
    counted = lora("GitForCausalLM", {}, settings["targets"], settings["r"])
    assert counted.trainable == trainable


def test_vit_tiny_rank_4_with_norms_and_head_is_the_published_number() -> None:
    config = {**VIT_TINY, "num_labels": 10}
    told = architecture("ViTForImageClassification", config)
    assert told is not None
    saved = [*told.norms, *told.heads]
    assert lora("ViTForImageClassification", config, "all", 4).trainable == 165_888
    assert lora("ViTForImageClassification", config, "all", 4, saved).trainable == 177_418


@pytest.mark.parametrize(
    ("study", "arm", "class_name", "config", "trainable"),
    [
        ("imagewoof_vit", "fft", "ViTForImageClassification", VIT_TINY, 5_526_346),
        ("imagewoof_vit", "lora_norms", "ViTForImageClassification", VIT_TINY, 177_418),
        ("imagewoof_vit", "lora_all", "ViTForImageClassification", VIT_TINY, 165_888 + 1_930),
        # 12 layers of four 192 x 192 matrices.
        ("imagewoof_vit", "lora_attention", "ViTForImageClassification", VIT_TINY,
         12 * 4 * 8 * 2 * 192 + 1_930),
        ("imagewoof_vit", "head_only", "ViTForImageClassification", VIT_TINY, 192 * 10 + 10),
        ("cifar10_resnet", "fft", "ResNetForImageClassification", RESNET_18, 11_181_642),
        ("cifar10_resnet", "lora", "ResNetForImageClassification", RESNET_18, 508_052),
        ("cifar10_resnet", "head_only", "ResNetForImageClassification", RESNET_18, 512 * 10 + 10),
        ("cifar10_zero_shot", "clip_linear_probe", "CLIPZeroShotClassifier", {}, 512 * 10),
        # 12 layers of four 768 x 768 matrices, and the head.
        ("cifar10_zero_shot", "clip_lora", "CLIPZeroShotClassifier", {},
         12 * 4 * 8 * 2 * 768 + 512 * 10),
    ],
)  # fmt: skip
def test_arms_of_the_shipped_studies_train_so_many(
    study: str, arm: str, class_name: str, config: dict[str, Any], trainable: int
) -> None:
    """Through the method itself, with ten classes."""
    told = architecture(class_name, config)
    assert told is not None
    model = built(class_name, {**config, "num_labels": 10})
    assert trained(study, arm, model, told.heads) == trainable


def trained(study: str, arm: str, model: Any, heads: Sequence[str]) -> int:
    raw, _ = read_study(study, [STUDIES])
    settings = method_class(raw["arms"][arm]["method"]).Settings(**raw["arms"][arm])
    applied = open_method(settings.model_dump(mode="json")).apply(
        model, seed=0, heads=heads, steps=10, batches=lambda: iter(())
    )
    return count_parameters(applied).trainable


@pytest.mark.parametrize(
    ("arm", "trainable"),
    [
        ("untouched", 0), ("fft", 239_195_904), ("lora", 6_193_152), ("lora_self", 4_718_592),
        # What the report says fits this one alone: 8 MB, 1.6 % of a GPT-2 of 124 million.
        ("lora_c_attn", 2_064_384),
    ],
)  # fmt: skip
def test_arms_of_the_captioner_train_so_many(arm: str, trainable: int) -> None:
    model = built("VisionEncoderDecoderModel", {})
    assert trained("flickr_captioner", arm, model, ()) == trainable


def test_lora_of_the_instruction_study_trains_as_many_as_published() -> None:
    assert trained("instruct_llama_qlora", "lora", built("LlamaForCausalLM", LLAMA_1B), ()) == (
        45_088_768
    )


def test_the_image_side_of_a_clip_is_its_whole_less_the_text_side() -> None:
    whole = built("CLIPModel", {})
    texts = [*whole.text_model.parameters(), *whole.text_projection.parameters()]
    left_out = sum(p.numel() for p in texts) + 1  # the logit scale is in the head
    assert count("CLIPZeroShotClassifier", {"num_labels": 10}) == 151_277_313 - left_out + 5_120


def test_resnet_18_rank_14_on_all_convolutions() -> None:
    config = {**RESNET_18, "num_labels": 10}
    name = "ResNetForImageClassification"
    assert lora(name, config, "convolutions", 14).trainable == 502_922
    assert lora(name, config, "convolutions", 14, ["classifier"]).trainable == 508_052
    with_head = r"regex:resnet\..*convolution|classifier\.1"
    assert lora(name, config, with_head, 14).trainable == 510_230


@pytest.mark.parametrize(("labels", "trainable"), [(1, 886_273), (2, 887_042), (3, 887_811)])
def test_roberta_rank_8_with_head(labels: int, trainable: int) -> None:
    config = {**ROBERTA, "num_labels": labels}
    name = "RobertaForSequenceClassification"
    assert lora(name, config, "query_value", 8).trainable == 294_912
    assert lora(name, config, "query_value", 8, ["classifier"]).trainable == trainable


GPT2_SHARES = {
    "medium": dict(
        zip(
            (2**power for power in range(11)),
            (".0277", ".0554", ".1107", ".2211", ".4413", ".8788", "1.7422", "3.4248", "6.6228",
             "12.4228", "22.1001"),
            strict=True,
        )
    ),
    "small": {1: ".0296", 64: "1.8606", 1024: "23.274"},
    "large": {1: ".0238", 1024: "19.604"},
}  # fmt: skip
"""Published shares of trainable parameters, in percent, by rank: as many as are at hand."""


@pytest.mark.parametrize("size", GPT2_SHARES)
def test_gpt2_percentages_are_those_published_with_a_token_for_padding(size: str) -> None:
    """Published models had a token of their own for padding, so one row more in the embedding."""
    name = "GPT2LMHeadModel"
    whole = count(name, GPT2[size])
    # What a rank of 1 adds, each further one adds again.
    each = lora(name, GPT2[size], "query_key_value", 1)
    assert each.total - each.trainable == whole
    padded = count(name, {**GPT2[size], "vocab_size": 50_258})
    for r, published in GPT2_SHARES[size].items():
        share = 100 * r * each.trainable / (padded + r * each.trainable)
        assert f"{share:.{len(published.partition('.')[2])}f}".removeprefix("0") == published, r
    assert lora(name, GPT2[size], "query_key_value", 1024).trainable == 1024 * each.trainable


@pytest.mark.parametrize("study", ["e2e_gpt2_ranks", "squad_gpt2_ranks"])
@pytest.mark.parametrize(
    ("size", "word"), [("medium", ""), ("small", "small_"), ("large", "large_")]
)
def test_rank_studies_of_gpt2_adapt_what_was_published_on_the_base_of_their_name(
    study: str, size: str, word: str
) -> None:
    raw, _ = read_study(study.replace("ranks", f"{word}ranks"), [STUDIES])
    ending = "" if size == "small" else f"-{size}"
    assert raw["base"]["id"] == f"openai-community/gpt2{ending}"
    arms = expanded_sweeps(raw["arms"])
    assert list(arms) == ["fft", *(f"lora_r{r}" for r in GPT2_SHARES["medium"])]
    for arm in list(arms.values())[1:]:
        assert (arm["targets"], arm["alpha"], arm["dropout"]) == ("query_key_value", 32, 0.1)
        assert (arm["init"], arm["learning_rate"]) == ("gaussian", 2e-4)


def test_encoder_decoder_rank_32() -> None:
    name = "VisionEncoderDecoderModel"
    assert lora(name, {}, "text_without_cross_attention", 32).trainable == 4_718_592
    suffixes = r"regex:decoder\..*\.(c_attn|c_proj|c_fc)"
    assert lora(name, {}, suffixes, 32).trainable == 6_193_152
    # 12 layers × (768 + 768) × 32 more for the queries of the cross attention.
    assert lora(name, {}, "text", 32).trainable == 6_193_152 + 589_824


def test_llama_rank_64() -> None:
    counted = lora("LlamaForCausalLM", LLAMA_1B, "all", 64)
    assert counted.trainable == 45_088_768
    assert round(100 * counted.trainable / counted.total, 2) == 3.52
    assert lora("LlamaForCausalLM", LLAMA_1B, "query_value", 64).trainable == 6_815_744


@pytest.mark.parametrize(("labels", "head"), [(1, 591_361), (2, 592_130), (3, 592_899)])
def test_roberta_biases_with_and_without_the_head(labels: int, head: int) -> None:
    """BitFit trains 102,914 biases, two of them a head's of two classes, and the head's weights."""
    config = {**ROBERTA, "num_labels": labels}
    model = built("RobertaForSequenceClassification", config)
    biases = sum(p.numel() for name, p in model.named_parameters() if name.endswith("bias"))
    # 768 of the head's dense layer, one a class: the published 102,914 counts two classes.
    assert biases == 102_144 + 768 + labels
    arm = {"method": "bitfit", "learning_rate": 1e-3, "base": None, "init_from": None}
    trained = open_method(arm).apply(model, seed=0, heads=["classifier"], steps=1, batches=list)
    counted = sum(p.numel() for p in trained.parameters() if p.requires_grad)
    assert counted == 102_144 + head
    assert head == 768 * 768 + 768 + 768 * labels + labels
