"""A training step of text classification against transformers' Trainer, in one run.

RoBERTa-base's shape with random weights, pairs of texts as long as MNLI's. All sides train the same
model in the same precision with fused AdamW; three take turns, pair by pair:

- ours: the engine's own batches, of similar length;
- Trainer, tuned: the same batches in the same order, ready as tensors;
- Trainer, default: batches in random order, each padded to its longest text.

An epoch's batches are too many to time on a CPU: each side takes as many of its own, evenly spaced
from its shortest to its longest, and the seconds are divided by the tokens of texts. Prints
a table.

    python tests/benchmarks/text_step.py --arm lora --batch 16 --steps 6 --pairs 4
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from accelerate import Accelerator
from peft import LoraConfig, get_peft_model
from transformers import (
    AutoModelForSequenceClassification,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from peft_ablation.bases.random import make_random_base
from peft_ablation.config.study import Train
from peft_ablation.data.examples import Indices
from peft_ablation.methods import method_class
from peft_ablation.tasks import task_class
from peft_ablation.tasks.text_classification.examples import TextExamples
from peft_ablation.training.inputs import RunInputs
from peft_ablation.training.run import Run

ROBERTA_BASE = {"max_position_embeddings": 514, "type_vocab_size": 1, "vocab_size": 50265}
ARMS: dict[str, dict[str, Any]] = {
    "fft": {"method": "full", "learning_rate": 2e-5},
    "lora": {
        "method": "lora", "targets": "query_value", "r": 8, "dropout": 0.0, "learning_rate": 4e-4,
    },
    "head_only": {"method": "head_only", "learning_rate": 1e-3},
}  # fmt: skip
CLASSES = ("contradiction", "entailment", "neutral")
ROWS = 4000


def study(folder: Path) -> dict[str, Path]:
    """Make a base and a split of pairs, whose words are drawn and as many as MNLI's."""
    random = np.random.default_rng(0)
    words = ["".join(random.choice(list("aeioulmnrst"), 5)) for _ in range(500)]

    def texts(mean: float, spread: float) -> list[str]:
        # Of 1,500 MNLI pairs premises have 20 words (standard deviation 14), hypotheses 10 (4).
        lengths = random.gamma((mean / spread) ** 2, spread**2 / mean, ROWS).astype(int) + 1
        return [" ".join(random.choice(words, length)) for length in lengths]

    ids = [f"r{n}" for n in range(ROWS)]
    table = pl.DataFrame(
        {
            "example_id": ids, "group": ids, "text": texts(20, 14), "text_pair": texts(10, 4),
            "label": [CLASSES[n % 3] for n in range(ROWS)],
        }
    )  # fmt: skip
    table.write_parquet(folder / "train.parquet")
    make_random_base(
        folder / "base", architecture="RobertaForSequenceClassification", config=ROBERTA_BASE,
        seed=0, tokenizer={"vocabulary": 3000, "columns": ["text", "text_pair"]},
        texts=folder / "train.parquet",
    )  # fmt: skip
    return {"base": folder / "base", "table": folder / "train.parquet"}


def ours(paths: dict[str, Path], arm: dict[str, Any], batch: int) -> Run:
    settings = Train(batch_size=batch, precision="fp32", threads=1, schedule="constant", warmup=0)
    task = task_class("text_classification").Settings(name="text_classification")
    given = RunInputs(
        task=task.model_dump(mode="json"), arm=arm, settings=settings.model_dump(mode="json"),
        seed=0, base=paths["base"], train=paths["table"], val=paths["table"], assets={},
    )  # fmt: skip
    run = Run(Accelerator(cpu=True), given, None)
    run.method.train_mode(run.module)
    return run


def chosen(batches: Sequence[Indices], lengths: Indices, steps: int) -> list[Indices]:
    """Return so many batches, evenly spaced from the narrowest to the widest."""
    full = [batch for batch in batches if len(batch) == len(batches[0])]
    order = sorted(full, key=lambda batch: (lengths[batch].max(), batch[0]))
    places = (np.arange(steps) + 0.5) * len(order) / steps
    return [order[int(place)] for place in places]


def padded(batches: Sequence[Indices], lengths: Indices) -> float:
    """Return tokens computed for each real one."""
    return sum(lengths[b].max() * len(b) for b in batches) / sum(lengths[b].sum() for b in batches)


def our_seconds(run: Run, batches: Sequence[Indices]) -> float:
    begin = time.perf_counter()
    for step, indices in enumerate(batches):
        run.steps.take(step, indices, run.train.batch(indices))
    return time.perf_counter() - begin


class Clock(TrainerCallback):
    """Seconds in steps: forward, backward, clipping and optimizer."""

    def __init__(self) -> None:
        self.seconds, self._begin = 0.0, 0.0

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        self._begin = time.perf_counter()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.seconds += time.perf_counter() - self._begin


def their_model(base: Path, arm: dict[str, Any]) -> Any:
    """Return transformers' own model, with PEFT's own LoRA or a frozen body."""
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_pretrained(
        base, num_labels=3, ignore_mismatched_sizes=True
    )
    if arm["method"] == "lora":
        config = LoraConfig(
            task_type="SEQ_CLS", r=arm["r"], lora_alpha=16, target_modules=["query", "value"]
        )
        return get_peft_model(model, config)
    if arm["method"] == "head_only":
        model.roberta.requires_grad_(False)
    return model


def their_seconds(model: Any, rate: float, examples: TextExamples, batches: list[Indices]) -> float:
    def collated(rows: list[int]) -> dict[str, torch.Tensor]:
        batch = examples.batch(np.array(rows))
        return {**batch, "labels": batch.pop("label")}

    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            model=model,
            args=TrainingArguments(
                folder, per_device_train_batch_size=len(batches[0]), max_steps=len(batches),
                optim="adamw_torch_fused", lr_scheduler_type="constant", report_to=[],
                save_strategy="no", logging_strategy="no", disable_tqdm=True, use_cpu=True,
                learning_rate=rate, max_grad_norm=1.0, train_sampling_strategy="sequential",
                remove_unused_columns=False,
            ),
            train_dataset=[int(place) for batch in batches for place in batch],
            data_collator=collated, callbacks=[clock],
        )  # fmt: skip
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    return clock.seconds


def compare(paths: dict[str, Path], arm: str, batch: int, steps: int, pairs: int) -> None:
    method = method_class(ARMS[arm]["method"])
    settings = method.Settings.model_validate(ARMS[arm]).model_dump(mode="json")
    run = ours(paths, settings, batch)
    examples: Any = run.train
    grouped = chosen(run.batches(0), examples.lengths, steps)
    order = np.random.default_rng(1).permutation(len(examples))
    random = [order[n : n + batch] for n in range(0, len(order), batch)]
    shuffled = chosen(random, examples.lengths, steps)
    model = their_model(paths["base"], settings)
    sides: dict[str, Callable[[], float]] = {
        "ours": partial(our_seconds, run, grouped),
        "tuned": partial(their_seconds, model, settings["learning_rate"], examples, grouped),
        "default": partial(their_seconds, model, settings["learning_rate"], examples, shuffled),
    }
    tokens = {
        "ours": sum(int(examples.lengths[b].sum()) for b in grouped),
        "default": sum(int(examples.lengths[b].sum()) for b in shuffled),
    }
    tokens["tuned"] = tokens["ours"]
    for side in sides.values():
        side()
    rounds = [{name: side() / tokens[name] for name, side in sides.items()} for _ in range(pairs)]
    tuned, default = ([one[name] / one["ours"] for one in rounds] for name in ("tuned", "default"))
    rate = statistics.median(1 / one["ours"] for one in rounds)
    computed = [padded(batches, examples.lengths) for batches in (run.batches(0), random)]
    print(
        f"| {arm} | {told(tuned)} | {told(default)} | {rate:,.0f} | "
        f"{computed[0]:.2f} / {computed[1]:.2f} |",
        flush=True,
    )


def told(found: list[float]) -> str:
    return (
        f"**{statistics.median(found):.2f}** ({min(found):.2f} to {max(found):.2f}; {len(found)})"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--arm", choices=ARMS, action="append")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--pairs", type=int, default=4)
    given = parser.parse_args()
    torch.set_num_threads(1)
    print(
        "| arm | Trainer, same grouped batches / ours: median (min to max; pairs) | Trainer, "
        "random batches / ours | ours: tokens/s | tokens computed for each real one, grouped / "
        "random |\n|---|---|---|---|---|"
    )
    with tempfile.TemporaryDirectory() as folder:
        paths = study(Path(folder))
        for arm in given.arm or ARMS:
            compare(paths, arm, given.batch, given.steps, given.pairs)


if __name__ == "__main__":
    main()
