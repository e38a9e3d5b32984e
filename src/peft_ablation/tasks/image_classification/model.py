"""An image classifier of transformers: its head, loss, predictions and frozen part."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from peft_ablation.artifacts import read_json
from peft_ablation.bases.classifier import load_classifier
from peft_ablation.bases.cpu_kernels import pack
from peft_ablation.bases.pixels import (
    CLIP_MEAN,
    CLIP_STD,
    IMAGENET_MEAN,
    IMAGENET_STD,
    Normalize,
)
from peft_ablation.data.examples import Indices
from peft_ablation.tasks.image_classification.examples import ImageExamples

HEAD: Final = "classifier"


def load_model(folder: str | Path, classes: Sequence[str] | None = None) -> Any:
    """Return the classifier of a local folder, in float32, on the CPU.

    A head of other classes than `classes` is made anew; see `load_classifier`.
    """
    from transformers import AutoConfig, AutoModelForImageClassification

    config = AutoConfig.from_pretrained(folder, local_files_only=True)
    return load_classifier(AutoModelForImageClassification, config, folder, (HEAD,), classes)


def head_of(model: Any) -> nn.Module:
    """Return the head of a possibly PEFT-wrapped classifier."""
    head: nn.Module = getattr(
        model.get_base_model() if hasattr(model, "get_base_model") else model, HEAD
    )
    return head


def normalize_of(base: str | Path) -> Normalize:
    """Return the normalisation that a base says; where it says none, CLIP's or ImageNet's."""
    config = Path(base, "config.json")
    if config.is_file() and read_json(config).get("model_type") == "clip":
        return Normalize.of(base, CLIP_MEAN, CLIP_STD)
    return Normalize.of(base, IMAGENET_MEAN, IMAGENET_STD)


def class_logits(model: Any, normalize: Normalize, image: Tensor) -> Tensor:
    """Return logits (B, K) of uint8 pixels, or of the head's cached input."""
    if image.dtype == torch.uint8:
        logits: Tensor = model(pixel_values=normalize(image)).logits
    else:
        logits = head_of(model)(image)
    return logits


class SummedLoss(nn.Module):
    """Sum of the cross entropies of a batch; the module that data-parallel training wraps."""

    def __init__(self, model: nn.Module, base: str | Path) -> None:
        """Wrap a (PEFT) classifier; pixels are normalised as `base` says."""
        super().__init__()
        self.model = model
        self.normalize = normalize_of(base)

    counts: ClassVar[tuple[str, ...]] = ("accuracy",)

    def forward(self, image: Tensor, label: Tensor) -> Tensor:
        """Return the summed loss in nats; `image` is pixels or features, `label` (B,) int64."""
        return self._loss(class_logits(self.model, self.normalize, image), label)

    def counted(self, image: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        """Return the summed loss, and how many images are told right."""
        logits = class_logits(self.model, self.normalize, image)
        return self._loss(logits, label), (logits.argmax(-1) == label).sum()

    def _loss(self, logits: Tensor, label: Tensor) -> Tensor:
        return functional.cross_entropy(logits.float(), label, reduction="sum")


class ClassPredictor:
    """Tells the class of images, how sure it is, and how likely it found the true one."""

    def __init__(
        self, model: Any, base: str | Path, device: torch.device, classes: Sequence[str]
    ) -> None:
        """Take a trained model whose outputs are in the order of `classes`."""
        self.model, self.device = model.to(device).eval(), device
        self.classes = list(classes)
        pack(self.model)
        self.normalize = normalize_of(base).to(device)

    def truth(self, examples: ImageExamples) -> Mapping[str, Sequence[Any]]:
        """Return the true classes by name."""
        return {"label": examples.labels}

    def __call__(self, examples: ImageExamples, indices: Indices) -> Mapping[str, Sequence[Any]]:
        """Return `predicted`, its `probability`, and `nll` of the true class in nats."""
        batch = {k: v.to(self.device) for k, v in examples.batch(indices).items()}
        logits = class_logits(self.model, self.normalize, batch["image"]).double()
        # One image for all has one row.
        logits = logits.expand(len(indices), -1)
        probability, place = logits.softmax(-1).max(-1)
        nll = functional.cross_entropy(logits, batch["label"], reduction="none")
        return {
            "predicted": [self.classes[index] for index in place.tolist()],
            "probability": probability.tolist(),
            "nll": nll.tolist(),
        }


class PooledFeatures:
    """All of a base but its head, for arms that train the head alone."""

    dtype = np.float32
    """As the head reads them, a few kilobytes an image: nothing is lost to rounding."""

    def __init__(
        self,
        base: str | Path,
        device: torch.device,
        load: Callable[[str | Path], Any] = load_model,
    ) -> None:
        """Load the base by `load` for prediction on `device`; its head is what it may be."""
        self.device = device
        self.model = load(base).to(device).eval()
        pack(self.model)
        self.normalize = normalize_of(base).to(device)
        head_of(self.model).register_forward_pre_hook(self._keep)
        self._kept: Tensor | None = None

    def _keep(self, _: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        (self._kept,) = inputs

    def __call__(self, pixels: NDArray[np.uint8]) -> Tensor:
        """Return what the head would be given, (N, …), of pixels (N, H, W) or (N, H, W, 3)."""
        self.model(pixel_values=self.normalize(torch.from_numpy(pixels).to(self.device)))
        assert self._kept is not None
        return self._kept
