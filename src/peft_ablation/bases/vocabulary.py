"""Cross entropy of a vocabulary head that keeps no logits.

A head's logits are by far the largest tensors of a small model's step, and torch keeps them in up
to four copies until the gradients are made. Here they are made for a few rows at a time, and at
once become what is left of them: the losses, and the gradient of the rows. Only a head that learns
needs more, which is one matrix in the products' precision. Values and gradients are those of
`functional.cross_entropy` on the head's output up to rounding.

Shapes: N rows of width H, V words.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from peft_ablation.bases.cpu_kernels import Linear, in_half

_LOGITS = {"cpu": 1 << 23, "cuda": 1 << 27}
"""Logits that are made at a time: few enough for a processor's cache, enough for large products."""


def vocabulary_losses(
    rows: Tensor, head: nn.Module, targets: Tensor, *, label_smoothing: float = 0.0
) -> Tensor:
    """Return the cross entropy of `head(rows)`, (N,), in nats, float32.

    `rows` (N, H) are a model's last hidden states, `targets` (N,) words, int64. A head that is not
    a plain linear layer, as one with an adapter, makes all its logits at once.
    """
    if type(head) not in (nn.Linear, Linear):
        return functional.cross_entropy(
            head(rows).float(), targets, reduction="none", label_smoothing=label_smoothing
        )
    device = rows.device.type
    dtype = head.weight.dtype
    if torch.is_autocast_enabled(device):
        dtype = torch.get_autocast_dtype(device)
    losses: Tensor = _Losses.apply(  # type: ignore[no-untyped-call]
        rows, head.weight, head.bias, targets, label_smoothing, dtype,
        torch.is_grad_enabled(), in_half(head) if type(head) is Linear else None,
    )  # fmt: skip
    return losses


class _Losses(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        rows: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        smoothing: float,
        dtype: torch.dtype,
        learns: bool,
        matrix: Tensor | None,
    ) -> Tensor:
        learns &= any(ctx.needs_input_grad)
        head_learns = learns and any(ctx.needs_input_grad[1:3])
        given, count, words = rows.to(dtype), len(rows), len(weight)
        matrix = weight.to(dtype) if matrix is None else matrix
        size = max(1, min(count, _LOGITS.get(rows.device.type, _LOGITS["cuda"]) // words))
        losses = rows.new_empty(count, dtype=torch.float32)
        of_rows = torch.empty_like(given) if learns else None
        of_logits = given.new_empty(count, words) if head_learns else None
        # Memory that is new costs more than what is done in it.
        floats = rows.new_empty(2, size, words, dtype=torch.float32)
        logits = floats[0] if dtype is torch.float32 else given.new_empty(size, words)
        for begin in range(0, count, size):
            part = slice(begin, begin + size)
            told = targets[part, None]
            made, (values, p) = logits[: len(told)], floats[:, : len(told)]
            torch.mm(given[part], matrix.t(), out=made)
            if bias is not None:
                made += bias
            if dtype is not torch.float32:
                values.copy_(made)
            torch.ops.aten._log_softmax.out(values, 1, False, out=p)
            own = p.gather(1, told)
            losses[part] = -own[:, 0]
            if smoothing:
                losses[part] = -(1 - smoothing) * own[:, 0] - smoothing * p.mean(1)
            if of_rows is None:
                continue
            p.exp_()
            p.scatter_add_(1, told, torch.full_like(own, smoothing - 1))
            if smoothing:
                p -= smoothing / words
            kept = made if of_logits is None else of_logits[part]
            torch.mm(kept.copy_(p), matrix, out=of_rows[part])
        ctx.save_for_backward(of_rows, of_logits, given if head_learns else None)
        ctx.kinds = rows.dtype, weight.dtype
        return losses

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor | None, ...]:
        of_rows, of_logits, given = ctx.saved_tensors
        of_kind, weight_kind = ctx.kinds
        scale = gradients[0][:, None]
        for_rows = (of_rows * scale).to(of_kind) if ctx.needs_input_grad[0] else None
        for_weight = for_bias = None
        if ctx.needs_input_grad[1]:
            # Each row's factor goes to the smaller matrix.
            for_weight = (of_logits.t() @ (given * scale).to(given.dtype)).to(weight_kind)
        if ctx.needs_input_grad[2]:
            for_bias = (of_logits.t() @ scale.to(given.dtype))[:, 0].to(weight_kind)
        return for_rows, for_weight, for_bias, None, None, None, None, None
