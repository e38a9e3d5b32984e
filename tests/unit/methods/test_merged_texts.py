"""Merged into the base or beside it, an adapter writes the same texts."""

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from tiny_study import TinyStudy, arm_of, task_of
from torch import nn
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    RobertaConfig,
    RobertaForSequenceClassification,
)

from peft_ablation.methods import open_method
from peft_ablation.tasks import open_task

ADAPTERS: dict[str, dict[str, Any]] = {
    "lora": {"method": "lora", "r": 4},
    "dora": {"method": "lora", "r": 4, "dora": True},
    "pissa": {"method": "lora", "r": 4, "init": "pissa"},
    "ia3": {"method": "ia3"},
}


def saved(base: Path, load: Any, arm: dict[str, Any], folder: Path) -> Path:
    """An adapter that has moved far from where it starts, as `save` writes it."""
    method = open_method(arm)
    model = method.apply(load(base), seed=3, heads=(), steps=1, batches=lambda: iter(()))
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    folder.mkdir()
    method.save(model, folder)
    return folder


def both(base: Path, load: Any, arm: dict[str, Any], folder: Path) -> tuple[nn.Module, nn.Module]:
    """The model merged by `load`, and with the adapter beside the base, by PEFT alone."""
    merged = open_method(arm).load(load, base, saved(base, load, arm, folder))
    assert not any("lora" in name for name, _ in merged.named_parameters())
    beside: nn.Module = PeftModel.from_pretrained(load(base), folder)
    return merged.eval(), beside.eval()


@pytest.mark.parametrize("name", ADAPTERS)
def test_git_writes_the_same_reports(name: str, tiny_study: TinyStudy, tmp_path: Path) -> None:
    task = open_task(task_of(max_new_tokens=24), tiny_study.split("train"))
    arm = arm_of({**ADAPTERS[name], "targets": "vision_and_text", "learning_rate": 1e-3})
    examples = task.examples(
        tiny_study.split("test"), {"images": tiny_study.index}, tiny_study.base
    )
    rows = torch.arange(len(examples)).numpy()
    merged, beside = both(tiny_study.base, task.load_model, arm, tmp_path / "adapter")
    texts, losses, plain = [], [], task.load_model(tiny_study.base)
    for model in (merged, beside, plain):
        with torch.no_grad():
            found = task.predictor(model, tiny_study.base, torch.device("cpu"))(examples, rows)
        texts.append(list(found["hypothesis"]))
        losses.append(torch.tensor(found["nll"]))
    assert texts[0] == texts[1]
    assert torch.allclose(losses[0], losses[1], rtol=1e-4)
    assert texts[0] != texts[2]


def test_gpt2_generates_the_same_tokens(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=96, n_positions=64, n_embd=32, n_layer=2, n_head=2, initializer_range=0.3,
        bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    GPT2LMHeadModel(config).save_pretrained(tmp_path / "base")
    arm = arm_of({**ADAPTERS["lora"], "targets": "attention", "learning_rate": 1e-3})
    models = both(tmp_path / "base", GPT2LMHeadModel.from_pretrained, arm, tmp_path / "adapter")
    plain = GPT2LMHeadModel.from_pretrained(tmp_path / "base").eval()
    prompts = torch.randint(1, 96, (6, 5), generator=torch.Generator().manual_seed(1))
    merged, beside, untouched = (
        model.generate(
            input_ids=prompts, attention_mask=torch.ones_like(prompts), max_new_tokens=30,
            do_sample=False, pad_token_id=0, eos_token_id=0,
        ).tolist()
        for model in (*models, plain)
    )  # fmt: skip
    assert merged == beside
    assert merged != untouched


def test_roberta_tells_the_same_classes(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = RobertaConfig(
        vocab_size=96, hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=48, max_position_embeddings=40, num_labels=3, initializer_range=0.3,
    )  # fmt: skip
    RobertaForSequenceClassification(config).save_pretrained(tmp_path / "base")
    load = RobertaForSequenceClassification.from_pretrained
    arm = arm_of({**ADAPTERS["lora"], "targets": "attention", "learning_rate": 1e-3})
    models = both(tmp_path / "base", load, arm, tmp_path / "adapter")
    ids = torch.randint(3, 96, (40, 12), generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        merged, beside, plain = (
            model(input_ids=ids).logits for model in (*models, load(tmp_path / "base").eval())
        )
    assert torch.allclose(merged, beside, atol=1e-4)
    assert torch.equal(merged.argmax(-1), beside.argmax(-1))
    assert not torch.allclose(merged, plain, atol=1e-1)
