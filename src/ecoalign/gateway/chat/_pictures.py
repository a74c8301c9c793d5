"""Images of a request: fetched or unpacked, decoded off the event loop, within bounds of memory."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

from ecoalign.errors import InputError
from ecoalign.gateway._errors import SERVER, ApiError, invalid
from ecoalign.gateway._image_urls import kind_of
from ecoalign.gateway.chat._request import ImageRef
from ecoalign.query import Picture, read_header, read_source

__all__ = ["Fetch", "PictureRoom", "Pictures"]

Fetch = Callable[[str], Awaitable[bytes]]

_THREADS = 2
"""Decoding takes memory before it can be counted: few at once."""


@dataclass(slots=True)
class Pictures:
    """Loads images for all requests.

    Attributes:
        fetch: from an address to bytes; raises InputError where it will not.
        most: pixels of one request.
        total: pixels of all requests under way.
    """

    fetch: Fetch
    most: int
    total: int
    _used: int = 0
    _threads: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(_THREADS, thread_name_prefix="pictures")
    )

    @contextmanager
    def room(self) -> Iterator[PictureRoom]:
        """Where the images of one request are, until it ends."""
        room = PictureRoom(self)
        try:
            yield room
        finally:
            self._used -= room.pixels
            room.pixels = 0

    def close(self) -> None:
        """End the threads when they are idle."""
        self._threads.shutdown(wait=False, cancel_futures=True)


@dataclass(slots=True)
class PictureRoom:
    """The images of one request.

    Attributes:
        house: of all requests.
        pixels: what has been counted for this one.
    """

    state: Pictures
    pixels: int = 0

    async def load(self, images: Sequence[ImageRef], side: int) -> tuple[Picture, ...]:
        """Fetch, decode and scale down.

        Args:
            images: as the request names them.
            side: of the view that will be asked for first, in pixels; it is made here, as the
                event loop must not be held up by it.

        Raises:
            ApiError: an image cannot be used (400), or there is no room for it now (503).
        """
        return tuple([await self._one(image, side) for image in images])

    async def data_uri(self, image: ImageRef) -> str:
        """The image at an address as a `data:` URI, its bytes as they came.

        Raises:
            ApiError: 400.
        """
        data = await self._bytes(image)
        try:
            header = await asyncio.to_thread(read_header, data, "the image")
        except InputError as error:
            raise invalid(str(error), image.param, "invalid_image") from None
        return f"data:{header.media_type};base64,{base64.b64encode(data).decode('ascii')}"

    async def _one(self, image: ImageRef, side: int) -> Picture:
        data = await self._bytes(image)
        loop = asyncio.get_running_loop()
        threads = self.state._threads
        try:
            header = await loop.run_in_executor(threads, read_header, data, "the image")
            self._count(header.pixels, image)
            return await loop.run_in_executor(threads, _decoded, data, side)
        except InputError as error:
            raise invalid(str(error), image.param, "invalid_image") from None

    async def _bytes(self, image: ImageRef) -> bytes:
        try:
            if image.url[:5].lower() == "data:":
                # Only ever a data: URI: anything else would be read as the path of a file.
                data = await asyncio.to_thread(_unpacked, image.url)
            else:
                data = await self.state.fetch(image.url)
        except InputError as error:
            raise invalid(str(error), image.param, "invalid_image_url") from None
        if kind_of(data) is None:
            # Other decoders are not shown what strangers send.
            raise invalid(
                "the image is not a PNG, JPEG, GIF or WebP file", image.param, "invalid_image"
            )
        return data

    def _count(self, pixels: int, image: ImageRef) -> None:
        if self.pixels + pixels > self.state.most:
            raise invalid(
                f"the images of the request have more than {self.state.most:,} pixels together",
                image.param,
                "images_too_large",
            )
        if self.state._used + pixels > self.state.total:
            raise ApiError(
                503,
                "the server holds as many images as it can; try again shortly",
                SERVER,
                code="overloaded",
                retry_after=1,
            )
        self.state._used += pixels
        self.pixels += pixels


def _unpacked(uri: str) -> bytes:
    return read_source(uri)[0]


def _decoded(data: bytes, side: int) -> Picture:
    picture = Picture.load(data)
    picture.view(min(side, max(picture.width, picture.height)))
    return picture
