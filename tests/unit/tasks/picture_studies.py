"""Tiny classifiers of several kinds, and cached pictures to classify."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from PIL import Image

from peft_ablation.data.examples import checked_examples
from peft_ablation.data.images import cache_shard, index_shards
from peft_ablation.sources.class_folders import read_class_folders
from peft_ablation.tasks.image_classification import ImageClassification, Settings

SIZE = 32
COLOURS = {"blue": (30, 30, 200), "green": (30, 200, 30), "red": (200, 30, 30)}


def _vit(**changes: Any) -> dict[str, Any]:
    return {
        "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
        "intermediate_size": 64, "image_size": SIZE, "patch_size": 8, **changes,
    }  # fmt: skip


CONFIGS: dict[str, tuple[str, dict[str, Any]]] = {
    "vit": ("ViTForImageClassification", _vit()),
    "bare_vit": ("ViTModel", _vit()),
    "deit": ("DeiTForImageClassification", _vit()),
    "dinov2": ("Dinov2ForImageClassification", _vit()),
    "clip": (
        "CLIPModel",
        {
            "vision_config": _vit(),
            "text_config": {
                "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
                "intermediate_size": 32, "vocab_size": 99, "bos_token_id": 1, "eos_token_id": 2,
            },
        },
    ),
    "swin": (
        "SwinForImageClassification",
        {
            "embed_dim": 8, "depths": [1, 1], "num_heads": [1, 2], "window_size": 4,
            "image_size": SIZE, "patch_size": 4,
        },
    ),
    "resnet": (
        "ResNetForImageClassification",
        {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "layer_type": "basic"},
    ),
    "convnext": (
        "ConvNextForImageClassification", {"depths": [1, 1, 1, 1], "hidden_sizes": [8, 8, 16, 16]}
    ),
}  # fmt: skip


def make_base(folder: Path, kind: str, labels: Sequence[str] = (), **config: Any) -> Path:
    """Write a model with random weights, and BatchNorm statistics that are not those of birth."""
    import transformers

    name, settings = CONFIGS[kind]
    model_class = getattr(transformers, name)
    made = model_class.config_class(**settings, **config)
    if labels:
        made.id2label = dict(enumerate(labels))
        made.label2id = {label: place for place, label in enumerate(labels)}
    torch.manual_seed(5)
    model = model_class(made)
    for buffer in model.buffers():
        if buffer.is_floating_point():
            buffer.add_(torch.rand_like(buffer))
    model.save_pretrained(folder)
    return folder


@dataclass(frozen=True)
class PictureStudy:
    """A cached folder of pictures with its splits."""

    folder: Path

    @property
    def assets(self) -> dict[str, str | Path]:
        return {"images": self.folder / "index.parquet"}

    def split(self, name: str) -> Path:
        return self.folder / f"{name}.parquet"

    def task(self, **settings: Any) -> ImageClassification:
        chosen = Settings(name="image_classification", **settings).model_dump(mode="json")
        return ImageClassification(chosen, pl.read_parquet(self.split("train")))


def cached(
    root: Path, folder: Path, *, size: int = SIZE, colour: bool = True, **settings: Any
) -> PictureStudy:
    """Cache a folder of class folders whose splits are given."""
    table = checked_examples(read_class_folders(root, **settings)[0], "class_folders")
    folder.mkdir(parents=True, exist_ok=True)
    table.write_parquet(folder / "examples.parquet")
    for name in ("train", "val", "test"):
        table.filter(pl.col("split") == name).write_parquet(folder / f"{name}.parquet")
    cache_shard(
        folder / "examples.parquet", shard=0, shards=1, size=size, colour=colour, verify=False,
        root=root, cloud=None, pixels=folder / "shard-0.npy", index=folder / "shard-0.parquet",
    )  # fmt: skip
    index_shards(
        folder / "examples.parquet", [folder / "shard-0.parquet"], on_bad_image="drop",
        max_dropped_share=0.5, output=folder / "index.parquet", account=folder / "account.json",
    )  # fmt: skip
    return PictureStudy(folder)


def paint(
    root: Path, rows: Callable[[str, str], int], colours: dict[str, tuple[int, int, int]] = COLOURS
) -> Path:
    """Write noisy pictures of one colour a class; `rows(split, class)` says how many."""
    source = np.random.default_rng(0)
    for split in ("train", "val", "test"):
        for name, colour in colours.items():
            folder = root / split / name
            folder.mkdir(parents=True)
            for place in range(rows(split, name)):
                noise = source.normal(0, 40, (SIZE, SIZE, 3))
                pixels = (np.array(colour) + noise).clip(0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / f"{place}.png")
    return root
