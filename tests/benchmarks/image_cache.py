"""Image cache: speed against a plain full decode, memory against N, a store 20 ms away.

    python tests/benchmarks/image_cache.py [--radiographs FOLDER] [--many 20000]

Prints one JSON object. `cpu_ratio` compares images per CPU second with Pillow's full decode and
bicubic resize of the same bytes in the same run.
"""

import argparse
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from PIL import Image

from peft_ablation import images
from peft_ablation.images import cache_shard, decode_radiograph, image_path

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


def cpu_seconds(work: Callable[[bytes], Any], files: Sequence[bytes]) -> float:
    """Return CPU seconds an image, the best of three passes."""
    best = float("inf")
    for _ in range(3):
        start = time.process_time()
        for data in files:
            work(data)
        best = min(best, (time.process_time() - start) / len(files))
    return best


def speed(files: Sequence[bytes]) -> dict[str, float]:
    """Compare both ways on the same files, for each reduced scale that could be chosen."""
    reference = [plain(data) for data in files]
    seconds = cpu_seconds(plain, files)
    result: dict[str, Any] = {"images": len(files), "plain_images_per_cpu_s": 1 / seconds}
    chosen = images.DRAFT_MARGIN
    for margin in (chosen, 2.8, 2):
        images.DRAFT_MARGIN = margin
        ours = cpu_seconds(lambda data: decode_radiograph(data, SIZE), files)
        differences = [
            np.abs(decode_radiograph(data, SIZE).astype(int) - whole)
            for data, whole in zip(files, reference, strict=True)
        ]
        result[f"margin_{margin}" if margin != chosen else "chosen"] = {
            "margin": margin,
            "images_per_cpu_s": 1 / ours,
            "cpu_ratio": seconds / ours,
            "largest_difference": int(max(difference.max() for difference in differences)),
            "mean_difference": float(np.mean([difference.mean() for difference in differences])),
        }
    images.DRAFT_MARGIN = chosen
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
    rows = [(10_000_000 + i // 4, 50_000_000 + i, f"d{i:06d}") for i in range(count)]
    table = folder / f"reports-{count}.parquet"
    frame = pl.DataFrame(rows, schema=["subject_id", "study_id", "dicom_id"], orient="row")
    frame.write_parquet(table)
    return table, [image_path(*row) for row in rows]


def peak_mb() -> float:
    """Return this process's peak resident memory.

    Not ru_maxrss: it is inherited over fork and exec, so that a child of a larger process reports
    its parent's peak.
    """
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) for line in status.splitlines() if "VmHWM" in line) / 1024


def run_shard(table: str, root: str | None, cloud: dict[str, Any] | None, folder: str) -> None:
    """Cache one shard in this process and print its seconds and peak memory."""
    from peft_ablation import storage  # noqa: F401  (imported before the clock starts)

    start, cpu = time.perf_counter(), time.process_time()
    cache_shard(
        table,
        shard=0,
        shards=1,
        size=SIZE,
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    default = ROOT.parent / "shared" / "data" / "hannover-cxr" / "2000px"
    parser.add_argument("--radiographs", type=Path, default=default)
    parser.add_argument("--many", type=int, default=20_000)
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


if __name__ == "__main__":
    main()
