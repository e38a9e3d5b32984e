"""What a study is made of: the study it extends, smoke settings, overrides, sweeps, former keys."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from peft_ablation.config.arms import expanded_sweeps
from peft_ablation.config.loading import MOVED, Config, load_config
from peft_ablation.errors import InputError

LORA = {"method": "lora", "targets": "text", "learning_rate": 1e-3}
FULL = {"method": "full", "learning_rate": 1e-3}
PHANTOM = {"data": {"source": "phantom"}, "images": {"size": 48}}
"""What any study here needs besides its arms."""


class Studies:
    """A folder of studies, written by name."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, name: str, **content: Any) -> None:
        text = yaml.safe_dump(content, sort_keys=False)
        (self.folder / f"{name}.yaml").write_text(text, encoding="utf-8")

    def load(self, study: str, **site: Any) -> Config:
        return load_config({"study": study, **site}, [self.folder])

    def refusal(self, study: str, **site: Any) -> str:
        with pytest.raises(InputError) as refused:
            self.load(study, **site)
        message = str(refused.value)
        assert "\n" not in message
        return message


@pytest.fixture
def studies(tmp_path: Path) -> Studies:
    found = Studies(tmp_path)
    found.write(
        "whole", **PHANTOM, train={"epochs": 9, "warmup": 0.5, "seeds": [1, 2]},
        arms={"fft": FULL, "low": LORA},
    )  # fmt: skip
    return found


# -- extends ---------------------------------------------------------------------------------------


def test_a_study_changes_keys_of_the_one_it_extends_and_keeps_the_others(studies: Studies) -> None:
    studies.write(
        "part", extends="whole", train={"epochs": 3, "seeds": [7]},
        arms={"fft": None, "low": {"r": 2}, "more": LORA},
    )  # fmt: skip
    whole, part = studies.load("whole").study, studies.load("part").study
    assert (part.train.epochs, part.train.seeds) == (3, (7,))
    assert (part.train.warmup, part.data) == (0.5, whole.data)
    assert list(part.arms) == ["low", "more"]
    assert part.arms["low"] == whole.arms["low"].model_copy(update={"r": 2})
    assert studies.load("part").results == "results/part"


def test_extending_goes_over_several_studies(studies: Studies) -> None:
    studies.write("second", extends="whole", train={"epochs": 2, "warmup": 0.1})
    studies.write("third", extends="second", train={"epochs": 3})
    train = studies.load("third").study.train
    assert (train.epochs, train.warmup, train.seeds) == (3, 0.1, (1, 2))


def test_a_study_elsewhere_extends_one_beside_it_before_one_of_the_same_name(
    studies: Studies, tmp_path: Path
) -> None:
    own = Studies(tmp_path / "own")
    own.folder.mkdir()
    own.write("whole", **PHANTOM, train={"epochs": 5}, arms={"fft": FULL})
    own.write("part", extends="whole")
    assert studies.load(str(own.folder / "part.yaml")).study.train.epochs == 5
    own.write("other", extends="whole_of_the_project")
    studies.write("whole_of_the_project", extends="whole", train={"epochs": 6})
    assert studies.load(str(own.folder / "other.yaml")).study.train.epochs == 6


def test_a_circle_of_studies_is_refused_with_its_links(studies: Studies) -> None:
    studies.write("a", extends="b")
    studies.write("b", extends="c")
    studies.write("c", extends="a")
    told = studies.refusal("a")
    assert told == "study a: extends: found a circle: a → b → c → a; break it"
    studies.write("d", extends="d")
    assert "d → d" in studies.refusal("d")


def test_extending_a_study_that_is_not_there_names_those_there_are(studies: Studies) -> None:
    studies.write("part", extends="hole")
    assert "found 'hole', allowed: part, whole; did you mean 'whole'?" in studies.refusal("part")


# -- smoke -----------------------------------------------------------------------------------------


def test_smoke_settings_are_merged_when_asked_for_and_have_their_own_folder(
    studies: Studies,
) -> None:
    studies.write("part", extends="whole", smoke={"train": {"epochs": 1}, "arms": {"low": None}})
    plain, smoke = studies.load("part"), studies.load("part", smoke=True)
    assert (plain.study.train.epochs, list(plain.study.arms)) == (9, ["fft", "low"])
    assert (smoke.study.train.epochs, list(smoke.study.arms)) == (1, ["fft"])
    assert smoke.study.train.warmup == 0.5
    assert (plain.results, smoke.results) == ("results/part", "results/part.smoke")


def test_smoke_settings_are_inherited_and_changed_like_others(studies: Studies) -> None:
    studies.write("base", extends="whole", smoke={"train": {"epochs": 1, "seeds": [5]}})
    studies.write("part", extends="base", smoke={"train": {"epochs": 2}})
    train = studies.load("part", smoke=True).study.train
    assert (train.epochs, train.seeds) == (2, (5,))


def test_overrides_come_after_smoke_settings(studies: Studies) -> None:
    studies.write("part", extends="whole", smoke={"train": {"epochs": 1, "seeds": [5]}})
    train = studies.load("part", smoke=True, overrides={"train": {"epochs": 4}}).study.train
    assert (train.epochs, train.seeds) == (4, (5,))


def test_smoke_is_refused_where_the_study_has_no_such_settings(studies: Studies) -> None:
    assert studies.refusal("whole", smoke=True) == (
        "config: smoke: study whole has no smoke settings; leave smoke out"
    )


# -- names for sections, former keys ---------------------------------------------------------------


def test_a_name_alone_stands_for_its_section_in_every_layer(studies: Studies) -> None:
    studies.write("named", extends="whole", task="captioning", data="phantom")
    overrides = {"task": {"prompt": "say:"}, "data": {"phantom": {"subjects": 9}}}
    study = studies.load("named", overrides=overrides).study
    task, data = study.task.model_dump(), study.data.model_dump()
    assert (task["name"], task["prompt"]) == ("captioning", "say:")
    assert (data["source"], data["phantom"]["subjects"]) == ("phantom", 9)


def test_a_name_in_a_later_layer_keeps_the_other_keys_of_the_section(studies: Studies) -> None:
    studies.write("told", extends="whole", task={"prompt": "say:"})
    assert studies.load("told", overrides={"task": "captioning"}).study.task.prompt == "say:"


VALUES = {
    "train.prompt": "say:", "train.max_tokens": 33, "train.too_long": "cut",
    "train.shift_augmentation": 4, "train.cache_vision_features": False,
    "score.max_new_tokens": 44, "score.num_beams": 3, "score.shuffle_images": False,
}  # fmt: skip
"""A value that is not the default, by former key."""


def nested(key: str, value: Any) -> dict[str, Any]:
    section, name = key.split(".")
    return {section: {name: value}}


def read(config: Config, key: str) -> Any:
    section, name = key.split(".")
    return getattr(getattr(config.study, section), name)


@pytest.mark.parametrize(("old", "new"), MOVED.items())
def test_a_former_key_is_read_wherever_it_stands(old: str, new: str, studies: Studies) -> None:
    assert VALUES.keys() == MOVED.keys()
    value = VALUES[old]
    assert read(studies.load("whole"), new) != value
    assert read(studies.load("whole", overrides=nested(old, value)), new) == value
    studies.write("old", extends="whole", **nested(old, value))
    assert read(studies.load("old"), new) == value
    studies.write("smoky", extends="whole", smoke=nested(old, value))
    assert read(studies.load("smoky", smoke=True), new) == value


@pytest.mark.parametrize(("old", "new"), MOVED.items())
def test_a_former_key_goes_over_the_present_one_of_an_earlier_layer(
    old: str, new: str, studies: Studies
) -> None:
    studies.write("new", extends="whole", **nested(new, read(studies.load("whole"), new)))
    assert read(studies.load("new", overrides=nested(old, VALUES[old])), new) == VALUES[old]


def test_a_key_in_both_places_of_one_layer_is_refused(studies: Studies) -> None:
    studies.write("both", extends="whole", train={"max_tokens": 9}, task={"max_tokens": 8})
    assert studies.refusal("both") == (
        "study both: train.max_tokens is called task.max_tokens now, and both are set: keep "
        "task.max_tokens"
    )


# -- sweeps ----------------------------------------------------------------------------------------


def test_a_sweep_is_an_arm_of_each_combination_named_after_it() -> None:
    arms = expanded_sweeps(
        {"fft": FULL, "low": {**LORA, "sweep": {"r": [1, 16], "learning_rate": [2e-4, 1e-3, 0.5]}}}
    )
    assert list(arms) == [
        "fft",
        "low_r1_learning_rate0_0002", "low_r1_learning_rate0_001", "low_r1_learning_rate0_5",
        "low_r16_learning_rate0_0002", "low_r16_learning_rate0_001", "low_r16_learning_rate0_5",
    ]  # fmt: skip
    assert arms["fft"] == FULL
    assert arms["low_r16_learning_rate0_5"] == {**LORA, "r": 16, "learning_rate": 0.5}


def test_arms_of_a_sweep_are_arms_of_the_study(studies: Studies) -> None:
    studies.write(
        "swept", extends="whole", arms={"low": {"sweep": {"targets": ["text", "vision"]}}}
    )
    study = studies.load("swept").study
    assert list(study.arms) == ["fft", "low_targetstext", "low_targetsvision"]
    assert study.arms["low_targetsvision"].model_dump()["targets"] == "vision"


@pytest.mark.parametrize(
    ("sweep", "told"),
    [
        ([1, 2], "arms.low.sweep: found [1, 2], expected keys with lists of values"),
        ({}, "arms.low.sweep: found {}, expected keys with lists of values"),
        ({"r": 4}, "arms.low.sweep.r: found 4, expected a list of values"),
        ({"r": []}, "arms.low.sweep.r: found [], expected a list of values"),
        ({"r": [4, 4]}, "arms.low.sweep: two arms would be named 'low_r4'; rename one"),
        ({"rank": [1, 2]}, "arms.low_rank1.rank: unknown key"),
    ],
)
def test_what_is_no_sweep_is_refused_by_name(sweep: Any, told: str, studies: Studies) -> None:
    studies.write("swept", extends="whole", arms={"low": {"sweep": sweep}})
    assert f"study swept: {told}" in studies.refusal("swept")


def test_an_arm_of_a_sweep_does_not_take_the_name_of_another(studies: Studies) -> None:
    studies.write("swept", extends="whole", arms={"low": {"sweep": {"r": [1]}}, "low_r1": LORA})
    assert "two arms would be named 'low_r1'" in studies.refusal("swept")


def test_ten_thousand_arms_are_refused_before_any_is_made(studies: Studies) -> None:
    hundred = list(range(1, 101))
    sweep = {"r": hundred, "alpha": hundred}
    studies.write("many", extends="whole", arms={"low": {"sweep": sweep}})
    assert studies.refusal("many") == (
        "study many: arms: found 10,001 arms (10,000 from the sweep of low), allowed up to "
        "max_arms, 200; sweep fewer values, or set max_arms: 10001"
    )


def test_max_arms_is_the_study_s_own(studies: Studies) -> None:
    sweep = {"low": {"sweep": {"r": [1, 2, 3]}}}
    studies.write("few", extends="whole", max_arms=3, arms=sweep)
    assert "found 4 arms" in studies.refusal("few")
    studies.write("enough", extends="whole", max_arms=4, arms=sweep)
    assert len(studies.load("enough").study.arms) == 4


@pytest.mark.parametrize("most", ["many", 0])
def test_max_arms_that_is_no_number_is_refused_as_such(most: Any, studies: Studies) -> None:
    studies.write("odd", extends="whole", max_arms=most)
    assert f"study odd: max_arms: found {most!r}, expected " in studies.refusal("odd")


# -- reference -------------------------------------------------------------------------------------


def test_arms_are_compared_with_the_first_that_trains_every_weight(studies: Studies) -> None:
    studies.write("part", extends="whole", arms={"fft": None, "all": FULL, "again": FULL})
    assert studies.load("part").reference == "all"
    studies.write("none", extends="whole", arms={"fft": None})
    assert studies.load("none").reference is None


def test_any_arm_can_be_named_as_the_reference(studies: Studies) -> None:
    studies.write("part", extends="whole", reference="low")
    assert studies.load("part").reference == "low"
    told = studies.refusal("part", overrides={"reference": "lo"})
    assert told == "study part: reference: found 'lo', expected an arm: fft, low"
