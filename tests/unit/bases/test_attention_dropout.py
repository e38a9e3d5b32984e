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
