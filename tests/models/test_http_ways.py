"""The way to a server: proxies, certificates, addresses and keys of the environment."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
from hostile import completion
from proxy_server import proxying
from raw_upstream import WAIT, RawUpstream, answer, repeating

from ecoalign.errors import InputError, ModelError
from ecoalign.gateway._forward import Forwarder
from ecoalign.models import USER_AGENT, ChatRequest, Endpoint, Message, TextPart, read_base_url
from ecoalign.models._endpoint import proxy_for
from ecoalign.models.openai._model import OpenAIModel

if TYPE_CHECKING:
    from raw_upstream import Asked, Line

KEY = "sk-never-to-be-seen-0123456789"
USER = "u%40:p%3Aw"
PAIR = base64.b64encode(b"u@:p:w").decode()
CERTIFICATE = Path(__file__).parents[1] / "support" / "tls" / "loopback.pem"
DONE = json.dumps(completion("fine")).encode()
VARIABLES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")

Ask = Callable[[str], Awaitable[str]]


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    others = ("OPENAI_BASE_URL", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID", "SSL_CERT_FILE")
    for name in (*VARIABLES, *map(str.upper, VARIABLES), *others, "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)


async def by_model(url: str) -> str:
    model = OpenAIModel("m", base_url=url)
    try:
        request = ChatRequest((Message("user", (TextPart("what?"),)),), 20, "test")
        return (await model.complete(request)).text
    finally:
        await model.aclose()


async def by_forwarder(url: str) -> str:
    way = Forwarder(Endpoint.of(url), timeout=WAIT, connections=2)
    try:
        body = json.loads((await way.post(b"{}")).body)
        return str(body["choices"][0]["message"]["content"])
    finally:
        await way.aclose()


async def by_stream(url: str) -> str:
    way = Forwarder(Endpoint.of(url), timeout=WAIT, connections=2)
    try:
        return b"".join([piece async for piece in way.stream(b"{}")]).decode()
    finally:
        await way.aclose()


both = pytest.mark.parametrize("ask", [by_model, by_forwarder])


def server_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)
    return context


def fields(head: str) -> dict[str, str]:
    lines = head.strip().split("\r\n")[1:]
    return {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}


# Proxies ----------------------------------------------------------------------------------------


@both
@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"])
async def test_http_goes_through_the_proxy(
    ask: Ask, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with proxying(answer(DONE)) as proxy:
        monkeypatch.setenv(variable, proxy.with_user(USER))
        assert await ask("http://upstream.invalid:8123/v1") == "fine"
    (head,) = proxy.heads
    assert head.startswith("POST http://upstream.invalid:8123/v1/chat/completions HTTP/1.1\r\n")
    sent = fields(head)
    assert sent["host"] == "upstream.invalid:8123"
    assert sent["proxy-authorization"] == f"Basic {PAIR}"
    assert sent["authorization"] == f"Bearer {KEY}"
    assert sent["user-agent"] == USER_AGENT


async def test_a_stream_goes_through_the_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    events = answer(b"data: {}\n\n").replace(b"application/json", b"text/event-stream")
    async with proxying(events) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        assert await by_stream("http://upstream.invalid/v1") == "data: {}\n\n"
    assert len(proxy.heads) == 1


@both
@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"])
@pytest.mark.parametrize("secure", [False, True])
async def test_https_goes_through_a_tunnel_and_the_proxy_does_not_see_the_key(
    ask: Ask, variable: str, secure: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Asked] = []

    async def script(line: Line) -> None:
        seen.append(await line.asked())
        await line.say(answer(DONE))
        await line.until_gone()

    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))
    tls = server_context() if secure else None
    async with (
        RawUpstream(script, server_context()) as upstream,
        proxying(to=upstream.url, tls=tls) as proxy,
    ):
        monkeypatch.setenv(variable, proxy.with_user(USER))
        assert await ask(upstream.url) == "fine"
    (head,) = proxy.heads
    authority = upstream.url.split("/")[2]
    assert head.startswith(f"CONNECT {authority} HTTP/1.1\r\n")
    assert KEY not in head
    told = fields(head)
    assert (told["host"], told["proxy-authorization"]) == (authority, f"Basic {PAIR}")
    assert told["user-agent"] == USER_AGENT
    assert "authorization" not in told
    assert seen[0].header("authorization") == [f"Bearer {KEY}"]
    assert seen[0].header("proxy-authorization") == []


@both
@pytest.mark.parametrize(
    ("tunnel", "fault"),
    [(b"HTTP/1.1 407 No\r\n\r\n", "rejected"), (b"SSH-2.0-x\r\n\r\n", "down"), (b"", "down")],
)
async def test_a_tunnel_that_is_refused_costs_nothing(
    ask: Ask, tunnel: bytes, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with proxying(tunnel=tunnel) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        with pytest.raises(ModelError, match="proxy in HTTPS_PROXY") as caught:
            await ask("https://upstream.invalid/v1")
    assert (caught.value.fault, caught.value.billed) == (fault, False)
    assert len(proxy.heads) == 1
    assert KEY not in proxy.heads[0]


@both
async def test_a_proxy_that_is_not_there_is_named_and_not_bypassed(
    ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with proxying() as proxy:
        pass
    async with RawUpstream(repeating(answer(DONE))) as upstream:
        monkeypatch.setenv("ALL_PROXY", proxy.with_user("me:hunter2"))
        with pytest.raises(ModelError, match="proxy in ALL_PROXY") as caught:
            await ask(upstream.url)
        assert not upstream.lines
    assert (caught.value.fault, caught.value.billed) == ("down", False)
    assert "hunter2" not in repr(caught.value)


@both
@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("socks5://127.0.0.1:1080", "socks5"),
        ("socks5h://me:hunter2@127.0.0.1:1080", "socks5h"),
        ("socks://127.0.0.1:1080", "socks"),
        ("ftp://127.0.0.1", "ftp"),
        ("http://127.0.0.1:port", "not the address of a proxy"),
        ("http://:8080", "not the address of a proxy"),
        ("http://a b", "not the address of a proxy"),
        ("http://me:hunter2\u20ac@127.0.0.1:1", "not the address of a proxy"),
    ],
)
@pytest.mark.parametrize("variable", ["ALL_PROXY", "http_proxy"])
async def test_a_proxy_of_another_kind_is_an_error_and_not_bypassed(
    ask: Ask, url: str, says: str, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with RawUpstream(repeating(answer(DONE))) as upstream:
        monkeypatch.setenv(variable, url)
        with pytest.raises(InputError, match=variable) as caught:
            await ask(upstream.url)
        assert not upstream.lines
        assert says in str(caught.value)
        assert "hunter2" not in str(caught.value)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        assert await ask(upstream.url) == "fine"


@both
async def test_a_host_in_no_proxy_is_asked_directly(
    ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loopback interface is no exception until it is named."""
    refusal = answer(b"", status="502 Bad Gateway")
    async with RawUpstream(repeating(answer(DONE))) as upstream, proxying(refusal) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.setenv("NO_PROXY", "example.org, 127.0.0.0/8")
        assert await ask(upstream.url) == "fine"
        assert not proxy.heads
        monkeypatch.setenv("NO_PROXY", "example.org")
        with pytest.raises(ModelError):
            await ask(upstream.url)
        assert len(proxy.heads) == 1
        assert len(upstream.lines) == 1


@pytest.mark.parametrize(
    ("listed", "url", "exempt"),
    [
        ("", "http://example.org", False),
        ("*", "http://example.org", True),
        ("a, *", "http://[::1]", True),
        ("example.org", "http://example.org", True),
        ("example.org", "http://EXAMPLE.org.", True),
        ("Example.org", "https://api.example.org", True),
        ("example.org", "http://badexample.org", False),
        ("example.org", "http://example.org.evil.net", False),
        (".example.org", "http://api.example.org", True),
        (".example.org", "http://example.org", True),
        ("*.example.org", "http://api.example.org", True),
        ("*.example.org", "http://example.org", False),
        ("other.net,example.org", "http://example.org", True),
        ("other.net example.org", "http://example.org", True),
        ("example.org:80", "http://example.org", True),
        ("example.org:443", "https://example.org", True),
        ("example.org:8000", "http://example.org", False),
        ("localhost", "http://localhost:8000", True),
        ("localhost", "http://127.0.0.1", False),
        ("127.0.0.1", "http://127.0.0.1:8000", True),
        ("127.0.0.1:8000", "http://127.0.0.1:8000", True),
        ("127.0.0.1:8001", "http://127.0.0.1:8000", False),
        ("10.0.0.0/8", "http://10.20.30.40", True),
        ("10.0.0.1/8", "http://10.20.30.40", True),
        ("10.0.0.0/8", "http://11.0.0.1", False),
        ("10.0.0.0/99", "http://10.0.0.1", False),
        ("::1", "http://[::1]:8000", True),
        ("[::1]", "http://[::1]:8000", True),
        ("[::1]:8000", "http://[::1]:8000", True),
        ("[::1]:8001", "http://[::1]:8000", False),
        ("fd00::/8", "http://[fd00::7]", True),
        ("fd00::/8", "http://10.0.0.1", False),
        (",, ,", "http://example.org", False),
    ],
)
def test_what_no_proxy_lists(
    listed: str, url: str, exempt: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", listed)
    assert (proxy_for(urlsplit(url)) is None) == exempt


def test_which_variable_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    plain, secure = urlsplit("http://example.org"), urlsplit("https://example.org")

    def chosen() -> list[tuple[str, str] | None]:
        found = map(proxy_for, (plain, secure))
        return [None if each is None else (each.url, each.variable) for each in found]

    assert chosen() == [None, None]
    monkeypatch.setenv("ALL_PROXY", "127.0.0.1:1")
    assert chosen() == [("http://127.0.0.1:1", "ALL_PROXY")] * 2
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:2")
    assert chosen()[1] == ("http://127.0.0.1:2", "HTTPS_PROXY")
    monkeypatch.setenv("https_proxy", "https://127.0.0.1:3")
    assert chosen()[1] == ("https://127.0.0.1:3", "https_proxy")
    monkeypatch.setenv("https_proxy", "")
    assert chosen()[1] == ("http://127.0.0.1:1", "ALL_PROXY")


def test_the_password_of_a_proxy_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://me:hunter2@127.0.0.1:9")
    endpoint = Endpoint.of("http://other:hunter3@example.org/v1")
    assert endpoint.proxy is not None
    shown = f"{endpoint!r} {endpoint.proxy!r} {OpenAIModel('m', base_url='http://h/v1')!r}"
    assert not any(secret in shown for secret in ("hunter2", "hunter3", KEY))


# Certificates -----------------------------------------------------------------------------------


@both
async def test_own_certificates(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    responses = [answer(DONE)] * 2
    async with RawUpstream(repeating(*responses), server_context()) as upstream:
        with pytest.raises(ModelError, match="is not trusted") as caught:
            await ask(upstream.url)
        assert (caught.value.fault, caught.value.billed) == ("down", False)
        monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))
        assert await ask(upstream.url) == "fine"


@both
async def test_a_folder_of_certificates(
    ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The name that OpenSSL looks for: `openssl x509 -noout -hash`, of the subject.
    (tmp_path / "bb7809ba.0").write_bytes(CERTIFICATE.read_bytes())
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
    async with RawUpstream(repeating(answer(DONE)), server_context()) as upstream:
        assert await ask(upstream.url) == "fine"


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "SSL_CERT_DIR"])
def test_certificates_that_are_not_there(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, "/nowhere/at-all")
    with pytest.raises(InputError, match=variable):
        OpenAIModel("m", base_url="https://example.org/v1")
    OpenAIModel("m", base_url="http://example.org/v1")  # none are needed


def test_a_file_that_holds_no_certificate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", __file__)
    with pytest.raises(InputError, match="SSL_CERT_FILE"):
        Endpoint.of("https://example.org/v1")


# Addresses --------------------------------------------------------------------------------------


@both
async def test_an_ipv6_address(ask: Ask) -> None:
    heads: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(answer(DONE))
        writer.close()

    try:
        server = await asyncio.start_server(serve, "::1", 0)
    except OSError:
        pytest.skip("no IPv6 on this machine")
    port = server.sockets[0].getsockname()[1]
    assert await ask(f"http://[::1]:{port}/v1") == "fine"
    server.close()
    assert f"Host: [::1]:{port}\r\n".encode() in heads[0]


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("http://localhost:8000/v1", "http://localhost:8000/v1"),
        (" https://h/v1/ \n", "https://h/v1/"),
        ("HTTP://h", "http://h"),
        ("http://[::1]:1/v1", "http://[::1]:1/v1"),
        ("http://b\u00fccher.example/v1", "http://b\u00fccher.example/v1"),
        ("http://me:pw@h/v1", "http://me:pw@h/v1"),
    ],
)
def test_base_urls(text: str, normal: str) -> None:
    assert read_base_url(text).geturl() == normal


@pytest.mark.parametrize(
    "text",
    [
        "h:8000", "ftp://h", "http://", "http://[", "/v1", "http://h:99999", "http://h:0", "http://h:x",
        "http://h/v 1", "http://h/\nv1", "http://h\t/v1", "http://h\\x/v1", "http://h\u200b/v1",
        "http://a b/v1", "http://h/v1?a=b", "http://h/v1#f", "http://h/v1?", "http://h|x/v1",
    ],
)  # fmt: skip
def test_what_is_no_base_url(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for make in (read_base_url, Endpoint.of, lambda url: OpenAIModel("m", base_url=url)):
        with pytest.raises(InputError, match="base URL"):
            make(text)
    monkeypatch.setenv("OPENAI_BASE_URL", text)
    with pytest.raises(InputError, match="OPENAI_BASE_URL"):
        OpenAIModel("m")


def test_a_query_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", f"http://me:hunter2@h/v1?key={KEY}")
    with pytest.raises(InputError) as caught:
        Endpoint.of()
    assert KEY not in str(caught.value)
    assert "hunter2" not in str(caught.value)


async def test_a_user_in_the_address_is_sent_for_the_key() -> None:
    seen: list[Asked] = []

    async def script(line: Line) -> None:
        seen.append(await line.asked())
        await line.say(answer(DONE))

    async with RawUpstream(script) as upstream:
        assert await by_model(upstream.url.replace("://", f"://{USER}@")) == "fine"
    assert seen[0].header("authorization") == [f"Basic {PAIR}"]
    assert seen[0].head.startswith("POST /v1/chat/completions ")


# Keys -------------------------------------------------------------------------------------------

UNFIT = [
    *("sk-a\nsk-b", "sk-a\r\nX-Evil: 1", "sk-a b", "\u201csk-a\u201d"),
    *("sk-\u00fc", "sk-a\x7f", "sk-\u200b"),
]


@both
@pytest.mark.parametrize("key", UNFIT)
@pytest.mark.parametrize("variable", ["OPENAI_API_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID"])
async def test_a_key_that_cannot_be_sent(
    ask: Ask, key: str, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, key)
    async with RawUpstream(repeating(answer(DONE))) as upstream:
        with pytest.raises(InputError, match=variable) as caught:
            await ask(upstream.url)
        assert not upstream.lines
    assert "sk-" not in str(caught.value)


@both
async def test_what_is_sent_beside_the_body(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Asked] = []

    async def script(line: Line) -> None:
        seen.append(await line.asked())
        await line.say(answer(DONE))

    monkeypatch.setenv("OPENAI_API_KEY", f" {KEY}\n")
    monkeypatch.setenv("OPENAI_ORG_ID", "org-1")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "proj-1")
    async with RawUpstream(script) as upstream:
        assert await ask(upstream.url) == "fine"
    sent = fields(seen[0].head)
    sent["accept"] = sent["accept"].partition(",")[0]
    assert sent == {
        "host": upstream.url.split("/")[2],
        "authorization": f"Bearer {KEY}",
        "content-type": "application/json",
        "content-length": str(len(seen[0].body)),
        "accept": "application/json",
        "accept-encoding": "identity",
        "user-agent": USER_AGENT,
        "openai-organization": "org-1",
        "openai-project": "proj-1",
    }


@both
async def test_without_a_key_none_is_sent(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Asked] = []

    async def script(line: Line) -> None:
        seen.append(await line.asked())
        await line.say(answer(DONE))

    monkeypatch.delenv("OPENAI_API_KEY")
    async with RawUpstream(script) as upstream:
        assert await ask(upstream.url) == "fine"
    assert seen[0].header("authorization") == []
