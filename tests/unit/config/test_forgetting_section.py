"""What a study may say of forgetting, and what is refused with one line before any job."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from peft_ablation.config.loading import load_config
from peft_ablation.errors import InputError

STUDY: dict[str, Any] = {
    "task": {"name": "captioning"},
    "data": {"source": "phantom"},
    "images": {"size": 48},
    "base": {"id": "phantom"},
    "arms": {"fft": {"method": "full", "learning_rate": 1e-3}},
}
TABLE = {"source": "table", "files": "held-out.csv", "columns": {"image": "i", "report": "r"}}


def load(folder: Path, **changed: Any) -> Any:
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump({**STUDY, **changed}))
    return load_config({"study": str(path), "data_root": str(folder)})


def test_a_table_is_read_as_data_are(tmp_path: Path) -> None:
    (tmp_path / "held-out.csv").write_text("i,r\na.png,clear\n")
    source = load(tmp_path, forgetting={"data": TABLE}).held_out
    assert list(source.inputs().values()) == [str(tmp_path / "held-out.csv")]
    assert source.read()[0]["report"].to_list() == ["clear"]


def test_settings_of_the_task_may_differ_there(tmp_path: Path) -> None:
    config = load(tmp_path, forgetting={"pretraining": 20, "task": {"prompt": "what is seen:"}})
    assert config.own_task["prompt"] == "what is seen:"
    assert config.own_task | {"prompt": config.study.task.prompt} == (
        config.study.task.model_dump(mode="json")
    )


def test_nothing_is_held_out_unless_it_is_said(tmp_path: Path) -> None:
    assert load(tmp_path).held_out is None
    assert load(tmp_path, forgetting={"pretraining": 20}).held_out is None


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"forgetting": {"data": TABLE}}, r"forgetting\.data\.files: no file .*held-out\.csv"),
        ({"forgetting": {}}, "expected one of pretraining and data"),
        ({"forgetting": {"pretraining": 9, "data": TABLE}}, "expected one of pretraining and data"),
        ({"forgetting": {"pretraining": 9, "task": {"promt": ""}}}, r"forgetting\.task: promt"),
        ({"forgetting": {"pretraining": 9, "task": {"name": "x"}}}, r"forgetting\.task\.name: it"),
        (
            {"forgetting": {"data": "phantom"}},
            r"forgetting\.data: source phantom is made by rules of its own",
        ),
        (
            {"base": {"id": "elsewhere/git", "revision": "a" * 40},
             "forgetting": {"pretraining": 9}},
            r"forgetting\.pretraining: arm fft starts from another base",
        ),
        (
            {"task": {"name": "image_classification"}, "data": {"source": "class_folders"},
             "base": {"id": "random", "random": {"architecture": "ResNetForImageClassification"}},
             "forgetting": {"data": TABLE}},
            r"forgetting: task image_classification gives the base a new head \(classifier\)",
        ),
    ],
    ids=[
        "no file", "neither", "both", "no setting", "another task", "rules of its own",
        "another base", "new head",
    ],
)  # fmt: skip
def test_what_cannot_be_scored_is_one_line(
    changed: dict[str, Any], said: str, tmp_path: Path
) -> None:
    for name in ("a", "b"):
        (tmp_path / "train" / name).mkdir(parents=True, exist_ok=True)
        (tmp_path / "train" / name / "1.png").touch()
    with pytest.raises(InputError, match=said) as told:
        load(tmp_path, **changed)
    assert "\n" not in str(told.value)
    assert str(told.value).startswith("study study: ")


def test_columns_that_the_task_lacks_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "held-out.csv").write_text("i,r\na.png,clear\n")
    table = {**TABLE, "columns": {"image": "i"}}
    with pytest.raises(InputError, match=r"^study study: forgetting\.data\.columns: no 'report'"):
        load(tmp_path, forgetting={"data": table})
