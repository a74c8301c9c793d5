"""Large requests are read outside the event loop's process, before anything here looks at them."""

from __future__ import annotations

from collections.abc import Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ecoalign.gateway._errors import ApiError
from ecoalign.gateway._guard import owner_of
from ecoalign.gateway._images import Held, full
from ecoalign.gateway._json import Lengths
from ecoalign.gateway._limits import body_room, send_error
from ecoalign.gateway._state import AppState
from ecoalign.gateway.observe._requests import record_of
from ecoalign.prompts import turn

SMALL = 64 * 1024
"""Bytes of a body that is read here: it takes as long as the way to a worker."""

_COPIES = 8
"""How often the text of a request is held while it is answered: as it came, in the prompts that are
made of it, and in the bodies of the calls under way."""


class Intake:
    """ASGI middleware: has a large request read by a worker, and lets the app see what is left.

    The images are taken out of it. What stands in their place no client can know; the image loader
    has their data under it (`ImageLoader.held`) until the request ends. How much memory the
    request holds is told to `BodyLimit`.

    Args:
        app: what runs behind it, behind `BodyLimit` and `Guard`.
        paths: how the paths end whose requests are read.
        lengths: what a request may hold.
        patience: seconds that a request waits for room.
        state: of the app, once it has started.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        paths: tuple[str, ...],
        lengths: Lengths,
        state: Callable[[], AppState],
        patience: float = 10.0,
    ) -> None:
        self._app = app
        self._paths = paths
        self._lengths = lengths
        self._small = min(SMALL, lengths.text)
        self._state = state
        self._patience = patience

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or pass it on."""
        if (
            scope["type"] != "http"
            or scope["method"] != "POST"
            or not scope["path"].endswith(self._paths)
        ):
            await self._app(scope, receive, send)
            return
        message = await receive()
        size = len(message.get("body", b""))
        if size <= self._small:
            await turn(4 * size)
            await self._app(scope, _first(message, receive), send)
            return
        body: list[bytes] = [message.pop("body")]
        held = self._state().images.held
        names: list[str] = []
        try:
            try:
                slim = await self._read(scope, body, names)
            except ApiError as refusal:
                record_of(scope).failed(refusal.code or "error")
                await send_error(send, refusal)
                return
            await turn(4 * len(slim))
            await self._app(scope, _first({**message, "body": slim}, receive), send)
        finally:
            for name in names:
                held.pop(name, None)

    async def _read(self, scope: Scope, body: list[bytes], names: list[str]) -> bytes:
        """What is left of a body; `names` are given those of the images.

        Raises:
            ApiError: the request is refused.
        """
        images, share = self._state().images, body_room(scope)
        slim, found = await images.read(body, self._lengths, owner_of(scope) or "")
        size = _COPIES * len(slim) + sum(len(data) for data, _ in found.values())
        if share is not None:
            share.less(share.held - size)
            if size > share.held and not await share.wait(size - share.held, self._patience):
                raise full()
        for name, (data, about) in found.items():
            images.held[name] = Held(data, about, _nobody if share is None else share.less, name)
            names.append(name)
        return bytes(slim)


def _nobody(size: int) -> None:
    """Nobody counts."""


def _first(message: Message, receive: Receive) -> Receive:
    """A `receive` that begins with a message."""
    waiting = [message]

    async def replay() -> Message:
        return waiting.pop() if waiting else await receive()

    return replay
