"""What tasks with images share: a control, how near two images are, which a base takes."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from peft_ablation.artifacts import read_json
from peft_ablation.errors import InputError
from peft_ablation.tasks import Control

if TYPE_CHECKING:
    import polars as pl

    from peft_ablation.data.images import ImageCache

NEAR: Final = 32
"""Side in pixels at which images are compared."""

ONE_SIZE: Final = frozenset(
    ("clip", "deit", "hiera", "ijepa", "metaclip_2", "pvt", "siglip", "vit", "vit_msn")
)
"""`model_type` of bases whose positions fit one image size; the others take any."""


def mean_image(train: "pl.DataFrame") -> Control:
    """Return the control that gives every example the mean image of the training split."""
    return Control(
        "mean image",
        "every test image is replaced by the mean of the training images; what is left needs no "
        "image at all",
        lambda examples, _: examples.with_mean_image(train["example_id"].to_list()),
    )


def check_images(cache: "ImageCache", base: str | Path) -> None:
    """Raise `InputError` where a base does not take images of the cache's size."""
    config: dict[str, Any] = read_json(Path(base, "config.json"))
    own = config.get("encoder", config.get("vision_config", config))
    if own.get("num_channels", 3) != 3:
        raise InputError(
            f"base {base}: takes images of {own['num_channels']} channels, expected 3; choose "
            "another base"
        )
    size = own.get("image_size")
    sides = set(size) if isinstance(size, list) else {size}
    kinds = {config.get("model_type"), own.get("model_type")}
    if kinds & ONE_SIZE and size is not None and sides != {cache.size}:
        wanted = " x ".join(str(side) for side in (size if isinstance(size, list) else [size] * 2))
        raise InputError(
            f"images.size: is {cache.size}, but {base} takes images of {wanted} pixels; set "
            f"images.size: {max(sides)}"
        )
