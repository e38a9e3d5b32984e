"""The real gcsfs over the wire: right bytes in the end, or one line that says what to do."""

import hashlib
import logging
import socket
import time

import polars as pl
import pytest
from gcs_server import BUCKET
from google_project import PROJECT

from peft_ablation.data.images import ImageCache, cache_shard, index_shards
from peft_ablation.data.storage import BadObject, read_objects
from peft_ablation.errors import InputError
from peft_ablation.sources.mimic.layout import image_path

ROOT = f"gs://{BUCKET}"
PATHS = [f"files/p10/p1000000{i}/s5000000{i}/d{i}.jpg" for i in range(6)]


def content(path: str) -> bytes:
    return path.encode() * 100


@pytest.fixture
def filled(gcs):
    for path in PATHS:
        gcs.put(path, content(path))
    return gcs


def read(cloud, paths=PATHS, **options):
    return list(read_objects(ROOT, paths, cloud=cloud, **options))


RIGHT = [(path, content(path)) for path in PATHS]


def test_objects_come_in_input_order_duplicates_too(filled, cloud):
    order = [PATHS[4], PATHS[0], PATHS[4], PATHS[2]]
    assert read(cloud, order) == [(path, content(path)) for path in order]
    assert read(cloud, []) == []


def test_one_request_an_object_and_each_names_who_pays(filled, cloud):
    assert read(cloud) == RIGHT
    assert len(filled.requests) == len(PATHS)
    assert all(f"userProject={PROJECT}" in request for request in filled.requests)


def test_many_objects_are_in_flight_but_not_more_than_allowed(gcs, cloud):
    paths = [f"files/{i:03d}.jpg" for i in range(120)]
    for path in paths:
        gcs.put(path, content(path))
    gcs.latency = 0.02
    start = time.perf_counter()
    assert read(cloud, paths) == [(path, content(path)) for path in paths]
    assert time.perf_counter() - start < 120 * 0.02  # one at a time takes longer than this
    assert 4 <= gcs.most_in_flight <= cloud["requests_in_flight"]


@pytest.mark.parametrize(("status", "place"), [(408, 3), (429, 3), (500, 3), (503, 3), (503, 0)])
def test_a_passing_refusal_is_tried_again(filled, cloud, status, place):
    filled.fail("status", match=f"d{place}.jpg", status=status)
    assert read(cloud) == RIGHT


@pytest.mark.parametrize("kind", ["reset", "cut", "cut_matching", "flip", "stall"])
def test_a_broken_answer_is_fetched_again(filled, cloud, kind):
    filled.fail(kind, match="d2.jpg")
    assert read(cloud) == RIGHT
    assert sum("d2.jpg" in request for request in filled.requests) == 2


@pytest.mark.parametrize("kind", ["cut_matching", "flip"])
def test_bytes_that_stay_wrong_are_named_and_never_passed_on(filled, cloud, kind):
    filled.fail(kind, match="d2.jpg", times=99)
    found = dict(read(cloud))
    assert isinstance(found[PATHS[2]], BadObject)
    assert found[PATHS[2]].status == "checksum"
    assert "differ from the store's md5Hash, 3 times" in found[PATHS[2]].detail
    assert found[PATHS[3]] == content(PATHS[3])


def test_the_hash_is_asked_for_where_the_answer_has_none(filled, cloud):
    filled.fail("no_hash", match="d2.jpg", times=99)
    assert read(cloud) == RIGHT
    assert sum("d2.jpg" in request for request in filled.requests) == 2


def test_sha256sums_hold_for_the_cloud_too(filled, cloud):
    sums = {path: hashlib.sha256(content(path)).hexdigest() for path in PATHS}
    assert read(cloud, checksums=sums) == RIGHT
    sums[PATHS[1]] = "0" * 64
    found = dict(read(cloud, checksums=sums))
    assert found[PATHS[1]].status == "checksum"


def test_a_missing_and_an_empty_object_are_rows_not_failures(filled, cloud):
    filled.put(PATHS[1], b"")
    found = dict(read(cloud, [*PATHS, "files/none.jpg"]))
    assert found["files/none.jpg"] == BadObject("missing", "not in the store (404)")
    assert found[PATHS[1]] == BadObject("empty", "0 bytes")
    assert found[PATHS[5]] == content(PATHS[5])


def test_one_forbidden_object_is_a_row(filled, cloud):
    filled.fail("status", match="d3.jpg", status=403, message="no", times=99)
    assert dict(read(cloud))[PATHS[3]] == BadObject("forbidden", "access denied (403)")


def one_line(caught) -> str:
    line = str(caught.value)
    assert "\n" not in line
    assert PROJECT not in line
    return line


def test_no_access_ends_after_one_request_and_says_where_to_ask(filled, cloud):
    denied = "someone@example.org does not have storage.objects.get access to the object."
    filled.fail("status", status=403, message=denied, times=99)
    with pytest.raises(InputError) as caught:
        read(cloud)
    line = one_line(caught)
    assert f"{ROOT}/{PATHS[0]}: access denied" in line
    assert "https://physionet.org/content/mimic-cxr-jpg" in line
    assert "example.org" not in line
    assert len(filled.requests) == 1


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (400, "Bucket is a requester pays bucket but no user project provided."),
        (400, "User project specified in the request is invalid."),
        (403, "Caller does not have serviceusage.services.use access to the project."),
        (403, "The billing account for the owning project is disabled in state absent"),
    ],
)
def test_nobody_who_pays_names_the_key(filled, cloud, status, message):
    filled.fail("status", status=status, message=message, times=99)
    with pytest.raises(InputError) as caught:
        read(cloud)
    assert "set cloud.billing_project" in one_line(caught)


def test_refused_credentials_say_how_to_log_in(filled, cloud):
    filled.fail("status", status=401, message="Unauthorized", times=99)
    with pytest.raises(InputError, match="gcloud auth application-default login"):
        read(cloud)


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ({"kind": "status", "status": 503}, "the last try gave status 503"),
        ({"kind": "stall"}, "gave an answer that was cut or stalled"),
        ({"kind": "reset"}, "the last try gave ClientOSError"),
    ],
)
@pytest.mark.parametrize("match", ["d0.jpg", "d3.jpg"])
def test_a_store_that_never_answers_ends_at_the_deadline(filled, cloud, fault, said, match):
    filled.fail(**fault, match=match, times=10**6)
    start = time.perf_counter()
    with pytest.raises(InputError) as caught:
        read({**cloud, "deadline": 1.5})
    assert time.perf_counter() - start < 4.5
    line = one_line(caught)
    assert said in line
    assert match in line


def test_a_refused_connection_is_told(gcs, cloud, monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{port}")
    start = time.perf_counter()
    with pytest.raises(InputError) as caught:
        read({**cloud, "deadline": 3})
    assert time.perf_counter() - start < 6
    assert "no connection to the store (ClientConnector" in one_line(caught)


def test_no_billing_project_names_the_key_before_any_request(filled, cloud):
    with pytest.raises(InputError, match=r"cloud\.billing_project is not set"):
        read({**cloud, "billing_project": None})
    assert filled.requests == []


def test_no_credentials_says_how_to_get_them(monkeypatch, tmp_path, cloud):
    monkeypatch.delenv("STORAGE_EMULATOR_HOST", raising=False)
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    with pytest.raises(InputError) as caught:
        read(cloud)
    assert "gcloud auth application-default login" in one_line(caught)
    assert "https://physionet.org/content/mimic-cxr-jpg" in one_line(caught)


def test_a_broken_credentials_file_is_told_without_its_content(monkeypatch, tmp_path, cloud):
    monkeypatch.delenv("STORAGE_EMULATOR_HOST", raising=False)
    key = tmp_path / "key.json"
    key.write_text('{"private_key": "TOPSECRET"')
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(key))
    with pytest.raises(InputError) as caught:
        read(cloud)
    assert "TOPSECRET" not in one_line(caught)
    assert "gcloud auth application-default login" in one_line(caught)


def test_kept_originals_are_not_fetched_twice(filled, cloud, tmp_path):
    settings = {**cloud, "keep_originals": str(tmp_path)}
    assert read(settings) == RIGHT
    assert (tmp_path / PATHS[0]).read_bytes() == content(PATHS[0])
    filled.requests.clear()
    assert read(settings) == RIGHT
    assert filled.requests == []


def test_other_fsspec_urls_are_read_by_the_same_function(cloud):
    import fsspec

    memory = fsspec.filesystem("memory")
    for path in PATHS[:3]:
        memory.pipe(f"/tree/{path}", content(path))
    found = list(read_objects("memory://tree", [*PATHS[:3], "files/none.jpg"], cloud=cloud))
    assert found[:3] == RIGHT[:3]
    assert found[3][1].status == "missing"
    with pytest.raises(InputError, match="cannot read nosuch:// URLs"):
        list(read_objects("nosuch://tree", PATHS, cloud=cloud))


def test_a_real_tree_is_cached_from_the_cloud_as_from_disk(
    gcs, cloud, shared_data, tmp_path, caplog
):
    caplog.set_level(logging.DEBUG)
    tree = shared_data / "nih-cxr-mimic-layout"
    rows = pl.read_csv(tree / "mimic-cxr-2.0.0-metadata.csv.gz").head(60)
    table = tmp_path / "examples.parquet"
    ids = list(rows.select("subject_id", "study_id", "dicom_id").iter_rows())
    paths = [image_path(*row) for row in ids]
    pl.DataFrame({"example_id": rows["dicom_id"], "image": paths}).write_parquet(table)
    for row in ids:
        gcs.put(image_path(*row), (tree / image_path(*row)).read_bytes())
    gcs.fail("flip", match=ids[7][2])
    gcs.fail("cut_matching", match=ids[20][2])
    gcs.fail("status", match=ids[40][2], status=503)
    found = {}
    for name, root in (("disk", tree), ("cloud", None)):
        folder = tmp_path / name
        cache_shard(
            table,
            shard=0,
            shards=1,
            size=48,
            colour=False,
            verify=True,
            root=root,
            cloud=cloud if root is None else None,
            pixels=folder / "shard-0.npy",
            index=folder / "shard-0.parquet",
        )
        index_shards(
            table,
            [folder / "shard-0.parquet"],
            on_bad_image="fail",
            max_dropped_share=0,
            output=folder / "index.parquet",
            account=folder / "account.json",
        )
        found[name] = ImageCache(folder / "index.parquet").pixels(range(60))
        found[f"{name} bytes"] = (folder / "shard-0.npy").read_bytes()
    assert (found["disk"] == found["cloud"]).all()
    assert found["disk bytes"] == found["cloud bytes"]
    logged = "\n".join(record.getMessage() for record in caplog.records if record.name != "asyncio")
    assert "images/s" in logged
    for secret in (PROJECT, ids[0][2], f"p{ids[0][0]}"):
        ours = [r for r in caplog.records if r.levelno >= logging.INFO and secret in r.getMessage()]
        assert ours == []
