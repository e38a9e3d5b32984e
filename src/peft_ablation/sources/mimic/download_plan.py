"""What a study would fetch from Google Cloud, and what that costs, before anything is billed."""

import asyncio
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import polars as pl

from peft_ablation.artifacts import write_json
from peft_ablation.data.google_access import cloud_settings
from peft_ablation.data.storage import BadObject, explain_failure, open_filesystem
from peft_ablation.errors import InputError
from peft_ablation.sources.mimic.labels import LABELS
from peft_ablation.sources.mimic.layout import image_path

GB = 1e9
# As the store's listing gives at most.
PAGE = 1000


@dataclass(frozen=True)
class DownloadPlan:
    """Numbers of `plan_download`; GB are 1e9 bytes."""

    basis: str
    """`cohort`: the images of the drawn cohort; `upper bound`: before the cohort is known."""
    bytes_scanned: int
    """By the metadata query, from a dry run."""
    maximum_bytes_billed: int
    """The query is refused above this."""
    images: int
    images_missing: int
    """Images of the cohort that the listing does not have."""
    download_gb: float
    egress_usd: float
    egress_usd_per_gb: float
    egress_source: str
    disk_needed_gb: float
    """Pixels in the cache, and originals where they are kept."""
    disk_free_gb: float


def plan_download(
    *,
    sql: str | Path,
    reports: str | Path,
    root: str | Path | None,
    cloud: Mapping[str, Any] | None,
    views: Sequence[str],
    limit: int | None,
    quota: int,
    size: int,
    results: str | Path,
    output: str | Path,
) -> DownloadPlan | None:
    """Write the plan to `output` and return it; None where a local tree needs no download.

    Where the table `reports` exists, its images are looked up in the listing of the store;
    otherwise the plan is an upper bound: `quota` images a label, or `limit`, of the mean size of
    the listing's first page. The listing itself is billed per request, at most 1,000 objects each.
    """
    if root is not None:
        write_json(output, {"basis": "local tree", "images": 0, "download_gb": 0.0})
        return None
    settings = cloud_settings(cloud)
    scanned = _bytes_scanned(sql, views, limit, settings)
    if Path(reports).is_file():
        basis = "cohort"
        images, missing, total = _cohort_bytes(reports, settings)
    else:
        basis = "upper bound"
        images, missing = min(quota * len(LABELS), limit or quota * len(LABELS)), 0
        total = round(images * _mean_size(settings))
    kept = total if settings["keep_originals"] else 0
    plan = DownloadPlan(
        basis=basis,
        bytes_scanned=scanned,
        maximum_bytes_billed=settings["maximum_bytes_billed"],
        images=images,
        images_missing=missing,
        download_gb=total / GB,
        egress_usd=total / GB * settings["egress_usd_per_gb"],
        egress_usd_per_gb=settings["egress_usd_per_gb"],
        egress_source=settings["egress_source"],
        disk_needed_gb=(images * size * size + kept) / GB,
        disk_free_gb=_free(Path(results)) / GB,
    )
    write_json(output, asdict(plan))
    return plan


def render_plan(plan: DownloadPlan | None) -> str:
    """Return the plan as lines for the terminal."""
    if plan is None:
        return "The study reads a local tree: nothing to download."
    most = "at most " if plan.basis == "upper bound" else ""
    missing = f" ({plan.images_missing:,} not in the store)" if plan.images_missing else ""
    rows = [
        ("Query scans", f"{plan.bytes_scanned / GB:.3f} GB (refused above "
                        f"{plan.maximum_bytes_billed / GB:.3f} GB billed)"),
        ("Images", f"{most}{plan.images:,}{missing}"),
        ("Download", f"{most}{plan.download_gb:.3f} GB"),
        ("Egress", f"{most}{plan.egress_usd:.2f} USD at {plan.egress_usd_per_gb:g} USD/GB "
                   f"({plan.egress_source})"),
        ("Disk needed", f"{most}{plan.disk_needed_gb:.3f} GB"),
        ("Disk free", f"{plan.disk_free_gb:.3f} GB"),
    ]  # fmt: skip
    lines = [f"{name:<12} {value}" for name, value in rows]
    if plan.basis == "upper bound":
        lines.append("The cohort is not drawn yet; after make_reports the plan is exact.")
    if plan.disk_needed_gb > plan.disk_free_gb:
        lines.append("NOT ENOUGH DISK: set results to a larger disk, or keep no originals.")
    return "\n".join(lines)


def _bytes_scanned(
    sql: str | Path, views: Sequence[str], limit: int | None, settings: Mapping[str, Any]
) -> int:
    from peft_ablation.sources.mimic.bigquery import bytes_scanned
    from peft_ablation.sources.mimic.cohort import fill_tables

    statement = fill_tables(
        Path(sql).read_text(encoding="utf-8"),
        metadata=settings["metadata_table"],
        chexpert=settings["chexpert_table"],
    )
    # The limit filters rows, not what is scanned: any number does.
    return bytes_scanned(statement, {"views": list(views), "limit": limit or 1}, settings)


def _cohort_bytes(reports: str | Path, settings: Mapping[str, Any]) -> tuple[int, int, int]:
    """Return images found, images missing and bytes of the cohort's images."""
    rows = pl.read_parquet(reports, columns=["subject_id", "study_id", "dicom_id"])
    wanted = {image_path(*row) for row in rows.iter_rows()}
    found = total = 0
    # One prefix per first digits of the subject, as the data set is laid out.
    for folder in sorted({path.split("/")[1] for path in wanted}):
        for page in list_sizes(f"files/{folder}/", settings):
            for path, size in page.items():
                if path in wanted:
                    found += 1
                    total += size
    return found, len(wanted) - found, total


def _mean_size(settings: Mapping[str, Any]) -> float:
    page = next(list_sizes("files/", settings), {})
    sizes = [size for path, size in page.items() if path.endswith((".jpg", ".png"))]
    if not sizes:
        raise InputError(f"{settings['images_url']}: no image under files/; check cloud.images_url")
    return sum(sizes) / len(sizes)


def list_sizes(prefix: str, settings: Mapping[str, Any]) -> Iterator[dict[str, int]]:
    """Yield pages of path → bytes for the objects under `prefix` of `cloud.images_url`."""
    root = str(settings["images_url"]).rstrip("/")
    fs, base = open_filesystem(root, settings)
    if not root.startswith(("gs://", "gcs://")):
        entries = fs.find(f"{base}/{prefix}", detail=True)
        yield {str(name).removeprefix(f"{base}/"): int(at["size"]) for name, at in entries.items()}
        return
    bucket, _, folder = base.partition("/")
    folder = f"{folder}/" if folder else ""
    token: str | None = None
    try:
        while True:
            page = _page(fs, bucket, f"{folder}{prefix}", token, root, settings)
            yield {
                str(item["name"]).removeprefix(folder): int(item["size"])
                for item in page.get("items", [])
            }
            token = page.get("nextPageToken")
            if token is None:
                return
    finally:
        if fs._session is not None:
            fs.close_session(fs.loop, fs._session)


def _page(
    fs: Any, bucket: str, prefix: str, token: str | None, root: str, settings: Mapping[str, Any]
) -> dict[str, Any]:
    call = fs._call(
        "GET",
        "b/{}/o",
        bucket,
        prefix=prefix,
        pageToken=token,
        maxResults=PAGE,
        # Names and sizes alone: a full entry is ten times as long.
        fields="items(name,size),nextPageToken",
        json_out=True,
    )
    deadline = settings["deadline"]
    future = asyncio.run_coroutine_threadsafe(asyncio.wait_for(call, deadline), fs.loop)
    try:
        answer: dict[str, Any] = future.result(timeout=deadline + 2)
    except Exception as error:
        bad: BadObject = explain_failure(root, error, False, settings)
        raise InputError(f"{root}: {bad.status}, {bad.detail}; check cloud.images_url") from None
    return answer


def _free(folder: Path) -> int:
    existing = next(
        path for path in (folder.absolute(), *folder.absolute().parents) if path.exists()
    )
    return shutil.disk_usage(existing).free
