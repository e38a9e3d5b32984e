"""Clean schematic phantoms with captions: what base `phantom` is pre-trained on.

Also those that are held out from it, by which forgetting is measured.
"""

from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from peft_ablation.artifacts import whole_file, write_table
from peft_ablation.data.images import INDEX_SCHEMA, OK
from peft_ablation.sources.mimic.labels import LABELS, NO_FINDING, Mention
from peft_ablation.sources.mimic.reports import TEMPLATES, load_template
from peft_ablation.sources.phantom.anatomy import NOT_MENTIONED, Labels, render

HELD_OUT: Final = 2**32 - 1
"""Stands for the epoch of what no epoch draws."""

_TEMPLATE_SHARES: Final = (0.8, 0.1, 0.1)


def draw_captioned(
    count: int, size: int, seed: int, epoch: int
) -> tuple[npt.NDArray[np.uint8], list[str]]:
    """Return the images uint8 (count, size, size) and captions of an epoch of pre-training."""
    rng = np.random.default_rng([seed, epoch])
    labels = draw_labels(count, rng)
    pixels = render(labels, rng, size, "schematic")
    return pixels, write_reports(labels, rng)


def hold_out(
    count: int,
    *,
    size: int,
    seed: int,
    examples: str | Path,
    index: str | Path,
    pixels: str | Path,
) -> None:
    """Write `count` examples as pre-training draws them, but from a stream that no epoch reads.

    `examples` is an examples table with a column `report`, `index` and `pixels` (`shard-0.npy`
    beside it) are its image cache. The images are new; of the captions, of which the templates
    have some thousands, pre-training has read most.
    """
    drawn, captions = draw_captioned(count, size, seed, HELD_OUT)
    ids = [f"held-out-{number:06}" for number in range(count)]
    write_table(
        pl.DataFrame({"example_id": ids, "group": ids, "split": "test", "report": captions}),
        examples,
    )
    with whole_file(pixels) as part, part.open("wb") as file:
        np.save(file, drawn, allow_pickle=False)
    entries = [(name, 0, row, OK, "") for row, name in enumerate(ids)]
    write_table(pl.DataFrame(entries, schema=INDEX_SCHEMA, orient="row"), index)


def draw_labels(count: int, rng: np.random.Generator) -> Labels:
    """Return labels (count, 14) of one or two mentions each, all labels and values alike.

    Half of the mentions are present, three tenths suspected and a fifth denied; a normal chest
    comes alone.
    """
    labels = np.full((count, len(LABELS)), NOT_MENTIONED, dtype=np.int8)
    pathologies = len(LABELS) - 1
    order = rng.permuted(np.tile(np.arange(pathologies), (count, 1)), axis=1)
    values = rng.choice(
        [Mention.PRESENT, Mention.SUSPECTED, Mention.ABSENT], size=(count, 2), p=[0.6, 0.25, 0.15]
    )
    two = rng.random(count) < 0.6
    rows = np.arange(count)
    labels[rows, order[:, 0]] = values[:, 0]
    labels[rows[two], order[two, 1]] = values[two, 1]
    shown = (labels == Mention.PRESENT) | (labels == Mention.SUSPECTED)
    normal = ~shown.any(axis=1) | (rng.random(count) < 0.06)
    labels[normal] = NOT_MENTIONED
    labels[normal, LABELS.index(NO_FINDING)] = Mention.PRESENT
    return labels


def write_reports(labels: Labels, rng: np.random.Generator) -> list[str]:
    """Return a report for each row, most by the corrected template, some by the others."""
    templates = [load_template(name) for name in TEMPLATES]
    chosen = rng.choice(len(templates), size=len(labels), p=_TEMPLATE_SHARES)
    reports = []
    for row, template in zip(labels.tolist(), chosen.tolist(), strict=True):
        values = {
            label: value for label, value in zip(LABELS, row, strict=True) if value != NOT_MENTIONED
        }
        report = templates[template].render(values) or templates[0].render(values)
        assert report is not None
        reports.append(report)
    return reports
