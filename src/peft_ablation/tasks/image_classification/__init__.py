"""Image classification: an image, one of K classes. Any image classifier of transformers."""

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pydantic import Field, model_validator

from peft_ablation.config.section import Section
from peft_ablation.tasks import Baseline, Claim, Control, Figure, Lookup, Task, TaskSettings
from peft_ablation.tasks._images import NEAR, mean_image
from peft_ablation.tasks._labels import classes_of, majority

if TYPE_CHECKING:
    import polars as pl
    import torch
    from torch import Tensor, nn

    from peft_ablation.metrics.metric import Breakdown, Metric
    from peft_ablation.tasks.image_classification.examples import ImageExamples
    from peft_ablation.tasks.image_classification.model import ClassPredictor, PooledFeatures


class Augment(Section):
    """How training images are changed at random, each by a draw of its own."""

    flip: bool = False
    """Mirror every second image, left to right."""
    shift: int = Field(0, ge=0)
    """Move by up to so many pixels in each direction; the border is repeated."""
    crop: int | None = Field(None, ge=1)
    """Pad with so many black pixels and cut out the size again: a shift that brings in black."""

    @model_validator(mode="after")
    def _moves_once(self) -> Self:
        if self.shift and self.crop:
            raise ValueError("shift and crop both move the image: set one of them")
        return self


class Settings(TaskSettings):
    """Which classes there are, and what happens to training images."""

    classes: tuple[str, ...] | None = Field(None, min_length=2)
    """Labels in the order of the model's outputs; null: those of the training split, sorted."""
    augment: Augment = Augment()

    @model_validator(mode="after")
    def _classes_differ(self) -> Self:
        if self.classes is not None and len(set(self.classes)) < len(self.classes):
            raise ValueError("classes: a class is named twice")
        return self


class ImageClassification(Task):
    """The class of an image."""

    Settings = Settings
    columns = ("image", "label")
    truth = ("label",)
    images = True
    architectures: ClassVar[Mapping[str, str]] = {
        "beit": "BeitForImageClassification",
        "bit": "BitForImageClassification",
        "clip": "CLIPForImageClassification",
        "convnext": "ConvNextForImageClassification",
        "convnextv2": "ConvNextV2ForImageClassification",
        "cvt": "CvtForImageClassification",
        "data2vec-vision": "Data2VecVisionForImageClassification",
        "deit": "DeiTForImageClassification",
        "dinov2": "Dinov2ForImageClassification",
        "dinov2_with_registers": "Dinov2WithRegistersForImageClassification",
        "donut-swin": "DonutSwinForImageClassification",
        "efficientnet": "EfficientNetForImageClassification",
        "focalnet": "FocalNetForImageClassification",
        "hiera": "HieraForImageClassification",
        "ijepa": "IJepaForImageClassification",
        "metaclip_2": "MetaClip2ForImageClassification",
        "mobilenet_v1": "MobileNetV1ForImageClassification",
        "mobilenet_v2": "MobileNetV2ForImageClassification",
        "mobilevit": "MobileViTForImageClassification",
        "mobilevitv2": "MobileViTV2ForImageClassification",
        "poolformer": "PoolFormerForImageClassification",
        "pvt": "PvtForImageClassification",
        "pvt_v2": "PvtV2ForImageClassification",
        "regnet": "RegNetForImageClassification",
        "resnet": "ResNetForImageClassification",
        "segformer": "SegformerForImageClassification",
        "siglip": "SiglipForImageClassification",
        "swin": "SwinForImageClassification",
        "swinv2": "Swinv2ForImageClassification",
        "vit": "ViTForImageClassification",
        "vit_msn": "ViTMSNForImageClassification",
    }
    """Those whose head is `classifier`, one linear layer of the pooled features; transformers has
    a few with other heads (LeViT, Perceiver, SwiftFormer), and some that need further libraries."""
    frozen_part = ("*",)
    heads = ("classifier",)
    example = "image"
    hub_kind = "image-classification"
    headline = "accuracy"
    claims = (Claim("accuracy", "majority"),)
    nearest = Lookup(
        "class of the nearest training image",
        f"of all training images the one at the least distance, pixel by pixel at {NEAR} x {NEAR} "
        "in grey, gives its class",
    )
    floor = "majority"
    figures: ClassVar[Mapping[str, Figure]] = {
        "confusion": Figure(
            "Confusion of classes",
            "../report/confusion.rst",
            "peft_ablation.tasks.image_classification.confusion_figure:plot_confusion",
        ),
        "pictures": Figure(
            "Images and classes",
            "../report/pictures.rst",
            "peft_ablation.tasks.image_classification.pictures_figure:plot_pictures",
            public_only=True,
        ),
        "attention": Figure(
            "Attention to images",
            "../report/attention.rst",
            "peft_ablation.tasks.image_classification.attention_figure:plot_attention",
            public_only=True,
            needs_model=True,
        ),
    }

    @classmethod
    def changes_inputs(cls, settings: Mapping[str, Any]) -> bool:
        """Tell whether training images are changed at random."""
        return any(settings["augment"].values())

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """The classes in the order of the model's outputs.

        Raises `InputError` where `task.classes` are not those of the training split.
        """
        return classes_of(self.train["label"], self.settings["classes"], self.example)

    @property
    def metrics(self) -> "tuple[Metric, ...]":
        """Accuracy, macro F1, loss and calibration."""
        from peft_ablation.metrics.classes import class_metrics

        return class_metrics(self.classes)

    def baselines(self) -> Mapping[str, Baseline]:
        """Return the commonest class of the training split; of equal ones, the first by name."""
        return {"majority": majority(self.train["label"])}

    def look_up(self, test: "pl.DataFrame", assets: Mapping[str, str | Path]) -> "pl.DataFrame":
        """Return the class of the training image that is nearest to each test image."""
        from peft_ablation.tasks._nearest import by_image

        return by_image(assets["images"], self.train, test, {"predicted": "label"})

    @classmethod
    def told(cls, settings: Mapping[str, Any]) -> tuple[str, ...]:
        """A class is told."""
        return ("class",)

    def breakdowns(self) -> "Mapping[str, Breakdown]":
        """Return the F1 of each class."""
        from peft_ablation.metrics.classes import class_breakdown

        return {"class": class_breakdown(self.classes)}

    def details(self, predictions: "pl.DataFrame") -> dict[str, Any]:
        """Return scores by class and the confusion matrix."""
        from peft_ablation.metrics.classes import class_details

        return class_details(predictions, self.classes)

    def load_model(self, folder: str | Path) -> Any:
        """Return the classifier of a local folder; a head for other classes is made anew."""
        from peft_ablation.tasks.image_classification.model import load_model

        return load_model(folder, self.classes)

    def examples(
        self, table: str | Path, assets: Mapping[str, str | Path], base: str | Path
    ) -> "ImageExamples":
        """Return the labelled images of a split."""
        from peft_ablation.data.image_source import ImageSource
        from peft_ablation.tasks.image_classification.examples import examples

        images = ImageSource(assets["images"], assets.get("features"))
        return examples(table, images, self.classes, base)

    def loss_module(self, model: "nn.Module", base: str | Path) -> "nn.Module":
        """Return the summed cross entropy."""
        from peft_ablation.tasks.image_classification.model import SummedLoss

        return SummedLoss(model, base)

    def augment(self, batch: "dict[str, Tensor]") -> "dict[str, Tensor]":
        """Change each image of a micro-batch by its own draw; cached features stay."""
        from peft_ablation.tasks.image_classification.augment import augmented

        return {**batch, "image": augmented(batch["image"], **self.settings["augment"])}

    def shuffled(self, examples: Any, seed: int) -> "ImageExamples":
        """Return the labels beside one another's images."""
        changed: ImageExamples = examples.shuffled(seed)
        return changed

    def controls(self) -> Mapping[str, Control]:
        """Return: the mean training image for every label."""
        return {"mean_image": mean_image(self.train)}

    def predictor(
        self, model: "nn.Module", base: str | Path, device: "torch.device"
    ) -> "ClassPredictor":
        """Return what tells the class of images."""
        from peft_ablation.tasks.image_classification.model import ClassPredictor

        return ClassPredictor(model, base, device, self.classes)

    def frozen_features(self, base: str | Path, device: "torch.device") -> "PooledFeatures":
        """Return all of a base but its head."""
        from peft_ablation.tasks.image_classification.model import PooledFeatures

        return PooledFeatures(base, device)


TASK = ImageClassification
