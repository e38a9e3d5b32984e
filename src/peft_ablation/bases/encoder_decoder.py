"""An image encoder whose states a language model attends to (ViT and GPT-2), without waste.

- An image is encoded once for all that is asked of it: the loss of its captions, and a new one.
- Its captions are one row (see `causal.token_losses`), so that each layer's keys and values of the
  image, ten times as many as a caption has tokens, are computed once for all of them.
- The vocabulary head sees supervised positions only.

Shapes: B images, N states of an image, E the encoder's width.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from peft_ablation.bases import causal


def encoder_decoder_of(model: Any) -> Any:
    """Return the `VisionEncoderDecoderModel` inside a possibly PEFT-wrapped model."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def encode_image(model: Any, pixels: Tensor) -> Tensor:
    """Return the encoder's states (B, N, E) of normalised `pixels` (B, 3, H, W)."""
    states: Tensor = encoder_decoder_of(model).encoder(pixel_values=pixels).last_hidden_state
    return states


def token_losses(model: Any, states: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
    """Return the loss of each supervised token, (number of them,), in nats, row by row.

    `states` are those of `encode_image`, of each row of `batch` or of one image for all; `batch` is
    what `causal.token_losses` takes. Labels are shifted once, as `sources` say where a token is
    told. The mean equals the loss of `VisionEncoderDecoderModel(labels=…)` where that shifts once;
    releases from 4.50 to the fix of huggingface/transformers#40863 shift twice.
    """
    parts = encoder_decoder_of(model)
    if hasattr(parts, "enc_to_dec_proj"):
        states = parts.enc_to_dec_proj(states)
    if len(states) < len(batch["targets"]):
        states = states.repeat(len(batch["targets"]), 1, 1)
    return causal.token_losses(parts.decoder, batch, encoder_hidden_states=states)


def write(
    model: Any,
    states: Tensor,
    prompt: Sequence[int],
    end_token: int,
    settings: Mapping[str, Any],
) -> list[list[int]]:
    """Return the tokens that are written of each image after `prompt`, without the end token.

    `states` are those of `encode_image`, `prompt` begins with the token that a caption starts from,
    and `settings` are those of `generate`, such as `max_new_tokens` and `num_beams`.
    """
    import torch
    from transformers import GenerationConfig
    from transformers.modeling_outputs import BaseModelOutput

    parts = encoder_decoder_of(model)
    # What a base's own generation_config says would mix with the settings.
    parts.generation_config = GenerationConfig()
    found = parts.generate(
        encoder_outputs=BaseModelOutput(last_hidden_state=states),
        decoder_input_ids=torch.tensor([list(prompt)] * len(states), device=states.device),
        decoder_start_token_id=prompt[0],
        bos_token_id=prompt[0],
        eos_token_id=end_token,
        pad_token_id=end_token,
        do_sample=False,
        **settings,
    )
    texts = found[:, len(prompt) :].tolist()
    return [text[: text.index(end_token)] if end_token in text else text for text in texts]
