"""Keys and values with room for what is written, against transformers' own cache."""

import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from peft_ablation.bases.beam_cache import WrittenLayer, with_room

HEADS, WIDTH, PROMPT, BEAMS = 2, 4, 5, 3


def read(rows: int = 2) -> DynamicCache:
    torch.manual_seed(0)
    cache = DynamicCache()
    for layer in range(2):
        cache.update(*(torch.randn(rows, HEADS, PROMPT, WIDTH) for _ in range(2)), layer)
    return cache


def test_keys_and_values_are_those_of_transformers_after_any_steps() -> None:
    own, theirs = read(), read()
    with_room(own, BEAMS, room=4)
    theirs.batch_repeat_interleave(BEAMS)
    assert all(type(layer) is WrittenLayer for layer in own.layers)
    # Beams of a row go on from beams of the same row.
    orders = [[1, 1, 0, 5, 3, 3], [2, 0, 0, 3, 5, 4], [0, 2, 1, 4, 4, 4]]
    for order in [*orders, None]:
        for layer in range(2):
            new = [torch.randn(2 * BEAMS, HEADS, 1, WIDTH) for _ in range(2)]
            for found, expected in zip(
                own.update(*new, layer), theirs.update(*new, layer), strict=True
            ):
                assert torch.equal(found, expected)
        assert own.get_seq_length() == theirs.get_seq_length()
        if order is not None:
            for cache in (own, theirs):
                cache.reorder_cache(torch.tensor(order))


def test_layers_of_another_kind_stay() -> None:
    class Other(DynamicLayer):
        pass

    cache = read()
    cache.layers[1] = Other()
    cache.layers[1].update(*(torch.randn(2, HEADS, PROMPT, WIDTH) for _ in range(2)))
    with_room(cache, BEAMS, room=4)
    assert [type(layer) for layer in cache.layers] == [WrittenLayer, Other]
    assert cache.layers[1].keys.shape[0] == 2 * BEAMS
