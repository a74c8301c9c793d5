"""Images by URL, fetched so that no client can reach what only the server may.

The name is looked up here, once a hop; every address that comes back has to be public; and the
connection goes to one of these very addresses. A name that answers differently the second time, as
in a rebinding attack, is never asked a second time. Proxies of the environment are not used.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial

from aiohttp.abc import AbstractResolver, ResolveResult

from ecoalign.models import USER_AGENT
from ecoalign.models.http import URL, Exchange, HttpClient, HttpError
from ecoalign.query._urls import (
    ENOUGH_BYTES,
    MEDIA_TYPES,
    Address,
    FetchPolicy,
    ImageUrl,
    ImageUrlError,
    follow,
    is_public,
    kind_of,
    parse_address,
    read_url,
)

Resolver = Callable[[str], Awaitable[Sequence[str]]]
"""From a host name to its addresses; OSError or none at all where there are none."""

MOST_ADDRESSES = 4

CONNECT_SECONDS = 3.0

REDIRECTS = frozenset({301, 302, 303, 307, 308})

HEADERS = {"User-Agent": USER_AGENT, "Accept": "image/*", "Accept-Encoding": "identity"}

NOT_PUBLIC = (
    "the host of the image URL is unknown or not public: each of its addresses must be public"
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
        client = HttpClient(
            HEADERS,
            connections=1,
            most=self.policy.max_bytes,
            tls=self.tls,
            resolver=_Checked(self._addresses),
            keep=False,
            connect=CONNECT_SECONDS,
        )
        try:
            for _ in range(self.policy.redirects + 1):
                found = await self._ask(client, url)
                if isinstance(found, bytes):
                    return found
                url = found
        finally:
            await client.aclose()
        raise ImageUrlError(
            "redirect", f"the image URL redirects more than {self.policy.redirects} times"
        )

    async def _ask(self, client: HttpClient, url: ImageUrl) -> bytes | ImageUrl:
        """The image, or where else to look for it; on a connection of its own."""
        if url.port not in self.policy.ports:
            raise ImageUrlError("url", f"images are not fetched from port {url.port}")
        if not self.policy.allows_host(url.host):
            raise ImageUrlError("host", "images are not fetched from the host of the image URL")
        if url.address is not None:
            # aiohttp looks up names alone.
            await self._addresses(url.host, url.port)
        try:
            async with client.exchange("GET", URL(str(url), encoded=True)) as answer:
                if answer.status in REDIRECTS:
                    return follow(url, _location(answer))
                _check(answer, self.policy.max_bytes)
                return await _body(answer)
        except HttpError as error:
            if error.cause == "too-large":
                raise _too_large() from None
            message = "the server of the image URL cannot be reached"
            if error.sent:
                message = "the server of the image URL broke off, or did not speak HTTP"
            raise ImageUrlError("connection", message) from None

    async def _addresses(self, host: str, port: int) -> list[Address]:
        """The addresses of the host; one that is not public condemns them all."""
        literal = parse_address(host)
        found: list[Address | None] = [literal]
        if literal is None:
            try:
                found = [parse_address(text) for text in await self._lookup(host)]
            except OSError:
                found = []
        usable = [each for each in found if each is not None and self._may_reach(each, port)]
        if not usable or len(usable) < len(found):
            # One message for the unknown and the forbidden: names inside cannot be told by it.
            raise ImageUrlError("address", NOT_PUBLIC)
        return usable

    def _may_reach(self, address: Address, port: int) -> bool:
        if address in self.also_reach:
            return True
        if not is_public(address) or any(address in each for each in self.policy.never):
            return False
        return not _is_own(address, port)

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

    async def aclose(self) -> None:
        """Let go of the threads. Safe to call twice."""
        threads, self._threads = self._threads, None
        if threads is not None:
            threads.shutdown(wait=False, cancel_futures=True)


class _Checked(AbstractResolver):
    """Gives aiohttp the addresses that were checked, and no others.

    Args:
        addresses: of a host that is reached at a port.
    """

    def __init__(self, addresses: Callable[[str, int], Awaitable[Sequence[Address]]]) -> None:
        self._addresses = addresses

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """See `AbstractResolver`.

        Raises:
            ImageUrlError: they may not be reached.
        """
        found = await self._addresses(host, port)
        return [
            ResolveResult(
                hostname=host,
                host=str(address),
                port=port,
                family=socket.AF_INET if address.version == 4 else socket.AF_INET6,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for address in found[:MOST_ADDRESSES]
        ]

    async def close(self) -> None:
        """See `AbstractResolver`."""


def _is_own(address: Address, port: int) -> bool:
    """Whether an address that looks public is of this very machine, behind its own firewall.

    Nothing is sent: the system is asked which address it would send from.
    """
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((str(address), port))
        except OSError:
            return False
        return bool(probe.getsockname()[0] == str(address))


def _location(answer: Exchange) -> bytes:
    found = answer.headers.getall("Location", [])
    if len(found) != 1:
        raise ImageUrlError("redirect", "the image URL redirects, and does not say where to")
    return found[0].encode("utf-8", "surrogateescape")


def _check(answer: Exchange, most: int) -> None:
    """Whether it is worth reading on, by status and headers alone."""
    if answer.status != 200:
        raise ImageUrlError(
            "status", f"the server of the image URL answered with status {answer.status}"
        )
    encodings = ",".join(answer.headers.getall("Content-Encoding", [])).strip().lower()
    if encodings not in {"", "identity"}:
        raise ImageUrlError(
            "type", "the server of the image URL sends it compressed, though asked not to"
        )
    types = answer.headers.getall("Content-Type", [])
    kind = types[0].partition(";")[0].strip().lower() if len(types) == 1 else ""
    if kind not in MEDIA_TYPES:
        raise _no_image()
    # Only to stop early: what really comes is counted.
    if int(answer.header("Content-Length") or 0) > most:
        raise _too_large()


async def _body(answer: Exchange) -> bytes:
    body = bytearray()
    seen = False
    while piece := await answer.piece():
        body += piece
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
