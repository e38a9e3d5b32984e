"""Image cache: what other libraries would give where Pillow decodes and resizes.

    pip install --target /tmp/libraries simplejpeg cykooz.resizer "pyvips[binary]" \
        opencv-python-headless av imagecodecs libstb kornia-rs ajpegli
    PYTHONPATH=src:/tmp/libraries python tests/benchmarks/image_libraries.py [--write]

Each way makes the same 224 x 224 grey pixels of the same square JPEGs, on one thread, and is
compared with Pillow's full decode and bicubic resize in the same run. Ways whose package is not
there are left out. `--write` puts the table into docs/benchmarks.md.
"""

import argparse
import io
import json
import os
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

os.environ |= dict.fromkeys(("VIPS_CONCURRENCY", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")

import numpy as np
from image_cache import ROOT, SIZE, cpu_seconds, ours, plain
from PIL import Image

from peft_ablation.data import images

PACKAGES = (
    *("pillow", "simplejpeg", "cykooz.resizer", "pyvips-binary", "opencv-python-headless"),
    *("av", "imagecodecs", "libstb", "kornia-rs", "ajpegli"),
)
BICUBIC = Image.Resampling.BICUBIC


def half(data: bytes) -> Image.Image:
    """Pillow's decode at 1/2, as the cache does it."""
    image = Image.open(io.BytesIO(data))
    image.draft("L", (4 * SIZE, 4 * SIZE))
    image.load()
    return image


def full(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def turbo(data: bytes, side: int = 4 * SIZE) -> np.ndarray:
    """Decode with simplejpeg at the smallest of libjpeg-turbo's scales, eighths, above `side`."""
    from simplejpeg import decode_jpeg

    return decode_jpeg(data, "GRAY", min_height=side, min_width=side, min_factor=2)[:, :, 0]


def pillow_resize(pixels: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(pixels).resize((SIZE, SIZE), BICUBIC))


def cykooz(image: Image.Image, passes: int = 2) -> np.ndarray:
    """Resize the rows first: in one pass the columns go first, and are clipped elsewhere."""
    from cykooz_resizer import FilterType, ResizeAlg, ResizeOptions, Resizer

    options = ResizeOptions(resize_alg=ResizeAlg.convolution(FilterType.catmull_rom))
    for size in ((SIZE, image.height), (SIZE, SIZE))[2 - passes :]:
        smaller = Image.new("L", size)
        Resizer().resize_pil(image, smaller, options)
        image = smaller
    return np.asarray(image)


def torch_resize(pixels: np.ndarray) -> np.ndarray:
    import torch

    torch.set_num_threads(1)
    batch = torch.from_numpy(pixels.copy())[None, None]
    size = (SIZE, SIZE)
    return torch.nn.functional.interpolate(batch, size, mode="bicubic", antialias=True)[
        0, 0
    ].numpy()


def vips(data: bytes) -> np.ndarray:
    import pyvips

    image = pyvips.Image.jpegload_buffer(data, shrink=2, access="sequential")
    rows = image.reduceh(image.width / SIZE, kernel="cubic")
    return rows.reducev(image.height / SIZE, kernel="cubic").numpy().reshape(SIZE, SIZE)


def vips_thumbnail(data: bytes) -> np.ndarray:
    import pyvips

    image = pyvips.Image.thumbnail_buffer(data, SIZE, height=SIZE, no_rotate=True)
    return image.numpy().reshape(SIZE, SIZE)


def opencv(data: bytes) -> np.ndarray:
    import cv2

    cv2.setNumThreads(1)
    flags = cv2.IMREAD_REDUCED_GRAYSCALE_2 | cv2.IMREAD_IGNORE_ORIENTATION
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    return cv2.resize(pixels, (SIZE, SIZE), interpolation=cv2.INTER_AREA)


@cache
def scale_graph(width: int, height: int) -> Any:
    """FFmpeg's bicubic filter with Pillow's coefficients."""
    import av.filter

    graph = av.filter.Graph()
    source = graph.add_buffer(width=width, height=height, format="gray", time_base="1/1")
    how = "flags=bicubic:param0=0:param1=0.5:in_range=full:out_range=full"
    scale, sink = graph.add("scale", f"{SIZE}:{SIZE}:{how}"), graph.add("buffersink")
    source.link_to(scale)
    scale.link_to(sink)
    graph.configure()
    return graph


def swscale(pixels: np.ndarray) -> np.ndarray:
    import av

    height, width = pixels.shape
    graph = scale_graph(width, height)
    graph.push(av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="gray"))
    return graph.pull().to_ndarray()


def libstb(pixels: np.ndarray) -> np.ndarray:
    from libstb import imresize

    rows = imresize(np.ascontiguousarray(pixels), SIZE, len(pixels), "catmull_rom")
    return imresize(rows, SIZE, SIZE, "catmull_rom")


def imagecodecs_decode(data: bytes) -> None:
    from imagecodecs import jpeg8_decode

    jpeg8_decode(data)


def kornia_decode(data: bytes) -> None:
    from kornia_rs.image import Image as KorniaImage

    KorniaImage.decode(data)


def ajpegli_decode(data: bytes) -> None:
    from ajpegli import decode

    decode(data)


WAYS: dict[str, Callable[[bytes], Any]] = {
    "Pillow, full scale (the reference)": plain,
    "Pillow at 1/2: the cache": ours(images.DRAFT_MARGIN),
    "Pillow at 1/2, its decode alone": half,
    "Pillow at 1/4": ours(2),
    "simplejpeg at 1/2, Pillow": lambda data: pillow_resize(turbo(data)),
    "simplejpeg at 3/8, Pillow": lambda data: pillow_resize(turbo(data, 3 * SIZE)),
    "Pillow at 1/2, torch": lambda data: torch_resize(np.asarray(half(data))),
    "simplejpeg at 1/2, torch": lambda data: torch_resize(turbo(data)),
    "Pillow at 1/2, cykooz.resizer in two passes": lambda data: cykooz(half(data)),
    "simplejpeg at 1/2, cykooz.resizer in two passes": lambda data: cykooz(
        Image.fromarray(turbo(data))
    ),
    "Pillow at 1/2, cykooz.resizer in one pass": lambda data: cykooz(half(data), passes=1),
    "Pillow, full scale, cykooz.resizer in two passes": lambda data: cykooz(full(data)),
    "simplejpeg at 1/2, PyAV's swscale": lambda data: swscale(turbo(data)),
    "simplejpeg at 1/2, libstb": lambda data: libstb(turbo(data)),
    "OpenCV at 1/2, its INTER_AREA": opencv,
    "pyvips at 1/2, its cubic `reduce`": vips,
    "pyvips' `thumbnail`": vips_thumbnail,
    "Pillow, full scale, its decode alone": full,
    "imagecodecs, full scale, its decode alone": imagecodecs_decode,
    "kornia-rs, full scale, its decode alone": kornia_decode,
    "ajpegli, full scale, its decode alone": ajpegli_decode,
}


def compare(files: list[bytes]) -> dict[str, dict[str, Any]]:
    """Return each way's ratios to the first, CPU seconds an image and largest difference."""
    first, *_ = WAYS
    found: dict[str, Any] = {}
    for name, way in WAYS.items():
        try:
            found[name] = way(files[0])
        except ImportError as error:
            print(f"left out: {name}: {error}")
    rows = [cpu_seconds({name: WAYS[name] for name in found}, data) for data in files]
    result = {}
    for name, pixels in found.items():
        ratios = [row[first] / row[name] for row in rows]
        result[name] = {
            "ratio": float(np.median(ratios)),
            "least": min(ratios),
            "most": max(ratios),
            "milliseconds": 1000 * float(np.mean([row[name] for row in rows])),
            "difference": max(
                int(np.abs(WAYS[name](data).astype(int) - plain(data)).max()) for data in files
            )
            if isinstance(pixels, np.ndarray)
            else None,
        }
    return result


def releases() -> str:
    found = []
    for name in PACKAGES:
        with suppress(PackageNotFoundError):
            found.append(f"{name} {version(name)}")
    return ", ".join(found)


def write(report: dict[str, dict[str, Any]]) -> None:
    """Put the table into the page."""
    import torch
    from real_size import machine, write_section

    lines = [
        "## Image cache: other libraries",
        "",
        f"{machine(torch.device('cpu'), 1)}; {releases()}. The real radiographs of above, "
        "one thread, beside other load; ratios of CPU seconds are medians over images (least to "
        "most). `tests/benchmarks/image_libraries.py` says how.",
        "",
        "| decoder, then resizer | ratio | CPU ms an image | grey levels apart, largest |",
        "|---|---|---|---|",
    ]
    for name, row in report.items():
        apart = "no pixels" if row["difference"] is None else row["difference"]
        lines.append(
            f"| {name} | {row['ratio']:.2f} ({row['least']:.2f} to {row['most']:.2f}) | "
            f"{row['milliseconds']:.1f} | {apart} |"
        )
    lines += [
        "",
        "Only cykooz.resizer reaches 2 within 3 grey levels, and its releases have no wheel for "
        "Linux on aarch64, where Pillow in its place would give other bytes. "
        "kornia-rs resizes three channels with antialiasing, not one.",
    ]
    write_section("image_libraries", "\n".join(lines))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    default = ROOT.parent / "shared" / "data" / "hannover-cxr" / "2000px"
    parser.add_argument("--radiographs", type=Path, default=default)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    report = compare([path.read_bytes() for path in sorted(options.radiographs.glob("*.jpg"))])
    print(json.dumps(report, indent=2))
    if options.write:
        write(report)


if __name__ == "__main__":
    main()
