"""The loss of a decoder-only model and its gradients, against transformers' own."""

import pytest
import torch
import transformers

from peft_ablation.bases.causal import IGNORED, token_losses
from peft_ablation.bases.cpu_kernels import lighten

torch.set_num_threads(1)
PROMPTS, ANSWERS = [[5, 9, 7], [4, 5, 5, 8, 6]], [[9, 2], [7, 7, 3, 2]]


def tiny(kind: str, tied: bool) -> torch.nn.Module:
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    more = {"vocab_size": 12, "tie_word_embeddings": tied}
    if kind == "llama":
        config = transformers.LlamaConfig(**sizes, **more, intermediate_size=24)
        return transformers.LlamaForCausalLM(config)
    no_dropout = dict.fromkeys(("attn_pdrop", "embd_pdrop", "resid_pdrop"), 0.0)
    return transformers.GPT2LMHeadModel(transformers.GPT2Config(**sizes, **more, **no_dropout))


def batch() -> dict[str, torch.Tensor]:
    return {
        "input_ids": torch.tensor([[5, 9, 7, 9, 0, 0, 0, 0], [4, 5, 5, 8, 6, 7, 7, 3]]),
        "sources": torch.tensor([[2, 3, 0, 0], [4, 5, 6, 7]]),
        "targets": torch.tensor([[9, 2, IGNORED, IGNORED], [7, 7, 3, 2]]),
    }


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
@pytest.mark.parametrize("tied", [True, False])
def test_gradients_of_all_weights_are_those_of_transformers(kind: str, tied: bool) -> None:
    own, theirs = tiny(kind, tied).train(), tiny(kind, tied).train()
    lighten(own)
    token_losses(own, batch()).sum().backward()
    for prompt, answer in zip(PROMPTS, ANSWERS, strict=True):
        ids = torch.tensor([prompt + answer])
        labels = torch.tensor([[IGNORED] * len(prompt) + answer])
        (theirs(input_ids=ids, labels=labels).loss * len(answer)).backward()
    for (name, found), expected in zip(own.named_parameters(), theirs.parameters(), strict=True):
        assert found.grad.layout == torch.strided, name
        torch.testing.assert_close(found.grad, expected.grad, rtol=1e-4, atol=1e-6, msg=name)


def test_a_tied_embedding_makes_no_second_gradient_of_its_size() -> None:
    model = tiny("gpt2", tied=True)
    with torch.profiler.profile() as profile:
        token_losses(model, batch()).sum().backward()
    dense = [e for e in profile.events() if e.name == "aten::embedding_dense_backward"]
    assert len(dense) == 1  # of the positions
