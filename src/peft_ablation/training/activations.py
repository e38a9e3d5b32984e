"""Gradient checkpointing: activations are computed again in the backward pass instead of kept.

Chen et al., Training Deep Nets with Sublinear Memory Cost (2016), https://arxiv.org/abs/1604.06174.
What lies between the layers of a model is kept, what is inside of one is not: less memory for about
a third more time, and the same gradients, dropout included.
"""

from typing import Any

from torch import nn

from peft_ablation.errors import InputError


def recompute_activations(model: nn.Module) -> None:
    """Let each layer of a (PEFT) model of transformers compute its activations again, in place.

    Raises `InputError` with one line where the model's class cannot.
    """
    inner: Any = model.get_base_model() if hasattr(model, "get_base_model") else model  # type: ignore[operator]
    if not getattr(inner, "supports_gradient_checkpointing", False):
        raise InputError(
            f"train.gradient_checkpointing: {type(inner).__name__} cannot compute activations "
            "again; set it to false, here or for the arm"
        )
    # Its former name is deprecated, the present one is not in transformers 5.15.
    enable = getattr(inner, "activation_checkpointing_enable", None)
    (enable or inner.gradient_checkpointing_enable)({"use_reentrant": False})
    # Frozen embeddings need no gradient for it: layers below the lowest adapter are not paid for.
    if hasattr(inner, "_require_grads_hook") or hasattr(inner, "_require_grads_hooks"):
        inner.disable_input_require_grads()
