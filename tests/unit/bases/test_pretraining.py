from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoImageProcessor, AutoTokenizer, GitForCausalLM

from peft_ablation.artifacts import read_json
from peft_ablation.bases.fetch import check_base
from peft_ablation.bases.git import Normalize, encode_image, image_stream, supervised_losses
from peft_ablation.bases.phantom import make_tokenizer, pretrain_phantom_base
from peft_ablation.bases.schematic import draw_labels, write_reports
from peft_ablation.sources.mimic.labels import LABELS, PATHOLOGIES
from peft_ablation.sources.mimic.reports import TEMPLATES, load_template
from peft_ablation.sources.phantom.anatomy import NOT_MENTIONED

PROMPT = "list pathological findings for this chest x-ray:"
TINY = {
    "prompt": PROMPT,
    "threads": 1,
    "images": 96,
    "epochs": 4,
    "batch_size": 32,
    "learning_rate": 1e-2,
    "image_size": 32,
    "patch_size": 16,
    "hidden_size": 16,
    "vision_layers": 1,
    "text_layers": 1,
    "attention_heads": 2,
    "seed": 3,
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bases") / "phantom"
    pretrain_phantom_base(folder, **TINY)
    return folder


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return make_tokenizer(PROMPT)


def test_base_loads_with_from_pretrained_and_says_its_sizes(base: Path) -> None:
    check_base(base, model_types=("git",), tokenizer=True)
    model = GitForCausalLM.from_pretrained(base, local_files_only=True, use_safetensors=True)
    tokenizer = AutoTokenizer.from_pretrained(base, local_files_only=True)
    config = model.config
    assert (config.vocab_size, config.pad_token_id) == (len(tokenizer), 0)
    assert (config.bos_token_id, config.eos_token_id) == (
        tokenizer.cls_token_id,
        tokenizer.sep_token_id,
    )
    assert (config.vision_config.image_size, config.hidden_size) == (32, 16)


def test_loaded_tokenizer_is_the_one_that_was_made(base: Path, tokenizer: Any) -> None:
    loaded = AutoTokenizer.from_pretrained(base, local_files_only=True)
    text = "Evidence of pneumothorax is present. No evidence of zebra-7."
    assert loaded(text)["input_ids"] == tokenizer(text)["input_ids"]
    assert loaded.get_vocab() == tokenizer.get_vocab()


def test_generation_starts_from_the_prompt_and_ends(base: Path) -> None:
    model = GitForCausalLM.from_pretrained(base)
    tokenizer = AutoTokenizer.from_pretrained(base)
    start = torch.tensor([[tokenizer.cls_token_id, *tokenizer.encode(PROMPT)[1:-1]]])
    written = model.generate(
        input_ids=start, pixel_values=torch.zeros(1, 3, 32, 32), max_new_tokens=5
    )
    assert written[0, : start.shape[1]].tolist() == start[0].tolist()


def test_image_preprocessing_is_that_of_transformers(base: Path) -> None:
    grey = np.random.default_rng(0).integers(0, 256, (32, 32), dtype=np.uint8)
    processor = AutoImageProcessor.from_pretrained(base, local_files_only=True, use_fast=False)
    theirs = processor(Image.fromarray(grey), return_tensors="pt")["pixel_values"]
    ours = Normalize.of(base)(torch.from_numpy(grey)[None])
    assert torch.allclose(ours, theirs, atol=1e-5)


def test_pretraining_lowers_the_loss(base: Path) -> None:
    losses = read_json(base / "base.json")["loss_by_epoch"]
    assert len(losses) == TINY["epochs"]
    assert losses[-1] < 0.85 * losses[0]


def test_same_arguments_give_the_same_bytes(base: Path, tmp_path: Path) -> None:
    pretrain_phantom_base(tmp_path / "again", **TINY)
    for file in sorted(base.iterdir()):
        assert (tmp_path / "again" / file.name).read_bytes() == file.read_bytes(), file.name


def test_failure_leaves_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("peft_ablation.bases.phantom._write_base", fail)
    with pytest.raises(OSError, match="disk full"):
        pretrain_phantom_base(tmp_path / "base", **{**TINY, "epochs": 1, "images": 32})
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("name", TEMPLATES)
def test_every_sentence_survives_the_tokenizer_word_by_word(name: str, tokenizer: Any) -> None:
    template = load_template(name)
    for label in LABELS:
        for value in (1, 0, -1):
            report = template.render({label: value})
            if report is None:
                continue
            tokens = tokenizer.tokenize(report)
            assert "[UNK]" not in tokens
            assert not [token for token in tokens if token.startswith("##")]
            back = tokenizer.decode(tokenizer.encode(report), skip_special_tokens=True)
            assert template.parse(back) == template.parse(report)


def test_prompt_is_words_and_unknown_words_are_spelt(tokenizer: Any) -> None:
    assert "##" not in " ".join(tokenizer.tokenize(PROMPT))
    assert tokenizer.tokenize("Zebra") == ["z", "##e", "##b", "##r", "##a"]


def test_schematic_chests_have_one_or_two_mentions_of_every_kind() -> None:
    labels = draw_labels(4000, np.random.default_rng(0))
    mentioned = labels != NOT_MENTIONED
    assert set(mentioned.sum(axis=1).tolist()) == {1, 2}
    for row, _ in enumerate(PATHOLOGIES):
        assert {1, 0, -1} <= set(labels[:, row].tolist())
    normal = labels[:, LABELS.index("No_Finding")] == 1
    assert (mentioned[normal].sum(axis=1) == 1).all()
    assert 0.05 < normal.mean() < 0.2


def test_reports_say_the_labels() -> None:
    labels = draw_labels(50, np.random.default_rng(1))
    template = load_template("corrected")
    reports = write_reports(labels, np.random.default_rng(2))
    for row, report in zip(labels.tolist(), reports, strict=True):
        said = template.parse(report).labels
        meant = {label: v for label, v in zip(LABELS, row, strict=True) if v != NOT_MENTIONED}
        assert {k: v for k, v in said.items() if k != "No_Finding"} == {
            k: v for k, v in meant.items() if k != "No_Finding"
        }


def test_loss_of_the_written_base_equals_transformers(base: Path) -> None:
    model = GitForCausalLM.from_pretrained(base).eval()
    pixels = Normalize.of(base)(torch.randint(0, 256, (2, 32, 32), dtype=torch.uint8))
    ids = torch.randint(5, 60, (2, 9))
    losses, _ = supervised_losses(model, image_stream(model, encode_image(model, pixels)), ids, ids)
    theirs = model(input_ids=ids, pixel_values=pixels, labels=ids, use_cache=False).loss
    assert losses.mean().item() == pytest.approx(theirs.item(), abs=1e-5)
