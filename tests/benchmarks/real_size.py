"""What the benchmarks share: git-base's shape, texts of realistic lengths, and the page's sections.

Texts are corrected reports of the phantom's population, whose findings occur together roughly as
MIMIC-CXR's do. git-base's vocabulary is not shipped: `PIECES` says into how many WordPieces it
splits the words that are not whole in it (bert-base-uncased), all others count as one.
"""

import os
import platform
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import accelerate
import numpy as np
import peft
import polars as pl
import psutil
import torch
import transformers
from transformers import GitConfig, GitForCausalLM

from peft_ablation.bases.cpu_kernels import Linear
from peft_ablation.bases.git import SupervisedLoss, lightened
from peft_ablation.bases.pixels import CLIP_MEAN, CLIP_STD, Normalize
from peft_ablation.methods import method_class
from peft_ablation.sources.mimic.labels import LABELS
from peft_ablation.sources.mimic.reports import load_template
from peft_ablation.sources.phantom.anatomy import NOT_MENTIONED
from peft_ablation.sources.phantom.tree import draw_population
from peft_ablation.tasks.captioning import Captioning
from peft_ablation.tasks.captioning.examples import CaptionExamples

PAGE = Path(__file__).resolve().parents[2] / "docs" / "benchmarks.md"
SIDE, IMAGE_TOKENS, WIDTH = 224, 197, 768
CLS, SEP = 101, 102
LONGEST = 92
"""Tokens of the longest text of the published study; the few longer ones here are cut."""
PIECES = {
    "atelectasis": 3, "cardiomegaly": 4, "cardiomediastinum": 6, "edema": 2, "effusion": 3,
    "lesion": 2, "opacity": 2, "pathological": 1, "pleural": 3, "pneumothorax": 6,
}  # fmt: skip
ARMS = {
    name: method_class(arm["method"]).Settings.model_validate(arm).model_dump(mode="json")
    for name, arm in {
        "fft": {"method": "full", "learning_rate": 1e-5},
        "lora_vision": {"method": "lora", "targets": "vision", "learning_rate": 1e-4},
        "lora_text": {"method": "lora", "targets": "text", "learning_rate": 1e-4},
    }.items()
}
SETTINGS = Captioning.Settings(name="captioning", max_tokens=LONGEST).model_dump(mode="json")


def tokens_of(text: str, vocabulary: dict[str, int]) -> list[int]:
    """Return ids of git-base's length for `text`; the ids themselves are arbitrary."""
    pieces = []
    for word in re.findall(r"[a-z]+|[^a-z\s]", text.lower()):
        for part in range(PIECES.get(word, 1)):
            pieces.append(vocabulary.setdefault(f"{word}#{part}", 1000 + len(vocabulary)))
    return pieces


class Source:
    """Images in memory: grey uint8 pixels, or features where asked for; as `ImageSource`."""

    def __init__(self, count: int, features: bool, seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)
        shape = (count, IMAGE_TOKENS, WIDTH) if features else (count, SIDE, SIDE)
        if features:
            self.images = torch.randn(shape, generator=generator).half()
        else:
            self.images = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)

    def __getitem__(self, positions: Any) -> torch.Tensor:
        return self.images[torch.from_numpy(np.asarray(positions))]


def reports(count: int, seed: int = 0) -> list[str]:
    """Return corrected reports of `count` studies drawn from the phantom's population."""
    template = load_template("corrected")
    labels = draw_population(2 * count, np.random.default_rng(seed)).labels
    texts = []
    for row in labels.tolist():
        values = {k: v for k, v in zip(LABELS, row, strict=True) if v != NOT_MENTIONED}
        if values and (text := template.render(values)):
            texts.append(text)
    order = np.random.default_rng(seed).permutation(len(texts))
    return [texts[index] for index in order[:count]]


def make_examples(count: int, features: bool = False) -> CaptionExamples:
    """Return `count` examples with random images."""
    vocabulary: dict[str, int] = {}
    prompt = [CLS, *tokens_of(SETTINGS["prompt"], vocabulary)]
    texts = reports(count)
    tokens = [[*prompt, *tokens_of(text, vocabulary), SEP][:LONGEST] for text in texts]
    return CaptionExamples(
        tokens, prompt, np.arange(count), [str(n) for n in range(count)], texts,
        Source(count, features),  # type: ignore[arg-type]
    )  # fmt: skip


def git_base(seed: int = 0) -> GitForCausalLM:
    """Return a `GitForCausalLM` of git-base's shape with random weights."""
    torch.manual_seed(seed)
    return GitForCausalLM(GitConfig())


class InMemory(Captioning):
    """The task with examples and a base that lie in no file."""

    def __init__(self, examples: CaptionExamples) -> None:
        super().__init__(SETTINGS, pl.DataFrame())
        self.made = examples

    def load_model(self, folder: str | Path) -> Any:
        return lightened(git_base())

    def examples(self, table: Any, assets: Any, base: Any) -> CaptionExamples:
        return self.made

    def loss_module(self, model: Any, base: Any) -> SupervisedLoss:
        return SupervisedLoss(model, Normalize(CLIP_MEAN, CLIP_STD))


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def matrix_rate(device: torch.device, dtype: torch.dtype, clock: Callable[[], float]) -> float:
    """Return FLOP/s of a large matrix product: the best of several, torch's and `Linear`'s."""
    rows = 8192 if device.type == "cuda" else 1576
    a = torch.randn(rows, 4096 if device.type == "cuda" else WIDTH, device=device, dtype=dtype)
    b = torch.randn(a.shape[1], 4096 if device.type == "cuda" else 3072, device=device, dtype=dtype)
    best, operations = 0.0, 2 * a.numel() * b.shape[1]
    product = Linear(*b.shape, bias=False).to(device, dtype).requires_grad_(False)
    for _ in range(12):
        start = clock()
        a @ b
        synchronise(device)
        middle = clock()
        product(a)
        synchronise(device)
        best = max(best, operations / (middle - start), operations / (clock() - middle))
    return best


def machine(device: torch.device, threads: int) -> str:
    """Describe hardware and versions in one line."""
    if device.type == "cuda":
        what = torch.cuda.get_device_name(device)
    else:
        names = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").is_file() else ""
        found = re.search(r"model name\s*: (.*)", names)
        what = f"{found[1] if found else platform.processor()}, {threads} of {os.cpu_count()} cores"
    memory = psutil.virtual_memory().total / 1e9
    return (
        f"{what}, {memory:.0f} GB memory; torch {torch.__version__}, transformers "
        f"{transformers.__version__}, peft {peft.__version__}, accelerate {accelerate.__version__},"
        f" Python {platform.python_version()}"
    )


def write_section(name: str, text: str, page: Path = PAGE) -> None:
    """Put `text` in place of section `name` of the page, or at its end."""
    begin, end = f"<!-- {name}: written by the script -->", f"<!-- end of {name} -->"
    section = f"{begin}\n{text.strip()}\n{end}"
    old = page.read_text() if page.is_file() else "# Benchmarks\n"
    pattern = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
    if pattern.search(old):
        new = pattern.sub(lambda _: section, old)
    else:
        new = f"{old.rstrip()}\n\n{section}\n"
    page.write_text(new)
