"""LoRA: a low-rank product is learnt beside each chosen weight, which stays.

Hu et al., LoRA: Low-Rank Adaptation of Large Language Models (2021),
https://arxiv.org/abs/2106.09685: W becomes W + s·B·A with s = alpha / r. With it come

- `rslora`: s = alpha / sqrt(r) (Kalajdzievski 2023, https://arxiv.org/abs/2312.03732);
- `dora`: a learnt length for each row of the sum (Liu et al. 2024, https://arxiv.org/abs/2402.09353);
- `loraplus`: a higher learning rate for B (Hayou, Ghosh & Yu 2024, https://arxiv.org/abs/2402.12354);
- `init`: `default` (A uniform, B zero) and `gaussian` (A normal, B zero) as Hu et al.; `orthogonal`
  (both random, their product zero); `pissa` and `pissa_niter_<k>` (A and B are the largest singular
  directions of W, exact or by k randomised iterations, and leave W; Meng et al. 2024,
  https://arxiv.org/abs/2404.02948); `olora` (the same with a QR decomposition; Büyükakyüz 2024,
  https://arxiv.org/abs/2406.01775); `eva` (A is the main directions of the layer's inputs on the
  training data, ranks go where they explain most; Paischer et al. 2024,
  https://arxiv.org/abs/2410.07170);
- `train_norms`: all normalisation layers are trained and saved too.

PiSSA and OLoRA are saved as plain LoRA of rank 2r, so that loading them decomposes nothing.
"""

import re
from typing import TYPE_CHECKING, Any, ClassVar, Final

from pydantic import Field, field_validator

from peft_ablation.bases.architectures import Architecture
from peft_ablation.errors import InputError, near_miss
from peft_ablation.methods import ArmSettings
from peft_ablation.methods._peft import PeftMethod
from peft_ablation.methods.targets import check_targets, resolve_target

if TYPE_CHECKING:
    from torch import nn

_KINDS: Final[dict[str, tuple[str, ...]]] = {
    "default": ("Linear", "Conv1D", "Conv2d", "Embedding"),
    "gaussian": ("Linear", "Conv1D", "Conv2d", "Embedding"),
    "orthogonal": ("Linear", "Conv1D"),
    "pissa": ("Linear", "Conv1D"),
    "olora": ("Linear",),
    "eva": ("Linear", "Conv1D"),
}
"""Kinds of module that each initialisation is defined for, and works on in PEFT."""
_INITS: Final = [*_KINDS, "pissa_niter_<k>"]


class LoraSettings(ArmSettings):
    """Keys of a LoRA arm."""

    targets: str
    """Name of a target set (see config/README.md), or `regex:` and a full-match expression over
    module names."""
    r: int = Field(8, ge=1)
    """Rank."""
    alpha: float = Field(16, gt=0)
    """Scale of the update: alpha / r, or alpha / sqrt(r) with rslora."""
    dropout: float = Field(0.05, ge=0, lt=1)
    """Dropout before the adapter."""
    rslora: bool = False
    """Rank-stabilised scaling (Kalajdzievski 2023)."""
    dora: bool = False
    """Learn length and direction of each weight apart (Liu et al. 2024)."""
    loraplus: float | None = Field(None, gt=0)
    """LoRA+: learning rate of B over that of A; null: the same (Hayou et al. 2024 say 16)."""
    init: str = "default"
    """Initial values: default, gaussian, orthogonal, pissa, pissa_niter_<k>, olora or eva."""
    train_norms: bool = False
    """Train and save all normalisation layers too."""

    @field_validator("init")
    @classmethod
    def _init_is_known(cls, value: str) -> str:
        if value not in _KINDS and not re.fullmatch(r"pissa_niter_[1-9]\d*", value):
            raise ValueError(
                f"found {value!r}, allowed: {', '.join(_INITS)}{near_miss(value, _KINDS)}"
            )
        return value


class Lora(PeftMethod):
    """Low-rank adapters on the targets."""

    Settings: ClassVar[type[ArmSettings]] = LoraSettings

    def check(self, architecture: Architecture | None) -> None:
        """Refuse targets that are none of the base's, or none that the initialisation can have."""
        check_targets(self.arm["targets"], architecture, method=self._name, kinds=self._kinds)
        if self.arm["init"] == "orthogonal" and self.arm["r"] % 2:
            raise InputError(
                f"r: found {self.arm['r']}, expected an even rank with init orthogonal"
            )

    def changes(self, module: str, architecture: Architecture) -> bool:
        """Tell whether a module is adapted, or a normalisation layer that is trained."""
        if self.arm["train_norms"] and module in architecture.norms:
            return True
        return re.fullmatch(self._expression(architecture), module) is not None

    @property
    def rank(self) -> int | None:
        """Rank of the adapters; with `eva` their mean."""
        return int(self.arm["r"])

    def also_trained(self, architecture: Architecture) -> list[str]:
        """Return the normalisation layers, where the arm trains them."""
        return list(architecture.norms) if self.arm["train_norms"] else []

    def config(self, architecture: Architecture, steps: int) -> Any:
        """Return the `LoraConfig` of the arm."""
        from peft import EvaConfig, LoraConfig

        expression = self._expression(architecture)
        init = self.arm["init"]
        return LoraConfig(
            r=self.arm["r"],
            lora_alpha=self.arm["alpha"],
            lora_dropout=self.arm["dropout"],
            use_rslora=self.arm["rslora"],
            use_dora=self.arm["dora"],
            init_lora_weights=True if init == "default" else init,
            eva_config=EvaConfig() if init == "eva" else None,
            target_modules=expression,
            fan_in_fan_out=stores_transposed(expression, architecture),
        )

    def optimizer_groups(self, model: "nn.Module", weight_decay: float) -> list[dict[str, Any]]:
        """Return one group, or with LoRA+ a faster second one that holds the B matrices alone.

        PEFT's own LoRA+ also speeds up whatever has one axis, such as the bias of a head, whose
        weight it leaves slow.
        """
        ratio = self.arm["loraplus"]
        if ratio is None:
            return super().optimizer_groups(model, weight_decay)
        trained = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
        is_b = re.compile(r".*\.lora_(embedding_)?B\..*").match
        slow = [p for name, p in trained if not is_b(name)]
        fast = [p for name, p in trained if is_b(name)]
        return [
            {"params": slow, "weight_decay": weight_decay, "rate": 1.0},
            {"params": fast, "weight_decay": weight_decay, "rate": float(ratio)},
        ]

    @property
    def _kinds(self) -> tuple[str, ...]:
        return _KINDS[self.arm["init"].partition("_")[0]]

    @property
    def _name(self) -> str:
        init = self.arm["init"]
        return "lora" if init == "default" else f"lora with init {init}"

    def _expression(self, architecture: Architecture) -> str:
        return resolve_target(
            self.arm["targets"], architecture, method=self._name, kinds=self._kinds
        )


def stores_transposed(expression: str, architecture: Architecture) -> bool:
    """Tell whether targets are GPT-2's `Conv1D`, which keep weights as (in, out)."""
    return any(
        module.kind == "Conv1D" and re.fullmatch(expression, module.name)
        for module in architecture.modules
    )


METHOD = Lora
