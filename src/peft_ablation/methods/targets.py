"""Which modules of GIT an adapter goes to, by name and without building the model.

The names are those of `transformers.GitForCausalLM`; a test compares them with the model's own.
Kept free of torch, so that a wrong target is refused when the DAG is built.
"""

import re
from typing import Final

from peft_ablation.errors import InputError, near_miss

_VISION: Final = r"git\.image_encoder\.vision_model\.encoder\.layers\.\d+\."
_TEXT: Final = r"git\.encoder\.layer\.\d+\."

TARGETS: Final[dict[str, str]] = {
    "vision": _VISION + r"(self_attn\.(q_proj|k_proj|v_proj|out_proj)|mlp\.(fc1|fc2))",
    "vision_attention": _VISION + r"self_attn\.(q_proj|k_proj|v_proj|out_proj)",
    "text": _TEXT
    + r"(attention\.self\.(query|key|value)|attention\.output\.dense|(intermediate|output)\.dense)",
    "text_attention": _TEXT + r"attention\.(self\.(query|key|value)|output\.dense)",
}
TARGETS["vision_and_text"] = f"({TARGETS['vision']})|({TARGETS['text']})"
"""Target sets by name, as full-match expressions over module names.

`all-linear` of PEFT is not among them: in GIT it would also hit the visual projection."""

GIT_BASE_LAYERS: Final = (12, 6)
"""Vision and text layers of microsoft/git-base."""


def linear_modules(vision_layers: int, text_layers: int) -> list[str]:
    """Return the names of every linear module of a `GitForCausalLM`, in no particular order."""
    vision = ("self_attn.k_proj", "self_attn.v_proj", "self_attn.q_proj", "self_attn.out_proj")
    text = ("attention.self.query", "attention.self.key", "attention.self.value")
    return [
        *(
            f"git.image_encoder.vision_model.encoder.layers.{layer}.{name}"
            for layer in range(vision_layers)
            for name in (*vision, "mlp.fc1", "mlp.fc2")
        ),
        *(
            f"git.encoder.layer.{layer}.{name}"
            for layer in range(text_layers)
            for name in (*text, "attention.output.dense", "intermediate.dense", "output.dense")
        ),
        "git.visual_projection.visual_projection.0",
        "output",
    ]


def resolve_target(targets: str, layers: tuple[int, int] | None = None) -> str:
    """Return the full-match expression of a target set's name or of `regex:…`.

    `layers` are the vision and text layers of the base (None: those of git-base). Raises
    `InputError` for an unknown name, an invalid expression, or one that matches no module.
    """
    if targets.startswith("regex:"):
        expression = targets.removeprefix("regex:")
        try:
            pattern = re.compile(expression)
        except re.error as error:
            raise InputError(f"targets: {expression!r} is no regular expression: {error}") from None
    elif targets in TARGETS:
        expression = TARGETS[targets]
        pattern = re.compile(expression)
    else:
        allowed = ", ".join([*sorted(TARGETS), "regex:<expression>"])
        near = near_miss(targets, TARGETS)
        raise InputError(f"targets: found {targets!r}, allowed: {allowed}{near}")
    names = linear_modules(*(layers or GIT_BASE_LAYERS))
    if not any(pattern.fullmatch(name) for name in names):
        raise InputError(
            f"targets: {expression!r} matches none of the {len(names)} linear modules of the base, "
            f"expected a full match such as {names[0]!r}"
        )
    return expression


def adapts_vision(method: str, targets: str | None) -> bool:
    """Tell whether an arm changes the vision tower or its projection into the text decoder."""
    if method == "full" or targets is None:
        return True
    pattern = re.compile(resolve_target(targets, (64, 64)))
    return any(
        pattern.fullmatch(name)
        for name in linear_modules(64, 64)
        if name.startswith(("git.image_encoder.", "git.visual_projection."))
    )
