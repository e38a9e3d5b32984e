"""Images of a cache as tensors: pixels, or what a frozen part of a base makes of them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from peft_ablation.data.images import ImageCache, Positions
from peft_ablation.errors import InputError


class ImageSource:
    """Images of a cache by position: uint8 pixels, or cached features of a frozen part."""

    def __init__(self, index: str | Path, features: str | Path | None = None) -> None:
        """Open the image cache `index` and, where given, its features (N, …)."""
        self.cache = ImageCache(index)
        self.features = np.load(features, mmap_mode="r", allow_pickle=False) if features else None
        if self.features is not None and len(self.features) != len(self.cache):
            raise InputError(
                f"features: {features} holds {len(self.features)} images, the cache "
                f"{len(self.cache)}; delete the file and run again"
            )

    def __getitem__(self, positions: Positions) -> Tensor:
        """Return pixels (B, H, W) or (B, H, W, 3) uint8, or features (B, …) in their own dtype."""
        if self.features is not None:
            return torch.from_numpy(np.ascontiguousarray(self.features[positions]))
        return torch.from_numpy(self.cache.pixels(positions))

    def mean_of(self, ids: Sequence[str]) -> Tensor:
        """Return the mean of these examples' images as one batch of pixels (1, H, W[, 3]), uint8.

        Those whose image was dropped are left out.
        """
        places = self.cache.position(ids)
        return torch.from_numpy(self.cache.mean(places[places >= 0]))[None]
