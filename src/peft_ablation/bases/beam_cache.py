"""Keys and values of texts that are being written.

transformers' `DynamicLayer` copies all keys and values to add those of one token, and once more
where beam search puts beams in order. Here there is room for what will be written, and only that
is put in order: all beams of a row have its prompt.
"""

from typing import Any

from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer


class WrittenLayer(DynamicLayer):  # type: ignore[misc]
    """One layer's keys and values, each (rows, heads, tokens, width of a head)."""

    def __init__(self, read: DynamicLayer, room: int) -> None:
        """Take what a layer has read, with room for so many further tokens."""
        super().__init__()
        self.dtype, self.device, self.is_initialized = read.dtype, read.device, True
        self._read = self._length = read.keys.shape[-2]
        self._all = tuple(_with_room(part, room) for part in (read.keys, read.values))
        self.keys, self.values = read.keys, read.values

    def update(
        self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any
    ) -> tuple[Tensor, Tensor]:
        """Add those of further tokens; return all."""
        begin, self._length = self._length, self._length + key_states.shape[-2]
        for whole, new in zip(self._all, (key_states, value_states), strict=True):
            whole[..., begin : self._length, :] = new
        self.keys, self.values = (whole[..., : self._length, :] for whole in self._all)
        return self.keys, self.values

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Let each row go on from another beam of the same prompt."""
        for whole in self._all:
            written = whole[..., self._read : self._length, :]
            written.copy_(written.index_select(0, beam_idx))


def with_room(cache: DynamicCache, beams: int, room: int) -> None:
    """Repeat the rows of a cache that has read prompts for each beam, with room for new tokens.

    Layers of another kind, such as those of a sliding window, stay as they are.
    """
    cache.batch_repeat_interleave(beams)
    cache.layers = [
        WrittenLayer(layer, room) if type(layer) is DynamicLayer else layer
        for layer in cache.layers
    ]


def _with_room(read: Tensor, room: int) -> Tensor:
    whole = read.new_empty(*read.shape[:-2], read.shape[-2] + room, read.shape[-1])
    whole[..., : read.shape[-2], :] = read
    return whole
