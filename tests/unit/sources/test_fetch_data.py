"""Files of a hub data set, from a hub on loopback."""

import io
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub.constants
import polars as pl
import pytest
from loopback_hub import COMMIT, GATED, IDENTITY, loopback_hub

from peft_ablation.config.site import Site
from peft_ablation.errors import InputError
from peft_ablation.sources.table import Table, TableData
from peft_ablation.sources.table.fetch import fetch_file

ROWS = pl.DataFrame({"text": ["a town", "a river"], "label": [0, 1]})
FILE = "data/train.parquet"


def parquet() -> bytes:
    written = io.BytesIO()
    ROWS.write_parquet(written)
    return written.getvalue()


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    with loopback_hub({FILE: parquet(), "README.md": b"words"}) as (address, asked):
        # What HF_ENDPOINT sets where it is there before the library is imported.
        template = f"{address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", address)
        monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        yield asked


def source(folder: Path, **hub: str) -> Table:
    told = {"id": IDENTITY, "revision": COMMIT} | hub
    columns = {"text": "text", "label": "label"}
    data = TableData(source="table", hub=told, files=FILE, columns=columns)
    return Table(data, Site(datasets=str(folder)), "results/mine")


def test_a_fetched_file_is_kept_by_id_and_commit_and_read_offline(
    tmp_path: Path, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    cities = source(tmp_path)
    cities.check()
    ((kept, name),) = cities.fetched.items()
    assert kept == f"{tmp_path}/somebody--cities@{COMMIT}/{FILE}"
    assert list(cities.inputs().values()) == [kept]
    fetch_file(IDENTITY, COMMIT, name, kept)
    assert Path(kept).read_bytes() == parquet()
    assert sorted(path.name for path in Path(kept).parent.iterdir()) == ["train.parquet"]
    count = len(asked)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    table, _ = cities.read()
    assert table.select("text", "label").rows() == [("a town", "0"), ("a river", "1")]
    assert len(asked) == count


@pytest.mark.parametrize(
    ("identity", "revision", "file", "told"),
    [
        ("somebody/else", COMMIT, FILE, "data.hub.id: the hub has no data set 'somebody/else'"),
        (GATED, COMMIT, FILE, "data.hub.id: somebody/gated is gated: ask for access"),
        (IDENTITY, "f" * 40, FILE, f"data.hub.revision: {IDENTITY} has no '{'f' * 40}'; pin"),
        (IDENTITY, COMMIT, "data/trian.parquet", "did you mean 'data/train.parquet'?"),
    ],
)
def test_what_the_hub_does_not_give_is_one_line(
    tmp_path: Path, asked: list[str], identity: str, revision: str, file: str, told: str
) -> None:
    with pytest.raises(InputError) as error:
        fetch_file(identity, revision, file, tmp_path / "out.parquet")
    assert told in str(error.value) and "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


def test_a_hub_that_is_not_there_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    with pytest.raises(InputError, match=r"could not be fetched .*run fetch_data where") as error:
        fetch_file(IDENTITY, COMMIT, FILE, tmp_path / "out.parquet")
    assert "\n" not in str(error.value)


def test_a_branch_is_told_to_be_pinned(
    tmp_path: Path, asked: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    fetch_file(IDENTITY, "main", FILE, tmp_path / "out.parquet")
    assert f"main may move; pin {COMMIT}" in caplog.text


@pytest.mark.parametrize(
    ("data", "told"),
    [
        ({"hub": {"id": IDENTITY}, "files": FILE}, "revision"),
        ({"hub": {"id": "cities", "revision": COMMIT}, "files": FILE}, "hub.id"),
        ({"hub": {"id": IDENTITY, "revision": COMMIT}, "files": "../x.csv"}, "files"),
        ({"hub": {"id": IDENTITY, "revision": COMMIT}, "files": "a/../../x.csv"}, "files"),
        ({"hub": {"id": IDENTITY, "revision": COMMIT}, "files": "/x.csv"}, "files"),
        ({"hub": {"id": IDENTITY, "revision": COMMIT}, "files": "https://h/x.csv"}, "files"),
    ],
)
def test_a_hub_data_set_needs_id_commit_and_its_own_files(data: dict, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        TableData(source="table", columns={"text": "text"}, **data)
