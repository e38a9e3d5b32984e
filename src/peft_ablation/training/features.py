"""The output of a frozen vision tower, computed once for all arms, seeds and epochs."""

import logging
import shutil
import sys
from pathlib import Path

import numpy as np
import torch
from numpy.lib.format import open_memmap
from tqdm import tqdm

from peft_ablation.artifacts import whole_file
from peft_ablation.bases.cpu_kernels import pack
from peft_ablation.bases.git import Normalize, encode_image
from peft_ablation.data.images import ImageCache
from peft_ablation.errors import InputError
from peft_ablation.tasks.captioning import load_model
from peft_ablation.training.chunk import mixed_precision
from peft_ablation.training.launch import own_devices

log = logging.getLogger(__name__)


@own_devices(1)
@torch.no_grad()
def cache_vision_features(
    *,
    base: str | Path,
    index: str | Path,
    batch_size: int,
    precision: str,
    threads: int,
    output: str | Path,
) -> None:
    """Write the projected image tokens of every cached image: float16 (images, tokens, D), .npy.

    The size is announced first; raises `InputError` if the disk has not that much free.
    """
    torch.set_num_threads(threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model, normalize = load_model(base).to(device).eval(), Normalize.of(base).to(device)
    pack(model)
    cache = ImageCache(index)
    probe = encode_image(model, normalize(torch.from_numpy(cache.pixels([0])).to(device)))
    shape = (len(cache), *probe.shape[1:])
    size = int(np.prod(shape)) * 2
    Path(output).parent.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(Path(output).parent).free
    log.info(
        "vision features of %d images: %.2f GB, %.1f GB free", len(cache), size / 1e9, free / 1e9
    )
    if size > free:
        raise InputError(
            f"{output}: vision features need {size / 1e9:.1f} GB, {free / 1e9:.1f} GB are free; "
            "free space or set train.cache_vision_features: false"
        )
    bf16 = mixed_precision(precision) == "bf16"
    with whole_file(output) as part:
        features = open_memmap(part, mode="w+", dtype=np.float16, shape=shape)
        begins = range(0, len(cache), batch_size)
        for begin in tqdm(begins, desc="vision features", disable=not sys.stderr.isatty()):
            places = np.arange(begin, min(begin + batch_size, len(cache)))
            pixels = normalize(torch.from_numpy(cache.pixels(places)).to(device))
            with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
                features[places] = encode_image(model, pixels).to(torch.float16).cpu().numpy()
        features.flush()
