"""Images that two splits share, pixel by pixel, whatever their files are called."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import polars as pl

from peft_ablation.artifacts import write_json
from peft_ablation.data.images import ImageCache
from peft_ablation.data.splits import leakage

_AT_A_TIME = 256


def count_equal_images(
    index: str | Path, splits: Mapping[str, str | Path], *, account: str | Path
) -> None:
    """Write how many distinct images are in both of each pair of splits, and how often in all.

    Two images are equal where all their pixels are, in the size of the cache beside `index`: one
    that was saved anew with other pixels is another. `splits` are tables with `example_id`.
    """
    cache = ImageCache(index)
    parts = {}
    for split, table in splits.items():
        ids = pl.read_parquet(table, columns=["example_id"])["example_id"].to_list()
        places = cache.position(ids)
        places = places[places >= 0]
        digests = [
            hashlib.blake2b(pixels.tobytes(), digest_size=16).hexdigest()
            for start in range(0, len(places), _AT_A_TIME)
            for pixels in cache.pixels(places[start : start + _AT_A_TIME])
        ]
        parts[split] = pl.DataFrame({"pixels": pl.Series(digests, dtype=pl.String)})
    rows = {split: part.height for split, part in parts.items()}
    distinct = {split: part["pixels"].n_unique() for split, part in parts.items()}
    write_json(
        account,
        {"images": rows, "distinct": distinct, "equal_images": leakage(parts, ("pixels",))},
    )
