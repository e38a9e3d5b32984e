"""JSON schemas for editors: up to date, strict, and wide enough for what a file may say."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from peft_ablation.config.loading import MOVED
from peft_ablation.config.schemas import write_schemas

ROOT = Path(__file__).resolve().parents[3]
KEPT = ROOT / "workflow" / "schemas"


def schema(name: str) -> Draft202012Validator:
    found = json.loads((KEPT / f"{name}.schema.json").read_text(encoding="utf-8"))
    Draft202012Validator.check_schema(found)
    return Draft202012Validator(found)


STUDY = schema("study")


def test_schemas_are_those_of_the_models(tmp_path: Path) -> None:
    paths = write_schemas(tmp_path)
    assert {path.name for path in paths} == {path.name for path in KEPT.iterdir()}
    for path in paths:
        kept = KEPT / path.name
        assert kept.read_text() == path.read_text(), "run: python -m peft_ablation.config"
        assert json.loads(path.read_text())["additionalProperties"] is False


FILES = [*(ROOT / "config" / "studies").glob("*.yaml"), ROOT / "tests" / "workflow" / "tiny.yaml"]


@pytest.mark.parametrize("path", sorted(FILES), ids=lambda path: path.stem)
def test_every_study_of_the_project_fits(path: Path) -> None:
    raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    former = {key for key in MOVED if key.split(".")[1] in raw.get(key.split(".")[0], {})}
    assert not former, f"{path.name} has keys in their former places"
    assert [error.message for error in STUDY.iter_errors(raw)] == []


@pytest.mark.parametrize("path", sorted((ROOT / "config" / "suites").glob("*.yaml")))
def test_every_suite_of_the_project_fits(path: Path) -> None:
    assert schema("suite").is_valid(yaml.safe_load(path.read_text(encoding="utf-8")))


def test_a_study_of_a_suite_is_a_name_or_a_mapping() -> None:
    assert schema("suite").is_valid({"studies": ["a", {"study": "b", "data_root": "c"}]})
    assert not schema("suite").is_valid({"studies": [{"data_root": "c"}]})
    assert not schema("suite").is_valid({"studies": []})


def test_the_site_of_the_project_fits() -> None:
    raw = yaml.safe_load((ROOT / "config" / "config.yaml").read_text(encoding="utf-8"))
    assert schema("config").is_valid(raw)


@pytest.mark.parametrize(
    "study",
    [
        {"task": "captioning", "data": "tree"},
        {"task": {"name": "my_lab.tagging", "tags": 3}},
        {"arms": {"x": {"method": "my_lab.method", "z": 1}}},
        {"arms": {"x": {"r": 3}, "y": None}},  # over those of the study that it extends
        {"arms": {"x": {"method": "lora", "sweep": {"r": [1, 2]}}}},
        {"extends": "phantom_cxr", "smoke": {"train": {"epochs": 1}}},
        {"train": {"checkpoint_every_seconds": None}, "score": {"metrics": ["bleu"]}},
    ],
)
def test_what_a_study_may_say_fits(study: dict[str, Any]) -> None:
    assert [error.message for error in STUDY.iter_errors(study)] == []


@pytest.mark.parametrize(
    "study",
    [
        {"trainn": {}},
        {"train": {"epoch": 1}},
        {"train": {"epochs": "many"}},
        {"task": {"name": "captioning", "max_token": 3}},
        {"task": {"name": "caption"}},
        {"data": {"source": "tree", "phantom": {"subjects": 3}}},
        {"arms": {"x": {"method": "loraa"}}},
        {"arms": {"x": {"method": "lora", "rank": 3}}},
        {"arms": {"Bad": {"method": "full"}}},
        {"smoke": {"trainn": {}}},
    ],
)
def test_slips_are_found_by_the_schema(study: dict[str, Any]) -> None:
    assert not STUDY.is_valid(study)
