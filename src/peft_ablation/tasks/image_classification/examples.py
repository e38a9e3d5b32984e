"""Labelled images of a split."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
import torch
from torch import Tensor

from peft_ablation.data.examples import Indices, read_columns, shuffled_positions
from peft_ablation.data.image_source import ImageSource
from peft_ablation.errors import InputError, near_miss
from peft_ablation.tasks._images import check_images


@dataclass(frozen=True)
class ImageExamples:
    """Labels of one split with the places of their images."""

    ids: list[str]
    """`example_id` of each example."""
    labels: list[str]
    """Name of each example's class."""
    targets: Indices
    """The same as the place of the class."""
    positions: Indices
    """Place of each example's image in the cache."""
    images: ImageSource
    same: Tensor | None = None
    """Pixels (1, H, W) or (1, H, W, 3) that all examples are given instead of their images."""

    def __len__(self) -> int:
        """Return the number of examples."""
        return len(self.ids)

    @property
    def lengths(self) -> Indices:
        """Return 1 for each example: all images are of one size."""
        return np.ones(len(self.ids), dtype=np.int64)

    def weight(self, indices: Indices) -> int:
        """Return the number of these examples."""
        return len(indices)

    def shuffled(self, seed: int) -> "ImageExamples":
        """Return the same labels beside one another's images."""
        return replace(self, positions=shuffled_positions(self.positions, seed))

    def with_mean_image(self, ids: Sequence[str]) -> "ImageExamples":
        """Return the same labels, all beside the mean image of these examples."""
        return replace(self, same=self.images.mean_of(ids))

    def batch(self, indices: Indices) -> dict[str, Tensor]:
        """Return `image`, pixels or features as `ImageSource` has them, and `label` (B,) int64.

        Of one image for all, `image` holds that one.
        """
        return {
            "image": self.images[self.positions[indices]] if self.same is None else self.same,
            "label": torch.from_numpy(self.targets[indices]),
        }


def examples(
    table: str | Path, images: ImageSource, classes: Sequence[str], base: str | Path
) -> ImageExamples:
    """Read the `label` column of a split; rows whose image was dropped are left out.

    Raises `InputError` for a label that is none of `classes`, and for images that `base` does not
    take.
    """
    check_images(images.cache, base)
    rows = read_columns(table, ("example_id", "label"))
    positions = images.cache.position(rows["example_id"].to_list())
    rows = rows.filter(pl.Series(positions >= 0))
    if rows.is_empty():
        raise InputError(f"{table}: no row has a usable image; see images/account.json")
    places = {name: place for place, name in enumerate(classes)}
    for example, label in rows.iter_rows():
        if label not in places:
            raise InputError(
                f"{table}: example {example!r} is of class {label!r}, which the training split has "
                f"not: {', '.join(classes)}{near_miss(str(label), classes)}"
            )
    labels = rows["label"].to_list()
    targets = np.array([places[label] for label in labels], dtype=np.int64)
    return ImageExamples(
        rows["example_id"].to_list(), labels, targets, positions[positions >= 0], images
    )
