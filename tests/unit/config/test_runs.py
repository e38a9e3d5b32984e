"""Studies that start from runs: what is found, and what is refused in one line."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from peft_ablation.config import loading
from peft_ablation.config.base import RunOf
from peft_ablation.config.loading import Config, load_config
from peft_ablation.config.runs import OtherRun, data_terms, runs_needed
from peft_ablation.errors import InputError

LORA = {"method": "lora", "targets": "text", "learning_rate": 1e-3}
FULL = {"method": "full", "learning_rate": 1e-3}
FIRST = {
    "data": {"source": "phantom"},
    "images": {"size": 48},
    "train": {"seeds": [0, 1]},
    "arms": {"fft": FULL, "low": LORA},
}


class Studies:
    """`config/studies/` of a working directory."""

    def write(self, name: str, **content: Any) -> None:
        path = Path("config", "studies", f"{name}.yaml")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump({**FIRST, **content}, sort_keys=False), encoding="utf-8")

    def load(self, study: str, **site: Any) -> tuple[Config, dict[RunOf, OtherRun]]:
        config = load_config({"study": study, **site})
        return config, runs_needed(config)

    def refusal(self, study: str, **content: Any) -> str:
        self.write(study, **content)
        with pytest.raises(InputError) as refused:
            self.load(study)
        message = str(refused.value)
        assert "\n" not in message
        return message


@pytest.fixture
def studies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Studies]:
    monkeypatch.chdir(tmp_path)
    found = Studies()
    found.write("first")
    yield found
    loading._load_other.cache_clear()


def run(study: str, arm: str, seed: int | None = None) -> dict[str, Any]:
    return {"study": study, "arm": arm} | ({} if seed is None else {"seed": seed})


def test_a_study_without_starts_needs_no_run(studies: Studies) -> None:
    assert studies.load("first")[1] == {}


def test_a_base_is_the_result_of_the_run_of_the_same_seed(studies: Studies) -> None:
    studies.write("second", base={"run": run("first", "low")})
    config, needed = studies.load("second")
    (start,) = needed.values()
    assert start.model == "results/first/runs/low/seed-{seed}/model"
    assert start.train == "results/first/splits/train.parquet"
    assert start.base == load_config({"study": "first"}).place("low").folder
    assert (start.arm["method"], start.task["name"]) == ("lora", "captioning")
    assert config.place("fft").folder == "results/second/bases/first.low.seed-{seed}"


def test_a_base_may_be_of_one_seed_for_all(studies: Studies) -> None:
    studies.write("second", base={"run": run("first", "low", 1)})
    config, needed = studies.load("second")
    assert [start.model for start in needed.values()] == ["results/first/runs/low/seed-1/model"]
    assert config.place("fft").folder == "results/second/bases/first.low.seed-1"


def test_each_arm_may_have_a_base_of_its_own(studies: Studies) -> None:
    arms = {"fft": FULL, "low": {**LORA, "base": {"run": run("first", "fft")}}}
    studies.write("second", arms=arms)
    config, needed = studies.load("second")
    assert list(needed) == [RunOf(study="first", arm="fft")]
    assert config.place("fft").folder.startswith("resources/bases/phantom-")
    assert config.place("low").folder == "results/second/bases/first.fft.seed-{seed}"


def test_an_arm_starts_from_the_adapter_of_another_study_on_the_same_base(
    studies: Studies,
) -> None:
    studies.write("second", arms={"low": {**LORA, "init_from": run("first", "low")}})
    config, needed = studies.load("second")
    assert needed[config.study.arms["low"].init_from].model.startswith("results/first/runs/low/")


def test_an_arm_starts_from_another_of_its_own_study(studies: Studies) -> None:
    studies.write("second", arms={"low": LORA, "on": {**LORA, "init_from": run("second", "low")}})
    _, needed = studies.load("second")
    assert [start.model for start in needed.values()] == [
        "results/second/runs/low/seed-{seed}/model"
    ]


def test_the_other_study_keeps_its_protocol_under_overrides(studies: Studies) -> None:
    """Overrides are of the study that is run: the one it starts from is not trained again."""
    studies.write("second", base={"run": run("first", "low")})
    _, needed = studies.load("second", overrides={"train": {"epochs": 3}})
    (start,) = needed.values()
    assert start.config.study.train.epochs == load_config({"study": "first"}).study.train.epochs


def test_smoke_of_a_study_starts_from_the_smoke_of_the_other(studies: Studies) -> None:
    studies.write("first", smoke={"train": {"epochs": 1}})
    studies.write("second", base={"run": run("first", "low")}, smoke={"train": {"epochs": 1}})
    _, needed = studies.load("second", smoke=True)
    (start,) = needed.values()
    assert start.model == "results/first.smoke/runs/low/seed-{seed}/model"


@pytest.mark.parametrize(
    ("start", "told"),
    [
        (run("frist", "low"), "base.run: config: study: found 'frist', allowed: .*mean 'first'"),
        (
            run("first", "lo"),
            "base.run: study first has no arm 'lo', allowed: fft, low; did.*'low'",
        ),
        (run("first", "low", 7), "base.run: study first has no seed 7, allowed: 0, 1"),
        ({"study": "first"}, "base.run.arm: missing"),
    ],
)
def test_a_run_that_does_not_exist_is_refused(
    start: dict[str, Any], told: str, studies: Studies
) -> None:
    message = studies.refusal("second", base={"run": start})
    assert re.match(rf"study second: {told}", message), message


def test_arm_and_seed_of_a_start_are_checked_where_they_stand(studies: Studies) -> None:
    message = studies.refusal("second", arms={"low": {**LORA, "init_from": run("first", "x")}})
    assert message.startswith("study second: arms.low.init_from: study first has no arm 'x'")
    arms = {"low": {**LORA, "base": {"run": run("first", "x")}}}
    assert studies.refusal("third", arms=arms).startswith("study third: arms.low.base.run: study f")


def test_base_and_run_together_are_refused(studies: Studies) -> None:
    message = studies.refusal("second", base={"id": "phantom", "run": run("first", "low")})
    assert message == "study second: base: id and run are both set: keep one of them"


def test_an_adapter_of_another_base_is_refused(studies: Studies) -> None:
    studies.write("other", base={"pretraining": {"seed": 5}})
    message = studies.refusal("second", arms={"low": {**LORA, "init_from": run("other", "low")}})
    assert message.startswith("study second: arms.low.init_from: run other/low is of base ")
    assert message.endswith("; an adapter fits its own base alone")


CIRCLES = {
    "bases of studies": (
        {"second": {"base": {"run": run("third", "low")}}},
        {"third": {"base": {"run": run("second", "low")}}},
    ),
    "an adapter and a base": (
        {"second": {"arms": {"low": {**LORA, "init_from": run("third", "low")}}}},
        {"third": {"base": {"run": run("second", "low")}}},
    ),
}


@pytest.mark.parametrize("name", CIRCLES)
def test_studies_that_start_from_one_another_are_refused(name: str, studies: Studies) -> None:
    second, third = CIRCLES[name]
    studies.write("third", **third["third"])
    message = studies.refusal("second", **second["second"])
    assert "found a circle: second → third → second" in message


@pytest.mark.parametrize(
    "arms",
    [
        {"low": {**LORA, "init_from": run("second", "low")}},
        {
            "low": {**LORA, "init_from": run("second", "on")},
            "on": {**LORA, "init_from": run("second", "low")},
        },
        {"low": {**LORA, "base": {"run": run("second", "low")}}},
        {
            "low": {**LORA, "base": {"run": run("second", "on")}},
            "on": {**LORA, "base": {"run": run("second", "low")}},
        },
        {
            "low": {**LORA, "init_from": run("second", "on")},
            "on": {**LORA, "base": {"run": run("second", "low")}},
        },
        {
            "fft": FULL,
            "low": {
                **LORA,
                "init_from": run("second", "fft"),
                "base": {"run": run("second", "low")},
            },
        },
    ],
    ids=["itself", "adapters", "itself as base", "bases", "adapter and base", "second of two"],
)
def test_arms_of_one_study_that_start_from_one_another_are_refused(
    arms: dict[str, Any], studies: Studies
) -> None:
    assert "found a circle: " in studies.refusal("second", arms=arms)


def test_terms_of_data_that_are_not_public_follow_the_models_trained_on_them(studies: Studies):
    """Also where those of the study itself are public, and the start is two studies away."""
    public = {"data": {"source": "phantom", "public": True}}
    studies.write("open", **public)
    studies.write("second", **public, base={"run": run("first", "fft", 0)})
    studies.write("third", **public, base={"run": run("second", "fft", 0)})
    for study, closed in (("open", False), ("first", True), ("second", True), ("third", True)):
        config, _ = studies.load(study)
        assert bool(data_terms(config)) is closed, study
    config, _ = studies.load("third")
    assert data_terms(config) == [config.source.terms]
