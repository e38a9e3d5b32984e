"""Frozen linear layers in 4 bits, by the bitsandbytes library.

Dettmers et al., QLoRA: Efficient Finetuning of Quantized LLMs (2023),
https://arxiv.org/abs/2305.14314: each block of 64 weights is kept as 4-bit numbers of a fixed table
(`nf4`: quantiles of a normal distribution; `fp4`: floats) and one scale, itself in 8 bits with
double quantisation. A product multiplies by the table's values: nothing is rounded again.
Quantising is a function of the weights and the library's release alone.
"""

import logging
from collections.abc import Iterable
from copy import copy
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from peft_ablation.errors import InputError


@dataclass(frozen=True)
class FourBits:
    """How weights are kept in 4 bits."""

    quant_type: str
    """`nf4` or `fp4`."""
    double_quant: bool
    """Whether the scales of blocks are quantised too."""
    compute_dtype: str = "float32"
    """Type that a product's inputs are cast to, as torch calls it."""


def bitsandbytes(wanted_by: str) -> Any:
    """Return the library; `wanted_by` says for which key.

    Raises `InputError` with one line where it is not installed, or where it has no code for this
    machine's GPU: it would say so by a trace of its own in the first step.
    """
    # It asks for a package with a kernel of a CPU that has no gradients: nothing is lacking.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    try:
        import bitsandbytes as library
    except (ImportError, OSError) as error:
        raise InputError(
            f"{wanted_by}: needs the package bitsandbytes, which cannot be imported "
            f"({_brief(error)}); pip install 'peft-ablation[quantisation]', or choose another"
        ) from error
    if torch.cuda.is_available():
        try:
            probe = torch.ones(64).cuda()
            library.functional.dequantize_4bit(*library.functional.quantize_4bit(probe)).cpu()
        except (RuntimeError, AttributeError, OSError) as error:
            raise InputError(
                f"{wanted_by}: bitsandbytes {library.__version__} does not know this machine's "
                f"GPU, {torch.cuda.get_device_name()} ({_brief(error)}); install a release made "
                "for it, or choose another"
            ) from error
    return library


def _brief(error: Exception) -> str:
    said = " ".join(str(error).split()) or type(error).__name__
    return said if len(said) <= 120 else f"{said[:120]}…"


def stored_bytes(weights: int, how: FourBits) -> float:
    """Return the bytes of so many weights: half a byte each, and a scale for each block of 64.

    A scale is a float32; with double quantisation 8 bits, and a float32 for each 256 scales.
    """
    scale = 1 + 4 / 256 if how.double_quant else 4
    return weights * (0.5 + scale / 64)


def quantise(model: nn.Module, names: Iterable[str], how: FourBits, library: Any) -> None:
    """Put the linear layers `names` of a model on the CPU into 4 bits, in place.

    What their weights are rounded to is what `dequantise` leaves; biases stay. `how.compute_dtype`
    is what a layer's inputs are cast to; autocast goes before it.
    """
    kind = linear_4bit(library)
    for name in names:
        linear: Any = model.get_submodule(name)
        small = kind(
            linear.in_features,
            linear.out_features,
            bias=linear.bias is not None,
            compute_dtype=getattr(torch, how.compute_dtype),
            compress_statistics=how.double_quant,
            quant_type=how.quant_type,
            device="meta",
        )
        small.weight = _weight(linear, how, library, small)
        small.bias = linear.bias
        small.requires_grad_(False)
        model.set_submodule(name, small)
    # What PEFT asks a base before it puts adapters on such layers.
    model.is_loaded_in_4bit = True  # type: ignore[assignment]


def dequantise(model: nn.Module, names: Iterable[str], how: FourBits, library: Any) -> None:
    """Round the weights of the linear layers `names` to what 4 bits would hold, in place.

    The modules stay what they are, in the type of their weights.
    """
    for name in names:
        linear: Any = model.get_submodule(name)
        rounded = _values(_weight(linear, how, library, None), library)
        linear.weight.data = rounded.to(linear.weight.dtype)


@cache
def linear_4bit(library: Any) -> Any:
    """Return bitsandbytes' `Linear4bit` with products of its own on the CPU.

    There 0.50.2 has two faults, neither of which it tells. With AVX512-BF16 the first forward pass
    in evaluation mode lays weights out anew for a kernel without gradients, and training goes on
    with wrong ones. With AVX512 rows of an odd number of half blocks (32 or 96 inputs) are given
    the scales of other blocks.
    """

    class Product(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, inputs: Tensor, weight: Any, bias: Tensor | None) -> Tensor:
            ctx.weight = weight
            return functional.linear(inputs, _values(weight, library).to(inputs.dtype), bias)

        @staticmethod
        def backward(ctx: Any, *gradients: Any) -> tuple[Tensor, None, None]:
            (gradient,) = gradients
            return gradient @ _values(ctx.weight, library).to(gradient.dtype), None, None

    class Linear4bit(library.nn.Linear4bit):  # type: ignore[misc]
        def forward(self, x: Tensor) -> Tensor:
            if x.device.type != "cpu":
                output: Tensor = super().forward(x)
                return output
            bias = None if self.bias is None else self.bias.to(self.compute_dtype)
            output = Product.apply(x.to(self.compute_dtype), self.weight, bias)  # type: ignore[no-untyped-call]
            return output.to(x.dtype)

    return Linear4bit


def misread(model: nn.Module, library: Any) -> str | None:
    """Return the first layer whose numbers bitsandbytes itself reads wrongly here, if any."""
    modules: list[tuple[str, Any]] = list(model.named_modules())
    for name, module in modules:
        if isinstance(module, library.nn.Linear4bit):
            weight = module.weight
            read = library.functional.dequantize_4bit(weight.data, weight.quant_state)
            if not torch.equal(read, _values(weight, library)):
                return name
    return None


def _values(weight: Any, library: Any) -> Tensor:
    """Return the float32 numbers that a weight in 4 bits stands for."""
    state = copy(weight.quant_state)
    shape, count = state.shape, state.shape.numel()
    # A block a row, or all in one row: what the CPU's kernel gets right.
    whole = count % state.blocksize == 0
    state.shape = torch.Size((count // state.blocksize, state.blocksize) if whole else (1, count))
    values: Tensor = library.functional.dequantize_4bit(weight.data, state)
    return values.view(shape)


def _weight(linear: nn.Linear, how: FourBits, library: Any, module: Any) -> Any:
    return library.nn.Params4bit(
        linear.weight.detach(),
        requires_grad=False,
        compress_statistics=how.double_quant,
        quant_type=how.quant_type,
        module=module,
    ).to(linear.weight.device)
