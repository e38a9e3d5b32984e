"""What a run's losses are the mean of, and that each step draws noise of its own."""

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from tiny_study import TinyStudy, changed
from transformers import AutoTokenizer, GitForCausalLM

from peft_ablation.artifacts import read_json
from peft_ablation.data.images import ImageCache
from peft_ablation.training.chunk import train_chunk
from peft_ablation.training.noise import noise_seed


def history(job: dict[str, Any]) -> list[dict[str, Any]]:
    train_chunk(**job)
    rows: list[dict[str, Any]] = read_json(job["output"] / "state.json")["history"]
    return rows


def at_rest(job: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """The job with a learning rate of nought: whatever differs between steps is noise."""
    return changed(job, arm={"learning_rate": 0.0, "dropout": 0.0, **changes})


def token_losses(study: TinyStudy, table: Path, prompt: str) -> list[torch.Tensor]:
    """Each report's losses in nats by token, report and [SEP], from transformers' own forward."""
    model = GitForCausalLM.from_pretrained(study.base).eval()
    tokenizer = AutoTokenizer.from_pretrained(study.base)
    told = json.loads((study.base / "preprocessor_config.json").read_text())
    mean, std = (torch.tensor(told[key]).view(3, 1, 1) for key in ("image_mean", "image_std"))
    cache = ImageCache(study.index)
    start = [tokenizer.cls_token_id, *tokenizer.encode(prompt, add_special_tokens=False)]
    losses = []
    for name, report in pl.read_parquet(table).select("example_id", "report").iter_rows():
        text = tokenizer.encode(report, add_special_tokens=False)
        ids = torch.tensor([[*start, *text, tokenizer.sep_token_id]])
        grey = torch.from_numpy(cache.pixels(cache.position([name]))).float() / 255
        with torch.no_grad():
            logits = model(input_ids=ids, pixel_values=((grey - mean) / std)[None]).logits
        own = logits[0, -ids.shape[1] :].log_softmax(-1)[len(start) - 1 : -1]
        losses.append(-own.gather(1, ids[0, len(start) :, None])[:, 0])
    return losses


def test_losses_are_means_over_supervised_tokens(tiny_study: TinyStudy, tmp_path: Path) -> None:
    job = at_rest(tiny_study.job(tmp_path / "chunk-0", "fft", epochs=1, epochs_per_chunk=1))
    row = history(job)[0]
    for split in ("train", "val"):
        losses = token_losses(tiny_study, tiny_study.split(split), job["given"].task["prompt"])
        expected = torch.cat(losses)
        assert row[f"{split}_loss"] == pytest.approx(expected.mean().item(), rel=1e-4)
        # Not the mean over reports, of which some are longer.
        assert len({len(report) for report in losses}) > 1
    assert row["tokens"] == sum(map(len, token_losses(tiny_study, job["given"].train, "")))


def one_example(study: TinyStudy, folder: Path) -> Path:
    """A training split of one example, so that every step meets the same batch."""
    path = folder / "one.parquet"
    pl.read_parquet(study.split("train")).head(1).write_parquet(path)
    return path


@pytest.mark.parametrize(
    ("arm", "dropout", "shift", "seen_in"),
    [("lora_text", 0.5, 0, "grad_norm"), ("fft", 0.0, 8, "train_loss")],
    ids=["dropout", "shifted images"],
)
def test_every_step_draws_its_own_noise_and_every_seed_its_own(
    arm: str, dropout: float, shift: int, seen_in: str, tiny_study: TinyStudy, tmp_path: Path
) -> None:
    """An adapter's up-projection begins at nought: there dropout is seen in the gradient alone."""
    train = one_example(tiny_study, tmp_path)

    def noise(name: str, seed: int, **changes: Any) -> list[float]:
        job = tiny_study.job(tmp_path / name, arm, task={"shift_augmentation": shift})
        rows = history(changed(at_rest(job, **changes), train=train, seed=seed))
        assert [row["steps"] for row in rows] == [1, 1, 1, 1]
        return [row[seen_in] for row in rows]

    first = noise("first", 0, dropout=dropout)
    assert len(set(first)) == 4
    assert noise("again", 0, dropout=dropout) == first
    assert set(noise("other", 1, dropout=dropout)) != set(first)


def test_without_noise_every_step_is_the_same(tiny_study: TinyStudy, tmp_path: Path) -> None:
    """The control of the test above: at rest nothing but noise tells steps apart."""
    job = at_rest(tiny_study.job(tmp_path / "still", "fft"))
    rows = history(changed(job, train=one_example(tiny_study, tmp_path)))
    assert len({(row["train_loss"], row["grad_norm"]) for row in rows}) == 1


def test_seeds_steps_and_processes_differ_where_torch_looks() -> None:
    """The CPU's generator heeds 32 bits: the first number drawn tells whether it was reseeded."""
    drawn = set()
    for seed in range(4):
        for step in range(30):
            for process in range(2):
                torch.manual_seed(noise_seed(seed, step, process, 2))
                drawn.add(torch.rand(1, dtype=torch.float64).item())
    assert len(drawn) == 4 * 30 * 2
