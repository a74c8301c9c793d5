"""Calls of tools put together from their pieces: by property, and in time that grows with them."""

from __future__ import annotations

import json
import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecoalign.gateway.chat._passed_calls import PassedCalls

OBJECTS = st.dictionaries(
    st.text(max_size=6),
    st.text(max_size=12) | st.integers() | st.dictionaries(st.text(max_size=3), st.none()),
    max_size=4,
)

CALLS = st.lists(st.tuples(st.sampled_from(["look", "read"]), OBJECTS), min_size=1, max_size=4)


def _cut(text: str, at: list[int]) -> list[str]:
    edges = [0, *sorted(place % (len(text) + 1) for place in at), len(text)]
    return [text[a:b] for a, b in pairwise(edges) if a < b]


@given(
    CALLS,
    st.lists(st.integers(0, 99), max_size=6),
    st.sampled_from(["index", "from 1", "zero", "none"]),
    st.sampled_from(["once", "always", "empty"]),
)
def test_however_servers_number_them(
    calls: list[tuple[str, dict[str, object]]], cuts: list[int], numbers: str, ids: str
) -> None:
    made = PassedCalls()
    for n, (name, value) in enumerate(calls):
        index = {"index": n, "from 1": n + 1, "zero": 0, "none": None}[numbers]
        for at, words in enumerate(_cut(json.dumps(value), cuts)):
            given_id = f"call_{n}" if at == 0 or ids == "always" else ""
            piece: dict[str, object] = {
                "id": given_id,
                "function": {"name": name if at == 0 else None, "arguments": words},
            }
            made.add([piece if index is None else {"index": index, **piece}])
    whole = [(call["function"]["name"], call["function"]["arguments"]) for call in made.whole()]
    assert [(name, json.loads(words)) for name, words in whole] == calls


@pytest.mark.parametrize("piece", ["a", "}", '{"a"'], ids=["letters", "brackets", "openings"])
@pytest.mark.parametrize("fresh", [False, True], ids=["one id", "a new id in each"])
def test_many_pieces_take_time_that_grows_with_them(piece: str, fresh: bool) -> None:
    """Doubling them doubles the time: no piece is joined to all those before it."""

    def taken(count: int) -> float:
        made = PassedCalls()
        function = {"name": "look", "arguments": piece}
        pieces = [
            {"index": 0, "id": f"id {n if fresh else 0}", "function": function}
            for n in range(count)
        ]
        begun = time.process_time()
        made.add(pieces)
        made.whole()
        return time.process_time() - begun

    few = min(taken(20_000) for _ in range(3))
    many = min(taken(160_000) for _ in range(2))
    assert many < 30 * max(few, 0.005)


def test_what_is_no_piece_is_no_call() -> None:
    with pytest.raises(ValueError, match="none"):
        PassedCalls().add(["look"])
    made = PassedCalls()
    made.add(None)
    made.add({"index": 0})
    made.add_older("x")
    assert made.whole() == []
