"""Captioning with GIT: its model, loss, generation and frozen vision tower."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from peft_ablation.bases.cpu_kernels import pack
from peft_ablation.bases.git import (
    IGNORED,
    Generated,
    LayerCache,
    SupervisedLoss,
    encode_image,
    generate_greedy,
    git_of,
    image_stream,
    image_tokens,
    lightened,
    reference_losses,
    text_losses,
)
from peft_ablation.bases.pixels import Normalize
from peft_ablation.data.examples import Indices
from peft_ablation.tasks.captioning.examples import (
    AnyExamples,
    ReferenceExamples,
    load_tokenizer,
)

MOST_TEXTS: Final = 512
"""Sentences that are scored at once."""


def load_model(folder: str | Path) -> Any:
    """Return the `GitForCausalLM` of a local folder, in float32, on the CPU."""
    from transformers import GitForCausalLM
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()  # a line a job, of no news
    model = GitForCausalLM.from_pretrained(
        folder, local_files_only=True, use_safetensors=True, dtype=torch.float32
    )
    return lightened(model)


class SummedLoss(SupervisedLoss):
    """Sum of the token losses of a batch, of pixels normalised as a base says."""

    def __init__(self, model: Any, base: str | Path) -> None:
        """Wrap a (PEFT) GIT model."""
        super().__init__(model, Normalize.of(base))


def shifted(image: Tensor, most: int) -> Tensor:
    """Translate pixels (B, H, W[, 3]) at random by up to `most`; one shift a call.

    The border is repeated. Cached features stay as they are.
    """
    if not most or image.dtype != torch.uint8:
        return image
    down, right = (int(v) for v in torch.randint(-most, most + 1, (2,)))
    channels = image.permute(0, 3, 1, 2) if image.dim() == 4 else image[:, None]
    padded = torch.nn.functional.pad(channels.float(), (most,) * 4, mode="replicate")
    side = image.shape[2]
    top, left = most + down, most + right
    moved = padded[:, :, top : top + side, left : left + side].to(torch.uint8)
    return moved.permute(0, 2, 3, 1) if image.dim() == 4 else moved[:, 0]


class CaptionPredictor:
    """Writes a text for each image and tells how likely the reference is."""

    def __init__(
        self, model: Any, base: str | Path, device: torch.device, settings: Mapping[str, Any]
    ) -> None:
        """Take a trained model, its weights packed for prediction, and the task's settings."""
        self.model, self.device, self.settings = model.to(device).eval(), device, settings
        pack(self.model)
        self.normalize = Normalize.of(base).to(device)
        self.tokenizer = load_tokenizer(base)
        self._last: tuple[Tensor, list[Generated]] | None = None

    def truth(self, examples: AnyExamples) -> Mapping[str, Any]:
        """Return the references and their supervised tokens."""
        return examples.truth()

    def __call__(self, examples: AnyExamples, indices: Indices) -> Mapping[str, Sequence[Any]]:
        """Return `hypothesis`, and `nll`: that of the references, in nats (float64)."""
        batch = {k: v.to(self.device) for k, v in examples.batch(indices).items()}
        stream = list(
            image_stream(self.model, image_tokens(self.model, self.normalize, batch["image"]))
        )
        if isinstance(examples, ReferenceExamples):
            nll = examples.summed(reference_losses(self.model, stream, batch), indices)
        else:
            nll = text_losses(self.model, stream, batch["input_ids"], batch["labels"]).tolist()
        if examples.same is None:
            written = self._write(examples, stream, batch["image"])
        else:
            # One image for all has one text, whatever the batch.
            if self._last is None or self._last[0] is not examples.same:
                self._last = examples.same, self._write(examples, stream, batch["image"])
            written = self._last[1] * len(indices)
        decode = self.tokenizer.decode
        return {
            "hypothesis": [decode(t.tokens, skip_special_tokens=True).strip() for t in written],
            "nll": nll,
        }

    def log_odds(
        self, examples: AnyExamples, indices: Indices, pairs: Sequence[tuple[str, str]]
    ) -> list[list[float]]:
        """Return, for each example and pair of sentences, log p(first) - log p(second).

        Each follows the prompt, given the image, as the first sentence of a report.
        """
        image = examples.batch(indices)["image"].to(self.device)
        stream = list(image_stream(self.model, image_tokens(self.model, self.normalize, image)))
        texts = self.tokenizer(
            [sentence for pair in pairs for sentence in pair], add_special_tokens=False
        )["input_ids"]
        found = []
        each = 2 * max(1, MOST_TEXTS // len(image) // 2)
        for start in range(0, len(texts), each):
            part = texts[start : start + each]
            longest = max(map(len, part))
            rows = torch.tensor(
                [[*examples.prompt, *text] + [0] * (longest - len(text)) for text in part]
            )
            labels = rows.clone()
            labels[:, : len(examples.prompt)] = IGNORED
            for row, text in zip(labels, part, strict=True):
                row[len(examples.prompt) + len(text) :] = IGNORED
            ids, wanted = (t.repeat(len(image), 1).to(self.device) for t in (rows, labels))
            losses = text_losses(self.model, stream, ids, wanted).view(len(image), -1, 2)
            found.append(losses[..., 1] - losses[..., 0])
        told: list[list[float]] = torch.cat(found, dim=1).expand(len(indices), -1).tolist()
        return told

    def _write(
        self, examples: AnyExamples, stream: Sequence[LayerCache], image: Tensor
    ) -> list[Generated]:
        """Write a text for each image."""
        end, most = self.tokenizer.sep_token_id, self.settings["max_new_tokens"]
        if self.settings["num_beams"] == 1:
            prompts = [examples.prompt] * len(image)
            return generate_greedy(self.model, stream, prompts, end_token=end, max_new_tokens=most)
        return _beam_search(
            self.model, self.normalize, image, examples.prompt, end, most,
            self.settings["num_beams"],
        )  # fmt: skip


class ImageEncoder:
    """The vision tower and its projection, for arms that leave them alone."""

    dtype = np.float16

    def __init__(self, base: str | Path, device: torch.device) -> None:
        """Load the base for prediction on `device`."""
        self.device = device
        self.model = load_model(base).to(device).eval()
        self.normalize = Normalize.of(base).to(device)
        pack(self.model)

    def __call__(self, pixels: NDArray[np.uint8]) -> Tensor:
        """Return the projected image tokens (N, tokens, D) of grey pixels (N, H, W)."""
        return encode_image(self.model, self.normalize(torch.from_numpy(pixels).to(self.device)))


def _beam_search(
    model: Any,
    normalize: Normalize,
    pixels: Tensor,
    prompt: Sequence[int],
    end_token: int,
    max_new_tokens: int,
    num_beams: int,
) -> list[Generated]:
    """Beam search through transformers, which needs pixels rather than cached features."""
    ids = torch.tensor([list(prompt)] * len(pixels), device=pixels.device)
    found = git_of(model).generate(
        pixel_values=normalize(pixels),
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=max_new_tokens,
        num_beams=num_beams,
        do_sample=False,
        eos_token_id=end_token,
        pad_token_id=0,
    )
    texts = []
    for row in found[:, len(prompt) :].tolist():
        done = end_token in row
        texts.append(Generated(row[: row.index(end_token)] if done else row, done))
    return texts
