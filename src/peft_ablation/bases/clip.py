"""CLIP's image tower with a linear head, which texts can fill: a zero-shot classifier.

Radford et al., Learning Transferable Visual Models From Natural Language Supervision (2021),
https://arxiv.org/abs/2103.00020. An image is compared with a text of each class, so that the texts'
embeddings, times CLIP's logit scale, are the weights of a linear layer on the image's embedding
(as Wortsman et al. 2021, https://arxiv.org/abs/2109.01903, fine-tune it). The text tower is needed
to make that layer, and never again.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import CLIPForImageClassification
from transformers.modeling_outputs import ImageClassifierOutput

from peft_ablation.bases.classifier import quiet
from peft_ablation.bases.fetch import TOKENIZERS
from peft_ablation.errors import InputError

HEAD: Final = "classifier.weight"
_FORMER_END: Final = 2
"""End of a text in the configs of the first CLIPs, whose tokenizer ends with 49407."""
TEXTS: Final = 256
"""Texts the text tower is given at once."""


class Linear(nn.Linear):
    """`nn.Linear` in float32 also under autocast: from 16 on, bfloat16 has steps of an eighth.

    CLIP's logits are up to exp(logit_scale), 100, and classes differ by less than one.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Return input @ weight.T + bias, in float32."""
        with torch.autocast(input.device.type, enabled=False):
            return super().forward(input.float())


class CLIPZeroShotClassifier(CLIPForImageClassification):  # type: ignore[misc]
    """Vision tower, visual projection, unit length, linear `classifier` without a bias.

    Names of modules are those of `CLIPModel`, whose weights load as they are; its text tower is
    left out. transformers' own `CLIPForImageClassification` takes the mean of the patches and has
    no projection: it is another model, of which CLIP's texts know nothing.
    """

    _keys_to_ignore_on_load_unexpected: Final = [
        r"text_model\.",
        r"text_projection\.",
        "logit_scale",
    ]

    def __init__(self, config: Any) -> None:
        """Make it of a `CLIPConfig`; `num_labels` is the number of classes."""
        super().__init__(config)
        width, shared = config.vision_config.hidden_size, config.projection_dim
        self.visual_projection = nn.Linear(width, shared, bias=False)
        self.classifier = Linear(shared, config.num_labels, bias=False)
        self.post_init()

    @classmethod
    def from_config(cls, config: Any) -> "CLIPZeroShotClassifier":
        """Return one of random weights, as transformers' Auto classes are asked."""
        return cls(config)

    def forward(self, pixel_values: Tensor, **options: Any) -> ImageClassifierOutput:
        """Return logits (B, K) of normalised `pixel_values` (B, 3, H, W)."""
        seen = self.vision_model(pixel_values, **options)
        embedding = self.visual_projection(seen.pooler_output).float()
        embedding = functional.normalize(embedding, dim=-1)
        return ImageClassifierOutput(
            logits=self.classifier(embedding),
            hidden_states=seen.hidden_states,
            attentions=seen.attentions,
        )


def holds_head(folder: str | Path) -> bool:
    """Tell whether a folder holds a `CLIPZeroShotClassifier` rather than both towers."""
    from safetensors import safe_open

    for path in sorted(Path(folder).glob("*.safetensors")):
        with safe_open(path, "pt") as weights:
            if HEAD in weights.keys():  # noqa: SIM118
                return True
    return False


@torch.no_grad()
def prompt_weights(folder: str | Path, texts: Sequence[Sequence[str]]) -> Tensor:
    """Return the head (K, D) float32 that compares an image with the texts of each of K classes.

    `folder` holds a `CLIPModel` and its tokenizer. A class is the mean of its texts' embeddings of
    unit length, itself of unit length, times exp(logit_scale). Each text is run once, on a GPU
    where there is one. Raises `InputError` for a folder without text tower or tokenizer, and a
    text longer than it takes.
    """
    from transformers import CLIPModel

    with quiet():
        clip, found = CLIPModel.from_pretrained(
            folder, dtype=torch.float32, local_files_only=True, use_safetensors=True,
            output_loading_info=True,
        )  # fmt: skip
    lacking = sorted(found["missing_keys"])
    if lacking:
        raise InputError(
            f"base {folder}: no weights {lacking[0]!r} of a CLIP with both towers, which a head "
            "of texts needs; take the CLIP base itself, or set task.head: random"
        )
    encoded = _encoded(folder, [text for own in texts for text in own], clip.config.text_config)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    clip.to(device).eval()
    rows = []
    for begin in range(0, len(encoded["input_ids"]), TEXTS):
        part = {key: ids[begin : begin + TEXTS].to(device) for key, ids in encoded.items()}
        rows.append(functional.normalize(clip.get_text_features(**part).pooler_output, dim=-1))
    parts = iter(torch.cat(rows))
    means = [torch.stack([next(parts) for _ in own]).mean(0) for own in texts]
    weights: Tensor = functional.normalize(torch.stack(means), dim=-1) * clip.logit_scale.exp()
    return weights.cpu()


def _encoded(folder: str | Path, texts: Sequence[str], config: Any) -> dict[str, Tensor]:
    """Return `input_ids` and `attention_mask` (N, T) of texts, none of them cut."""
    from transformers import AutoTokenizer

    if not any(Path(folder, name).is_file() for name in TOKENIZERS):
        raise InputError(
            f"base {folder}: no tokenizer for the texts of task.templates; expected "
            f"{' or '.join(TOKENIZERS)} beside the weights"
        )
    with quiet():
        tokenizer = AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
        encoded = tokenizer(list(texts), padding=True, return_tensors="pt")
    if config.eos_token_id == _FORMER_END and tokenizer.eos_token_id != len(tokenizer) - 1:
        raise InputError(
            f"base {folder}: text_config.eos_token_id is {_FORMER_END}, by which transformers "
            "takes the highest token of a text for its end, and the tokenizer's end is not the "
            "highest; choose another base"
        )
    mask, most = encoded["attention_mask"], config.max_position_embeddings
    longest = int(mask.sum(1).argmax())
    if mask.shape[1] > most:
        raise InputError(
            f"task.templates: {texts[longest]!r} is {mask.shape[1]} tokens long, the base takes "
            f"{most}; shorten it"
        )
    return {"input_ids": encoded["input_ids"], "attention_mask": mask}
