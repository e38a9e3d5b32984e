"""Targets are named without building the model, and mean what the model calls them."""

from typing import Any

import pytest
import torch
from torch import nn
from transformers import GitConfig, GitForCausalLM

from peft_ablation.errors import InputError
from peft_ablation.methods.adapters import as_arm, count_parameters
from peft_ablation.methods.targets import (
    GIT_BASE_LAYERS,
    TARGETS,
    adapts_vision,
    linear_modules,
    resolve_target,
)

LORA = {"method": "lora", "r": 8, "alpha": 16, "dropout": 0.05, "rslora": False}


def git_base() -> nn.Module:
    """microsoft/git-base on the meta device: its defaults are GitConfig's, no weight is made."""
    with torch.device("meta"):
        return GitForCausalLM(GitConfig())


@pytest.mark.parametrize(("vision", "text"), [GIT_BASE_LAYERS, (3, 2)])
def test_names_are_those_of_the_model(vision: int, text: int) -> None:
    config = GitConfig(num_hidden_layers=text, vision_config={"num_hidden_layers": vision})
    with torch.device("meta"):
        model = GitForCausalLM(config)
    own = {name for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    names = linear_modules(vision, text)
    assert len(names) == len(set(names))
    assert set(names) == own


# The published table: trainable, all, percent, adapter tensors.
@pytest.mark.parametrize(
    ("arm", "trainable", "total", "percent", "tensors"),
    [
        ({"method": "full"}, 176_619_066, 176_619_066, 100.0, None),
        ({**LORA, "targets": "vision"}, 1_327_104, 177_946_170, 0.7458, 144),
        ({**LORA, "targets": "text"}, 663_552, 177_282_618, 0.3743, 72),
    ],
    ids=["fft", "lora_vision", "lora_text"],
)
def test_parameters_of_git_base_to_the_unit(
    arm: dict[str, Any], trainable: int, total: int, percent: float, tensors: int | None
) -> None:
    model = as_arm(git_base(), arm)
    count = count_parameters(model)
    assert (count.trainable, count.total) == (trainable, total)
    assert round(count.percent, 4) == percent
    if tensors is not None:
        learned = [name for name, p in model.named_parameters() if p.requires_grad]
        assert len(learned) == tensors
        assert all("lora_" in name for name in learned)


@pytest.mark.parametrize(
    ("name", "adapted"),
    [
        ("vision", 72),  # 12 layers of q, k, v, out, fc1, fc2
        ("vision_attention", 48),
        ("text", 36),  # 6 layers of query, key, value and three dense
        ("text_attention", 24),
        ("vision_and_text", 108),
    ],
)
def test_each_set_adapts_as_many_modules_as_it_says(name: str, adapted: int) -> None:
    model = as_arm(git_base(), {**LORA, "targets": name})
    learned = [name for name, p in model.named_parameters() if p.requires_grad]
    assert len(learned) == 2 * adapted
    wanted_towers = {
        "vision": {"image_encoder"},
        "text": {"encoder"},
    }[name.split("_")[0]] | ({"encoder"} if name == "vision_and_text" else set())
    towers = {name.split("git.")[1].split(".")[0] for name in learned}
    assert towers == wanted_towers


def test_every_set_is_covered_above() -> None:
    assert set(TARGETS) == {
        "vision", "vision_attention", "text", "text_attention", "vision_and_text",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("targets", "changes"),
    [
        ("vision", True),
        ("vision_and_text", True),
        ("text", False),
        ("text_attention", False),
        (r"regex:git\.visual_projection\..*", True),
        (r"regex:output", False),
        (r"regex:git\.image_encoder\.vision_model\.encoder\.layers\.11\.mlp\.fc2", True),
    ],
)
def test_vision_output_changes_where_vision_or_its_projection_is_adapted(
    targets: str, changes: bool
) -> None:
    assert adapts_vision("lora", targets) is changes


def test_full_fine_tuning_changes_vision() -> None:
    assert adapts_vision("full", None)


def test_expression_is_matched_in_full() -> None:
    with pytest.raises(InputError, match="matches none of the 110 linear modules"):
        resolve_target(r"regex:self_attn\.q_proj")
    expression = resolve_target(r"regex:.*\.self_attn\.q_proj")
    learned = as_arm(git_base(), {**LORA, "targets": f"regex:{expression}"})
    assert sum(p.requires_grad for p in learned.parameters()) == 24


def test_layers_are_those_of_the_base_at_hand() -> None:
    last = r"regex:git\.encoder\.layer\.5\..*"
    assert resolve_target(last)
    with pytest.raises(InputError, match="matches none of the 32"):
        resolve_target(last, (3, 2))


def test_unknown_name_and_invalid_expression_are_one_line() -> None:
    with pytest.raises(InputError, match="found 'all-linear', allowed: text, text_attention"):
        resolve_target("all-linear")
    with pytest.raises(InputError, match="is no regular expression: missing"):
        resolve_target("regex:(q_proj")
