"""Local trees, checksum files, and hashes of the store, by worked value."""

import hashlib

import pytest

from peft_ablation.data.google_access import billing_project, cloud_settings, scrubbed
from peft_ablation.data.storage import (
    BadObject,
    _google_problem,
    explain_failure,
    read_checksums,
    read_objects,
)
from peft_ablation.errors import InputError

# SHA-256 of the three bytes "abc", from FIPS 180-2, appendix B.1.
ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_local_objects_come_in_order_with_what_is_wrong(tmp_path):
    (tmp_path / "b").write_bytes(b"abc")
    (tmp_path / "a").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    found = list(read_objects(tmp_path, ["b", "none", "a", "folder", "b"]))
    assert found == [
        ("b", b"abc"),
        ("none", BadObject("missing", "no such file")),
        ("a", BadObject("empty", "0 bytes")),
        ("folder", BadObject("unreadable", "Is a directory")),
        ("b", b"abc"),
    ]


def test_checksums_are_held_against_bytes_only_when_asked(tmp_path):
    (tmp_path / "b").write_bytes(b"abd")
    found = dict(read_objects(tmp_path, ["b"], checksums={"b": ABC}))
    assert found["b"].status == "checksum"
    assert "3 bytes" in found["b"].detail
    assert dict(read_objects(tmp_path, ["b"], checksums={"b": ABC}, verify=False))["b"] == b"abd"
    (tmp_path / "b").write_bytes(b"abc")
    assert dict(read_objects(tmp_path, ["b"], checksums={"b": ABC}))["b"] == b"abc"


@pytest.mark.parametrize("name", ["SHA256SUMS.txt", "SHA256SUMS"])
@pytest.mark.parametrize("line", ["{} files/x", "{}  files/x", "{} *files/x", "{}  ./files/x"])
def test_checksum_files_of_sha256sum_are_read(tmp_path, name, line):
    other = hashlib.sha256(b"other").hexdigest()
    text = line.format(ABC.upper()) + f"\n\n{other}  files/unwanted\n"
    (tmp_path / name).write_text(text)
    assert read_checksums(tmp_path, ["files/x", "files/y"]) == {"files/x": ABC}


def test_a_tree_without_checksums_has_none(tmp_path):
    assert read_checksums(tmp_path, ["files/x"]) is None


def test_hashes_of_the_store_are_base64():
    # RFC 1321 gives the MD5 of "abc", 900150983cd24fb0d6963f7d28e17f72.
    md5 = "kAFQmDzST7DWlj99KOF/cg=="
    # RFC 3720, B.4: CRC-32C of 32 bytes of zero is 0x8a9136aa.
    crc = "ipE2qg=="
    assert _google_problem(b"abc", {"md5": md5}) is None
    assert _google_problem(b"abd", {"md5": md5}) == "3 bytes differ from the store's md5Hash"
    assert _google_problem(bytes(32), {"crc32c": crc}) is None
    assert _google_problem(bytes(31), {"crc32c": crc}) == "31 bytes differ from the store's crc32c"
    assert _google_problem(b"abc", {}) == "the store gives neither md5Hash nor crc32c"


def test_messages_of_a_service_lose_accounts_projects_and_tokens():
    said = "a@b.org may\nnot use my-project with Bearer abc.def or ya29.x at https://h/p?k=v"
    assert scrubbed(said, {"billing_project": "my-project"}) == (
        "<account> may not use <project> with <token> or <token> at"
    )


def test_nobody_who_pays_is_an_error_and_somebody_is_returned():
    assert billing_project({"billing_project": "p"}) == "p"
    with pytest.raises(InputError, match=r"cloud\.billing_project is not set"):
        billing_project({"billing_project": ""})


def test_a_refusal_is_one_objects_alone_once_another_was_read():
    settings = cloud_settings({})
    error = OSError("Forbidden: https://store/b/x\nno")
    assert explain_failure("gs://b/x", error, True, settings).status == "forbidden"
    with pytest.raises(InputError, match="gs://b/x: access denied"):
        explain_failure("gs://b/x", error, False, settings)
