"""A training step of image classification against transformers' Trainer, in one run.

Both sides train the same model on the same batches of the same pictures, in the same precision,
with the same fused AdamW and one thread; sides alternate, and the ratio of each pair is shown.
`head_only` is also timed on cached features. Prints a table.

    python tests/benchmarks/classification_step.py --model resnet --batch 32 --steps 10
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from accelerate import Accelerator
from transformers import Trainer, TrainerCallback, TrainingArguments

from peft_ablation.bases.random import make_random_base
from peft_ablation.config.study import Train
from peft_ablation.data.images import INDEX_SCHEMA
from peft_ablation.methods import method_class, open_method
from peft_ablation.tasks import open_task, task_class
from peft_ablation.training.features import cache_frozen_features
from peft_ablation.training.inputs import RunInputs
from peft_ablation.training.run import Run

MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "vit": (
        "ViTForImageClassification",
        {"hidden_size": 192, "num_hidden_layers": 12, "num_attention_heads": 3,
         "intermediate_size": 768},
    ),
    "resnet": (
        "ResNetForImageClassification",
        {"embedding_size": 64, "hidden_sizes": [64, 128, 256, 512], "depths": [2, 2, 2, 2],
         "layer_type": "basic"},
    ),
}  # fmt: skip
"""ViT-tiny and ResNet-18."""
TARGETS = {"vit": "attention", "resnet": "convolutions"}
SIZE = 224


def study(folder: Path, model: str, images: int) -> dict[str, Path]:
    """Make a base, a split and an image cache of random pictures of ten classes."""
    name, config = MODELS[model]
    make_random_base(folder / "base", architecture=name, config=config, seed=0)
    rng = np.random.default_rng(0)
    (folder / "images").mkdir()
    pixels = rng.integers(0, 256, (images, SIZE, SIZE, 3), dtype=np.uint8)
    np.save(folder / "images" / "shard-0.npy", pixels)
    ids = [f"e{i:05d}" for i in range(images)]
    rows = [(name, 0, row, "ok", "") for row, name in enumerate(ids)]
    index = folder / "images" / "index.parquet"
    pl.DataFrame(rows, schema=INDEX_SCHEMA, orient="row").write_parquet(index)
    labels = [f"class {i % 10}" for i in range(images)]
    table = folder / "train.parquet"
    pl.DataFrame({"example_id": ids, "group": ids, "image": ids, "label": labels}).write_parquet(
        table
    )
    return {"base": folder / "base", "index": index, "table": table}


def ours(paths: dict[str, Path], arm: dict[str, Any], batch: int, features: Path | None) -> Run:
    settings = Train(batch_size=batch, precision="fp32", threads=1, schedule="constant", warmup=0)
    task = task_class("image_classification").Settings(name="image_classification")
    assets = {"images": paths["index"]} | ({"features": features} if features else {})
    given = RunInputs(
        task=task.model_dump(mode="json"), arm=arm, settings=settings.model_dump(mode="json"),
        seed=0, base=paths["base"], train=paths["table"], val=paths["table"], assets=assets,
    )  # fmt: skip
    run = Run(Accelerator(cpu=True), given, None)
    run.method.train_mode(run.module)
    return run


def our_steps(run: Run, steps: int) -> float:
    """Return seconds of `steps` optimizer steps, batches made outside the clock on both sides."""
    batches = run.batches(0)[:steps]
    made = [run.train.batch(indices) for indices in batches]
    begin = time.perf_counter()
    for step, (indices, batch) in enumerate(zip(batches, made, strict=True)):
        run.steps.take(step, indices, batch)
    return time.perf_counter() - begin


class Clock(TrainerCallback):
    def __init__(self) -> None:
        self.seconds, self._begin = 0.0, 0.0

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        self._begin = time.perf_counter()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.seconds += time.perf_counter() - self._begin


def trainer_steps(run: Run, paths: dict[str, Path], arm: dict[str, Any], steps: int) -> float:
    """Return seconds that Trainer takes for the same batches, already normalised floats."""
    task = open_task(
        {"name": "image_classification", "classes": None, "augment": {}}, paths["table"]
    )
    torch.manual_seed(0)
    model = open_method(arm).apply(
        task.load_model(paths["base"]), seed=0, heads=task.heads, steps=steps,
        batches=lambda: iter(()),
    )  # fmt: skip
    rows: list[dict[str, torch.Tensor]] = []
    for indices in run.batches(0)[:steps]:
        batch = run.train.batch(indices)
        pixels = batch["image"].permute(0, 3, 1, 2).float() / 127.5 - 1
        labels = next(v for k, v in batch.items() if k != "image")
        rows += [{"pixel_values": p, "labels": y} for p, y in zip(pixels, labels, strict=True)]
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        Trainer(
            model=model,
            args=TrainingArguments(
                folder, per_device_train_batch_size=run.settings["batch_size"], max_steps=steps,
                optim="adamw_torch_fused", lr_scheduler_type="constant", report_to=[],
                save_strategy="no", logging_strategy="no", disable_tqdm=True, use_cpu=True,
                learning_rate=arm["learning_rate"], max_grad_norm=1.0,
                train_sampling_strategy="sequential",
            ),
            train_dataset=rows, callbacks=[clock],
        ).train()  # fmt: skip
    return clock.seconds


def settled(settings: dict[str, Any]) -> dict[str, Any]:
    return (
        method_class(settings["method"]).Settings.model_validate(settings).model_dump(mode="json")
    )


def ratios(first: Callable[[], float], second: Callable[[], float], pairs: int) -> list[float]:
    first(), second()
    return [first() / second() for _ in range(pairs)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", choices=MODELS, action="append")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--pairs", type=int, default=5)
    given = parser.parse_args()
    torch.set_num_threads(1)
    print("| model | arm | Trainer / ours: median (min to max) |\n|---|---|---|")
    for model in given.model or MODELS:
        with tempfile.TemporaryDirectory() as folder:
            compare(model, Path(folder), given.batch, given.steps, given.pairs)


def compare(model: str, folder: Path, batch: int, steps: int, pairs: int) -> None:
    paths = study(folder, model, batch * steps)
    arms = {
        "full": {"method": "full", "learning_rate": 1e-3},
        "lora": {"method": "lora", "targets": TARGETS[model], "r": 8, "learning_rate": 1e-3},
        "head_only": {"method": "head_only", "learning_rate": 1e-3},
    }
    for name, settings in arms.items():
        arm = settled(settings)
        run = ours(paths, arm, batch, None)
        theirs = partial(trainer_steps, run, paths, arm, steps)
        show(model, name, ratios(theirs, partial(our_steps, run, steps), pairs))
    features = folder / "features.npy"
    task = task_class("image_classification").Settings(name="image_classification")
    cache_frozen_features(
        task=task.model_dump(mode="json"), base=paths["base"], train=paths["table"],
        images=paths["index"], batch_size=batch, precision="fp32", threads=1, output=features,
    )  # fmt: skip
    arm = settled(arms["head_only"])
    plain, cached = ours(paths, arm, batch, None), ours(paths, arm, batch, features)
    found = ratios(partial(our_steps, plain, steps), partial(our_steps, cached, steps), pairs)
    show(model, "head_only without cache / with", found)


def show(model: str, arm: str, found: list[float]) -> None:
    middle = statistics.median(found)
    print(f"| {model} | {arm} | {middle:.2f} ({min(found):.2f} to {max(found):.2f}) |", flush=True)


if __name__ == "__main__":
    main()
