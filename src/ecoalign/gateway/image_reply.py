"""One GET on an open connection: the reply is believed in nothing and bounded in everything."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import h11

from ecoalign.gateway.image_kinds import ENOUGH_BYTES, MEDIA_TYPES, kind_of
from ecoalign.gateway.image_urls import ImageUrl, ImageUrlError

__all__ = ["Reply", "exchange"]

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
