"""Pixels as a base wants them: normalised on the device they are on."""

from pathlib import Path
from typing import Final

import torch
from torch import Tensor, nn

from peft_ablation.artifacts import read_json

Channels = tuple[float, ...]

CLIP_MEAN: Final[Channels] = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD: Final[Channels] = (0.26862954, 0.26130258, 0.27577711)
IMAGENET_MEAN: Final[Channels] = (0.485, 0.456, 0.406)
IMAGENET_STD: Final[Channels] = (0.229, 0.224, 0.225)


class Normalize(nn.Module):
    """uint8 pixels, grey (B, H, W) or RGB (B, H, W, 3), to the base's channels (B, 3, H, W)."""

    def __init__(self, mean: Channels, std: Channels) -> None:
        """Take the base's per-channel `mean` and `std`, on the scale 0 to 1."""
        super().__init__()
        channel_mean, channel_std = (torch.tensor(v).view(1, 3, 1, 1) for v in (mean, std))
        self.register_buffer("scale", 1 / (255 * channel_std), persistent=False)
        self.register_buffer("shift", -channel_mean / channel_std, persistent=False)

    @classmethod
    def of(
        cls, base: str | Path, mean: Channels = CLIP_MEAN, std: Channels = CLIP_STD
    ) -> "Normalize":
        """Read a base folder's `preprocessor_config.json`; without it take `mean` and `std`."""
        for name in ("preprocessor_config.json", "processor_config.json"):
            path = Path(base, name)
            if path.is_file():
                found = read_json(path)
                found = found.get("image_processor", found)
                if "image_mean" in found:
                    return cls(tuple(found["image_mean"]), tuple(found["image_std"]))
        return cls(mean, std)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return float channels; a grey image has the same value in each before normalisation."""
        scale, shift = self.get_buffer("scale"), self.get_buffer("shift")
        channels = pixels.permute(0, 3, 1, 2) if pixels.dim() == 4 else pixels.unsqueeze(1)
        return channels.to(scale.dtype) * scale + shift
