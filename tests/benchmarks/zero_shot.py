"""Zero-shot classification with 1 and with 80 texts a class: one pass over the images either way.

A CLIP of ViT-B/32's proportions at half its width and depth, random weights, ten classes, random
224 px pictures. Timed are the parts of the workflow, in CPU seconds of one thread: the text tower
(`prepare_base`), the image tower (`cache_frozen_features`) and prediction from its cache
(`predict`). Beside them the forward pass of `CLIPModel` with all texts in every batch of images.
1 and 80 take turns. `--write` puts the table into docs/benchmarks.md.

    PYTHONPATH=src python tests/benchmarks/zero_shot.py --images 400 --pairs 3 [--write]
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from real_size import machine, write_section
from tokenizers.pre_tokenizers import ByteLevel
from transformers import AutoTokenizer, CLIPConfig, CLIPModel, CLIPTokenizer

from peft_ablation.bases.clip import prompt_weights
from peft_ablation.tasks.image_classification.model import PooledFeatures
from peft_ablation.tasks.zero_shot import TEMPLATES
from peft_ablation.tasks.zero_shot.model import load_zero_shot

CLASSES = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)
BATCH = 100
TOGETHER = 8
"""Images a batch of the plain forward pass."""


def base(folder: Path) -> Path:
    """Write the CLIP with a tokenizer of words that CLIP's own would hold whole."""
    marks = sorted(ByteLevel.alphabet())
    words = {word.strip(".") for text in TEMPLATES for word in text.split()} - {"{}"}
    words |= {*CLASSES, *(f"number{n}" for n in range(80))}
    tokens = [*marks, *(f"{mark}</w>" for mark in marks)]
    merges: list[tuple[str, str]] = []
    for word in sorted(words):
        left = word[0]
        for place, mark in enumerate(word[1:], 2):
            right = f"{mark}</w>" if place == len(word) else mark
            if (left, right) not in merges:
                merges.append((left, right))
            left += right
            if left not in tokens:
                tokens.append(left)
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: place for place, token in enumerate(tokens)}
    CLIPTokenizer(vocab=vocabulary, merges=merges).save_pretrained(folder)
    size = len(tokens)
    torch.manual_seed(0)
    config = CLIPConfig(
        vision_config={
            "hidden_size": 384, "intermediate_size": 1536, "num_hidden_layers": 6,
            "num_attention_heads": 6, "image_size": 224, "patch_size": 32,
        },
        text_config={
            "hidden_size": 256, "intermediate_size": 1024, "num_hidden_layers": 6,
            "num_attention_heads": 4, "vocab_size": size, "bos_token_id": size - 2,
            "eos_token_id": size - 1, "pad_token_id": size - 1,
        },
        projection_dim=256,
    )  # fmt: skip
    CLIPModel(config).save_pretrained(folder)
    return folder


def texts(number: int) -> list[list[str]]:
    """Return `number` texts of each class, the shipped templates first."""
    more = [f"a photo of the {{}} number{n}." for n in range(number)]
    templates = (*TEMPLATES, *more)[:number]
    return [[template.replace("{}", name) for template in templates] for name in CLASSES]


def seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    begin = time.process_time()
    made = work()
    return time.process_time() - begin, made


@torch.no_grad()
def ours(folder: Path, pixels: np.ndarray, number: int) -> dict[str, float]:
    """Return the seconds of each part; models are loaded outside the clock."""
    named = texts(number)
    frozen = PooledFeatures(folder, torch.device("cpu"), load_zero_shot)
    head, weights = seconds(lambda: prompt_weights(folder, named))
    towers = []
    frozen.model.vision_model.register_forward_hook(
        lambda _, given, __: towers.append(len(given[0]))
    )
    parts = range(0, len(pixels), BATCH)
    passed, found = seconds(lambda: torch.cat([frozen(pixels[i : i + BATCH]) for i in parts]))
    assert sum(towers) == len(pixels)
    told, _ = seconds(lambda: (found @ weights.T).softmax(-1).max(-1))
    return {"texts": head, "images": passed, "prediction": told}


@torch.no_grad()
def plain(folder: Path, pixels: np.ndarray, number: int) -> float:
    """Return the seconds of `CLIPModel`'s own forward on all texts and a few images at a time."""
    model = CLIPModel.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    encoded = tokenizer(
        [t for own in texts(number) for t in own], padding=True, return_tensors="pt"
    )
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1

    def work() -> None:
        for begin in range(0, len(images), TOGETHER):
            model(pixel_values=images[begin : begin + TOGETHER], **encoded).logits_per_image.argmax(
                -1
            )

    return seconds(work)[0]


def main() -> None:
    """Print the table, and write it where asked to."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--images", type=int, default=400)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(1)
    pixels = np.random.default_rng(0).integers(0, 256, (given.images, 224, 224, 3), dtype=np.uint8)
    found: dict[int, list[dict[str, float]]] = {1: [], 80: []}
    with tempfile.TemporaryDirectory() as scratch:
        folder = base(Path(scratch))
        ours(folder, pixels[:BATCH], 1)
        for _ in range(given.pairs):
            for number, runs in found.items():
                runs.append(ours(folder, pixels, number))
        few = pixels[: 2 * TOGETHER]
        naive = {number: plain(folder, few, number) * len(pixels) / len(few) for number in found}
    median = {
        number: {part: statistics.median(run[part] for run in runs) for part in runs[0]}
        for number, runs in found.items()
    }
    totals = [
        (sum(many.values()), sum(one.values()))
        for one, many in zip(found[1], found[80], strict=True)
    ]
    ratios = [many / one for many, one in totals]
    per_image = median[1]["images"] / len(pixels)
    large = {n: 10_000 * per_image + median[n]["texts"] for n in found}
    lines = [
        "## Zero-shot classification",
        "",
        f"{machine(torch.device('cpu'), 1)}. `tests/benchmarks/zero_shot.py` says how: CPU seconds "
        f"of one thread, medians of {given.pairs}, a CLIP of half ViT-B/32's width and depth, ten "
        f"classes, {len(pixels):,} pictures of 224 px.",
        "",
        "| texts a class | text tower, once | image tower, once an image | prediction from its "
        "cache | all | `CLIPModel` on all texts with every 8 images |",
        "|---|---|---|---|---|---|",
        *(
            f"| {n} | {median[n]['texts']:.2f} | {median[n]['images']:.2f} | "
            f"{median[n]['prediction']:.4f} | {sum(median[n].values()):.2f} | {naive[n]:.1f} |"
            for n in found
        ),
        "",
        f"80 texts a class against 1: **{statistics.median(ratios):.2f}** ({min(ratios):.2f} to "
        f"{max(ratios):.2f}; {given.pairs} pairs) for {len(pixels):,} pictures; for 10,000, from "
        f"the same seconds, {large[80] / large[1]:.2f}. The image tower saw each picture once in "
        "every run. All arms and seeds that leave the tower alone, and a change of the texts, read "
        "the same cache.",
    ]
    print("\n".join(lines))
    if given.write:
        write_section("zero_shot", "\n".join(lines))


if __name__ == "__main__":
    main()
