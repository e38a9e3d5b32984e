"""What methods ask of an architecture beyond its targets."""

import re
from collections.abc import Sequence
from typing import Final

from peft_ablation.bases.architectures import Architecture, known_classes
from peft_ablation.errors import InputError

_NUMBERED: Final = re.compile(r"((.+?)\.\d+)\..+")
_TEXT_HEADS: Final = {
    "ForCausalLM": "CAUSAL_LM",
    "LMHeadModel": "CAUSAL_LM",
    "ForSequenceClassification": "SEQ_CLS",
}


def prompt_task(architecture: Architecture) -> str:
    """Return PEFT's task type of a class that virtual tokens are defined for, else refuse it."""
    task = architecture.task_type
    if task is None and architecture.class_name not in known_classes():
        ends = [end for end in _TEXT_HEADS if architecture.class_name.endswith(end)]
        task = _TEXT_HEADS[ends[0]] if ends else None
    if task is None:
        raise InputError(
            f"method: virtual tokens are not defined for {architecture.class_name}, expected a "
            "model of text alone that writes or classifies; choose another method"
        )
    return task


def layers(architecture: Architecture) -> tuple[str, ...]:
    """Return the layers of an architecture, from the input to the output.

    Of a class that is not shipped these are the entries of its last outermost list. Raises
    `InputError` where there is no one stack of layers.
    """
    found = architecture.layers
    if not found and architecture.class_name not in known_classes():
        stacks: dict[str, dict[str, None]] = {}
        for module in architecture.modules:
            numbered = _NUMBERED.fullmatch(module.name)
            if numbered:
                stacks.setdefault(numbered[2], {})[numbered[1]] = None
        found = tuple(list(stacks.values())[-1]) if stacks else ()
    if not found:
        raise InputError(
            f"method: {architecture.class_name} has no one stack of layers that leads to its "
            "output; choose another method"
        )
    return found


def within(name: str, modules: Sequence[str]) -> bool:
    """Tell whether a module or parameter is one of `modules` or inside one of them."""
    return any(name == module or name.startswith(f"{module}.") for module in modules)
