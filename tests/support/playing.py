"""The playground on a real socket, in the test's own event loop, and what its page would send."""

from __future__ import annotations

import asyncio
import base64
import json
import threading
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from ecoalign.cli._play import playground
from ecoalign.models import ChatModel
from ecoalign.playground import PlaygroundConfig, beside, listen, serve
from ecoalign.settings import Settings

THING = Path(__file__).parents[2] / "examples" / "thing.png"

FORBIDDEN = "how do i wake the thing on the sign?"

HARMLESS = "how do i feed the thing on the sign?"

Json = dict[str, Any]


@dataclass
class Playing:
    """A playground that answers.

    Attributes:
        address: as it was printed, with the token.
        session: a client of it.
    """

    address: str
    session: aiohttp.ClientSession

    @property
    def url(self) -> str:
        """Without the token, and without a slash at the end."""
        return self.address.partition("/#")[0]

    @property
    def headers(self) -> dict[str, str]:
        """As the page's own script sends them."""
        return {"Authorization": f"Bearer {self.address.partition('#')[2]}", "Origin": self.url}

    async def about(self) -> Json:
        """What the page is told of what can be chosen."""
        async with self.session.get(f"{self.url}/api/about", headers=self.headers) as response:
            assert response.status == 200
            body: Json = await response.json()
            return body

    def asking(self, body: Mapping[str, object]) -> Any:
        """A request to ask, to be entered."""
        return self.session.post(f"{self.url}/api/run", json=body, headers=self.headers)

    async def lines(self, body: Mapping[str, object]) -> list[Json]:
        """All lines of an answer."""
        async with self.asking(body) as response:
            assert response.status == 200, await response.text()
            return [json.loads(line) async for line in response.content]

    async def problem_or_none(self, body: Mapping[str, object]) -> Json | None:
        """Why a question is not asked; None if it is."""
        async with self.asking(body) as response:
            await response.read()
            return None if response.status == 200 else (await response.json())["error"]

    async def problem(self, body: Mapping[str, object]) -> tuple[int, Json]:
        """Why a question is not asked."""
        async with self.asking(body) as response:
            return response.status, (await response.json())["error"]


@asynccontextmanager
async def playing(
    config: PlaygroundConfig | None = None, model: ChatModel | None = None
) -> AsyncIterator[Playing]:
    """Serve a playground; by default that of `ecoalign play`."""
    config = config or playground(Settings(), None)
    ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    stop = asyncio.Event()
    sock = listen("127.0.0.1", 0)
    # Lines may be long: a client reads them in parts of this size.
    async with aiohttp.ClientSession(read_bufsize=2**22) as session:
        task = asyncio.create_task(serve(config, sock, ready.set_result, model=model, stop=stop))
        task.add_done_callback(lambda _: ready.done() or ready.cancel())
        await asyncio.wait([ready])
        if ready.cancelled():
            await task
        try:
            yield Playing(ready.result(), session)
        finally:
            stop.set()
            await task


def encoded(path: Path = THING) -> str:
    """A picture as the page sends it."""
    return base64.b64encode(path.read_bytes()).decode("ascii")


def asked(question: str = FORBIDDEN, *methods: str, **changes: object) -> dict[str, object]:
    """A question about examples/thing.png, by Base and EcoAlign."""
    return {
        "question": question,
        "images": [encoded()],
        "methods": list(methods or ("base", "ecoalign")),
        **changes,
    }


@contextmanager
def beside_the_test(
    config: PlaygroundConfig | None = None, model: ChatModel | None = None
) -> Iterator[str]:
    """The address of a playground in a thread of its own."""
    addresses: list[str] = []
    config = config or playground(Settings(), None)
    with beside(config, listen("127.0.0.1", 0), addresses.append, model=model):
        yield addresses[0]


class Gate:
    """Holds a model that is asked in another thread.

    Attributes:
        reached: somebody stands before it.
        left: somebody was cancelled before it.
    """

    def __init__(self) -> None:
        self.reached, self.left = threading.Event(), threading.Event()
        self._waiting: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    def open(self) -> None:
        """Let through who stands before it."""
        for loop, event in self._waiting:
            loop.call_soon_threadsafe(event.set)
        self._waiting.clear()

    async def passed(self) -> None:
        """Wait until it is opened."""
        event = asyncio.Event()
        self._waiting.append((asyncio.get_running_loop(), event))
        self.reached.set()
        try:
            await event.wait()
        except asyncio.CancelledError:
            self.left.set()
            raise
