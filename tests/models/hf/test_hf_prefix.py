"""What is kept of prompts, and what goes."""

from __future__ import annotations

from itertools import takewhile

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("torch", reason="the extra hf is not installed")

import torch

from ecoalign.models.hf._prefix import Layers, PrefixStore

BYTES = 4 * 2 * 2
"""Of a token in `layers`: a key and a value of two float32 numbers."""


def layers(identity: list[int]) -> Layers:
    keys = torch.tensor(identity, dtype=torch.float32).repeat(2, 1).T[None].contiguous()
    return [(keys, -keys)]


PROMPTS = st.lists(st.lists(st.integers(-2, 2), min_size=1, max_size=12), max_size=12)


@given(PROMPTS, st.integers(0, 40), st.lists(st.integers(-2, 2), max_size=12))
def test_it_finds_the_longest_of_what_it_keeps_within_its_bytes(
    prompts: list[list[int]], tokens: int, wanted: list[int]
) -> None:
    store = PrefixStore(tokens * BYTES)
    for prompt in prompts:
        store.add(prompt, layers(prompt))
        assert store.size <= tokens * BYTES
        if len(prompt) <= tokens:  # what was added last is there
            assert store.longest(prompt)[0] == len(prompt)
        assert store.size == sum(kept.size for kept in store._kept.values())
    shared, kept = store.longest(wanted)

    def alike(kept: list[int]) -> int:
        pairs = zip(wanted, kept, strict=False)
        return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))

    assert shared == max((alike(k.identity.tolist()) for k in store._kept.values()), default=0)
    if kept is None:
        assert shared == 0
    else:
        assert kept.identity[:shared].tolist() == wanted[:shared]
        assert kept.layers[0][0][0, :shared, 0].tolist() == wanted[:shared]


def test_the_one_used_longest_ago_goes_first() -> None:
    store = PrefixStore(6 * BYTES)
    for prompt in ([1, 1], [2, 2], [3, 3]):
        store.add(prompt, layers(prompt))
    store.longest([1, 1, 5])
    store.add([4, 4], layers([4, 4]))
    assert [store.longest([first])[0] for first in (1, 2, 3, 4)] == [1, 0, 1, 1]
    store.clear()
    assert (len(store), store.size) == (0, 0)


def test_a_prompt_takes_the_place_of_what_it_begins_with() -> None:
    store = PrefixStore(100 * BYTES)
    store.add([1, 2], layers([1, 2]))
    store.add([1, 2, 3], layers([1, 2, 3]))
    store.add([1, 2, 4], layers([1, 2, 4]))
    assert (len(store), store.size) == (2, 6 * BYTES)
