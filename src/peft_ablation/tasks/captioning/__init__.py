"""Captioning: an image, a prompt, a text to write. GIT, or an encoder-decoder (ViT and GPT-2)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from peft_ablation.tasks import (
    Baseline,
    Claim,
    Control,
    Discrimination,
    Extra,
    Figure,
    Lookup,
    Task,
    TaskSettings,
)
from peft_ablation.tasks._images import NEAR, mean_image

if TYPE_CHECKING:
    import polars as pl
    import torch
    from torch import Tensor, nn

    from peft_ablation.data.examples import Indices
    from peft_ablation.metrics.metric import Breakdown, Metric
    from peft_ablation.tasks import FrozenPart, Predictor
    from peft_ablation.tasks.captioning.examples import AnyExamples

Measure = Literal["bleu", "chrf", "coco"]


class Settings(TaskSettings):
    """What is asked of the model, and how it writes."""

    prompt: str = "list pathological findings for this chest x-ray:"
    """Text given before the report; never supervised."""
    max_tokens: int = Field(96, ge=4)
    """Longest text, `[CLS] prompt report [SEP]`, in tokens; of several an image, each."""
    too_long: Literal["fail", "cut"] = "fail"
    """A text of more than `max_tokens`: stop and say how many, or cut the report."""
    shift_augmentation: int = Field(0, ge=0)
    """Random translation of training images by up to so many pixels; 0 switches it off."""
    max_new_tokens: int = Field(96, ge=1)
    """Longest generated text, in tokens."""
    num_beams: int = Field(1, ge=1)
    """1: greedy; more: beam search."""
    measures: tuple[Measure, ...] = Field(("bleu",), min_length=1)
    """What is measured besides findings and loss: `coco` is METEOR, ROUGE-L and CIDEr and needs
    Java. The first is the headline where there are no findings."""
    findings: Literal["corrected", "plain", "as_published"] | None = None
    """Template set by which CheXpert findings are read from texts; default: the one that wrote
    them (MIMIC-CXR-JPG and phantom), else null."""


def _nearest(text: str) -> Lookup:
    return Lookup(
        f"{text} of the nearest training image",
        f"of all training images the one at the least distance, pixel by pixel at {NEAR} x {NEAR} "
        f"in grey, gives its (first) {text}; a model that is no better may have learnt to copy",
    )


class Captioning(Task):
    """Reports for images."""

    Settings = Settings
    columns = ("image", "report")
    truth = ("reference", "tokens")
    images = True
    architectures: ClassVar[Mapping[str, str]] = {
        "git": "GitForCausalLM",
        "vision-encoder-decoder": "VisionEncoderDecoderModel",
    }
    not_training = ("max_new_tokens", "num_beams", "measures", "findings")
    tokenizer = True
    token_labels = True
    own_forward = True
    frozen_part = ("git.image_encoder.", "git.visual_projection.", "encoder.")
    nearest = _nearest("report")
    hub_kind = "image-to-text"
    length_unit = "tokens"
    extras: tuple[Extra, ...] = (Extra("distinct_texts", "distinct texts"),)
    figures: ClassVar[Mapping[str, Figure]] = {
        "examples": Figure(
            "Images and texts",
            "../report/examples.rst",
            "peft_ablation.tasks.captioning.caption_figure:plot_examples",
            public_only=True,
        )
    }

    def __init__(self, settings: Mapping[str, Any], train: "pl.DataFrame") -> None:
        """Bind to the settings and the training split."""
        super().__init__(settings, train)
        first = "cider" if settings["measures"][0] == "coco" else settings["measures"][0]
        self.headline = "findings_f1" if settings["findings"] else first
        self.claims = (Claim(first, "constant_report"),)
        self.example = "report" if settings["findings"] else "caption"
        self.nearest = _nearest(self.example)
        if settings["findings"]:
            self.extras += (Extra("unparsable_share", "unparsable sentences", 1, 100, " %"),)
            self.claims += (
                Claim("findings_f1", "constant_report"),
                Claim("findings_f1", "label_prior"),
            )

    @classmethod
    def changes_inputs(cls, settings: Mapping[str, Any]) -> bool:
        """Tell whether images are shifted at random."""
        return bool(settings["shift_augmentation"])

    @classmethod
    def reads_features(cls, settings: Mapping[str, Any]) -> bool:
        """The library's beam search takes pixels only."""
        return bool(settings["num_beams"] == 1)

    @property
    def metrics(self) -> "tuple[Metric, ...]":
        """The measures of the settings, findings where a template reads them, the loss, variety."""
        from peft_ablation.metrics import texts
        from peft_ablation.metrics.findings import findings_metrics

        of_measure: Mapping[str, Any] = {
            "bleu": lambda: texts.bleu_metrics([["."]], normalised=True),
            "chrf": lambda: (texts.chrf_metric(lowercase=True),),
            "coco": texts.coco_metrics,
        }
        measured = [metric for name in self.settings["measures"] for metric in of_measure[name]()]
        template = self.settings["findings"]
        found = findings_metrics(template) if template else ()
        variety = texts.variety_metrics(normalised=True)
        return (*measured, *found, texts.token_loss(), *variety)

    def baselines(self) -> Mapping[str, Baseline]:
        """Return the commonest report, and the commonest findings."""
        from peft_ablation.tasks.captioning.baselines import constant_reports

        return constant_reports(self.train, self.settings["findings"])

    def look_up(self, test: "pl.DataFrame", assets: Mapping[str, str | Path]) -> "pl.DataFrame":
        """Return the first report of the training image that is nearest to each test image."""
        import polars as pl

        from peft_ablation.tasks._nearest import by_image

        several = self.train.schema["report"] == pl.List(pl.String)
        report = pl.col("report")
        train = self.train.with_columns(report.list.first() if several else report)
        return by_image(assets["images"], train, test, {"hypothesis": "report"})

    @classmethod
    def discriminates(cls, settings: Mapping[str, Any]) -> bool:
        """Findings are asked for where a template says how they are stated."""
        return bool(settings["findings"])

    def probe(
        self, predictor: Any, examples: Any, indices: "Indices"
    ) -> Mapping[str, Sequence[Any]]:
        """Return `log_odds`: of each finding, stated as present against stated as absent."""
        from peft_ablation.metrics.findings import statements

        pairs = list(statements(self.settings["findings"]).values())
        return {"log_odds": predictor.log_odds(examples, indices, pairs)}

    def discriminations(self, predictions: "pl.DataFrame") -> Mapping[str, Discrimination]:
        """Return each finding: true where the reference states it as present.

        It is known where the reference states it as present or as absent.
        """
        import numpy as np

        from peft_ablation.metrics.findings import stated, statements
        from peft_ablation.sources.mimic.labels import Mention, display_name

        template = self.settings["findings"]
        log_odds = np.array(predictions["log_odds"].to_list(), dtype=np.float64)
        true = stated(predictions, template)
        return {
            display_name(label): Discrimination(
                log_odds[:, place],
                true[:, place] == Mention.PRESENT,
                np.isin(true[:, place], (Mention.PRESENT, Mention.ABSENT)),
            )
            for place, label in enumerate(statements(template))
        }

    @classmethod
    def told(cls, settings: Mapping[str, Any]) -> tuple[str, ...]:
        """Findings are told where a template reads them."""
        return ("finding",) if settings["findings"] else ()

    def breakdowns(self) -> "Mapping[str, Breakdown]":
        """Return the F1 of each finding."""
        from peft_ablation.metrics.findings import findings_breakdown

        return {name: findings_breakdown() for name in self.told(self.settings)}

    def details(self, predictions: "pl.DataFrame") -> dict[str, Any]:
        """Return how the texts vary, and the findings by label."""
        from peft_ablation.metrics.findings import findings_details
        from peft_ablation.metrics.texts import variety
        from peft_ablation.sources.mimic.reports import normalise

        told = variety([normalise(text) for text in predictions["hypothesis"]])
        if self.settings["findings"]:
            told |= findings_details(predictions, self.settings["findings"])
        return told

    def load_model(self, folder: str | Path) -> Any:
        """Return the GIT or the encoder-decoder of a local folder."""
        return _models(folder).load_model(folder)

    def examples(
        self, table: str | Path, assets: Mapping[str, str | Path], base: str | Path
    ) -> "AnyExamples":
        """Return the tokenised reports of a split."""
        from peft_ablation.data.image_source import ImageSource
        from peft_ablation.tasks.captioning.examples import examples

        images = ImageSource(assets["images"], assets.get("features"))
        return examples(table, images, base, self.settings)

    def of_length(
        self, examples: Any, base: str | Path, *, count: int, length: int
    ) -> "AnyExamples":
        """Return made-up texts of so many tokens, the prompt included, beside images."""
        from peft_ablation.tasks.captioning.of_length import of_length

        return of_length(examples, base, count, length)

    def logits(self, model: "nn.Module", examples: Any, indices: "Indices") -> int:
        """Return those of all supervised tokens over the vocabulary."""
        head: Any = model.get_output_embeddings()  # type: ignore[operator]
        words: int = head.weight.shape[0]
        supervised: int = examples.weight(indices)
        return supervised * words

    def loss_module(self, model: "nn.Module", base: str | Path) -> "nn.Module":
        """Return the summed token loss."""
        module: nn.Module = _models(base).SummedLoss(model, base)
        return module

    def augment(self, batch: "dict[str, Tensor]") -> "dict[str, Tensor]":
        """Shift the images of a micro-batch, all alike."""
        from peft_ablation.tasks.captioning.git import shifted

        return {**batch, "image": shifted(batch["image"], self.settings["shift_augmentation"])}

    def shuffled(self, examples: Any, seed: int) -> "AnyExamples":
        """Return the reports beside one another's images."""
        changed: AnyExamples = examples.shuffled(seed)
        return changed

    def controls(self) -> Mapping[str, Control]:
        """Return: the mean training image for every report."""
        return {"mean_image": mean_image(self.train)}

    def predictor(
        self, model: "nn.Module", base: str | Path, device: "torch.device"
    ) -> "Predictor":
        """Return what writes reports."""
        made: Predictor = _models(base).CaptionPredictor(model, base, device, self.settings)
        return made

    def frozen_features(self, base: str | Path, device: "torch.device") -> "FrozenPart":
        """Return the image encoder."""
        made: FrozenPart = _models(base).ImageEncoder(base, device)
        return made


def _models(base: str | Path) -> Any:
    """Return the module of a base's kind: model, loss, predictor and frozen part by one name."""
    from peft_ablation.tasks.captioning import encoder_decoder, git
    from peft_ablation.tasks.captioning.examples import ENCODER_DECODER, model_type

    return encoder_decoder if model_type(base) == ENCODER_DECODER else git


TASK = Captioning
