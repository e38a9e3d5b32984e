"""How long a report takes with an adapter merged into its base, and with it beside the base.

    python tests/benchmarks/merged_latency.py [--tokens N] [--rounds N] [--threads N] [--write]

git-base's shape, LoRA of rank 8 on all linear layers of both towers, greedily so many tokens for
1 and for 16 images. The sides take turns: transformers' `generate` on the model that PEFT wraps,
the same `generate` after merging, and ours, which merges, too. All write the same tokens
(asserted): random weights are made to count down, as in `generate.py`. Without a GPU, seconds are
of the CPU's time, so that other load counts little; with one thread that is the latency.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from generate import counting_down
from peft import PeftModel
from real_size import CLS, SEP, SIDE, git_base, machine, synchronise, write_section

from peft_ablation.bases.cpu_kernels import pack
from peft_ablation.bases.git import encode_image, generate_greedy, image_stream, lightened
from peft_ablation.methods import method_class, open_method

clock = time.perf_counter if torch.cuda.is_available() else time.process_time
BATCHES = (1, 16)
ARM = {"method": "lora", "targets": "vision_and_text", "r": 8, "learning_rate": 1e-4}


def load_model(_: Any) -> Any:
    """Return the base, the same each time."""
    return counting_down(git_base())


def saved(folder: Path) -> Any:
    """Write an adapter that is not at its start any more; return its method."""
    settings = method_class("lora").Settings.model_validate(ARM)
    method = open_method(settings.model_dump(mode="json"))
    model = method.apply(load_model(""), seed=0, heads=(), steps=1, batches=lambda: iter(()))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=1e-3)
    method.save(model, folder)
    return method


def main() -> None:
    cuda = torch.cuda.is_available()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=8 if cuda else 4)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    device = torch.device("cuda" if cuda else "cpu")
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        method = saved(folder)
        beside = PeftModel.from_pretrained(load_model(""), folder).to(device).eval()
        merged = method.load(load_model, "", folder).to(device).eval()
        ours = lightened(method.load(load_model, "", folder)).to(device).eval()
    pack(ours)
    prompt = [CLS, 2000, 2001, SEP + 1 + options.tokens]

    def generate(model: Any, pixels: torch.Tensor) -> list[list[int]]:
        ids = torch.tensor([prompt] * len(pixels), device=device)
        found = model.generate(
            pixel_values=pixels, input_ids=ids, attention_mask=torch.ones_like(ids),
            max_new_tokens=options.tokens + 2, do_sample=False, eos_token_id=SEP, pad_token_id=0,
        )  # fmt: skip
        return [row[: row.index(SEP)] for row in found[:, len(prompt) :].tolist()]

    def ours_writes(pixels: torch.Tensor) -> list[list[int]]:
        stream = list(image_stream(ours, encode_image(ours, pixels)))
        texts = generate_greedy(
            ours, stream, [prompt] * len(pixels), end_token=SEP, max_new_tokens=options.tokens + 2
        )
        return [text.tokens for text in texts]

    sides: dict[str, Callable[[torch.Tensor], list[list[int]]]] = {
        "beside": lambda pixels: generate(beside, pixels),
        "merged": lambda pixels: generate(merged, pixels),
        "ours": ours_writes,
    }
    result: dict[int, Any] = {}
    for batch in BATCHES:
        pixels = torch.randn(batch, 3, SIDE, SIDE, device=device)
        seconds: dict[str, list[float]] = {side: [] for side in sides}
        with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=cuda):
            for number in range(options.rounds + 1):
                texts = {}
                for side, write in sides.items():
                    synchronise(device)
                    start = clock()
                    texts[side] = write(pixels)
                    synchronise(device)
                    if number:  # the first round warms up
                        seconds[side].append(clock() - start)
                assert {len(text) for text in texts["beside"]} == {options.tokens}
                assert texts["beside"] == texts["merged"] == texts["ours"], "other tokens"
                print(f"batch {batch}: {number}/{options.rounds}", file=sys.stderr, flush=True)
        result[batch] = {"seconds": {side: statistics.median(t) for side, t in seconds.items()}} | {
            side: [b / a for a, b in zip(seconds[side], seconds["beside"], strict=True)]
            for side in ("merged", "ours")
        }
    print(json.dumps(result, indent=1))
    if options.write:
        lines = [
            f"## Adapters merged and beside the base ({device.type})",
            "",
            f"{machine(device, options.threads)}. {'bf16' if cuda else 'fp32'}, git-base's shape, "
            f"LoRA of rank 8 on all linear layers, {options.tokens} tokens; "
            "`tests/benchmarks/merged_latency.py` says how.",
            "",
            "| images | `generate`, PEFT beside / merged: median (min to max; rounds) | PEFT "
            "beside / ours, merged | PEFT beside, `generate` merged, ours: seconds |",
            "|---|---|---|---|",
        ]
        for batch, found in result.items():
            ratios = [
                f"**{statistics.median(found[side]):.2f}** ({min(found[side]):.2f} to "
                f"{max(found[side]):.2f}; {len(found[side])})"
                for side in ("merged", "ours")
            ]
            shown = ", ".join(f"{value:.2f}" for value in found["seconds"].values())
            lines.append(f"| {batch} | {ratios[0]} | {ratios[1]} | {shown} |")
        write_section(f"merged {device.type}", "\n".join(lines))


if __name__ == "__main__":
    main()
