"""What failed is said in one line with its cure, in the same words by every route."""

from __future__ import annotations

import os
from typing import get_args

import pytest
from failing import HIDDEN, PAGE, WAYS, Expected, Making
from proxy_server import proxying
from raw_upstream import WAIT, RawUpstream, answer, repeating

from ecoalign.budget import Budget, Ledger, MeteredClient
from ecoalign.cli._connection import ask_server
from ecoalign.errors import ModelError
from ecoalign.gateway._forward import Forwarder
from ecoalign.models import ChatRequest, Endpoint, Failure, Message, TextPart
from ecoalign.models._causes import _MEANINGS, Cause
from ecoalign.models.openai._model import OpenAIModel

KEY = "sk-never-to-be-seen-0123456789"

REQUEST = ChatRequest((Message("user", (TextPart("what?"),)),), 20, "test")


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """No proxy, no certificates and one key in the environment."""
    for name in list(os.environ):
        if "proxy" in name.lower() or name.startswith(("SSL_CERT", "OPENAI_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    return monkeypatch


async def by_model(url: str) -> ModelError:
    model = OpenAIModel("m", base_url=url)
    try:
        with pytest.raises(ModelError) as caught:
            await model.complete(REQUEST)
    finally:
        await model.aclose()
    return caught.value


async def by_forwarder(url: str) -> ModelError:
    way = Forwarder(Endpoint.of(url), timeout=WAIT, connections=2)
    try:
        with pytest.raises(ModelError) as caught:
            await way.post(b"{}")
    finally:
        await way.aclose()
    return caught.value


async def by_stream(url: str) -> ModelError:
    way = Forwarder(Endpoint.of(url), timeout=WAIT, connections=2)
    try:
        with pytest.raises(ModelError) as caught:
            async for _ in way.stream(b"{}"):
                pass
    finally:
        await way.aclose()
    return caught.value


def fits(error: ModelError, expected: Expected) -> None:
    assert (error.cause, error.billed) == (expected.cause, expected.sent), str(error)
    # A model's broken answer is not asked for again.
    assert error.fault == expected.fault or (error.cause, error.fault) == ("closed", "bad-response")
    said = str(error)
    assert expected.words in said
    assert said.startswith(error.told)
    assert "\n" not in said
    for shown in (said, repr(error), error.told, error.public, str(error.__cause__)):
        assert HIDDEN not in shown
        assert KEY not in shown
    assert not any(word in error.public for word in ("127.0.0.1", ".invalid", "PROXY", "http://"))
    if expected.proxy:
        assert said.startswith("the proxy in HTTP")
        assert "model server" not in error.told


@pytest.mark.parametrize("name", WAYS)
async def test_every_route_says_the_same(name: str, plain: pytest.MonkeyPatch) -> None:
    making, expected = WAYS[name]
    told = set()
    for route in (by_model, by_forwarder, by_stream):
        async with making() as way:
            for variable, value in way.environment.items():
                plain.setenv(variable, value)
            error = await route(way.url)
        fits(error, expected)
        port = way.url.rpartition(":")[2].partition("/")[0]
        told.add(error.told.replace(port, "PORT"))
    async with making() as way:
        for variable, value in way.environment.items():
            plain.setenv(variable, value)
        state, said = await ask_server(Endpoint.of(way.url), "m")
    assert (HIDDEN in said, KEY in said, "\n" in said) == (False, False, False)
    if expected.cause not in {"path", "model"}:  # some servers list no models
        port = way.url.rpartition(":")[2].partition("/")[0]
        (line,) = told
        assert said.replace(port, "PORT").startswith(line)
        assert state == "problem"
    assert len(told) == 1


async def _of(making: Making, plain: pytest.MonkeyPatch) -> ModelError:
    async with making() as way:
        for variable, value in way.environment.items():
            plain.setenv(variable, value)
        return await by_model(way.url)


@pytest.mark.parametrize(
    "response",
    [
        answer(PAGE, status="502 Bad Gateway"),
        answer(PAGE, status="503 Service Unavailable"),
        answer(PAGE, status="504 Gateway Timeout"),
        answer(PAGE, status="403 Forbidden"),
        answer(PAGE, status="401 Unauthorized"),
        answer(PAGE),
        answer(b"blocked by policy", status="500 No"),
        answer(b"", status="404 Not Found"),
        b"HTTP/1.1 20",
        b"",
        b"SSH-2.0-x\r\n\r\n",
    ],
)
@pytest.mark.parametrize("route", [by_model, by_forwarder, by_stream])
async def test_a_proxy_that_may_have_said_it_is_named_beside_the_server(
    response: bytes, route: object, plain: pytest.MonkeyPatch
) -> None:
    """Without TLS a proxy reads what is sent, and can answer in the server's place."""
    async with RawUpstream(_once(response)) as stand_in:
        plain.setenv("HTTP_PROXY", stand_in.url.removesuffix("/v1"))
        assert callable(route)
        error = await route("http://upstream.invalid/v1")
    assert "the proxy in HTTP_PROXY, or " in str(error)
    assert "OPENAI_API_KEY" not in str(error)
    if error.public:
        assert "the proxy, or the server behind it," in error.public


def _once(response: bytes):  # type: ignore[no-untyped-def]
    from raw_upstream import Line

    async def script(line: Line) -> None:
        await line.asked()
        await line.say(response)
        line.close()

    return script


async def test_what_the_server_itself_says_is_not_blamed_on_the_proxy(
    plain: pytest.MonkeyPatch,
) -> None:
    body = b'{"error": {"message": "Incorrect API key"}}'
    async with proxying(answer(body, status="401 No")) as proxy:
        plain.setenv("HTTP_PROXY", proxy.url)
        error = await by_model("http://upstream.invalid/v1")
    assert error.cause == "key"
    assert str(error).startswith("the model server at http://upstream.invalid refuses the key")


async def test_a_server_without_a_key_is_told_that_it_wants_one(plain: pytest.MonkeyPatch) -> None:
    plain.delenv("OPENAI_API_KEY")
    async with RawUpstream(repeating(answer(b"{}", status="401 No"))) as upstream:
        error = await by_model(upstream.url)
    assert error.cause == "no-key"
    assert "wants a key; set OPENAI_API_KEY" in str(error)


@pytest.mark.parametrize("name", [name for name, (_, told) in WAYS.items() if not told.sent])
async def test_what_was_never_sent_is_never_charged(name: str, plain: pytest.MonkeyPatch) -> None:
    making, _ = WAYS[name]
    ledger = Ledger(Budget(tokens=10_000))
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    async with making() as way:
        for variable, value in way.environment.items():
            plain.setenv(variable, value)
        model = OpenAIModel("m", base_url=way.url)
        with pytest.raises(ModelError) as caught:
            await MeteredClient(ledger, 1, sleep=sleep).complete(model, REQUEST)
        await model.aclose()
    assert ledger.spent.tokens.total == 0
    assert ledger.remaining().tokens == 10_000
    # Nobody waits for a certificate to become valid.
    lasting = caught.value.cause.startswith(("certificate", "not-tls", "proxy-tls"))
    assert len(waits) == (caught.value.fault == "down" and not lasting) * (
        caught.value.cause not in {"proxy-certificate", "proxy-malformed"}
    )


def test_every_cause_is_in_the_table_with_a_cure(plain: pytest.MonkeyPatch) -> None:
    assert set(_MEANINGS) == set(get_args(Cause))
    plain.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    for url in ("https://h.example/v1", "http://h.example/v1"):
        endpoint = Endpoint.of(url)
        for cause in get_args(Cause):
            if cause.startswith("proxy") and endpoint.proxy is None:
                continue
            met = Failure(cause, endpoint, "why", 3.0)
            assert "; " in met.line
            for text in (met.line, met.public):
                assert not set(text) & set("{}\n")
            assert "h.example" not in met.public
            assert "HTTPS_PROXY" not in met.public
