"""One module a task. Nothing outside a task's module may ask which task it is.

A task answers: how a model is built (`load_model`, `loss_module`), how examples become batches
(`examples`, `Examples.batch`), what is generated (`generate`) and what is saved with a model
(`save_tokenizer`). Scores are made from the texts it generates.
"""

from importlib import import_module
from types import ModuleType


def load_task(name: str) -> ModuleType:
    """Return the task's module; names are checked when the config is read."""
    return import_module(f"peft_ablation.tasks.{name}")
