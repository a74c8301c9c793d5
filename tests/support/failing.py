"""Ways to a server that fail, each with its cause: real sockets of the loopback interface."""

from __future__ import annotations

import json
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from proxy_server import proxying
from raw_upstream import Line, RawUpstream, Script, answer, repeating

TLS = Path(__file__).parent / "tls"

PAGE = b"<!doctype html><html><body>Sign in to go on</body></html>"

HIDDEN = "hunter2-is-never-shown"


@dataclass(frozen=True)
class Way:
    """A way that fails.

    Attributes:
        url: the base URL.
        environment: what leads there.
        asked: what counts the requests that were read in the end; None where nothing could be.
    """

    url: str
    environment: Mapping[str, str] = field(default_factory=dict)
    asked: RawUpstream | None = None


Making = Callable[[], AbstractAsyncContextManager[Way]]


@dataclass(frozen=True)
class Expected:
    """What is to be said of a way.

    Attributes:
        cause: in the table.
        fault: of the `ModelError`.
        sent: whether it is charged.
        words: in the line.
        proxy: whether the proxy is to blame, and no server.
    """

    cause: str
    fault: str
    sent: bool
    words: str
    proxy: bool = False


def context(name: str) -> ssl.SSLContext:
    """A server's, with the certificate of this name."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(TLS / f"{name}.pem")
    return made


def _closed_port() -> socket.socket:
    """Bound, and not listening: nobody else can take it meanwhile."""
    held = socket.socket()
    held.bind(("127.0.0.1", 0))
    return held


def _tls(name: str, trusted: str = "") -> Making:
    @asynccontextmanager
    async def way() -> AsyncIterator[Way]:
        async with RawUpstream(repeating(answer(b"{}")), context(name)) as upstream:
            known = {"SSL_CERT_FILE": str(TLS / f"{trusted}.pem")} if trusted else {}
            yield Way(upstream.url, known)

    return way


def _says(script: Script, scheme: str = "http") -> Making:
    @asynccontextmanager
    async def way() -> AsyncIterator[Way]:
        async with RawUpstream(script) as upstream:
            yield Way(upstream.url.replace("http", scheme, 1), {}, upstream)

    return way


def _at(url: str) -> Making:
    @asynccontextmanager
    async def way() -> AsyncIterator[Way]:
        yield Way(url)

    return way


@asynccontextmanager
async def _nobody() -> AsyncIterator[Way]:
    with _closed_port() as held:
        yield Way(f"http://127.0.0.1:{held.getsockname()[1]}/v1")


@asynccontextmanager
async def _no_proxy_there() -> AsyncIterator[Way]:
    with _closed_port() as held:
        proxy = f"http://me:{HIDDEN}@127.0.0.1:{held.getsockname()[1]}"
        yield Way("https://upstream.invalid/v1", {"HTTPS_PROXY": proxy})


def _proxy(
    tunnel: bytes,
    scheme: str = "https",
    *,
    says: bytes = b"",
    named: str = "",
    tls: str = "",
    trusted: str = "",
) -> Making:
    """By way of a proxy that answers so; or by one that is `named`."""
    variable = f"{scheme.upper()}_PROXY"

    @asynccontextmanager
    async def way() -> AsyncIterator[Way]:
        async with proxying(says, tunnel=tunnel, tls=context(tls) if tls else None) as proxy:
            address = named or proxy.with_user(f"me:{HIDDEN}")
            known = {"SSL_CERT_FILE": str(TLS / f"{trusted}.pem")} if trusted else {}
            yield Way(f"{scheme}://upstream.invalid/v1", {variable: address, **known})

    return way


@asynccontextmanager
async def _https_proxy_without_tls() -> AsyncIterator[Way]:
    async with RawUpstream(_bad_request) as upstream:
        proxy = upstream.url.removesuffix("/v1").replace("http", "https", 1)
        yield Way("https://upstream.invalid/v1", {"HTTPS_PROXY": proxy})


@asynccontextmanager
async def _https_beyond_the_proxy() -> AsyncIterator[Way]:
    """The proxy opens the way; the certificate at its end is the server's."""
    async with (
        RawUpstream(repeating(answer(b"{}")), context("expired")) as upstream,
        proxying(to=upstream.url) as proxy,
    ):
        trusted = {"SSL_CERT_FILE": str(TLS / "expired.pem")}
        yield Way(upstream.url, {"HTTPS_PROXY": proxy.url, **trusted})


async def _bad_request(line: Line) -> None:
    """What a plain HTTP server says to a TLS greeting."""
    await line.say(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
    line.close()


async def _hang_up(line: Line) -> None:
    line.close()


async def _reset_at_once(line: Line) -> None:
    sock = line._writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    line.reset()


def _after_reading(then: bytes) -> Script:
    async def script(line: Line) -> None:
        await line.asked()
        await line.say(then)
        line.close()

    return script


def _status(status: str, body: bytes = b"", *headers: str) -> Script:
    return repeating(*[answer(body, *headers, status=status)] * 200)


def _error(message: str) -> bytes:
    return json.dumps({"error": {"message": message}}).encode()


_NGINX = b"<html><center>The plain HTTP request was sent to HTTPS port</center></html>"

WAYS: dict[str, tuple[Making, Expected]] = {
    # -- certificates
    "signed by itself": (_tls("loopback"), Expected(
        "certificate-self-signed", "down", False, "no authority has signed it but itself")),
    "of an unknown authority": (_tls("server"), Expected(
        "certificate-unknown", "down", False, "its authority is not known here")),
    "expired": (_tls("expired", "expired"), Expected(
        "certificate-expired", "down", False, "has expired; renew it")),
    "not valid yet": (_tls("early", "early"), Expected(
        "certificate-early", "down", False, "is not valid yet; set this machine's clock")),
    "for another name": (_tls("elsewhere", "elsewhere"), Expected(
        "certificate-name", "down", False, "is for another name")),
    "trusted, but of another authority": (_tls("loopback", "authority"), Expected(
        "certificate-self-signed", "down", False, "SSL_CERT_FILE")),
    "expired, beyond a proxy": (_https_beyond_the_proxy, Expected(
        "certificate-expired", "down", False, "the certificate of 127.0.0.1 has expired")),
    # -- TLS and HTTP taken for one another
    "https to a server of http": (_says(_bad_request, "https"), Expected(
        "not-tls", "down", False, "write http:// in place of https://")),
    "https to a server that hangs up": (_says(_hang_up, "https"), Expected(
        "tls-closed", "down", False, "closed the connection before TLS")),
    "https to a server that resets": (_says(_reset_at_once, "https"), Expected(
        "tls-closed", "down", False, "closed the connection before TLS")),
    "https to a server of SSH": (
        _says(lambda line: line.say(b"SSH-2.0-OpenSSH_9.6\r\n"), "https"), Expected(
        "not-tls", "down", False, "does not speak TLS")),
    "http to a server of https, an alert": (
        _says(_after_reading(b"\x15\x03\x01\x00\x02\x02\x16")), Expected(
        "tls-port", "rejected", True, "write https:// in place of http://")),
    "http to a server of https, nginx": (
        _says(_status("400 Bad Request", _NGINX)), Expected(
        "tls-port", "rejected", False, "write https:// in place of http://")),
    "http to a server of https, Go": (
        _says(_status("400 Bad Request", b"Client sent an HTTP request to an HTTPS server.\n")),
        Expected("tls-port", "rejected", False, "speaks TLS there")),
    # -- names and ports
    "a name that nobody has": (_at("http://no-such-host.invalid/v1"), Expected(
        "name", "down", False, "the name no-such-host.invalid is not known")),
    "a port where nobody listens": (_nobody, Expected(
        "refused", "down", False, "nothing listens there; start it")),
    # -- proxies
    "a proxy that is not there": (_no_proxy_there, Expected(
        "proxy-refused", "down", False, "nothing listens there", True)),
    "a proxy whose name nobody has": (
        _proxy(b"", named=f"http://me:{HIDDEN}@no-proxy.invalid:3128"), Expected(
        "proxy-name", "down", False, "its name is not known", True)),
    "a proxy that wants a password": (
        _proxy(b"HTTP/1.1 407 No\r\nContent-Length: 0\r\n\r\n"), Expected(
        "proxy-password", "rejected", False, "wants a user and a password", True)),
    "a proxy that wants a password for http": (
        _proxy(b"", "http", says=answer(PAGE, status="407 No")), Expected(
        "proxy-password", "rejected", False, "wants a user and a password", True)),
    "a proxy that refuses": (_proxy(b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n"), Expected(
        "proxy-denied", "down", False, "does not open the way to upstream.invalid", True)),
    "a proxy that finds nobody": (
        _proxy(b"HTTP/1.1 503 No\r\nContent-Length: 4\r\n\r\nbusy"), Expected(
        "proxy-denied", "down", False, "(HTTP 503)", True)),
    "a proxy with a page": (
        _proxy(b"HTTP/1.1 302 Found\r\nLocation: http://portal/\r\nContent-Length: 0\r\n\r\n"),
        Expected("proxy-denied", "down", False, "(HTTP 302)", True)),
    "a proxy of another protocol": (_proxy(b"SSH-2.0-x\r\n\r\n"), Expected(
        "proxy-malformed", "down", False, "does not answer as an HTTP proxy", True)),
    "a proxy that hangs up": (_proxy(b""), Expected(
        "proxy-closed", "down", False, "closed the connection without an answer", True)),
    "a proxy by https that speaks none": (_https_proxy_without_tls, Expected(
        "proxy-tls", "down", False, "write http:// before it in place of https://", True)),
    "a proxy with a certificate of its own": (_proxy(b"", tls="loopback"), Expected(
        "proxy-certificate", "down", False, "its own certificate is not trusted", True)),
    "a proxy with an expired one": (_proxy(b"", tls="expired", trusted="expired"), Expected(
        "proxy-certificate", "down", False, "certificate has expired", True)),
    # -- servers
    "a server that breaks off": (_says(_after_reading(b"")), Expected(
        "closed", "server", True, "broke off without an answer")),
    "a server of another protocol": (_says(_after_reading(b"SSH-2.0-x\r\n\r\n")), Expected(
        "malformed", "bad-response", True, "not HTTP")),
    "a page": (_says(_status("200 OK", PAGE)), Expected(
        "page", "bad-response", True, "answered with an HTML page")),
    "a redirect": (_says(_status("302 Found", b"", "Location: http://portal.invalid/")), Expected(
        "redirect", "rejected", False, "set the base URL to the right address")),
    "a wrong key": (_says(_status("401 No", _error("Incorrect API key"))), Expected(
        "key", "rejected", False, "refuses the key in OPENAI_API_KEY")),
    "a key that may not": (_says(_status("403 No", _error("not yours"))), Expected(
        "key", "rejected", False, "check it, and what it may use")),
    "a wrong path": (_says(_status("404 No", b'{"detail":"Not Found"}')), Expected(
        "path", "rejected", False, "has nothing at /v1/chat/completions")),
    "a wrong path, a page": (_says(_status("404 No", b"<html>model not found</html>")), Expected(
        "path", "rejected", False, "it mostly ends in /v1")),
    "a wrong model": (_says(_status("404 No", _error("The model `m` does not exist"))), Expected(
        "model", "rejected", False, "check the model's name")),
}  # fmt: skip
"""By what they are."""

EARLY = [name for name, (_, told) in WAYS.items() if not told.sent]
"""Those on which nothing was sent, or what was sent was refused unread: they cost nothing."""
