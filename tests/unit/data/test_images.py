"""Decoding against full decode and against transformers; the cache's files; bad images by name."""

import hashlib
import io
import resource
import shutil
import struct
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
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
    index_shards,
    shard_rows,
)
from peft_ablation.errors import InputError
from peft_ablation.sources.mimic.layout import image_path


def encoded(image: Image.Image, kind: str = "JPEG", **options) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def gradient(width: int, height: int) -> Image.Image:
    """A ramp from 0 (left) to 255 (right)."""
    row = np.linspace(0, 255, width).round().astype(np.uint8)
    return Image.fromarray(np.tile(row, (height, 1)))


def full_decode(data: bytes, size: int, mode: str = "L") -> np.ndarray:
    """Reference: whole decode, antialiased bicubic of the shortest side, centre crop."""
    image = Image.open(io.BytesIO(data)).convert(mode)
    width, height = image.size
    longer = int(size * max(width, height) / min(width, height))
    shape = (size, longer) if width <= height else (longer, size)
    image = image.resize(shape, Image.Resampling.BICUBIC)
    left, top = (shape[0] - size) // 2, (shape[1] - size) // 2
    return np.asarray(image.crop((left, top, left + size, top + size)))


def transformers_pixels(data: bytes, size: int) -> np.ndarray:
    """What the processor of git-base makes of the same bytes, (3, size, size), not normalised."""
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


@pytest.mark.parametrize(("width", "height"), [(305, 200), (200, 305), (225, 225), (224, 224)])
def test_any_shape_gives_the_pixels_of_transformers(width, height):
    data = encoded(gradient(width, height), "PNG")
    assert largest_difference(decode_radiograph(data, 224), transformers_pixels(data, 224)[0]) == 0


def test_reduced_scale_keeps_the_image_in_place_when_sides_do_not_divide():
    data = encoded(gradient(2001, 2003), quality=95)
    assert largest_difference(decode_radiograph(data, 100), full_decode(data, 100)) <= 1


def test_reduced_scale_does_not_stretch_the_image():
    # A quarter of 1602 is 400.5 pixels, of which libjpeg makes 401: half a pixel is padding. Waves
    # tell a shift by 0.1 of a pixel from none.
    waves = 127 * np.sin(np.arange(1602) * 2 * np.pi / 96)
    pixels = np.tile((128 + waves).astype(np.uint8), (1602, 1))
    data = encoded(Image.fromarray(pixels), quality=95)
    assert largest_difference(decode_radiograph(data, 100), full_decode(data, 100)) <= 3


def test_sixteen_bit_png_uses_the_depth_that_its_brightest_pixel_needs():
    for top in (4095, 65535):
        pixels = np.array([[0, top], [top // 2, top // 4]], np.uint16).repeat(16, 0).repeat(16, 1)
        found = decode_radiograph(encoded(Image.fromarray(pixels), "PNG"), 32)
        assert found[8, 8] == 0
        assert found[8, 24] == 255
        assert found[24, 8] == 127
        assert found[24, 24] == 64


def test_floats_run_from_their_least_to_their_largest_and_negative_integers_are_black():
    blocks = np.array([[-1, 0], [1, np.nan]], np.float32).repeat(16, 0).repeat(16, 1)
    found = decode_radiograph(encoded(Image.fromarray(blocks), "TIFF"), 32)
    assert found[8::16, 8::16].tolist() == [[0, 128], [255, 128]]
    blocks = np.array([[-7, 1023], [511, 0]], np.int32).repeat(16, 0).repeat(16, 1)
    found = decode_radiograph(encoded(Image.fromarray(blocks), "TIFF"), 32)
    assert found[8::16, 8::16].tolist() == [[0, 255], [127, 0]]


def test_colour_palette_transparency_and_bilevel_become_grey():
    colour = Image.new("RGB", (40, 40), (255, 0, 0))
    assert (decode_radiograph(encoded(colour, "PNG"), 32) == 76).all()  # 0.299 x 255
    assert (decode_radiograph(encoded(colour.convert("P"), "PNG"), 32) == 76).all()
    clear = Image.new("RGBA", (40, 40), (100, 100, 100, 0))
    assert (decode_radiograph(encoded(clear, "PNG"), 32) == 100).all()
    bilevel = Image.new("1", (40, 40), 1)
    assert (decode_radiograph(encoded(bilevel, "PNG"), 32) == 255).all()
    assert abs(int(decode_radiograph(encoded(colour, quality=95), 32)[0, 0]) - 76) <= 1


def test_photographs_in_colour_are_the_pixels_of_transformers(shared_data):
    files = sorted((shared_data / "imagewoof-160" / "val").rglob("*.JPEG"))
    assert len(files) == 150
    colours = 0
    for file in files[::10]:
        data = file.read_bytes()
        found = decode_radiograph(data, 64, colour=True)
        assert found.shape == (64, 64, 3)
        assert largest_difference(found, transformers_pixels(data, 64).transpose(1, 2, 0)) == 0
        colours += int((found[..., 0] != found[..., 2]).any())
    assert colours > 10


def test_large_photographs_in_colour_stay_close_to_a_full_decode():
    ramp = np.asarray(gradient(2001, 1600))
    pixels = np.stack([ramp, ramp[:, ::-1], ramp // 2 + 60], axis=-1)
    data = encoded(Image.fromarray(pixels), quality=95)
    found = decode_radiograph(data, 100, colour=True)
    assert largest_difference(found, full_decode(data, 100, "RGB")) <= 2


def test_every_mode_has_its_colours():
    colour = Image.new("RGB", (40, 40), (255, 0, 10))
    for image in (colour, colour.quantize(4), Image.new("RGBA", (40, 40), (255, 0, 10, 0))):
        found = decode_radiograph(encoded(image, "PNG"), 32, colour=True)
        assert (found == (255, 0, 10)).all()
    printed = encoded(Image.new("CMYK", (40, 40), (0, 255, 255, 0)), quality=95)
    assert largest_difference(
        decode_radiograph(printed, 32, colour=True), np.full((32, 32, 3), (255, 0, 0))
    ) <= 2  # fmt: skip
    deep = Image.fromarray(np.full((40, 40), 1023, np.uint16))
    deep.putpixel((20, 20), 4095)
    grey = decode_radiograph(encoded(deep, "PNG"), 32, colour=True)
    assert (grey[0, 0] == round(255 * 1023 / 4095)).all()
    assert (grey == grey[..., :1]).all()


JPEG = encoded(gradient(300, 300), quality=95)
PNG = encoded(gradient(300, 300), "PNG")


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (JPEG[: len(JPEG) // 2], "truncated"),
        (JPEG[:-2], "truncated"),
        (PNG[: len(PNG) // 2], "truncated"),
        (b"<html>403</html>", "undecodable"),
        (b"", "undecodable"),
        (PNG[:8] + b"and then no picture", "undecodable"),
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
                assert error.status in {"truncated", "undecodable", "too_large"}


def png(width: int, height: int, depth: int, pixels: bytes) -> bytes:
    """A grey PNG whose compressed pixels may be anything."""
    header = struct.pack(">IIBBBBB", width, height, depth, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", pixels), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )


def black_png(width: int, height: int, depth: int = 8) -> bytes:
    """A whole PNG, a thousandth of its pixels long, made without ever holding them."""
    size = height * (1 + width * depth // 8)
    mebibytes, rest = divmod(size, 1 << 20)
    deflate = zlib.compressobj(wbits=-15)
    one = deflate.compress(bytes(1 << 20)) + deflate.flush(zlib.Z_FULL_FLUSH)
    last = deflate.compress(bytes(rest)) + deflate.flush()
    adler32_of_zeros = struct.pack(">HH", size % 65521, 1)
    return png(width, height, depth, b"\x78\x9c" + one * mebibytes + last + adler32_of_zeros)


@contextmanager
def memory_for(megabytes: int) -> Iterator[None]:
    """Let this process map so much more than it has: beyond it, allocation fails."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    limit = pages * resource.getpagesize() + megabytes * 1_000_000
    resource.setrlimit(resource.RLIMIT_AS, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


# The limit is Pillow's, 1024 x 1024 x 1024 bytes // 4 // 3; Pillow itself refuses from twice that
# and only warns below.
@pytest.mark.parametrize(
    ("width", "height"),
    [(9460, 9460), (10_000, 10_000), (30_000, 3_000), (30_000, 30_000), (2**31 - 1, 2**31 - 1)],
)
def test_a_header_that_claims_too_many_pixels_is_refused_by_name(width, height):
    with pytest.raises(ImageError) as caught:
        decode_radiograph(png(width, height, 8, b""), 32)
    assert caught.value.status == "too_large"
    assert str(caught.value) == f"{width} x {height} pixels; the limit is 89,478,485 in all"
    assert Image.MAX_IMAGE_PIXELS == 89_478_485


def test_a_jpeg_that_claims_too_many_pixels_is_refused_by_name():
    frame = JPEG.index(b"\xff\xc0") + 5
    claiming = JPEG[:frame] + struct.pack(">HH", 65_000, 64_000) + JPEG[frame + 4 :]
    with pytest.raises(ImageError, match=r"^64000 x 65000 pixels; ") as caught:
        decode_radiograph(claiming, 32)
    assert caught.value.status == "too_large"


def test_pixels_up_to_the_limit_are_not_too_many():
    with pytest.raises(ImageError) as caught:
        decode_radiograph(png(9459, 9459, 8, b""), 32)
    assert caught.value.status == "truncated"


def test_a_decompression_bomb_costs_no_memory():
    bomb = black_png(30_000, 30_000)
    assert len(bomb) < 1_000_000
    with memory_for(200), pytest.raises(ImageError) as caught:
        decode_radiograph(bomb, 32)
    assert caught.value.status == "too_large"


def test_deep_pixels_take_no_more_than_18_bytes_each():
    deep = black_png(4_000, 4_000, 16)
    with memory_for(16 * 18):  # 1.6 GB at the limit, where the rule asks for 2 GB
        assert (decode_radiograph(deep, 32) == 0).all()


def make_tree(root: Path, count: int, suffix: str = ".jpg") -> Path:
    """Lay out `count` flat grey images of value 10 * i with SHA256SUMS; return the table."""
    rows = [(f"d{i}", f"files/p{i // 2}/d{i}.jpg") for i in range(count)]
    lines = []
    for i, (_, path) in enumerate(rows):
        file = (root / path).with_suffix(suffix)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(
            encoded(Image.new("L", (40, 30), 10 * i), "PNG" if suffix == ".png" else "JPEG")
        )
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        lines.append(f"{digest}  {file.relative_to(root)}\n")
    (root / "SHA256SUMS.txt").write_text("".join(lines))
    return write_examples(root / "examples.parquet", rows)


def write_examples(path: Path, rows: list[tuple[str, str | None]]) -> Path:
    pl.DataFrame(rows, schema=["example_id", "image"], orient="row").write_parquet(path)
    return path


def build(folder: Path, table: Path, shards: int = 2, **changes) -> list[Path]:
    images = folder / "images"
    for shard in range(shards):
        settings = {"size": 16, "colour": False, "verify": True, "root": folder, "cloud": None}
        settings |= changes
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


@pytest.mark.parametrize("shards", [1, 5])
def test_cache_in_colour_gives_each_image_its_own_colours(tmp_path, shards):
    rows = [(f"e{i}", f"pictures/{i}.png") for i in range(4)]
    (tmp_path / "pictures").mkdir()
    for i, (_, path) in enumerate(rows):
        Image.new("RGB", (30, 20), (10 * i, 100, 200)).save(tmp_path / path)
    table = write_examples(tmp_path / "examples.parquet", rows)
    index, _ = join(tmp_path, table, build(tmp_path, table, shards, colour=True, verify=False))
    cache = ImageCache(index)
    assert (cache.shape, cache.size) == ((16, 16, 3), 16)
    pixels = cache.pixels(cache.position(["e3", "e1"]))
    assert pixels.shape == (2, 16, 16, 3)
    assert (pixels[0] == (30, 100, 200)).all()
    assert (pixels[1] == (10, 100, 200)).all()


def test_shards_in_grey_and_in_colour_do_not_mix(tmp_path):
    table = make_tree(tmp_path, 4)
    index, _ = join(tmp_path, table, build(tmp_path, table))
    grey = (tmp_path / "images" / "shard-0.npy").read_bytes()
    build(tmp_path, table, colour=True)
    (tmp_path / "images" / "shard-0.npy").write_bytes(grey)
    with pytest.raises(InputError, match="forcerun cache_images"):
        ImageCache(index)


@pytest.mark.parametrize("path", [None, ""])
def test_a_row_without_a_path_is_refused_by_its_id(tmp_path, path):
    table = write_examples(tmp_path / "examples.parquet", [("a", "a.png"), ("b", path)])
    with pytest.raises(InputError, match=r"1 of 2 rows have no path.*example 'b'"):
        build(tmp_path, table)


def test_images_at_a_url_are_read_by_the_same_paths(tmp_path):
    table = make_tree(tmp_path, 3)
    cloud = {"images_url": tmp_path.as_uri()}
    index, _ = join(tmp_path, table, build(tmp_path, table, root=None, cloud=cloud))
    assert ImageCache(index).pixels([0, 1, 2])[:, 8, 8].tolist() == [0, 10, 20]


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
    status = dict(
        pl.concat(map(pl.read_parquet, shards)).select("example_id", "status").iter_rows()
    )
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
    assert "files/p0/d1.jpg (missing: no such file)" in line
    assert "on_bad_image: drop" in line
    assert not (tmp_path / "images" / "index.parquet").exists()


def test_without_checksums_the_decoder_finds_what_it_can(tmp_path):
    table = make_tree(tmp_path, 8)
    spoil(tmp_path)
    index = pl.concat(map(pl.read_parquet, build(tmp_path, table, verify=False)))
    status = dict(index.select("example_id", "status").iter_rows())
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
    assert [bad["example_id"] for bad in told["bad_images"]] == ["d1", "d2", "d3", "d4", "d5"]
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
        lambda data, size, colour: np.full((size, size), next(calls), np.uint8),
    )
    with pytest.raises((StopIteration, RuntimeError)):
        build(tmp_path, table, 1)
    assert list((tmp_path / "images").iterdir()) == []


def test_the_real_tree_is_cached_whole(shared_data, tmp_path):
    root = shared_data / "nih-cxr-mimic-layout"
    metadata = pl.read_csv(root / "mimic-cxr-2.0.0-metadata.csv.gz")
    ids = metadata.select("subject_id", "study_id", "dicom_id").rows()
    table = write_examples(
        tmp_path / "examples.parquet", [(row[2], image_path(*row)) for row in ids]
    )
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
