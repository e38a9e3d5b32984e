"""Text generation against transformers: training steps, their memory, beams, several references.

    python tests/benchmarks/text_generation.py [--parts steps memory beams references]
        [--models gpt2 llama] [--pairs N] [--threads N] [--precision fp32|bf16] [--write]

Models of GPT-2's and Llama's kind with random weights (GPT-2: 512 wide, 6 layers, 50,257 words;
Llama: 512 wide, 4 layers, 64,000 words), texts of random tokens. Everything in one run; sides take
turns, step by step or batch by batch, so that other load slows both. Without a GPU seconds are of
the CPU's time, by default of one thread.

- steps: ours is the engine's own step; theirs is transformers' `Trainer` on transformers' own
  model and PEFT's own adapters, with the same batches of texts of similar length in the same order
  (ready as tensors, and without the mask that texts padded on the right do not need), fused AdamW,
  sdpa, and nothing logged or saved. Both in the precision that is faster for Trainer. Half of a
  text's tokens are supervised, or a fifth. Losses are equal (asserted).
- memory: the peak of a process that makes steps of one side, over what it had before the model.
- beams: `generate` of transformers' own model, adapters merged, on the same batch of prompts; ours
  has the prompt's keys and values once. The same tokens (asserted), float32.
- references: our step on examples with four references each, and on one row a reference, which
  has the same loss (asserted).
"""

import argparse
import gc
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import polars as pl
import torch
import transformers
from accelerate import Accelerator
from real_size import machine, synchronise, write_section
from transformers import Trainer, TrainingArguments

from peft_ablation.bases.causal import IGNORED, write
from peft_ablation.bases.cpu_kernels import lighten, pack
from peft_ablation.config.study import Train
from peft_ablation.data.examples import Indices
from peft_ablation.methods import method_class, open_method
from peft_ablation.tasks.text_generation import Settings, TextGeneration
from peft_ablation.tasks.text_generation.examples import WrittenExamples
from peft_ablation.training.inputs import RunInputs
from peft_ablation.training.prefetch import prefetched
from peft_ablation.training.run import Run

CUDA = torch.cuda.is_available()
DEVICE = torch.device("cuda" if CUDA else "cpu")
clock = time.perf_counter if CUDA else time.process_time

MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "gpt2": ("GPT2LMHeadModel", {"n_embd": 512, "n_layer": 6, "n_head": 8}),
    "llama": (
        "LlamaForCausalLM",
        {
            "hidden_size": 512, "num_hidden_layers": 4, "num_attention_heads": 8,
            "intermediate_size": 1376, "vocab_size": 64_000,
        },
    ),
}  # fmt: skip
TARGETS = {"gpt2": "query_key_value", "llama": "all"}
ARMS = ("lora", "fft")
SHARES = {"half": 0.5, "a fifth": 0.2}
BATCH, LENGTH, SPREAD = 16, 64, 20
"""Rows of a batch; tokens of a text on average, and their standard deviation."""
PROMPT, NEW, BEAMS = 40, 24, 10
REFERENCES, EXAMPLES = 4, 8


def settings_of(arm: str, model: str) -> dict[str, Any]:
    """Return an arm's settings; LoRA as the shipped studies of such models have it."""
    chosen: dict[str, Any] = {"method": "full", "learning_rate": 1e-5}
    if arm == "lora":
        chosen = {
            "method": "lora", "targets": TARGETS[model], "r": 8, "alpha": 32, "dropout": 0.1,
            "learning_rate": 2e-4,
        }  # fmt: skip
    fields = method_class(chosen["method"]).Settings.model_validate(chosen)
    return fields.model_dump(mode="json")


def base_model(name: str) -> Any:
    """Return transformers' own model of a shape, the same each time."""
    class_name, sizes = MODELS[name]
    model_class = getattr(transformers, class_name)
    torch.manual_seed(0)
    model = model_class(model_class.config_class(**sizes)).eval()
    with torch.no_grad():
        # Far from uniform, so that rounding does not decide between two beams.
        model.get_output_embeddings().weight.mul_(4)
    return model


def drawn(lengths: Sequence[tuple[int, Sequence[int]]], words: int) -> WrittenExamples:
    """Return examples of random tokens: of each its prompt's length, and its answers'."""
    random = np.random.default_rng(0)

    def text(length: int) -> list[int]:
        return [int(token) for token in random.integers(3, words, length)]

    prompts = [text(prompt) for prompt, _ in lengths]
    answers = [[text(answer) for answer in several] for _, several in lengths]
    ids = [str(number) for number in range(len(lengths))]
    return WrittenExamples(ids, prompts, answers, [["" for _ in a] for a in answers])


def texts(model: str, share: float, count: int) -> WrittenExamples:
    """Return texts of unequal length of which such a share is supervised."""
    random = np.random.default_rng(1)
    sizes = random.gamma((LENGTH / SPREAD) ** 2, SPREAD**2 / LENGTH, count).clip(16, 240)
    answers = [max(1, round(size * share)) for size in sizes]
    split = [(round(size) - answer, [answer]) for size, answer in zip(sizes, answers, strict=True)]
    return drawn(split, words_of(model))


def words_of(model: str) -> int:
    return int(MODELS[model][1].get("vocab_size", 50257))


class InMemory(TextGeneration):
    """The task with examples and a base that lie in no file."""

    def __init__(self, made: WrittenExamples, model: str) -> None:
        fields = Settings(name="text_generation").model_dump()
        super().__init__(fields, pl.DataFrame({"reference": [""]}))
        self.made, self.kind = made, model

    def load_model(self, folder: str | Path) -> Any:
        model = base_model(self.kind)
        lighten(model)
        return model

    def examples(self, table: Any, assets: Any, base: Any) -> WrittenExamples:
        return self.made


class Ours:
    """A `Run` whose steps are taken one at a time."""

    def __init__(
        self, model: str, arm: str, made: WrittenExamples, bf16: bool, batch: int = BATCH
    ) -> None:
        precision = "bf16" if bf16 else "fp32"
        settings = Train(batch_size=batch, precision=precision, warmup=0.0, schedule="constant")
        given = RunInputs(
            Settings(name="text_generation").model_dump(), settings_of(arm, model),
            settings.model_dump(mode="json"), 0, base="", train="", val="", assets={},
        )  # fmt: skip
        accelerator = Accelerator(mixed_precision="bf16" if bf16 else "no", cpu=not CUDA)
        with mock.patch("peft_ablation.training.run.open_task", lambda *_: InMemory(made, model)):
            self.run = Run(accelerator, given, None)
        self.run.method.train_mode(self.run.module)

    def loader(self, batches: list[Indices]) -> Iterator[tuple[Indices, dict[str, torch.Tensor]]]:
        run = self.run
        made = prefetched(
            batches, lambda indices: run.processes.on_device(run.train.batch(indices))
        )
        return zip(batches, made, strict=True)

    def step(self, source: Iterator[tuple[Indices, dict[str, torch.Tensor]]]) -> None:
        indices, batch = next(source)
        self.run.steps.take(0, indices, batch)

    def loss(self, indices: Indices) -> float:
        """Return the mean loss of a batch without dropout."""
        run = self.run
        run.module.eval()
        with torch.no_grad(), run.processes.accelerator.autocast():
            batch = run.processes.on_device(run.train.batch(indices))
            loss = float(run.module(**batch)) / run.train.weight(indices)
        run.method.train_mode(run.module)
        return loss


class Theirs:
    """A Trainer whose steps are taken one at a time."""

    def __init__(
        self, model: str, arm: str, made: WrittenExamples, bf16: bool, folder: str
    ) -> None:
        applied = open_method(settings_of(arm, model)).apply(
            base_model(model), seed=0, heads=(), steps=1, batches=lambda: iter(())
        )
        arguments = TrainingArguments(
            output_dir=folder, optim="adamw_torch_fused", weight_decay=0.01, bf16=bf16,
            learning_rate=settings_of(arm, model)["learning_rate"], use_cpu=not CUDA,
            report_to=[], save_strategy="no", logging_strategy="no", label_names=["labels"],
            remove_unused_columns=False,
        )  # fmt: skip
        self.made = made
        self.trainer = trainer = Trainer(model=applied, args=arguments)
        trainer.create_optimizer()
        self.model, trainer.optimizer = trainer.accelerator.prepare(
            trainer.model, trainer.optimizer
        )
        trainer.model_wrapped = self.model
        self.model.train()

    def loader(self, batches: list[Indices]) -> Iterator[dict[str, torch.Tensor]]:
        return iter([self.tensors(indices) for indices in batches])

    def tensors(self, indices: Indices) -> dict[str, torch.Tensor]:
        """Return a batch as Trainer takes it, padded on the right."""
        rows = [(self.made.prompts[i], self.made.answers[i][0]) for i in indices]
        ids = [torch.tensor([*prompt, *answer]) for prompt, answer in rows]
        labels = [torch.tensor([IGNORED] * len(p) + list(a)) for p, a in rows]
        pad = torch.nn.utils.rnn.pad_sequence
        return {
            "input_ids": pad(ids, batch_first=True),
            "labels": pad(labels, batch_first=True, padding_value=IGNORED),
        }

    def step(self, source: Iterator[dict[str, torch.Tensor]]) -> None:
        inputs, trainer = next(source), self.trainer
        supervised = (inputs["labels"] != IGNORED).sum().to(trainer.args.device)
        trainer.training_step(self.model, inputs, num_items_in_batch=supervised)
        trainer.accelerator.clip_grad_norm_(self.model.parameters(), trainer.args.max_grad_norm)
        trainer.optimizer.step()
        self.model.zero_grad()

    def loss(self, indices: Indices) -> float:
        """Return the mean loss of a batch without dropout."""
        self.model.eval()
        with torch.no_grad(), self.trainer.compute_loss_context_manager():
            inputs = self.trainer._prepare_inputs(self.tensors(indices))
            loss = float(self.trainer.compute_loss(self.model, inputs))
        self.model.train()
        return loss


def timed(work: Callable[[], Any]) -> float:
    synchronise(DEVICE)
    start = clock()
    work()
    synchronise(DEVICE)
    return clock() - start


def evenly(batches: Sequence[Indices], lengths: Indices, count: int) -> list[Indices]:
    """Return so many batches, from the narrowest to the widest."""
    order = sorted(batches, key=lambda batch: (int(lengths[batch].max()), int(batch[0])))
    return [order[int(place)] for place in (np.arange(count) + 0.5) * len(order) / count]


def in_turn(sides: Mapping[str, tuple[Any, list[Indices]]], rounds: int) -> dict[str, list[float]]:
    """Return seconds of each step of each side; the first round is not counted."""
    sources = {
        name: side.loader([batches[n % len(batches)] for n in range(-1, rounds)])
        for name, (side, batches) in sides.items()
    }
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds + 1):
        for name, (side, _) in sides.items():
            took = timed(lambda side=side, name=name: side.step(sources[name]))  # type: ignore[misc]
            if number:
                seconds[name].append(took)
    return seconds


def ratios(seconds: Mapping[str, list[float]], over: str, under: str) -> str:
    found = [a / b for a, b in zip(seconds[over], seconds[under], strict=True)]
    return (
        f"**{statistics.median(found):.2f}** ({min(found):.2f} to {max(found):.2f}; {len(found)})"
    )


def faster_precision(model: str) -> bool:
    """Tell whether Trainer's steps are faster in bf16 than in float32."""
    if not CUDA and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return False
    made = texts(model, 0.5, BATCH)
    batch = [np.arange(BATCH)]
    with tempfile.TemporaryDirectory() as folder:
        sides = {str(bf16): (Theirs(model, "lora", made, bf16, folder), batch) for bf16 in (0, 1)}
        seconds = in_turn(sides, 2)
    return min(seconds["1"]) < min(seconds["0"])


def steps(options: argparse.Namespace) -> Iterator[str]:
    yield (
        "| model | method | supervised | precision | Trainer / ours: median (min to max; pairs) "
        "| ours: tokens/s | Trainer: tokens/s |\n|---|---|---|---|---|---|---|"
    )
    for model in options.models:
        bf16 = chosen_precision(model, options)
        for arm in options.arms:
            for share in options.shares:
                made = texts(model, SHARES[share], BATCH * 64)
                with tempfile.TemporaryDirectory() as folder:
                    ours = Ours(model, arm, made, bf16)
                    theirs = Theirs(model, arm, made, bf16, folder)
                    batches = evenly(ours.run.batches(0), made.lengths, min(4, options.pairs))
                    told = ours.loss(batches[0]), theirs.loss(batches[0])
                    assert abs(told[0] / told[1] - 1) < (2e-3 if bf16 else 1e-5), told
                    seconds = in_turn(
                        {"ours": (ours, batches), "theirs": (theirs, batches)}, options.pairs
                    )
                done = [batches[n % len(batches)] for n in range(options.pairs)]
                tokens = sum(int(made.lengths[batch].sum()) for batch in done)
                rates = [f"{tokens / sum(seconds[side]):,.0f}" for side in ("ours", "theirs")]
                yield (
                    f"| {model} | {arm} | {share} | {'bf16' if bf16 else 'fp32'} "
                    f"| {ratios(seconds, 'theirs', 'ours')} | {rates[0]} | {rates[1]} |"
                )
                del ours, theirs
                gc.collect()


def chosen_precision(model: str, options: argparse.Namespace) -> bool:
    if options.precision is None:
        options.precision = "bf16" if faster_precision(model) else "fp32"
    return bool(options.precision == "bf16")


def resident(what: str) -> float:
    """Return a line of this process's status, in MB."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(rf"{what}:\s*(\d+) kB", status)[1]) * 1024 / 1e6  # type: ignore[index]


def alone(side: str, model: str, arm: str, share: str, bf16: bool) -> float:
    """Return the peak memory of two steps, in MB, over what the process had before."""
    made = texts(model, SHARES[share], BATCH * 64)
    before = resident("VmRSS")
    with tempfile.TemporaryDirectory() as folder:
        party: Any = (
            Ours(model, arm, made, bf16)
            if side == "ours"
            else Theirs(model, arm, made, bf16, folder)
        )
        # The widest of the middle: the largest of all is rare.
        order = np.argsort(made.lengths, kind="stable")
        batch = order[-4 * BATCH : -3 * BATCH]
        source = party.loader([batch] * 2)
        for _ in range(2):
            party.step(source)
    return torch.cuda.max_memory_allocated() / 1e6 if CUDA else resident("VmHWM") - before


def memory(options: argparse.Namespace) -> Iterator[str]:
    yield (
        "| model | method | supervised | precision | peak MB, ours | Trainer | Trainer / ours |\n"
        "|---|---|---|---|---|---|---|"
    )
    for model in options.models:
        precision = "bf16" if chosen_precision(model, options) else "fp32"
        for arm in options.arms:
            for share in options.shares:
                running = []
                for side in ("ours", "theirs"):
                    command = [
                        sys.executable, __file__, "--alone", side, "--models", model,
                        "--arms", arm, "--shares", share, "--precision", precision,
                        "--threads", str(options.threads),
                    ]  # fmt: skip
                    running.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
                found = [float(run.communicate()[0].splitlines()[-1]) for run in running]
                yield (
                    f"| {model} | {arm} | {share} | {precision} | {found[0]:,.0f} "
                    f"| {found[1]:,.0f} | **{found[1] / found[0]:.2f}** |"
                )


def beams(options: argparse.Namespace) -> Iterator[str]:
    yield (
        "| model | prompts at once | rules | `generate` / ours: median (min to max; rounds) "
        "| ours: new tokens/s |\n|---|---|---|---|---|"
    )
    rules: dict[str, dict[str, Any]] = {
        "none": {"length_penalty": 1.0, "no_repeat_ngram_size": 0},
        "length 0.9, no-repeat 4": {"length_penalty": 0.9, "no_repeat_ngram_size": 4},
    }
    for model in options.models:
        theirs, ours = base_model(model).to(DEVICE), base_model(model)
        lighten(ours)
        pack(ours.to(DEVICE))
        for rows, rule in ((1, "none"), (8, "length 0.9, no-repeat 4")):
            seconds = in_beams(model, ours, theirs, rows, rules[rule], options.rounds)
            rate = rows * NEW / statistics.median(seconds["ours"])
            told = ratios(seconds, "theirs", "ours")
            yield f"| {model} | {rows} | {rule} | {told} | {rate:,.0f} |"


def in_beams(
    model: str, ours: Any, theirs: Any, rows: int, rules: Mapping[str, Any], rounds: int
) -> dict[str, list[float]]:
    """Return seconds of each round of each side; the first is not counted."""
    end = words_of(model) - 1
    prompts = drawn([(PROMPT, [1])] * rows, end).prompts
    ids = torch.tensor(prompts, device=DEVICE)
    settings = {"max_new_tokens": NEW, "num_beams": BEAMS, "do_sample": False, **rules}
    found: dict[str, list[list[int]]] = {}

    def generate() -> None:
        written = theirs.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), eos_token_id=end,
            pad_token_id=end, **settings,
        )  # fmt: skip
        found["theirs"] = written[:, PROMPT:].tolist()

    def shared() -> None:
        found["ours"] = write(ours, prompts, end, settings)

    seconds: dict[str, list[float]] = {"ours": [], "theirs": []}
    with torch.no_grad():
        for number in range(rounds + 1):
            for side, work in (("ours", shared), ("theirs", generate)):
                took = timed(work)
                if number:
                    seconds[side].append(took)
            assert found["ours"] == found["theirs"], "other tokens"
            assert {len(text) for text in found["ours"]} == {NEW}
    return seconds


class Asked:
    """The loss of a batch, as prediction asks for it."""

    def __init__(self, side: Ours) -> None:
        self.side = side

    def loader(self, batches: list[Indices]) -> Iterator[Indices]:
        return iter(batches)

    def step(self, source: Iterator[Indices]) -> None:
        self.side.loss(next(source))


def references(options: argparse.Namespace) -> Iterator[str]:
    yield (
        "| model | method | precision | a step: one row a reference / ours: median (min to max; "
        "pairs) | the loss alone |\n|---|---|---|---|---|"
    )
    for model in options.models:
        bf16 = chosen_precision(model, options)
        together = drawn([(PROMPT, [NEW] * REFERENCES)] * EXAMPLES, words_of(model))
        apart = WrittenExamples(
            [str(n) for n in range(EXAMPLES * REFERENCES)],
            [prompt for prompt in together.prompts for _ in range(REFERENCES)],
            [[answer] for several in together.answers for answer in several],
            [[""]] * EXAMPLES * REFERENCES,
        )
        every, each = [np.arange(len(together))], [np.arange(len(apart))]
        for arm in options.arms:
            ours = Ours(model, arm, together, bf16, EXAMPLES)
            rows = Ours(model, arm, apart, bf16, EXAMPLES * REFERENCES)
            told = ours.loss(every[0]), rows.loss(each[0])
            assert abs(told[0] / told[1] - 1) < (2e-3 if bf16 else 1e-5), told
            stepped = in_turn({"ours": (ours, every), "rows": (rows, each)}, options.pairs)
            for side in (ours, rows):
                pack(side.run.module)
            asked = in_turn(
                {"ours": (Asked(ours), every), "rows": (Asked(rows), each)}, options.pairs
            )
            shown = [ratios(seconds, "rows", "ours") for seconds in (stepped, asked)]
            yield f"| {model} | {arm} | {'bf16' if bf16 else 'fp32'} | {shown[0]} | {shown[1]} |"
            del ours, rows
            gc.collect()


HOLDS = (
    "What holds the rest: logits are those of supervised tokens, a few rows at a time, and become "
    "losses and gradients at once. A head that learns keeps one matrix of them; its gradient and "
    "optimizer cost both sides the same, so fft gains less than lora, most of all where embedding "
    "and head are two matrices (Llama's here). So do several references of one prompt: the head "
    "sees as many tokens as before. Beams: the products of new tokens are the same on both sides."
)

PARTS: dict[str, tuple[str, Callable[[argparse.Namespace], Iterator[str]]]] = {
    "steps": (
        f"Training step. {BATCH} texts of {LENGTH} tokens on average (standard deviation {SPREAD}),"
        " batches of texts of similar length; LoRA of rank 8 on GPT-2's `c_attn` and on all of "
        "Llama's linear layers, dropout 0.1 (GPT-2's own as well):",
        steps,
    ),
    "memory": (
        "Peak memory of such a step, in a process of its own, over what it had before the model "
        f"({'allocated on the GPU' if CUDA else 'resident set'}):",
        memory,
    ),
    "beams": (
        f"{BEAMS} beams, prompts of {PROMPT} tokens, {NEW} new ones, the same on both sides, fp32:",
        beams,
    ),
    "references": (
        f"Our step on {EXAMPLES} examples with {REFERENCES} references each, prompts of "
        f"{PROMPT} tokens, references of {NEW}, against one row a reference:",
        references,
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--shares", nargs="+", choices=SHARES, default=list(SHARES))
    parser.add_argument("--pairs", type=int, default=30 if CUDA else 5)
    parser.add_argument("--rounds", type=int, default=10 if CUDA else 3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--precision", choices=("fp32", "bf16"))
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--alone", choices=("ours", "theirs"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    transformers.utils.logging.set_verbosity_error()
    if options.alone:
        bf16 = options.precision == "bf16"
        print(alone(options.alone, options.models[0], options.arms[0], options.shares[0], bf16))
        return
    page = [
        f"## Text generation ({DEVICE.type})",
        f"{machine(DEVICE, options.threads)}. `tests/benchmarks/text_generation.py` says how: "
        f"{'seconds' if CUDA else 'seconds of processor time'}, sides take turns.",
    ]
    for part in options.parts:
        title, work = PARTS[part]
        print(f"{title}\n", flush=True)
        lines = []
        for line in work(options):
            print(line, flush=True)
            lines.append(line)
        print(flush=True)
        page += [title, "\n".join(lines)]
    page.append(HOLDS)
    if options.write:
        write_section(f"text_generation {DEVICE.type}", "\n\n".join(page))


if __name__ == "__main__":
    main()
