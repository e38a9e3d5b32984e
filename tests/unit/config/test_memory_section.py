"""What a study may say of the memory table, and what is refused with one line before any job."""

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
    "train": {"batch_size": 24, "num_processes": 5},
    "arms": {
        "fft": {"method": "full", "learning_rate": 1e-3},
        "base": {"method": "none"},
        "text": {"method": "lora", "targets": "text", "learning_rate": 1e-3},
    },
}


def load(folder: Path, **changed: Any) -> Any:
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump({**STUDY, **changed}))
    return load_config({"study": str(path), "data_root": str(folder)})


def test_without_the_section_trained_arms_are_measured_as_they_are_trained(tmp_path: Path) -> None:
    told = load(tmp_path).memory
    assert told["arms"] == ["fft", "text"]
    # Of 24 examples the largest share of five processes.
    assert told["batch_sizes"] == [5]
    assert told["lengths"] is None
    micro = {"train": {"batch_size": 24, "micro_batch_size": 3}}
    assert load(tmp_path, **micro).memory["batch_sizes"] == [3]


def test_what_the_section_says_goes_before(tmp_path: Path) -> None:
    told = load(tmp_path, memory={"arms": ["text"], "batch_sizes": [2, 4], "lengths": [30]}).memory
    assert (told["arms"], told["batch_sizes"], told["lengths"]) == (["text"], [2, 4], [30])


@pytest.mark.parametrize(
    ("memory", "said"),
    [
        ({"arms": ["base"]}, r"memory\.arms: found 'base', expected an arm that is trained: fft"),
        ({"arms": ["txt"]}, r"memory\.arms: found 'txt'.*did you mean 'text'"),
        ({"batch_sizes": [2, 4, 2]}, r"memory\.batch_sizes: found 2 more than once"),
        ({"lengths": [0]}, r"memory\.lengths\.0: found 0"),
        ({"batches": [1]}, r"memory\.batches: unknown key"),
    ],
)
def test_what_cannot_be_measured_is_one_line(
    memory: dict[str, Any], said: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=said) as told:
        load(tmp_path, memory=memory)
    assert "\n" not in str(told.value)


def test_lengths_of_examples_that_have_none_are_refused(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / "train" / name).mkdir(parents=True)
        (tmp_path / "train" / name / "1.png").touch()
    changed = {
        "task": {"name": "image_classification"}, "data": {"source": "class_folders"},
        "base": {"id": "random", "random": {"architecture": "ResNetForImageClassification"}},
        "arms": {"fft": STUDY["arms"]["fft"]}, "memory": {"lengths": [30]},
    }  # fmt: skip
    with pytest.raises(InputError, match=r"memory\.lengths: examples of task image_classificatio"):
        load(tmp_path, **changed)
