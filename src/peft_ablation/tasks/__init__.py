"""Tasks: what a model is asked to do, one module or folder each.

A task knows examples, batches, the loss, predictions, metrics, baselines and controls. It knows no
method, and nothing outside its folder asks which task it is. What it declares at class level is
read when the DAG is built, so a task's module imports torch only inside functions.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, cast

from peft_ablation.config.section import Section
from peft_ablation.errors import InputError
from peft_ablation.plugins import plugin

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
    import torch
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from peft_ablation.data.examples import Indices
    from peft_ablation.metrics.metric import Breakdown, Metric

ASSETS = ("images", "features")
"""What examples may be made of besides a split's table: the index of the image cache, and the
cached features of a frozen part."""


class TaskSettings(Section):
    """Keys of a study's `task:` section that every task has."""

    name: str
    """Kind of task: a module of `peft_ablation.tasks`, or the dotted name of one's own."""


class Examples(Protocol):
    """The examples of one split, ready to become batches."""

    @property
    def ids(self) -> Sequence[str]:
        """`example_id` of each example."""

    @property
    def lengths(self) -> "Indices":
        """Length of each example (tokens, say): batches hold examples of similar length."""

    def __len__(self) -> int:
        """Return the number of examples."""

    def weight(self, indices: "Indices") -> int:
        """Return what the summed loss of these examples is divided by (tokens, or examples)."""

    def batch(self, indices: "Indices") -> "dict[str, Tensor]":
        """Return tensors on the CPU whose first axis is the examples; safe in another thread."""


@dataclass(frozen=True)
class Baseline:
    """What a model must beat: the same predictions whatever the input."""

    title: str
    """As a table says it, such as `commonest report, always`."""
    columns: Mapping[str, Any]
    """Prediction columns that it fixes, each one value for all rows."""
    account: Mapping[str, Any]
    """Where it comes from, for scores.json."""


NEAREST = "nearest"
"""Name of the baseline that `Task.nearest` is."""


@dataclass(frozen=True)
class Lookup:
    """A baseline that looks at the input: what the nearest training example has."""

    title: str
    """As a table says it, such as `report of the nearest training image`."""
    meaning: str
    """One sentence for the page: how near is measured."""


@dataclass(frozen=True)
class Discrimination:
    """What a model's likelihoods say of one statement, and what is true; N examples."""

    log_odds: "NDArray[np.float64]"
    """Log-likelihood of the statement less that of its negation, (N,)."""
    positive: "NDArray[np.bool_]"
    """Whether it is true, (N,)."""
    known: "NDArray[np.bool_]"
    """Whether the truth says either, (N,): what the odds are about."""


@dataclass(frozen=True)
class Answer:
    """What a model wrote in answer to a question."""

    text: str
    tokens: int
    """Tokens that it wrote, the end token not among them."""
    ended: bool
    """Whether it came to an end; else it was cut off at the limit of the task's settings."""


@dataclass(frozen=True)
class Claim:
    """A baseline that an arm must beat to count as having learnt."""

    metric: str
    baseline: str


@dataclass(frozen=True)
class Control:
    """A further change of the test inputs: what is left of the scores is shown, nothing demanded.

    `Task.shuffled` is the one of which something is demanded: a model must fall with it.
    """

    title: str
    """As a heading says it, such as `second texts shuffled`."""
    meaning: str
    """One sentence for the page: what is changed, and what it tells."""
    change: "Callable[[Any, int], Any]"
    """Examples and a seed → the same examples with changed inputs."""


@dataclass(frozen=True)
class Extra:
    """A further number of `Task.details` that the comparison shows: its mean over seeds."""

    name: str
    title: str
    digits: int = 0
    scale: float = 1
    unit: str = ""


@dataclass(frozen=True)
class Figure:
    """A figure of a task's own, drawn by `draw` of a torch-free module or of one with torch."""

    title: str
    """In the report page."""
    caption: str
    """Path of its caption for the report page, from `workflow/rules`."""
    draw: str
    """`module:function`, called with `peft_ablation.figures.for_task.FigureInputs` and outputs."""
    public_only: bool = False
    """Shows examples themselves: drawn for studies with `data.public: true` alone."""
    needs_model: bool = False
    """Runs a model: a job with a GPU."""


class Task(ABC):
    """A kind of task, bound to a study's settings and its training split."""

    Settings: ClassVar[type[TaskSettings]] = TaskSettings
    columns: ClassVar[tuple[str, ...]]
    """Columns of the examples table that it reads besides `example_id`, `group` and `split`."""
    optional: ClassVar[tuple[str, ...]] = ()
    """Columns that it reads where they are there."""
    truth: tuple[str, ...] = ()
    """Columns of the predictions that are known, not predicted: what baselines are scored by."""
    images: ClassVar[bool] = False
    """Whether examples have an image, and so the image cache is made."""
    architectures: ClassVar[Mapping[str, str]] = {}
    """`model_type` of a base's config.json → class that `load_model` makes; empty: any base."""
    not_training: ClassVar[tuple[str, ...]] = ()
    """Settings that training does not read: a change of one trains nothing again."""
    beside_features: ClassVar[tuple[str, ...]] = ()
    """Settings that `frozen_features` does not read: a change of one leaves its cache."""
    tokenizer: ClassVar[bool | tuple[str, ...]] = False
    """Whether a base must come with a tokenizer, or the `model_type`s of those that must."""
    frozen_part: ClassVar[tuple[str, ...]] = ()
    """Prefixes of module names whose output `frozen_features` gives: an arm whose method changes
    none of them reads it from a cache. Empty: nothing is cached. `*`: all but the heads."""
    heads: ClassVar[tuple[str, ...]] = ()
    """Modules made anew for the task, which every method that trains must train and save; see
    `heads_of`."""
    example: str = "example"
    """What a row is called on pages, in the singular."""
    answers: ClassVar[bool] = False
    """Whether its models can be asked questions that stand in no table; see `answer`."""
    token_labels: ClassVar[bool] = False
    """Whether batches hold `input_ids` and `labels`, one a token, of texts with a prompt."""
    hub_kind: ClassVar[str] = ""
    """What model hubs call such a task (`pipeline_tag` of a model card); empty: nothing."""
    own_forward: ClassVar[bool] = False
    """Whether the loss runs parts of the model itself. A method that wraps the whole forward pass
    (prompts, prefixes) would be ignored without a word, so it is refused."""
    headline: str
    """Name of the metric that figures over cost, rank or rate show."""
    extras: tuple[Extra, ...] = ()
    """Numbers of `details` that stand in the comparison."""
    claims: tuple[Claim, ...] = ()
    """What an honest arm must beat."""
    floor: str | None = None
    """Baseline to which the headline should fall when inputs are shuffled; None: to 0."""
    nearest: Lookup | None = None
    """The baseline that `look_up` makes; None: there is none."""
    figures: ClassVar[Mapping[str, Figure]] = {}
    length_unit: ClassVar[str] = ""
    """What the length of an example is counted in, such as `tokens`; empty: none can be chosen, see
    `of_length`."""

    def __init__(self, settings: Mapping[str, Any], train: "pl.DataFrame") -> None:
        """Bind to the fields of `Settings` and to the table of the training split."""
        self.settings, self.train = settings, train

    # -- without torch ---------------------------------------------------------------------------

    @classmethod
    def needs(cls, settings: Mapping[str, Any]) -> tuple[str, ...]:
        """Return the columns that it cannot do without; those of the settings among them."""
        return cls.columns

    @classmethod
    def changes_inputs(cls, settings: Mapping[str, Any]) -> bool:
        """Tell whether training changes inputs at random, so that nothing of them can be cached."""
        return False

    @classmethod
    def reads_features(cls, settings: Mapping[str, Any]) -> bool:
        """Tell whether prediction, too, can read the frozen part from its cache."""
        return True

    @classmethod
    def prepares(cls, settings: Mapping[str, Any], model_type: str | None) -> bool:
        """Tell whether what `load_model` makes of such a base is made once, for all arms and seeds.

        For a head that costs more than a draw. `load_model` must make the same of the base and of
        the folder that `save_pretrained` writes.
        """
        return False

    @property
    @abstractmethod
    def metrics(self) -> "tuple[Metric, ...]":
        """The metrics, each a function of sums of prediction columns."""

    @abstractmethod
    def baselines(self) -> Mapping[str, Baseline]:
        """Return what must be beaten, made from the training split alone, by name."""

    def look_up(self, test: "pl.DataFrame", assets: Mapping[str, str | Path]) -> "pl.DataFrame":
        """Return `example_id` of test rows and the prediction columns of the baseline `nearest`."""
        raise NotImplementedError

    @classmethod
    def discriminates(cls, settings: Mapping[str, Any]) -> bool:
        """Tell whether its models are asked how likely statements are; see `probe`."""
        return False

    def probe(
        self, predictor: Any, examples: Any, indices: "Indices"
    ) -> Mapping[str, Sequence[Any]]:
        """Return further prediction columns of these examples, asked of the true inputs alone."""
        raise NotImplementedError

    def answer(self, predictor: Any, question: str) -> Answer:
        """Return what a model answers, by the settings that it predicts with; where `answers`."""
        raise NotImplementedError

    def discriminations(self, predictions: "pl.DataFrame") -> Mapping[str, Discrimination]:
        """Return what `probe` found of each statement, by name; where `discriminates`."""
        return {}

    @classmethod
    def counts_tokens(cls, settings: Mapping[str, Any]) -> bool:
        """Tell whether `token_counts` says what becomes of the examples' tokens."""
        return False

    def token_counts(self, table: str | Path, base: str | Path) -> "pl.DataFrame":
        """Count the tokens of the examples table with a base's tokenizer, by the column `source`.

        One row a source: `source`, `conversations`, of these `cut` and `left_out`, `tokens`,
        `tokens_cut` and `supervised`; where `counts_tokens`.
        """
        raise NotImplementedError

    @classmethod
    def told(cls, settings: Mapping[str, Any]) -> tuple[str, ...]:
        """Return the names of `breakdowns`: what is told, in the singular, such as `class`."""
        return ()

    def breakdowns(self) -> "Mapping[str, Breakdown]":
        """Return the scores by what is told, one for each name of `told`."""
        return {}

    def details(self, predictions: "pl.DataFrame") -> dict[str, Any]:
        """Return more about predictions for scores.json, such as scores by class."""
        return {}

    # -- with torch ------------------------------------------------------------------------------

    @abstractmethod
    def load_model(self, folder: str | Path) -> "Any":
        """Return the model of a local folder in float32 on the CPU, heads of the task's size.

        A head that the folder does not hold is made anew from torch's global generator.
        """

    def heads_of(self, model: "nn.Module") -> tuple[str, ...]:
        """Return `heads` of a model that `load_model` made: architectures may differ in them."""
        return self.heads

    @abstractmethod
    def examples(
        self, table: str | Path, assets: Mapping[str, str | Path], base: str | Path
    ) -> Examples:
        """Return the examples of a split's table; `assets`: `images`, `features` where made."""

    def of_length(self, examples: Any, base: str | Path, *, count: int, length: int) -> Examples:
        """Return `count` made-up examples like these, each of one length in `length_unit`.

        A step on them takes the memory and time of one on real examples of that length. Raises
        `InputError` where the base cannot read so much, or examples have no length.
        """
        raise InputError(
            f"memory.lengths: examples of task {self.settings['name']} have no length that could "
            "be chosen; leave it out, and memory is measured by batch size alone"
        )

    def logits(self, model: "nn.Module", examples: Any, indices: "Indices") -> int | None:
        """Return how many logits the loss of a batch makes; None where they do not weigh."""
        return None

    @abstractmethod
    def loss_module(self, model: "nn.Module", base: str | Path) -> "nn.Module":
        """Return the module whose forward takes a batch by name and gives its SUMMED loss.

        `model` may be wrapped by PEFT. The module holds `model` as an attribute, so that
        data-parallel training wraps its parameters. Where it has `counts`, names such as
        `accuracy`, its `counted` takes a batch too and gives the summed loss and a sum for each
        name: over the weight of the validation split they are the history's `val_<name>`.
        """

    def augment(self, batch: "dict[str, Tensor]") -> "dict[str, Tensor]":
        """Return a training batch changed at random, on its device; torch's generator is seeded."""
        return batch

    def shuffled(self, examples: Examples, seed: int) -> Examples:
        """Return the same examples with their inputs permuted, so that nobody keeps its own."""
        raise NotImplementedError

    def controls(self) -> Mapping[str, Control]:
        """Return what is shown beside `shuffled`, by the ending of its columns."""
        return {}

    @abstractmethod
    def predictor(
        self, model: "nn.Module", base: str | Path, device: "torch.device"
    ) -> "Predictor":
        """Return what predicts with a trained model (merged where it can be) on `device`."""

    def frozen_features(self, base: str | Path, device: "torch.device") -> "FrozenPart":
        """Return the frozen part of a base; see `frozen_part`."""
        raise NotImplementedError


class Predictor(Protocol):
    """Predicts for batches of examples, without gradients."""

    def truth(self, examples: Any) -> Mapping[str, Any]:
        """Return the columns that are known of all examples, such as `reference`."""

    def __call__(self, examples: Any, indices: "Indices") -> Mapping[str, Sequence[Any]]:
        """Return the prediction columns of these examples, one value each."""


class FrozenPart(Protocol):
    """What a frozen part of a base makes of the cached inputs."""

    @property
    def dtype(self) -> "type[np.floating[Any]]":
        """Type that features are stored in."""

    def __call__(self, pixels: "NDArray[np.uint8]") -> "Tensor":
        """Return features (N, …) of pixels (N, H, W) or (N, H, W, 3), on any device."""


def task_class(name: str) -> type[Task]:
    """Return the class `TASK` of a task's module; raises `InputError` for an unknown name."""
    return cast("type[Task]", plugin("peft_ablation.tasks", name, "TASK"))


def open_task(settings: Mapping[str, Any], train: str | Path) -> Task:
    """Return the task of a study's `task:` section (plain values), bound to its training split."""
    import polars as pl

    return task_class(settings["name"])(settings, pl.read_parquet(train))
