"""The last layer for its first token alone gives what transformers' whole layer gives."""

from copy import deepcopy
from typing import Any

import pytest
import torch
import transformers
from peft import LoraConfig, get_peft_model

from peft_ablation.bases.first_token import FAMILIES, read_first_token

SIZES: dict[str, Any] = {
    "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32,
    "max_position_embeddings": 34, "vocab_size": 50, "pad_token_id": 1, "embedding_size": 16,
    "num_labels": 3,
}  # fmt: skip
CLASSES = {
    "bert": "Bert", "camembert": "Camembert", "electra": "Electra", "roberta": "Roberta",
    "xlm-roberta": "XLMRoberta",
}  # fmt: skip


def classifier(kind: str, **settings: Any) -> Any:
    torch.manual_seed(3)
    config = getattr(transformers, f"{CLASSES[kind]}Config")(**{**SIZES, **settings})
    return getattr(transformers, f"{CLASSES[kind]}ForSequenceClassification")(config).eval()


def batch() -> dict[str, torch.Tensor]:
    """Return two texts, the second padded on the right."""
    ids = torch.randint(5, 50, (2, 9), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(ids)
    ids[1, 5:], mask[1, 5:] = 1, 0
    return {"input_ids": ids, "attention_mask": mask}


def test_every_family_is_tried() -> None:
    assert set(CLASSES) == FAMILIES


@pytest.mark.parametrize("kind", sorted(CLASSES))
def test_logits_and_gradients_are_those_of_the_whole_layer(kind: str) -> None:
    nothing = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    whole = classifier(kind, **nothing).train()
    short = deepcopy(whole)
    read_first_token(short)
    rows = []
    short.base_model.encoder.layer[-1].intermediate.register_forward_hook(
        lambda _, inputs, __: rows.append(inputs[0].shape[1])
    )
    logits = [model(**batch()).logits for model in (whole, short)]
    assert rows == [1]
    assert torch.allclose(*logits, atol=1e-6)
    for found in logits:
        torch.nn.functional.cross_entropy(found, torch.tensor([0, 2])).backward()
    for (name, one), other in zip(whole.named_parameters(), short.parameters(), strict=True):
        assert one.grad is not None, name
        assert torch.allclose(one.grad, other.grad, atol=1e-6), name


def test_adapters_of_the_last_layer_learn() -> None:
    model = classifier("roberta")
    read_first_token(model)
    adapted = get_peft_model(model, LoraConfig(target_modules=["query", "value"], r=2)).train()
    adapted(**batch()).logits.sum().backward()
    layer = model.base_model.encoder.layer[-1].attention.self
    for projection in (layer.query, layer.value):
        assert projection.lora_B["default"].weight.grad.abs().max() > 0


def test_attention_is_dropped_in_training_alone() -> None:
    model = classifier("roberta", hidden_dropout_prob=0.0, classifier_dropout=0.0)
    for layer in model.base_model.encoder.layer[:-1]:
        layer.attention.self.dropout.p = 0.0
    read_first_token(model)
    # Some draws leave all of a few positions as they are, up to scale; five do not.
    drawn = [model.train()(**batch()).logits for _ in range(5)]
    assert any(not torch.equal(drawn[0], other) for other in drawn[1:])
    assert torch.equal(model.eval()(**batch()).logits, model(**batch()).logits)


def test_recorded_attention_and_prefixes_take_the_whole_layer() -> None:
    model = classifier("roberta", is_decoder=False)
    read_first_token(model)
    model.set_attn_implementation("eager")
    attentions = model(**batch(), output_attentions=True).attentions
    assert [part.shape for part in attentions] == [(2, 2, 9, 9)] * 2


def test_other_models_stay() -> None:
    config = transformers.DistilBertConfig(
        dim=16, n_layers=1, n_heads=2, hidden_dim=32, vocab_size=50
    )
    model = transformers.DistilBertForSequenceClassification(config)
    before = [type(module) for module in model.modules()]
    read_first_token(model)
    assert [type(module) for module in model.modules()] == before
