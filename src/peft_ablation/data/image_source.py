"""Images of a cache as tensors: pixels, or what a frozen part of a base makes of them."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from peft_ablation.data.images import ImageCache
from peft_ablation.errors import InputError


class ImageSource:
    """Images by their position in a cache: uint8 pixels, or cached features in their place."""

    def __init__(self, index: str | Path, features: str | Path | None = None) -> None:
        """Open the image cache `index` and, where given, its features (.npy, first axis images)."""
        self.cache = ImageCache(index)
        self.features = np.load(features, mmap_mode="r", allow_pickle=False) if features else None
        if self.features is not None and len(self.features) != len(self.cache):
            raise InputError(
                f"{features}: features of {len(self.features)} images, the cache holds "
                f"{len(self.cache)}; delete the file and run again"
            )

    def __getitem__(self, positions: NDArray[np.int64]) -> Tensor:
        """Return pixels (B, H, W) or (B, H, W, 3) uint8, or features (B, …) in their own dtype."""
        if self.features is not None:
            return torch.from_numpy(np.ascontiguousarray(self.features[positions]))
        return torch.from_numpy(self.cache.pixels(positions))
