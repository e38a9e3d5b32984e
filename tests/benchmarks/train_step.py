"""Training steps of the real size: ours against transformers' Trainer (and PEFT), taking turns.

    python tests/benchmarks/train_step.py [--arms fft lora_vision lora_text] [--batch N]
        [--steps N] [--threads N] [--bf16] [--write]

Ours is `Steps.take` on prefetched batches; lora_text reads cached vision features. The Trainer's
side is its own `training_step`, gradient clipping and optimizer (adamw_torch_fused), same
precision, on its DataLoader: preprocessed float pixels in memory, padding to the longest text of
the batch, -100 on prompt and padding, no key/value cache. Only its outer loop (logging, saving) is
left out, so that steps can alternate. It gets the same length-grouped batches as ours
("grouped", what `train_sampling_strategy="group_by_length"` is for), and random batches of the same
examples ("random", its default). `--write` puts the result on docs/benchmarks.md.
"""

import argparse
import json
import math
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from accelerate import Accelerator
from real_size import (
    ARMS,
    SETTINGS,
    InMemory,
    git_base,
    machine,
    make_examples,
    matrix_rate,
    synchronise,
    write_section,
)
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torch.utils.flop_counter import FlopCounterMode, register_flop_formula
from transformers import Trainer, TrainingArguments

from peft_ablation.bases.git import IGNORED
from peft_ablation.bases.pixels import CLIP_MEAN, CLIP_STD, Normalize
from peft_ablation.config.study import Train
from peft_ablation.methods import open_method
from peft_ablation.tasks.captioning.examples import CaptionExamples
from peft_ablation.training.batches import Indices, epoch_batches
from peft_ablation.training.inputs import RunInputs
from peft_ablation.training.prefetch import prefetched
from peft_ablation.training.run import Run

clock = time.perf_counter


class Preprocessed(Dataset[dict[str, torch.Tensor]]):
    """The examples as a Trainer user has them: float pixels of three channels in memory."""

    def __init__(self, examples: CaptionExamples, pixels: torch.Tensor) -> None:
        self.examples, self.pixels = examples, pixels

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        ids = torch.tensor(self.examples.tokens[index])
        labels = ids.clone()
        labels[: len(self.examples.prompt)] = IGNORED
        return {"input_ids": ids, "labels": labels, "pixel_values": self.pixels[index]}


def collate(rows: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Pad to the longest text of the batch."""
    pad = nn.utils.rnn.pad_sequence
    ids = pad([row["input_ids"] for row in rows], batch_first=True)
    real = [torch.ones(len(row["input_ids"]), dtype=torch.long) for row in rows]
    return {
        "input_ids": ids,
        "attention_mask": pad(real, batch_first=True),
        "labels": pad([row["labels"] for row in rows], batch_first=True, padding_value=IGNORED),
        "pixel_values": torch.stack([row["pixel_values"] for row in rows]),
    }


class Theirs:
    """A Trainer whose steps are taken one at a time."""

    def __init__(self, arm: str, examples: CaptionExamples, bf16: bool, folder: str) -> None:
        normalize = Normalize(CLIP_MEAN, CLIP_STD)
        self.pixels = normalize(make_examples(len(examples)).images[np.arange(len(examples))])
        model = open_method(ARMS[arm]).apply(
            git_base(), seed=0, heads=(), steps=1, batches=lambda: iter(())
        )
        cuda = torch.cuda.is_available()
        arguments = TrainingArguments(
            output_dir=folder, optim="adamw_torch_fused", learning_rate=ARMS[arm]["learning_rate"],
            weight_decay=0.01, bf16=bf16, use_cpu=not cuda, report_to=[], save_strategy="no",
            remove_unused_columns=False, label_names=["labels"],
            dataloader_num_workers=4 if cuda else 0,
        )  # fmt: skip
        self.data = Preprocessed(examples, self.pixels)
        self.trainer = Trainer(
            model=model, args=arguments, train_dataset=self.data, data_collator=collate
        )
        trainer = self.trainer
        trainer.create_optimizer()
        self.model, trainer.optimizer = trainer.accelerator.prepare(
            trainer.model, trainer.optimizer
        )
        trainer.model_wrapped = self.model
        self.model.train()

    def loader(self, batches: list[Indices]) -> Iterator[dict[str, torch.Tensor]]:
        arguments = self.trainer.args
        return iter(
            DataLoader(
                self.data, batch_sampler=[b.tolist() for b in batches], collate_fn=collate,
                num_workers=arguments.dataloader_num_workers, pin_memory=torch.cuda.is_available(),
            )
        )  # fmt: skip

    def step(self, source: Iterator[dict[str, torch.Tensor]]) -> None:
        inputs = next(source)
        trainer = self.trainer
        supervised = (inputs["labels"] != IGNORED).sum().to(trainer.args.device)
        trainer.training_step(self.model, inputs, num_items_in_batch=supervised)
        trainer.accelerator.clip_grad_norm_(self.model.parameters(), trainer.args.max_grad_norm)
        trainer.optimizer.step()
        self.model.zero_grad()


class Ours:
    """A `Run` whose steps are taken one at a time."""

    def __init__(
        self, arm: str, examples: CaptionExamples, batch: int, bf16: bool, threads: int
    ) -> None:
        settings = Train(
            batch_size=batch, precision="bf16" if bf16 else "fp32", threads=threads, warmup=0.0
        )
        accelerator = Accelerator(mixed_precision="bf16" if bf16 else "no")
        given = RunInputs(
            SETTINGS, ARMS[arm], settings.model_dump(mode="json"), 0,
            base="", train="", val="", assets={},
        )  # fmt: skip
        with mock.patch("peft_ablation.training.run.open_task", lambda *_: InMemory(examples)):
            self.run = Run(accelerator, given, None)
        self.run.method.train_mode(self.run.module)
        self.done = 0

    def loader(self, batches: list[Indices]) -> Iterator[tuple[Indices, dict[str, torch.Tensor]]]:
        run = self.run
        made = prefetched(
            batches, lambda indices: run.processes.on_device(run.train.batch(indices))
        )
        return zip(batches, made, strict=True)

    def step(self, source: Iterator[tuple[Indices, dict[str, torch.Tensor]]]) -> None:
        indices, batch = next(source)
        self.run.steps.take(min(self.done, self.run.steps_per_epoch - 1), indices, batch)
        self.done += 1


def timed(work: Callable[[], Any], device: torch.device) -> float:
    synchronise(device)
    start = clock()
    work()
    synchronise(device)
    return clock() - start


@register_flop_formula(torch.ops.mkldnn._linear_pointwise)
def linear_flops(rows: tuple[int, ...], weight: tuple[int, ...], *_: Any, **__: Any) -> int:
    """Operations of oneDNN's product, which torch's counter does not know."""
    return 2 * math.prod(rows) * weight[0]


def flops_of(work: Callable[[], Any]) -> int:
    with FlopCounterMode(display=False) as counter:
        work()
    return int(counter.get_total_flops())


def prepared(arm: str, options: argparse.Namespace) -> tuple[CaptionExamples, list[Indices]]:
    examples = make_examples(options.batch * options.steps, features=arm == "lora_text")
    return examples, epoch_batches(examples.lengths, options.batch, 0, 0)


def compare(arm: str, options: argparse.Namespace, rate: float) -> dict[str, Any]:
    """Time every batch of one pass over the examples: ours, grouped, random, and again."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    examples, grouped = prepared(arm, options)
    order = np.random.default_rng(1).permutation(len(examples))
    shuffled = [order[i : i + options.batch] for i in range(0, len(order), options.batch)]
    with tempfile.TemporaryDirectory() as folder:
        ours = Ours(arm, examples, options.batch, options.bf16, options.threads)
        theirs = Theirs(arm, examples, options.bf16, folder)
        # Warm-up and operation count on the batch of middling length.
        middle = sorted(grouped, key=lambda batch: examples.lengths[batch].max())
        first = [middle[len(middle) // 2]]
        ours.step(ours.loader(first))
        theirs.step(theirs.loader(first))
        operations = {
            "ours": flops_of(lambda: ours.step(ours.loader(first))),
            "theirs": flops_of(lambda: theirs.step(theirs.loader(first))),
        }
        sources: dict[str, Any] = {
            "ours": ours.loader(grouped),
            "grouped": theirs.loader(grouped),
            "random": theirs.loader(shuffled),
        }
        steps = {"ours": ours.step, "grouped": theirs.step, "random": theirs.step}
        seconds: dict[str, list[float]] = {name: [] for name in sources}
        for number in range(len(grouped)):
            for name, source in sources.items():
                seconds[name].append(timed(lambda n=name, s=source: steps[n](s), device))
            told = "  ".join(f"{name} {times[-1]:.2f} s" for name, times in seconds.items())
            print(f"{arm} step {number + 1}/{len(grouped)}: {told}", file=sys.stderr, flush=True)
    supervised = examples.weight(np.arange(len(examples)))
    pairs = [b / a for a, b in zip(seconds["ours"], seconds["grouped"], strict=True)]
    result: dict[str, Any] = {
        "ratio_median": statistics.median(pairs),
        "ratio_min": min(pairs),
        "ratio_max": max(pairs),
        "ratio_random": sum(seconds["random"]) / sum(seconds["ours"]),
        "pairs": len(pairs),
    }
    for name, times in seconds.items():
        total = sum(times)
        counted = operations["ours" if name == "ours" else "theirs"]
        result[name] = {
            "examples_per_s": len(examples) / total,
            "tokens_per_s": supervised / total,
            "gflop_an_example": counted / options.batch / 1e9,
            "matrix_share": counted / statistics.median(times) / rate,
        }
    return result


def alone(side: str, arm: str, options: argparse.Namespace) -> float:
    """Return the peak memory, in MB, of a process that makes two steps of one side."""
    examples, batches = prepared(arm, options)
    longest = [max(batches, key=lambda batch: examples.lengths[batch].max())] * 2
    with tempfile.TemporaryDirectory() as folder:
        party: Any = (
            Ours(arm, examples, options.batch, options.bf16, options.threads)
            if side == "ours"
            else Theirs(arm, examples, options.bf16, folder)
        )
        source = party.loader(longest)
        for _ in longest:
            party.step(source)
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 1e6
    # Not getrusage: its peak is inherited from the process that started this one.
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s*(\d+) kB", status)[1]) * 1024 / 1e6  # type: ignore[index]


def memory(side: str, arm: str, options: argparse.Namespace) -> float:
    """Run `alone` in a process of its own."""
    command = [
        sys.executable, __file__, "--alone", side, "--arms", arm, "--batch", str(options.batch),
        "--steps", "2", "--threads", str(options.threads), *(["--bf16"] if options.bf16 else []),
    ]  # fmt: skip
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return float(json.loads(done.stdout.splitlines()[-1]))


HOLDS = {
    "fp32": "What holds the rest: on this processor the float32 products dominate both sides. Ours "
    "needs fewer (no outputs for image tokens in the last layer, a vocabulary head at supervised "
    "positions only) and makes them through oneDNN, where torch takes MKL; on processors where the "
    "two are alike, expect about the ratio of the operations instead.",
    "bf16": "What holds the rest: both sides make bf16 products through oneDNN, so the ratio is "
    "about that of the operations.",
}


def page(results: dict[str, Any], rate: float, options: argparse.Namespace) -> str:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    precision = "bf16" if options.bf16 else "fp32"
    lines = [
        f"## Training step ({device.type}, {precision})",
        "",
        f"{machine(device, options.threads)}. {precision}, batch {options.batch}, git-base's shape "
        "with random weights, 224 px, texts of corrected reports. Matrix product of the model's "
        f"shape, best of the same run: {rate / 1e9:,.0f} GFLOP/s. `tests/benchmarks/train_step.py` "
        "says what each side does; sides take turns step by step, so other load slows both.",
        "",
        "| arm | Trainer, same grouped batches / ours: median (min to max; pairs) | random batches "
        "/ ours | ours: examples/s, tokens/s | Trainer grouped: examples/s, tokens/s | GFLOP an "
        "example, ours / Trainer | matrix rate, ours / Trainer | peak MB, ours / Trainer |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for arm, found in results.items():
        ours, theirs = found["ours"], found["grouped"]
        lines.append(
            f"| {arm} | **{found['ratio_median']:.2f}** ({found['ratio_min']:.2f} to "
            f"{found['ratio_max']:.2f}; {found['pairs']}) | {found['ratio_random']:.2f} "
            f"| {ours['examples_per_s']:.3g}, {ours['tokens_per_s']:.3g} "
            f"| {theirs['examples_per_s']:.3g}, {theirs['tokens_per_s']:.3g} "
            f"| {ours['gflop_an_example']:.0f} / {theirs['gflop_an_example']:.0f} "
            f"| {ours['matrix_share']:.0%} / {theirs['matrix_share']:.0%} "
            f"| {found['peak_mb'][0]:,.0f} / {found['peak_mb'][1]:,.0f} |"
        )
    kind = "allocated on the GPU" if device.type == "cuda" else "resident set, libraries included"
    lines += [
        "",
        "Tokens are supervised tokens. The matrix rate is the share of that rate that a side's own "
        f"operations reach. Peak memory: {kind}, of a process that makes two steps of one side. "
        "lora_text reads the frozen vision tower's output from the cache, which is built once.",
        *(["", HOLDS["bf16" if options.bf16 else "fp32"]] if device.type == "cpu" else []),
    ]
    return "\n".join(lines)


def main() -> None:
    cuda = torch.cuda.is_available()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--arms", nargs="+", choices=list(ARMS), default=list(ARMS))
    parser.add_argument("--batch", type=int, default=64 if cuda else 4)
    parser.add_argument("--steps", type=int, default=30 if cuda else 6)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--bf16", action="store_true", default=cuda)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--alone", choices=("ours", "theirs"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.alone:
        print(alone(options.alone, options.arms[0], options))
        return
    device = torch.device("cuda" if cuda else "cpu")
    rate = matrix_rate(device, torch.bfloat16 if options.bf16 else torch.float32, clock)
    results = {}
    for arm in options.arms:
        results[arm] = compare(arm, options, rate)
        if options.write:
            results[arm]["peak_mb"] = [memory(side, arm, options) for side in ("ours", "theirs")]
    print(json.dumps({"matrix_gflops": rate / 1e9, **results}, indent=1))
    if options.write:
        name = f"train_step {device.type}{' bf16' if options.bf16 and not cuda else ''}"
        write_section(name, page(results, rate, options))


if __name__ == "__main__":
    main()
