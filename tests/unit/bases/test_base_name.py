"""What tables call a base does not depend on where it lay."""

from pathlib import Path

from peft_ablation.artifacts import write_json
from peft_ablation.bases.fetch import base_name


def copied(folder: Path, **sums: str) -> Path:
    folder.mkdir(parents=True)
    write_json(folder / "base.json", {"id": str(folder), "sha256": sums})
    return folder


def test_a_folder_s_copy_is_told_by_its_content_alone(tmp_path: Path) -> None:
    one = base_name(copied(tmp_path / "a" / "net@local-11111111", weights="x", config="y"))
    twin = base_name(copied(tmp_path / "b" / "net@local-22222222", config="y", weights="x"))
    other = base_name(copied(tmp_path / "c" / "net@local-11111111", weights="z", config="y"))
    assert one == twin != other
    assert one.startswith("net@local-")
    assert one != "net@local-11111111"


def test_every_other_base_has_the_name_of_its_folder(tmp_path: Path) -> None:
    fetched = copied(tmp_path / "microsoft--git-base@0123abc", weights="x")
    assert base_name(fetched) == "microsoft--git-base@0123abc"
    assert base_name(tmp_path / "phantom-9497b6e4") == "phantom-9497b6e4"
    # Made of a copy, without a record of its own.
    assert base_name(tmp_path / "net@local-11111111.prepared") == "net@local-11111111.prepared"
