"""The last layer of an encoder for its first token alone, which is all that a classifier reads.

Of that layer's products only keys and values are those of every token: a twelfth of the work of
twelve layers is nearly saved, forward and back. Results are those of the layer up to rounding.
"""

from functools import cache
from typing import Any, Final

from torch import Tensor, nn
from torch.nn import functional

FAMILIES: Final = frozenset(("bert", "camembert", "electra", "roberta", "xlm-roberta"))
"""`model_type` of encoders that are made as BERT is, and whose heads read the first token."""


def read_first_token(model: Any) -> None:
    """Let the last layer of a sequence classifier make its first token alone; see `FAMILIES`.

    Names of modules and weights stay. Where the layer is given a cache (prefixes), or attention is
    not sdpa's (to record it), it makes all tokens as before.
    """
    if model.config.model_type in FAMILIES:
        layer = model.base_model.encoder.layer[-1]
        layer.__class__ = _of_first_token(layer.__class__)


@cache
def _of_first_token(kind: type[nn.Module]) -> type[nn.Module]:
    def forward(
        self: Any,
        hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        *more: Any,
        **named: Any,
    ) -> Any:
        attention = self.attention.self
        cached = named.get("past_key_values") is not None
        if cached or attention.config._attn_implementation != "sdpa":
            return kind.forward(self, hidden_states, attention_mask, *more, **named)

        def by_head(rows: Tensor) -> Tensor:
            split: Tensor = rows.view(*rows.shape[:2], -1, attention.attention_head_size)
            return split.transpose(1, 2)

        first = hidden_states[:, :1]
        seen = functional.scaled_dot_product_attention(
            by_head(attention.query(first)),
            by_head(attention.key(hidden_states)),
            by_head(attention.value(hidden_states)),
            attn_mask=None if attention_mask is None else attention_mask[..., :1, :],
            dropout_p=attention.dropout.p if self.training else 0.0,
        )
        whole = self.attention.output(seen.transpose(1, 2).flatten(2), first)
        return self.feed_forward_chunk(whole)

    return type(kind.__name__, (kind,), {"forward": forward, "__module__": __name__})
