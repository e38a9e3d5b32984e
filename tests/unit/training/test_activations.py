"""Gradient checkpointing: the same gradients from less memory, or one line."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from methods_matrix import TINY, Tiny, bound, forwards
from torch import Tensor, nn

from peft_ablation.bases.causal import token_losses
from peft_ablation.bases.git import SupervisedLoss
from peft_ablation.bases.pixels import Normalize
from peft_ablation.errors import InputError
from peft_ablation.training.activations import recompute_activations

LORA = {"method": "lora", "targets": "attention", "dropout": 0.1}


def causal_loss(tiny: Tiny, model: nn.Module) -> Tensor:
    """The loss as text_generation has it: of the base's own modules."""
    ids = tiny.batch(0)["input_ids"]
    places = torch.arange(ids.shape[1] - 1).expand(len(ids), -1)
    return token_losses(
        model, {"input_ids": ids[:, :-1], "sources": places, "targets": ids[:, 1:]}
    ).sum()


def git_loss(tiny: Tiny, model: nn.Module) -> Tensor:
    """The loss as captioning has it: two streams through the base's own layers."""
    batch = tiny.batch(0)
    pixels = (batch["pixel_values"][:, 0].clamp(-1, 1) * 127 + 128).to(torch.uint8)
    loss = SupervisedLoss(model, Normalize((0.5,) * 3, (0.5,) * 3)).train()
    labels = batch["input_ids"].clone()
    labels[:, :3] = -100
    summed: Tensor = loss(input_ids=batch["input_ids"], labels=labels, image=pixels)
    return summed


def whole_loss(tiny: Tiny, model: nn.Module) -> Tensor:
    return tiny.loss(model, tiny.batch(0))


CASES: list[tuple[str, dict[str, Any], Callable[[Tiny, nn.Module], Tensor]]] = [
    ("Llama", LORA, causal_loss),
    ("GPT-2", LORA, causal_loss),
    ("Llama", {**LORA, "method": "qlora"}, causal_loss),
    ("GPT-2", {"method": "full"}, causal_loss),
    ("GPT-2", {"method": "last_layers"}, causal_loss),
    ("GPT-2", {"method": "prompt", "tokens": 4}, whole_loss),
    ("RoBERTa", LORA, whole_loss),
    ("ViT", LORA, whole_loss),
    ("GIT", {**LORA, "targets": "all"}, git_loss),
    ("GIT", {"method": "full"}, git_loss),
]


def backward(
    name: str, arm: dict[str, Any], loss: Callable[[Tiny, nn.Module], Tensor], again: bool
) -> tuple[dict[str, Tensor], int]:
    """Return the gradients of a step, and the bytes that its forward pass keeps for them."""
    tiny = TINY[name]
    torch.manual_seed(1)
    base = tiny.make()
    method = bound(arm)
    model = method.apply(base, seed=3, heads=tiny.heads, steps=1, batches=lambda: forwards(tiny))
    if again:
        recompute_activations(model)
    method.train_mode(model)
    torch.manual_seed(7)  # dropout
    kept: dict[int, int] = {}
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        value = loss(tiny, model)
    value.backward()
    return {n: p.grad for n, p in model.named_parameters() if p.grad is not None}, sum(
        kept.values()
    )


@pytest.mark.parametrize(
    ("name", "arm", "loss"), CASES, ids=lambda v: getattr(v, "__name__", str(v)[:40])
)
def test_gradients_are_equal_and_less_is_kept_for_them(
    name: str, arm: dict[str, Any], loss: Callable[[Tiny, nn.Module], Tensor]
) -> None:
    straight, much = backward(name, arm, loss, again=False)
    found, little = backward(name, arm, loss, again=True)
    assert straight
    assert straight.keys() == found.keys()
    assert all(torch.equal(straight[key], found[key]) for key in straight)
    assert little < 0.7 * much


def test_frozen_layers_below_the_lowest_trained_one_get_no_gradient() -> None:
    """transformers would let the embeddings' output ask for one, and pay for the way down."""
    tiny = TINY["GPT-2"]
    model = bound({"method": "last_layers"}).apply(
        tiny.make(), seed=0, heads=(), steps=1, batches=lambda: forwards(tiny)
    )
    recompute_activations(model)
    asked = []
    model.transformer.h[0].register_forward_hook(lambda *seen: asked.append(seen[-1]))
    model.train()
    whole_loss(tiny, model)
    out = asked[0][0] if isinstance(asked[0], tuple) else asked[0]
    assert not out.requires_grad


def test_a_model_that_cannot_compute_again_is_one_line() -> None:
    with pytest.raises(InputError, match=r"ResNetForImageClassification cannot compute") as told:
        recompute_activations(TINY["ResNet"].make())
    assert "\n" not in str(told.value)
