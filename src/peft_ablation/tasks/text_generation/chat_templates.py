"""Chat templates: how messages become one text. They are data, Jinja files of `templates/`."""

from importlib import resources
from typing import Final

from peft_ablation.errors import InputError, near_miss

OWN: Final = "tokenizer"
"""Name of the template that comes with a base's tokenizer."""


def shipped_templates() -> dict[str, str]:
    """Return the text of each template of `templates/`, by its name."""
    folder = resources.files("peft_ablation.tasks.text_generation") / "templates"
    files = sorted(folder.iterdir(), key=lambda file: file.name)
    return {file.name.removesuffix(".jinja"): file.read_text(encoding="utf-8") for file in files}


def template_text(name: str) -> str | None:
    """Return the template of a name, or of a text that is one; None: the tokenizer's own.

    Raises `InputError` for a name that none has.
    """
    if name == OWN:
        return None
    if "{%" in name or "{{" in name:
        return name
    shipped = shipped_templates()
    if name not in shipped:
        known = [*shipped, OWN]
        raise InputError(
            f"found {name!r}, allowed: {', '.join(known)}, or the text of a Jinja template"
            f"{near_miss(name, known)}"
        )
    return shipped[name]
