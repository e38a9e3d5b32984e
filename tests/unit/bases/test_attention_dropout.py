"""What text may see while attention weights are dropped, where the CPU has a product of its own."""

import pytest
import torch
from test_git_model import batch, seen, tiny_git

from peft_ablation.bases.git import lightened, text_hidden

FUTURE = 7


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_text_never_sees_the_future(dropout: float) -> None:
    model = lightened(tiny_git(dropout=dropout).train())
    pixels, ids, _ = batch()
    changed = ids.clone()
    changed[:, FUTURE:] = 4 + (ids[:, FUTURE:] + 1) % 30
    hidden = []
    for text in (ids, changed):
        torch.manual_seed(0)  # the same elements are dropped
        hidden.append(text_hidden(model, seen(model, pixels), text))
    assert torch.allclose(hidden[0][:, :FUTURE], hidden[1][:, :FUTURE], atol=1e-6)
    assert not torch.isclose(hidden[0][:, FUTURE:], hidden[1][:, FUTURE:]).all(-1).any()


def test_attention_that_hardly_drops_is_that_of_evaluation() -> None:
    """In evaluation torch's kernel is called, whose scale and mask the own product must share."""
    model = lightened(tiny_git(dropout=2e-5).train())
    pixels, ids, _ = batch()
    torch.manual_seed(0)
    training = text_hidden(model, seen(model, pixels), ids)
    model.eval()
    evaluated = text_hidden(model, seen(model, pixels), ids)
    assert torch.allclose(training, evaluated, atol=1e-3)


def test_nothing_is_dropped_in_evaluation() -> None:
    pixels, ids, _ = batch()
    without, having = (lightened(tiny_git(dropout=share).eval()) for share in (0.0, 0.5))
    expected = text_hidden(without, seen(without, pixels), ids)
    assert torch.equal(text_hidden(having, seen(having, pixels), ids), expected)


def test_weights_of_attention_are_dropped_too() -> None:
    """With dropout of attention alone, two draws differ."""
    model = lightened(tiny_git().train())
    for layer in model.git.encoder.layer:
        layer.attention.self.dropout.p = 0.3
    pixels, ids, _ = batch()
    images = seen(model, pixels)
    first, second = (text_hidden(model, images, ids) for _ in range(2))
    assert not torch.isclose(first, second).all(-1).any()
