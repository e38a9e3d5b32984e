"""Files and folders are written whole or not at all, under the rights a person would give them."""

import hashlib
import os
import stat
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import polars as pl
import pytest

from peft_ablation.artifacts import (
    read_json,
    sha256_file,
    sha256_json,
    whole_file,
    whole_folder,
    write_json,
    write_table,
)

Whole = Callable[[Path], AbstractContextManager[Path]]


def fill(part: Path, text: str) -> None:
    """Write `text` to a file, or to two files of a folder."""
    if part.is_dir():
        (part / "inner").mkdir()
        for file in (part / "a", part / "inner" / "b"):
            file.write_text(text)
    else:
        part.write_text(text)


def content(target: Path) -> dict[str, str]:
    files = [target] if target.is_file() else [p for p in target.rglob("*") if p.is_file()]
    return {str(file.relative_to(target)): file.read_text() for file in files}


both = pytest.mark.parametrize("whole", [whole_file, whole_folder])


@both
def test_target_appears_at_the_end_and_its_parent_with_it(whole: Whole, tmp_path: Path) -> None:
    target = tmp_path / "new" / "target"
    with whole(target) as part:
        fill(part, "text")
        assert not target.exists()
    assert set(content(target).values()) == {"text"}
    assert list(target.parent.iterdir()) == [target]


@both
def test_a_new_target_takes_the_place_of_the_old_one(whole: Whole, tmp_path: Path) -> None:
    target = tmp_path / "target"
    for text in ("old", "new"):
        with whole(target) as part:
            fill(part, text)
    assert set(content(target).values()) == {"new"}
    assert list(tmp_path.iterdir()) == [target]


def test_nothing_of_an_old_folder_stays(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.mkdir()
    (target / "old").touch()
    with whole_folder(target) as part:
        (part / "new").touch()
    assert list(content(target)) == ["new"]


@both
def test_a_failure_leaves_the_old_target_and_nothing_else(whole: Whole, tmp_path: Path) -> None:
    target = tmp_path / "target"
    with whole(target) as part:
        fill(part, "old")
    before = content(target)
    with pytest.raises(RuntimeError), whole(target) as part:
        fill(part, "half")
        raise RuntimeError
    assert content(target) == before
    assert list(tmp_path.iterdir()) == [target]


@both
def test_an_unfinished_part_is_hidden_and_known_by_its_ending(whole: Whole, tmp_path: Path) -> None:
    with whole(tmp_path / "target") as part:
        assert part.parent == tmp_path
        assert part.name.startswith(".target.") and part.suffix == ".part"


@both
@pytest.mark.parametrize("umask", [0o022, 0o007])
def test_rights_are_those_of_the_umask(whole: Whole, umask: int, tmp_path: Path) -> None:
    """Temporary names are made for one's own eyes alone; results are for a group's."""
    before = os.umask(umask)
    try:
        with whole(tmp_path / "target") as part:
            fill(part, "text")
        assert os.umask(umask) == umask  # and it is left as it was
    finally:
        os.umask(before)
    expected = (0o777 if whole is whole_folder else 0o666) & ~umask
    assert stat.S_IMODE((tmp_path / "target").stat().st_mode) == expected


@both
def test_content_reaches_the_disk_before_its_name_does(
    whole: Whole, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "target"
    flushed: dict[int, bool] = {}
    flush = os.fsync

    def fsync(handle: int) -> None:
        flushed.setdefault(os.fstat(handle).st_ino, target.exists())
        flush(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    with whole(target) as part:
        fill(part, "text")
    inner = [target, *target.rglob("*")]
    assert [flushed[path.stat().st_ino] for path in inner] == [False] * len(inner)
    assert flushed[tmp_path.stat().st_ino] is True  # the name itself, after the renaming


def test_json_is_sorted_indented_and_read_back(tmp_path: Path) -> None:
    value = {"b": [1, None], "a": "é"}
    write_json(tmp_path / "v.json", value)
    assert (tmp_path / "v.json").read_text(encoding="utf-8") == (
        '{\n  "a": "é",\n  "b": [\n    1,\n    null\n  ]\n}\n'
    )
    assert read_json(tmp_path / "v.json") == value


def test_sum_of_a_value_is_that_of_its_shortest_sorted_json() -> None:
    expected = hashlib.sha256(b'{"a":{"c":2,"d":3},"b":1}').hexdigest()
    assert sha256_json({"b": 1, "a": {"d": 3, "c": 2}}) == expected


def test_sum_of_a_file_is_the_published_one(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")
    # FIPS 180-2, appendix B.1.
    assert sha256_file(tmp_path / "abc") == (
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    )


def test_table_is_written_by_ending(tmp_path: Path) -> None:
    table = pl.DataFrame({"x": [1, 2]})
    write_table(table, tmp_path / "t.parquet", tmp_path / "t.csv")
    assert pl.read_parquet(tmp_path / "t.parquet").equals(table)
    assert (tmp_path / "t.csv").read_text() == "x\n1\n2\n"
    with pytest.raises(ValueError, match=r"unknown ending '\.xlsx'"):
        write_table(table, tmp_path / "t.xlsx")
