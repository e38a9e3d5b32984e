"""Writing reports at the real size: ours against transformers' `generate`, taking turns.

    python tests/benchmarks/generate.py [--batch N] [--batches N] [--threads N] [--write]

Both write greedily with a key/value cache, in the same precision, the same tokens (asserted). Two
comparisons: the texts alone, and what the `generate` stage needs, the texts and the references'
losses, where ours encodes each image once and transformers has a call for each. Its batches are
once the same as ours, sorted by length, and once in the order of the data.

Random weights never end a text. So the head is made the embedding table shifted by one: the token
after `n` is `n - 1`, and [SEP] is the token below the first. A prompt's last token then says how
many tokens follow; lengths are those of corrected reports. Shapes, and so costs, are unchanged.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from real_size import (
    SEP,
    git_base,
    machine,
    make_examples,
    synchronise,
    write_section,
)

from peft_ablation.bases.cpu_kernels import pack
from peft_ablation.bases.git import (
    IGNORED,
    encode_image,
    generate_greedy,
    image_stream,
    lightened,
    text_losses,
)
from peft_ablation.bases.pixels import CLIP_MEAN, CLIP_STD, Normalize

clock = time.perf_counter


def counting_down(model: Any) -> Any:
    """Make greedy decoding count down to [SEP]: every token is followed by the one below it."""
    with torch.no_grad():
        words = model.git.embeddings.word_embeddings.weight
        model.output.weight.copy_(words.roll(-1, 0))
        model.output.bias.zero_()
    return model.eval()


def main() -> None:
    cuda = torch.cuda.is_available()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=64 if cuda else 8)
    parser.add_argument("--batches", type=int, default=8 if cuda else 4)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    device = torch.device("cuda" if cuda else "cpu")
    theirs = counting_down(git_base()).to(device)
    ours = lightened(counting_down(git_base())).to(device)
    pack(ours)
    normalize = Normalize(CLIP_MEAN, CLIP_STD).to(device)
    examples = make_examples(options.batch * options.batches)
    count = len(examples)
    lengths = examples.lengths - len(examples.prompt) - 1
    pixels = normalize(examples.images[np.arange(count)].to(device))
    prompts = [[*examples.prompt[:-1], SEP + 1 + int(length)] for length in lengths]
    most = int(lengths.max()) + 2

    def references(rows: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        batch = examples.batch(rows)
        return batch["input_ids"].to(device), batch["labels"].to(device)

    def we(rows: np.ndarray, losses: bool) -> list[list[int]]:
        images = list(image_stream(ours, encode_image(ours, pixels[rows])))
        if losses:
            text_losses(ours, images, *references(rows))
        written = generate_greedy(
            ours, images, [prompts[row] for row in rows], end_token=SEP, max_new_tokens=most
        )
        return [text.tokens for text in written]

    def they(rows: np.ndarray, losses: bool) -> list[list[int]]:
        if losses:
            ids, labels = references(rows)
            real = (ids != 0).long()
            logits = theirs(
                input_ids=ids, attention_mask=real, pixel_values=pixels[rows], use_cache=False
            ).logits[:, -ids.shape[1] : -1]
            torch.nn.functional.cross_entropy(
                logits.transpose(1, 2).float(), labels[:, 1:], reduction="none",
                ignore_index=IGNORED,
            ).sum(1)  # fmt: skip
        ids = torch.tensor([prompts[row] for row in rows], device=device)
        found = theirs.generate(
            pixel_values=pixels[rows], input_ids=ids, attention_mask=torch.ones_like(ids),
            max_new_tokens=most, do_sample=False, use_cache=True, eos_token_id=SEP, pad_token_id=0,
        )  # fmt: skip
        texts = [row[: row.index(SEP)] for row in found[:, ids.shape[1] :].tolist()]
        return texts

    ordered = np.argsort(lengths, kind="stable")
    chunk = range(0, count, options.batch)
    same = [ordered[i : i + options.batch] for i in chunk]
    plain = [np.arange(i, i + options.batch) for i in chunk]
    result: dict[str, Any] = {}
    with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=cuda):
        we(same[0], True), they(same[0], True)  # warm-up
        for name, losses in (("texts", False), ("texts and losses", True)):
            sides: dict[str, tuple[Callable[[np.ndarray, bool], Any], list[np.ndarray]]] = {
                "ours": (we, same), "sorted": (they, same), "unsorted": (they, plain),
            }  # fmt: skip
            seconds: dict[str, list[float]] = {side: [] for side in sides}
            for number in range(len(same)):
                texts = {}
                for side, (write, batches) in sides.items():
                    synchronise(device)
                    start = clock()
                    texts[side] = write(batches[number], losses)
                    synchronise(device)
                    seconds[side].append(clock() - start)
                assert [len(text) for text in texts["ours"]] == lengths[same[number]].tolist()
                assert cuda or texts["ours"] == texts["sorted"], "other tokens"
                told = "  ".join(f"{side} {times[-1]:.2f} s" for side, times in seconds.items())
                print(f"{name} {number + 1}/{len(same)}: {told}", file=sys.stderr, flush=True)
            pairs = [b / a for a, b in zip(seconds["ours"], seconds["sorted"], strict=True)]
            result[name] = {
                "ratio_median": statistics.median(pairs),
                "ratio_min": min(pairs),
                "ratio_max": max(pairs),
                "ratio_unsorted": sum(seconds["unsorted"]) / sum(seconds["ours"]),
                "pairs": len(pairs),
                "ours_per_s": count / sum(seconds["ours"]),
                "sorted_per_s": count / sum(seconds["sorted"]),
                "ours_tokens_per_s": int(lengths.sum()) / sum(seconds["ours"]),
            }
    print(json.dumps(result, indent=1))
    if options.write:
        lines = [
            f"## Generation ({device.type})",
            "",
            f"{machine(device, options.threads)}. {'bf16' if cuda else 'fp32'}, batch "
            f"{options.batch}, greedy, reports of {lengths.min()} to {lengths.max()} tokens, "
            f"{lengths.mean():.0f} on average; `tests/benchmarks/generate.py` says how.",
            "",
            "| what | `generate`, same sorted batches / ours: median (min to max; pairs) | in the "
            "order of the data / ours | ours: images/s, tokens/s | `generate`: images/s |",
            "|---|---|---|---|---|",
        ]
        for name, found in result.items():
            lines.append(
                f"| {name} | **{found['ratio_median']:.2f}** ({found['ratio_min']:.2f} to "
                f"{found['ratio_max']:.2f}; {found['pairs']}) | {found['ratio_unsorted']:.2f} | "
                f"{found['ours_per_s']:.3g}, {found['ours_tokens_per_s']:.3g} | "
                f"{found['sorted_per_s']:.3g} |"
            )
        write_section(f"generate {device.type}", "\n".join(lines))


if __name__ == "__main__":
    main()
