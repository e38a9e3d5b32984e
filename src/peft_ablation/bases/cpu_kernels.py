"""Linear layers, dropout and activations that lose less time on a CPU than torch's defaults.

On x86 torch hands float32 products to MKL, which on AMD processors reaches half of what oneDNN does
and on Intel's up to twice as much; and it draws one random number an element for dropout.
transformers' QuickGELU is three operations forward and five back, GPT-2's GELU eight and more.
Results are those of the modules replaced up to rounding, for dropout the same distribution from
other draws. On a GPU all but the activations is torch's.
"""

import platform
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

_ONEDNN = (
    platform.machine().lower() in ("x86_64", "amd64")
    and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    and hasattr(torch.ops.mkldnn, "_reorder_linear_weight")
)
"""Whether oneDNN's product can be called; the same answer for every run on a machine, so that a
resumed run rounds as it did before."""


def _made_by_amd() -> bool:
    """Tell whether the processor is one of AMD's."""
    try:
        told = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        told = platform.processor()
    return "AuthenticAMD" in told


_LEARNS_BY_ONEDNN = _ONEDNN and _made_by_amd()
"""Whether training's products go through oneDNN. Those of a packed model always do: they are at
least as fast on either."""

_LEVELS = 1 << 16
_SLOPE = 1.702


def _product(rows: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return rows @ weight.T + bias through oneDNN."""
    product: Tensor = torch.ops.mkldnn._linear_pointwise(rows, weight, bias, "none", [], "")
    return product


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        of_values, of_weight, _ = ctx.needs_input_grad
        # Only what the gradients will need: a frozen layer keeps no activations.
        ctx.save_for_backward(values if of_weight else None, weight if of_values else None)
        return _product(values, weight, bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor | None, ...]:
        values, weight = ctx.saved_tensors
        gradient = gradients[0].contiguous()
        rows = gradient.flatten(0, -2)
        return (
            None if weight is None else _product(gradient, weight.t()),
            None if values is None else _product(rows.t(), values.flatten(0, -2).t()),
            rows.sum(0) if ctx.needs_input_grad[2] else None,
        )


class Linear(nn.Linear):
    """`nn.Linear` through oneDNN for float32 on the CPU."""

    packed: Tensor | None = None
    """The weight as oneDNN lays it out, of a model that learns no more; see `pack`."""
    halved: Tensor | None = None
    """The weight in half precision, of such a model once it was asked under autocast."""

    def forward(self, input: Tensor) -> Tensor:
        """Return input @ weight.T + bias."""
        half = in_half(self)
        if half is not None:
            return functional.linear(input, half, self.bias)
        output = _by_onednn(input, self.weight, self.bias, self.packed)
        return super().forward(input) if output is None else output


def in_half(layer: Any) -> Tensor | None:
    """Return the weight of a layer that learns no more as autocast on the CPU has it, made once.

    Autocast itself casts a weight at each product. None where it is to do so.
    """
    if (
        layer.packed is None
        or torch.is_grad_enabled()
        or not torch.is_autocast_enabled("cpu")
        or layer.weight.device.type != "cpu"
    ):
        return None
    dtype = torch.get_autocast_dtype("cpu")
    if layer.halved is None or layer.halved.dtype != dtype:
        layer.halved = layer.weight.detach().to(dtype)
    halved: Tensor = layer.halved
    return halved


def _by_onednn(
    input: Tensor, weight: Tensor, bias: Tensor | None, packed: Tensor | None
) -> Tensor | None:
    """Return input @ weight.T + bias, or None where torch's own product is to be taken."""
    if (
        not _ONEDNN
        or input.device.type != "cpu"
        or not input.dtype == weight.dtype == torch.float32
        or input.dim() < 2
        or not input.numel()
        or torch.is_autocast_enabled("cpu")
    ):
        return None
    if packed is not None and not torch.is_grad_enabled():
        return _product(input.contiguous(), packed, bias)
    if not _LEARNS_BY_ONEDNN:
        return None
    # As a matrix: oneDNN's product of more dimensions is a view, which autograd forbids to
    # change in place, as AdaLoRA does.
    rows = input.contiguous().flatten(0, -2)
    output: Tensor = _Linear.apply(rows, weight, bias)  # type: ignore[no-untyped-call]
    return output if input.dim() == 2 else output.view(*input.shape[:-1], -1)


@cache
def _transposed(kind: type[nn.Module]) -> type[nn.Module]:
    """Return GPT-2's `Conv1D`, a linear layer that keeps its weight as (in, out), as `Linear`."""

    def forward(self: Any, x: Tensor) -> Tensor:
        half = in_half(self)
        if half is not None:
            return functional.linear(x, half.t(), self.bias)
        output = _by_onednn(x, self.weight.t(), self.bias, self.packed)
        result: Tensor = kind.forward(self, x) if output is None else output
        return result

    # Of the same name, by which methods and PEFT know what a module is.
    namespace = {"forward": forward, "packed": None, "halved": None, "__module__": __name__}
    return type(kind.__name__, (kind,), namespace)


class _Dropout(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, probability: float) -> Tensor:
        count, cut = values.numel(), round(probability * _LEVELS)
        # 64 random bits at a time, 16 for each element.
        draws = torch.empty(-(-count // 4), dtype=torch.int64).random_(-(2**63), None)
        bits = draws.view(torch.int16)[:count].view(values.shape)
        kept = bits.ge(cut - _LEVELS // 2).to(values.dtype).mul_(_LEVELS / (_LEVELS - cut))
        ctx.save_for_backward(kept)
        return values * kept

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor, None]:
        (kept,) = ctx.saved_tensors
        return gradients[0] * kept, None


def dropout(values: Tensor, probability: float) -> Tensor:
    """Drop elements with `probability` and scale the others up, as training needs it.

    On the CPU the probability is rounded to 1/65536 (0.1 becomes 0.100006) and the scale with it,
    so the expectation is exact; on a GPU it is torch's.
    """
    if not probability:
        return values
    if values.device.type != "cpu" or round(probability * _LEVELS) in (0, _LEVELS):
        return functional.dropout(values, probability)
    dropped: Tensor = _Dropout.apply(values, probability)  # type: ignore[no-untyped-call]
    return dropped


class Dropout(nn.Dropout):
    """`nn.Dropout` through `dropout`."""

    def forward(self, input: Tensor) -> Tensor:
        """Drop elements of `input` while training."""
        return dropout(input, self.p) if self.training else input


class _QuickGelu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        steep = values * _SLOPE
        ctx.save_for_backward(steep)
        return functional.silu(steep).mul_(1 / _SLOPE)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Tensor:
        # d/dx silu(s x) / s = silu'(s x): the slope cancels.
        (steep,) = ctx.saved_tensors
        gradient: Tensor = torch.ops.aten.silu_backward(gradients[0], steep)
        return gradient


class QuickGelu(nn.Module):
    """x * sigmoid(1.702 x), the activation of CLIP's and GIT's vision towers."""

    def forward(self, input: Tensor) -> Tensor:
        """Return the activation of `input`."""
        activated: Tensor = _QuickGelu.apply(input)  # type: ignore[no-untyped-call]
        return activated


def lighten(model: nn.Module) -> None:
    """Put these in place of a model's linear layers, dropouts and such activations, also in PEFT's.

    Parameters and their names stay, so nothing that is saved or loaded changes.
    """
    for module in list(model.modules()):
        if type(module) is nn.Linear:
            module.__class__ = Linear
        elif _is_conv1d(module):
            kind: Any = type(module)
            module.__class__ = _transposed(kind)
        for name, child in list(module.named_children()):
            if type(child) is nn.Dropout:
                setattr(module, name, Dropout(child.p).train(child.training))
            elif type(child).__name__ == "QuickGELUActivation":
                setattr(module, name, QuickGelu())
            elif type(child).__name__ == "NewGELUActivation":
                setattr(module, name, nn.GELU(approximate="tanh"))


def _is_conv1d(module: nn.Module) -> bool:
    kind = type(module)
    return (kind.__module__, kind.__name__) == ("transformers.pytorch_utils", "Conv1D")


def pack(model: nn.Module) -> None:
    """Copy the weights of a lightened model into oneDNN's layout: for a model that learns no more.

    Products are faster with it, most of all those of few rows, as in generation. Under autocast it
    is a copy in half precision, made when it is first needed. Without gradients the copies are what
    counts: a weight changed later changes nothing.
    """
    if not _ONEDNN:
        return
    for module in model.modules():
        weight: Any = getattr(module, "weight", None)
        if not hasattr(module, "packed") or weight.device.type != "cpu":
            continue
        matrix = weight.detach() if type(module) is Linear else weight.detach().t().contiguous()
        module.packed = torch.ops.mkldnn._reorder_linear_weight(matrix, None)
