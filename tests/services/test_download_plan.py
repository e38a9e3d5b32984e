"""The plan's numbers against objects and prices set by hand."""

import polars as pl
import pytest
from bigquery_server import BYTES

from peft_ablation.artifacts import read_json
from peft_ablation.errors import InputError
from peft_ablation.sources.mimic.download_plan import DownloadPlan, plan_download, render_plan
from peft_ablation.sources.mimic.layout import image_path

COHORT = [(10_000_000 + i * 100_000, 50_000_000 + i, f"d{i:02d}") for i in range(12)]


@pytest.fixture
def services(gcs, bigquery):
    bigquery.database.execute("CREATE TABLE metadata (x BIGINT)")
    gcs.list_page = 4
    for row in COHORT:
        gcs.put(image_path(*row), b"x" * 1_000_000)
        gcs.put(image_path(row[0], row[1], "lateral"), b"x" * 3_000_000)
    return gcs, bigquery


def plan(site, tmp_path, **changes):
    settings = {
        "sql": "resources/query_metadata.sql",
        "reports": tmp_path / "reports.parquet",
        "root": None,
        "cloud": {**site, "egress_usd_per_gb": 0.5, "egress_source": "a price list"},
        "views": ["AP"],
        "limit": None,
        "quota": 10,
        "size": 224,
        "results": tmp_path,
        "output": tmp_path / "plan.json",
    }
    return plan_download(**(settings | changes))


def test_the_cohort_is_priced_from_the_listing_alone(services, cloud, tmp_path):
    gcs, bigquery = services
    rows = [*COHORT, (10_000_001, 50_000_099, "absent")]
    pl.DataFrame(rows, schema=["subject_id", "study_id", "dicom_id"], orient="row").write_parquet(
        tmp_path / "reports.parquet"
    )
    found = plan(cloud, tmp_path)
    assert (found.images, found.images_missing) == (12, 1)
    assert found.bytes_scanned == BYTES
    assert found.download_gb == pytest.approx(0.012)
    assert found.egress_usd == pytest.approx(0.006)
    assert found.disk_needed_gb == pytest.approx(12 * 224 * 224 / 1e9)
    assert found.disk_free_gb > 0
    assert read_json(tmp_path / "plan.json")["images"] == 12
    assert not any("/download/" in request for request in gcs.requests)
    assert all(job["rows"] == [] for job in bigquery.jobs.values())
    text = render_plan(found)
    assert "12 (1 not in the store)" in text
    assert "a price list" in text


def test_originals_that_are_kept_need_disk(services, cloud, tmp_path):
    pl.DataFrame(COHORT, schema=["subject_id", "study_id", "dicom_id"], orient="row").write_parquet(
        tmp_path / "reports.parquet"
    )
    kept = {**cloud, "keep_originals": str(tmp_path / "originals")}
    assert plan(cloud, tmp_path, cloud=kept).disk_needed_gb == pytest.approx(
        (12 * 224 * 224 + 12_000_000) / 1e9
    )


def test_before_the_cohort_is_drawn_the_plan_is_an_upper_bound(services, cloud, tmp_path):
    found = plan(cloud, tmp_path)
    # 14 labels x 10; the first page of four holds two images of 1 MB and two of 3 MB.
    assert (found.basis, found.images) == ("upper bound", 140)
    assert found.download_gb == pytest.approx(140 * 2e6 / 1e9)
    assert plan(cloud, tmp_path, limit=50).images == 50
    assert "at most 140" in render_plan(found)


def test_a_local_tree_has_nothing_to_download(tmp_path):
    assert plan({}, tmp_path, root=tmp_path) is None
    assert "nothing to download" in render_plan(None)


@pytest.mark.parametrize(("free", "enough"), [(1.9, False), (2.0, True), (9.0, True)])
def test_too_small_a_disk_is_said(free, enough):
    planned = DownloadPlan(
        basis="cohort", bytes_scanned=1, maximum_bytes_billed=2, images=3, images_missing=0,
        download_gb=1.0, egress_usd=0.1, egress_usd_per_gb=0.1, egress_source="a price list",
        disk_needed_gb=2.0, disk_free_gb=free,
    )  # fmt: skip
    assert ("NOT ENOUGH DISK" in render_plan(planned)) is not enough


def test_a_wrong_bucket_is_named(services, cloud, tmp_path):
    with pytest.raises(InputError, match=r"gs://other: .*check cloud\.images_url"):
        plan(cloud, tmp_path, cloud={**cloud, "images_url": "gs://other"})
