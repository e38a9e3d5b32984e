"""Pixels to channels, by the mean and deviation that a base says it was trained with."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from peft_ablation.bases.pixels import CLIP_MEAN, CLIP_STD, Normalize

OWN = {"image_mean": [0.5, 0.25, 0.0], "image_std": [0.5, 0.125, 1.0]}


def channels(folder: Path) -> list[list[float]]:
    """Channels of a black and of a white pixel."""
    pixels = torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1)
    normalised = Normalize.of(folder)(pixels)
    assert normalised.shape == (2, 3, 1, 1)
    found: list[list[float]] = normalised[:, :, 0, 0].tolist()
    return found


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("preprocessor_config.json", OWN),
        ("processor_config.json", {"image_processor": OWN, "processor_class": "GitProcessor"}),
    ],
)
def test_mean_and_deviation_are_those_of_the_base(
    name: str, content: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / name).write_text(json.dumps(content))
    black, white = channels(tmp_path)
    assert black == pytest.approx([-1, -2, 0], abs=1e-6)
    assert white == pytest.approx([1, 6, 1], abs=1e-6)


def test_without_them_they_are_clips(tmp_path: Path) -> None:
    (tmp_path / "preprocessor_config.json").write_text('{"size": 224}')
    black, white = channels(tmp_path)
    assert black == pytest.approx([-m / s for m, s in zip(CLIP_MEAN, CLIP_STD, strict=True)])
    assert white == pytest.approx([(1 - m) / s for m, s in zip(CLIP_MEAN, CLIP_STD, strict=True)])
