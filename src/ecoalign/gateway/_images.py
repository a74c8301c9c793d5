"""Images of a request: fetched or unpacked, decoded in a worker, within bounds of memory."""

from __future__ import annotations

import asyncio
import base64
import secrets
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any, Literal

from ecoalign.errors import InputError
from ecoalign.gateway._errors import SERVER, ApiError, invalid
from ecoalign.gateway._json import Lengths
from ecoalign.gateway._room import Room, Share
from ecoalign.gateway._work import Fault, Head, take
from ecoalign.gateway._workers import LARGE, Result, WorkerPool
from ecoalign.query import Header, Picture, read_source

if TYPE_CHECKING:
    from PIL import Image

Fetch = Callable[[str], Awaitable[bytes]]

Detail = Literal["auto", "low", "high", "original"]

_CLOSENESS: Mapping[Detail | None, Literal["low", "high"] | None] = {
    None: None,
    "auto": None,
    "low": "low",
    "high": "high",
    "original": "high",
}

_PIECE = 3 * 256 * 1024
"""Bytes that are made base64 at once: three of them are four letters, and the event loop waits."""


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


@dataclass(frozen=True, slots=True)
class PictureLimits:
    """What the images of requests may take.

    Attributes:
        pixels: of one picture.
        request: pixels of one request.
        total: pixels of all requests under way.
        count: images of one request.
        size: bytes of the images of one request, as they are once base64 is undone.
        fetched: bytes of one that is fetched.
        patience: seconds that a request waits for room.
    """

    pixels: int
    request: int
    total: int
    count: int
    size: int
    fetched: int
    patience: float = 30.0


@dataclass(slots=True)
class Held:
    """An image that is held apart from its request, encoded as it came.

    Attributes:
        data: as it came; nothing once it was decoded.
        about: what it says of itself, or what is wrong with it.
        release: called with the bytes of memory that are free once the data is gone.
        name: what stands for it in the request; no client can know it.
    """

    data: bytes | bytearray = field(repr=False)
    about: Head
    release: Callable[[int], None]
    name: str

    @property
    def header(self) -> Header:
        """Its type and size."""
        return Header(self.about["type"], self.about["width"], self.about["height"])

    @property
    def size(self) -> int:
        """Bytes of it as base64."""
        return len(self.data) * 4 // 3 + 64

    def taken(self) -> bytes | bytearray:
        """The data, for good."""
        data, self.data = self.data, b""
        self.release(len(data))
        return data

    def uri(self) -> list[bytes]:
        """A `data:` URI of it, in pieces."""
        pieces = [f"data:{self.about['type']};base64,".encode()]
        data = memoryview(self.data)
        pieces += [base64.b64encode(data[at : at + _PIECE]) for at in range(0, len(data), _PIECE)]
        return pieces


class ImageLoader:
    """Loads the images of all requests, and reads large requests.

    Attributes:
        held: the images that were taken out of requests, by what stands in their place.

    Args:
        fetch: from an address to bytes; raises InputError where it will not.
        limits: what the images may take.
        workers: who reads and decodes.
        memory: for encoded images that are fetched; that of all bodies.
    """

    def __init__(
        self, fetch: Fetch, limits: PictureLimits, workers: WorkerPool, memory: Room
    ) -> None:
        self.fetch = fetch
        self.limits = limits
        self.workers = workers
        self.memory = memory
        self.room = Room(limits.total)
        self.held: dict[str, Held] = {}

    @property
    def used(self) -> int:
        """Pixels of the requests that are under way."""
        return self.limits.total - self.room.free

    @contextmanager
    def open(self, owner: str = "") -> Iterator[RequestImages]:
        """The images of a key's request, which count against the total until the block ends."""
        pixels, memory = (Share(room, owner or None) for room in (self.room, self.memory))
        try:
            yield RequestImages(self, owner, pixels, memory)
        finally:
            pixels.release()
            memory.release()

    async def read(
        self, body: list[bytes], lengths: Lengths, owner: str
    ) -> tuple[bytearray, Mapping[str, tuple[bytearray, Head]]]:
        """A request without the data of its images, and those by what stands in their place, which
        no client can know.

        Args:
            body: as it came; it is emptied.
            lengths: what it may hold.
            owner: whose it is.

        Raises:
            ApiError: it is none, or too long.
        """
        mark = _mark()
        limits = self.limits
        head = {
            "job": "read",
            "size": len(body[0]),
            "mark": mark,
            "pixels": limits.pixels,
            "images": limits.count + 1,
            "bytes": limits.size,
            "lengths": {name: getattr(lengths, name) for name in lengths.__slots__},
        }

        def result(said: Head, line: IO[bytes]) -> tuple[Head, list[bytearray]]:
            return said, [take(line, size) for size in said.get("sizes", ())]

        large = len(body[0]) >= LARGE
        said, pieces = await self.workers.do(owner, head, body, result, large=large)
        if "fault" in said:
            raise _faulty(said, None)
        slim, *images = pieces
        found = zip(images, said["images"], strict=True)
        return slim, {f"{mark}{index}": one for index, one in enumerate(found)}

    def close(self) -> None:
        """End the workers."""
        self.workers.close()


def _mark() -> str:
    """What no client can have written."""
    return f"data:,{secrets.token_hex(16)}-"


@dataclass(slots=True)
class RequestImages:
    """The images of one request.

    Attributes:
        loader: of all requests.
        owner: whose request it is.
        pixels: the room for what is decoded.
        memory: that for what is fetched, in bytes.
    """

    loader: ImageLoader
    owner: str
    pixels: Share
    memory: Share
    _bytes: int = 0

    async def load(self, images: Sequence[ImageRef]) -> tuple[Picture, ...]:
        """Fetch and decode.

        Raises:
            ApiError: an image cannot be used (400), or it does not fit in memory now (503).
        """
        found = await self.held(images)
        pixels = sum(held.about["pixels"] for held in found)
        if pixels and not await self.pixels.wait(pixels, self.loader.limits.patience):
            raise full()
        pairs = zip(found, images, strict=True)
        return tuple([await self._decoded(held, image) for held, image in pairs])

    async def held(self, images: Sequence[ImageRef]) -> list[Held]:
        """Fetch, and do not decode.

        Raises:
            ApiError: see `load`.
        """
        limits = self.loader.limits
        found, pixels = list[Held](), 0
        for image in images:
            held = await self._held(image)
            size = held.about["pixels"]
            if size > limits.pixels:
                raise invalid(
                    f"the image has {held.header.width}x{held.header.height} pixels, more than the "
                    f"{limits.pixels:,} that are taken; scale it down first",
                    image.param,
                    "image_too_large",
                )
            pixels += size
            if pixels > limits.request:
                raise invalid(
                    f"the images of the request have more than {limits.request:,} pixels together",
                    image.param,
                    "images_too_large",
                )
            found.append(held)
        return found

    async def _held(self, image: ImageRef) -> Held:
        held = self.loader.held.get(image.url)
        if held is None:
            inside = image.url[:5].lower() == "data:"
            data = await (self._inside(image) if inside else self._fetched(image))
            head = {"job": "describe", "size": len(data), "pixels": self.loader.limits.pixels}
            about = await self._done(head, [data], lambda said, _: said, large=len(data) >= LARGE)
            held = Held(data, about, _nothing if inside else self.memory.less, _mark())
        if "error" in held.about:
            raise invalid(held.about["error"], image.param, held.about["code"])
        if "fault" in held.about:
            raise _faulty(held.about, image.param)
        return held

    async def _inside(self, image: ImageRef) -> bytes:
        try:
            # Only ever a data: URI: anything else would be read as the path of a file.
            return (await asyncio.to_thread(read_source, image.url))[0]
        except InputError as error:
            raise invalid(str(error), image.param, "invalid_image_url") from None

    async def _fetched(self, image: ImageRef) -> bytes:
        limits = self.loader.limits
        if not await self.memory.wait(limits.fetched, limits.patience):
            raise full()
        data = b""
        try:
            data = await self.loader.fetch(image.url)
        except InputError as error:
            raise invalid(str(error), image.param, "invalid_image_url") from None
        finally:
            self.memory.less(limits.fetched - len(data))
        self._bytes += len(data)
        if self._bytes > limits.size:
            raise ApiError(
                413,
                f"the images of the request have more than {limits.size:,} bytes together",
                param=image.param,
                code="images_too_large",
            )
        return data

    async def _decoded(self, held: Held, image: ImageRef) -> Picture:
        payload = [held.taken()]
        size = len(payload[0])
        head = {"job": "decode", "size": size, "pixels": self.loader.limits.pixels}
        large = max(size, held.about["pixels"]) >= LARGE
        said, decoded = await self._done(head, payload, _taken, large=large)
        if decoded is None:
            raise _faulty(said, image.param)
        picture = Picture(decoded, said["type"], said["sha256"], tuple(said["notes"]))
        return picture.seen_in(_CLOSENESS[image.detail])

    async def _done(
        self,
        head: Head,
        payload: list[Any],
        result: Callable[[Head, IO[bytes]], Result],
        *,
        large: bool,
    ) -> Result:
        return await self.loader.workers.do(self.owner, head, payload, result, large=large)


def _nothing(size: int) -> None:
    """Nobody counts."""


def full() -> ApiError:
    """There is no room in memory for what a request holds."""
    return ApiError(
        503,
        "the server holds as many requests and images as it can, or as many of this key; try again "
        "shortly",
        SERVER,
        code="overloaded",
        retry_after=1,
    )


def _taken(said: Head, line: IO[bytes]) -> tuple[Head, Image.Image | None]:
    """The picture that comes in: a strip at a time, as two copies of it are too many."""
    from PIL import Image

    if "fault" in said:
        return said, None
    width, height = said["width"], said["height"]
    picture = Image.new("RGB", (width, height))
    rows = max(1, _PIECE // (3 * width))
    for top in range(0, height, rows):
        size = width, min(rows, height - top)
        strip = Image.frombytes("RGB", size, bytes(take(line, 3 * size[0] * size[1])))
        picture.paste(strip, (0, top))
    return said, picture


_CODES: Mapping[Fault, tuple[int, str]] = {
    "json": (400, "invalid_json"),
    "text": (413, "request_too_long"),
    "image": (400, "invalid_image"),
    "bytes": (413, "images_too_large"),
    "memory": (413, "request_too_large"),
}


def _faulty(said: Head, param: str | None) -> ApiError:
    status, code = _CODES[said["fault"]]
    return ApiError(status, said["message"], param=param, code=code)
