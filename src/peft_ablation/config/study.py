"""A study: one protocol, from data to scores. The pydantic models are the source of its keys."""

import re
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from peft_ablation.errors import InputError
from peft_ablation.methods.targets import resolve_target

Share = Annotated[float, Field(gt=0, lt=1)]
Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*$")]
Seed = Annotated[int, Field(ge=0, lt=2**32)]


class Section(BaseModel):
    """A part of the config: unknown keys are refused, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class Phantom(Section):
    """The rendered chest phantom: an openly shareable stand-in for MIMIC-CXR-JPG."""

    subjects: int = Field(1500, ge=3)
    """Number of subjects; each has one or more studies of one or more images."""
    size: int = Field(96, ge=32)
    """Side of the rendered square radiograph, in pixels."""
    seed: Seed = 2000
    """Seed of everything about the phantom."""


class Data(Section):
    """Where images and labels come from, and which of them count."""

    source: Literal["phantom", "tree", "bigquery", "mimic"] = "tree"
    """`phantom` renders a tree; `tree` reads the MIMIC-CXR-JPG tree at the site's `data_root`;
    `bigquery` queries BigQuery and reads Google Cloud Storage; `mimic` is `tree` where the site
    sets `data_root`, else `bigquery`."""
    views: tuple[str, ...] = Field(("AP", "PA"), min_length=1)
    """Values of ViewPosition to keep."""
    limit: int | None = Field(None, gt=0)
    """Keep only the first so many images, in the total order of the query."""
    public: bool = False
    """True only where images, texts and ids may be shown in figures and reports."""
    phantom: Phantom = Phantom()
    """Settings of the phantom; used by `source: phantom` alone."""


class Sample(Section):
    """How `sample_5000_per_label` draws images."""

    strategy: Literal["rarest_first", "first_open_quota"] = "rarest_first"
    """`rarest_first`: labels from rarest to commonest, each filled up to its quota;
    `first_open_quota`: as published, each image charged to its first label with an open quota."""
    quota: int = Field(5000, gt=0)
    """Positives wanted per label; a label with fewer gives all it has."""
    count_values: tuple[Literal[-1, 0, 1], ...] = Field((1,), min_length=1)
    """Label values that count as a positive; as published: 1 and -1."""
    seed: Seed = 42
    """Seed of the draw."""
    absent_labels: Literal["fail", "skip"] = "fail"
    """A label without one positive in the cohort: stop, or go on without it (counted as 0)."""


class Report(Section):
    """How labels become a mini-report."""

    template: Literal["corrected", "plain", "as_published"] = "corrected"
    """Template set, a file of `peft_ablation/sources/mimic/templates/`."""
    unmentioned: Literal["drop", "sentence"] = "drop"
    """A row that mentions no label at all: drop it (counted), or write the template's sentence."""


class Split(Section):
    """How rows are divided into training, validation and test."""

    unit: Literal["subject", "study", "image"] = "subject"
    """What is kept together; `image` is as published and leaks patients."""
    train: Share = 0.6
    """Share of training."""
    val: Share = 0.2
    """Share of validation."""
    test: Share = 0.2
    """Share of test."""
    seed: Seed = 33
    """Seed of the division."""

    @model_validator(mode="after")
    def _shares_sum_to_one(self) -> Self:
        total = self.train + self.val + self.test
        if abs(total - 1) > 1e-6:
            raise ValueError(f"train + val + test is {total:g}, expected 1")
        return self


class Images(Section):
    """How images are read and cached."""

    size: int = Field(224, ge=16)
    """Side of the cached square image, in pixels; must be the base's image size."""
    shards: int = Field(64, ge=1)
    """Number of jobs the image cache is scattered over."""
    on_bad_image: Literal["fail", "drop"] = "fail"
    """A missing, corrupt or undecodable image: stop, or drop the row (counted)."""
    max_dropped_share: float = Field(0.01, ge=0, le=1)
    """With `on_bad_image: drop`, stop all the same when more than this share is bad."""
    verify: bool = True
    """Verify each image against SHA256SUMS (a tree that has one) or md5Hash (cloud storage)."""


class Pretraining(Section):
    """Pre-training of the tiny base on clean schematic phantoms (`base.id: phantom`)."""

    images: int = Field(8000, ge=1)
    """Schematic images an epoch, one or two findings each, drawn afresh every time."""
    epochs: int = Field(8, ge=1)
    """Number of epochs."""
    batch_size: int = Field(64, ge=1)
    """Images a step."""
    learning_rate: float = Field(1e-3, gt=0)
    """Peak of the one-cycle schedule."""
    image_size: int = Field(48, ge=16)
    """Side of the model's input, in pixels."""
    patch_size: int = Field(8, ge=1)
    """Side of a patch, in pixels."""
    hidden_size: int = Field(96, ge=8)
    """Width of both towers."""
    vision_layers: int = Field(3, ge=1)
    """Layers of the vision tower."""
    text_layers: int = Field(2, ge=1)
    """Layers of the text decoder."""
    attention_heads: int = Field(4, ge=1)
    """Heads a layer."""
    seed: Seed = 1000
    """Seed of images, initial weights and order."""

    @model_validator(mode="after")
    def _shapes_divide(self) -> Self:
        if self.image_size % self.patch_size:
            raise ValueError(f"image_size {self.image_size} is no multiple of patch_size")
        if self.hidden_size % self.attention_heads:
            raise ValueError(f"hidden_size {self.hidden_size} is no multiple of attention_heads")
        return self


class Base(Section):
    """The pretrained model that every arm starts from."""

    id: str = "phantom"
    """`phantom` (pre-trained here), a hub id such as `microsoft/git-base`, or a local folder."""
    revision: str | None = None
    """Commit of the hub id; required for a hub id, so that a rerun meets the same weights."""
    pretraining: Pretraining = Pretraining()
    """Settings of `id: phantom`; unused otherwise."""

    @model_validator(mode="after")
    def _revision_is_pinned(self) -> Self:
        is_hub = re.fullmatch(r"[\w.-]+/[\w.-]+", self.id) is not None
        if is_hub and self.revision is None and not Path(self.id).is_dir():
            raise ValueError(f"revision is missing: pin the commit of hub id {self.id!r}")
        return self


class Train(Section):
    """The training protocol that all arms share."""

    epochs: int = Field(20, ge=1)
    """Passes over the training split."""
    epochs_per_chunk: int = Field(5, ge=1)
    """Epochs a job; a fresh job continues from the last chunk."""
    batch_size: int = Field(64, ge=1)
    """Examples an optimizer step, over all devices."""
    micro_batch_size: int | None = Field(None, ge=1)
    """Examples a forward pass and device; gradients are accumulated up to `batch_size`."""
    eval_batch_size: int | None = Field(None, ge=1)
    """Examples a forward pass in validation and test; default: `batch_size`."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """`auto`: bf16 autocast where the device has it (a CPU: AVX512-BF16), else fp32."""
    seeds: tuple[Seed, ...] = Field((0, 1, 2), min_length=1)
    """One run an arm and seed."""
    prompt: str = "list pathological findings for this chest x-ray:"
    """Text given before the report; never supervised."""
    max_tokens: int = Field(96, ge=4)
    """Longest text, `[CLS] prompt report [SEP]`, in tokens."""
    too_long: Literal["fail", "cut"] = "fail"
    """A text of more than `max_tokens`: stop and say how many, or cut the report."""
    schedule: Literal["one_cycle", "linear", "cosine", "constant"] = "linear"
    """Learning-rate schedule over all epochs, whatever the chunking."""
    warmup: float = Field(0.06, ge=0, lt=1)
    """Share of all steps with a rising learning rate."""
    weight_decay: float = Field(0.01, ge=0)
    """AdamW's weight decay."""
    max_grad_norm: float = Field(1.0, gt=0)
    """Gradients are clipped to this norm."""
    max_loss: float = Field(100.0, gt=0)
    """A step whose loss is above this, or not finite, stops the run by name."""
    shift_augmentation: int = Field(0, ge=0)
    """Random translation of training images by up to so many pixels; 0 switches it off."""
    cache_vision_features: bool = True
    """Arms with a frozen vision tower read its output from a cache; off with augmentation."""
    halve_batch_on_oom: bool = True
    """Out of GPU memory: halve the micro-batch (same global batch), say so, and go on."""
    checkpoint_every_steps: int | None = Field(None, ge=1)
    """Steps between checkpoints inside a chunk."""
    checkpoint_every_seconds: float | None = Field(600, gt=0)
    """Seconds between checkpoints inside a chunk."""
    threads: int = Field(2, ge=1)
    """CPU threads of torch; another number gives other rounding."""
    num_processes: int = Field(1, ge=1)
    """Data-parallel processes a job, one GPU each."""

    @property
    def chunks(self) -> int:
        """Number of training jobs of a run."""
        return -(-self.epochs // self.epochs_per_chunk)

    @model_validator(mode="after")
    def _seeds_differ(self) -> Self:
        if len(set(self.seeds)) != len(self.seeds):
            raise ValueError(f"seeds {list(self.seeds)} repeat a seed")
        return self


class Arm(Section):
    """One way to fine-tune the base."""

    method: Literal["full", "lora"]
    """`full` trains every weight; `lora` trains adapters on `targets`."""
    targets: str | None = None
    """Name of a target set (see config/README.md), or `regex:` and a full-match expression over
    module names; needed by `lora`."""
    r: int = Field(8, ge=1)
    """Rank."""
    alpha: float = Field(16, gt=0)
    """Scale of the update: alpha / r, or alpha / sqrt(r) with rslora."""
    dropout: float = Field(0.05, ge=0, lt=1)
    """Dropout before the adapter."""
    rslora: bool = False
    """Rank-stabilised scaling (Kalajdzievski 2023)."""
    learning_rate: float = Field(gt=0)
    """Peak learning rate."""

    @model_validator(mode="after")
    def _targets_fit_method(self) -> Self:
        if self.method == "lora" and self.targets is None:
            raise ValueError("targets is missing: name the modules that LoRA adapts")
        if self.method == "full":
            stray = self.model_fields_set & {"targets", "r", "alpha", "dropout", "rslora"}
            if stray:
                raise ValueError(f"{', '.join(sorted(stray))} set, but method full takes none")
        return self


class Score(Section):
    """What is measured on the test split."""

    metrics: tuple[Literal["bleu", "findings_f1"], ...] = ("bleu", "findings_f1")
    """Metrics shown in the quality figure."""
    shuffle_images: bool = True
    """Score again with the test images shuffled among themselves."""
    max_new_tokens: int = Field(96, ge=1)
    """Longest generated text, in tokens."""
    num_beams: int = Field(1, ge=1)
    """1: greedy; more: beam search."""
    bootstrap_samples: int = Field(1000, ge=10)
    """Resamples behind each interval."""
    confidence: float = Field(0.95, gt=0, lt=1)
    """Level of the intervals."""
    seed: Seed = 7
    """Seed of shuffling and resampling."""


class Study(Section):
    """One protocol."""

    task: Literal["captioning"] = "captioning"
    """The kind of task, a module of `peft_ablation.tasks`."""
    data: Data = Data()
    sample: Sample = Sample()
    report: Report = Report()
    split: Split = Split()
    images: Images = Images()
    base: Base = Base()
    train: Train = Train()
    arms: dict[Name, Arm] = Field(min_length=1)
    """The arms by name; each becomes the rules `train_<name>`."""
    score: Score = Score()

    @model_validator(mode="after")
    def _rule_names_differ(self) -> Self:
        for name in self.arms:
            if name.endswith("_chunk"):
                raise ValueError(f"arms.{name}: found {name!r}, expected a name without _chunk")
        return self

    @model_validator(mode="after")
    def _targets_match_modules(self) -> Self:
        layers = (
            (self.base.pretraining.vision_layers, self.base.pretraining.text_layers)
            if self.base.id == "phantom"
            else None
        )
        for name, arm in self.arms.items():
            if arm.targets is not None:
                try:
                    resolve_target(arm.targets, layers)
                except InputError as error:
                    raise ValueError(f"arms.{name}.{error}") from None
        return self

    @model_validator(mode="after")
    def _sizes_agree(self) -> Self:
        if self.base.id == "phantom" and self.images.size != self.base.pretraining.image_size:
            raise ValueError(
                f"images.size is {self.images.size}, but base.pretraining.image_size is "
                f"{self.base.pretraining.image_size}: set them equal"
            )
        if self.train.num_processes > self.train.batch_size:
            raise ValueError("train.num_processes is larger than train.batch_size")
        return self
