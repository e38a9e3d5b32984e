"""Where a vision transformer looks, before and after fine-tuning. For public data alone."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl
import torch
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure
from numpy.typing import NDArray

from peft_ablation.data.images import ImageCache
from peft_ablation.figures.for_task import FigureInputs
from peft_ablation.figures.style import FAINT, broken, house_style, new_figure, write_figure
from peft_ablation.methods import open_method
from peft_ablation.tasks import open_task
from peft_ablation.tasks.image_classification.model import normalize_of
from peft_ablation.tasks.image_classification.pictures_figure import drawn_rows

PICTURES: Final = 4
PANEL: Final = 1.15
"""Side of a panel, in inches."""
SIGNS: Final = 18
"""Most signs of a line above a panel."""
NOTHING: Final = "No model of this study has a class token that attends to patches."

Maps = NDArray[np.float32]


def plot_attention(given: FigureInputs, outputs: Sequence[str | Path]) -> None:
    """Draw the attention of the bases and of each arm to the same test images.

    Models without a class token (a ResNet, a Swin) are left out.
    """
    task = open_task(given.task, given.train)
    first = pl.read_parquet(next(iter(given.predictions.values())))
    rows = drawn_rows(first.height, PICTURES, given.seed)
    ids = first["example_id"].gather(rows).to_list()
    cache = ImageCache(given.assets["images"])
    pixels = cache.pixels(cache.position(ids))
    found: dict[str, Maps | None] = {}
    bases = sorted({str(base) for base in given.bases.values()})
    for base in bases:
        name = "base" if len(bases) == 1 else f"base {Path(base).name}"
        found[name] = attention_to_patches(task.load_model(base), base, pixels)
    for arm, folder in given.models.items():
        method = open_method(given.arms[arm])
        if method.trains:
            model = method.load(task.load_model, given.bases[arm], folder)
            found[arm] = attention_to_patches(model, given.bases[arm], pixels)
    maps = {name: heat for name, heat in found.items() if heat is not None}
    draw_attention(pixels, ids, first["label"].gather(rows).to_list(), maps, outputs)


@torch.no_grad()
def attention_to_patches(model: Any, base: str | Path, pixels: NDArray[np.uint8]) -> Maps | None:
    """Return the class token's attention to each patch in the last layer, (N, side, side).

    Mean over heads, times the number of patches: 1 everywhere would be attention to all alike.
    None where the model has no class token in front of a square of patches.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    own = model.get_base_model() if hasattr(model, "get_base_model") else model
    config = getattr(own.config, "vision_config", own.config)
    size, patch = getattr(config, "image_size", None), getattr(config, "patch_size", None)
    if not isinstance(size, int) or not isinstance(patch, int):
        return None
    # Fused attention has no weights to show.
    own.set_attn_implementation("eager")
    own.to(device).eval()
    image = normalize_of(base).to(device)(torch.from_numpy(pixels).to(device))
    output = own(pixel_values=image, output_attentions=True)
    attentions = getattr(output, "attentions", None)
    side = pixels.shape[1] // patch
    if not attentions or not _has_class_token(attentions[-1], side * side):
        return None
    weights = attentions[-1].float().mean(1)[:, 0, -side * side :] * side * side
    heat: Maps = weights.view(-1, side, side).cpu().numpy()
    return heat


def _has_class_token(weights: torch.Tensor, patches: int) -> bool:
    """Tell whether attention (B, heads, T, T) is that of tokens in front of all patches."""
    return weights.dim() == 4 and weights.shape[2] == weights.shape[3] > patches


def draw_attention(
    pixels: NDArray[np.uint8],
    ids: Sequence[str],
    labels: Sequence[str],
    maps: Mapping[str, Maps],
    outputs: Sequence[str | Path],
) -> None:
    """Draw N images, and over each the attention of each model (N, side, side), side by side.

    One scale of colours serves an image's row, so that models can be compared.
    """
    frames = [
        pl.DataFrame(
            {
                "example_id": ids[image],
                "model": name,
                "patch_row": np.repeat(np.arange(len(heat)), len(heat)),
                "patch_column": np.tile(np.arange(len(heat)), len(heat)),
                "attention": heat.ravel(),
            }
        )
        for image in range(len(ids))
        for name, heat in ((name, found[image]) for name, found in maps.items())
    ]
    schema = {"example_id": pl.String, "model": pl.String, "attention": pl.Float32}
    with house_style():
        figure = _panels(pixels, labels, maps) if maps else _empty()
        write_figure(figure, pl.concat(frames) if frames else pl.DataFrame(schema=schema), outputs)


def _panels(pixels: NDArray[np.uint8], labels: Sequence[str], maps: Mapping[str, Maps]) -> Figure:
    side = pixels.shape[1]
    grey = pixels.mean(axis=-1) if pixels.ndim == 4 else pixels
    columns = 1 + len(maps)
    figure = new_figure(columns * PANEL + 0.7, len(pixels) * PANEL + 0.3)
    panels = figure.subplots(len(pixels), columns, squeeze=False)
    for image, row in enumerate(panels):
        highest = max(2.0, *(float(heat[image].max()) for heat in maps.values()))
        # White where all patches are attended to alike.
        scale = TwoSlopeNorm(1, 0, highest)
        row[0].imshow(pixels[image], cmap="gray", vmin=0, vmax=255)
        row[0].set_title(labels[image], fontsize=7, pad=2)
        for axes, (name, heat) in zip(row[1:], maps.items(), strict=True):
            axes.imshow(grey[image], cmap="gray", vmin=0, vmax=255)
            drawn = axes.imshow(
                heat[image], cmap="RdBu_r", norm=scale, alpha=0.6,
                extent=(-0.5, side - 0.5, side - 0.5, -0.5), interpolation="nearest",
            )  # fmt: skip
            if image == 0:
                axes.set_title(broken(name, SIGNS), fontsize=7, pad=2)
        bar = figure.colorbar(drawn, ax=list(row[1:]), pad=0.01, fraction=0.05)
        bar.set_ticks([0, 1, highest], labels=["0", "1", f"{highest:.1f}"])
        if bar.solids is not None:
            bar.solids.set_alpha(1)
        bar.ax.tick_params(labelsize=6, length=2)
        bar.outline.set_visible(False)
        for axes in row:
            axes.set(xticks=[], yticks=[])
            axes.set_frame_on(False)
    return figure


def _empty() -> Figure:
    figure = new_figure(5, 0.6)
    figure.text(0.5, 0.5, NOTHING, ha="center", va="center", color=FAINT)
    return figure
