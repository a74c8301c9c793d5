"""What carries the official client's requests to a server: connections with little work a request.

httpx2's own transport looks at every idle connection for each request, and costs 0.7 ms of
processor time and more; this one costs 0.1 ms and is as fast with hundreds of connections.
"""

from __future__ import annotations

import asyncio
from urllib.request import getproxies, proxy_bypass

import httpx2

from ecoalign.wire.connection import WireError
from ecoalign.wire.pool import Pool

__all__ = ["CONNECTIONS", "TooLargeError", "WireTransport", "direct"]

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
