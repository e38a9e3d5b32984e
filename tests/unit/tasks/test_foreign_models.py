"""Models and adapters that others trained: the scores are those of plain transformers and PEFT."""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from picture_studies import PictureStudy, make_base
from safetensors.torch import load_file, save_file
from sklearn.metrics import accuracy_score, f1_score, log_loss
from text_studies import table_of, written
from transformers import AutoModelForImageClassification, AutoModelForSequenceClassification

from peft_ablation.artifacts import read_json, write_json
from peft_ablation.errors import InputError
from peft_ablation.methods import open_method
from peft_ablation.methods.foreign import ForeignSettings
from peft_ablation.scoring.predictions import write_predictions
from peft_ablation.scoring.scores import score_predictions
from peft_ablation.tasks.image_classification import Settings
from peft_ablation.training.selection import keep_base

CLASSES = ("blue", "green", "red")
THEIRS = ("red", "blue", "green")
"""The order of the outputs of what others trained."""


def arm(**settings: Any) -> dict[str, Any]:
    return ForeignSettings(method="foreign", **settings).model_dump(mode="json")


def drawn(model: torch.nn.Module) -> None:
    """Give trainable weights values that move the outputs far."""
    torch.manual_seed(3)
    for parameter in model.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.3)


def adapter_of(base: Path, folder: Path, config: Any = None) -> Path:
    """Write an adapter as PEFT alone does, on a head for three classes."""
    model = AutoModelForImageClassification.from_pretrained(base, num_labels=3)
    config = config or LoraConfig(
        target_modules=["q_proj", "v_proj"], r=4, modules_to_save=["classifier"]
    )
    adapted = get_peft_model(model, config)
    drawn(adapted)
    adapted.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ViT without a head for colours."""
    return make_base(tmp_path_factory.mktemp("bases") / "tiny-vit", "bare_vit")


@pytest.fixture(scope="module")
def adapter(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return adapter_of(base, tmp_path_factory.mktemp("adapter") / "adapter")


def keep(
    task: dict[str, Any], train: Path, base: Path, folder: Path, **settings: Any
) -> dict[str, Any]:
    """Return the costs of an arm that others trained, its model in `folder`/model."""
    keep_base(
        task=task, train=train, base=base, arm_name="theirs", arm=arm(**settings), seed=0,
        model=folder / "model", history=folder / "history.csv", cost=folder / "cost.json",
    )  # fmt: skip
    found: dict[str, Any] = read_json(folder / "cost.json")
    return found


def scores(
    task: dict[str, Any], train: Path, test: Path, assets: Any, base: Path, folder: Path,
    **settings: Any,
) -> dict[str, Any]:  # fmt: skip
    """Return what the chain makes of an arm that others trained: keep, predict, score."""
    keep(task, train, base, folder, **settings)
    write_predictions(
        task=task, arm=arm(**settings), model=folder / "model", base=base, train=train, test=test,
        assets=assets, precision="fp32", threads=1, batch_size=8, shuffle_inputs=True,
        controls=True, probe=True, seed=3,
        output=folder / "predictions.parquet",
    )  # fmt: skip
    score_predictions(
        folder / "predictions.parquet", task=task, train=train, bootstrap_samples=20,
        confidence=0.95, seed=1, output=folder / "scores.json", sums=folder / "sums.parquet",
    )  # fmt: skip
    found: dict[str, Any] = read_json(folder / "scores.json")
    return found


def picture_task() -> dict[str, Any]:
    return Settings(name="image_classification").model_dump(mode="json")


def picture_scores(pictures: PictureStudy, base: Path, folder: Path, **settings: Any) -> Any:
    return scores(
        picture_task(), pictures.split("train"), pictures.split("test"), pictures.assets, base,
        folder, **settings,
    )  # fmt: skip


def plain(pictures: PictureStudy, model: torch.nn.Module, labels: Sequence[str]) -> dict[str, Any]:
    """Return the scores of a model by transformers and scikit-learn alone."""
    test = pl.read_parquet(pictures.split("test"))
    index = pl.read_parquet(pictures.assets["images"])
    rows = dict(index.select("example_id", "row").iter_rows())
    pixels = np.load(pictures.folder / "shard-0.npy")
    images = np.stack([pixels[rows[example]] for example in test["example_id"]])
    mean, deviation = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    values = (images / 255 - mean) / deviation
    with torch.no_grad():
        tensor = torch.tensor(values, dtype=torch.float32).permute(0, 3, 1, 2)
        probabilities = model.eval()(pixel_values=tensor).logits.double().softmax(-1).numpy()
    return by_sklearn(test["label"].to_list(), probabilities, labels)


def by_sklearn(truth: list[str], probabilities: Any, labels: Sequence[str]) -> dict[str, Any]:
    predicted = [labels[place] for place in probabilities.argmax(1)]
    order = [list(labels).index(name) for name in sorted(labels)]
    return {
        "accuracy": accuracy_score(truth, predicted),
        "macro_f1": f1_score(truth, predicted, average="macro"),
        "test_loss": log_loss(truth, probabilities[:, order], labels=sorted(labels)),
    }


def test_an_adapter_has_the_scores_of_plain_peft(
    pictures: PictureStudy, base: Path, adapter: Path, tmp_path: Path
) -> None:
    ours = picture_scores(pictures, base, tmp_path, adapter=str(adapter), labels=THEIRS)
    model = AutoModelForImageClassification.from_pretrained(base, num_labels=3)
    theirs = plain(pictures, PeftModel.from_pretrained(model, str(adapter)), THEIRS)
    assert 0 < theirs["accuracy"] < 1
    assert {name: ours[name] for name in theirs} == pytest.approx(theirs, abs=1e-5)
    # And what an arm that is trained here has: intervals, baselines, the control.
    assert ours["intervals"]["accuracy"] is not None
    assert ours["baselines"]["majority"]["accuracy"] == pytest.approx(1 / 3)
    assert ours["shuffled"]["accuracy"] != ours["accuracy"]


def test_which_output_is_which_class_decides_the_scores(
    pictures: PictureStudy, base: Path, adapter: Path, tmp_path: Path
) -> None:
    right = picture_scores(pictures, base, tmp_path / "a", adapter=str(adapter), labels=THEIRS)
    wrong = picture_scores(pictures, base, tmp_path / "b", adapter=str(adapter), labels=CLASSES)
    assert right["test_loss"] != pytest.approx(wrong["test_loss"], abs=1e-3)


def model_of(folder: Path, labels: Sequence[str] = ()) -> Path:
    """Write a classifier of three colours as transformers alone does."""
    make_base(folder, "vit", num_labels=3)
    model = AutoModelForImageClassification.from_pretrained(folder)
    model.requires_grad_(True)
    drawn(model.classifier)
    if labels:
        model.config.id2label = dict(enumerate(labels))
        model.config.label2id = {name: place for place, name in enumerate(labels)}
    model.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("told", [True, False], ids=["by its config", "by the user"])
def test_a_model_has_the_scores_of_plain_transformers(
    told: bool, pictures: PictureStudy, tmp_path: Path
) -> None:
    folder = model_of(tmp_path / "theirs", THEIRS if told else ())
    labels = None if told else THEIRS
    ours = picture_scores(pictures, folder, tmp_path / "run", labels=labels)
    theirs = plain(pictures, AutoModelForImageClassification.from_pretrained(folder), THEIRS)
    assert {name: ours[name] for name in theirs} == pytest.approx(theirs, abs=1e-5)


def test_costs_say_that_others_paid(
    pictures: PictureStudy, base: Path, adapter: Path, tmp_path: Path
) -> None:
    cost = keep(
        picture_task(), pictures.split("train"), base, tmp_path, adapter=str(adapter),
        labels=THEIRS,
    )  # fmt: skip
    # r 4 on two dense layers of 32 to 32 in each of two layers; a head of 32 to 3.
    assert cost["trainable_parameters"] == 2 * 2 * 4 * (32 + 32) + 32 * 3 + 3
    assert cost["trained_elsewhere"] is True
    assert cost["train_seconds"] == 0
    assert cost["adapter_mb"] == (adapter / "adapter_model.safetensors").stat().st_size / 1e6


def test_an_adapter_is_read_again_when_its_folder_changes(adapter: Path) -> None:
    assert open_method(arm(adapter=str(adapter))).inputs == (str(adapter),)
    assert open_method(arm()).inputs == ()


def test_cached_features_of_the_base_are_not_those_of_its_adapter(adapter: Path) -> None:
    """An adapter changes what the frozen part of a base gives; a whole model is its own base."""
    assert not open_method(arm(adapter=str(adapter))).leaves_alone(None, ("*",), ("classifier",))
    assert open_method(arm()).leaves_alone(None, ("*",), ("classifier",))


# -- a foreign adapter on a base of its shape ------------------------------------------------------


def test_an_adapter_of_another_tool_is_read_whole(shared_data: Path, tmp_path: Path) -> None:
    """The base's own weights are not at hand: attention of its shape, drawn at random."""
    from transformers import AutoTokenizer, RobertaConfig, RobertaForMaskedLM

    from peft_ablation.bases.tokenizer import train_tokenizer
    from peft_ablation.tasks.text_classification import Settings as TextSettings

    adapter = shared_data.parent / "bases" / "roberta-mrpc-lora"
    if not adapter.is_dir():
        pytest.skip(f"no {adapter}")
    lines = (shared_data / "glue-slices" / "MRPC" / "dev.tsv").read_text("utf-8-sig").split("\n")
    rows = [line.split("\t") for line in lines[1:61]]
    names = ("different", "same")
    table = table_of(
        {
            "text": [row[3] for row in rows], "text_pair": [row[4] for row in rows],
            "label": [names[int(row[0])] for row in rows],
        }
    )  # fmt: skip
    base = tmp_path / "roberta-base"
    torch.manual_seed(0)
    RobertaForMaskedLM(
        RobertaConfig(vocab_size=400, intermediate_size=8, max_position_embeddings=514,
                      type_vocab_size=1)
    ).save_pretrained(base)  # fmt: skip
    train_tokenizer(table["text"].to_list(), 400, base)
    path = written(tmp_path, table)
    task = TextSettings(name="text_classification").model_dump(mode="json")
    ours = scores(task, path, path, {}, base, tmp_path / "run", adapter=str(adapter), labels=names)
    tokenizer = AutoTokenizer.from_pretrained(base)
    model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=2)
    model = PeftModel.from_pretrained(model, str(adapter)).eval()
    probabilities = []
    with torch.no_grad():
        for one, other in table.select("text", "text_pair").iter_rows():
            logits = model(**tokenizer(one, other, return_tensors="pt")).logits
            probabilities.append(logits[0].double().softmax(-1).numpy())
    theirs = by_sklearn(table["label"].to_list(), np.stack(probabilities), names)
    assert {name: ours[name] for name in theirs} == pytest.approx(theirs, abs=1e-4)
    # The adapter as a whole: 294,912 of LoRA, 592,130 of the head.
    assert read_json(tmp_path / "run" / "cost.json")["trainable_parameters"] == 887_042


# -- what is refused -------------------------------------------------------------------------------


@pytest.fixture
def refused(pictures: PictureStudy, tmp_path: Path) -> Callable[..., str]:
    """Return a function that gives the one line with which a base and settings are refused."""

    def told(base: Path, **settings: Any) -> str:
        with pytest.raises(InputError) as error:
            open_method(arm(**settings)).check(None)
            keep(picture_task(), pictures.split("train"), base, tmp_path / "run", **settings)
        assert "\n" not in str(error.value)
        assert not (tmp_path / "run" / "model").exists()
        return str(error.value)

    return told


def copied(folder: Path, to: Path, **config: Any) -> Path:
    shutil.copytree(folder, to)
    write_json(to / "adapter_config.json", read_json(to / "adapter_config.json") | config)
    return to


Refused = Callable[..., str]


def test_an_adapter_of_a_base_of_another_name_is_refused(
    refused: Refused, base: Path, adapter: Path, tmp_path: Path
) -> None:
    other = copied(adapter, tmp_path / "x", base_model_name_or_path="google/vit-base")
    told = refused(base, adapter=str(other), labels=THEIRS)
    assert "made for base 'google/vit-base', found '" in told
    assert "set known_as to that name" in told
    assert "found 'vit-large'" in refused(
        base, adapter=str(other), labels=THEIRS, known_as="vit-large"
    )


def test_a_base_that_is_known_by_another_name_is_taken(
    pictures: PictureStudy, base: Path, adapter: Path, tmp_path: Path
) -> None:
    other = copied(adapter, tmp_path / "x", base_model_name_or_path="google/vit-base")
    keep(
        picture_task(), pictures.split("train"), base, tmp_path / "run", adapter=str(other),
        labels=THEIRS, known_as="google/vit-base",
    )  # fmt: skip
    assert (tmp_path / "run" / "model" / "model.safetensors").is_file()


def test_an_adapter_of_a_base_of_another_width_is_refused(
    refused: Refused, adapter: Path, tmp_path: Path
) -> None:
    wide = make_base(tmp_path / "tiny-vit", "vit", num_labels=3, initializer_range=0.02)
    config = read_json(wide / "config.json")
    from transformers import ViTConfig, ViTForImageClassification

    ViTForImageClassification(
        ViTConfig(**{**config, "hidden_size": 64, "num_attention_heads": 4})
    ).save_pretrained(wide)
    told = refused(wide, adapter=str(adapter), labels=THEIRS)
    assert f"made for another base than {wide}: " in told
    assert "size mismatch" in told


@pytest.mark.parametrize("layers", [1, 3])
def test_an_adapter_of_a_base_of_another_depth_is_refused(
    layers: int, refused: Refused, adapter: Path, tmp_path: Path
) -> None:
    """PEFT itself loads both, with some layers adapted."""
    from transformers import ViTConfig, ViTForImageClassification

    other = tmp_path / "tiny-vit"
    config = read_json(make_base(other, "vit") / "config.json")
    ViTForImageClassification(ViTConfig(**{**config, "num_hidden_layers": layers})).save_pretrained(
        other
    )
    told = refused(other, adapter=str(adapter), labels=THEIRS)
    assert "4 tensors without a partner, first 'base_model.model.vit.layers." in told


def test_an_adapter_for_other_modules_is_refused(
    refused: Refused, adapter: Path, tmp_path: Path
) -> None:
    resnet = make_base(tmp_path / "tiny-vit", "resnet")
    assert "your `target_modules`" in refused(resnet, adapter=str(adapter), labels=THEIRS)


def test_a_tensor_whose_name_fits_nothing_is_refused(
    refused: Refused, base: Path, adapter: Path, tmp_path: Path
) -> None:
    """As those are that an older transformers called otherwise: PEFT passes over them."""
    old = copied(adapter, tmp_path / "x")
    weights = load_file(old / "adapter_model.safetensors")
    renamed = {name.replace("layers.1", "encoder.layer.1"): t for name, t in weights.items()}
    save_file(renamed, old / "adapter_model.safetensors")
    told = refused(base, adapter=str(old), labels=THEIRS)
    assert "8 tensors without a partner" in told


FILES: dict[str, tuple[Callable[[Path], object], str]] = {
    "no folder": (lambda folder: shutil.rmtree(folder), ": no such folder; expected a folder that"),
    "no config": (lambda f: (f / "adapter_config.json").unlink(), ": no adapter_config.json; exp"),
    "no weights": (lambda f: (f / "adapter_model.safetensors").unlink(), ": no adapter_model.safe"),
    "a pickle": (
        lambda f: (f / "adapter_model.safetensors").rename(f / "adapter_model.bin"),
        ": no adapter_model.safetensors (found adapter_model.bin, a pickle, which is not read)",
    ),
    "half of the weights": (
        lambda f: (f / "adapter_model.safetensors").write_bytes(
            (f / "adapter_model.safetensors").read_bytes()[:-100]
        ),
        "adapter_model.safetensors is no whole safetensors file",
    ),
    "no JSON": (
        lambda f: (f / "adapter_config.json").write_text("{"), "adapter_config.json is not JSON"
    ),
    "no type": (
        lambda f: (f / "adapter_config.json").write_text("{}"), "names no peft_type"
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", FILES)
def test_a_folder_that_holds_no_adapter_is_refused(
    case: str, refused: Refused, base: Path, adapter: Path, tmp_path: Path
) -> None:
    change, message = FILES[case]
    folder = copied(adapter, tmp_path / "x")
    change(folder)
    assert message in refused(base, adapter=str(folder), labels=THEIRS)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            {"peft_type": "LORRA"},
            "adapter_config.json: peft_type: found 'LORRA', allowed by the installed PEFT: ",
        ),
        ({"use_ndora": True}, "has use_ndora: True, which the installed PEFT does not know of LO"),
        ({"peft_type": "PROMPT_TUNING"}, "peft_type PROMPT_TUNING does not merge into its base"),
    ],
)
def test_an_adapter_that_cannot_be_had_is_refused(
    config: dict[str, Any], message: str, refused: Refused, base: Path, adapter: Path,
    tmp_path: Path,
) -> None:  # fmt: skip
    other = copied(adapter, tmp_path / "x", **config)
    assert message in refused(base, adapter=str(other), labels=THEIRS)


def test_settings_that_say_nothing_may_be_of_another_release(adapter: Path, tmp_path: Path) -> None:
    other = copied(adapter, tmp_path / "x", of_tomorrow=None, also={})
    open_method(arm(adapter=str(other))).check(None)


@pytest.mark.parametrize("classes", [0, 3, 7])
def test_an_adapter_without_its_head_on_a_base_of_other_classes_is_refused(
    classes: int, refused: Refused, base: Path, tmp_path: Path
) -> None:
    """Also where the base's head has as many outputs: they are called otherwise."""
    named = tmp_path / "tiny-vit"
    if classes:
        make_base(named, "vit", num_labels=classes)
    else:
        shutil.copytree(base, named)
    bare = adapter_of(base, tmp_path / "x", LoraConfig(target_modules=["q_proj"], r=2))
    told = refused(named, adapter=str(bare), labels=THEIRS)
    assert f"neither it nor base {named} has weights of the head 'classifier' for blue, gre" in told


def test_an_adapter_without_a_head_takes_its_base_s(pictures: PictureStudy, tmp_path: Path) -> None:
    named = model_of(tmp_path / "tiny-vit", THEIRS)
    bare = adapter_of(named, tmp_path / "x", LoraConfig(target_modules=["q_proj"], r=2))
    ours = picture_scores(pictures, named, tmp_path / "run", adapter=str(bare))
    model = AutoModelForImageClassification.from_pretrained(named)
    theirs = plain(pictures, PeftModel.from_pretrained(model, str(bare)), THEIRS)
    assert {name: ours[name] for name in theirs} == pytest.approx(theirs, abs=1e-5)


def test_an_adapter_that_does_not_say_which_class_is_which_is_refused(
    refused: Refused, base: Path, adapter: Path
) -> None:
    told = refused(base, adapter=str(adapter))
    assert told.endswith(
        "it does not say which of its outputs is which class; give labels: blue, green, red, in "
        "the order of its outputs"
    )


@pytest.mark.parametrize("labels", [("red", "blue"), ("red", "blue", "yellow")])
def test_labels_that_are_not_the_study_s_classes_are_refused(
    labels: tuple[str, ...], refused: Refused, base: Path, adapter: Path
) -> None:
    told = refused(base, adapter=str(adapter), labels=labels)
    assert told == (
        f"labels: found {', '.join(labels)}, expected the study's classes, each once: blue, "
        "green, red"
    )


def test_outputs_without_names_need_labels(refused: Refused, tmp_path: Path) -> None:
    told = refused(model_of(tmp_path / "theirs"))
    assert "its outputs are called LABEL_0, LABEL_1, LABEL_2, the study's classes blue, gre" in told


def test_a_model_of_more_classes_is_refused(refused: Refused, tmp_path: Path) -> None:
    seven = make_base(tmp_path / "seven", "vit", num_labels=7)
    assert "found 7 outputs (LABEL_0, " in refused(seven, labels=THEIRS)


def test_a_model_without_a_head_is_refused(refused: Refused, tmp_path: Path) -> None:
    bare = make_base(tmp_path / "bare", "bare_vit")
    assert "no weights of its head 'classifier': nobody trained it to" in refused(bare)


def test_labels_that_repeat_a_class_are_refused_when_the_study_is_read() -> None:
    with pytest.raises(ValueError, match="labels: a class is named twice"):
        arm(labels=("a", "a"))
    with pytest.raises(ValueError, match="known_as is what an adapter calls its base"):
        arm(known_as="x")
