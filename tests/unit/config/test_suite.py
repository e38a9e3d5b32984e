"""Suites as they are read: what goes to which study, in which order, and what is refused."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from peft_ablation.config.suite import SUITES, Suite, load_suite
from peft_ablation.errors import InputError

FULL = {"method": "full", "learning_rate": 1e-3}
STUDY = {
    "data": {"source": "phantom"}, "images": {"size": 48}, "train": {"seeds": [0, 1]},
    "arms": {"fft": FULL}, "smoke": {"train": {"epochs": 1}},
}  # fmt: skip


def write(kind: str, name: str, content: object) -> None:
    path = Path("config", kind, f"{name}.yaml")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")


def after(study: str) -> dict[str, Any]:
    """A study that starts from the runs of another one."""
    return {**STUDY, "base": {"run": {"study": study, "arm": "fft"}}}


@pytest.fixture(autouse=True)
def studies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("first", "second"):
        write("studies", name, STUDY)


def suite(content: object, **site: Any) -> Suite:
    write("suites", "two", content)
    return load_suite({"suite": "two", **site})


def test_a_suite_has_its_studies_in_its_own_order() -> None:
    found = suite({"studies": ["second", {"study": "first"}]})
    assert [config.name for config in found.studies] == ["second", "first"]
    assert (found.name, found.title, found.results) == ("two", "two", "results/suites/two")


def test_smoke_is_that_of_every_study_and_of_the_suite() -> None:
    found = suite({"title": "Two", "studies": ["first", "second"]}, smoke=True, results="/r/")
    assert [config.name for config in found.studies] == ["first.smoke", "second.smoke"]
    assert [config.study.train.epochs for config in found.studies] == [1, 1]
    assert (found.name, found.title, found.results) == ("two.smoke", "Two", "/r/suites/two.smoke")


def test_what_others_start_from_is_read_before_them() -> None:
    write("studies", "between", after("first"))
    write("studies", "last", after("between"))
    found = suite({"studies": ["last", "second", "first"]})
    assert [config.name for config in found.by_need] == ["first", "last", "second"]


def test_overrides_of_one_study_go_over_those_of_all() -> None:
    members = [
        {"study": "first", "overrides": {"train": {"epochs": 3, "batch_size": 4}}},
        "second",
    ]
    found = suite(
        {"studies": members},
        overrides={"train": {"epochs": 2, "warmup": 0.5}},
        studies={"first": {"overrides": {"train": {"batch_size": 5}}}},
    )
    read = [(c.study.train.epochs, c.study.train.batch_size, c.study.train.warmup)
            for c in found.studies]  # fmt: skip
    # Of all; of the suite's file; of the site, the last word.
    assert read == [(3, 5, 0.5), (2, 64, 0.5)]


def test_a_study_is_the_same_where_another_one_starts_from_it() -> None:
    write("studies", "last", after("first"))
    members = ["last", {"study": "first", "overrides": {"train": {"seeds": [5]}}}]
    last, first = suite({"studies": members}).studies
    run = last.study.base.run
    assert run is not None
    assert last.config_of(run).study.model_dump() == first.study.model_dump()
    assert first.study.train.seeds == (5,)


@pytest.mark.parametrize(
    ("root", "own", "found"),
    [
        ("/data", None, "/data"),
        ("/data/", "sub/mnli", "/data/sub/mnli"),
        ("/data", "/elsewhere", "/elsewhere"),
        ("/data", "s3://bucket/x", "s3://bucket/x"),
        (None, "sub", "sub"),
        ("gs://bucket/y", "sub", "gs://bucket/y/sub"),
    ],
)
def test_a_study_s_own_data_lie_below_the_data_root(
    root: str | None, own: str | None, found: str
) -> None:
    members = [{"study": "first", "data_root": own}, "second"]
    first, second = suite({"studies": members}, data_root=root).studies
    assert first.site.data_root == found
    assert second.site.data_root == root


def test_a_study_alone_has_the_site_s_words_on_it() -> None:
    """Those on another study are not its own."""
    from peft_ablation.config.loading import load_config

    site = {"studies": {"first": {"data_root": "x", "overrides": {"train": {"epochs": 9}}}}}
    first, second = (load_config({**site, "study": name}) for name in ("first", "second"))
    assert (first.site.data_root, first.study.train.epochs) == ("x", 9)
    assert (second.site.data_root, second.study.train.epochs) == (None, 20)


BAD: dict[str, tuple[object, str]] = {
    "unknown study": (
        {"studies": ["first", "secnod"]},
        "suite two: studies: found 'secnod', allowed: .*did you mean 'second'",
    ),
    "no study": ({"studies": []}, "suite two: studies: found .*, expected at least 1 item"),
    "no list": ({"studies": "first"}, "suite two: studies: found 'first', expected a list"),
    "nothing": ({"title": "Two"}, "suite two: studies: missing"),
    "no mapping": (["first"], "suite config/suites/two.yaml: found list, expected keys and val"),
    "one study twice": (
        {"studies": ["first", "second", "first"]},
        "suite two: studies: found two called 'first', ",
    ),
    "two studies of one name": (
        {"studies": ["first", "other/first.yaml"]},
        "suite two: studies: found two called 'first', config/studies/first.yaml and "
        "other/first.yaml, whose results would be one folder; take one out, or give its file",
    ),
    "unknown key": (
        {"studies": [{"study": "first", "seeds": [1]}]},
        "suite two: studies.0.seeds: unknown key, allowed here: data_root, overrides, study",
    ),
    "wrong override": (
        {"studies": [{"study": "first", "overrides": {"train": {"epochs": 0}}}]},
        "study first: train.epochs: found 0, expected a number greater than or equal to 1",
    ),
    "intervals of two levels": (
        {"studies": ["first", {"study": "second", "overrides": {"score": {"confidence": 0.9}}}]},
        "suite two: score.confidence: found 0.95 in study first and 0.9 in second, expected one",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_no_suite_is_refused_in_one_line(case: str) -> None:
    content, told = BAD[case]
    Path("other").mkdir()
    Path("other", "first.yaml").write_text(yaml.safe_dump(STUDY))
    with pytest.raises(InputError) as refused:
        suite(content)
    assert re.match(told, str(refused.value)), refused.value
    assert "\n" not in str(refused.value)


def test_an_unknown_suite_is_refused_with_those_there_are() -> None:
    write("suites", "two", {"studies": ["first"]})
    with pytest.raises(InputError, match=r"^config: suite: found 'tow', .*did you mean 'two'\?$"):
        load_suite({"suite": "tow"})
    with pytest.raises(InputError, match=r"^config: suite: no file tow.yaml; expected a suite's"):
        load_suite({"suite": "tow.yaml"})


def test_suites_are_shipped_with_the_package() -> None:
    assert (SUITES / "glue.yaml").is_file()
