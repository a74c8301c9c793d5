"""The official `openai` client, set up to be told everything, and its errors as ours.

Imported only when a request is sent: the client costs 0.4 s to import.
"""

from __future__ import annotations

import asyncio
import json
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.request import getproxies, proxy_bypass

import httpx2
import openai

from ecoalign.errors import ModelError
from ecoalign.models.openai._response import named, said, scrub, seconds_to_wait
from ecoalign.wire.connection import WireError
from ecoalign.wire.pool import Pool

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

__all__ = [
    "CONNECTIONS",
    "Line",
    "RejectionError",
    "TooLargeError",
    "WireTransport",
    "direct",
    "open_line",
    "post",
]

CONNECTIONS = 512
"""At once to one server: 32 runs with as many calls each as `max_concurrency` allows, twice."""


class TooLargeError(httpx2.DecodingError):
    """The response is larger than any completion."""


_ERRORS: dict[str, type[httpx2.RequestError]] = {
    "refused": httpx2.ConnectError,
    "closed": httpx2.RemoteProtocolError,
    "malformed": httpx2.RemoteProtocolError,
    "too-large": TooLargeError,
}


def direct(url: httpx2.URL) -> bool:
    """Whether no proxy of the environment stands between here and `url`."""
    proxies = getproxies()
    used = any(proxies.get(scheme) for scheme in (url.scheme, "all"))
    return not used or bool(proxy_bypass(url.host))


class WireTransport(httpx2.AsyncBaseTransport):
    """HTTP/1.1 to the server of one URL, without a proxy, and to no other.

    What the official client sends it first it can send `again` with another body, without that
    client's work for each request (0.4 ms): the same address, headers and key.

    Time is not limited here: who sends a request limits the whole of it.

    Args:
        url: of the server.
        most: bytes of one answer, head and framing included.
    """

    def __init__(self, url: httpx2.URL, most: int) -> None:
        tls = httpx2.create_ssl_context() if url.scheme == "https" else None
        self._at = _place(url)
        self._pool = Pool(url.host, self._at[2], tls=tls, connections=CONNECTIONS, most=most)
        self._first: tuple[httpx2.URL, bytes] | None = None

    @property
    def ready(self) -> bool:
        """Whether there is a request to send `again`."""
        return self._first is not None

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """See `httpx2.AsyncBaseTransport`; the answer is read whole."""
        if _place(request.url) != self._at:
            raise httpx2.UnsupportedProtocol("a request to another server", request=request)
        body = await request.aread()
        lines = [b"%s %s HTTP/1.1" % (request.method.encode("ascii"), request.url.raw_path)]
        lines += [
            b"%s: %s" % (name, value)
            for name, value in request.headers.raw
            if name.lower() not in {b"content-length", b"transfer-encoding"}
        ]
        head = b"\r\n".join(lines)
        response = await self._exchange(request.url, head, body)
        if response.is_success:
            self._first = request.url, head
        return response

    async def again(self, body: bytes) -> httpx2.Response:
        """The last request that was granted once more, with another body.

        Raises:
            httpx2.RequestError: there was no (proper) answer.
            RuntimeError: there is no such request; see `ready`.
        """
        if self._first is None:
            raise RuntimeError("nothing was sent yet")
        return await self._exchange(*self._first, body)

    async def _exchange(self, url: httpx2.URL, head: bytes, body: bytes) -> httpx2.Response:
        whole = b"%s\r\ncontent-length: %d\r\n\r\n" % (head, len(body))
        try:
            connection = await self._pool.take()
            try:
                connection.send(whole, body)
                said = await connection.head()
                data = await connection.whole()
            finally:
                self._pool.give(connection)
        except WireError as error:
            raise _ERRORS[error.cause](str(error)) from None
        # It has been read whole, however it was framed.
        kept = [pair for pair in said.headers.items() if pair[0] != b"transfer-encoding"]
        return httpx2.Response(said.status, headers=kept, stream=httpx2.ByteStream(data))

    async def aclose(self) -> None:
        """Close every connection."""
        self._pool.close()
        # The loop closes the sockets in its next round, which may be its last.
        await asyncio.sleep(0)


def _place(url: httpx2.URL) -> tuple[str, str, int]:
    return url.scheme, url.host, url.port or (443 if url.scheme == "https" else 80)


# A completion with log-probabilities is at most a few MB; anything larger is not one.
MAX_RESPONSE_BYTES = 16 * 1024 * 1024

HEAD_BYTES = 64 * 1024

CONNECT_SECONDS = 10.0


class _Bounded(httpx2.AsyncByteStream):
    """A response body, unpacked if need be, that stops at `MAX_RESPONSE_BYTES` of plain bytes."""

    def __init__(self, inner: httpx2.AsyncByteStream, *, packed: bool) -> None:
        self._inner = inner
        self._packed = packed

    async def __aiter__(self) -> AsyncIterator[bytes]:
        unpacker = zlib.decompressobj(zlib.MAX_WBITS | 32) if self._packed else None
        room = MAX_RESPONSE_BYTES
        async for chunk in self._inner:
            plain = chunk
            if unpacker is not None:
                try:
                    plain = unpacker.decompress(chunk, room + 1)
                except zlib.error as error:
                    raise httpx2.DecodingError(str(error)) from None
            room -= len(plain)
            if room < 0:
                raise TooLargeError("response body too large")
            yield plain

    async def aclose(self) -> None:
        await self._inner.aclose()


async def _bound_body(response: httpx2.Response) -> None:
    """Hook: put a limit on the body, for every status. The server was asked not to pack it."""
    encoding = response.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in {"identity", "gzip", "deflate"}:
        raise httpx2.DecodingError(f"unexpected content encoding {encoding!r}")
    if not isinstance(response.stream, httpx2.AsyncByteStream):
        raise httpx2.DecodingError("the response body is not a stream")
    response.stream = _Bounded(response.stream, packed=encoding != "identity")
    # The body is plain from here on.
    response.headers.pop("content-encoding", None)


@dataclass(frozen=True, slots=True)
class Line:
    """A way to one server.

    Attributes:
        client: the official client.
        wire: what carries its requests; None where a proxy is in between.
    """

    client: openai.AsyncOpenAI
    wire: WireTransport | None

    async def send(self, body: Mapping[str, object], patience: httpx2.Timeout) -> httpx2.Response:
        """Send one chat completion request; the answer is read.

        The first goes through the official client, which knows how to say it; the others are said
        in the same way.

        Raises:
            openai.APIError, httpx2.HTTPError: it failed.
        """
        if self.wire is None or not self.wire.ready:
            return await self.client.post(
                "/chat/completions",
                cast_to=httpx2.Response,
                body=body,
                options={"timeout": patience, "security": {"bearer_auth": True}},
            )
        data = json.dumps(body, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        response = await self.wire.again(data.encode())
        await _bound_body(response)
        await response.aread()
        return response

    async def aclose(self) -> None:
        """Release the connections."""
        await self.client.close()


def open_line(base_url: str, key: str, timeout: float) -> Line:
    """A client that retries nothing, follows no redirect and reads no oversized body.

    Redirects are not followed at all, so neither the key nor the images reach another host.
    Proxies and certificates are taken from the environment as usual. Connections are kept and
    used again, up to `CONNECTIONS` at once.
    """
    url = httpx2.URL(base_url)
    wire = WireTransport(url, MAX_RESPONSE_BYTES + HEAD_BYTES) if direct(url) else None
    client = openai.AsyncOpenAI(
        api_key=key,
        base_url=base_url,
        max_retries=0,
        default_headers={"Accept-Encoding": "identity"},
        http_client=openai.DefaultAsyncHttpxClient(
            transport=wire,
            follow_redirects=False,
            limits=httpx2.Limits(
                max_connections=CONNECTIONS, max_keepalive_connections=CONNECTIONS
            ),
            timeout=httpx2.Timeout(timeout, connect=min(timeout, CONNECT_SECONDS)),
            event_hooks={"response": [_bound_body]},
        ),
    )
    return Line(client, wire)


class RejectionError(ModelError):
    """A 400 or 422: the server did not take the request, which may do without some feature."""

    def __init__(self, message: str, *, text: str, named: str = "") -> None:
        super().__init__(message, fault="rejected", billed=False)
        self.text = text
        self.named = named


async def post(
    line: Line,
    body: Mapping[str, object],
    *,
    limit: float,
    key: str,
    key_env: str,
) -> bytes:
    """Send one chat completion request; return the raw body of a successful answer.

    `limit` is how many seconds each read and write may take.

    Raises:
        RejectionError: status 400 or 422.
        ModelError: anything else went wrong. Neither the message nor a chained error holds the
            key, whatever the server echoes.
    """
    server = line.client.base_url
    where = f"the model server at {_origin(server)}"
    try:
        response = await line.send(body, httpx2.Timeout(limit, connect=min(limit, CONNECT_SECONDS)))
        if response.is_success:
            return response.content
        failure = _status_failure(response, server, key, key_env)
    except openai.APIStatusError as error:
        failure = _status_failure(error.response, server, key, key_env)
    except openai.APIConnectionError as error:
        failure = _connection_failure(error.__cause__ or error, where, limit)
    except httpx2.HTTPError as error:
        failure = _connection_failure(error, where, limit)
    # Raised here, outside the handlers, so that the client's error, which holds the request
    # with its headers, does not travel on as its context.
    raise failure


def _status_failure(
    response: httpx2.Response, server: httpx2.URL, key: str, key_env: str
) -> ModelError:
    status = response.status_code
    text = said(response.content)
    words = scrub(text, key) or "no further message"
    shown = f"HTTP {status} from {_origin(server)}: {words}"
    if status == 429:
        if "insufficient_quota" in text:
            return ModelError(
                f"the account's quota is used up; check plan and billing. {shown}",
                fault="rejected",
                billed=False,
            )
        return ModelError(
            f"the server limits the rate of requests. {shown}",
            fault="rate-limited",
            billed=False,
            retry_after=seconds_to_wait(lambda name: response.headers.get(name, "")),
        )
    if status in {401, 403}:
        advice = f"the key was refused; check {key_env} and what the key may use"
    elif status == 404:
        advice = "no such model or address; check the model's name and the base URL"
    elif status == 413:
        advice = "the request is too large for the server; use a smaller image side"
    elif status in {400, 422}:
        return RejectionError(
            f"the server did not take the request. {shown}",
            text=text,
            named=named(response.content),
        )
    elif status == 408:
        return ModelError(f"the server timed out. {shown}", fault="timeout", billed=True)
    elif status >= 500:
        return ModelError(
            f"the server failed. {shown}",
            fault="server",
            billed=True,
            retry_after=seconds_to_wait(lambda name: response.headers.get(name, "")),
        )
    elif 300 <= status < 400:
        advice = (
            "the server redirects elsewhere, which is not followed so that the key stays here; "
            "set the base URL to the right address"
        )
    else:
        advice = "the server refused the request"
    return ModelError(f"{advice}. {shown}", fault="rejected", billed=False)


def _origin(url: httpx2.URL) -> str:
    """Scheme, host and port, without any user name or password."""
    return f"{url.scheme}://{url.netloc.decode('ascii', 'replace')}"


def _connection_failure(error: BaseException, where: str, timeout: float) -> ModelError:
    if isinstance(error, httpx2.ConnectTimeout | httpx2.PoolTimeout):
        return ModelError(
            f"{where} could not be reached in time; is the address right?",
            fault="timeout",
            billed=False,
        )
    if isinstance(error, httpx2.TimeoutException | openai.APITimeoutError):
        return ModelError(
            f"{where} did not answer within {timeout:g} s; allow more time or a smaller output",
            fault="timeout",
            billed=True,
        )
    if isinstance(error, httpx2.ConnectError | httpx2.ProxyError | httpx2.UnsupportedProtocol):
        return ModelError(
            f"{where} cannot be reached ({type(error).__name__}); is it running, and is the "
            "base URL right?",
            fault="down",
            billed=False,
        )
    if isinstance(error, TooLargeError):
        return ModelError(
            f"{where} sent more than {MAX_RESPONSE_BYTES:,} bytes; the answer was not read",
            fault="bad-response",
            billed=True,
        )
    if isinstance(error, httpx2.DecodingError | httpx2.RemoteProtocolError):
        return ModelError(
            f"{where} broke off its answer or sent one that is not HTTP",
            fault="bad-response",
            billed=True,
        )
    return ModelError(
        f"the connection to {where} broke ({type(error).__name__})", fault="server", billed=True
    )
