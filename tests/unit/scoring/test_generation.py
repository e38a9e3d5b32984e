"""Predictions of a trained arm: those of transformers, from pixels or features, in any batches."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from tiny_study import TinyStudy

from peft_ablation.bases.git import Normalize
from peft_ablation.data.examples import shuffled_positions
from peft_ablation.data.images import ImageCache
from peft_ablation.scoring.predictions import load_trained, write_predictions
from peft_ablation.tasks import open_task
from peft_ablation.tasks.captioning.examples import load_tokenizer
from peft_ablation.training.chunk import train_chunk


@pytest.fixture(scope="module")
def trained(tiny_study: TinyStudy, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Model folder of a short run of lora_text."""
    output = tmp_path_factory.mktemp("run") / "chunk-0"
    train_chunk(**tiny_study.job(output, "lora_text"))
    return output / "best"


def predictions(
    study: TinyStudy, model: Path, output: Path, features: Path | None = None, **changed: Any
) -> pl.DataFrame:
    run = study.inputs("lora_text", {"max_new_tokens": 24}, features)
    arguments: dict[str, Any] = {
        "task": run.task, "arm": run.arm, "model": model, "base": run.base, "train": run.train,
        "test": study.split("test"), "assets": run.assets, "precision": "fp32", "threads": 1,
        "batch_size": 8, "shuffle_inputs": True, "controls": True, "probe": True, "seed": 0,
        "output": output,
    }  # fmt: skip
    write_predictions(**arguments | changed)
    return pl.read_parquet(output)


def close(first: pl.DataFrame, second: pl.DataFrame, tolerance: float) -> None:
    texts = ["example_id", "group", "reference", "hypothesis", "hypothesis_shuffled", "tokens"]
    assert first.select(texts).equals(second.select(texts))
    for column in ("nll", "nll_shuffled"):
        assert np.allclose(first[column], second[column], rtol=tolerance), column


def test_cached_features_give_the_predictions_of_pixels(
    tiny_study: TinyStudy, trained: Path, features: Path, tmp_path: Path
) -> None:
    of_pixels = predictions(tiny_study, trained, tmp_path / "pixels.parquet")
    of_features = predictions(tiny_study, trained, tmp_path / "features.parquet", features=features)
    close(of_pixels, of_features, 1e-3)


def test_batches_do_not_change_predictions(
    tiny_study: TinyStudy, trained: Path, tmp_path: Path
) -> None:
    eight = predictions(tiny_study, trained, tmp_path / "eight.parquet", probe=False)
    close(
        eight,
        predictions(tiny_study, trained, tmp_path / "one.parquet", batch_size=1, probe=False),
        1e-4,
    )


def test_loss_and_text_are_those_of_transformers(
    tiny_study: TinyStudy, trained: Path, tmp_path: Path
) -> None:
    found = predictions(tiny_study, trained, tmp_path / "found.parquet")
    run = tiny_study.inputs("lora_text")
    task = open_task(run.task, run.train)
    model = load_trained(task, run.arm, run.base, trained).eval()
    tokenizer, cache = load_tokenizer(tiny_study.base), ImageCache(tiny_study.index)
    normalize = Normalize.of(tiny_study.base)
    prompt = [tokenizer.cls_token_id]
    prompt += tokenizer.encode(run.task["prompt"], add_special_tokens=False)
    for row in found.head(6).iter_rows(named=True):
        text = tokenizer.encode(row["reference"], add_special_tokens=False)
        ids = torch.tensor([[*prompt, *text, tokenizer.sep_token_id]])
        labels = ids.clone()
        labels[:, : len(prompt)] = -100
        pixels = normalize(torch.from_numpy(cache.pixels(cache.position([row["example_id"]]))))
        with torch.no_grad():
            mean = model(input_ids=ids, pixel_values=pixels, labels=labels).loss.item()
        assert row["tokens"] == len(text) + 1
        assert row["nll"] == pytest.approx(mean * row["tokens"], rel=1e-4)
        start = torch.tensor([prompt])
        written = model.generate(
            pixel_values=pixels, input_ids=start, attention_mask=torch.ones_like(start),
            max_new_tokens=24, do_sample=False, eos_token_id=tokenizer.sep_token_id, pad_token_id=0,
        )[0, len(prompt) :]  # fmt: skip
        assert row["hypothesis"] == tokenizer.decode(written, skip_special_tokens=True).strip()


def test_odds_of_a_finding_are_those_of_transformers(
    tiny_study: TinyStudy, trained: Path, tmp_path: Path
) -> None:
    found = predictions(tiny_study, trained, tmp_path / "found.parquet")
    assert not any(name.startswith("log_odds_") for name in found.columns)
    run = tiny_study.inputs("lora_text")
    task = open_task(run.task, run.train)
    model = load_trained(task, run.arm, run.base, trained).eval()
    tokenizer, cache = load_tokenizer(tiny_study.base), ImageCache(tiny_study.index)
    normalize = Normalize.of(tiny_study.base)
    prompt = [tokenizer.cls_token_id]
    prompt += tokenizer.encode(run.task["prompt"], add_special_tokens=False)

    def likelihood(pixels: torch.Tensor, sentence: str) -> float:
        text = tokenizer.encode(sentence, add_special_tokens=False)
        ids = torch.tensor([[*prompt, *text]])
        with torch.no_grad():
            logits = model(input_ids=ids, pixel_values=pixels).logits[0, -len(text) - 1 : -1]
        return float(logits.log_softmax(-1)[torch.arange(len(text)), torch.tensor(text)].sum())

    for row in found.head(3).iter_rows(named=True):
        pixels = normalize(torch.from_numpy(cache.pixels(cache.position([row["example_id"]]))))
        for place in (3, 13):
            present = (
                "Evidence of edema is present.",
                "The chest X-ray appears normal with no acute findings.",
            )[place == 13]
            absent = ("No evidence of edema.", "Abnormal findings are present.")[place == 13]
            expected = likelihood(pixels, present) - likelihood(pixels, absent)
            assert row["log_odds"][place] == pytest.approx(expected, abs=1e-3)


def test_nothing_is_asked_where_the_study_does_not_want_it(
    tiny_study: TinyStudy, trained: Path, tmp_path: Path
) -> None:
    found = predictions(
        tiny_study, trained, tmp_path / "p.parquet", probe=False, controls=False,
        shuffle_inputs=False,
    )  # fmt: skip
    assert found.columns == ["example_id", "group", "reference", "tokens", "hypothesis", "nll"]


@pytest.mark.parametrize("count", [2, 3, 50])
def test_shuffled_images_are_nobodys_own(count: int) -> None:
    positions = np.arange(count) * 7
    shuffled = shuffled_positions(positions, seed=1)
    assert sorted(shuffled) == sorted(positions)
    assert (shuffled != positions).all()
