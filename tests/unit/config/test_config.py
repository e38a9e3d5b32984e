"""A wrong config is refused in one line that says what to write instead."""

import re
from pathlib import Path
from typing import Any

import pytest

from peft_ablation.config.loading import load_config, merged, read_study
from peft_ablation.errors import InputError
from peft_ablation.sources.mimic import tree_csv
from peft_ablation.sources.table import TableData

ROOT = Path(__file__).resolve().parents[3]
STUDIES = ROOT / "config" / "studies"
LORA = {"method": "lora", "targets": "text", "learning_rate": 1e-3}


def refusal(**site: Any) -> str:
    with pytest.raises(InputError) as refused:
        load_config(site)
    message = str(refused.value)
    assert "\n" not in message
    return message


def override_refusal(overrides: dict[str, Any]) -> str:
    return refusal(study="phantom_cxr", overrides=overrides)


def data_root(study: str, folder: Path) -> str:
    """A folder with names of files where the study's source looks for them, in its smoke too."""
    raw, _ = read_study(study, [STUDIES])
    for data in (raw["data"], {**raw["data"], **(raw.get("smoke") or {}).get("data", {})}):
        for name in files_of(data):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).touch()
    return str(folder)


def files_of(data: dict[str, Any]) -> list[str]:
    match data["source"]:
        case "table":  # of a member of an archive, the archive
            return [name.split("::")[-1] for _, name in TableData.model_validate(data).listed]
        case "captions":
            return [data["files"], f"{data['images']}/1.jpg"]
        case "instructions":
            return [told["files"] for told in data["sets"]]
        case "class_folders":
            return [f"{split}/{label}/1.png" for split in ("train", "test") for label in "ab"]
        case _:
            return [f"mimic-cxr-2.0.0-{name}.csv.gz" for name in ("metadata", "chexpert")]


PROTOCOLS = {"glue_roberta"}
"""Files that only others extend: they name no data."""


FOLDERS = {"stories260K"}
"""Bases that a study names as local folders: a person says where they are."""


@pytest.mark.parametrize("study", PROTOCOLS)
def test_a_protocol_is_no_study_by_itself(study: str) -> None:
    assert refusal(study=study).startswith(f"study {study}: data.files: missing")


@pytest.mark.parametrize(
    "study", sorted({path.stem for path in STUDIES.glob("*.yaml")} - PROTOCOLS)
)
def test_every_study_of_the_project_is_valid(
    study: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("data", *FOLDERS):
        (tmp_path / folder).mkdir()
    root = data_root(study, tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    config = load_config({"study": study, "data_root": root})
    assert config.name == study
    assert config.results == f"results/{study}"
    smoke = load_config({"study": study, "data_root": root, "smoke": True})
    assert smoke.results == f"results/{study}.smoke"


@pytest.mark.parametrize("study", ["phantom_cxr", "mimic_cxr_smoke", "mimic_cxr_git"])
def test_studies_of_radiographs_compare_full_fine_tuning_with_both_towers(
    study: str, tmp_path: Path
) -> None:
    config = load_config({"study": study, "data_root": data_root(study, tmp_path)})
    assert list(config.study.arms) == ["fft", "lora_vision", "lora_text"]
    assert config.reference == "fft"


def test_unknown_study_names_those_there_are_and_the_nearest() -> None:
    message = refusal(study="phantom_cx")
    assert message.startswith("config: study: found 'phantom_cx', allowed: ")
    assert "mimic_cxr_git" in message
    assert message.endswith("did you mean 'phantom_cxr'?")
    assert "did you mean" not in refusal(study="zzz")


@pytest.mark.parametrize(
    ("site", "message"),
    [
        (
            {"stduy": "phantom_cxr"},
            r"config: stduy: unknown key, allowed here: bases, cloud, data_root, datasets, "
            r"overrides, results, smoke, studies, study, suite, tensorboard; "
            r"did you mean 'study'\?",
        ),
        ({"results": 3}, r"config: results: found 3, expected a string"),
        ({"results": ""}, r"config: results: found '', expected to have at least 1 character"),
        ({"study": None}, r"config: study: found None, expected a string"),
        ({"tensorboard": "maybe"}, r"config: tensorboard: found 'maybe', expected a boolean.*"),
        ({"overrides": [1]}, r"config: overrides: found \[1\], expected keys and values"),
        ({"cloud": {"deadlin": 3}}, r"config: cloud.deadlin: unknown key.*'deadline'\?"),
        ({"study": "no/such.yaml"}, r"config: study: no file no/such.yaml; expected a study's.*"),
    ],
)
def test_wrong_site(site: dict[str, Any], message: str) -> None:
    assert re.fullmatch(message, refusal(**site))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"splits": {}}, r"splits: unknown key, allowed here: arms, base, .*mean 'split'\?"),
        ({"train": {"epoch": 3}}, r"train.epoch: unknown key, .*warmup.*mean 'epochs'\?"),
        ({"arms": {"lora_text": {"rank": 4}}}, r"arms.lora_text.rank: unknown key, .* r, .*"),
        ({"data": {"phantom": {"subject": 9}}}, r"data.phantom.subject: .*mean 'subjects'\?"),
        ({"train": {"epochs": "many"}}, r"train.epochs: found 'many', expected an integer.*"),
        ({"train": 3}, r"train: found 3, expected keys and values"),
        ({"data": {"views": "AP"}}, r"data.views: found 'AP', expected a list"),
        (
            {"data": {"source": "trees"}},
            r"data.source: found 'trees', allowed: bigquery, .*, mimic, .*mean 'tree'\?",
        ),
        ({"data": {"source": 3}}, r"data.source: found '?3'?, .*"),
        ({"data": 3}, r"data: found 3, expected keys and values"),
        ({"task": {"name": "caption"}}, r"task.name: found 'caption', allowed: captioning, .*"),
        ({"task": "peft_ablation.errors"}, r"task.name: found .*, a module without TASK; .*"),
        ({"task": {"max_token": 3}}, r"task.max_token: unknown key, .*mean 'max_tokens'\?"),
        ({"split": {"unit": "patient"}}, r"split.unit: found 'patient', allowed .*: subject, .*"),
        ({"reference": "full"}, r"reference: found 'full', expected an arm: fft, lora_vision, .*"),
        ({"sample": {"quota": 0}}, r"sample.quota: found 0, expected a number greater than 0"),
        ({"sample": {"count_values": [2]}}, r"sample.count_values.0: found 2, expected -1, 0.*"),
        ({"split": {"train": 0.7}}, r"split: train \+ val \+ test is 1.1, expected 1"),
        ({"split": {"train": 1.2}}, r"split.train: found 1.2, expected a number less than 1"),
        ({"train": {"seeds": [0, 1, 0]}}, r"train: seeds \[0, 1, 0\] repeat a seed"),
        ({"train": {"seeds": []}}, r"train.seeds: found \[\], expected at least 1 item"),
        ({"train": {"seeds": [-1]}}, r"train.seeds.0: found -1, expected a number greater .*"),
        ({"arms": None}, r"arms: missing"),
        ({"arms": {"Bad": LORA}}, r"arms.Bad: found 'Bad', expected to match pattern .*"),
        ({"arms": {"a-b": LORA}}, r"arms.a-b: found 'a-b', expected to match pattern .*"),
        ({"arms": {"fft_chunk": LORA}}, r"arms.fft_chunk: .*a name without _chunk"),
        ({"arms": {"x": {"method": "full"}}}, r"arms.x.learning_rate: missing"),
        (
            {"arms": {"x": LORA | {"method": "lorra"}}},
            r"arms.x.method: found 'lorra', allowed: .*full, .*lora, .*mean 'lora'\?",
        ),
        ({"arms": {"x": {"learning_rate": 1}}}, r"arms.x.method: missing"),
        ({"arms": {"x": LORA | {"method": ".lora"}}}, r"arms.x.method: found '.lora', allowed: .*"),
        ({"arms": {"fft": {"r": 4}}}, r"arms.fft.r: unknown key, allowed here: .*learning_rate.*"),
        ({"arms": {"lora_text": {"targets": None}}}, r"arms.lora_text.targets: missing"),
        (
            {"arms": {"lora_text": {"targets": "txt"}}},
            r"arms.lora_text.targets: found 'txt', allowed for Git.*: all, .*mean 'text'\?",
        ),
        (
            {"arms": {"lora_text": {"targets": "regex:q_proj"}}},
            r"arms.lora_text.targets: 'regex:q_proj' matches no module of GitForCausalLM; .*",
        ),
        (
            {"arms": {"lora_text": {"targets": "regex:(q_proj"}}},
            r"arms.lora_text.targets: 'regex:\(q_proj' is no regular expression: .*",
        ),
        (
            {"images": {"size": 64}},
            r"images.size is 64, but base.pretraining.image_size is 48: set them equal",
        ),
        ({"base": {"id": "microsoft/git-base"}}, r"base.revision: missing: no folder .*"),
        ({"base": {"pretraining": {"hidden_size": 97}}}, r".*no multiple of attention_heads"),
        ({"train": {"epochs": 0, "batch_size": 0}}, r"train.epochs: .*\(and 1 more\)"),
    ],
)
def test_wrong_study(overrides: dict[str, Any], message: str) -> None:
    found = override_refusal(overrides)
    assert re.fullmatch(rf"study phantom_cxr: {message}", found), found


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"arms: [1", "not YAML: while parsing"),
        (b"\xff\xfe\x00a", "not YAML: 'utf-8' codec"),
        (b"- 1", "found list, expected keys and values"),
        (b"", "found NoneType, expected keys and values"),
    ],
)
def test_study_file_that_is_no_study(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_bytes(content)
    assert message in refusal(study=str(path))


def test_data_root_is_checked_where_a_tree_is_read(tmp_path: Path) -> None:
    assert "data_root: not set, but study mimic_cxr_smoke reads a tree" in refusal(
        study="mimic_cxr_smoke"
    )
    missing = refusal(study="mimic_cxr_smoke", data_root=str(tmp_path / "none"))
    assert f"data_root: no folder {tmp_path / 'none'}; set data_root to" in missing
    (tmp_path / "mimic-cxr-2.0.0-metadata.csv.gz").touch()
    for study in ("mimic_cxr_smoke", "mimic_cxr_git"):
        message = refusal(study=study, data_root=str(tmp_path))
        assert f"{tmp_path} holds no mimic-cxr-2.0.0-chexpert.csv.gz" in message
    (tmp_path / "mimic-cxr-2.0.0-chexpert.csv").touch()  # plain CSV does too
    config = load_config({"study": "mimic_cxr_git", "data_root": str(tmp_path)})
    assert (config.source.root, config.source.cloud) == (str(tmp_path), None)
    assert tree_csv(tmp_path, "chexpert") == tmp_path / "mimic-cxr-2.0.0-chexpert.csv"


def test_source_mimic_is_the_cloud_without_data_root() -> None:
    source = load_config({"study": "mimic_cxr_git"}).source
    assert source.root is None
    assert source.cloud is not None
    assert source.cloud["images_url"].startswith("gs://mimic-cxr-jpg")
    # A phantom needs no tree, and a data_root that others use does not get in its way.
    phantom = load_config({"study": "phantom_cxr", "data_root": "/no/such/folder"})
    assert (phantom.source.root, phantom.source.cloud) == ("results/phantom_cxr/phantom", None)


def test_source_bigquery_is_the_cloud_whatever_lies_on_disk(tmp_path: Path) -> None:
    overrides = {"data": {"source": "bigquery"}}
    site = {"study": "mimic_cxr_git", "data_root": str(tmp_path), "overrides": overrides}
    source = load_config(site).source
    assert source.root is None
    assert source.cloud is not None
    assert source.inputs() == {}


def test_findings_are_read_by_the_template_that_wrote_them() -> None:
    def findings(**overrides: Any) -> str | None:
        study = load_config({"study": "phantom_cxr", "overrides": overrides}).study
        found: str | None = study.task.model_dump()["findings"]
        return found

    assert findings() == "corrected"
    assert findings(report={"template": "plain"}) == "plain"
    assert findings(report={"template": "plain"}, task={"findings": "corrected"}) == "corrected"


@pytest.mark.filterwarnings("error")
def test_a_study_as_plain_values_has_every_setting_and_reads_back_as_itself() -> None:
    """Else a manifest's hash, say, would not change with a setting of task, source or arm."""
    config = load_config({"study": "phantom_cxr"})
    plain = config.study.model_dump(mode="json")
    assert plain["task"]["max_tokens"] == 160
    assert plain["data"]["phantom"]["subjects"] == 1500
    assert (plain["arms"]["lora_text"]["targets"], plain["arms"]["lora_text"]["r"]) == ("text", 8)
    again = type(config.study).model_validate(plain)
    assert again == config.study


@pytest.mark.parametrize("arm", [{"method": "prefix"},
                                 {"method": "peft", "type": "prefix_tuning"}])  # fmt: skip
def test_prefixes_and_gradient_checkpointing_are_refused_together(
    arm: dict[str, Any], tmp_path: Path
) -> None:
    """It would drop the prefixes with a warning alone, and training would go on without them."""
    root = data_root("glue_rte", tmp_path)

    def site(study: bool, own: bool | None) -> dict[str, Any]:
        prefixes = {**arm, "learning_rate": 1e-3, "gradient_checkpointing": own}
        told = {"train": {"gradient_checkpointing": study}, "arms": {"prefixes": prefixes}}
        return {"study": "glue_rte", "data_root": root, "overrides": told}

    for study, own in ((True, None), (False, True)):
        assert re.match(
            f"study glue_rte: arms.prefixes.gradient_checkpointing: method {arm['method']} gives",
            refusal(**site(study, own)),
        )
    load_config(site(True, False))
    load_config(site(False, None))
    load_config({"study": "glue_rte", "data_root": root, "overrides": {"arms": {
        "prompts": {"method": "prompt", "learning_rate": 1e-3, "gradient_checkpointing": True},
    }}})  # fmt: skip


def test_overrides_merge_key_by_key_and_null_drops() -> None:
    plain = load_config({"study": "phantom_cxr"}).study
    study = load_config(
        {
            "study": "phantom_cxr",
            "overrides": {
                "train": {"epochs": 2},
                "arms": {"fft": None, "lora_text": {"r": 4}, "both": LORA | {"r": 2}},
            },
        },
    ).study
    assert study.train == plain.train.model_copy(update={"epochs": 2})
    assert list(study.arms) == ["lora_vision", "lora_text", "both"]
    assert study.arms["lora_vision"] == plain.arms["lora_vision"]
    assert study.arms["lora_text"] == plain.arms["lora_text"].model_copy(update={"r": 4})
    assert study.data == plain.data


def test_merging_replaces_lists_and_leaves_its_arguments_alone() -> None:
    base = {"a": {"b": [1, 2], "c": 1}, "d": 1}
    assert merged(base, {"d": "null"}) == {"a": {"b": [1, 2], "c": 1}}
    assert merged(base, {"a": {"b": [3]}, "d": {"e": 1}, "f": None}) == {
        "a": {"b": [3], "c": 1},
        "d": {"e": 1},
    }
    assert base == {"a": {"b": [1, 2], "c": 1}, "d": 1}
