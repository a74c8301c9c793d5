"""The upstream's key does not come out of answers that are passed on."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from ecoalign.gateway._forward import StreamRedactor

KEY = "sk-abab-abac"
SHOWN = b"[key]"


def fed(secret: str, data: bytes, cuts: list[int]) -> bytes:
    hiding = StreamRedactor(secret)
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    pieces = [data[a:b] for a, b in pairwise(edges)]
    return b"".join(hiding.feed(piece) for piece in pieces if piece) + hiding.end()


@given(
    st.lists(st.sampled_from([KEY.encode(), b"sk-abab-aba", b"s", b"sk-", b"data: {}\n\n", b"c"])),
    st.lists(st.integers(0, 500)),
)
def test_however_it_is_cut_the_key_is_hidden_and_nothing_else(
    parts: list[bytes], cuts: list[int]
) -> None:
    data = b"".join(parts)
    assert (
        fed(KEY, data, cuts) == StreamRedactor(KEY).whole(data) == data.replace(KEY.encode(), SHOWN)
    )


@given(st.binary(), st.lists(st.integers(0, 500)), st.text(max_size=4))
def test_without_a_key_all_passes(data: bytes, cuts: list[int], short: str) -> None:
    assert fed("", data, cuts) == data
    assert fed(short[:2], data, cuts) == data


def test_what_cannot_be_the_key_is_not_held_back() -> None:
    hiding = StreamRedactor(KEY)
    assert hiding.feed(b"data: {}\n\n") == b"data: {}\n\n"
    assert hiding.feed(b"data: sk-") == b"data: "
    assert hiding.feed(b"y\n\n") == b"sk-y\n\n"
    assert hiding.end() == b""
