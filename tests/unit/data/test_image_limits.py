"""Images at the edge of a rule: depth, shape, what follows the picture, and how many may be bad."""

import io
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

from peft_ablation.data.images import (
    INDEX_SCHEMA,
    ImageCache,
    ImageError,
    decode_radiograph,
    index_shards,
)
from peft_ablation.errors import InputError


def encoded(pixels: np.ndarray, kind: str = "PNG") -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind)
    return stream.getvalue()


# The scale of 8, 10, 12, 14, 16 bits ends at 255, 1023, 4095, 16383, 65535.
@pytest.mark.parametrize(
    ("peak", "grey"),
    [
        (255, 255), (256, 64), (1023, 255), (1024, 64), (4095, 255), (4096, 64), (16383, 255),
        (16384, 64), (65535, 255),
    ],
)  # fmt: skip
def test_depth_is_the_smallest_that_holds_the_peak(peak: int, grey: int) -> None:
    flat = np.full((20, 20), peak, np.uint16)
    assert (decode_radiograph(encoded(flat), 16) == grey).all()


def test_floats_run_from_their_minimum_to_their_maximum() -> None:
    pixels = np.repeat(np.float32([[-3.0, -1.0, 1.0]]), 8, axis=1).repeat(8, axis=0)
    found = decode_radiograph(encoded(pixels, "TIFF"), 8)
    assert found[4, 4] == pytest.approx(127.5, abs=1)  # the middle third of 24 columns
    pixels[0, 0] = np.inf  # no number, and so no part of the scale
    assert decode_radiograph(encoded(pixels, "TIFF"), 8)[4, 4] == found[4, 4]
    assert not decode_radiograph(encoded(np.full((9, 9), 7.0, np.float32), "TIFF"), 8).any()


def test_values_below_nought_are_black() -> None:
    pixels = np.array([[-5000, 255]], np.int32).repeat(12, axis=1).repeat(24, axis=0)
    found = decode_radiograph(encoded(pixels, "TIFF"), 24)
    assert (found[:, :10] == 0).all()
    assert (found[:, 14:] == 255).all()


def test_ten_times_as_long_as_wide_is_still_a_radiograph() -> None:
    assert decode_radiograph(encoded(np.zeros((160, 16), np.uint8)), 16).shape == (16, 16)
    with pytest.raises(ImageError, match="16 x 161 pixels is no radiograph"):
        decode_radiograph(encoded(np.zeros((161, 16), np.uint8)), 16)


def test_a_jpeg_may_be_followed_by_other_bytes() -> None:
    picture = encoded(np.full((40, 40), 90, np.uint8), "JPEG")
    found = decode_radiograph(picture + b"\0" * 100, 32)
    assert np.array_equal(found, decode_radiograph(picture, 32))


def index_of(folder: Path, bad: int, total: int = 8) -> tuple[Path, Path]:
    """A table of `total` images and the index of its one shard, the first `bad` of them missing."""
    rows = [(f"d{i}", f"files/d{i}.jpg") for i in range(total)]
    table, shard = folder / "examples.parquet", folder / "shard-0.parquet"
    pl.DataFrame(rows, schema=["example_id", "image"], orient="row").write_parquet(table)
    pl.DataFrame(
        [
            (f"d{i}", 0, *((-1, "missing", "no such file") if i < bad else (i, "ok", "")))
            for i in range(total)
        ],
        schema=INDEX_SCHEMA, orient="row",
    ).write_parquet(shard)  # fmt: skip
    return table, shard


def join(folder: Path, bad: int, allowed: float) -> pl.DataFrame:
    """The rows left of eight images, `bad` of them missing."""
    table, shard = index_of(folder, bad)
    index_shards(
        table, [shard], on_bad_image="drop", max_dropped_share=allowed,
        output=folder / "index.parquet", account=folder / "account.json",
    )  # fmt: skip
    return pl.read_parquet(folder / "index.parquet")


def test_exactly_the_share_that_may_be_bad_is_dropped(tmp_path: Path) -> None:
    assert join(tmp_path, 2, 0.25)["example_id"].to_list() == [f"d{i}" for i in range(2, 8)]


def test_more_than_the_share_that_may_be_bad_stops_the_run(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"allows 24\.00%, found 25\.00%"):
        join(tmp_path, 2, 0.24)


def cache_of(folder: Path, *sides: int) -> Path:
    """A cache of one image a shard, image and shard `i` of side `sides[i]`."""
    for shard, side in enumerate(sides):
        np.save(folder / f"shard-{shard}.npy", np.full((1, side, side), shard, np.uint8))
    rows = [(f"d{shard}", shard, 0, "ok", "") for shard in range(len(sides))]
    index = folder / "index.parquet"
    pl.DataFrame(rows, schema=INDEX_SCHEMA, orient="row").write_parquet(index)
    return index


def test_a_position_past_the_end_is_refused(tmp_path: Path) -> None:
    cache = ImageCache(cache_of(tmp_path, 4, 4))
    assert cache.pixels([1]).tolist() == np.ones((1, 4, 4)).tolist()
    with pytest.raises(IndexError, match=r"0\.\.1"):
        cache.pixels([2])


def test_shards_of_two_sizes_are_of_two_runs(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"shapes \[\(4, 4\), \(6, 6\)\].*forcerun cache_images"):
        ImageCache(cache_of(tmp_path, 4, 6))


def test_a_cache_of_no_image_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no image"):
        ImageCache(cache_of(tmp_path))
