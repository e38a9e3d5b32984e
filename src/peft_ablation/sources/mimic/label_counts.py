"""How many images have each label, from all images through the sample to the splits."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import polars as pl

from peft_ablation.figures.style import (
    Look,
    house_style,
    legend_below,
    new_figure,
    rows_of_names,
    write_figure,
)
from peft_ablation.sources.mimic.labels import LABELS, Mention, display_name

STAGES: Final = {
    "all": "all images",
    "sampled": "sampled",
    "train": "training",
    "val": "validation",
    "test": "test",
}


def plot_label_counts(
    all_images: str | Path,
    sampled: str | Path,
    splits: Sequence[str | Path],
    *,
    outputs: Sequence[str | Path],
) -> None:
    """Draw the images with each label present, of five tables; `splits`: train, val, test.

    The CSV has one row a stage and label: `stage`, `images` (of the stage), `label`, `present`,
    `absent`, `suspected`, `unmentioned`.
    """
    paths = dict(zip(STAGES, (all_images, sampled, *splits), strict=True))
    counts = pl.concat(_counts(stage, path) for stage, path in paths.items())
    everything = counts.filter(pl.col("stage") == "all")
    # Python's sort is stable: labels with one number of images stay in the order of `LABELS`.
    order = sorted(
        LABELS,
        key=lambda label: -everything.filter(pl.col("label") == label)["present"].item(),
    )
    look = Look(STAGES)
    with house_style():
        figure = new_figure(7.5, 5.2)
        axis = figure.subplots()
        for stage in STAGES:
            present = dict(
                counts.filter(pl.col("stage") == stage).select("label", "present").iter_rows()
            )
            axis.plot(
                [present[label] for label in order],
                range(len(order)),
                look.marker(stage),
                color=look.colour(stage),
                # A ring around the others: a sample may take all there are.
                **({"ms": 10, "mfc": "none", "mew": 1.5} if stage == "all" else {"ms": 6}),
                label=f"{STAGES[stage]} ({_images(counts, stage):,})",
            )
        if counts["present"].min():
            axis.set_xscale("log")
        else:
            # Linear below one, so that a label without any image stands at 0.
            axis.set_xscale("symlog", linthresh=1)
            axis.set_xlim(left=-0.15)
        axis.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        rows_of_names(axis, [display_name(label) for label in order])
        axis.grid(visible=True, axis="y")
        axis.set_xlabel("Images with the label present (log scale)")
        legend_below(figure, *axis.get_legend_handles_labels(), 100)
        write_figure(figure, counts, outputs)


def _images(counts: pl.DataFrame, stage: str) -> int:
    return int(counts.filter(pl.col("stage") == stage)["images"][0])


def _counts(stage: str, path: str | Path) -> pl.DataFrame:
    table = pl.read_parquet(path, columns=list(LABELS))
    return pl.DataFrame(
        [
            {
                "stage": stage,
                "images": table.height,
                "label": label,
                **{
                    mention.name.lower(): int((table[label] == mention).sum())
                    for mention in sorted(Mention, reverse=True)
                },
                "unmentioned": table[label].null_count(),
            }
            for label in LABELS
        ]
    )
