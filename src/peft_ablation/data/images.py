"""Images: how they are decoded, and the cache of decoded pixels, grey or in colour.

Decoding follows the CLIP image processor of git-base: the shortest side becomes `size` by
antialiased bicubic interpolation, then the centre `size` x `size` is cut out. Rescaling and
normalisation belong to the model and happen on its device.
"""

import io
import logging
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
from PIL import Image, UnidentifiedImageError
from tqdm import tqdm

from peft_ablation.artifacts import whole_file, write_json, write_table
from peft_ablation.data.storage import BadObject, is_local, read_checksums, read_objects
from peft_ablation.errors import InputError
from peft_ablation.logs import bars_hidden

logger = logging.getLogger(__name__)

Positions = npt.NDArray[np.int64]
OK = "ok"
INDEX_SCHEMA = {
    "example_id": pl.String,
    "shard": pl.Int32,
    "row": pl.Int32,
    "status": pl.String,
    "detail": pl.String,
}
# A JPEG is decoded at 1/2, 1/4 or 1/8 as long as this many pixels remain for each one wanted. On
# real radiographs with lettering, 4 stays within 3 grey levels of a full decode, 2.8 is up to 6 off
# and 2 up to 11 (tests/benchmarks/image_cache.py measures it).
DRAFT_MARGIN = 4
# A strip is no radiograph, and resizing its short side up would take memory without bound.
MAX_ASPECT = 10


class ImageError(Exception):
    """Bytes that are no whole radiograph; `status`: `truncated`, `undecodable`, `too_large`."""

    def __init__(self, status: str, detail: str) -> None:
        """Keep `status`; `detail` becomes the message."""
        super().__init__(detail)
        self.status = status


def decode_radiograph(data: bytes, size: int, colour: bool = False) -> npt.NDArray[np.uint8]:
    """Decode JPEG, PNG or anything else Pillow reads to uint8 (size, size), grey.

    With `colour`, (size, size, 3): red, green and blue. Without it, colours become ITU-R 601 luma.
    Transparency is ignored, and EXIF orientation too, as in the CLIP image processor. Deeper than
    8 bits: the scale runs from 0 to the largest value of the smallest of 8, 10, 12, 14 or 16 bits
    that holds the brightest pixel (12-bit pixels in a 16-bit file would else be black; in colour
    Pillow keeps the upper 8 of 16 bits); floats from their minimum to their maximum.

    Raises `ImageError` where the bytes are cut short or no image, and before any pixel is decoded
    where they claim more pixels than Pillow's `MAX_IMAGE_PIXELS`, 89 million.
    """
    if data[:2] == b"\xff\xd8" and b"\xff\xd9" not in data[-4096:]:
        # Entropy-coded data never holds this marker, and Pillow may pass a lost last row.
        raise ImageError("truncated", f"JPEG of {len(data)} bytes without its end marker")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            return _decode(data, size, colour)
    except ImageError:
        raise
    # Pillow's plugins raise anything at all on bytes from outside.
    except Exception as error:
        detail = " ".join(str(error).split())[:120]
        if isinstance(error, UnidentifiedImageError):
            raise ImageError("undecodable", "not an image") from None
        cut = "truncated" in detail or isinstance(error, EOFError)
        status = "truncated" if cut else "undecodable"
        raise ImageError(status, detail or type(error).__name__) from None


def _decode(data: bytes, size: int, colour: bool) -> npt.NDArray[np.uint8]:
    with _open(data) as image:
        width, height = image.size
        short, long = sorted((width, height))
        if long > MAX_ASPECT * short:
            raise ImageError("undecodable", f"{width} x {height} pixels is no radiograph")
        box: tuple[float, float, float, float] = (0, 0, width, height)
        if image.format == "JPEG":
            # libjpeg leaves out what the smaller size does not need; luma comes without colour.
            draft = image.draft(None if colour else "L", (DRAFT_MARGIN * size,) * 2)
            if draft is not None:
                box = draft[1]
        whole = _eight_bit_image(image, colour)
    # As transformers.image_transforms.get_resize_output_image_size: the longer side rounds down.
    longer = int(size * long / short)
    new_width, new_height = (size, longer) if width <= height else (longer, size)
    resized = whole.resize((new_width, new_height), Image.Resampling.BICUBIC, box=box)
    left, top = (new_width - size) // 2, (new_height - size) // 2
    return np.asarray(resized.crop((left, top, left + size, top + size)))


def _open(data: bytes) -> Image.Image:
    try:
        return Image.open(io.BytesIO(data))
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        width, height, limit = _refused_size(data)
    raise ImageError("too_large", f"{width} x {height} pixels; the limit is {limit:,} in all")


def _refused_size(data: bytes) -> tuple[int, int, int | None]:
    """Return width, height and Pillow's limit; its own refusal tells their product only."""
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        with Image.open(io.BytesIO(data)) as image:
            return (*image.size, limit)
    finally:
        Image.MAX_IMAGE_PIXELS = limit


def _eight_bit_image(image: Image.Image, colour: bool) -> Image.Image:
    """Return a loaded image of mode RGB or L."""
    if image.mode.startswith(("I", "F")):
        image = Image.fromarray(_eight_bits(np.asarray(image)))
    wanted = "RGB" if colour else "L"
    if image.mode == wanted:
        image.load()
        return image
    # Through RGB, as palettes and transparency lose what L cannot hold only there.
    return image.convert("RGB").convert(wanted)


def _eight_bits(values: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    # In place: at the limit of pixels, each further float64 is 0.7 GB.
    if values.dtype.kind == "f":
        scaled = np.nan_to_num(values.astype(np.float64), copy=False, posinf=0, neginf=0)
        low, high = float(scaled.min()), float(scaled.max())
        scaled -= low
        scaled *= 255 / (high - low) if high > low else 0
    else:
        scaled = np.maximum(values, 0, dtype=np.float64)
        top = int(scaled.max())
        bits = next((bits for bits in (8, 10, 12, 14, 16) if top < 1 << bits), 32)
        scaled *= 255 / ((1 << bits) - 1)
    np.rint(scaled, out=scaled)
    pixels: npt.NDArray[np.uint8] = scaled.astype(np.uint8)
    return pixels


def cache_shard(
    table: str | Path,
    *,
    shard: int,
    shards: int,
    size: int,
    colour: bool,
    verify: bool,
    root: str | Path | None,
    cloud: Mapping[str, Any] | None,
    pixels: str | Path,
    index: str | Path,
) -> None:
    """Decode one shard's images into `pixels` and account in `index`.

    `table` has `example_id` and `image`, a path relative to `root` (folder or URL) or, without one,
    to `cloud["images_url"]`. `pixels` is uint8, (N, size, size) or, with `colour`,
    (N, size, size, 3). A shard holds the rows i of `table` with `i * shards // n == shard`. A bad
    image is a row of the index with its status and `row` -1; its pixels are 0. Pixels do not stay
    in memory: what grows with N is the index, about half a kilobyte an image.
    """
    rows = shard_rows(_read_paths(table), shard, shards)
    source = root if root is not None else (cloud or {})["images_url"]
    paths = rows["image"].to_list()
    if is_local(source):
        paths = [_png_where_no_jpg(Path(source), path) for path in paths]
    checksums = read_checksums(source, paths) if verify and is_local(source) else None
    entries: list[tuple[str, int, int, str, str]] = []
    fetched = 0
    start = time.perf_counter()
    objects = read_objects(source, paths, checksums=checksums, verify=verify, cloud=cloud)
    blank = np.zeros((size, size, 3) if colour else (size, size), np.uint8)
    # Written row by row: pages of a memory map would count as this process's memory.
    with whole_file(pixels) as part, part.open("wb") as file:
        shape = (len(paths), *blank.shape)
        np.lib.format.write_array_header_1_0(
            file, {"descr": "|u1", "fortran_order": False, "shape": shape}
        )
        progress = tqdm(
            objects, total=len(paths), unit="image", desc=f"shard {shard}", disable=bars_hidden()
        )
        found_of = zip(rows["example_id"], progress, strict=True)
        for row, (example_id, (_, found)) in enumerate(found_of):
            image, status, detail = _outcome(found, size, colour)
            fetched += len(found) if isinstance(found, bytes) else 0
            file.write((blank if image is None else image).tobytes())
            entries.append((example_id, shard, row if image is not None else -1, status, detail))
            progress.set_postfix_str(_rate(fetched, start), refresh=False)
    write_table(pl.DataFrame(entries, schema=INDEX_SCHEMA, orient="row"), index)
    seconds = max(time.perf_counter() - start, 1e-9)
    bad = sum(entry[2] < 0 for entry in entries)
    logger.info(
        "shard %d of %d: %d images, %d bad, %.1f MB in %.1f s: %.1f images/s, %s",
        shard, shards, len(paths), bad, fetched / 1e6, seconds, len(paths) / seconds,
        _rate(fetched, start),
    )  # fmt: skip


def shard_rows(table: pl.DataFrame, shard: int, shards: int) -> pl.DataFrame:
    """Return the rows i of `table` with `i * shards // n == shard`, contiguous and in order."""
    n = table.height
    first, last = -(-shard * n // shards), -(-(shard + 1) * n // shards)
    return table.slice(first, last - first)


def _read_paths(table: str | Path) -> pl.DataFrame:
    rows = pl.read_parquet(table, columns=["example_id", "image"])
    pathless = rows.filter(pl.col("image").is_null() | (pl.col("image") == ""))
    if pathless.height:
        raise InputError(
            f"{table}: {pathless.height} of {rows.height} rows have no path in column image, first "
            f"example {pathless['example_id'][0]!r}; give each a path relative to the data's root"
        )
    return rows


def _png_where_no_jpg(root: Path, path: str) -> str:
    png = f"{path.removesuffix('.jpg')}.png"
    return png if not (root / path).exists() and (root / png).exists() else path


def _outcome(
    found: bytes | BadObject, size: int, colour: bool
) -> tuple[npt.NDArray[np.uint8] | None, str, str]:
    if isinstance(found, BadObject):
        return None, found.status, found.detail
    try:
        return decode_radiograph(found, size, colour), OK, ""
    except ImageError as error:
        return None, error.status, str(error)


def _rate(fetched: int, start: float) -> str:
    return f"{fetched / 1e6 / max(time.perf_counter() - start, 1e-9):.1f} MB/s"


def index_shards(
    table: str | Path,
    shards: Sequence[str | Path],
    *,
    on_bad_image: str,
    max_dropped_share: float,
    output: str | Path,
    account: str | Path,
) -> None:
    """Join the shards' indexes to one table of usable images and count the rest by status.

    Raises `InputError` where an image is bad and `on_bad_image` is `fail`, or where more than
    `max_dropped_share` of the rows would be dropped.
    """
    rows = _read_paths(table)
    index = pl.concat([pl.read_parquet(shard) for shard in shards]) if shards else None
    if index is None or index["example_id"].to_list() != rows["example_id"].to_list():
        raise InputError(
            f"images: the {len(shards)} shards do not hold the rows of {table}, they are of an "
            "earlier run; make them again: snakemake --forcerun cache_images"
        )
    bad = index.with_columns(rows["image"]).filter(pl.col("row") < 0)
    counts = dict(bad.group_by("status").len().sort("status").iter_rows())
    if bad.height:
        _refuse(bad, counts, index.height, on_bad_image, max_dropped_share)
    write_json(
        account,
        {
            "rows_in": index.height,
            "rows_out": index.height - bad.height,
            "dropped": counts,
            "on_bad_image": on_bad_image,
            "bad_images": bad.select("example_id", "status", "detail").to_dicts(),
        },
    )
    write_table(index.filter(pl.col("row") >= 0), output)


def _refuse(
    bad: pl.DataFrame, counts: Mapping[str, int], total: int, on_bad_image: str, limit: float
) -> None:
    share = bad.height / total
    if on_bad_image == "drop" and share <= limit:
        logger.warning("%d of %d images are bad and their rows dropped", bad.height, total)
        return
    kinds = ", ".join(f"{count} {status}" for status, count in counts.items())
    first = ", ".join(
        f"{row['image']} ({row['status']}: {row['detail']})"
        for row in bad.head(3).iter_rows(named=True)
    )
    limited = (
        f"; images.max_dropped_share allows {limit:.2%}, found {share:.2%}"
        if on_bad_image == "drop"
        else "; or set images.on_bad_image: drop to leave their rows out"
    )
    raise InputError(
        f"images: {bad.height} of {total} are bad ({kinds}), first {first}; restore them and run "
        f"again with --forcerun cache_images{limited}"
    )


def files_of(index: str | Path) -> list[Path]:
    """Return the files of a cache: the index and the pixels of every shard."""
    return [Path(index), *sorted(Path(index).parent.glob("shard-*.npy"))]


class ImageCache:
    """Decoded pixels of all usable images of a study, memory-mapped."""

    def __init__(self, index: str | Path) -> None:
        """Open the shards that lie beside `index`."""
        table = pl.read_parquet(index)
        self._shard = table["shard"].to_numpy()
        self._row = table["row"].to_numpy()
        self._position = {name: place for place, name in enumerate(table["example_id"])}
        folder = Path(index).parent
        self._maps: dict[int, npt.NDArray[np.uint8]] = {
            int(shard): np.load(folder / f"shard-{shard}.npy", mmap_mode="r", allow_pickle=False)
            for shard in table["shard"].unique(maintain_order=True)
        }
        if not self._maps:
            raise InputError(f"{index}: holds no image; expected at least one")
        shapes = sorted({array.shape[1:] for array in self._maps.values()})
        if len(shapes) > 1:
            raise InputError(
                f"{index}: shards hold images of shapes {shapes}, they are of different runs; make "
                "them again: snakemake --forcerun cache_images"
            )
        self.shape: tuple[int, ...] = shapes[0]
        """Shape of an image: (size, size) grey, or (size, size, 3) in colour."""
        self.size: int = self.shape[0]
        """Side of the square images, in pixels."""

    def __len__(self) -> int:
        """Return the number of usable images."""
        return len(self._row)

    def position(self, ids: Sequence[str]) -> npt.NDArray[np.int64]:
        """Return the position in the cache of each example's image, -1 where it was dropped."""
        return np.fromiter((self._position.get(name, -1) for name in ids), np.int64, len(ids))

    def pixels(self, positions: npt.ArrayLike) -> npt.NDArray[np.uint8]:
        """Return pixels (N, size, size) or (N, size, size, 3) of N positions, in their order."""
        places = np.asarray(positions, dtype=np.int64)
        if places.size and (places.min() < 0 or places.max() >= len(self)):
            raise IndexError(f"positions must lie in 0..{len(self) - 1}")
        result = np.empty((len(places), *self.shape), np.uint8)
        shards = self._shard[places]
        for shard in np.unique(shards):
            chosen = np.flatnonzero(shards == shard)
            result[chosen] = self._maps[int(shard)][self._row[places[chosen]]]
        return result

    def mean(self, positions: npt.ArrayLike) -> npt.NDArray[np.uint8]:
        """Return the mean image of one or more positions, (size, size) or (size, size, 3)."""
        places = np.asarray(positions, dtype=np.int64)
        total = np.zeros(self.shape, np.int64)
        for start in range(0, len(places), 256):
            total += self.pixels(places[start : start + 256]).sum(axis=0, dtype=np.int64)
        return np.rint(total / len(places)).astype(np.uint8)
