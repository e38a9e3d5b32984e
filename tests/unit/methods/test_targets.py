"""Targets are named without building the model, and mean what PEFT makes of them."""

import re
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import GitConfig, GitForCausalLM, ViTConfig, ViTForImageClassification

from peft_ablation.bases.architectures import Architecture, architecture, model_architecture
from peft_ablation.errors import InputError
from peft_ablation.methods import method_class, open_method
from peft_ablation.methods.targets import WITH_WEIGHTS, check_targets, resolve_target


def shipped(class_name: str, config: dict[str, Any] | None = None) -> Architecture:
    told = architecture(class_name, config or {})
    assert told is not None
    return told


GIT = shipped("GitForCausalLM")
VIT = shipped("ViTForImageClassification")


def git_base() -> nn.Module:
    """microsoft/git-base on the meta device: its defaults are GitConfig's, no weight is made."""
    with torch.device("meta"):
        return GitForCausalLM(GitConfig())


def resolve(targets: str, base: Architecture, kinds: Sequence[str] = WITH_WEIGHTS) -> str:
    return resolve_target(targets, base, method="lora", kinds=kinds)


def refusal(targets: str, base: Architecture, **options: Any) -> str:
    with pytest.raises(InputError) as refused:
        resolve(targets, base, **options)
    message = str(refused.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("name", "adapted"),
    [
        ("vision", 72),  # 12 layers of q, k, v, out, fc1, fc2
        ("vision_attention", 48),
        ("vision_mlp", 24),
        ("text_mlp", 12),
        ("text", 36),  # 6 layers of query, key, value and three dense
        ("text_attention", 24),
        ("vision_and_text", 108),
    ],
)
def test_each_set_of_git_adapts_as_many_modules_as_it_says(name: str, adapted: int) -> None:
    model = get_peft_model(git_base(), LoraConfig(target_modules=resolve(name, GIT)))
    learned = [name for name, p in model.named_parameters() if p.requires_grad]
    assert len(learned) == 2 * adapted
    wanted_towers = {
        "vision": {"image_encoder"},
        "text": {"encoder"},
    }[name.split("_")[0]] | ({"encoder"} if name == "vision_and_text" else set())
    towers = {name.split("git.")[1].split(".")[0] for name in learned}
    assert towers == wanted_towers


def test_expression_is_matched_in_full() -> None:
    assert "matches no module of GitForCausalLM" in refusal(r"regex:self_attn\.q_proj", GIT)
    expression = resolve(r"regex:.*\.self_attn\.q_proj", GIT)
    learned = get_peft_model(git_base(), LoraConfig(target_modules=expression))
    assert sum(p.requires_grad for p in learned.parameters()) == 24


def test_layers_are_those_of_the_base_at_hand() -> None:
    last = r"regex:git\.encoder\.layer\.5\.attention\.self\.query"
    assert resolve(last, GIT) == last.removeprefix("regex:")
    assert "matches no module" in refusal(last, shipped("GitForCausalLM", {"num_hidden_layers": 2}))


def test_name_of_an_older_transformers_is_refused_with_the_one_of_today() -> None:
    said = refusal(r"regex:vit\.encoder\.layer\.\d+\.attention\.attention\.o_proj", VIT)
    assert re.search(r"a name such as 'vit\.layers\.\d+\.attention\.\w+'", said)


def test_unknown_set_is_refused_with_those_of_the_class() -> None:
    said = refusal("atention", VIT)
    assert said == (
        "targets: found 'atention', allowed for ViTForImageClassification: all, attention, mlp, "
        "query_value, regex:<expression>; did you mean 'attention'?"
    )


def test_invalid_expression_is_refused() -> None:
    assert "'regex:(q_proj' is no regular expression: missing" in refusal("regex:(q_proj", VIT)


@pytest.mark.parametrize(
    ("targets", "said"),
    [
        (
            r"regex:vit\.layernorm",
            r"targets: 'regex:vit\\.layernorm' matches vit.layernorm, a LayerNorm; lora adapts "
            "Linear, Conv1D, Conv2d, Embedding",
        ),
        (r"regex:.*\.attention", "matches vit.layers.0.attention, which holds no weights"),
        (r"regex:vit\.layers\.3\.mlp\..*", "matches vit.layers.3.mlp.activation_fn, which"),
        (r"regex:vit\.embeddings", "matches vit.embeddings, a ViTEmbeddings; lora adapts"),
    ],
)
def test_module_that_cannot_be_adapted_is_refused_as_peft_would(targets: str, said: str) -> None:
    assert said in refusal(targets, VIT)
    with torch.device("meta"):
        model = ViTForImageClassification(ViTConfig())
    with pytest.raises(ValueError, match="is not supported"):
        get_peft_model(model, LoraConfig(target_modules=targets.removeprefix("regex:")))


def test_kinds_are_those_of_the_method() -> None:
    resnet = shipped("ResNetForImageClassification")
    assert resolve("convolutions", resnet)
    said = refusal("convolutions", resnet, kinds=("Linear", "Conv1D"))
    assert "embedder.convolution, a Conv2d; lora adapts Linear, Conv1D" in said
    assert "matches transformer.wte, an Embedding; lora adapts Linear" in refusal(
        r"regex:transformer\.wte", shipped("GPT2LMHeadModel"), kinds=("Linear",)
    )


def test_model_that_no_file_describes_takes_expressions_alone() -> None:
    own = model_architecture(nn.Sequential(nn.Linear(2, 2), nn.ReLU()))
    assert resolve("regex:0", own) == "0"
    assert "found 'all', allowed for Sequential: regex:<expression>" in refusal("all", own)


@pytest.mark.parametrize("targets", ["attention", "vision_and_text", "regex:anything"])
def test_form_alone_is_checked_where_the_base_is_not_known(targets: str) -> None:
    check_targets(targets, None, method="lora")


@pytest.mark.parametrize(
    ("targets", "said"),
    [
        ("atention", r"found 'atention', allowed: all, .*did you mean 'attention'\?"),
        ("regex:(q", "is no regular expression"),
    ],
)
def test_wrong_form_is_refused_where_the_base_is_not_known(targets: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        check_targets(targets, None, method="lora")


def test_known_base_is_checked_in_full() -> None:
    check_targets("mlp", VIT, method="lora")
    with pytest.raises(InputError, match=r"vera adapts Linear$"):
        check_targets(r"regex:.*norm_before", VIT, method="vera", kinds=("Linear",))


@pytest.mark.parametrize(
    ("targets", "changes"),
    [
        ("vision", True),
        ("vision_and_text", True),
        ("text", False),
        ("text_attention", False),
        (r"regex:git\.visual_projection\.visual_projection\.0", True),
        (r"regex:output", False),
        (r"regex:git\.image_encoder\.vision_model\.encoder\.layers\.11\.mlp\.fc2", True),
    ],
)
def test_vision_output_changes_where_vision_or_its_projection_is_adapted(
    targets: str, changes: bool
) -> None:
    git = architecture("GitForCausalLM", {})
    tower = ("git.image_encoder.", "git.visual_projection.")
    settings = method_class("lora").Settings(method="lora", targets=targets, learning_rate=1e-3)
    lora = open_method(settings.model_dump())
    assert lora.leaves_alone(git, tower, ()) is not changes
    assert not lora.leaves_alone(None, tower, ())  # where nothing is known, nothing is cached
    assert not open_method({"method": "full"}).leaves_alone(git, tower, ())
    assert open_method({"method": "none"}).leaves_alone(None, tower, ())
