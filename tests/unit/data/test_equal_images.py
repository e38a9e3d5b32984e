"""Equal images in two splits are found by their pixels."""

from pathlib import Path

import numpy as np
import polars as pl
from PIL import Image

from peft_ablation.artifacts import read_json
from peft_ablation.data.equal_images import count_equal_images
from peft_ablation.data.images import cache_shard, index_shards


def test_images_of_equal_pixels_are_counted_by_pair_of_splits(tmp_path: Path) -> None:
    """a and c are one picture in two formats, d is a twice; b and e differ by one grey level."""
    picture = np.arange(32 * 32, dtype=np.uint8).reshape(32, 32)
    other = picture.copy()
    other[0, 0] += 1
    kinds = {"a.png": picture, "b.png": picture[::-1], "c.bmp": picture, "d.png": picture,
             "e.png": other}  # fmt: skip
    for name, pixels in kinds.items():
        Image.fromarray(pixels).save(tmp_path / name)
    table = pl.DataFrame({"example_id": list("abcde"), "image": list(kinds)})
    table.write_parquet(tmp_path / "examples.parquet")
    cache_shard(
        tmp_path / "examples.parquet", shard=0, shards=1, size=32, colour=False, verify=False,
        root=tmp_path, cloud=None, pixels=tmp_path / "shard-0.npy", index=tmp_path / "s.parquet",
    )  # fmt: skip
    index_shards(
        tmp_path / "examples.parquet", [tmp_path / "s.parquet"], on_bad_image="fail",
        max_dropped_share=0, output=tmp_path / "index.parquet", account=tmp_path / "a.json",
    )  # fmt: skip
    splits = {"train": "ab", "val": "c", "test": "de"}
    for name, ids in splits.items():
        table.filter(pl.col("example_id").is_in(list(ids))).write_parquet(
            tmp_path / f"{name}.parquet"
        )
    count_equal_images(
        tmp_path / "index.parquet",
        {name: tmp_path / f"{name}.parquet" for name in splits},
        account=tmp_path / "equal.json",
    )
    assert read_json(tmp_path / "equal.json") == {
        "images": {"train": 2, "val": 1, "test": 2},
        "distinct": {"train": 2, "val": 1, "test": 2},
        "equal_images": {"train_val": 1, "train_test": 1, "val_test": 1},
    }
