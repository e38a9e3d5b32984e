"""A finished study is hashed again: one changed byte, one lost or one added file is told."""

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from peft_ablation.artifacts import read_json
from peft_ablation.errors import InputError
from peft_ablation.verify import seal, verify


@pytest.fixture
def study(tmp_path: Path) -> Path:
    root = tmp_path / "results" / "toy"
    for name in ("comparison/comparison.csv", "runs/a/model/weights", "runs/a/model/sub/more",
                 "runs/a/cost.json"):  # fmt: skip
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"four")
    (root / "runs/a/model/.snakemake_timestamp").touch()
    # Part of the run and no result: nothing is said of the folder that it lies in.
    (root / "runs/a/notes").touch()
    paths = [root / "comparison/comparison.csv", root / "runs/a/model", root / "runs/a/cost.json"]
    seal(paths, study="toy", config={"a": 1}, output=root / "manifest.json")
    return root


def test_the_manifest_names_each_file_and_what_it_was_made_with(study: Path):
    told = read_json(study / "manifest.json")
    digest = hashlib.sha256(b"four").hexdigest()
    assert told["files"] == {
        "comparison/comparison.csv": digest, "runs/a/cost.json": digest,
        "runs/a/model/sub/more": digest, "runs/a/model/weights": digest,
    }  # fmt: skip
    assert told["folders"] == ["comparison", "runs/a/model", "runs/a/model/sub"]
    assert told["study"] == "toy"
    assert {"config_sha256", "code", "packages", "hardware"} <= told.keys()
    assert "inputs" not in told


def test_nothing_is_said_of_a_study_as_it_was(study: Path):
    assert verify(study) == []
    # Nor where it was moved to.
    assert verify(study.rename(study.with_name("moved"))) == []


def test_a_changed_byte_is_told(study: Path):
    (study / "runs/a/model/weights").write_bytes(b"fouR")
    found, recorded = (hashlib.sha256(text).hexdigest()[:12] for text in (b"fouR", b"four"))
    assert verify(study) == [
        f"changed: runs/a/model/weights (SHA-256 {found}…, recorded {recorded}…)"
    ]


def test_missing_and_extra_files_are_told(study: Path):
    (study / "comparison/comparison.csv").unlink()
    (study / "comparison/other.csv").touch()
    (study / "runs/a/model/sub/.hidden").touch()
    (study / "runs/a/more").touch()
    assert verify(study) == ["missing: comparison/comparison.csv", "extra: comparison/other.csv"]


@pytest.mark.parametrize("text", [None, "[]", '{"files": {}}'])
def test_a_folder_without_a_finished_study_is_refused(tmp_path: Path, text: str | None):
    if text is not None:
        (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(InputError, match=r"manifest\.json") as refused:
        verify(tmp_path)
    assert "\n" not in str(refused.value)


def test_the_command_names_what_changed_and_fails(study: Path):
    def run() -> subprocess.CompletedProcess[str]:
        words = [sys.executable, "-m", "peft_ablation.verify", str(study)]
        return subprocess.run(words, capture_output=True, text=True, check=False)

    done = run()
    assert (done.returncode, done.stderr) == (0, "")
    assert "4 files are as recorded" in done.stdout
    (study / "runs/a/cost.json").unlink()
    done = run()
    assert done.returncode == 1
    assert "missing: runs/a/cost.json" in done.stderr.splitlines()
    assert "Traceback" not in done.stderr
