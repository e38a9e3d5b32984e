"""Image cache: speed against a plain full decode, memory against N, a store 20 ms away.

    python tests/benchmarks/image_cache.py [--radiographs FOLDER] [--many 20000] [--write]

Prints one JSON object; `--write` puts it into docs/benchmarks.md. `cpu_ratio` compares images per
CPU second with Pillow's full decode and bicubic resize of the same bytes in the same run,
`bound` is what that ratio would be if resizing cost nothing.
"""

import argparse
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import polars as pl
from PIL import Image, features

from peft_ablation.data import images
from peft_ablation.data.images import cache_shard, decode_radiograph

ROOT = Path(__file__).resolve().parents[2]
SERVICES = ROOT / "tests" / "services"
SIZE = 224


def plain(data: bytes) -> np.ndarray:
    """Decode all pixels, resize the shortest side, cut out the centre."""
    image = Image.open(io.BytesIO(data)).convert("L")
    width, height = image.size
    longer = int(SIZE * max(width, height) / min(width, height))
    shape = (SIZE, longer) if width <= height else (longer, SIZE)
    image = image.resize(shape, Image.Resampling.BICUBIC)
    left, top = (shape[0] - SIZE) // 2, (shape[1] - SIZE) // 2
    return np.asarray(image.crop((left, top, left + SIZE, top + SIZE)))


def reduced_decode(data: bytes) -> None:
    """Decode the pixels that `decode_radiograph` resizes, and no more."""
    image = Image.open(io.BytesIO(data))
    image.draft("L", (images.DRAFT_MARGIN * SIZE,) * 2)
    image.load()


def ours(margin: float) -> Callable[[bytes], np.ndarray]:
    """Return our decoding with another reduced scale."""

    def work(data: bytes) -> np.ndarray:
        chosen, images.DRAFT_MARGIN = images.DRAFT_MARGIN, margin
        try:
            return decode_radiograph(data, SIZE)
        finally:
            images.DRAFT_MARGIN = chosen

    return work


def cpu_seconds(works: Mapping[str, Callable[[bytes], Any]], data: bytes) -> dict[str, float]:
    """Return the CPU seconds of each way for one image: they take turns, the best of five each."""
    best = dict.fromkeys(works, float("inf"))
    for _ in range(5):
        for name, work in works.items():
            start = time.process_time()
            work(data)
            best[name] = min(best[name], time.process_time() - start)
    return best


def speed(files: Sequence[bytes]) -> dict[str, Any]:
    """Compare both ways on the same files, for each reduced scale that could be chosen."""
    margins = {"chosen": images.DRAFT_MARGIN, "margin_2.8": 2.8, "margin_2": 2.0}
    own = {name: ours(margin) for name, margin in margins.items()}
    rows = [cpu_seconds({"plain": plain, "decode": reduced_decode, **own}, data) for data in files]
    seconds = {name: sum(row[name] for row in rows) / len(files) for name in rows[0]}
    result: dict[str, Any] = {
        "images": len(files),
        "plain_images_per_cpu_s": 1 / seconds["plain"],
        "bound": seconds["plain"] / seconds["decode"],
    }
    for name, work in own.items():
        differences = [np.abs(work(data).astype(int) - plain(data)) for data in files]
        result[name] = {
            "margin": margins[name],
            "images_per_cpu_s": 1 / seconds[name],
            "cpu_ratio": seconds["plain"] / seconds[name],
            "largest_difference": int(max(difference.max() for difference in differences)),
            "mean_difference": float(np.mean([difference.mean() for difference in differences])),
        }
    return result


def synthetic(count: int) -> list[bytes]:
    """Return grey JPEGs of 2544 x 3056, quality 95: smooth shapes, noise and sharp lettering."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[0:3056, 0:2544]
    files = []
    for _ in range(count):
        centre = rng.uniform(800, 2000, 2)
        chest = 160 * np.exp(
            -(((rows - centre[0]) / 900) ** 2 + ((columns - centre[1]) / 700) ** 2)
        )
        pixels = 40 + chest + rng.normal(0, 6, rows.shape)
        for _ in range(40):
            top, left = rng.integers(100, 2400, 2)
            pixels[top : top + 60, left : left + 14] = 250
        stream = io.BytesIO()
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(stream, "JPEG", quality=95)
        files.append(stream.getvalue())
    return files


def make_table(folder: Path, count: int) -> tuple[Path, list[str]]:
    ids = [f"d{i:06d}" for i in range(count)]
    paths = [f"files/p{i // 1000}/{name}.jpg" for i, name in enumerate(ids)]
    table = folder / f"examples-{count}.parquet"
    pl.DataFrame({"example_id": ids, "image": paths}).write_parquet(table)
    return table, paths


def peak_mb() -> float:
    """Return this process's peak resident memory.

    Not ru_maxrss: it is inherited over fork and exec, so that a child of a larger process reports
    its parent's peak.
    """
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) for line in status.splitlines() if "VmHWM" in line) / 1024


def run_shard(table: str, root: str | None, cloud: dict[str, Any] | None, folder: str) -> None:
    """Cache one shard in this process and print its seconds and peak memory."""
    from peft_ablation.data import storage  # noqa: F401  (imported before the clock starts)

    start, cpu = time.perf_counter(), time.process_time()
    cache_shard(
        table,
        shard=0,
        shards=1,
        size=SIZE,
        colour=False,
        verify=True,
        root=root,
        cloud=cloud,
        pixels=f"{folder}/shard-0.npy",
        index=f"{folder}/shard-0.parquet",
    )
    status = pl.read_parquet(f"{folder}/shard-0.parquet")["status"]
    print(
        json.dumps(
            {
                "images": len(status),
                "bad": int((status != "ok").sum()),
                "seconds": time.perf_counter() - start,
                "cpu_seconds": time.process_time() - cpu,
                "images_per_s": len(status) / (time.perf_counter() - start),
                "peak_mb": peak_mb(),
            }
        )
    )


def in_fresh_process(environment: dict[str, str] | None = None, **call: Any) -> dict[str, Any]:
    command = [sys.executable, __file__, "--shard", json.dumps(call)]
    done = subprocess.run(
        command, env=os.environ | (environment or {}), check=True, stdout=subprocess.PIPE
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def memory(folder: Path, data: bytes, counts: Sequence[int]) -> list[dict[str, Any]]:
    """Cache trees of growing size (hard links to one file), each in a fresh process."""
    source = folder / "one.jpg"
    source.write_bytes(data)
    results = []
    for count in counts:
        table, paths = make_table(folder, count)
        root = folder / f"tree-{count}"
        for path in paths:
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            os.link(source, root / path)
        call = {"table": str(table), "root": str(root), "cloud": None, "folder": str(folder)}
        results.append(in_fresh_process(**call))
    return results


def distant_store(folder: Path, files: Sequence[bytes], count: int) -> dict[str, Any]:
    """Cache from an emulated store, near and 20 ms away; bound by cores, both take the same."""
    sys.path.insert(0, str(SERVICES))
    import gcs_server

    table, paths = make_table(folder, count)
    results: dict[str, Any] = {}
    for latency in (0.0, 0.02):
        for in_flight in (1, 32):
            gcs, server = gcs_server.start()
            for place, path in enumerate(paths):
                gcs.put(path, files[place % len(files)])
            gcs.latency = latency
            cloud = {
                "billing_project": "benchmark",
                "images_url": f"gs://{gcs_server.BUCKET}",
                "requests_in_flight": in_flight,
            }
            environment = {"STORAGE_EMULATOR_HOST": gcs.url}
            call = {"table": str(table), "root": None, "cloud": cloud, "folder": str(folder)}
            results[f"{latency * 1000:.0f} ms, {in_flight} in flight"] = in_fresh_process(
                environment, **call
            )
            gcs_server.stop(gcs, server)
    return results


def write(report: dict[str, Any]) -> None:
    """Put the report into the page."""
    import torch
    from real_size import machine, write_section

    lines = [
        "## Image cache",
        "",
        f"{machine(torch.device('cpu'), 1)}, Pillow {PIL.__version__} with libjpeg-turbo "
        f"{features.version('libjpeg_turbo')}. `tests/benchmarks/image_cache.py` says how.",
        "",
        "| JPEGs | images | images a CPU second, ours / full decode and resize | ratio | "
        "if resizing were free | grey levels apart, largest, mean |",
        "|---|---|---|---|---|---|",
    ]
    for name in [name for name in report if name not in ("memory", "store")]:
        told, chosen = report[name], report[name]["chosen"]
        lines.append(
            f"| {name} | {told['images']} | {chosen['images_per_cpu_s']:.0f} / "
            f"{told['plain_images_per_cpu_s']:.0f} | **{chosen['cpu_ratio']:.2f}** | "
            f"{told['bound']:.2f} | {chosen['largest_difference']}, "
            f"{chosen['mean_difference']:.2f} |"
        )
    coarse = report[name]["margin_2"]
    lines += [
        "",
        "What holds the rest is libjpeg's entropy decoding, which no reduced scale leaves out. "
        f"The next scale gives {coarse['cpu_ratio']:.2f} on the last row, but is "
        f"{coarse['largest_difference']} grey levels off at lettering.",
        "",
        "| images of one shard | peak memory, MB |",
        "|---|---|",
        *(f"| {row['images']:,} | {row['peak_mb']:.0f} |" for row in report["memory"]),
        "",
        "| store | images/s | seconds, of the CPU |",
        "|---|---|---|",
        *(
            f"| {name} | {row['images_per_s']:.1f} | {row['seconds']:.1f}, "
            f"{row['cpu_seconds']:.1f} |"
            for name, row in report["store"].items()
        ),
    ]
    write_section("image_cache", "\n".join(lines))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    default = ROOT.parent / "shared" / "data" / "hannover-cxr" / "2000px"
    parser.add_argument("--radiographs", type=Path, default=default)
    parser.add_argument("--many", type=int, default=20_000)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--shard", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.shard:
        run_shard(**json.loads(options.shard))
        return
    made = synthetic(4)
    report: dict[str, Any] = {"synthetic 2544x3056": speed(made)}
    real = [file.read_bytes() for file in sorted(options.radiographs.glob("*.jpg"))]
    if real:
        report["real radiographs"] = speed(real)
    small = io.BytesIO()
    Image.open(io.BytesIO(made[0])).resize((320, 384)).save(small, "JPEG", quality=90)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        report["memory"] = memory(folder, small.getvalue(), (1_000, 5_000, options.many))
        report["store"] = distant_store(folder, real or made, 200)
    print(json.dumps(report, indent=2))
    if options.write:
        write(report)


if __name__ == "__main__":
    main()
