"""One connection of a client, and how many of them may belong to strangers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, ClassVar, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from ecoalign.gateway._guard import LET_IN
from ecoalign.gateway._limits import MAX_BYTES

MOST_HEAD_BYTES = 64 * 1024

# Chunks of one byte each come with five more.
_WIRE_PER_BYTE = 6


_CROWD = 4

_MOMENT = 1.0


class Strangers:
    """The connections on which no key was shown yet: so many, and then the oldest are closed.

    One that has just been made has a second, in which who has a key shows it and is out of here;
    in that second there may be four times as many.

    Args:
        most: of them, >= 1.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._since: dict[GuardedProtocol, float] = {}

    def enter(self, connection: GuardedProtocol) -> None:
        """A connection was made."""
        now = connection.loop.time()
        self._since[connection] = now
        while len(self._since) > self._most:
            oldest, since = next(iter(self._since.items()))
            if now - since < _MOMENT and len(self._since) <= _CROWD * self._most:
                return
            self.leave(oldest)
            oldest.transport.abort()

    def leave(self, connection: GuardedProtocol) -> None:
        """It ended, or a key was shown on it."""
        self._since.pop(connection, None)


class _Line:
    """A transport that says before it is closed."""

    def __init__(
        self, transport: asyncio.Transport, end: Callable[[asyncio.Transport], None]
    ) -> None:
        self._transport = transport
        self._end = end
        self._ended = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def is_closing(self) -> bool:
        """Whether it is closed, or was told to."""
        return self._ended or self._transport.is_closing()

    def close(self) -> None:
        """Close it."""
        self._ended = True
        self._end(self._transport)


class GuardedProtocol(HttpToolsProtocol):
    """One connection.

    What is not body (request line, headers, the frames of chunks, trailers) may have 64 KiB and
    six times the body; beyond that the connection is closed.

    Attributes:
        head_seconds: from the connection, or from the first byte of a later request, to the end
            of its headers.
        stall_seconds: that a client may leave what is sent to it unread.
        linger_seconds: that a client has to notice that its body is refused.
        strangers: where connections without a key are counted; None where there are no keys.
    """

    head_seconds: ClassVar[float] = 20.0
    stall_seconds: ClassVar[float] = 60.0
    linger_seconds: ClassVar[float] = 2.0
    strangers: ClassVar[Strangers | None] = None

    _head_timer: asyncio.TimerHandle | None = None
    _stall_timer: asyncio.TimerHandle | None = None
    _linger_timer: asyncio.TimerHandle | None = None
    _lingered = 0
    _fresh = False
    _whole = True
    _wire = 0
    _body = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for the head of a request, for a bounded time."""
        # Uvicorn's own signature says what every event loop passes here.
        line = _Line(cast("asyncio.Transport", transport), self._end)
        super().connection_made(cast("asyncio.Transport", line))
        if self.strangers is not None:
            self.strangers.enter(self)
        self._start_head_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timers."""
        self._let_in()
        self._stop_head_timer()
        self._stop_stall_timer()
        if self._linger_timer is not None:
            self._linger_timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Count what is not body."""
        if self._linger_timer is not None:
            self._lingered += len(data)
            if self._lingered > MAX_BYTES:
                self.transport.abort()
            return
        self._fresh = False
        super().data_received(data)
        if self._whole or self._fresh:
            # Of a message that began in these bytes, the next ones are counted.
            return
        self._wire += len(data)
        if self._wire > MOST_HEAD_BYTES + _WIRE_PER_BYTE * self._body:
            self.transport.abort()

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        if self.strangers is not None:
            self.scope["extensions"] = {LET_IN: {"call": self._let_in}}
        self._fresh, self._whole = True, False
        self._wire = self._body = 0
        if self._head_timer is None:
            self._start_head_timer()

    def on_headers_complete(self) -> None:
        """Its head is whole."""
        self._stop_head_timer()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Some of its body."""
        self._body += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """All of it."""
        self._whole = True
        super().on_message_complete()

    def pause_writing(self) -> None:
        """The client does not read what is sent."""
        super().pause_writing()
        if self._stall_timer is None:
            self._stall_timer = self.loop.call_later(self.stall_seconds, self._abort)

    def resume_writing(self) -> None:
        """It reads again."""
        self._stop_stall_timer()
        super().resume_writing()

    def _start_head_timer(self) -> None:
        self._head_timer = self.loop.call_later(self.head_seconds, self._abort)

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _stop_stall_timer(self) -> None:
        if self._stall_timer is not None:
            self._stall_timer.cancel()
            self._stall_timer = None

    def eof_received(self) -> None:
        """The client sends no more."""
        if self._linger_timer is not None:
            self.transport.abort()
        super().eof_received()

    def _end(self, transport: asyncio.Transport) -> None:
        """Close the connection; where a body is still coming, the client is told first.

        To a socket that is closed with bytes unread the system answers with a reset, and a client
        that sends all of a body before it reads would learn nothing but that.
        """
        if self._whole or self._linger_timer is not None or not transport.can_write_eof():
            transport.close()
            return
        self._linger_timer = self.loop.call_later(self.linger_seconds, self._abort)
        transport.write_eof()
        # Nobody else resumes it: what comes now is thrown away.
        self.flow.resume_reading()

    def _let_in(self) -> None:
        if self.strangers is not None:
            self.strangers.leave(self)

    def _abort(self) -> None:
        self.transport.abort()
