"""What is known of a base before it is there: its class and sizes."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from peft_ablation.artifacts import read_json
from peft_ablation.bases.architectures import Architecture, architecture, model_type
from peft_ablation.errors import InputError

if TYPE_CHECKING:
    from peft_ablation.config.base import Base
    from peft_ablation.tasks import Task


def architecture_of(
    base: "Base", task: "type[Task]", folder: str | None = None
) -> Architecture | None:
    """Return the architecture that `task` makes of a base, None where it cannot be known yet.

    `folder` is where the base will lie; its config.json counts once it is there. Without it the
    answer is the same before and after a base is fetched, so that the DAG can be made from it.
    Raises `InputError` where the base is known to be of a class that the task has not.
    """
    config = _config(base, folder)
    kind = model_type_of(base, folder)
    if kind is None and len(task.architectures) == 1:
        (kind,) = task.architectures  # there is no other choice
    if kind is None:
        return None
    if task.architectures and kind not in task.architectures:
        raise InputError(
            f"base: model_type is {kind!r}, expected {', '.join(sorted(task.architectures))}"
        )
    return architecture(task.architectures[kind], config) if task.architectures else None


def model_type_of(base: "Base", folder: str | None = None) -> str | None:
    """Return the `model_type` of a base, None where it cannot be known yet; see above."""
    kind = _config(base, folder).get("model_type", base.model_type)
    return None if kind is None else str(kind)


def _config(base: "Base", folder: str | None) -> dict[str, Any]:
    """Return what config.json says, or will say; empty where nothing is known."""
    if base.kind == "phantom":
        sizes = base.pretraining
        return {
            "model_type": "git",
            "num_hidden_layers": sizes.text_layers,
            "vision_config": {"num_hidden_layers": sizes.vision_layers},
        }
    if base.kind == "random" and base.random is not None:
        made = base.random
        return {"model_type": model_type(made.architecture), **made.config}
    for place in (folder, base.id if base.is_folder else None):
        if place is not None and Path(place, "config.json").is_file():
            found = read_json(Path(place, "config.json"))
            return found if isinstance(found, dict) else {}
    return {}
