"""The tensors of a model that a checkpoint keeps, and how many parameters there are."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from peft_ablation.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor, nn


class ParameterCount(NamedTuple):
    """Parameters of a model, adapters included."""

    trainable: int
    total: int

    @property
    def percent(self) -> float:
        """Trainable share in percent."""
        return 100 * self.trainable / self.total


def count_parameters(model: "nn.Module") -> ParameterCount:
    """Count parameters; works on the meta device, where no weight is allocated."""
    parameters = [(_count(p), p.requires_grad) for p in model.parameters()]
    return ParameterCount(
        sum(count for count, trained in parameters if trained),
        sum(count for count, _ in parameters),
    )


def _count(parameter: Any) -> int:
    """Return the numbers of a parameter; of one in 4 bits, two a byte, those that it stands for."""
    state = getattr(parameter, "quant_state", None)
    return int(parameter.numel() if state is None else state.shape.numel())


def trainable_state(model: "nn.Module") -> "dict[str, Tensor]":
    """Return the trainable parameters by name, detached, on the CPU."""
    return {
        name: parameter.detach().cpu().contiguous()
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    }


def buffers(model: "nn.Module") -> "dict[str, Tensor]":
    """Return the persistent buffers by name, on the CPU: BatchNorm's move though frozen."""
    names = set(model.state_dict())
    return {
        name: buffer.detach().cpu().contiguous()
        for name, buffer in model.named_buffers()
        if name in names
    }


def load_tensors(into: "Mapping[str, Tensor]", state: "Mapping[str, Tensor]", what: str) -> None:
    """Copy `state` into tensors of the same names; raises `InputError` if names differ."""
    import torch

    if into.keys() != state.keys():
        odd = sorted(into.keys() ^ state.keys())
        raise InputError(
            f"checkpoint: {what} do not fit the arm: {len(odd)} names differ, first {odd[0]!r}; "
            "it belongs to another arm or base"
        )
    with torch.no_grad():
        for name, tensor in into.items():
            if tensor.shape != state[name].shape:
                raise InputError(
                    f"checkpoint: {what} do not fit the arm: {name!r} is "
                    f"{tuple(state[name].shape)}, expected {tuple(tensor.shape)}"
                )
            tensor.copy_(state[name])


def load_trainable_state(model: "nn.Module", state: "Mapping[str, Tensor]") -> None:
    """Copy `state` into the trainable parameters; raises `InputError` if they do not fit."""
    parameters: dict[str, Any] = {n: p for n, p in model.named_parameters() if p.requires_grad}
    load_tensors(parameters, state, "weights")


def load_buffers(model: "nn.Module", state: "Mapping[str, Tensor]") -> None:
    """Copy `state` into the persistent buffers; raises `InputError` if they do not fit."""
    names = set(model.state_dict())
    found = {name: buffer for name, buffer in model.named_buffers() if name in names}
    load_tensors(found, state, "buffers")
