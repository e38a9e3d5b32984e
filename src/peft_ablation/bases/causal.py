"""A decoder-only model (GPT-2, Llama) without what a step or a search does not need.

- The vocabulary head sees supervised positions only.
- Several references of one prompt are one row: each attends to the prompt and to itself, so that
  the prompt is computed once.
- Beams start from the keys and values of a prompt that was read once.

Shapes: B rows, T tokens of a row, S supervised tokens of a row, V words of the vocabulary.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from peft_ablation.bases.vocabulary import vocabulary_losses

IGNORED = -100
"""Target that is padding."""


def causal_of(model: Any) -> Any:
    """Return the causal language model inside a possibly PEFT-wrapped one."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def token_losses(
    model: Any, batch: Mapping[str, Tensor], *, label_smoothing: float = 0.0, **given: Any
) -> Tensor:
    """Return the loss of each supervised token, (number of them,), in nats, row by row.

    Of `batch`, int64, `input_ids` (B, T) is padded on the right, where causality alone keeps it
    from being read. `targets` (B, S) are tokens, `IGNORED` where a row has fewer, and `sources`
    (B, S) the places in the row whose output tells them. With several references a row there are
    also `position_ids` (B, T) and `reference` (B, T): 0 in the prompt, else the number of the
    reference that a token belongs to. `given` goes to the model as it is: what a decoder attends
    to besides, say.
    """
    causal = causal_of(model)
    told: dict[str, Any] = {**_read(causal, batch["input_ids"]), "use_cache": False, **given}
    if "reference" in batch:
        told["attention_mask"] = own_reference(batch["reference"])
        told["position_ids"] = batch["position_ids"]
    hidden = causal.base_model(**told).last_hidden_state
    head = causal.get_output_embeddings()
    return told_losses(hidden, batch, head, label_smoothing=label_smoothing)


def told_losses(
    hidden: Tensor, batch: Mapping[str, Tensor], head: nn.Module, *, label_smoothing: float = 0.0
) -> Tensor:
    """Return what `token_losses` does, of the last hidden states (B, T, width) of its batch."""
    targets = batch["targets"]
    first = hidden.shape[1] * torch.arange(len(targets), device=targets.device)[:, None]
    supervised = (targets != IGNORED).flatten().nonzero()[:, 0]
    places = (first + batch["sources"]).flatten()[supervised]
    return vocabulary_losses(
        hidden.flatten(0, 1).index_select(0, places),
        head,
        targets.flatten()[supervised],
        label_smoothing=label_smoothing,
    )


def _read(causal: Any, ids: Tensor) -> dict[str, Tensor]:
    """Return what a model reads: tokens, or what its embedding makes of them.

    An embedding that is the head's weight too has that gradient already. On a CPU another of the
    same size, nearly all zeros, to be added to it would cost as much as a layer.
    """
    embedding, head = causal.get_input_embeddings(), causal.get_output_embeddings()
    if (
        type(embedding) is nn.Embedding
        and embedding.weight is getattr(head, "weight", None)
        and embedding.weight.requires_grad
        and embedding.padding_idx is None
        and ids.device.type == "cpu"
    ):
        return {"inputs_embeds": functional.embedding(ids, embedding.weight, sparse=True)}
    return {"input_ids": ids}


def own_reference(reference: Tensor) -> Tensor:
    """Return who may attend to whom, (B, 1, T, T) bool: the prompt and oneself, backwards."""
    own = reference[:, :, None] == reference[:, None, :]
    prompt = (reference == 0)[:, None, :]
    length = reference.shape[1]
    past = torch.ones(length, length, dtype=torch.bool, device=reference.device).tril()
    return ((own | prompt) & past)[:, None]


def write(
    model: Any, prompts: Sequence[Sequence[int]], end_token: int, settings: Mapping[str, Any]
) -> list[list[int]]:
    """Return the tokens that a model writes after each prompt, without the end token.

    `settings` are those of `generate`: `max_new_tokens`, `num_beams`, `length_penalty`,
    `no_repeat_ngram_size`, `do_sample`, `temperature`, `top_p`. Sampling draws from torch's global
    generator.
    """
    from transformers import DynamicCache

    from peft_ablation.bases.beam_cache import with_room

    causal = causal_of(model)
    device = causal.get_input_embeddings().weight.device
    longest = max(map(len, prompts))
    # Left of a text padding moves no position, as the mask tells `generate` where each begins.
    ids = torch.tensor([[0] * (longest - len(row)) + list(row) for row in prompts], device=device)
    lengths = torch.tensor([len(row) for row in prompts], device=device)
    mask = (torch.arange(longest, device=device) >= longest - lengths[:, None]).long()
    known = None
    if longest > 1:
        known = DynamicCache(config=causal.config)
        causal.base_model(
            input_ids=ids[:, :-1],
            attention_mask=mask[:, :-1],
            position_ids=(mask.cumsum(-1) - 1).clamp(min=0)[:, :-1],
            past_key_values=known,
            use_cache=True,
        )
        with_room(known, settings["num_beams"], settings["max_new_tokens"])
    found = causal.generate(
        input_ids=ids,
        attention_mask=mask,
        past_key_values=known,
        eos_token_id=end_token,
        pad_token_id=end_token,
        **settings,
    )
    texts = found[:, longest:].tolist()
    return [text[: text.index(end_token)] if end_token in text else text for text in texts]
