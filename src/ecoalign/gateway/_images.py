"""Images of a request: fetched or unpacked, decoded off the event loop, within bounds of memory."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

from ecoalign.errors import InputError
from ecoalign.gateway._errors import SERVER, ApiError, invalid
from ecoalign.query import Picture, kind_of, read_header, read_source

Fetch = Callable[[str], Awaitable[bytes]]

Detail = Literal["auto", "low", "high", "original"]

_CLOSENESS: Mapping[Detail | None, Literal["low", "high"] | None] = {
    None: None,
    "auto": None,
    "low": "low",
    "high": "high",
    "original": "high",
}

_THREADS = 2
"""Decoding takes memory before it can be counted: few at once."""


@dataclass(frozen=True, slots=True)
class ImageRef:
    """An image as the request names it.

    Attributes:
        url: a `data:` URI or an address.
        param: where it stands in the request.
        detail: how closely the client wants it seen, if it says so.
    """

    url: str = field(repr=False)
    param: str
    detail: Detail | None = None


@dataclass(slots=True)
class ImageLoader:
    """Loads the images of all requests.

    Attributes:
        fetch: from an address to bytes; raises InputError where it will not.
        most: pixels of one request.
        total: pixels of all requests under way.
        used: pixels of those that are under way now.
    """

    fetch: Fetch
    most: int
    total: int
    used: int = 0
    threads: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(_THREADS, thread_name_prefix="images")
    )

    @contextmanager
    def open(self) -> Iterator[RequestImages]:
        """The images of one request, which count against the total until the block ends."""
        images = RequestImages(self)
        try:
            yield images
        finally:
            self.used -= images.pixels
            images.pixels = 0

    def close(self) -> None:
        """End the threads when they are idle."""
        self.threads.shutdown(wait=False, cancel_futures=True)


@dataclass(slots=True)
class RequestImages:
    """The images of one request.

    Attributes:
        loader: of all requests.
        pixels: what has been counted for this one.
    """

    loader: ImageLoader
    pixels: int = 0

    async def load(self, images: Sequence[ImageRef]) -> tuple[Picture, ...]:
        """Fetch and decode.

        Raises:
            ApiError: an image cannot be used (400), or it does not fit in memory now (503).
        """
        return tuple([await self._decoded(image) for image in images])

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

    async def _decoded(self, image: ImageRef) -> Picture:
        data = await self._bytes(image)
        loop = asyncio.get_running_loop()
        threads = self.loader.threads
        try:
            header = await loop.run_in_executor(threads, read_header, data, "the image")
            self._count(header.pixels, image)
            picture = await loop.run_in_executor(threads, Picture.load, data)
        except InputError as error:
            raise invalid(str(error), image.param, "invalid_image") from None
        return picture.seen_in(_CLOSENESS[image.detail])

    async def _bytes(self, image: ImageRef) -> bytes:
        try:
            if image.url[:5].lower() == "data:":
                # Only ever a data: URI: anything else would be read as the path of a file.
                data, _ = await asyncio.to_thread(read_source, image.url)
            else:
                data = await self.loader.fetch(image.url)
        except InputError as error:
            raise invalid(str(error), image.param, "invalid_image_url") from None
        if kind_of(data) is None:
            # Other decoders are not exposed to untrusted data.
            raise invalid(
                "the image is not a PNG, JPEG, GIF or WebP file", image.param, "invalid_image"
            )
        return data

    def _count(self, pixels: int, image: ImageRef) -> None:
        loader = self.loader
        if self.pixels + pixels > loader.most:
            raise invalid(
                f"the images of the request have more than {loader.most:,} pixels together",
                image.param,
                "images_too_large",
            )
        if loader.used + pixels > loader.total:
            raise ApiError(
                503,
                "the server holds as many images as it can; try again shortly",
                SERVER,
                code="overloaded",
                retry_after=1,
            )
        loader.used += pixels
        self.pixels += pixels
