"""Captioning with an encoder-decoder (ViT and GPT-2): its model, loss and generation."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from peft_ablation.bases.cpu_kernels import lighten, pack
from peft_ablation.bases.encoder_decoder import (
    encode_image,
    encoder_decoder_of,
    token_losses,
    write,
)
from peft_ablation.bases.pixels import IMAGENET_MEAN, IMAGENET_STD, Normalize
from peft_ablation.data.examples import Indices
from peft_ablation.errors import InputError
from peft_ablation.tasks.captioning.examples import ReferenceExamples, load_tokenizer, marks


def load_model(folder: str | Path) -> Any:
    """Return the `VisionEncoderDecoderModel` of a local folder, in float32, on the CPU.

    Raises `InputError` for a decoder other than GPT-2: heads of others are no single layer.
    """
    from transformers import VisionEncoderDecoderConfig, VisionEncoderDecoderModel
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    config = VisionEncoderDecoderConfig.from_pretrained(folder, local_files_only=True)
    if config.decoder.model_type != "gpt2":
        raise InputError(
            f"base {folder}: decoder.model_type is {config.decoder.model_type!r}, expected 'gpt2'; "
            "choose another base"
        )
    model = VisionEncoderDecoderModel.from_pretrained(
        folder, local_files_only=True, use_safetensors=True, dtype=torch.float32
    )
    lighten(model)
    return model


def normalize_of(base: str | Path) -> Normalize:
    """Return the normalisation that a base says; where it says none, ImageNet's."""
    return Normalize.of(base, IMAGENET_MEAN, IMAGENET_STD)


def image_states(model: Any, normalize: Normalize, image: Tensor) -> Tensor:
    """Return the encoder's states (B, N, E) of uint8 pixels, or cached ones as they are."""
    if image.dtype == torch.uint8:
        return encode_image(model, normalize(image))
    return image.to(encoder_decoder_of(model).decoder.lm_head.weight.dtype)


class SummedLoss(nn.Module):
    """Sum of the token losses of a batch; the module that data-parallel training wraps."""

    def __init__(self, model: nn.Module, base: str | Path) -> None:
        """Wrap a (PEFT) model; pixels are normalised as `base` says."""
        super().__init__()
        lighten(model)
        pooler = getattr(encoder_decoder_of(model).encoder, "pooler", None)
        if pooler is not None:
            # Nothing reads it, and data-parallel training waits for every gradient.
            pooler.requires_grad_(False)
        self.model, self.normalize = model, normalize_of(base)

    def forward(self, image: Tensor, **texts: Tensor) -> Tensor:
        """Return the summed loss, in nats, of a batch of `ReferenceExamples`."""
        states = image_states(self.model, self.normalize, image)
        return token_losses(self.model, states, texts).sum()


class CaptionPredictor:
    """Writes a text for each image and tells how likely the references are."""

    def __init__(
        self, model: Any, base: str | Path, device: torch.device, settings: Mapping[str, Any]
    ) -> None:
        """Take a trained model, its weights packed for prediction, and the task's settings."""
        self.model, self.device, self.settings = model.to(device).eval(), device, settings
        pack(self.model)
        self.normalize = normalize_of(base).to(device)
        self.tokenizer = load_tokenizer(base)
        _, self.end = marks(base, self.tokenizer)
        self._last: tuple[Tensor, list[list[int]]] | None = None

    def truth(self, examples: ReferenceExamples) -> Mapping[str, Any]:
        """Return the references and their supervised tokens."""
        return examples.truth()

    @torch.no_grad()
    def __call__(
        self, examples: ReferenceExamples, indices: Indices
    ) -> Mapping[str, Sequence[Any]]:
        """Return `hypothesis`, and `nll`: that of all references, in nats (float64)."""
        batch = {k: v.to(self.device) for k, v in examples.batch(indices).items()}
        states = image_states(self.model, self.normalize, batch.pop("image"))
        nll = examples.summed(token_losses(self.model, states, batch), indices)
        written = self._write(examples, states) * (len(indices) // len(states))
        texts = self.tokenizer.batch_decode(written, skip_special_tokens=True)
        return {"hypothesis": [text.strip() for text in texts], "nll": nll}

    def _write(self, examples: ReferenceExamples, states: Tensor) -> list[list[int]]:
        """Write a text for each image; of one image for all, once, whatever the batch."""
        if self._last is not None and self._last[0] is examples.same:
            return self._last[1]
        settings = {key: self.settings[key] for key in ("max_new_tokens", "num_beams")}
        written = write(self.model, states, examples.prompt, self.end, settings)
        self._last = None if examples.same is None else (examples.same, written)
        return written


class ImageEncoder:
    """The image encoder, for arms that leave it alone."""

    dtype = np.float16

    def __init__(self, base: str | Path, device: torch.device) -> None:
        """Load the base for prediction on `device`."""
        self.device = device
        self.model = load_model(base).to(device).eval()
        self.normalize = normalize_of(base).to(device)
        pack(self.model)

    def __call__(self, pixels: NDArray[np.uint8]) -> Tensor:
        """Return the encoder's states (N, tokens, E) of pixels (N, H, W) or (N, H, W, 3)."""
        return encode_image(self.model, self.normalize(torch.from_numpy(pixels).to(self.device)))
