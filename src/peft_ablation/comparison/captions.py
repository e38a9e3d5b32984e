"""What stands under every figure of a study, and the turns of phrase that its texts share.

Free of torch and of tables' libraries: the Snakefile reads captions.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from peft_ablation.comparison.words import Words


def caption(study: str, config: Mapping[str, Any], reference: str | None) -> str:
    """Return the sentence under every figure that tells which study it is of, as reStructuredText.

    `config` are the study's settings as plain values.
    """
    arms = listed(list(config["arms"]))
    seeds = config["train"]["seeds"]
    compared = f"; reference arm {reference}" if reference else ""
    text = (
        f"Study {study}, task {named(config)}, data from {config['data']['source']}: "
        f"{arms}, {counted(len(seeds), 'seed')} each, at most {epochs(config)}{compared}."
    )
    return rst_text(text)


def named(config: Mapping[str, Any]) -> str:
    """Return the task's name as a sentence has it."""
    return str(config["task"]["name"]).replace("_", " ")


def rst_text(text: str) -> str:
    """Return plain text so that reStructuredText shows it as it is (`lora_` names no link)."""
    return "".join(f"\\{letter}" if letter in "\\*`_|" else letter for letter in text)


def listed(items: Sequence[str]) -> str:
    """Return `a, b and c`."""
    *rest, last = items
    return f"{', '.join(rest)} and {last}" if rest else last


def counted(count: int, noun: str) -> str:
    """Return `1 seed` or `2 seeds`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def epochs(config: Mapping[str, Any]) -> str:
    """Return the number of epochs of a study's settings."""
    return counted(config["train"]["epochs"], "epoch")


def tested_on(first: Mapping[str, Any], words: Words) -> str:
    """Return how many test examples of how many groups there are, from any row of the table."""
    examples, groups = first["test_examples"], first["test_groups"]
    of_groups = f" of {groups:,} {words.group}s" if groups != examples else ""
    return f"{examples:,} test {words.example}s{of_groups}"


def sentence(text: str) -> str:
    """Return the text with its first letter large."""
    return f"{text[:1].upper()}{text[1:]}"
