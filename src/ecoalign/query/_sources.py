"""Where an image comes from: a path, bytes, a file object, a `data:` URI, an address, an array."""

from __future__ import annotations

import asyncio
import base64
import binascii
import io
import os
import re
import stat
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, runtime_checkable

from ecoalign.errors import InputError
from ecoalign.query._urls import FetchPolicy

if TYPE_CHECKING:
    from collections.abc import Callable

    from PIL import Image

    from ecoalign.query._fetch import ImageFetcher

MAX_BYTES = 64 * 1024 * 1024
"""Of an encoded image."""

_IS_BASE64 = re.compile(r";\s*base64\s*$", re.I)

_FROM_URL_ALPHABET = bytes.maketrans(b"-_", b"+/")

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")

AllowUrls: TypeAlias = "bool | ImageFetcher"
"""Whether an image may be fetched from its http or https address: not at all, from public hosts
within the bounds of `FetchPolicy`, or by a fetcher with bounds of its own."""


@runtime_checkable
class BinaryFile(Protocol):
    """A file that is open for reading in binary mode."""

    def read(self, size: int = -1, /) -> bytes:
        """At most `size` bytes; b"" at the end."""
        ...


@runtime_checkable
class ArrayLike(Protocol):
    """A numpy array, or what can be made one."""

    def __array__(self) -> Any:
        """The array."""
        ...


Encoded: TypeAlias = "str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryFile"
"""Where encoded bytes come from."""


def read_source(source: Encoded, allow_urls: AllowUrls = False) -> tuple[bytes, str]:
    """The encoded bytes of a path, a `data:` URI, a file object, an address or bytes, and a name
    for error messages.

    Raises:
        InputError: nothing readable is there, it has more than 64 MiB, or it is an address that may
            not be fetched (`ImageUrlError` where fetching is allowed).
    """
    if isinstance(source, str) and source[:5].lower() == "data:":
        data, where = _data_uri(source), "the data: URI"
    elif isinstance(source, str) and (scheme := _SCHEME.match(source)) is not None:
        data, where = _at_address(source, scheme[1].lower(), allow_urls), "the image at the URL"
    elif isinstance(source, str | os.PathLike):
        path = os.fspath(source)
        if not isinstance(path, str):
            raise InputError(f"a path is text, not {type(path).__name__}")
        data, where = _read_file(Path(path)), f"the file {_short(path)}"
    elif isinstance(source, bytes | bytearray | memoryview):
        data, where = bytes(source), "the image bytes"
    else:
        where = f"the file object {_name_of(source)}"
        data = _read_open(source.read, where)
    if not data:
        raise InputError(f"{where} is empty: there is no image in it")
    if len(data) > MAX_BYTES:
        raise InputError(f"{where} has more than the {MAX_BYTES:,} bytes that are read")
    return data, where


def _short(text: str) -> str:
    shown = text if len(text) <= 120 else text[:117] + "..."
    return repr(shown)


def _read_file(path: Path) -> bytes:
    name = _short(str(path))
    try:
        # Asked before opening: opening a named pipe would wait for a writer for ever.
        mode = os.stat(path).st_mode
        if stat.S_ISDIR(mode):
            raise InputError(f"{name} is a directory, not an image file")
        if not stat.S_ISREG(mode):
            raise InputError(f"{name} is not a regular file; give an image file")
        with path.open("rb") as file:
            # One byte more than is allowed shows that there is more, whatever stat claimed.
            return file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise InputError(f"there is no image file {name}") from None
    except OSError as error:
        raise InputError(f"cannot read the image file {name}: {error.strerror}") from None
    except ValueError:
        raise InputError(f"{name} is not a usable file name") from None


def _name_of(file: object) -> str:
    name = getattr(file, "name", None)
    return _short(name) if isinstance(name, str) else f"({type(file).__name__})"


def _read_open(read: Callable[[int], object], where: str) -> bytes:
    """What is left of an open file, as far as it is needed to see that it is too much.

    Raises:
        InputError: it is open for text or for writing, closed, or cannot be read.
    """
    data = bytearray()
    try:
        while len(data) <= MAX_BYTES:
            piece = read(MAX_BYTES + 1 - len(data))
            if isinstance(piece, str):
                raise InputError(
                    'the image file is open as text: open it in binary mode, open(path, "rb")'
                )
            if not isinstance(piece, bytes | bytearray | memoryview):
                raise InputError(
                    f"reading {where} gave {type(piece).__name__}, not bytes: "
                    'give a file that is open in binary mode, open(path, "rb")'
                )
            if not piece:
                break
            data += piece
    except UnicodeDecodeError:
        raise InputError(
            'the image file is open as text: open it in binary mode, open(path, "rb")'
        ) from None
    except io.UnsupportedOperation:
        raise InputError(f"{where} is not open for reading") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{where} cannot be read: {error}") from None
    return bytes(data)


_SPACE = b" \t\n\r\f\v"

_PIECE = 1 << 20
"""Bytes that are looked at at once."""


def _data_uri(uri: str) -> bytes:
    header, comma, payload = uri.partition(",")
    if not comma:
        raise InputError("the data: URI has no comma, so it holds no data")
    if len(payload) > 3 * MAX_BYTES:
        raise InputError(f"the data: URI is too long; at most {MAX_BYTES:,} bytes are read")
    data = payload.encode("utf-8", "replace")
    if "%" in payload:
        data = _unquoted(data)
    if not _IS_BASE64.search(header[-64:]):
        return data
    # As browsers read it: white space goes, and the padding may be missing; and the URL's alphabet.
    letters = data.translate(_FROM_URL_ALPHABET, _SPACE).rstrip(b"=")
    try:
        return base64.b64decode(letters + b"=" * (-len(letters) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise InputError("the data: URI is not valid base64; was it cut short?") from None


def _unquoted(data: bytes) -> bytes:
    """`data` with its %XX decoded. (The library's way makes a list of all that is between two
    marks, which takes forty times the length and seconds for each megabyte.)"""
    pieces, at = [], 0
    while at < len(data):
        end = min(len(data), at + _PIECE)
        # No mark is cut in two.
        mark = data.rfind(b"%", max(at, end - 2), end) if end < len(data) else -1
        end = mark if mark > at else end
        pieces.append(_unquoted_piece(data[at:end]))
        at = end
    return b"".join(pieces)


def _unquoted_piece(data: bytes) -> bytes:
    import numpy as np

    values = np.frombuffer(data, np.uint8).copy()
    digits = np.full(256, 255, np.uint8)
    for digit in b"0123456789abcdefABCDEF":
        digits[digit] = int(chr(digit), 16)
    high, low = digits[values[1:-1]], digits[values[2:]]
    places = np.flatnonzero((values[:-2] == ord("%")) & (high < 16) & (low < 16))
    values[places] = high[places] * 16 + low[places]
    kept = np.ones(len(values), bool)
    kept[places + 1] = kept[places + 2] = False
    return values[kept].tobytes()


def _at_address(address: str, scheme: str, allow: AllowUrls) -> bytes:
    if scheme == "file":
        raise InputError(f"{_short(address)} is a file's address: give its path without file://")
    if scheme not in {"http", "https"}:
        raise InputError(
            f"{_short(address)} is an address that is not fetched: give the file, its bytes or a "
            "data: URI"
        )
    if not allow:
        raise InputError(
            f"{_short(address)} is an address: EcoAlign does not fetch images from the network "
            "unless it is told to (allow_urls=True in Python); or download it and give the file, "
            "its bytes or a data: URI"
        )
    from ecoalign.query._fetch import ImageFetcher

    usual = ImageFetcher(FetchPolicy(enabled=True))
    # A copy: what a fetcher waits with belongs to one event loop.
    fetcher = replace(allow) if isinstance(allow, ImageFetcher) else usual

    async def fetch() -> bytes:
        try:
            return await fetcher.fetch(address)
        finally:
            await fetcher.aclose()

    # In a thread of its own: a loop may be running in this one.
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="image") as pool:
        return pool.submit(asyncio.run, fetch()).result()


_CHANNELS = (1, 3, 4)

_ROUNDED = 1e-4
"""By how much a float may be outside 0 to 1, as after a resize."""

_SHAPES = "height x width, or height x width x 1, 3 (RGB) or 4 (RGBA)"


def image_of_array(source: ArrayLike) -> tuple[Image.Image, tuple[str, ...]]:
    """An image of an array, and what was decided about its values.

    Args:
        source: height x width (grey), or height x width x channels: 1 (grey), 3 (RGB) or 4 (RGBA).
            uint8 from 0 to 255, or floats from 0 (black) to 1 (white).

    Raises:
        InputError: it has another shape or type, or a float outside 0 to 1.
    """
    import numpy as np
    from PIL import Image

    try:
        array = np.asarray(source)
    except Exception as error:  # whatever its library raises, as for a tensor on a GPU
        raise InputError(
            f"the {type(source).__name__} does not become a numpy array: {error}"
        ) from None
    if array.ndim not in {2, 3} or (array.ndim == 3 and array.shape[2] not in _CHANNELS):
        hint = ""
        if array.ndim == 3 and array.shape[0] in _CHANNELS:
            hint = "; its channels come first: np.moveaxis(array, 0, -1) puts them last"
        elif array.ndim == 4:
            hint = "; for several images give list(array)"
        raise InputError(f"an array of shape {array.shape} is no image: it is {_SHAPES}{hint}")
    if not array.size:
        raise InputError(f"an array of shape {array.shape} is empty: there is no image in it")
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    notes: tuple[str, ...] = ()
    if array.dtype.kind == "f":
        array, notes = _from_floats(array), ("its floats are read as 0 (black) to 1 (white)",)
    elif array.dtype != np.uint8:
        raise InputError(
            f"an array of {array.dtype} is no image: give uint8 from 0 to 255, or floats from 0 "
            "to 1; array.astype(np.uint8) where its values are from 0 to 255"
        )
    return Image.fromarray(np.ascontiguousarray(array)), notes


def _from_floats(array: Any) -> Any:
    import numpy as np

    low, high = float(array.min()), float(array.max())
    if not (low >= -_ROUNDED and high <= 1 + _ROUNDED):  # NaN is neither
        raise InputError(
            f"an array of floats is read as 0 (black) to 1 (white), and this one goes from {low:g} "
            f"to {high:g}: scale it, or give array.astype(np.uint8) where its values are from 0 "
            "to 255"
        )
    return (array.astype(np.float32) * 255).round().clip(0, 255).astype(np.uint8)
