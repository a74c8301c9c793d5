"""Images by URL, fetched so that no client can reach what only the server may.

The name is looked up here, once a hop; every address that comes back has to be public; and the
socket goes to one of these very addresses. A name that answers differently the second time, as in
a rebinding attack, is never asked a second time. Proxies of the environment are not used.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import h11

from ecoalign.gateway._image_urls import (
    ENOUGH_BYTES,
    MEDIA_TYPES,
    ImageUrl,
    ImageUrlError,
    follow,
    is_public,
    kind_of,
    parse_address,
    read_url,
)

if TYPE_CHECKING:
    from ecoalign.gateway._image_urls import Address, Network

__all__ = ["FetchPolicy", "ImageFetcher", "Reply", "Resolver", "exchange"]

MOST_HEAD_BYTES = 16 * 1024

CHUNK_BYTES = 64 * 1024

REDIRECTS = frozenset({301, 302, 303, 307, 308})


@dataclass(frozen=True, slots=True)
class Reply:
    """An image, or where else to look for it.

    Attributes:
        body: the bytes of the image; empty for a redirect.
        location: the Location header of a redirect, else None.
    """

    body: bytes = b""
    location: bytes | None = None


async def exchange(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, url: ImageUrl, most: int
) -> Reply:
    """Ask for `url` and read at most `most` bytes of an image.

    Raises:
        ImageUrlError: no image of a known kind, too large, encoded, cut short, or no HTTP.
    """
    try:
        wire = _Wire(reader, most)
        writer.write(wire.request(url))
        await writer.drain()
        head = await wire.head()
        if head.status_code in REDIRECTS:
            return Reply(location=_location(head))
        _check(head, most)
        return Reply(await _body(wire, most))
    except (h11.RemoteProtocolError, OSError):
        raise ImageUrlError(
            "connection", "the server of the image URL broke off, or did not speak HTTP"
        ) from None


class _Wire:
    """The protocol's state, and how much more may be read whatever it means."""

    def __init__(self, reader: asyncio.StreamReader, most: int) -> None:
        self._reader = reader
        self._state = h11.Connection(h11.CLIENT, max_incomplete_event_size=MOST_HEAD_BYTES)
        # Chunks of one byte take six on the wire, and interim replies come before the real one.
        self._room = 6 * most + 4 * MOST_HEAD_BYTES

    def request(self, url: ImageUrl) -> bytes:
        request = h11.Request(
            method="GET",
            target=url.target,
            headers=[
                ("Host", url.authority),
                ("User-Agent", "EcoAlign"),
                ("Accept", "image/*"),
                ("Accept-Encoding", "identity"),
                ("Connection", "close"),
            ],
        )
        return (self._state.send(request) or b"") + (self._state.send(h11.EndOfMessage()) or b"")

    async def next(self) -> h11.Event | None:
        """The next event; None where the protocol has no more of them."""
        while True:
            event = self._state.next_event()
            if isinstance(event, h11.Event):
                return event
            if event is not h11.NEED_DATA:
                return None
            data = await self._reader.read(CHUNK_BYTES)
            self._room -= len(data)
            if self._room < 0:
                raise _too_large()
            self._state.receive_data(data)

    async def head(self) -> h11.Response:
        while True:
            event = await self.next()
            if isinstance(event, h11.Response):
                return event
            if not isinstance(event, h11.InformationalResponse):
                raise h11.RemoteProtocolError("no response")


def _values(head: h11.Response, name: bytes) -> list[bytes]:
    return [value for key, value in head.headers if key == name]


def _location(head: h11.Response) -> bytes:
    found = _values(head, b"location")
    if len(found) != 1:
        raise ImageUrlError("redirect", "the image URL redirects, and does not say where to")
    return found[0]


def _check(head: h11.Response, most: int) -> None:
    """Whether it is worth reading on, by status and headers alone."""
    if head.status_code != 200:
        raise ImageUrlError(
            "status", f"the server of the image URL answered with status {head.status_code}"
        )
    encodings = b",".join(_values(head, b"content-encoding")).strip().lower()
    if encodings not in {b"", b"identity"}:
        raise ImageUrlError(
            "type", "the server of the image URL sends it compressed, though asked not to"
        )
    types = _values(head, b"content-type")
    kind = types[0].partition(b";")[0].strip().lower() if len(types) == 1 else b""
    if kind.decode("latin-1") not in MEDIA_TYPES:
        raise _no_image()
    # Only to stop early: what really comes is counted below.
    if any(int(value) > most for value in _values(head, b"content-length")):
        raise _too_large()


async def _body(wire: _Wire, most: int) -> bytes:
    body = bytearray()
    seen = False
    while True:
        event = await wire.next()
        if not isinstance(event, h11.Data):
            break
        body += event.data
        if len(body) > most:
            raise _too_large()
        if not seen and len(body) >= ENOUGH_BYTES:
            seen = True
            if kind_of(bytes(body[:ENOUGH_BYTES])) is None:
                raise _no_image()
    if not seen:
        raise _no_image()
    return bytes(body)


def _too_large() -> ImageUrlError:
    return ImageUrlError("size", "the image at the image URL is larger than is fetched here")


def _no_image() -> ImageUrlError:
    return ImageUrlError(
        "type", "what is at the image URL is not an image that is taken (PNG, JPEG, GIF or WebP)"
    )


Resolver = Callable[[str], Awaitable[Sequence[str]]]
"""From a host name to its addresses; OSError or none at all where there are none."""

MOST_ADDRESSES = 4

CONNECT_SECONDS = 3.0

NOT_PUBLIC = (
    "the host of the image URL is unknown or not public: each of its addresses must be public"
)


@dataclass(frozen=True, slots=True)
class FetchPolicy:
    """What may be fetched. The defaults fetch nothing.

    Attributes:
        enabled: whether anything is fetched at all.
        max_bytes: largest image, in bytes, from 1.
        seconds: longest time for one image in all, the wait for its turn and redirects included,
            above 0.
        redirects: how many are followed, from 0.
        ports: the ports that are asked.
        hosts: the only hosts that are asked, redirects included: names ("images.example.org"),
            or all names below one (".example.org"); none for every public host.
        never: networks that are not asked though they are public, such as one's own.
        concurrency: how many images are fetched at once, from 1; more wait.

    Raises:
        ValueError: a number is out of its range.
    """

    enabled: bool = False
    max_bytes: int = 20 * 1024 * 1024
    seconds: float = 10.0
    redirects: int = 3
    ports: frozenset[int] = frozenset({80, 443})
    hosts: frozenset[str] = frozenset()
    never: tuple[Network, ...] = ()
    concurrency: int = 8

    def __post_init__(self) -> None:
        for name, least in (("max_bytes", 1), ("redirects", 0), ("concurrency", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be {least} or more, not {getattr(self, name)}")
        if not 0 < self.seconds < float("inf"):
            raise ValueError(f"seconds must be positive and finite, not {self.seconds}")

    def allows_host(self, host: str) -> bool:
        """Whether `host`, in lower case, is on the list, or there is none."""
        if not self.hosts:
            return True
        listed = {entry.lower().rstrip(".") for entry in self.hosts}
        return host in listed or any(
            entry.startswith(".") and host.endswith(entry) for entry in listed
        )


@dataclass(slots=True)
class ImageFetcher:
    """Fetches images for clients, within a policy.

    Attributes:
        policy: what may be fetched; by default nothing.
        resolver: looks names up; by default the system's.
        tls: for https; by default the system's authorities, host names checked.
        also_reach: addresses that are reached though they are not public. For tests, which serve
            on the loopback interface; no setting leads here.
    """

    policy: FetchPolicy = field(default_factory=FetchPolicy)
    resolver: Resolver | None = None
    tls: ssl.SSLContext | None = None
    also_reach: frozenset[Address] = frozenset()
    _turns: asyncio.Semaphore = field(init=False)
    _threads: ThreadPoolExecutor | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self._turns = asyncio.Semaphore(self.policy.concurrency)

    async def fetch(self, url: str) -> bytes:
        """The bytes of the image at `url`, which are that of an image by their beginning.

        Raises:
            ImageUrlError: it is not fetched, or there is no image; the message tells the client
                what to change and nothing of what is inside.
        """
        if not self.policy.enabled:
            raise ImageUrlError(
                "off",
                "images are not fetched from URLs here; send the image as a data: URI "
                "(data:image/png;base64,...)",
            )
        try:
            async with asyncio.timeout(self.policy.seconds), self._turns:
                return await self._fetch(read_url(url))
        except TimeoutError:
            raise ImageUrlError(
                "time", f"the image URL gave no whole image within {self.policy.seconds:g} s"
            ) from None

    async def _fetch(self, url: ImageUrl) -> bytes:
        for _ in range(self.policy.redirects + 1):
            reply = await self._ask(url)
            if reply.location is None:
                return reply.body
            url = follow(url, reply.location)
        raise ImageUrlError(
            "redirect", f"the image URL redirects more than {self.policy.redirects} times"
        )

    async def _ask(self, url: ImageUrl) -> Reply:
        """One hop: checked from the start, on a connection of its own."""
        if url.port not in self.policy.ports:
            raise ImageUrlError("url", f"images are not fetched from port {url.port}")
        if not self.policy.allows_host(url.host):
            raise ImageUrlError("host", "images are not fetched from the host of the image URL")
        reader, writer = await self._connect(url, await self._addresses(url))
        try:
            return await exchange(reader, writer, url, self.policy.max_bytes)
        finally:
            # At once: a polite goodbye would wait for the other side.
            writer.transport.abort()

    async def _addresses(self, url: ImageUrl) -> tuple[Address, ...]:
        """The addresses of the host; one that is not public condemns them all."""
        found: list[Address | None]
        if url.address is not None:
            found = [url.address]
        else:
            try:
                found = [parse_address(text) for text in await self._lookup(url.host)]
            except OSError:
                found = []
        usable = tuple(each for each in found if each is not None and self._may_reach(each))
        if not usable or len(usable) < len(found):
            # One message for the unknown and the forbidden: names inside cannot be told by it.
            raise ImageUrlError("address", NOT_PUBLIC)
        return usable

    def _may_reach(self, address: Address) -> bool:
        if address in self.also_reach:
            return True
        return is_public(address) and not any(address in each for each in self.policy.never)

    async def _lookup(self, host: str) -> Sequence[str]:
        if self.resolver is not None:
            return await self.resolver(host)
        if self._threads is None:
            # Threads of our own: names that take for ever must not hold up anything else.
            self._threads = ThreadPoolExecutor(self.policy.concurrency, "image-names")
        # The dot at the end keeps the system's search domains out.
        name = f"{host}.".encode("ascii")
        found = await asyncio.get_running_loop().run_in_executor(
            self._threads, partial(socket.getaddrinfo, name, None, type=socket.SOCK_STREAM)
        )
        return [str(entry[4][0]) for entry in found]

    async def _connect(
        self, url: ImageUrl, addresses: Sequence[Address]
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        secure = url.scheme == "https"
        for address in addresses[:MOST_ADDRESSES]:
            try:
                opened = await self._socket(address, url.port)
                # TLS names the host, and its certificate is checked for it.
                return await asyncio.open_connection(
                    sock=opened,
                    ssl=self._context() if secure else None,
                    server_hostname=url.host if secure else None,
                )
            except OSError:
                continue
        raise ImageUrlError("connection", "the server of the image URL cannot be reached")

    def _context(self) -> ssl.SSLContext:
        if self.tls is None:
            self.tls = ssl.create_default_context()
        return self.tls

    async def _socket(self, address: Address, port: int) -> socket.socket:
        """A socket that is connected to this address and no other, on another machine."""
        family = socket.AF_INET if address.version == 4 else socket.AF_INET6
        opened = socket.socket(family, socket.SOCK_STREAM)
        try:
            opened.setblocking(False)
            async with asyncio.timeout(CONNECT_SECONDS):
                await asyncio.get_running_loop().sock_connect(opened, (str(address), port))
            # A server reaches itself by its public address, too, and behind its own firewall.
            own = opened.getsockname()[0] == opened.getpeername()[0]
            if own and address not in self.also_reach:
                raise ImageUrlError("address", NOT_PUBLIC)
        except BaseException:
            opened.close()
            raise
        return opened

    async def aclose(self) -> None:
        """Let go of the threads. Safe to call twice."""
        threads, self._threads = self._threads, None
        if threads is not None:
            threads.shutdown(wait=False, cancel_futures=True)
