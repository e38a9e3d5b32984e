"""Every setting of a LoRA arm is read back from the adapter that was built from it."""

import math
from typing import Any

import pytest
import torch
from peft.tuners.lora import LoraLayer
from torch import nn
from transformers import GitConfig, GitForCausalLM

from peft_ablation.methods.lora import METHOD

ARM = {"method": "lora", "targets": "text", "r": 4, "alpha": 12, "dropout": 0.2, "rslora": False}


def built(seed: int = 0, **changes: Any) -> nn.Module:
    """A GIT of two layers with the adapter of `ARM` and `changes`."""
    torch.manual_seed(9)
    config = GitConfig(
        vision_config={
            "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1,
            "num_attention_heads": 2, "image_size": 16, "patch_size": 8,
        },
        vocab_size=20, hidden_size=16, intermediate_size=24, num_hidden_layers=2,
        num_attention_heads=2, max_position_embeddings=32,
    )  # fmt: skip
    arm = METHOD.Settings.model_validate({**ARM, "learning_rate": 1e-3, **changes}).model_dump()
    return METHOD(arm).apply(
        GitForCausalLM(config), seed=seed, heads=(), steps=1, batches=lambda: iter(())
    )


def adapters(model: nn.Module) -> list[Any]:
    found = [module for module in model.modules() if isinstance(module, LoraLayer)]
    assert len(found) == 12  # two layers of query, key, value and three dense
    return found


@pytest.mark.parametrize(
    ("changes", "scaling"),
    [
        ({}, 12 / 4),
        ({"alpha": 5}, 5 / 4),
        ({"rslora": True}, 12 / math.sqrt(4)),
        ({"r": 3, "rslora": True}, 12 / math.sqrt(3)),  # Kalajdzievski 2023
    ],
)
def test_update_is_scaled_by_alpha_over_the_rank_or_its_root(
    changes: dict[str, Any], scaling: float
) -> None:
    layer = adapters(built(**changes).eval())[0]
    down, up = layer.lora_A["default"], layer.lora_B["default"]
    nn.init.normal_(up.weight, generator=torch.Generator().manual_seed(1))
    values = torch.randn(5, layer.base_layer.in_features)
    update = values @ down.weight.T @ up.weight.T
    assert torch.allclose(layer(values), layer.base_layer(values) + scaling * update, atol=1e-4)


@pytest.mark.parametrize("rank", [1, 4])
def test_rank_is_that_of_every_adapter(rank: int) -> None:
    for layer in adapters(built(r=rank)):
        assert layer.lora_A["default"].weight.shape == (rank, layer.base_layer.in_features)
        assert layer.lora_B["default"].weight.shape == (layer.base_layer.out_features, rank)


@pytest.mark.parametrize("dropout", [0.0, 0.2, 0.5])
def test_share_of_an_adapters_input_is_dropped_while_training(dropout: float) -> None:
    for layer in adapters(built(dropout=dropout).train()):
        torch.manual_seed(0)
        dropped = layer.lora_dropout["default"](torch.ones(200, 200)) == 0
        assert dropped.float().mean().item() == pytest.approx(dropout, abs=0.01)


def test_adapted_model_begins_as_its_base_and_from_its_seed_alone() -> None:
    first, again, other = (
        [layer.lora_A["default"].weight for layer in adapters(built(seed))] for seed in (0, 0, 1)
    )
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(first, other, strict=True))
    for layer in adapters(built()):
        assert not layer.lora_B["default"].weight.any()
