"""A base of random weights is what the study says, loads as any other, and is the same again."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
import transformers
from PIL import Image
from pydantic import ValidationError
from transformers import AutoTokenizer, ViTImageProcessorPil

from peft_ablation.artifacts import read_json, write_table
from peft_ablation.bases.architectures import architecture
from peft_ablation.bases.fetch import check_base
from peft_ablation.bases.phantom import make_tokenizer
from peft_ablation.bases.random import (
    RandomBase,
    TrainedTokenizer,
    make_random_base,
    random_base_name,
)
from peft_ablation.errors import InputError

VISION = {
    "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2,
    "image_size": 16, "patch_size": 8,
}  # fmt: skip
TEXT = {
    "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2,
    "max_position_embeddings": 24,
}  # fmt: skip
GPT2 = {"n_embd": 8, "n_layer": 1, "n_head": 2, "n_positions": 24}
BASES: dict[str, dict[str, Any]] = {
    "ViTForImageClassification": VISION,
    "ResNetForImageClassification": {
        "layer_type": "basic", "embedding_size": 4, "hidden_sizes": [4, 8], "depths": [1, 2],
    },
    "CLIPModel": {"vision_config": VISION, "text_config": TEXT, "projection_dim": 12},
    "CLIPForImageClassification": {"vision_config": VISION},
    "RobertaForSequenceClassification": {**TEXT, "vocab_size": 40},
    "BertForSequenceClassification": {**TEXT, "vocab_size": 40},
    "DistilBertForSequenceClassification": {
        "dim": 16, "hidden_dim": 24, "n_layers": 1, "n_heads": 2, "vocab_size": 40,
        "max_position_embeddings": 24,
    },
    "DebertaV2ForSequenceClassification": {**TEXT, "vocab_size": 40},
    "ElectraForSequenceClassification": {**TEXT, "embedding_size": 8, "vocab_size": 40},
    "GPT2ForSequenceClassification": {**GPT2, "vocab_size": 40},
    "LlamaForSequenceClassification": {**TEXT, "vocab_size": 40, "num_key_value_heads": 1},
    "GPT2LMHeadModel": {**GPT2, "vocab_size": 40},
    "LlamaForCausalLM": {**TEXT, "vocab_size": 40, "num_key_value_heads": 1},
    "GitForCausalLM": {**TEXT, "vocab_size": 40, "vision_config": VISION},
    "VisionEncoderDecoderModel": {"encoder": VISION, "decoder": {**GPT2, "vocab_size": 40}},
}  # fmt: skip


def make(folder: Path, name: str, config: dict[str, Any] | None = None, **more: Any) -> Path:
    settings = RandomBase(architecture=name, config=BASES[name] if config is None else config)
    make_random_base(folder, **{**settings.model_dump(), **more})
    return folder


@pytest.fixture
def words(tmp_path: Path) -> Path:
    """A tokenizer of BERT's kind: [PAD] 0, [CLS] 2, [SEP] 3."""
    make_tokenizer("a prompt").save_pretrained(tmp_path / "words")
    return tmp_path / "words"


@pytest.mark.parametrize("name", BASES)
def test_base_loads_whole_and_has_the_sizes_that_the_study_says(name: str, tmp_path: Path) -> None:
    folder = make(tmp_path / "base", name)
    check_base(folder, model_types=(), tokenizer=False)
    model, report = getattr(transformers, name).from_pretrained(
        folder, local_files_only=True, use_safetensors=True, output_loading_info=True
    )
    assert not any(report.values()), report
    told = architecture(name, BASES[name])
    assert told is not None
    assert {m.name for m in told.modules} <= {n for n, _ in model.named_modules()}
    assert read_json(folder / "base.json")["parameters"] == sum(
        p.numel() for p in model.parameters()
    )
    assert {p.dtype for p in model.parameters()} == {torch.float32}


def test_same_settings_give_the_same_bytes_and_another_seed_other_weights(tmp_path: Path) -> None:
    one, again, other = (
        make(tmp_path / n, "GPT2LMHeadModel", seed=s) for n, s in (("1", 5), ("2", 5), ("3", 6))
    )
    files = sorted(path.name for path in one.iterdir())
    assert files == ["base.json", "config.json", "generation_config.json", "model.safetensors"]
    for file in files:
        assert (one / file).read_bytes() == (again / file).read_bytes()
    assert (one / "model.safetensors").read_bytes() != (other / "model.safetensors").read_bytes()


def test_weights_come_from_the_seed_whatever_was_drawn_before(tmp_path: Path) -> None:
    torch.manual_seed(1)
    one = make(tmp_path / "1", "ViTForImageClassification")
    torch.rand(7)
    again = make(tmp_path / "2", "ViTForImageClassification")
    assert (one / "model.safetensors").read_bytes() == (again / "model.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("name", "given", "side"),
    [
        ("ViTForImageClassification", {}, 16),
        ("CLIPModel", {}, 16),
        ("VisionEncoderDecoderModel", {}, 16),
        ("ResNetForImageClassification", {"image_size": 32}, 32),
        ("ResNetForImageClassification", {}, 224),
    ],
)
def test_images_are_resized_and_normalised_as_the_study_says(
    name: str, given: dict[str, Any], side: int, tmp_path: Path
) -> None:
    mean, std = (0.5, 0.25, 0.0), (0.5, 0.25, 2.0)
    folder = make(tmp_path / "base", name, image_mean=mean, image_std=std, **given)
    processor = ViTImageProcessorPil.from_pretrained(folder, local_files_only=True)
    white = Image.fromarray(np.full((20, 30, 3), 255, np.uint8))
    pixels = processor(white, return_tensors="pt")["pixel_values"]
    assert pixels.shape == (1, 3, side, side)
    # (1 - mean) / std of white, by hand.
    torch.testing.assert_close(pixels[0, :, 0, 0], torch.tensor([1.0, 3.0, 0.5]))


def test_base_without_images_has_no_preprocessing(tmp_path: Path) -> None:
    assert not (make(tmp_path / "base", "GPT2LMHeadModel") / "preprocessor_config.json").exists()


def test_vocabulary_and_special_tokens_are_those_of_the_tokenizer(
    words: Path, tmp_path: Path
) -> None:
    config = {key: value for key, value in BASES["GitForCausalLM"].items() if key != "vocab_size"}
    folder = make(tmp_path / "base", "GitForCausalLM", config, tokenizer=words)
    check_base(folder, model_types=("git",), tokenizer=True)
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    found = read_json(folder / "config.json")
    assert found["vocab_size"] == len(tokenizer) == len(make_tokenizer("a prompt"))
    assert (found["pad_token_id"], found["bos_token_id"], found["eos_token_id"]) == (0, 2, 3)


def test_what_the_study_says_of_the_vocabulary_stays(words: Path, tmp_path: Path) -> None:
    config = {**BASES["LlamaForCausalLM"], "vocab_size": 9999, "eos_token_id": 7}
    found = read_json(
        make(tmp_path / "base", "LlamaForCausalLM", config, tokenizer=words) / "config.json"
    )
    assert (found["vocab_size"], found["eos_token_id"], found["bos_token_id"]) == (9999, 7, 2)


def test_encoder_decoder_starts_ends_and_pads_as_its_decoder(words: Path, tmp_path: Path) -> None:
    config = {"encoder": VISION, "decoder": GPT2}
    folder = make(tmp_path / "base", "VisionEncoderDecoderModel", config, tokenizer=words)
    found = read_json(folder / "config.json")
    names = ("decoder_start_token_id", "eos_token_id", "pad_token_id")
    assert tuple(found[name] for name in names) == (2, 3, 0)
    assert found["decoder"]["vocab_size"] == len(make_tokenizer("a prompt"))


def test_vocabulary_smaller_than_the_tokenizer_is_refused(words: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"vocab_size: found 40, expected at least the \d+ tokens"):
        make(tmp_path / "base", "LlamaForCausalLM", tokenizer=words)


ROBERTA = {key: value for key, value in TEXT.items() if key != "vocab_size"}
LINES = ["low lower lowest", "new newer newest"]


def train_words(folder: Path, lines: list[str], vocabulary: int, **columns: Any) -> Path:
    """Make a small RoBERTa whose tokenizer is trained on these lines."""
    folder.mkdir()
    write_table(pl.DataFrame({"text": lines, "id": ["hidden"] * len(lines)}), folder / "t.parquet")
    trained = TrainedTokenizer(vocabulary=vocabulary, **columns).model_dump()
    return make(
        folder / "base", "RobertaForSequenceClassification", ROBERTA, tokenizer=trained,
        texts=folder / "t.parquet",
    )  # fmt: skip


def test_a_tokenizer_is_trained_on_the_texts_and_goes_with_the_base(tmp_path: Path) -> None:
    base = train_words(tmp_path / "1", LINES, 270)
    tokenizer = AutoTokenizer.from_pretrained(base, local_files_only=True)
    assert len(tokenizer) == read_json(base / "config.json")["vocab_size"] == 270
    assert "Ġlow" in tokenizer.get_vocab()
    assert "hi" not in tokenizer.get_vocab()
    assert tokenizer.decode(tokenizer("ünlike any", "other").input_ids) == (
        "<s> ünlike any</s></s> other</s>"
    )
    found = read_json(base / "config.json")
    assert (found["bos_token_id"], found["pad_token_id"], found["eos_token_id"]) == (0, 1, 3)
    again = train_words(tmp_path / "2", LINES, 270)
    for path in base.iterdir():
        assert path.read_bytes() == (again / path.name).read_bytes(), path.name


def test_without_room_for_merges_all_texts_give_one_base(tmp_path: Path) -> None:
    one, other = train_words(tmp_path / "1", LINES, 261), train_words(tmp_path / "2", ["x"], 261)
    for path in one.iterdir():
        assert path.read_bytes() == (other / path.name).read_bytes(), path.name
    more = train_words(tmp_path / "3", ["x y x y"], 270) / "tokenizer.json"
    assert more.read_bytes() != (one / "tokenizer.json").read_bytes()
    bytes_alone, merged = (
        RandomBase(architecture="GPT2LMHeadModel", tokenizer={"vocabulary": size})
        for size in (261, 262)
    )
    assert not bytes_alone.of_texts
    assert merged.of_texts


def test_a_tokenizer_has_the_marks_it_is_told_and_learns_from_what_messages_say(
    tmp_path: Path,
) -> None:
    talk = [{"role": "zebra", "content": line} for line in LINES]
    write_table(pl.DataFrame({"messages": [talk, talk]}), tmp_path / "t.parquet")
    trained = TrainedTokenizer(vocabulary=280, columns=("messages",), marks=("<|eot_id|>",))
    base = make(
        tmp_path / "base", "LlamaForCausalLM", BASES["LlamaForCausalLM"] | {"vocab_size": 280},
        tokenizer=trained.model_dump(), texts=tmp_path / "t.parquet",
    )  # fmt: skip
    tokenizer = AutoTokenizer.from_pretrained(base, local_files_only=True)
    ids = tokenizer("low<|eot_id|>", add_special_tokens=False).input_ids
    assert tokenizer.convert_ids_to_tokens(ids) == ["Ġlow", "<|eot_id|>"]
    assert tokenizer.decode(ids, skip_special_tokens=True).strip() == "low"
    assert not {"ze", "Ġz", "br", "ra"} & tokenizer.get_vocab().keys()


def test_a_base_without_marks_keeps_its_name() -> None:
    plain = TrainedTokenizer(vocabulary=270).model_dump(mode="json")
    assert plain == {"vocabulary": 270, "columns": ["text", "text_pair"]}
    assert TrainedTokenizer(marks=("<|a|>",)).model_dump(mode="json")["marks"] == ["<|a|>"]
    bytes_alone = TrainedTokenizer(vocabulary=262, marks=("<|a|>",))
    assert not RandomBase(architecture="GPT2LMHeadModel", tokenizer=bytes_alone).of_texts


def test_columns_without_texts_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"t.parquet has none of report, found text, id"):
        train_words(tmp_path / "1", LINES, 270, columns=("report",))


def test_folder_without_tokenizer_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no tokenizer; expected tokenizer.json or"):
        make(tmp_path / "bases" / "b", "LlamaForCausalLM", tokenizer=tmp_path)
    assert not (tmp_path / "bases").exists()


def test_setting_that_transformers_refuses_is_one_line(tmp_path: Path) -> None:
    config = {**BASES["ViTForImageClassification"], "hidden_act": "gelo"}
    with pytest.raises(InputError, match=r"base.config: transformers makes no ViT.*gelo") as said:
        make(tmp_path / "base", "ViTForImageClassification", config)
    assert "\n" not in str(said.value)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            {"architecture": "VitForImageClassification"},
            r"found 'VitFor.*allowed: Bert.*did you mean 'ViTForImageClassification'\?",
        ),
        (
            {"architecture": "GPT2LMHeadModel", "config": {"n_layers": 2}},
            r"found key 'n_layers', allowed for GPT2LMHeadModel: .*; did you mean 'n_layer'\?",
        ),
        (
            {"architecture": "CLIPModel", "config": {"vision_config": {"image_sise": 2}}},
            r"'vision_config.image_sise', allowed .*did you mean 'vision_config.image_size'\?",
        ),
        (
            {"architecture": "CLIPModel", "config": {"visionconfig": {"image_size": 32}}},
            r"found key 'visionconfig', .*; did you mean 'vision_config'\?",
        ),
        (
            {"architecture": "CLIPModel", "config": {"vision_config": 3}},
            r"vision_config: found a value, expected keys and values",
        ),
        (
            {"architecture": "LlamaForCausalLM", "config": {"attention_bias": True}},
            r"attention_bias: found True, expected False in LlamaForCausalLM",
        ),
        (
            {"architecture": "ViTForImageClassification", "config": {"num_hidden_layers": "two"}},
            r"num_hidden_layers: found 'two', expected a whole number",
        ),
        (
            {"architecture": "ViTForImageClassification", "config": {"num_hidden_layers": 0}},
            r"config.num_hidden_layers: found 0, expected whole numbers above 0",
        ),
        (
            {"architecture": "GPT2LMHeadModel", "config": {"num_hidden_layers": True}},
            r"num_hidden_layers: found True, expected a whole number",
        ),
        (
            {"architecture": "GPT2LMHeadModel", "config": {"resid_pdrop": "1e-1"}},
            r"resid_pdrop: found '1e-1', expected a number",
        ),
        (
            {"architecture": "ViTForImageClassification", "config": {"image_size": [32, 16]}},
            r"image_size: found \[32, 16\], expected a whole number",
        ),
        (
            {"architecture": "ViTForImageClassification", "config": {"hidden_size": 190}},
            r"hidden_size: found 190, expected a multiple of num_attention_heads, 12",
        ),
        (
            {"architecture": "GPT2LMHeadModel", "config": {"num_attention_heads": 5}},
            r"n_embd: found 768, expected a multiple of n_head, 5",
        ),
        (
            {
                "architecture": "GitForCausalLM",
                "config": {"vision_config": {"image_size": 48, "patch_size": 32}},
            },
            r"vision_config.image_size: found 48, expected a multiple of patch_size, 32",
        ),
        (
            {"architecture": "ResNetForImageClassification", "config": {"depths": [1, 1]}},
            r"depths: found \[1, 1\], expected as many as hidden_sizes \[256, ",
        ),
        (
            {"architecture": "ResNetForImageClassification", "config": {"depths": 3}},
            r"depths: found 3, expected a list",
        ),
        (
            {"architecture": "ViTForImageClassification", "image_size": 32},
            r"found 32, but config says 224; set image_size there",
        ),
        ({"architecture": "GPT2LMHeadModel", "image_size": 32}, r"GPT2LMHeadModel takes no images"),
        (
            {"architecture": "ViTForImageClassification", "image_std": [0.5, 0, 0.5]},
            r"greater than 0",
        ),
    ],
)
def test_wrong_settings_are_refused_when_the_study_is_read(
    settings: dict[str, Any], said: str
) -> None:
    with pytest.raises(ValidationError) as refused:
        RandomBase(**settings)
    (problem,) = refused.value.errors()
    assert re.search(said, problem["msg"]), problem["msg"]
    assert "\n" not in problem["msg"]


def test_other_names_and_dotted_keys_are_taken() -> None:
    gpt2 = RandomBase(architecture="GPT2LMHeadModel", config={"num_hidden_layers": 2})
    assert gpt2.config == {"num_hidden_layers": 2}
    git = RandomBase(architecture="GitForCausalLM", config={"vision_config.image_size": 32})
    assert git.config == {"vision_config": {"image_size": 32}}


def test_name_says_all_that_makes_the_base(words: Path) -> None:
    settings = RandomBase(architecture="GPT2LMHeadModel").model_dump(mode="json")
    name = random_base_name(settings)
    assert re.fullmatch(r"random-[0-9a-f]{8}", name)
    assert name == random_base_name(settings)
    with_words = {**settings, "tokenizer": str(words)}
    names = {
        name,
        random_base_name({**settings, "seed": 1}),
        random_base_name({**settings, "config": {"n_layer": 2}}),
        random_base_name(with_words),
    }
    (words / "tokenizer.json").write_text("{}")
    names.add(random_base_name(with_words))
    assert len(names) == 5
