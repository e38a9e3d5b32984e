"""What a manifest says of config, code and inputs."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from peft_ablation.provenance import input_sha256, manifest


def test_config_hash_is_of_the_values_and_not_of_their_order():
    assert (
        manifest({"a": 1, "b": [2, 3]})["config_sha256"]
        == manifest({"b": [2, 3], "a": 1})["config_sha256"]
        == hashlib.sha256(b'{"a":1,"b":[2,3]}').hexdigest()
    )


def test_inputs_are_named_and_hashed(tmp_path: Path):
    file = tmp_path / "scores.json"
    file.write_bytes(b"{}\n")
    expected = hashlib.sha256(b"{}\n").hexdigest()
    assert manifest({}, {"scores": file})["inputs"] == {"scores": expected}
    assert manifest({}, [file])["inputs"] == {str(file): expected}


def test_folder_hash_knows_names_and_contents_but_not_snakemakes_marker(tmp_path: Path):
    folder = tmp_path / "base"
    (folder / "sub").mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "sub" / "weights").write_text("w")
    first = input_sha256(folder)
    (folder / ".snakemake_timestamp").write_text("")
    assert input_sha256(folder) == first
    (folder / "sub" / "weights").rename(folder / "sub" / "other")
    renamed = input_sha256(folder)
    assert renamed != first
    (folder / "sub" / "other").write_text("v")
    assert input_sha256(folder) not in {first, renamed}


def test_a_missing_input_is_an_error_and_no_hash(tmp_path: Path):
    with pytest.raises(FileNotFoundError):
        manifest({}, {"scores": tmp_path / "none.json"})


def test_manifest_is_the_same_twice_and_json_able():
    first = json.dumps(manifest({"a": 1}), sort_keys=True)
    assert json.dumps(manifest({"a": 1}), sort_keys=True) == first


def test_package_releases_are_those_installed():
    packages = manifest({})["packages"]
    assert packages["numpy"] == np.__version__


def test_commit_is_the_checkouts_own():
    root = Path(__file__).resolve().parents[2]
    head = subprocess.run(
        ["git", "-C", str(root), "rev-parse", "HEAD"], capture_output=True, text=True
    )
    if head.returncode:
        pytest.skip("not a git checkout")
    assert manifest({})["code"]["git_commit"] == head.stdout.strip()


def test_torch_is_not_imported():
    code = (
        "import sys; from peft_ablation.provenance import manifest; manifest({}); "
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
