"""Text generation: a prompt and texts that may follow it, or a conversation. GPT-2, Llama, …"""

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from string import Formatter
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import (
    Field,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from peft_ablation.config.section import Seed
from peft_ablation.errors import InputError
from peft_ablation.tasks import (
    Answer,
    Baseline,
    Claim,
    Control,
    Extra,
    Lookup,
    Task,
    TaskSettings,
)
from peft_ablation.tasks.text_generation.chat_templates import template_text

if TYPE_CHECKING:
    import polars as pl
    import torch
    from torch import nn

    from peft_ablation.data.examples import Indices
    from peft_ablation.metrics.metric import Metric
    from peft_ablation.tasks.text_generation.conversations import Conversations
    from peft_ablation.tasks.text_generation.examples import WrittenExamples
    from peft_ablation.tasks.text_generation.model import Writer

Measure = Literal["bleu", "chrf", "nist", "coco", "answers"]


class Settings(TaskSettings):
    """What is asked of the model, what is supervised, and how it writes."""

    prompt: str = "{prompt}"
    """What the model reads first; `{prompt}` is the column of that name."""
    answer: str = " {reference}"
    """What it should write; `{reference}` is the column. The end token follows."""
    chat_template: str | None = None
    """Examples are conversations (column `messages`), in place of prompts and references, and this
    is how they become text: `llama-3`, `chatml`, `plain` (a line with the role before each), the
    tokenizer's own (`tokenizer`), or the text of a Jinja template."""
    max_tokens: int = Field(512, ge=2)
    """Longest prompt with one answer and the end token, or conversation, in tokens."""
    too_long: Literal["fail", "cut"] = "fail"
    """A text of more tokens: stop and say how many, or cut its answers; of a conversation the first
    `max_tokens` are kept, and one in which nothing is supervised there is left out (counted)."""
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    """Share of the target that training spreads over the vocabulary; validation has none."""
    max_new_tokens: int = Field(128, ge=1)
    """Longest generated text, in tokens."""
    num_beams: int = Field(1, ge=1)
    """1: greedy, or sampling; more: beam search."""
    length_penalty: float = 1.0
    """Exponent of the length that beam scores are divided by."""
    no_repeat_ngram_size: int = Field(0, ge=0)
    """No n-gram of so many tokens is written twice; 0: no such rule."""
    sample: bool = False
    """Draw each token from what the model expects, instead of taking the likeliest."""
    temperature: float = Field(1.0, gt=0)
    top_p: float = Field(1.0, gt=0, le=1)
    """Of the likeliest tokens, the share that is drawn from."""
    sampling_seed: Seed = 0
    """Seed of what is drawn."""
    measures: tuple[Measure, ...] = Field(("bleu", "chrf"), min_length=1)
    """What is measured: `coco` is METEOR, ROUGE-L and CIDEr and needs Java, `answers` SQuAD's exact
    match and F1."""
    lowercase: bool = False
    """BLEU, chrF and distinct-n ignore case."""
    headline: str | None = None
    """Metric that figures show and that must beat the commonest text; null: the first."""

    @field_validator("prompt", "answer")
    @classmethod
    def _has_its_field(cls, template: str, info: Any) -> str:
        wanted = {"prompt": "prompt", "answer": "reference"}[info.field_name]
        try:
            fields = [field for _, field, *_ in Formatter().parse(template) if field is not None]
        except ValueError as error:
            raise ValueError(f"found {template!r}, which is no template ({error})") from None
        if fields != [wanted]:
            raise ValueError(f"found {template!r}, expected {{{wanted}}} in it, once")
        return template

    @field_validator("chat_template")
    @classmethod
    def _template_is_known(cls, name: str | None) -> str | None:
        if name is not None:
            try:
                template_text(name)
            except InputError as error:
                raise ValueError(str(error)) from None
        return name

    @model_serializer(mode="wrap")
    def _without_template(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # Not among the values where it is not set: training that cannot know it stays as it was.
        values: dict[str, Any] = handler(self)
        if self.chat_template is None:
            del values["chat_template"]
        return values

    @model_validator(mode="after")
    def _settings_agree(self) -> Self:
        if self.chat_template is not None:
            for key in ("prompt", "answer"):
                if getattr(self, key) != type(self).model_fields[key].default:
                    raise ValueError(f"chat_template and {key} are both set: keep one of them")
        if self.sample and self.num_beams > 1:
            raise ValueError("sample and num_beams are both set: keep one of them")
        return self


class TextGeneration(Task):
    """Texts that follow a prompt, or the turns of a conversation."""

    Settings = Settings
    columns = ("prompt", "reference")
    optional = ("messages", "source")
    truth = ("reference", "tokens")
    architectures: ClassVar[Mapping[str, str]] = {
        "gpt2": "GPT2LMHeadModel",
        "llama": "LlamaForCausalLM",
        "mistral": "MistralForCausalLM",
        "qwen2": "Qwen2ForCausalLM",
    }
    not_training = (
        "max_new_tokens", "num_beams", "length_penalty", "no_repeat_ngram_size", "sample",
        "temperature", "top_p", "sampling_seed", "measures", "lowercase", "headline",
    )  # fmt: skip
    tokenizer = True
    own_forward = True
    answers = True
    example = "text"
    hub_kind = "text-generation"
    nearest = Lookup(
        "text of the nearest training prompt",
        "of all training prompts the one with the largest cosine of TF-IDF weights of words gives "
        "its first text; a model that is no better may have learnt to copy",
    )
    length_unit = "tokens"
    extras = (Extra("distinct_texts", "distinct texts"),)

    @classmethod
    def needs(cls, settings: Mapping[str, Any]) -> tuple[str, ...]:
        """Return prompt and reference, or messages."""
        return ("messages",) if settings.get("chat_template") else cls.columns

    @classmethod
    def counts_tokens(cls, settings: Mapping[str, Any]) -> bool:
        """Tell that of conversations the tokens are counted, which a study may cut."""
        return bool(settings.get("chat_template"))

    def __init__(self, settings: Mapping[str, Any], train: "pl.DataFrame") -> None:
        """Bind to the settings and the training split."""
        super().__init__(settings, train)
        first = {"coco": "cider", "answers": "token_f1"}
        measure = settings["measures"][0]
        self.headline = settings["headline"] or first.get(measure, measure)
        self.floor = "constant"
        self.claims = (Claim(self.headline, "constant"),)

    @property
    def metrics(self) -> "tuple[Metric, ...]":
        """The measures of the settings, perplexity, the token loss, variety and length."""
        from peft_ablation.metrics import texts

        lowercase = self.settings["lowercase"]
        of_measure: Mapping[str, Any] = {
            "bleu": lambda: texts.bleu_metrics([["."]], lowercase=lowercase),
            "chrf": lambda: (texts.chrf_metric(lowercase=lowercase),),
            "nist": lambda: (texts.nist_metric(),),
            "coco": texts.coco_metrics,
            "answers": texts.answer_metrics,
        }
        measured = [metric for name in self.settings["measures"] for metric in of_measure[name]()]
        loss = texts.token_loss()
        variety = texts.variety_metrics(lowercase=lowercase)
        return (*measured, loss, texts.perplexity(loss), *variety)

    def _in_pairs(self, table: "pl.DataFrame") -> "pl.DataFrame":
        """Return a split with prompt and reference: of a conversation, its last turn's."""
        from peft_ablation.tasks.text_generation.messages import last_turns

        return last_turns(table, "messages") if self.settings.get("chat_template") else table

    @cached_property
    def _pairs(self) -> "pl.DataFrame":
        return self._in_pairs(self.train)

    def baselines(self) -> Mapping[str, Baseline]:
        """Return the commonest reference of the training split."""
        counts = self._pairs["reference"].explode().value_counts(sort=True)
        most = counts.filter(counts["count"] == counts["count"].max())
        text = str(most["reference"].sort()[0])
        account = {"rows": int(most["count"][0])}
        return {"constant": Baseline("commonest text, always", {"hypothesis": text}, account)}

    def look_up(self, test: "pl.DataFrame", assets: Mapping[str, str | Path]) -> "pl.DataFrame":
        """Return the first text of the training prompt that is most like each test prompt."""
        import polars as pl

        from peft_ablation.tasks._nearest import columns_of, nearest_texts

        reference = pl.col("reference")
        several = self._pairs.schema["reference"] == pl.List(pl.String)
        known = self._pairs.with_columns(reference.list.first() if several else reference)
        asked = self._in_pairs(test).select("prompt").rows()
        places = nearest_texts(known.select("prompt").rows(), asked)
        return columns_of(known, places, test, {"hypothesis": "reference"})

    def answer(self, predictor: "Writer", question: str) -> Answer:
        """Return what is written with the question as prompt, or as the user's only message."""
        return predictor.answer(question)

    def details(self, predictions: "pl.DataFrame") -> dict[str, Any]:
        """Return how the texts vary."""
        from peft_ablation.metrics.texts import variety

        return variety(predictions["hypothesis"].to_list())

    def load_model(self, folder: str | Path) -> Any:
        """Return the causal language model of a local folder."""
        from peft_ablation.tasks.text_generation.model import load_model

        return load_model(folder)

    def examples(
        self, table: str | Path, assets: Mapping[str, str | Path], base: str | Path
    ) -> "WrittenExamples | Conversations":
        """Return the tokenised prompts and references, or conversations, of a split."""
        from peft_ablation.tasks.text_generation.conversations import conversations
        from peft_ablation.tasks.text_generation.examples import examples

        make = conversations if self.settings.get("chat_template") else examples
        return make(table, base, self.settings)

    def token_counts(self, table: str | Path, base: str | Path) -> "pl.DataFrame":
        """Return the tokens of the conversations of a table, by source."""
        from peft_ablation.tasks.text_generation.conversations import token_counts

        return token_counts(table, base, self.settings)

    def of_length(
        self, examples: Any, base: str | Path, *, count: int, length: int
    ) -> "WrittenExamples":
        """Return made-up texts of which so many tokens are read."""
        from peft_ablation.tasks.text_generation.of_length import of_length

        return of_length(examples, base, count, length)

    def logits(self, model: "nn.Module", examples: Any, indices: "Indices") -> int:
        """Return those of all supervised tokens over the vocabulary."""
        from peft_ablation.bases.causal import causal_of

        words: int = causal_of(model).get_output_embeddings().weight.shape[0]
        supervised: int = examples.weight(indices)
        return supervised * words

    def loss_module(self, model: "nn.Module", base: str | Path) -> "nn.Module":
        """Return the summed token loss."""
        from peft_ablation.tasks.text_generation.model import SummedLoss

        return SummedLoss(model, self.settings["label_smoothing"])

    def shuffled(self, examples: Any, seed: int) -> "WrittenExamples | Conversations":
        """Return the references beside one another's prompts."""
        changed: WrittenExamples | Conversations = examples.shuffled(seed)
        return changed

    def controls(self) -> Mapping[str, Control]:
        """Return none: permuted prompts say it."""
        return {}

    def predictor(self, model: "nn.Module", base: str | Path, device: "torch.device") -> "Writer":
        """Return what writes texts."""
        from peft_ablation.tasks.text_generation.model import Writer

        return Writer(model, base, device, self.settings)


TASK = TextGeneration
