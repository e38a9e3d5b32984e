import json
import subprocess
import sys
from pathlib import Path

import huggingface_hub.constants
import numpy as np
import pytest
from huggingface_hub.errors import OfflineModeIsEnabled
from loopback_hub import GATED, loopback_hub
from safetensors.numpy import save_file

from peft_ablation.artifacts import read_json, sha256_file
from peft_ablation.bases.fetch import base_folder, check_base_id, fetch_base
from peft_ablation.config.base import Base, Pretraining
from peft_ablation.errors import InputError


@pytest.fixture
def local(tmp_path: Path) -> Path:
    folder = tmp_path / "own-git"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "git"}))
    (folder / "tokenizer.json").write_text("{}")
    save_file({"weight": np.ones((2, 3), np.float32)}, folder / "model.safetensors")
    (folder / "pytorch_model.bin").write_bytes(b"pickle")
    (folder / "modeling_own.py").write_text("raise SystemExit")
    return folder


def fetch(identity: str, revision: str | None, output: Path) -> None:
    fetch_base(identity, revision, output, model_types=("git", "blip"), tokenizer=True)


def fields(**values: object) -> dict[str, object]:
    return Base(**values).model_dump(mode="json")


def test_phantom_base_is_named_by_all_that_makes_it() -> None:
    one = base_folder("bases/", fields(), "list findings:")
    assert one.startswith("bases/phantom-")
    assert one == base_folder("bases", fields(), "list findings:")
    other_prompt = base_folder("bases", fields(), "name findings:")
    other_seed = base_folder("bases", fields(pretraining=Pretraining(seed=1)), "list findings:")
    threads = base_folder("bases", fields(pretraining=Pretraining(threads=4)), "list findings:")
    assert len({one, other_prompt, other_seed, threads}) == 4


def test_hub_base_is_named_by_id_and_revision() -> None:
    base = fields(id="microsoft/git-base", revision="0123abc")
    assert base_folder("bases", base, "p") == "bases/microsoft--git-base@0123abc"


@pytest.mark.parametrize("identity", ["./x", "x", "../x", "x/y/z", "/no/x", "x/", "~/x", ".x/y"])
def test_an_id_that_can_only_be_a_folder_must_be_one(
    identity: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    # With a revision too: it is no hub id.
    with pytest.raises(InputError, match=r"^base\.id: '.*' is no such folder; expected phantom, "):
        check_base_id(identity, "0123abc")
    if not identity.startswith("/"):
        Path(identity).mkdir(parents=True)
        check_base_id(identity, None)


def test_owner_and_name_is_a_hub_id_with_its_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    check_base_id("microsoft/git-base", "0123abc")
    with pytest.raises(InputError, match=r"^base\.revision: missing: no folder microsoft/git-base"):
        check_base_id("microsoft/git-base", None)
    Path("microsoft").mkdir()
    Path("microsoft", "git-base").touch()
    with pytest.raises(InputError, match="is a file, expected a folder"):
        check_base_id("microsoft/git-base", "0123abc")


def test_a_base_that_is_made_here_needs_no_folder() -> None:
    check_base_id("phantom", None)
    with pytest.raises(InputError, match="did you mean 'phantom'"):
        check_base_id("phantm", None)


def test_local_base_changes_its_name_with_its_weights(local: Path) -> None:
    before = base_folder("bases", fields(id=str(local)))
    assert before.startswith("bases/own-git@local-")
    save_file({"weight": np.ones((4, 3), np.float32)}, local / "model.safetensors")
    assert base_folder("bases", fields(id=str(local))) != before


def test_local_base_is_copied_without_pickle_and_code(local: Path, tmp_path: Path) -> None:
    fetch(str(local), None, tmp_path / "bases" / "b")
    copied = {path.name for path in (tmp_path / "bases" / "b").iterdir()}
    assert copied == {"config.json", "tokenizer.json", "model.safetensors", "base.json"}
    record = read_json(tmp_path / "bases" / "b" / "base.json")
    assert record["commit"] is None
    assert record["sha256"]["model.safetensors"] == sha256_file(local / "model.safetensors")


def broken(local: Path, how: str) -> None:
    if how == "no config":
        (local / "config.json").unlink()
    elif how == "config":
        (local / "config.json").write_text("{")
    elif how == "other model":
        (local / "config.json").write_text(json.dumps({"model_type": "bert"}))
    elif how == "no safetensors":
        (local / "model.safetensors").unlink()
    elif how == "cut weights":
        content = (local / "model.safetensors").read_bytes()
        (local / "model.safetensors").write_bytes(content[:-4])
    elif how == "no tokenizer":
        (local / "tokenizer.json").unlink()


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("no config", "no config.json"),
        ("config", "config.json is not JSON"),
        ("other model", "another architecture, model_type 'bert'; the task takes blip, git"),
        ("no safetensors", "no *.safetensors (found pytorch_model.bin, which is not read); pin"),
        ("cut weights", "model.safetensors is no whole safetensors file"),
        ("no tokenizer", "no tokenizer"),
    ],
)
def test_unusable_base_is_refused_in_one_line_and_leaves_nothing(
    local: Path, tmp_path: Path, how: str, said: str
) -> None:
    broken(local, how)
    with pytest.raises(InputError) as refusal:
        fetch(str(local), None, tmp_path / "bases" / "b")
    assert said in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert not any((tmp_path / "bases").iterdir())


def test_base_without_tokenizer_and_of_any_type_is_taken_where_neither_is_asked_for(
    local: Path, tmp_path: Path
) -> None:
    broken(local, "other model")
    broken(local, "no tokenizer")
    fetch_base(str(local), None, tmp_path / "b", model_types=(), tokenizer=False)
    assert (tmp_path / "b" / "model.safetensors").is_file()


def test_id_that_is_neither_folder_nor_pinned_hub_id_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is no such folder"):
        fetch("no/such/folder", None, tmp_path / "b")


def test_hub_download_asks_for_safe_files_at_the_resolved_commit(
    local: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = {}

    class Hub:
        def model_info(self, identity: str, *, revision: str, timeout: float) -> object:
            return type("Info", (), {"sha": "c0ffee"})()

    def download(identity: str, *, revision: str, local_dir: Path, **options: object) -> None:
        asked.update(identity=identity, revision=revision, **options)
        for name in ("config.json", "tokenizer.json", "model.safetensors"):
            (local_dir / name).write_bytes((local / name).read_bytes())

    monkeypatch.setattr("huggingface_hub.HfApi", Hub)
    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    fetch("microsoft/git-base", "main", tmp_path / "b")
    assert (asked["identity"], asked["revision"]) == ("microsoft/git-base", "c0ffee")
    assert not [p for p in asked["allow_patterns"] if p.endswith((".bin", ".py", "*", ".pt"))]
    assert read_json(tmp_path / "b" / "base.json")["commit"] == "c0ffee"


def test_unreachable_hub_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object, **__: object) -> None:
        raise OfflineModeIsEnabled("offline\nmore")

    monkeypatch.setattr("huggingface_hub.HfApi.model_info", offline)
    with pytest.raises(InputError, match="microsoft/git-base could not be fetched") as refusal:
        fetch("microsoft/git-base", "abc", tmp_path / "b")
    assert "\n" not in str(refusal.value)


def test_gated_base_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with loopback_hub({}) as (address, _):
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", address)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        with pytest.raises(InputError, match="is gated: ask for access") as refusal:
            fetch(GATED, "abc", tmp_path / "b")
    assert "\n" not in str(refusal.value)
    assert not list(tmp_path.iterdir())


def test_naming_a_base_imports_no_torch() -> None:
    code = (
        "import sys, peft_ablation.bases.fetch\n"
        "assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
