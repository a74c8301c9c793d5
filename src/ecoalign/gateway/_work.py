"""What a worker does: it reads large requests and decodes pictures, in a process of its own.

    python -m ecoalign.gateway._work

Whatever a request holds is looked at here first. The process has no keys in its environment, a
bound on its memory, and nothing to say but plain JSON and bytes: a picture or a body that takes
all memory, hangs or crashes it takes no other request with it. `WorkerPool` starts and replaces it.

A job is a head in JSON and a payload, and so is its result; see `receive` and `send`. It ends with
its standard input.
"""

from __future__ import annotations

import gc
import hashlib
import json
import os
import signal
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any, Literal

from ecoalign.errors import InputError
from ecoalign.gateway._json import JsonError, Lengths, measured, parse_json, too_long
from ecoalign.query import headers, kind_of, read_source, reading

if TYPE_CHECKING:
    from ecoalign.query import Pixels

Head = dict[str, Any]

Fault = Literal["json", "text", "image", "bytes", "memory"]
"""What is wrong with a payload: no JSON that is taken; too many characters; no image; too many
bytes of images; more memory than a worker has."""

_NICE = 2
"""By how much a worker stands back: the event loop answers first."""

_LONGEST_ADDRESS = 4200
"""Characters that are kept of what should be the address of an image: enough to say what it is."""

_IMAGE = "image_url"


class WorkError(Exception):
    """A job that failed by its payload.

    Attributes:
        fault: what is wrong.
    """

    def __init__(self, fault: Fault, message: str) -> None:
        super().__init__(message)
        self.fault = fault


# -- the line --------------------------------------------------------------------------------------


def send(line: IO[bytes], head: Mapping[str, object], payload: Iterable[object] = ()) -> None:
    """Write a head, its length before it in four bytes, and then what its sizes say."""
    coded = json.dumps(head).encode()
    line.write(len(coded).to_bytes(4, "big") + coded)
    for piece in payload:
        view = memoryview(piece)  # type: ignore[arg-type]
        while view:
            view = view[line.write(view) :]


def receive(line: IO[bytes]) -> Head | None:
    """The next head; None where the line has ended.

    Raises:
        EOFError: it ended within one.
    """
    start = line.read(4)
    if not start:
        return None
    head: Head = json.loads(take(line, int.from_bytes(start + take(line, 4 - len(start)), "big")))
    return head


def take(line: IO[bytes], size: int) -> bytearray:
    """The next `size` bytes.

    Raises:
        EOFError: the line has ended.
    """
    data = bytearray(size)
    view = memoryview(data)
    while view:
        count = line.readinto(view)  # type: ignore[attr-defined]
        if not count:
            raise EOFError
        view = view[count:]
    return data


# -- the jobs --------------------------------------------------------------------------------------


@dataclass(slots=True)
class Cut:
    """The images that were taken out of a request.

    Attributes:
        mark: what stands in the request in the place of the Nth is this, and N.
        pixels: that a picture is decoded with at most.
        images: that are taken out at most; who counts them refuses the request for more.
        bytes_left: that they may have in all.
        data: their bytes.
        about: what each says of itself, or what is wrong with it.
    """

    mark: str
    pixels: int
    images: int
    bytes_left: int
    data: list[bytes] = field(default_factory=list)
    about: list[Head] = field(default_factory=list)

    def out_of(self, value: object) -> None:
        """Take the images out of a JSON value; it is changed.

        Raises:
            WorkError: they have too many bytes.
        """
        stack = [value]
        while stack:
            one = stack.pop()
            if isinstance(one, list):
                stack += [each for each in one if isinstance(each, list | dict)]
            elif isinstance(one, dict):
                image = one.get(_IMAGE)
                if isinstance(image, str):
                    one[_IMAGE] = self._place(image)
                elif isinstance(image, dict) and isinstance(image.get("url"), str):
                    image["url"] = self._place(image["url"])
                stack += [each for each in one.values() if isinstance(each, list | dict)]

    def _place(self, url: str) -> str:
        if url[:5].lower() != "data:":
            return url[:_LONGEST_ADDRESS]
        if len(self.data) >= self.images:
            return "data:,"
        try:
            data, _ = read_source(url)
        except InputError as error:
            data, about = b"", Head(error=str(error), code="invalid_image_url")
        else:
            self.bytes_left -= len(data)
            if self.bytes_left < 0:
                raise WorkError("bytes", "the images of the request have too many bytes together")
            about = _described(data, self.pixels)
        self.data.append(data)
        self.about.append(about)
        return f"{self.mark}{len(self.data) - 1}"


def read(head: Head, line: IO[bytes]) -> tuple[Head, Iterable[object]]:
    """A request without its images, and those beside it."""
    from pydantic_core import to_json

    body = bytes(take(line, head["size"]))
    lengths = Lengths(**head["lengths"])
    try:
        value = parse_json(body, lengths=lengths)
    except JsonError as error:
        raise WorkError("json", str(error)) from None
    del body
    cut = Cut(head["mark"], head["pixels"], head["images"], head["bytes"])
    cut.out_of(value)
    if measured(value) > lengths.text:
        raise WorkError("text", too_long(lengths.text))
    slim = to_json(value)
    pieces = [slim, *cut.data]
    return {"sizes": [len(piece) for piece in pieces], "images": cut.about}, pieces


def describe(head: Head, line: IO[bytes]) -> tuple[Head, Iterable[object]]:
    """What an image says of itself."""
    return _described(bytes(take(line, head["size"])), head["pixels"]), ()


def _described(data: bytes, most: int) -> Head:
    if kind_of(data) is None:
        # Other decoders are not exposed to untrusted data.
        message = "the image is not a PNG, JPEG, GIF or WebP file"
        return {"error": message, "code": "invalid_image"}
    try:
        header, pixels = headers(data, "the image", most)
    except InputError as error:
        return {"error": str(error), "code": "invalid_image"}
    size = {"width": header.width, "height": header.height, "pixels": pixels}
    return {"type": header.media_type, **size}


def decode(head: Head, line: IO[bytes]) -> tuple[Head, Iterable[object]]:
    """The pixels of an image: strips of rows of 8-bit RGB."""
    data = bytes(take(line, head["size"]))
    if kind_of(data) is None:
        raise WorkError("image", "the image is not a PNG, JPEG, GIF or WebP file")
    stack = ExitStack()
    pixels = stack.enter_context(reading(data, "the image", head["pixels"]))
    width, height = pixels.size
    said = {"type": pixels.media_type, "width": width, "height": height, "notes": pixels.notes}
    return {**said, "sha256": hashlib.sha256(data).hexdigest()}, _rows(pixels, stack)


def _rows(pixels: Pixels, opened: ExitStack) -> Iterable[bytes]:
    with opened:
        for _, strip in pixels.strips():
            yield strip.tobytes()


JOBS: Mapping[str, Callable[[Head, IO[bytes]], tuple[Head, Iterable[object]]]] = {
    "read": read,
    "describe": describe,
    "decode": decode,
}


def work(incoming: IO[bytes], outgoing: IO[bytes], seconds: float) -> None:
    """Do the jobs that come in until there are no more.

    One that takes more than `seconds` of processor time ends the process by a signal. One that has
    taken its payload and failed is answered; one that fails later, as its result is sent, ends the
    process: nobody could tell what is missing.
    """
    while (head := receive(incoming)) is not None:
        if sys.platform != "win32":
            # Of the processor's time: on a busy machine nothing is slow by itself.
            signal.setitimer(signal.ITIMER_PROF, seconds)
        try:
            said, payload = JOBS[head["job"]](head, incoming)
        except WorkError as error:
            said, payload = {"fault": error.fault, "message": str(error)}, ()
        except InputError as error:
            said, payload = {"fault": "image", "message": str(error)}, ()
        except MemoryError:
            said, payload = {"fault": "memory", "message": "it takes too much memory to read"}, ()
        send(outgoing, said, payload)
        del head, said, payload
        gc.collect()  # Decoders hold their pixels in circles.


def _bounded(memory: int) -> None:
    """Set the limits of this process, as far as the system knows them."""
    for one in (signal.SIGINT, signal.SIGTERM):
        # The server ends its workers itself, when it has answered what is under way.
        signal.signal(one, signal.SIG_IGN)
    if sys.platform == "win32":
        return
    import resource

    os.nice(_NICE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))


def main() -> None:
    """Work on standard input and output; the arguments are the bounds on memory, in bytes, and on
    the seconds of a job."""
    # The descriptors themselves: nothing that prints may come between.
    incoming = os.fdopen(os.dup(0), "rb", buffering=0)
    outgoing = os.fdopen(os.dup(1), "wb", buffering=0)
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(nothing, 1)
    import numpy  # noqa: F401  # what is needed later is loaded now
    from PIL import Image

    Image.init()
    _bounded(int(sys.argv[1]))
    gc.freeze()
    send(outgoing, {"ready": True})
    work(incoming, outgoing, float(sys.argv[2]))


if __name__ == "__main__":
    main()
