"""Every row of the tables of ends and of marks of thoughts, on every route, beside canaries."""

from __future__ import annotations

from collections.abc import Iterator

import httpx2
import pytest
from canaries import ANSWER, Planted, Upstream, spilled
from hostile import HostileServer
from routes import ROUTES, Answer, Route, ask
from serving import ANY_METHOD, WAIT, Served, serving

from ecoalign.models import ENDINGS, Ending
from ecoalign.models._speech import _PAIRS

EACH = pytest.mark.parametrize("route", ROUTES, ids=str)

MARKS: dict[str, tuple[str, str]] = {
    **{name: (f"<{name}>", f"</{name}>") for name in _PAIRS},
    **{name: (f"<|begin_of_{name[6:]}|>", f"<|end_of_{name[6:]}|>")
       for name in _PAIRS if name.startswith("piped_")},
    "bracketed": ("[THINK]", "[/THINK]"),
    "triangles": ("◁think▷", "◁/think▷"),
    "gemma": ("<|channel>", "<channel|>"),
    "apertus": ("<|inner_prefix|>", "<|inner_suffix|>"),
    "pangu": ("[unused16]", "[unused17]"),
    "granite": ("Here's my thought process:", "Here's my response:"),
}  # fmt: skip
"""How each family of marks is written."""

SHOWN: dict[Ending, str] = {
    "stop": "stop",
    "tool_calls": "stop",
    "length": "length",
    "content_filter": "content_filter",
    "refusal": "content_filter",
    "unknown": "length",
}
"""What a client is told of an end, where no tool was called; of words after which a server has
given up, nothing is shown at all."""


@pytest.fixture(scope="module")
def upstream() -> Upstream:
    return Upstream()


@pytest.fixture(scope="module")
def gateway(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with (
        HostileServer(upstream) as server,
        serving(
            tmp_path_factory.mktemp("tables"),
            *("--model", "gpt-4o", "--base-url", server.url, "--budget", "400000"),
            *("--set", "retries=0"),
            *ANY_METHOD,
        ) as served,
    ):
        yield served


def _ask(client: httpx2.Client, route: Route) -> Answer:
    got = ask(client, route, {})
    assert spilled(got.raw) == []
    return got


@EACH
@pytest.mark.parametrize("end", ENDINGS)
def test_every_word_for_an_end(
    gateway: Served, upstream: Upstream, route: Route, end: Ending
) -> None:
    with httpx2.Client(base_url=gateway.v1, timeout=WAIT) as client:
        for word in ENDINGS[end].split():
            upstream.planted = Planted(finish=word)
            got = _ask(client, route)
            if got.error:
                # Nobody knows how much there was; or a method found nothing that is whole.
                assert end == "unknown", (word, got)
            elif route.method == "base" or end == "stop":
                assert (got.content, got.reason) == (ANSWER, route.reason(SHOWN[end])), word
            elif SHOWN[end] != "stop":
                whole = got.content == ANSWER and got.reason == route.reason("stop")
                assert not whole, (word, got)


@EACH
@pytest.mark.parametrize("word", ["nobody-knows", "", "0", "stop, or so", "\u4e0d\u660e"])
def test_a_word_that_nobody_knows(
    gateway: Served, upstream: Upstream, route: Route, word: str
) -> None:
    upstream.planted = Planted(finish=word)
    with httpx2.Client(base_url=gateway.v1, timeout=WAIT) as client:
        got = _ask(client, route)
    assert got.reason != route.reason("stop") or got.refused, got


@EACH
@pytest.mark.parametrize("family", _PAIRS)
def test_every_mark_of_thoughts(
    gateway: Served, upstream: Upstream, route: Route, family: str
) -> None:
    opening, closing = MARKS[family]
    with httpx2.Client(base_url=gateway.v1, timeout=WAIT) as client:
        upstream.planted = Planted((f"{opening} canary {closing}\n\n{ANSWER}",), bare=True)
        assert _ask(client, route).content == ANSWER
        if family != "granite" and (route.method != "base" or not route.stream):
            # A stream cannot know before the end that it began within its thoughts.
            upstream.planted = Planted((f"canary {closing}\n\n{ANSWER}",), bare=True)
            assert _ask(client, route).content == ANSWER
        upstream.planted = Planted((f"{opening} canary",), bare=True)
        assert ANSWER not in _ask(client, route).content
