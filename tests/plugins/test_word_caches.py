"""Caches with room for new tokens against transformers' own, and the rows of a pass."""

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

pytestmark = pytest.mark.torch


def states(tokens: int) -> torch.Tensor:
    return torch.randn(3, 2, tokens, 4)


def test_a_layer_with_room_holds_what_a_layer_without_holds():
    from transformers.cache_utils import DynamicLayer

    from plugins.word_scores import ROOM, RoomyLayer

    torch.manual_seed(0)
    keys, values = states(5), states(5)
    roomy, plain = RoomyLayer(keys, values), DynamicLayer()
    plain.update(keys, values)
    places = set()
    for step in range(2 * ROOM + 3):
        if step in (1, ROOM):
            for layer in (roomy, plain):
                layer.crop(-1)
        if step == ROOM + 5:
            for layer in (roomy, plain):
                layer.batch_select_indices(torch.tensor([2, 0]))
            keys, values = keys[:2], values[:2]
        more = [states(1 + step % 2)[: len(roomy.keys)] for _ in range(2)]
        for one, other in zip(roomy.update(*more), plain.update(*more), strict=True):
            assert torch.equal(one, other)
        assert roomy.get_seq_length() == plain.get_seq_length()
        places.add(roomy.keys.data_ptr())
    assert len(places) < 8  # most tokens copied nothing


def test_joined_caches_are_filled_up_after_the_shared_tokens():
    from transformers.cache_utils import DynamicCache

    from plugins.word_scores import joined

    caches = [DynamicCache(), DynamicCache()]
    short, long = (torch.randn(rows, 2, tokens, 4) for rows, tokens in ((2, 5), (3, 8)))
    for cache, part in zip(caches, (short, long), strict=True):
        for layer in range(2):
            cache.update(part + layer, part - layer, layer)
    both = joined(caches, 3)
    for layer in range(2):
        keys, values = both.layers[layer].keys, both.layers[layer].values
        assert keys.shape == values.shape == (5, 2, 8, 4)
        assert torch.equal(keys[2:], long + layer) and torch.equal(values[2:], long - layer)
        assert torch.equal(keys[:2, :, :3], (short + layer)[:, :, :3])
        assert torch.equal(keys[:2, :, 6:], (short + layer)[:, :, 3:]) and not keys[:2, :, 3:6].any()


@given(st.lists(st.integers(1, 600), min_size=1, max_size=80), st.integers(1, 2000))
def test_every_row_is_read_once_in_passes_of_so_many_tokens(lengths, tokens):
    from plugins.word_scores import passes

    found = passes(lengths, tokens)
    assert [row for rows in found for row in range(len(lengths))[rows]] == list(range(len(lengths)))
    for rows in found:
        part = lengths[rows]
        assert len(part) == 1 or len(part) * max(part) <= tokens
    for one, other in itertools.pairwise(found):  # no pass could have taken the next row too
        wider = lengths[one.start : other.start + 1]
        assert len(wider) * max(wider) > tokens
