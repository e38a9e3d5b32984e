"""Decoding against full decode and against transformers; the cache's files; bad images by name."""

import hashlib
import io
import shutil
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

from peft_ablation.artifacts import read_json
from peft_ablation.data.images import (
    ImageCache,
    ImageError,
    cache_shard,
    decode_radiograph,
    image_path,
    index_shards,
    shard_rows,
)
from peft_ablation.errors import InputError


def encoded(image: Image.Image, kind: str = "JPEG", **options) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def gradient(width: int, height: int) -> Image.Image:
    """A ramp from 0 (left) to 255 (right)."""
    row = np.linspace(0, 255, width).round().astype(np.uint8)
    return Image.fromarray(np.tile(row, (height, 1)))


def full_decode(data: bytes, size: int) -> np.ndarray:
    """Reference: whole decode, antialiased bicubic of the shortest side, centre crop."""
    image = Image.open(io.BytesIO(data)).convert("L")
    width, height = image.size
    longer = int(size * max(width, height) / min(width, height))
    shape = (size, longer) if width <= height else (longer, size)
    image = image.resize(shape, Image.Resampling.BICUBIC)
    left, top = (shape[0] - size) // 2, (shape[1] - size) // 2
    return np.asarray(image.crop((left, top, left + size, top + size)))


def transformers_pixels(data: bytes, size: int) -> np.ndarray:
    """What the processor of git-base makes of the same bytes, before rescale and normalise."""
    from transformers import CLIPImageProcessorPil

    assert "torchvision" not in sys.modules
    processor = CLIPImageProcessorPil(
        size={"shortest_edge": size},
        crop_size={"height": size, "width": size},
        do_rescale=False,
        do_normalize=False,
    )
    image = Image.open(io.BytesIO(data))
    return np.asarray(processor(image, return_tensors="np")["pixel_values"][0])


def largest_difference(left: np.ndarray, right: np.ndarray) -> int:
    return int(np.abs(left.astype(int) - right.astype(int)).max())


def test_path_is_that_of_mimic_cxr_jpg():
    # As PhysioNet's page of MIMIC-CXR-JPG prints it.
    dicom = "02aa804e-bde0afdd-112c0b34-7bc16630-4e384014"
    assert image_path(10000032, 50414267, dicom) == f"files/p10/p10000032/s50414267/{dicom}.jpg"


@pytest.mark.parametrize("size", [48, 224, 384])
def test_real_jpegs_stay_within_3_grey_levels_of_a_full_decode(shared_data, size):
    files = sorted((shared_data / "hannover-cxr" / "2000px").glob("*.jpg"))
    assert len(files) == 21
    worst = max(
        largest_difference(decode_radiograph(data, size), full_decode(data, size))
        for data in (file.read_bytes() for file in files)
    )
    assert worst <= 3


def test_decode_equals_the_processor_of_git_base_on_real_radiographs(shared_data):
    jpegs = sorted((shared_data / "hannover-cxr" / "2000px").glob("*.jpg"))[:4]
    pngs = sorted((shared_data / "hannover-cxr" / "640px").glob("*.png"))[:6]
    small = sorted((shared_data / "nih-cxr-mimic-layout" / "files").rglob("*.jpg"))[:6]
    for file in jpegs + pngs + small:
        data = file.read_bytes()
        theirs = transformers_pixels(data, 224)
        assert theirs.shape == (3, 224, 224)
        allowed = 3 if file in jpegs else 0  # only the large JPEGs are decoded at reduced scale
        for channel in theirs:
            assert largest_difference(decode_radiograph(data, 224), channel) <= allowed


@pytest.mark.parametrize(("width", "height"), [(301, 200), (200, 301), (225, 225), (224, 224)])
def test_any_shape_gives_the_pixels_of_transformers(width, height):
    data = encoded(gradient(width, height), "PNG")
    assert largest_difference(decode_radiograph(data, 224), transformers_pixels(data, 224)[0]) == 0


def test_reduced_scale_keeps_the_image_in_place_when_sides_do_not_divide():
    data = encoded(gradient(2001, 2003), quality=95)
    assert largest_difference(decode_radiograph(data, 100), full_decode(data, 100)) <= 1


def test_sixteen_bit_png_uses_the_depth_that_its_brightest_pixel_needs():
    for top in (4095, 65535):
        pixels = np.array([[0, top], [top // 2, top // 4]], np.uint16).repeat(16, 0).repeat(16, 1)
        found = decode_radiograph(encoded(Image.fromarray(pixels), "PNG"), 32)
        assert found[8, 8] == 0
        assert found[8, 24] == 255
        assert found[24, 8] == 127
        assert found[24, 24] == 64


def test_colour_palette_transparency_and_bilevel_become_grey():
    colour = Image.new("RGB", (40, 40), (255, 0, 0))
    assert (decode_radiograph(encoded(colour, "PNG"), 32) == 76).all()  # 0.299 x 255
    assert (decode_radiograph(encoded(colour.convert("P"), "PNG"), 32) == 76).all()
    clear = Image.new("RGBA", (40, 40), (100, 100, 100, 0))
    assert (decode_radiograph(encoded(clear, "PNG"), 32) == 100).all()
    bilevel = Image.new("1", (40, 40), 1)
    assert (decode_radiograph(encoded(bilevel, "PNG"), 32) == 255).all()
    assert abs(int(decode_radiograph(encoded(colour, quality=95), 32)[0, 0]) - 76) <= 1


JPEG = encoded(gradient(300, 300), quality=95)
PNG = encoded(gradient(300, 300), "PNG")


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (JPEG[: len(JPEG) // 2], "truncated"),
        (JPEG[:-2], "truncated"),
        (PNG[: len(PNG) // 2], "truncated"),
        (b"<html>403</html>", "undecodable"),
        (b"\xff\xd8\xff\xd9", "undecodable"),
        (encoded(gradient(1000, 20), "PNG"), "undecodable"),
    ],
)
def test_bytes_that_are_no_whole_radiograph_are_told_apart(data, status):
    with pytest.raises(ImageError) as caught:
        decode_radiograph(data, 32)
    assert caught.value.status == status


def test_no_garbage_escapes_as_another_exception():
    rng = np.random.default_rng(1)
    for kind in (JPEG, PNG):
        for _ in range(100):
            data = bytearray(kind[: rng.integers(1, len(kind))])
            for place in rng.integers(0, len(data), 5):
                data[place] ^= 1 << rng.integers(0, 8)
            try:
                assert decode_radiograph(bytes(data), 16).shape == (16, 16)
            except ImageError as error:
                assert error.status in {"truncated", "undecodable"}


def make_tree(root: Path, count: int, suffix: str = ".jpg") -> Path:
    """Lay out `count` flat grey images of value 10 * i with SHA256SUMS; return the table."""
    rows = [(f"d{i}", 10_000_000 + i // 2, 50_000_000 + i) for i in range(count)]
    lines = []
    for i, (dicom, subject, study) in enumerate(rows):
        path = image_path(subject, study, dicom, suffix)
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        kind = "PNG" if suffix == ".png" else "JPEG"
        (root / path).write_bytes(encoded(Image.new("L", (40, 30), 10 * i), kind))
        digest = hashlib.sha256((root / path).read_bytes()).hexdigest()
        lines.append(f"{digest}  {path}\n")
    (root / "SHA256SUMS.txt").write_text("".join(lines))
    table = root / "reports.parquet"
    pl.DataFrame(rows, schema=["dicom_id", "subject_id", "study_id"], orient="row").write_parquet(
        table
    )
    return table


def build(folder: Path, table: Path, shards: int = 2, **changes) -> list[Path]:
    images = folder / "images"
    for shard in range(shards):
        settings = {"size": 16, "verify": True, "root": folder, "cloud": None} | changes
        cache_shard(
            table,
            shard=shard,
            shards=shards,
            pixels=images / f"shard-{shard}.npy",
            index=images / f"shard-{shard}.parquet",
            **settings,
        )
    return [images / f"shard-{shard}.parquet" for shard in range(shards)]


def join(root: Path, table: Path, shards: list[Path], how: str = "fail", share: float = 0.01):
    output, account = root / "images" / "index.parquet", root / "images" / "account.json"
    index_shards(
        table, shards, on_bad_image=how, max_dropped_share=share, output=output, account=account
    )
    return output, account


@pytest.mark.parametrize(("n", "shards"), [(10, 3), (2, 5), (693, 64), (7, 7)])
def test_shards_hold_the_rows_that_the_rule_names(n, shards):
    table = pl.DataFrame({"i": range(n)})
    for shard in range(shards):
        expected = [i for i in range(n) if i * shards // n == shard]
        assert shard_rows(table, shard, shards)["i"].to_list() == expected


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
@pytest.mark.parametrize("shards", [1, 3, 9])  # nine shards of seven images: some are empty
def test_cache_gives_each_image_its_own_pixels(tmp_path, suffix, shards):
    table = make_tree(tmp_path, 7, suffix)
    index, account = join(tmp_path, table, build(tmp_path, table, shards))
    cache = ImageCache(index)
    assert (len(cache), cache.size) == (7, 16)
    order = ["d5", "d0", "d6", "d3"]
    pixels = cache.pixels(cache.position(order))
    assert pixels.shape == (4, 16, 16)
    assert pixels.dtype == np.uint8
    assert [int(image[8, 8]) for image in pixels] == [50, 0, 60, 30]
    assert cache.pixels([]).shape == (0, 16, 16)
    assert read_json(account)["rows_out"] == 7


def test_same_tree_gives_the_same_bytes(tmp_path):
    table = make_tree(tmp_path, 5)
    first = [path.read_bytes() for path in build(tmp_path, table)]
    pixels = (tmp_path / "images" / "shard-0.npy").read_bytes()
    assert [path.read_bytes() for path in build(tmp_path, table)] == first
    assert (tmp_path / "images" / "shard-0.npy").read_bytes() == pixels


def spoil(root: Path) -> None:
    """Make images 1, 2, 3, 4, 5 missing, empty, cut, no image and altered."""
    files = {int(file.stem[1:]): file for file in (root / "files").rglob("*.jpg")}
    files[1].unlink()
    files[2].write_bytes(b"")
    files[3].write_bytes(files[3].read_bytes()[:200])
    files[4].write_bytes(b"not an image")
    altered = bytearray(files[5].read_bytes())
    altered[-20] ^= 1
    files[5].write_bytes(altered)


def test_each_bad_image_is_a_named_row_and_the_run_stops_in_one_line(tmp_path):
    table = make_tree(tmp_path, 8)
    spoil(tmp_path)
    shards = build(tmp_path, table)
    status = dict(pl.concat(map(pl.read_parquet, shards)).select("dicom_id", "status").iter_rows())
    assert status == {
        "d0": "ok",
        "d1": "missing",
        "d2": "empty",
        "d3": "checksum",
        "d4": "checksum",
        "d5": "checksum",
        "d6": "ok",
        "d7": "ok",
    }
    with pytest.raises(InputError) as caught:
        join(tmp_path, table, shards)
    line = str(caught.value)
    assert "\n" not in line
    assert "5 of 8 are bad (3 checksum, 1 empty, 1 missing)" in line
    assert "files/p10/p10000000/s50000001/d1.jpg (missing: no such file)" in line
    assert "on_bad_image: drop" in line
    assert not (tmp_path / "images" / "index.parquet").exists()


def test_without_checksums_the_decoder_finds_what_it_can(tmp_path):
    table = make_tree(tmp_path, 8)
    spoil(tmp_path)
    index = pl.concat(map(pl.read_parquet, build(tmp_path, table, verify=False)))
    status = dict(index.select("dicom_id", "status").iter_rows())
    assert [status[f"d{i}"] for i in range(1, 5)] == [
        "missing",
        "empty",
        "truncated",
        "undecodable",
    ]


def test_dropped_images_are_counted_named_and_left_out(tmp_path):
    table = make_tree(tmp_path, 8)
    spoil(tmp_path)
    shards = build(tmp_path, table)
    index, account = join(tmp_path, table, shards, "drop", 0.7)
    cache = ImageCache(index)
    assert cache.position(["d0", "d1", "d7"]).tolist() == [0, -1, 2]
    assert int(cache.pixels([2])[0, 0, 0]) == 70
    told = read_json(account)
    assert told["dropped"] == {"checksum": 3, "empty": 1, "missing": 1}
    assert (told["rows_in"], told["rows_out"]) == (8, 3)
    assert [bad["dicom_id"] for bad in told["bad_images"]] == ["d1", "d2", "d3", "d4", "d5"]
    with pytest.raises(IndexError):
        cache.pixels([-1])


def test_more_bad_images_than_allowed_stop_the_run(tmp_path):
    table = make_tree(tmp_path, 8)
    spoil(tmp_path)
    with pytest.raises(InputError, match=r"max_dropped_share allows 50.00%, found 62.50%"):
        join(tmp_path, table, build(tmp_path, table), "drop", 0.5)


def test_an_image_that_the_checksums_do_not_list_is_bad(tmp_path):
    table = make_tree(tmp_path, 3)
    sums = tmp_path / "SHA256SUMS.txt"
    sums.write_text("".join(sums.read_text().splitlines(keepends=True)[:2]))
    with pytest.raises(InputError, match=r"d2\.jpg \(checksum: not listed in SHA256SUMS"):
        join(tmp_path, table, build(tmp_path, table))


def test_a_line_that_is_no_checksum_is_named(tmp_path):
    table = make_tree(tmp_path, 3)
    (tmp_path / "SHA256SUMS.txt").write_text("d41d8  files/x.jpg\n")
    with pytest.raises(InputError, match=r"SHA256SUMS\.txt: line 1 is not"):
        build(tmp_path, table)
    assert not (tmp_path / "images").exists()


def test_shards_of_an_earlier_table_are_refused(tmp_path):
    table = make_tree(tmp_path, 4)
    shards = build(tmp_path, table)
    pl.read_parquet(table).reverse().write_parquet(table)
    with pytest.raises(InputError, match="forcerun cache_images"):
        join(tmp_path, table, shards)


def test_a_failure_in_the_middle_leaves_no_shard(tmp_path, monkeypatch):
    table = make_tree(tmp_path, 4)
    calls = iter(range(2))
    monkeypatch.setattr(
        "peft_ablation.data.images.decode_radiograph",
        lambda data, size: np.full((size, size), next(calls), np.uint8),
    )
    with pytest.raises((StopIteration, RuntimeError)):
        build(tmp_path, table, 1)
    assert list((tmp_path / "images").iterdir()) == []


def test_the_real_tree_is_cached_whole(shared_data, tmp_path):
    root = shared_data / "nih-cxr-mimic-layout"
    metadata = pl.read_csv(root / "mimic-cxr-2.0.0-metadata.csv.gz")
    table = tmp_path / "reports.parquet"
    metadata.select("dicom_id", "subject_id", "study_id").write_parquet(table)
    shards = build(tmp_path, table, 2, root=root, size=48)
    index, _ = join(tmp_path, table, shards)
    cache = ImageCache(index)
    assert len(cache) == 693
    row = metadata.row(400, named=True)
    file = root / image_path(row["subject_id"], row["study_id"], row["dicom_id"])
    expected = full_decode(file.read_bytes(), 48)
    assert (cache.pixels(cache.position([row["dicom_id"]]))[0] == expected).all()


def test_png_is_read_only_where_there_is_no_jpg(tmp_path):
    table = make_tree(tmp_path, 2)
    jpg = next((tmp_path / "files").rglob("d1.jpg"))
    Image.new("L", (40, 30), 200).save(jpg.with_suffix(".png"))
    index, _ = join(tmp_path, table, build(tmp_path, table))
    assert int(ImageCache(index).pixels([1])[0, 0, 0]) == 10
    shutil.move(jpg, jpg.with_suffix(".kept"))
    index, _ = join(tmp_path, table, build(tmp_path, table, verify=False))
    assert int(ImageCache(index).pixels([1])[0, 0, 0]) == 200
