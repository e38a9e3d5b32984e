"""Methods that train some of the base's own parameters, and save only these.

A saved folder holds `delta.safetensors`, the trained parameters under the base's own names, and
`delta.json`, which says what they are. Plain transformers load them onto the plain base with
`model.load_state_dict(load_file("delta.safetensors"), strict=False)`.
"""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from peft_ablation.artifacts import write_json
from peft_ablation.bases.architectures import Architecture, model_architecture
from peft_ablation.errors import InputError
from peft_ablation.methods import Method
from peft_ablation.methods._modules import within
from peft_ablation.methods.parameters import trainable_state

if TYPE_CHECKING:
    from torch import Tensor, nn

    from peft_ablation.methods import Batches, LoadModel

WEIGHTS: Final = "delta.safetensors"
DESCRIPTION: Final = "delta.json"


class DeltaMethod(Method):
    """Trains the parameters that `chosen` names; the rest of the base stays."""

    @abstractmethod
    def chosen(
        self, parameters: Sequence[str], architecture: Architecture, heads: Sequence[str]
    ) -> set[str]:
        """Return which of the parameters, by name, are trained."""

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
        """Freeze all but the chosen parameters; nothing is drawn."""
        architecture = model_architecture(model)
        self.check(architecture)
        # A tied weight has several names, of which named_parameters would tell the first alone.
        names = [name for name, _ in model.named_parameters(remove_duplicate=False)]
        chosen = self.chosen(names, architecture, heads)
        self._refuse_tied(model, chosen)
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name in chosen)
        return model

    def _refuse_tied(self, model: "nn.Module", chosen: set[str]) -> None:
        owners: dict[int, list[str]] = {}
        for name, parameter in model.named_parameters(remove_duplicate=False):
            owners.setdefault(id(parameter), []).append(name)
        for names in owners.values():
            inside = [name for name in names if name in chosen]
            outside = [name for name in names if name not in chosen]
            if inside and outside:
                raise InputError(
                    f"method: {self.arm['method']} would train {inside[0]!r}, which is the same "
                    f"tensor as {outside[0]!r} in this base, and so both; choose another method"
                )

    def start_from(self, model: "nn.Module", folder: str | Path, heads: Sequence[str]) -> None:
        """Copy another run's delta, but for the heads."""
        saved = _read(folder)
        kept = {name: tensor for name, tensor in saved.items() if not within(name, heads)}
        wanted = {
            name
            for name, parameter in model.named_parameters()
            if parameter.requires_grad and not within(name, heads)
        }
        if wanted != kept.keys():
            odd = sorted(wanted ^ kept.keys())
            raise InputError(
                f"init_from: {folder} does not fit the arm: {len(odd)} names differ, first "
                f"{odd[0]!r}; start from a run of the same method on the same base"
            )
        _copy(model, kept, folder)

    def save(self, model: "nn.Module", folder: str | Path) -> None:
        """Write the trained parameters alone."""
        from safetensors.torch import save_file

        tensors = trainable_state(model)
        save_file(tensors, Path(folder, WEIGHTS), metadata={"format": "pt"})
        write_json(
            Path(folder, DESCRIPTION),
            {
                "class": type(model).__name__,
                "method": self.arm["method"],
                "parameters": sum(tensor.numel() for tensor in tensors.values()),
                "tensors": sorted(tensors),
            },
        )

    def load(self, load_model: "LoadModel", base: str | Path, folder: str | Path) -> "nn.Module":
        """Return the base with the trained parameters in place."""
        model = load_model(base)
        _copy(model, _read(folder), folder)
        return model.requires_grad_(False)

    def loading(self, class_name: str) -> str:
        """Return the Python that loads a saved `folder` onto the `base`."""
        return (
            f"model = {class_name}.from_pretrained(base); "
            f'model.load_state_dict(load_file(f"{{folder}}/{WEIGHTS}"), strict=False)'
        )


def _read(folder: str | Path) -> "dict[str, Tensor]":
    from safetensors.torch import load_file

    tensors: dict[str, Tensor] = load_file(Path(folder, WEIGHTS))
    return tensors


def _copy(model: "nn.Module", tensors: "Mapping[str, Tensor]", folder: str | Path) -> None:
    import torch

    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for name, tensor in tensors.items():
            found = tuple(parameters[name].shape) if name in parameters else "no such parameter"
            if found != tuple(tensor.shape):
                raise InputError(
                    f"{Path(folder, WEIGHTS)}: {name} has shape {tuple(tensor.shape)}, but the "
                    f"base has {found}; it was trained on another base"
                )
            parameters[name].copy_(tensor)
