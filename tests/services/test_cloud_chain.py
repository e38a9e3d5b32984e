"""The workflow itself, from BigQuery and gs:// to the image index, and what its logs may hold."""

import os
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
import yaml
from gcs_server import PROJECT

from peft_ablation.data.images import ImageCache
from peft_ablation.sources.mimic.layout import image_path

ROOT = Path(__file__).resolve().parents[2]
STUDY = """
task: captioning
data: {source: bigquery}
sample: {quota: 3, absent_labels: skip}
images: {size: 48, shards: 2}
base: {id: phantom}
arms:
  fft: {method: full, learning_rate: 1.0e-3}
"""


@pytest.fixture
def site(gcs, bigquery, cloud, shared_data, tmp_path):
    """A site whose cloud holds the real tree; returns its config file."""
    tree = shared_data / "nih-cxr-mimic-layout"
    for name in ("metadata", "chexpert"):
        table = pl.read_csv(tree / f"mimic-cxr-2.0.0-{name}.csv.gz", infer_schema_length=None)
        table = table.rename({column: column.replace(" ", "_") for column in table.columns})
        bigquery.database.register("source", table.to_arrow())
        bigquery.database.execute(f"CREATE TABLE {name} AS SELECT * FROM source")
        if name == "metadata":
            for row in table.select("subject_id", "study_id", "dicom_id").iter_rows():
                gcs.put(image_path(*row), (tree / image_path(*row)).read_bytes())
    bigquery.page_size = 500
    study = tmp_path / "cloud_study.yaml"
    study.write_text(STUDY)
    tables = {
        "metadata_table": "physionet.mimic.metadata",
        "chexpert_table": "physionet.mimic.chexpert",
    }
    config = tmp_path / "site.yaml"
    config.write_text(
        yaml.safe_dump(
            {
                "study": str(study),
                "results": str(tmp_path / "results"),
                "cloud": {**cloud, **tables, "read_timeout": 5, "deadline": 30},
            }
        )
    )
    return config


def snakemake(config: Path, *targets: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "snakemake", "--snakefile", ROOT / "Snakefile", "--cores", "1"]
    command += [*targets, "--directory", config.parent, "--configfile", config]
    return subprocess.run(
        [str(part) for part in command],
        env=os.environ | {"NO_PROXY": "127.0.0.1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def everything_logged(config: Path, *runs: subprocess.CompletedProcess) -> str:
    folder = config.parent
    files = [*(folder / "results").rglob("*.log"), *(folder / ".snakemake" / "log").iterdir()]
    assert len(files) >= 3
    return "\n".join([*(file.read_text() for file in files), *(r.stdout + r.stderr for r in runs)])


@pytest.mark.slow
def test_the_chain_runs_from_the_cloud_and_logs_no_secret_and_no_patient(site, gcs):
    planned = snakemake(site, "plan_download")
    assert planned.returncode == 0, planned.stderr
    assert "Egress" in planned.stdout
    assert not any("/download/" in request for request in gcs.requests)
    done = snakemake(site, "index_images")
    assert done.returncode == 0, done.stderr
    results = site.parent / "results" / "cloud_study"
    reports = pl.read_parquet(results / "cohort" / "examples.parquet")
    cache = ImageCache(results / "images" / "index.parquet")
    assert len(cache) == reports.height > 0
    downloads = [request for request in gcs.requests if "/download/" in request]
    assert len(downloads) == reports.height  # only what the cohort needs, and nothing twice
    logged = everything_logged(site, planned, done)
    secrets = {PROJECT, *map(str, reports["subject_id"]), *reports["dicom_id"], *reports["report"]}
    assert [secret for secret in secrets if secret in logged] == []
    refuse_and_look(site, gcs)


def refuse_and_look(site: Path, gcs) -> None:
    """Lose access after a good run: one line, without account or project."""
    denied = f"me@example.org does not have storage.objects.get access, project {PROJECT}"
    gcs.fail("status", status=403, message=denied, times=10**6)
    done = snakemake(site, "index_images", "--forcerun", "cache_images")
    assert done.returncode != 0
    told = [line for line in done.stderr.splitlines() if line.startswith("peft-ablation: gs://")]
    assert told
    assert all("request access to the data set" in line for line in told)
    logged = everything_logged(site, done)
    assert PROJECT not in logged
    assert "example.org" not in logged
    assert "Traceback" not in logged
