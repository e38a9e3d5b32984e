"""Losses of a vocabulary head that keeps no logits, against torch's cross entropy."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from peft_ablation.bases import vocabulary
from peft_ablation.bases.vocabulary import vocabulary_losses

ROWS, WIDTH, WORDS = 23, 16, 301


def made(frozen: bool, bias: bool, scale: float = 1.0) -> tuple[torch.Tensor, nn.Linear]:
    torch.manual_seed(3)
    head = nn.Linear(WIDTH, WORDS, bias=bias).requires_grad_(not frozen)
    return scale * torch.randn(ROWS, WIDTH), head


def gradients(
    own: bool, rows: torch.Tensor, head: nn.Linear, smoothing: float
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Return losses, and gradients of a sum in which each row counts differently."""
    given, targets = rows.clone().requires_grad_(), torch.arange(ROWS) * 13 % WORDS
    head.zero_grad()
    if own:
        losses = vocabulary_losses(given, head, targets, label_smoothing=smoothing)
    else:
        losses = functional.cross_entropy(
            head(given).float(), targets, reduction="none", label_smoothing=smoothing
        )
    (losses * torch.linspace(-1, 2, ROWS)).sum().backward()
    found = [given.grad, *(p.grad for p in head.parameters() if p.requires_grad)]
    assert all(gradient is not None for gradient in found)
    return losses.detach(), found  # type: ignore[return-value]


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("frozen", [True, False])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("at_a_time", [1, 7, ROWS])
def test_losses_and_gradients_are_torchs(
    monkeypatch: pytest.MonkeyPatch, smoothing: float, frozen: bool, bias: bool, at_a_time: int
) -> None:
    monkeypatch.setitem(vocabulary._LOGITS, "cpu", at_a_time * WORDS)
    rows, head = made(frozen, bias)
    found, expected = (gradients(own, rows, head, smoothing) for own in (True, False))
    torch.testing.assert_close(found[0], expected[0])
    assert len(found[1]) == (1 if frozen else 2 + bias)
    for own, theirs in zip(found[1], expected[1], strict=True):
        torch.testing.assert_close(own, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("frozen", [True, False])
def test_in_half_precision_the_products_alone_are_rounded(frozen: bool) -> None:
    rows, head = made(frozen, bias=False)
    exact = gradients(False, rows, head, 0.0)
    with torch.autocast("cpu", torch.bfloat16):
        found = gradients(True, rows, head, 0.0)
        theirs = gradients(False, rows, head, 0.0)
    assert found[0].dtype == torch.float32
    torch.testing.assert_close(found[0], theirs[0], rtol=1e-5, atol=1e-5)
    for own, other, truth in zip(found[1], theirs[1], exact[1], strict=True):
        assert own.dtype == torch.float32
        error, allowed = (own - truth).norm(), (other - truth).norm()
        assert 0 < error < 1.2 * allowed < 0.1 * truth.norm()


def test_a_word_of_no_chance_has_a_finite_loss() -> None:
    rows, head = made(frozen=True, bias=True, scale=400.0)
    found, expected = (gradients(own, rows, head, 0.0) for own in (True, False))
    assert expected[0].max() > 200  # its chance is 0 in float32
    torch.testing.assert_close(found[0], expected[0])
    torch.testing.assert_close(found[1], expected[1])


@pytest.mark.parametrize("frozen", [True, False])
def test_logits_are_kept_for_a_head_that_learns_alone(frozen: bool) -> None:
    rows, head = made(frozen, bias=False)
    losses = vocabulary_losses(rows.requires_grad_(), head, torch.zeros(ROWS, dtype=torch.long))
    saved = losses.grad_fn.saved_tensors  # type: ignore[union-attr]
    kept = {tuple(tensor.shape) for tensor in saved if tensor is not None}
    assert ((ROWS, WORDS) in kept) != frozen
    with torch.no_grad():
        without = vocabulary_losses(rows, head, torch.zeros(ROWS, dtype=torch.long))
    assert without.grad_fn is None and torch.equal(without, losses)


def test_a_head_with_an_adapter_is_asked_itself() -> None:
    from peft import LoraConfig, get_peft_model

    rows, head = made(frozen=True, bias=False)
    model = get_peft_model(nn.Sequential(head), LoraConfig(target_modules=["0"], lora_dropout=0.0))
    adapted = model.base_model.model[0]
    nn.init.normal_(adapted.lora_B["default"].weight)
    targets = torch.arange(ROWS)
    found = vocabulary_losses(rows, adapted, targets)
    expected = functional.cross_entropy(model(rows), targets, reduction="none")
    torch.testing.assert_close(found, expected)
    found.sum().backward()
    assert adapted.lora_A["default"].weight.grad.abs().sum() > 0
