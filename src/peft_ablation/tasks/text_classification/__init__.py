"""Text classification: one text or two, one of K classes or a score."""

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal, Self

from pydantic import Field, model_validator

from peft_ablation.errors import InputError, near_miss
from peft_ablation.tasks import Baseline, Claim, Control, Lookup, Task, TaskSettings
from peft_ablation.tasks._labels import classes_of, majority

if TYPE_CHECKING:
    import polars as pl
    import torch
    from torch import nn

    from peft_ablation.metrics.metric import Breakdown, Metric
    from peft_ablation.tasks.text_classification.examples import TextExamples
    from peft_ablation.tasks.text_classification.model import TextPredictor

_CLASSIFIER: Final = ("classifier",)
_SCORE: Final = ("score",)
HEADS: Final[Mapping[str, tuple[str, ...]]] = {
    "albert": _CLASSIFIER,
    "bert": _CLASSIFIER,
    "camembert": _CLASSIFIER,
    "deberta": ("pooler", "classifier"),
    "deberta-v2": ("pooler", "classifier"),
    "distilbert": ("pre_classifier", "classifier"),
    "electra": _CLASSIFIER,
    "gpt2": _SCORE,
    "llama": _SCORE,
    "mistral": _SCORE,
    "mpnet": _CLASSIFIER,
    "qwen2": _SCORE,
    "roberta": _CLASSIFIER,
    "xlm-roberta": _CLASSIFIER,
}
"""`model_type` → modules that a base which was trained to fill or continue texts lacks, the one
whose outputs are the classes last."""


class Settings(TaskSettings):
    """What is told of a text, and how much of it is read."""

    target: Literal["classes", "score"] = "classes"
    """What is told: a class (column `label`), or a number (column `score`)."""
    classes: tuple[str, ...] | None = Field(None, min_length=2)
    """Labels in the order of the model's outputs; null: those of the training split, sorted."""
    positive: str | None = None
    """The class whose F1 is a metric (`f1`) beside the macro F1; null: none."""
    headline: Literal["accuracy", "macro_f1", "f1", "matthews", "pearson", "spearman"] | None = None
    """Metric that figures over cost, rank or rate show, and that must beat the baseline; null:
    accuracy of classes, Pearson correlation of a score."""
    max_tokens: int | None = Field(None, ge=8)
    """Longest input, one text or both with their marks, in tokens; null: what the base takes."""
    too_long: Literal["fail", "cut"] = "fail"
    """An input of more tokens: stop and say how many, or cut the longer of its texts."""

    @model_validator(mode="after")
    def _settings_agree(self) -> Self:
        of_score = self.target == "score"
        if self.classes is not None and len(set(self.classes)) < len(self.classes):
            raise ValueError("classes: a class is named twice")
        if of_score and (self.classes or self.positive):
            raise ValueError("target is score, but classes or positive are set: leave them out")
        if self.positive and self.classes and self.positive not in self.classes:
            raise ValueError(
                f"positive: found {self.positive!r}, allowed: {', '.join(self.classes)}"
                f"{near_miss(self.positive, self.classes)}"
            )
        if self.headline is not None and of_score != (self.headline in ("pearson", "spearman")):
            raise ValueError(f"headline: {self.headline} is no metric of target {self.target}")
        if self.headline == "f1" and self.positive is None:
            raise ValueError("headline: f1 is that of one class: name it as positive")
        return self


class TextClassification(Task):
    """The class or the score of a text, or of two."""

    Settings = Settings
    columns = ("text",)
    optional = ("text_pair", "label", "score")
    architectures: ClassVar[Mapping[str, str]] = {
        "albert": "AlbertForSequenceClassification",
        "bert": "BertForSequenceClassification",
        "camembert": "CamembertForSequenceClassification",
        "deberta": "DebertaForSequenceClassification",
        "deberta-v2": "DebertaV2ForSequenceClassification",
        "distilbert": "DistilBertForSequenceClassification",
        "electra": "ElectraForSequenceClassification",
        "gpt2": "GPT2ForSequenceClassification",
        "llama": "LlamaForSequenceClassification",
        "mistral": "MistralForSequenceClassification",
        "mpnet": "MPNetForSequenceClassification",
        "qwen2": "Qwen2ForSequenceClassification",
        "roberta": "RobertaForSequenceClassification",
        "xlm-roberta": "XLMRobertaForSequenceClassification",
    }
    tokenizer = True
    not_training = ("headline", "positive")
    example = "text"
    nearest = Lookup(
        "answer of the nearest training text",
        "of all training texts the one with the largest cosine of TF-IDF weights of words gives "
        "its label or score",
    )
    hub_kind = "text-classification"
    length_unit = "tokens"

    def __init__(self, settings: Mapping[str, Any], train: "pl.DataFrame") -> None:
        """Bind to the settings and the training split."""
        super().__init__(settings, train)
        if settings["target"] == "score":
            self.truth = ("score",)
            self.headline = settings["headline"] or "pearson"
            self.claims = (Claim(self.headline, "mean"), Claim("rmse", "mean"))
        else:
            self.truth = ("label",)
            self.headline = settings["headline"] or "accuracy"
            self.floor = "majority"
            names = dict.fromkeys(("accuracy", self.headline))
            self.claims = tuple(Claim(name, "majority") for name in names)

    @classmethod
    def needs(cls, settings: Mapping[str, Any]) -> tuple[str, ...]:
        """Return the text, and the column of what is told."""
        return ("text", "score" if settings["target"] == "score" else "label")

    @property
    def pairs(self) -> bool:
        """Whether examples have two texts: the table says it, by a column `text_pair`."""
        return "text_pair" in self.train.columns

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """The classes in the order of the model's outputs; empty where a score is told.

        Raises `InputError` where `task.classes` are not those of the training split.
        """
        if self.settings["target"] == "score":
            return ()
        if "label" not in self.train.columns:
            raise InputError(
                "task: the examples have no column 'label', found "
                f"{', '.join(self.train.columns)}; name it in data.columns, or set task.target to "
                "score"
            )
        found = classes_of(self.train["label"], self.settings["classes"], self.example)
        positive = self.settings["positive"]
        if positive is not None and positive not in found:
            raise InputError(
                f"task.positive: found {positive!r}, allowed: {', '.join(found)}"
                f"{near_miss(positive, found)}"
            )
        return found

    @property
    def metrics(self) -> "tuple[Metric, ...]":
        """Metrics of classes, or of a score."""
        from peft_ablation.metrics.classes import class_metrics
        from peft_ablation.metrics.correlation import score_metrics

        if not self.classes:
            return score_metrics()
        return class_metrics(self.classes, matthews=True, positive=self.settings["positive"])

    def baselines(self) -> Mapping[str, Baseline]:
        """Return the commonest class of the training split, or its mean score."""
        if self.classes:
            return {"majority": majority(self.train["label"])}
        mean = self.train["score"].mean()
        return {"mean": Baseline("mean score, always", {"predicted": mean}, {"score": mean})}

    def look_up(self, test: "pl.DataFrame", assets: Mapping[str, str | Path]) -> "pl.DataFrame":
        """Return the label or score of the training text that is most like each test text."""
        from peft_ablation.tasks._nearest import columns_of, nearest_texts

        names = ("text", "text_pair") if self.pairs else ("text",)
        known, asked = (table.select(names).rows() for table in (self.train, test))
        (told,) = self.truth
        return columns_of(self.train, nearest_texts(known, asked), test, {"predicted": told})

    @classmethod
    def told(cls, settings: Mapping[str, Any]) -> tuple[str, ...]:
        """A class is told, or a score, which has no parts."""
        return ("class",) if settings["target"] == "classes" else ()

    def breakdowns(self) -> "Mapping[str, Breakdown]":
        """Return the F1 of each class."""
        from peft_ablation.metrics.classes import class_breakdown

        return {name: class_breakdown(self.classes) for name in self.told(self.settings)}

    def details(self, predictions: "pl.DataFrame") -> dict[str, Any]:
        """Return scores by class and the confusion matrix."""
        from peft_ablation.metrics.classes import class_details

        return class_details(predictions, self.classes) if self.classes else {}

    def load_model(self, folder: str | Path) -> Any:
        """Return the classifier of a local folder; a head for other classes is made anew."""
        from peft_ablation.tasks.text_classification.model import load_model

        return load_model(folder, self.classes)

    def heads_of(self, model: "nn.Module") -> tuple[str, ...]:
        """Return the modules of a model's architecture that a base lacks."""
        config: Any = model.config
        return HEADS[config.model_type]

    def examples(
        self, table: str | Path, assets: Mapping[str, str | Path], base: str | Path
    ) -> "TextExamples":
        """Return the tokenised texts of a split."""
        from peft_ablation.tasks.text_classification.examples import examples

        return examples(table, base, self.classes, self.settings, pairs=self.pairs)

    def of_length(
        self, examples: Any, base: str | Path, *, count: int, length: int
    ) -> "TextExamples":
        """Return made-up texts of so many tokens."""
        from peft_ablation.tasks.text_classification.of_length import of_length

        return of_length(examples, base, count, length)

    def loss_module(self, model: "nn.Module", base: str | Path) -> "nn.Module":
        """Return the summed cross entropy, or the summed squared error of a score."""
        from peft_ablation.tasks.text_classification.model import SummedLoss

        return SummedLoss(model)

    def shuffled(self, examples: Any, seed: int) -> "TextExamples":
        """Return the labels beside one another's texts."""
        changed: TextExamples = examples.shuffled(seed)
        return changed

    def controls(self) -> Mapping[str, Control]:
        """Return: second texts permuted, where there are two; words out of order; no words."""
        words = Control(
            "words shuffled",
            "the words of each text are put into a random order before the model predicts; what is "
            "left is what the words tell without their order",
            lambda examples, seed: examples.with_words_shuffled(seed),
        )
        second = Control(
            "second texts shuffled",
            "the second texts alone are permuted among themselves; a model that needs no second "
            "text keeps its score, and has found the answer in the first",
            lambda examples, seed: examples.with_second_shuffled(seed),
        )
        empty = Control(
            "empty text",
            "every text is replaced by one without words; what is left needs no text at all",
            lambda examples, _: examples.emptied(),
        )
        return (
            ({"second_shuffled": second} if self.pairs else {})
            | {"words_shuffled": words}
            | {"empty_text": empty}
        )

    def predictor(
        self, model: "nn.Module", base: str | Path, device: "torch.device"
    ) -> "TextPredictor":
        """Return what tells the class or the score of texts."""
        from peft_ablation.tasks.text_classification.model import TextPredictor

        return TextPredictor(model, device, self.classes)


TASK = TextClassification
