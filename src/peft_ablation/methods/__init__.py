"""Methods: what of a base is trained, one module each.

A method knows which weights are trained and by which optimizer groups, what else a checkpoint must
hold, and how the result is saved, loaded and merged. It knows no task, and nothing outside this
folder asks which method it is. Module level is free of torch: settings are checked and targets
matched when the DAG is built.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast

from pydantic import Field

from peft_ablation.as_published import AsPublished
from peft_ablation.bases.architectures import Architecture
from peft_ablation.config.base import Base, RunOf
from peft_ablation.config.section import Section
from peft_ablation.errors import InputError
from peft_ablation.plugins import plugin

if TYPE_CHECKING:
    from torch import Tensor, nn

    Batches = Callable[[], Iterable[Callable[[nn.Module], Tensor]]]
    """Gives functions that run a model forward on a training batch and return its loss."""
    LoadModel = Callable[[str | Path], nn.Module]
    """Makes the task's model of a local folder, such as a base."""


Optimizer = Literal["adamw", "adamw_8bit", "paged_adamw_32bit", "paged_adamw_8bit"]
"""Optimizers by name, as `optim` of transformers' Trainer has them but for the first, its
`adamw_torch_fused`; see `training/optimizers.py`."""


class ArmSettings(Section):
    """Keys of an arm that every method has."""

    method: str
    """What is trained: a module of `peft_ablation.methods`, or the dotted name of one's own."""
    learning_rate: float = Field(gt=0)
    """Peak learning rate."""
    base: Base | None = None
    """What this arm starts from, where it is not the study's `base`."""
    init_from: RunOf | None = None
    """A run whose trained weights (an adapter's, say) this arm starts from; new heads stay new."""
    optimizer: Optimizer | None = None
    """The optimizer of this arm; null: the study's, `train.optimizer`."""
    gradient_checkpointing: bool | None = None
    """Whether this arm computes activations again; null: as the study,
    `train.gradient_checkpointing`."""
    as_published: AsPublished | None = None
    """Defects of a published protocol, switched on to see what they do; null: none."""


@dataclass(frozen=True)
class Kept:
    """A model that is scored without training here, and what it is made of."""

    model: "nn.Module"
    trained: int = 0
    """Parameters that others trained, where that is known."""
    megabytes: float = 0.0
    """What it needs on disk besides the base."""


@dataclass(frozen=True)
class Weights:
    """What training holds of weights, whatever the batch."""

    frozen: float
    """Bytes of those that stay, quantised ones as they are stored."""
    trained: "Sequence[Tensor]"
    """Those that are trained; of them there are gradients, and states of the optimizer."""


@dataclass(frozen=True)
class Part:
    """A finished run that another model is made of."""

    arm: str
    method: "Method"
    model: Path
    """Its model folder."""


class Method(ABC):
    """A method, bound to the settings of an arm (plain values of its `Settings`).

    A run calls `apply` (with the checkpoint's `state`, if it resumes), then loads the checkpoint's
    trainable parameters and buffers, then makes the optimizer of `optimizer_groups`. A step is:
    `train_mode` before the first; backward of the loss plus `extra_loss`; the optimizer's step;
    `after_step`; only then are the gradients dropped.
    """

    Settings: ClassVar[type[ArmSettings]] = ArmSettings
    trains: ClassVar[bool] = True
    """False: the base is scored as it is, without a training job."""
    freezes_base: ClassVar[bool] = True
    """Whether the base's own weights stay. Then BatchNorm keeps its statistics, too."""

    libraries: ClassVar[tuple[str, ...]] = ()
    """Packages whose release is part of the result: a checkpoint of another is not continued."""
    elsewhere: ClassVar[bool] = False
    """Whether weights come from elsewhere: who knows what they were trained on, and how."""

    def __init__(self, arm: Mapping[str, Any]) -> None:
        """Bind to an arm's settings."""
        self.arm = arm

    # -- without torch ---------------------------------------------------------------------------

    def check(self, architecture: Architecture | None) -> None:  # noqa: B027
        """Raise `InputError` with one line where the arm cannot be had on this architecture.

        `architecture` is None where the base is not known before it is fetched; then the targets'
        form alone is checked here, and `apply` refuses the rest before the first step.
        """

    @abstractmethod
    def changes(self, module: str, architecture: Architecture) -> bool:
        """Tell whether training changes what the module of this name computes."""

    @property
    def wraps_forward(self) -> bool:
        """Whether it works in the forward of the wrapped model alone, as virtual tokens do.

        A task that calls modules of the base by itself would train and score without it, unseen:
        the engine must refuse the two together.
        """
        return False

    def leaves_alone(
        self, architecture: Architecture | None, prefixes: Sequence[str], heads: Sequence[str]
    ) -> bool:
        """Tell whether training changes no module whose name begins with one of `prefixes`.

        `*` stands for all modules but the heads. False where the architecture is not known.
        """
        if not self.trains:
            return True
        if architecture is None:
            return False
        names = [module.name for module in architecture.modules]
        if "*" in prefixes:
            watched = [n for n in names if not any(f"{n}.".startswith(f"{h}.") for h in heads)]
        else:
            watched = [name for name in names if name.startswith(tuple(prefixes))]
        return not any(self.changes(name, architecture) for name in watched)

    @property
    def inputs(self) -> tuple[str, ...]:
        """Absolute paths that `keep` reads besides the base."""
        return ()

    @property
    def parts(self) -> tuple[str, ...]:
        """Arms of the study whose runs of the same seed `compose` makes its model of."""
        return ()

    @property
    def merges(self) -> bool:
        """Whether `load` gives the base's own modules, with all that was trained in their weights.

        Else something is kept beside them.
        """
        return True

    @property
    def recomputes(self) -> bool:
        """Whether it stays what it is under gradient checkpointing.

        That drops keys and values which a layer is given from outside, with a warning alone.
        """
        return True

    @property
    def rank(self) -> int | None:
        """Rank of the adapters, where the method has one."""
        return None

    @property
    def targets(self) -> str | None:
        """The targets as the arm names them, for tables."""
        return self.arm.get("targets")

    # -- with torch ------------------------------------------------------------------------------

    @abstractmethod
    def apply(
        self,
        model: "nn.Module",
        *,
        seed: int,
        heads: Sequence[str],
        steps: int,
        batches: "Batches",
        state: "Mapping[str, Tensor] | None" = None,
    ) -> "nn.Module":
        """Return `model` made ready to train; initial values come from `seed` alone.

        `heads` are modules that must be trained and saved too. `steps` is the number of optimizer
        steps of the whole run. `batches()` yields, for initialisations that look at data, functions
        that run a given model (wrapped or not) forward on a training batch and return its loss.
        `state` is what `state` gave for the checkpoint that is resumed: shapes follow it, and no
        data is looked at. Raises `InputError` with one line where the model cannot have the method.
        """

    def expected_weights(self, model: "nn.Module", *, heads: Sequence[str], steps: int) -> Weights:
        """Return what training a `model` fresh from the task is expected to hold of weights.

        `model` may lie on the meta device and is changed; `heads` and `steps` are those of `apply`.
        Raises `NotImplementedError` where that follows from the data alone.
        """

        def none() -> "Iterable[Callable[[nn.Module], Tensor]]":
            raise NotImplementedError(f"method {self.arm['method']}: its weights follow from data")

        parameters = list(
            self.apply(model, seed=0, heads=heads, steps=steps, batches=none).parameters()
        )
        return Weights(
            sum(p.nbytes for p in parameters if not p.requires_grad),
            [p for p in parameters if p.requires_grad],
        )

    def start_from(self, model: "nn.Module", folder: str | Path, heads: Sequence[str]) -> None:
        """Copy what another run of this method has saved into `model`, fresh from `apply`.

        `heads` stay as they are: they are made for another task. Raises `InputError` with one line
        where the weights do not fit.
        """
        raise InputError(
            f"init_from: method {self.arm['method']} cannot start from another run's weights; "
            "name that run as the arm's base instead"
        )

    def optimizer_groups(self, model: "nn.Module", weight_decay: float) -> list[dict[str, Any]]:
        """Return the trainable parameters as groups: `params`, `weight_decay`, `rate`.

        `rate` is the factor on the scheduled learning rate (1 but for LoRA+).
        """
        trainable = [p for p in model.parameters() if p.requires_grad]
        return [{"params": trainable, "weight_decay": weight_decay, "rate": 1.0}]

    def train_mode(self, model: "nn.Module") -> None:
        """Put a model into training mode; a frozen base keeps BatchNorm's running statistics."""
        from torch.nn.modules.batchnorm import _BatchNorm

        model.train()
        if self.freezes_base:
            for module in model.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()

    def extra_loss(self, model: "nn.Module") -> "Tensor | None":
        """Return a term added to each step's mean loss (AdaLoRA's orthogonality), or None."""
        return None

    def after_step(self, model: "nn.Module", step: int) -> None:  # noqa: B027
        """Act after optimizer step `step` (0-based, of the whole run), before gradients go."""

    def state(self, model: "nn.Module") -> "dict[str, Tensor]":
        """Return what a checkpoint must hold besides trainable parameters, buffers, optimizer."""
        return {}

    def keep(
        self,
        load_model: "LoadModel",
        base: str | Path,
        folder: str | Path,
        heads_of: "Callable[[nn.Module], Sequence[str]]",
    ) -> Kept:
        """Write to `folder` what an arm that is not trained is scored by, if it is not the base.

        `heads_of` tells the task's heads of a loaded model.
        """
        return Kept(load_model(base))

    def compose(
        self,
        load_model: "LoadModel",
        base: str | Path,
        folder: str | Path,
        heads_of: "Callable[[nn.Module], Sequence[str]]",
        parts: Sequence[Part],
    ) -> "nn.Module":
        """Write to `folder` what is made of finished runs, one for each of `parts`; return it."""
        raise NotImplementedError

    @abstractmethod
    def save(self, model: "nn.Module", folder: str | Path) -> None:
        """Write the trained model to an empty folder, as plain transformers or PEFT loads it."""

    @abstractmethod
    def load(self, load_model: "LoadModel", base: str | Path, folder: str | Path) -> "nn.Module":
        """Return what `save` wrote to `folder`, on the CPU, ready to predict.

        `load_model` makes the task's model of a local folder, such as `base`. The result is merged
        into the base where the method can be, so that prediction costs no more.
        """

    @abstractmethod
    def loading(self, class_name: str) -> str:
        """Return the Python that loads a saved `folder` (on `base`), for a model card."""


def method_class(name: str) -> type[Method]:
    """Return the class `METHOD` of a method's module; raises `InputError` for an unknown name."""
    return cast("type[Method]", plugin("peft_ablation.methods", name, "METHOD"))


def open_method(arm: Mapping[str, Any]) -> Method:
    """Return the method of an arm (plain values), bound to its settings."""
    return method_class(arm["method"])(arm)
