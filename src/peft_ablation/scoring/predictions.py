"""What a trained arm writes for the test images, and how likely it finds the references."""

import logging
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from tqdm import tqdm

from peft_ablation.artifacts import write_table
from peft_ablation.bases.cpu_kernels import pack
from peft_ablation.bases.git import Normalize
from peft_ablation.tasks import captioning
from peft_ablation.training.batches import Indices, ordered_batches
from peft_ablation.training.chunk import mixed_precision
from peft_ablation.training.launch import own_devices

log = logging.getLogger(__name__)


def load_trained(model: str | Path, base: str | Path) -> Any:
    """Return the model of a run's `model/` folder, adapters merged into the base."""
    if not Path(model, "adapter_config.json").is_file():
        return captioning.load_model(model)
    from peft import PeftModel

    adapted = PeftModel.from_pretrained(captioning.load_model(base), str(model))
    return adapted.merge_and_unload()


def shuffled_positions(positions: Indices, seed: int) -> Indices:
    """Return the positions permuted so that nobody keeps its own (for two or more)."""
    order = np.random.default_rng(seed).permutation(len(positions))
    result: Indices = np.empty_like(positions)
    result[order] = positions[np.roll(order, 1)]
    return result


@own_devices(1)
def write_predictions(
    *,
    model: str | Path,
    base: str | Path,
    test: str | Path,
    index: str | Path,
    features: str | Path | None,
    settings: Mapping[str, Any],
    batch_size: int,
    max_new_tokens: int,
    num_beams: int,
    shuffle_images: bool,
    seed: int,
    output: str | Path,
) -> None:
    """Write one row a test example: reference, hypothesis and the reference's loss in nats.

    With `shuffle_images` also what is written, and how likely the reference is, when the test
    images are permuted among themselves. `settings` are of `study.Train`. `features` is the cached
    output of a frozen vision tower, in place of pixels.
    """
    torch.set_num_threads(settings["threads"])
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    trained = load_trained(model, base).to(device).eval()
    pack(trained)
    normalize = Normalize.of(base).to(device)
    tokenizer = captioning.load_tokenizer(base)
    images = captioning.ImageSource(index, features)
    rows = captioning.examples(test, images, tokenizer, settings)
    subjects = dict(pl.read_parquet(test, columns=["dicom_id", "subject_id"]).iter_rows())

    def write(positions: Indices, title: str) -> tuple[list[str], list[float]]:
        texts = [""] * len(rows)
        losses = np.zeros(len(rows))
        bf16 = mixed_precision(settings["precision"]) == "bf16"
        # Sorted by the reference's length, the best guess at how long a text will be.
        batches = ordered_batches(rows.lengths, batch_size)
        for indices in tqdm(batches, desc=title, disable=not sys.stderr.isatty()):
            with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=bf16):
                written, nll = captioning.generate(
                    trained,
                    normalize,
                    rows,
                    indices,
                    positions[indices],
                    end_token=tokenizer.sep_token_id,
                    max_new_tokens=max_new_tokens,
                    num_beams=num_beams,
                    device=device,
                )
            losses[indices] = nll.cpu().numpy()
            for place, text in zip(indices, written, strict=True):
                texts[place] = tokenizer.decode(text.tokens, skip_special_tokens=True).strip()
        return texts, losses.tolist()

    hypotheses, nll = write(rows.positions, "generate")
    table = pl.DataFrame(
        {
            "dicom_id": rows.ids,
            "subject_id": [subjects[dicom] for dicom in rows.ids],
            "reference": rows.texts,
            "hypothesis": hypotheses,
            "tokens": pl.Series(rows.lengths - len(rows.prompt), dtype=pl.Int32),
            "nll": nll,
        }
    )
    if shuffle_images:
        texts, losses = write(shuffled_positions(rows.positions, seed), "generate, shuffled images")
        table = table.with_columns(
            pl.Series("hypothesis_shuffled", texts), pl.Series("nll_shuffled", losses)
        )
    write_table(table, output)
    log.info("%d reports written to %s", table.height, output)
