"""A tiny GIT that has seen chests before: the base of studies that run on two CPU cores.

LoRA adapts what is there: it cannot teach a frozen head new words, and a model without grounding
learns the text alone. So the base is trained on clean schematic phantoms, one or two findings
each, until what it says depends on what it sees; fine-tuning then brings another kind of image and
whole reports. Sizes and schedule: measured for this project, `initializer_range` 0.05 and a peak of
1e-3 ground the model where 0.02 and 2e-3 do not.
"""

import logging
import string
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from tqdm import tqdm

from peft_ablation.artifacts import whole_folder, write_json
from peft_ablation.bases.git import (
    IGNORED,
    encode_image,
    image_stream,
    supervised_losses,
)
from peft_ablation.bases.pixels import Normalize
from peft_ablation.bases.schematic import draw_captioned
from peft_ablation.logs import bars_hidden
from peft_ablation.sources.mimic.reports import TEMPLATES, load_template, normalise

log = logging.getLogger(__name__)

SPECIAL_TOKENS: Final = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
"""In the order of their ids; 0 is padding."""

MAX_POSITIONS: Final = 512
"""Longest text, in tokens, that the base can be given."""

PIXEL_MEAN: Final = 0.35
PIXEL_STD: Final = 0.25


def template_words() -> list[str]:
    """Return every word and mark of every template's sentences, lower case, sorted."""
    words: set[str] = set()
    for name in TEMPLATES:
        template = load_template(name)
        sentences = [
            *template.sentences.values(),
            *template.beside_findings.values(),
            template.unmentioned,
        ]
        words.update(*(normalise(sentence).split() for sentence in sentences if sentence))
    return sorted(words)


def make_tokenizer(prompt: str) -> Any:
    """Return an uncased WordPiece tokenizer: words of templates and prompt, then single letters.

    A word that is not in the vocabulary is spelt out, so that no text becomes `[UNK]` unless it
    holds marks beyond ASCII.
    """
    from transformers import BertTokenizerFast

    known = dict.fromkeys(SPECIAL_TOKENS)
    known |= dict.fromkeys([*string.ascii_lowercase, *string.digits, *string.punctuation])
    known |= dict.fromkeys(f"##{mark}" for mark in (*string.ascii_lowercase, *string.digits))
    known |= dict.fromkeys(template_words())
    known |= dict.fromkeys(normalise(prompt).split())
    vocabulary = {token: index for index, token in enumerate(known)}
    return BertTokenizerFast(vocab=vocabulary, do_lower_case=True, model_max_length=MAX_POSITIONS)


def build_model(
    tokenizer: Any,
    *,
    image_size: int,
    patch_size: int,
    hidden_size: int,
    vision_layers: int,
    text_layers: int,
    attention_heads: int,
) -> Any:
    """Return an untrained `GitForCausalLM` of these sizes for `tokenizer`."""
    from transformers import GitConfig, GitForCausalLM

    shared: dict[str, Any] = {
        "hidden_size": hidden_size,
        "intermediate_size": 4 * hidden_size,
        "num_attention_heads": attention_heads,
        "initializer_range": 0.05,
    }
    config = GitConfig(
        vision_config={
            **shared,
            "num_hidden_layers": vision_layers,
            "image_size": image_size,
            "patch_size": patch_size,
        },
        **shared,
        num_hidden_layers=text_layers,
        vocab_size=len(tokenizer),
        max_position_embeddings=MAX_POSITIONS,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.cls_token_id,
        eos_token_id=tokenizer.sep_token_id,
        tie_word_embeddings=False,
    )
    return GitForCausalLM(config)


def pretrain_phantom_base(
    output: str | Path,
    *,
    prompt: str,
    threads: int,
    images: int,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    image_size: int,
    patch_size: int,
    hidden_size: int,
    vision_layers: int,
    text_layers: int,
    attention_heads: int,
    seed: int,
) -> None:
    """Pre-train the base and write it to the folder `output`, whole or not at all.

    `images` schematic phantoms are drawn afresh in each epoch; nothing of a study's data is seen.
    The folder holds config, weights (safetensors), tokenizer and image preprocessing, as
    `from_pretrained` reads them, and `base.json` with what it was made by. On a CPU the same
    arguments give the same weights, `threads` among them.
    """
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    tokenizer = make_tokenizer(prompt)
    model = build_model(
        tokenizer,
        image_size=image_size,
        patch_size=patch_size,
        hidden_size=hidden_size,
        vision_layers=vision_layers,
        text_layers=text_layers,
        attention_heads=attention_heads,
    ).to(device)
    normalize = Normalize((PIXEL_MEAN,) * 3, (PIXEL_STD,) * 3).to(device)
    steps = epochs * -(-images // batch_size)
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=steps)
    start = [tokenizer.cls_token_id, *tokenizer.encode(prompt, add_special_tokens=False)]
    batches = _batches(tokenizer, start, images, epochs, batch_size, image_size, seed)
    model.train()
    loss_of_epoch: list[float] = []
    history = []
    progress = tqdm(
        batches, total=steps, desc="pretrain_phantom_base", unit="step", disable=bars_hidden()
    )
    for step, (pixels, ids, labels) in enumerate(progress, start=1):
        stream = image_stream(model, encode_image(model, normalize(pixels.to(device))))
        losses, _ = supervised_losses(model, stream, ids.to(device), labels.to(device))
        loss = losses.mean()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad(set_to_none=True)
        loss_of_epoch.append(loss.item())
        progress.set_postfix(loss=f"{loss_of_epoch[-1]:.3f}", refresh=False)
        if step % (steps // epochs) == 0:
            history.append(float(np.mean(loss_of_epoch)))
            log.info("epoch %d of %d: loss %.4f", len(history), epochs, history[-1])
            loss_of_epoch.clear()
    with whole_folder(output) as folder:
        _write_base(folder, model.cpu(), tokenizer, image_size)
        write_json(
            folder / "base.json",
            {
                "id": "phantom",
                "prompt": prompt,
                "seed": seed,
                "images": images * epochs,
                "loss_by_epoch": history,
            },
        )


def _batches(
    tokenizer: Any,
    start: Sequence[int],
    images: int,
    epochs: int,
    batch_size: int,
    image_size: int,
    seed: int,
) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Yield pixels uint8 (B, H, W), token ids and labels int64 (B, T), epoch after epoch."""
    for epoch in range(epochs):
        drawn, captions = draw_captioned(images, image_size, seed, epoch)
        pixels = torch.from_numpy(drawn)
        texts = tokenizer(captions, add_special_tokens=False)["input_ids"]
        rows = [[*start, *text, tokenizer.sep_token_id] for text in texts]
        for begin in range(0, images, batch_size):
            part = rows[begin : begin + batch_size]
            longest = max(map(len, part))
            ids = torch.tensor([row + [0] * (longest - len(row)) for row in part])
            supervised = torch.tensor([row + [IGNORED] * (longest - len(row)) for row in part])
            supervised[:, : len(start)] = IGNORED
            yield pixels[begin : begin + batch_size], ids, supervised


def _write_base(folder: Path, model: Any, tokenizer: Any, image_size: int) -> None:
    model.generation_config.max_new_tokens = MAX_POSITIONS // 2
    model.save_pretrained(folder)
    (folder / "model.safetensors").chmod(0o644)  # written for its owner alone
    tokenizer.save_pretrained(folder)
    size = {"height": image_size, "width": image_size}
    write_json(
        folder / "preprocessor_config.json",
        {
            "crop_size": size,
            "do_center_crop": True,
            "do_convert_rgb": True,
            "do_normalize": True,
            "do_rescale": True,
            "do_resize": True,
            "image_mean": [PIXEL_MEAN] * 3,
            "image_processor_type": "CLIPImageProcessor",
            "image_std": [PIXEL_STD] * 3,
            "processor_class": "GitProcessor",
            "resample": 3,
            "rescale_factor": 1 / 255,
            "size": {"shortest_edge": image_size},
        },
    )
