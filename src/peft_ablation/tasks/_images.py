"""What tasks with images share: a control, and how near two images are."""

from typing import TYPE_CHECKING, Final

from peft_ablation.tasks import Control

if TYPE_CHECKING:
    import polars as pl

NEAR: Final = 32
"""Side in pixels at which images are compared."""


def mean_image(train: "pl.DataFrame") -> Control:
    """Return the control that gives every example the mean image of the training split."""
    return Control(
        "mean image",
        "every test image is replaced by the mean of the training images; what is left needs no "
        "image at all",
        lambda examples, _: examples.with_mean_image(train["example_id"].to_list()),
    )
