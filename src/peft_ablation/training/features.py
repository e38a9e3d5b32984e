"""The output of a base's frozen part, computed once for all arms, seeds and epochs."""

import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.lib.format import open_memmap
from tqdm import tqdm

from peft_ablation.artifacts import whole_file
from peft_ablation.data.images import ImageCache
from peft_ablation.errors import InputError
from peft_ablation.logs import bars_hidden
from peft_ablation.tasks import open_task
from peft_ablation.training.chunk import mixed_precision
from peft_ablation.training.launch import own_devices

log = logging.getLogger(__name__)


@own_devices(1)
@torch.no_grad()
def cache_frozen_features(
    *,
    task: Mapping[str, Any],
    base: str | Path,
    train: str | Path,
    images: str | Path,
    batch_size: int,
    precision: str,
    threads: int,
    output: str | Path,
) -> None:
    """Write the features of every cached image: (images, …), .npy, in the frozen part's dtype.

    The size is announced first; raises `InputError` if the disk has not that much free.
    """
    torch.set_num_threads(threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    frozen = open_task(task, train).frozen_features(base, device)
    cache = ImageCache(images)
    probe = frozen(cache.pixels([0]))
    shape = (len(cache), *probe.shape[1:])
    size = int(np.prod(shape)) * np.dtype(frozen.dtype).itemsize
    Path(output).parent.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(Path(output).parent).free
    log.info("features of %d images: %.2f GB, %.1f GB free", len(cache), size / 1e9, free / 1e9)
    if size > free:
        raise InputError(
            f"{output}: features need {size / 1e9:.1f} GB, {free / 1e9:.1f} GB are free; "
            "free space or set train.cache_frozen_features: false"
        )
    bf16 = mixed_precision(precision) == "bf16"
    with whole_file(output) as part:
        features = open_memmap(part, mode="w+", dtype=frozen.dtype, shape=shape)
        begins = range(0, len(cache), batch_size)
        for begin in tqdm(begins, desc="features", disable=bars_hidden()):
            places = np.arange(begin, min(begin + batch_size, len(cache)))
            with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
                found = frozen(cache.pixels(places))
            features[places] = found.float().cpu().numpy().astype(frozen.dtype)
        features.flush()
