"""Zero-shot: the head that texts make is CLIP's own comparison, made once, and trained as any."""

import json

import numpy as np
import polars as pl
import pytest
import torch
from picture_studies import CONFIGS, SIZE, make_base
from pydantic import ValidationError
from tokenizers.pre_tokenizers import ByteLevel
from transformers import AutoTokenizer, CLIPForImageClassification, CLIPModel, CLIPTokenizer

from peft_ablation.bases.clip import CLIPZeroShotClassifier
from peft_ablation.bases.fetch import check_base
from peft_ablation.config.loading import load_config
from peft_ablation.errors import InputError
from peft_ablation.methods import open_method
from peft_ablation.tasks import open_task, task_class
from peft_ablation.tasks.image_classification.model import normalize_of
from peft_ablation.tasks.zero_shot import TEMPLATES, Settings, ZeroShot
from peft_ablation.training.features import cache_frozen_features
from peft_ablation.training.prepared import prepare_base

torch.set_num_threads(1)
CPU = torch.device("cpu")
CLASSES = ("blue", "green", "red")
ONE, TWO = "a photo of a {}.", "the {} of a bad drawing."


def write_tokenizer(folder):
    """CLIP's own kind: bytes, bytes that end a word, start and end; no merges."""
    bytes_ = sorted(ByteLevel.alphabet())
    tokens = [*bytes_, *(f"{b}</w>" for b in bytes_), "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: place for place, token in enumerate(tokens)}
    CLIPTokenizer(vocab=vocabulary, merges=[]).save_pretrained(folder)
    return len(tokens)


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """A CLIP of both towers with a tokenizer, and a logit scale that is not that of birth."""
    folder = tmp_path_factory.mktemp("clip")
    size = write_tokenizer(folder)
    _, settings = CONFIGS["clip"]
    text = {
        "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
        "intermediate_size": 32, "vocab_size": size, "bos_token_id": size - 2,
        "eos_token_id": size - 1, "pad_token_id": size - 1, "max_position_embeddings": 48,
        "initializer_range": 1.0,
    }  # fmt: skip
    torch.manual_seed(3)
    model = CLIPModel(
        CLIPModel.config_class(
            vision_config=settings["vision_config"], text_config=text, projection_dim=12,
            initializer_factor=3.0,
        )
    )  # fmt: skip
    model.logit_scale.data.fill_(2.5)
    model.save_pretrained(folder)
    return folder


@pytest.fixture
def zero_shot(pictures):
    def bound(**settings):
        chosen = Settings(name="zero_shot", **settings).model_dump(mode="json")
        return ZeroShot(chosen, pl.read_parquet(pictures.split("train")))

    return bound


@torch.no_grad()
def embeddings(folder, texts):
    """Embeddings of texts one by one, without padding, not normalised."""
    model = CLIPModel.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    return [
        model.get_text_features(**tokenizer([text], return_tensors="pt")).pooler_output[0]
        for text in texts
    ]


# -- the head --------------------------------------------------------------------------------------


@torch.no_grad()
def test_with_one_template_logits_are_the_models_own(clip, zero_shot):
    pixels = torch.rand(5, 3, SIZE, SIZE)
    model = CLIPModel.from_pretrained(clip).eval()
    tokenizer = AutoTokenizer.from_pretrained(clip)
    texts = [ONE.replace("{}", name) for name in CLASSES]
    own = model(pixel_values=pixels, **tokenizer(texts, padding=True, return_tensors="pt"))
    ours = zero_shot(templates=[ONE]).load_model(clip).eval()(pixel_values=pixels)
    assert torch.allclose(ours.logits, own.logits_per_image, atol=2e-5)
    # Texts that differ, or the rest would show nothing.
    assert own.logits_per_image.std(dim=1).min() > 1e-2


def test_an_ensemble_is_the_mean_of_unit_vectors_brought_to_unit_length(clip, zero_shot):
    weights = zero_shot(templates=[ONE, TWO]).load_model(clip).classifier.weight
    for name, row in zip(CLASSES, weights, strict=True):
        own = embeddings(clip, [template.replace("{}", name) for template in (ONE, TWO)])
        one, two = (vector / vector.norm() for vector in own)
        mean = (one + two) / 2
        expected = mean / mean.norm() * torch.tensor(2.5).exp()
        assert torch.allclose(row, expected, atol=1e-5)


def test_transformers_own_classifier_of_a_clip_is_another_model(clip, zero_shot):
    pixels = torch.rand(3, 3, SIZE, SIZE)
    ours = zero_shot().load_model(clip).eval()
    theirs = CLIPForImageClassification.from_pretrained(clip).eval()
    seen = []
    for model in (ours, theirs):
        model.classifier.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
        model(pixel_values=pixels)
    assert [found.shape for found in seen] == [(3, 12), (3, 32)]
    assert torch.allclose(seen[0].norm(dim=-1), torch.ones(3))


@torch.no_grad()
def test_under_autocast_the_comparison_is_in_float32(clip, zero_shot):
    model = zero_shot(templates=[ONE]).load_model(clip).eval()
    model.classifier.weight.mul_(8)  # logits as large as CLIP's
    seen = []
    model.classifier.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(pixel_values=torch.rand(4, 3, SIZE, SIZE)).logits
    assert logits.dtype == seen[0].dtype == torch.float32
    assert torch.allclose(seen[0].norm(dim=-1), torch.ones(4), atol=1e-6)
    assert torch.allclose(logits, seen[0] @ model.classifier.weight.T, atol=1e-4)
    assert logits.abs().max() > 16


def test_a_class_is_named_with_spaces_in_every_template(zero_shot):
    task = zero_shot(templates=[ONE, TWO])
    task.classes = ("maple_tree", "red")
    assert task.texts() == [
        ["a photo of a maple tree.", "the maple tree of a bad drawing."],
        ["a photo of a red.", "the red of a bad drawing."],
    ]
    names, texts = zero_shot().classes, zero_shot().texts()
    assert texts[1] == [template.format(names[1]) for template in TEMPLATES]
    assert len(set(TEMPLATES)) == 18


def test_each_text_is_run_once_and_none_after_the_model_is_kept(
    clip, zero_shot, pictures, tmp_path, monkeypatch
):
    run = []
    own = CLIPModel.get_text_features

    def counted(self, input_ids, **options):
        run.append(len(input_ids))
        return own(self, input_ids, **options)

    monkeypatch.setattr(CLIPModel, "get_text_features", counted)
    task = zero_shot(templates=[ONE, TWO])
    prepare_base(
        clip, task=task.settings, train=pictures.split("train"), threads=1, output=tmp_path / "made"
    )
    assert sum(run) == 2 * len(CLASSES)
    first = task.load_model(clip)
    run.clear()
    again = task.load_model(tmp_path / "made")
    assert run == []
    assert not any(name.startswith("text") for name, _ in again.named_parameters())
    for name, tensor in first.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name]), name
    assert (tmp_path / "made" / "tokenizer.json").is_file()


def test_classes_in_another_order_have_the_same_head(clip, zero_shot, tmp_path):
    model = zero_shot(templates=[ONE]).load_model(clip)
    model.save_pretrained(tmp_path)
    turned = zero_shot(templates=[ONE], classes=["red", "blue", "green"]).load_model(tmp_path)
    assert torch.equal(turned.classifier.weight, model.classifier.weight[[2, 0, 1]])


def test_a_random_head_is_of_the_seed_and_needs_no_texts(base_of, zero_shot):
    task, folder = zero_shot(head="random"), base_of("clip")  # it has no tokenizer

    def drawn(seed):
        torch.manual_seed(seed)
        return task.load_model(folder).classifier.weight

    assert torch.equal(drawn(1), drawn(1))
    assert not torch.equal(drawn(1), drawn(2))
    assert not task.prepares(task.settings, "clip")
    assert zero_shot().prepares(zero_shot().settings, "clip")
    assert not zero_shot().prepares(zero_shot().settings, "vit")


# -- arms ------------------------------------------------------------------------------------------


def predicted(task, model, base, examples):
    with torch.no_grad():
        return task.predictor(model, base, CPU)(examples, np.arange(len(examples)))


def test_an_untrained_arm_predicts_what_clip_prefers(clip, zero_shot, pictures):
    task = zero_shot(templates=[ONE])
    examples = task.examples(pictures.split("test"), pictures.assets, clip)
    model = open_method({"method": "none"}).load(task.load_model, clip, "")
    found = predicted(task, model, clip, examples)
    own = CLIPModel.from_pretrained(clip).eval()
    texts = [ONE.replace("{}", name) for name in CLASSES]
    tokens = AutoTokenizer.from_pretrained(clip)(texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        pixels = normalize_of(clip)(examples.batch(np.arange(len(examples)))["image"])
        chances = own(pixel_values=pixels, **tokens).logits_per_image.softmax(-1)
    assert found["predicted"] == [CLASSES[place] for place in chances.argmax(-1)]
    assert found["probability"] == pytest.approx(chances.amax(-1).tolist(), abs=1e-4)
    # A CLIP without preprocessing of its own is normalised as CLIP is, not as ImageNet.
    assert pixels.min() >= -0.48145466 / 0.26862954 - 1e-5


def test_cached_features_give_the_same_predictions(clip, zero_shot, pictures, tmp_path):
    task = zero_shot(templates=[ONE])
    cache_frozen_features(
        task={k: v for k, v in task.settings.items() if k not in task.beside_features},
        base=clip, train=pictures.split("train"), images=pictures.assets["images"],
        batch_size=5, precision="fp32", threads=1, output=tmp_path / "features.npy",
    )  # fmt: skip
    features = np.load(tmp_path / "features.npy")
    assert np.linalg.norm(features, axis=1) == pytest.approx(np.ones(len(features)), abs=1e-5)
    cached = {**pictures.assets, "features": tmp_path / "features.npy"}
    model = task.load_model(clip)
    one, other = (
        predicted(task, model, clip, task.examples(pictures.split("test"), assets, clip))
        for assets in (pictures.assets, cached)
    )
    assert one["predicted"] == other["predicted"]
    assert one["nll"] == pytest.approx(other["nll"], abs=1e-4)


ARMS = {
    "lora": {
        "method": "lora", "targets": "attention", "r": 2, "alpha": 4, "dropout": 0.0,
        "rslora": False, "dora": False, "loraplus": None, "init": "default", "train_norms": False,
    },
    "head_only": {"method": "head_only"},
    "full": {"method": "full"},
}  # fmt: skip


@pytest.mark.parametrize("name", ARMS)
def test_what_a_method_saves_is_loaded_onto_the_base(clip, zero_shot, pictures, tmp_path, name):
    task, arm = zero_shot(templates=[ONE]), {**ARMS[name], "learning_rate": 0.01}
    examples = task.examples(pictures.split("train"), pictures.assets, clip)
    batch = examples.batch(np.arange(len(examples)))
    method = open_method(arm)
    model = method.apply(
        task.load_model(clip), seed=0, heads=task.heads, steps=3, batches=lambda: iter(())
    )
    loss = task.loss_module(model, clip)
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], 0.01)
    before = loss(**batch).item()
    for _ in range(5):
        optimizer.zero_grad()
        loss(**batch).backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        expected = loss(**batch).item()
    assert expected < before
    method.save(model, tmp_path)
    again = open_method(arm).load(task.load_model, clip, tmp_path).eval()
    with torch.no_grad():
        assert task.loss_module(again, clip)(**batch).item() == pytest.approx(expected, rel=1e-5)
    trained = {n for n, p in model.named_parameters() if p.requires_grad}
    assert any("classifier" in n for n in trained)
    if name == "head_only":
        assert trained == {"classifier.weight"}


def test_other_bases_are_plain_classifiers(base_of, zero_shot, pictures):
    folder = base_of("resnet")
    torch.manual_seed(1)
    ours = zero_shot().load_model(folder).state_dict()
    torch.manual_seed(1)
    plain = pictures.task().load_model(folder).state_dict()
    assert ours.keys() == plain.keys()
    assert all(torch.equal(ours[name], plain[name]) for name in ours)


def test_the_task_is_found_by_its_name_and_its_clip_is_ours(pictures):
    assert task_class("zero_shot").architectures["clip"] == CLIPZeroShotClassifier.__name__
    chosen = Settings(name="zero_shot").model_dump(mode="json")
    assert isinstance(open_task(chosen, pictures.split("train")), ZeroShot)


# -- in a study ------------------------------------------------------------------------------------


@pytest.fixture
def shipped(tmp_path):
    for split in ("train", "test"):
        for name in ("cat", "dog"):
            (tmp_path / split / name).mkdir(parents=True)

    def load(**site):
        return load_config({"study": "cifar10_zero_shot", "data_root": str(tmp_path), **site})

    return load


def test_arms_of_a_clip_start_from_one_prepared_folder_and_others_from_their_bases(shipped):
    config = shipped()
    made = "results/cifar10_zero_shot/bases/openai--clip-vit-base-patch32@main.prepared"
    clips = ("clip_zero_shot", "clip_linear_probe", "clip_lora")
    assert {config.start(arm) for arm in clips} == {made}
    for arm in ("vit", "cnn"):
        assert config.prepared(arm) is None
        assert config.start(arm) == config.place(arm).folder
    random = shipped(overrides={"task": {"head": "random"}})
    assert all(random.prepared(arm) is None for arm in random.study.arms)


def test_the_class_of_every_arm_is_known_before_anything_is_fetched_or_made(shipped):
    for config in (shipped(), shipped(smoke=True)):
        names = {
            arm: config.architecture(arm, fetched=False).class_name for arm in config.study.arms
        }
        assert names == {
            "clip_zero_shot": "CLIPZeroShotClassifier",
            "clip_linear_probe": "CLIPZeroShotClassifier",
            "clip_lora": "CLIPZeroShotClassifier",
            "vit": "ViTForImageClassification",
            "cnn": "ResNetForImageClassification",
        }
    with pytest.raises(InputError, match=r"arms\.clip_lora\.targets: found 'text'"):
        shipped(overrides={"arms": {"clip_lora": {"targets": "text"}}})


def test_only_a_clip_must_come_with_a_tokenizer(base_of):
    kinds = {"model_types": ZeroShot.architectures, "tokenizer": ZeroShot.tokenizer}
    check_base(base_of("vit"), **kinds)
    with pytest.raises(InputError, match="no tokenizer; expected"):
        check_base(base_of("clip"), **kinds)


# -- bad input -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("templates", "said"),
    [
        (["a photo"], "found 'a photo', expected a text with {} once"),
        (["{} and {}"], "expected a text with {} once"),
        ([ONE, ONE], "twice, expected each text once"),
    ],
)
def test_templates_that_are_none_are_refused(templates, said):
    with pytest.raises(ValidationError, match=said.replace("{}", r"\{\}")):
        Settings(name="zero_shot", templates=templates)


def test_a_text_that_is_too_long_is_named(clip, zero_shot):
    long = f"{'very ' * 12}{{}}"
    with pytest.raises(InputError) as refused:
        zero_shot(templates=[ONE, long]).load_model(clip)
    # 12 words of four letters, the longest class of five, start and end; a token a byte.
    assert str(refused.value) == (
        f"task.templates: {long.replace('{}', 'green')!r} is 55 tokens long, the base takes 48; "
        "shorten it"
    )


def test_a_base_without_text_tower_or_tokenizer_says_so(clip, base_of, zero_shot, tmp_path):
    with pytest.raises(InputError, match=r"no tokenizer for the texts of task\.templates"):
        zero_shot().load_model(base_of("clip"))
    zero_shot(templates=[ONE]).load_model(clip).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["id2label"]["0"] = "purple"
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=r"of a CLIP with both towers.* or set task\.head: random"):
        zero_shot(templates=[ONE]).load_model(tmp_path)


def test_a_text_that_ends_elsewhere_than_transformers_looks_is_refused(tmp_path, zero_shot):
    folder = make_base(tmp_path / "clip", "clip")  # its text_config says eos_token_id 2
    marks = ["<|startoftext|>", "a</w>", "<|endoftext|>", *sorted(ByteLevel.alphabet())]
    vocabulary = {token: place for place, token in enumerate(marks)}
    CLIPTokenizer(vocab=vocabulary, merges=[]).save_pretrained(folder)
    with pytest.raises(InputError, match=r"text_config\.eos_token_id is 2, by which"):
        zero_shot().load_model(folder)
