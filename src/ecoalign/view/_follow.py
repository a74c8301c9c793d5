"""A page that follows traces while they are written: what `ecoalign view --serve` shows."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web

from ecoalign.errors import InputError
from ecoalign.trace import Story
from ecoalign.trace.events import from_json
from ecoalign.view._loopback import Lines, LoopbackServer, listen
from ecoalign.view._page import page

Json = dict[str, Any]

_PAUSE = 0.15
"""Seconds between two looks at a file."""

_AT_ONCE = 256 * 1024
"""Bytes that are read at once."""

_LONGEST = 64 * 1024 * 1024
"""Bytes of a line."""

_FRAMES = 400
"""That are sent at once."""


async def follow(
    paths: Sequence[str | Path],
    images: Mapping[str, str],
    host: str,
    port: int,
    ready: Callable[[str], None],
    *,
    stop: asyncio.Event | None = None,
) -> None:
    """Serve the viewer's page on this machine only, until SIGINT or SIGTERM; see `LoopbackServer`.

    What is added to a trace is shown as it is written. A trace that is not there yet is waited for,
    and one that is written anew begins again.

    Args:
        paths: of the traces, side by side.
        images: `data:` URIs of their images by SHA-256.
        host: "127.0.0.1" or "localhost".
        port: 0 takes a free one.
        ready: told the address, with its token, once the page is served.
        stop: in place of signals.

    Raises:
        InputError: the address cannot be listened on, or a path is no file.
    """
    tails = [_Tail(Path(path)) for path in paths]
    news = _News()

    async def frames(request: web.Request) -> web.StreamResponse:
        lines = await Lines.open(request)
        await lines.send({"images": dict(images)})
        told = [_Told(tail) for tail in tails]
        while True:
            seen = news.count
            for number, one in enumerate(told):
                for line in one.news():
                    await lines.send({"story": number, **line})
            if all(tail.story.finished for tail in tails):
                await lines.send({"ended": True})
                return await lines.close()
            await news.after(seen)

    # The page is open to whoever can reach it, so what the runs hold comes by the stream alone.
    html = page([{}] * len(tails), live_url="frames", title="a run as it goes")
    with listen(host, port) as sock:
        server = LoopbackServer(html, [("GET", "/frames", frames)], sock)
        watching = asyncio.create_task(_watch(tails, news))
        try:
            await server.run(ready, stop)
        finally:
            watching.cancel()
            await asyncio.wait([watching])


async def _watch(tails: Sequence[_Tail], news: _News) -> None:
    while True:
        found = [await tail.look() for tail in tails]
        if any(found):
            news.tell()
        await asyncio.sleep(0 if any(tail.more for tail in tails) else _PAUSE)


class _News:
    """Counts what happened, and wakes up who waits for more."""

    def __init__(self) -> None:
        self.count = 0
        self._waiting = asyncio.Event()

    def tell(self) -> None:
        """Something has happened."""
        self.count += 1
        self._waiting.set()
        self._waiting = asyncio.Event()

    async def after(self, seen: int) -> None:
        """Wait until the count is not `seen` any more."""
        while self.count == seen:
            await self._waiting.wait()


class _Tail:
    """A trace as far as it is written.

    Attributes:
        story: what it tells so far.
        age: how often it began anew.
        error: why no more of it can be read; "" if nothing.
        more: whether there was more than was read at the last look.
    """

    def __init__(self, path: Path) -> None:
        if path.exists() and not path.is_file():
            raise InputError(f"{path} is no file, so it is not a trace")
        self.path = path
        self.age = 0
        self._begin()

    def _begin(self) -> None:
        self.story = Story()
        self.error = ""
        self.more = False
        self._head = b""
        self._read = 0

    async def look(self) -> bool:
        """Read what is new; whether anything is."""
        try:
            anew, data = await asyncio.to_thread(self._new)
        except FileNotFoundError:
            return False
        except OSError as error:
            return self._fail(f"{self.path.name} cannot be read: {error.strerror}")
        if anew:
            self.age += 1
            self._begin()
        elif self.error:
            return False
        self.more = len(data) >= _AT_ONCE
        whole, newline, _ = data.rpartition(b"\n")
        if not newline:
            if len(data) >= _LONGEST:
                return self._fail(f"{self.path.name} is not a trace: it is no lines of text")
            return anew
        self._head = self._head or whole.partition(b"\n")[0] + newline
        self._read += len(whole) + 1
        try:
            for line in whole.split(b"\n"):
                if line.strip():
                    self.story.see(from_json(line.decode()))
        except (InputError, UnicodeDecodeError) as error:
            return self._fail(f"{self.path.name}: {error}")
        return True

    def _new(self) -> tuple[bool, bytes]:
        """Whether the file was written anew, and what is in it that was not read yet, some of it,
        whole lines at least."""
        with self.path.open("rb") as file:
            anew = file.read(len(self._head)) != self._head or file.seek(0, 2) < self._read
            file.seek(0 if anew else self._read)
            data = file.read(_AT_ONCE)
            while b"\n" not in data and len(data) < _LONGEST and (rest := file.read(len(data))):
                data += rest
        return anew, data

    def _fail(self, why: str) -> bool:
        self.error, self.more = why, False
        return True


@dataclass(slots=True)
class _Told:
    """What one page has been told of a trace."""

    tail: _Tail
    age: int = -1
    sent: int = 0
    places: dict[str, tuple[float, float]] = field(default_factory=dict)
    error: str = ""

    def news(self) -> Iterator[Json]:
        """Lines with what it has not been told yet."""
        tail = self.tail
        if self.age != tail.age:
            self.age, self.sent, self.places, self.error = tail.age, 0, {}, ""
            yield {"reset": True}
        story = tail.story
        while self.sent < len(story.frames):
            frames = story.frames[self.sent : self.sent + _FRAMES]
            self.sent += len(frames)
            places = story.layout()
            moved = {name: at for name, at in places.items() if self.places.get(name) != at}
            self.places = places
            yield {
                "frames": frames,
                "layout": moved,
                "run": story.run,
                "finished": story.finished and self.sent == len(story.frames),
            }
        if tail.error != self.error:
            self.error = tail.error
            yield {"error": tail.error}
