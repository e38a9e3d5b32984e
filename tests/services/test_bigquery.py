"""The real google-cloud-bigquery over the wire: the right rows, or one line with what to do."""

import socket
import time

import polars as pl
import pytest
from bigquery_server import BYTES
from google_project import PROJECT

from peft_ablation.errors import InputError
from peft_ablation.sources.mimic.bigquery import bytes_scanned, run_query
from peft_ablation.sources.mimic.cohort import query_metadata

SQL = (
    "SELECT x, name FROM `physionet.mimic.t` WHERE name IN UNNEST(@names) AND x <= @most ORDER BY x"
)
ROWS = [(1, "AP"), (2, "PA"), (3, "AP"), (4, None), (5, "PA"), (6, "AP"), (7, "AP"), (8, "PA")]
KEPT = [row for row in ROWS if row[1] is not None and row[0] <= 7]


@pytest.fixture
def filled(bigquery):
    bigquery.database.execute("CREATE TABLE t (x BIGINT, name VARCHAR)")
    bigquery.database.executemany("INSERT INTO t VALUES (?, ?)", ROWS)
    return bigquery


def run(cloud, sql=SQL):
    return run_query(sql, {"names": ["AP", "PA"], "most": 7}, cloud)


def found(cloud):
    return [tuple(row.values()) for row in run(cloud).to_pylist()]


def test_parameters_go_by_name_and_all_pages_come_back(filled, cloud):
    assert found(cloud) == KEPT
    pages = [request for request in filled.requests if "pageToken=" in request]
    assert len(pages) == 1  # 6 rows, 3 a page; the first page carries no token


def test_a_running_job_is_waited_for(filled, cloud):
    filled.polls = 2
    assert found(cloud) == KEPT


def test_the_limit_on_bytes_billed_always_goes_along(filled, cloud):
    found(cloud)
    (job,) = filled.jobs.values()
    assert job["configuration"]["query"]["maximumBytesBilled"] == "2000000000"


def test_a_dry_run_tells_bytes_and_runs_nothing(filled, cloud):
    assert bytes_scanned(SQL, {"names": ["AP"], "most": 7}, cloud) == BYTES
    (job,) = filled.jobs.values()
    assert job["configuration"]["dryRun"] is True
    assert job["rows"] == []


def test_a_dry_run_asks_no_cache_which_would_tell_0_bytes(filled, cloud):
    bytes_scanned(SQL, {"names": ["AP"], "most": 7}, cloud)
    found(cloud)
    dry, real = (job["configuration"]["query"] for job in filled.jobs.values())
    assert (dry["useQueryCache"], real["useQueryCache"]) == (False, True)


@pytest.mark.parametrize("part", ["/jobs", "/queries/"])
@pytest.mark.parametrize("status", [500, 503, 429])
def test_a_passing_refusal_is_tried_again(filled, cloud, status, part):
    reason = {500: "backendError", 503: "backendError", 429: "rateLimitExceeded"}[status]
    filled.fail(part, 1, status, reason, "injected")
    assert found(cloud) == KEPT


def one_line(caught) -> str:
    line = str(caught.value)
    assert "\n" not in line
    assert line.startswith("BigQuery: ")
    assert PROJECT not in line
    assert "example.org" not in line
    return line


@pytest.mark.parametrize(
    ("status", "reason", "message", "said"),
    [
        (403, "accessDenied", "me@example.org: User lacks permission on table", "physionet.org"),
        (403, "billingNotEnabled", "Billing has not been enabled", "cloud.billing_project"),
        (403, "quotaExceeded", "Quota exceeded: bytes per day", "a quota of the billing project"),
        (404, "notFound", "Not found: Dataset physionet-data", "cloud.metadata_table"),
        (400, "invalidQuery", "Unrecognized name: ViewPosition", "resources/query_metadata.sql"),
        (401, "authError", "Invalid Credentials", "gcloud auth application-default login"),
        (503, "backendError", "try later", "answered 503 to every try"),
    ],
)
def test_a_lasting_refusal_is_one_line_with_what_to_do(
    filled, cloud, status, reason, message, said
):
    filled.fail("/jobs", 10**6, status, reason, message)
    start = time.perf_counter()
    with pytest.raises(InputError) as caught:
        run({**cloud, "deadline": 3})
    assert time.perf_counter() - start < 5
    assert said in one_line(caught)


def test_more_bytes_than_allowed_are_refused_before_they_are_billed(filled, cloud):
    with pytest.raises(InputError) as caught:
        run({**cloud, "maximum_bytes_billed": BYTES - 1, "deadline": 3})
    assert "cloud.maximum_bytes_billed (12,345,677 bytes), nothing was billed" in one_line(caught)


def test_wrong_sql_is_named_by_the_service(filled, cloud):
    with pytest.raises(InputError) as caught:
        run(cloud, "SELECT nothing_like_it FROM `physionet.mimic.t`")
    assert "400" in one_line(caught)
    assert "nothing_like_it" in one_line(caught)


@pytest.mark.parametrize("part", ["/jobs", "/queries/", "pageToken"])
def test_a_stall_ends_at_the_deadline(filled, cloud, part):
    filled.fail(part, 10**6, "stall")
    start = time.perf_counter()
    with pytest.raises(InputError) as caught:
        run({**cloud, "deadline": 2})
    assert time.perf_counter() - start < 4
    assert "cloud.deadline (2 s)" in one_line(caught)


def test_a_refused_connection_is_told(cloud, monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setenv("BIGQUERY_EMULATOR_HOST", f"http://127.0.0.1:{port}")
    with pytest.raises(InputError) as caught:
        run({**cloud, "deadline": 3})
    assert "no connection" in one_line(caught)


def test_no_billing_project_and_no_credentials_are_told_apart(monkeypatch, cloud, tmp_path):
    with pytest.raises(InputError, match=r"cloud\.billing_project is not set"):
        run({**cloud, "billing_project": None})
    monkeypatch.delenv("BIGQUERY_EMULATOR_HOST", raising=False)
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    with pytest.raises(InputError, match="gcloud auth application-default login"):
        run(cloud)


def test_the_cohort_query_gives_on_bigquery_what_it_gives_on_csvs(
    bigquery, cloud, shared_data, tmp_path
):
    tree = shared_data / "nih-cxr-mimic-layout"
    metadata, chexpert = (
        tree / f"mimic-cxr-2.0.0-{name}.csv.gz" for name in ("metadata", "chexpert")
    )
    for name, file in (("metadata", metadata), ("chexpert", chexpert)):
        table = pl.read_csv(file, infer_schema_length=None)
        table = table.rename({column: column.replace(" ", "_") for column in table.columns})
        bigquery.database.register("source", table.to_arrow())
        bigquery.database.execute(f"CREATE TABLE {name} AS SELECT * FROM source")
    bigquery.page_size = 200
    tables = {
        "metadata_table": "physionet.mimic.metadata",
        "chexpert_table": "physionet.mimic.chexpert",
    }
    written = []
    for kind, sources in (
        ("csv", {"metadata": metadata, "chexpert": chexpert, "cloud": None}),
        ("bigquery", {"metadata": None, "chexpert": None, "cloud": {**cloud, **tables}}),
    ):
        output = tmp_path / f"{kind}.parquet"
        query_metadata(
            sql="resources/query_metadata.sql",
            views=["AP", "PA"],
            limit=None,
            output=output,
            account=tmp_path / f"{kind}.json",
            **sources,
        )
        written.append((output.read_bytes(), (tmp_path / f"{kind}.json").read_text()))
    assert written[0] == written[1]
