"""A study: one protocol, from data to scores. The pydantic models are the source of its keys.

Tasks, methods and sources bring their own settings: `task:`, each arm and `data:` are read by the
class that their name leads to.
"""

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Final, Literal, Self

from pydantic import (
    BaseModel,
    Field,
    PlainSerializer,
    PlainValidator,
    ValidationError,
    create_model,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from peft_ablation.config.arms import MOST_ARMS
from peft_ablation.config.base import Base, RunOf
from peft_ablation.config.memory import Memory
from peft_ablation.config.questions import Questions
from peft_ablation.config.section import Name, Section, Seed, Share
from peft_ablation.config.tune import Tune
from peft_ablation.errors import InputError
from peft_ablation.methods import ArmSettings, Optimizer, method_class
from peft_ablation.sources import DataSettings, source_class
from peft_ablation.tasks import TaskSettings, task_class

UNKNOWN_NAME: Final = "unknown_name"
"""Type of the validation error for a name that leads to no task, method or source."""


def _read_by(key: str, class_of: Callable[[str], Any]) -> Callable[[Any], Any]:
    """Return a validator that reads a mapping by the `Settings` of the class its key names."""

    def read(value: Any) -> Any:
        if isinstance(value, BaseModel):
            return value
        if isinstance(value, str):
            value = {key: value}
        if not isinstance(value, Mapping):
            raise _wrong("dict_type", (), value)
        if key not in value:
            raise _wrong("missing", (key,), dict(value))
        if not isinstance(value[key], str):
            raise _wrong("string_type", (key,), value[key])
        try:
            settings = class_of(value[key]).Settings
        except InputError as error:
            told = PydanticCustomError(UNKNOWN_NAME, "{told}", {"told": str(error)})
            raise _wrong(told, (key,), value[key]) from None
        return settings.model_validate(dict(value))

    return read


def _wrong(kind: str | PydanticCustomError, place: tuple[str, ...], value: Any) -> ValidationError:
    return ValidationError.from_exception_data(
        "", [InitErrorDetails(type=kind, loc=place, input=value)]
    )


def _plain(settings: BaseModel) -> dict[str, Any]:
    return settings.model_dump(mode="json")


# Without a serializer of its own a field is written as the class that it is annotated with, less
# what the task, source or method adds.
_WHOLE = PlainSerializer(_plain)
AnyTask = Annotated[TaskSettings, PlainValidator(_read_by("name", task_class)), _WHOLE]
AnyData = Annotated[DataSettings, PlainValidator(_read_by("source", source_class)), _WHOLE]
AnyArm = Annotated[ArmSettings, PlainValidator(_read_by("method", method_class)), _WHOLE]


class Forgetting(Section):
    """What the base was made for, on which each arm is scored again."""

    pretraining: int | None = Field(None, ge=2)
    """Of base `phantom`: so many schematic images with their captions as it was pre-trained on,
    but drawn apart."""
    data: AnyData | None = None
    """Examples of what the base could do before, held out from its training: read as the study's
    `data` is, and scored by the study's task."""
    task: dict[str, Any] = Field(default_factory=dict)
    """Settings of the task that differ on these examples, such as its prompt."""

    @model_validator(mode="after")
    def _is_one_of_them(self) -> Self:
        if (self.pretraining is None) == (self.data is None):
            raise ValueError("expected one of pretraining and data")
        return self


class Split(Section):
    """How rows are divided into training, validation and test."""

    unit: str | None = None
    """What is kept together, one of the source's units; null: its first (MIMIC-CXR-JPG: `subject`,
    `study`, or `image`, which is as published and leaks patients)."""
    given: Literal["keep", "merge"] = "keep"
    """Splits that the source gives: keep them, and cut those it lacks from its training rows; or
    merge all rows and divide them anew."""
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
    """How images are read and cached; for tasks that have images."""

    size: int = Field(224, ge=16)
    """Side of the cached square image, in pixels; must be the base's image size."""
    colour: bool = False
    """Keep colours (three bytes a pixel) rather than grey."""
    shards: int = Field(64, ge=1)
    """Number of jobs the image cache is scattered over."""
    on_bad_image: Literal["fail", "drop"] = "fail"
    """A missing, corrupt or undecodable image: stop, or drop the row (counted)."""
    max_dropped_share: float = Field(0.01, ge=0, le=1)
    """With `on_bad_image: drop`, stop all the same when more than this share is bad."""
    verify: bool = True
    """Verify each image against SHA256SUMS (a tree that has one) or md5Hash (cloud storage)."""


class Train(Section):
    """The training protocol that all arms share."""

    epochs: int = Field(20, ge=1)
    """Passes over the training split."""
    epochs_per_chunk: int = Field(5, ge=1)
    """Epochs a job; a fresh job continues from the last chunk."""
    early_stopping: int | None = Field(None, ge=1)
    """Stop a run after so many epochs without a lower validation loss."""
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
    schedule: Literal["one_cycle", "linear", "cosine", "constant"] = "linear"
    """Learning-rate schedule over all epochs, whatever the chunking."""
    warmup: float = Field(0.06, ge=0, lt=1)
    """Share of all steps with a rising learning rate."""
    optimizer: Optimizer = "adamw"
    """`adamw`: torch's; the others are bitsandbytes': states in 8 bits, or in pages that leave a
    GPU whose memory runs short."""
    weight_decay: float = Field(0.01, ge=0)
    """AdamW's weight decay."""
    max_grad_norm: float = Field(1.0, gt=0)
    """Gradients are clipped to this norm."""
    max_loss: float = Field(100.0, gt=0)
    """A step whose loss is above this, or not finite, stops the run by name."""
    gradient_checkpointing: bool = False
    """Compute activations again in the backward pass: less memory, more time, the same
    gradients."""
    cache_frozen_features: bool = True
    """Arms that leave a base's frozen part alone read its output from a cache; off where the task
    changes its inputs at random."""
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


class Score(Section):
    """What is measured on the test split."""

    metrics: tuple[str, ...] | None = None
    """Metrics shown in the quality figure; null: the task's scores of which more is better."""
    tested: tuple[str, ...] | None = Field(None, min_length=1)
    """Metrics in which each arm is tested against the reference; Holm's correction is over all
    these tests. null: the task's headline."""
    margin: dict[str, Annotated[float, Field(gt=0)]] = Field(default_factory=dict)
    """By metric, in its unit: how much worse than the reference an arm may be and still be good
    enough (`{accuracy: 0.02}`). Choose it before looking at the scores."""
    subgroups: tuple[str, ...] = ()
    """Columns of the examples table (view, sex, genre) by whose values scores are shown apart."""
    shuffle_inputs: bool = True
    """Score again with the test inputs (images, say) shuffled among themselves."""
    controls: bool = True
    """Score again under the task's further controls: the mean image, an empty text, words out of
    order; each is one more prediction of the test split."""
    probe: bool = True
    """Ask models how likely statements are, each against its negation, where the task has some
    (captioning: each finding as present against absent)."""
    bootstrap_samples: int = Field(1000, ge=10)
    """Resamples behind the intervals of one run's scores; those of arms need none."""
    confidence: float = Field(0.95, gt=0, lt=1)
    """Level of the intervals."""
    seed: Seed = 7
    """Seed of shuffling inputs and of resampling."""


class Study(Section):
    """One protocol."""

    task: AnyTask = Field(default="captioning", validate_default=True)
    """What the model is asked to do."""
    data: AnyData = Field(default="tree", validate_default=True)
    """Where examples come from."""
    split: Split = Split()
    images: Images = Images()
    base: Base = Base()
    train: Train = Train()
    tune: Tune | None = None
    """How learning rates are chosen; null: they are those of the arms, not tuned."""
    arms: dict[Name, AnyArm] = Field(min_length=1)
    """The arms by name; each becomes the rules `train_<name>`."""
    max_arms: int = Field(MOST_ARMS, ge=1)
    """A sweep that makes more arms than this is refused, as it may be a slip."""
    reference: Name | None = None
    """Arm that the others are compared with; null: the first that trains every weight."""
    score: Score = Score()
    forgetting: Forgetting | None = None
    """Score each arm on its base's own task too; null: not measured."""
    questions: Questions | None = None
    """Ask the untouched base and the arms a few questions; null: none are asked."""
    memory: Memory = Memory()
    """What `memory_table` measures."""

    @model_validator(mode="after")
    def _names_are_free(self) -> Self:
        for name in self.arms:
            if name.endswith("_chunk"):
                raise ValueError(f"arms.{name}: found {name!r}, expected a name without _chunk")
        if self.reference is not None and self.reference not in self.arms:
            raise ValueError(
                f"reference: found {self.reference!r}, expected an arm: {', '.join(self.arms)}"
            )
        return self

    @model_validator(mode="after")
    def _trials_are_no_longer(self) -> Self:
        epochs = self.tune.epochs if self.tune is not None else None
        if epochs is not None and epochs > self.train.epochs:
            raise ValueError(
                f"tune.epochs: found {epochs}, expected at most train.epochs, {self.train.epochs}"
            )
        return self

    @model_validator(mode="after")
    def _sizes_agree(self) -> Self:
        pretraining = self.base.pretraining
        if self.base.kind == "phantom" and self.images.size != pretraining.image_size:
            raise ValueError(
                f"images.size is {self.images.size}, but base.pretraining.image_size is "
                f"{pretraining.image_size}: set them equal"
            )
        if self.train.num_processes > self.train.batch_size:
            raise ValueError("train.num_processes is larger than train.batch_size")
        return self

    def base_of(self, arm: str) -> Base:
        """Return what an arm starts from: its own base, or the study's."""
        return self.arms[arm].base or self.base

    def runs_needed(self) -> list[RunOf]:
        """Return the runs of studies that bases and arms start from."""
        bases = [self.base_of(arm).run for arm in self.arms]
        starts = [arm.init_from for arm in self.arms.values()]
        return list(dict.fromkeys(run for run in (*bases, *starts) if run is not None))


def study_model(source: str) -> type[Study]:
    """Return `Study` with the further sections that a source reads.

    Raises `InputError` for an unknown source.
    """
    sections = source_class(source).sections
    fields: dict[str, Any] = {name: (section, section()) for name, section in sections.items()}
    return create_model("Study", __base__=Study, **fields)
