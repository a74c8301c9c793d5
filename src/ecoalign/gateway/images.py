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

from ecoalign.gateway.addresses import is_public, parse_address
from ecoalign.gateway.image_reply import exchange
from ecoalign.gateway.image_urls import ImageUrlError, follow, read_url

if TYPE_CHECKING:
    from ecoalign.gateway.addresses import Address, Network
    from ecoalign.gateway.image_reply import Reply
    from ecoalign.gateway.image_urls import ImageUrl

__all__ = ["FetchPolicy", "ImageFetcher", "ImageUrlError", "Resolver"]

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
