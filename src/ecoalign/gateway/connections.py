"""Uvicorn's protocol with what it leaves open: clients that send heads without end, or nothing at
all, or do not read their answer. Each would hold memory or a place for as long as it likes."""

from __future__ import annotations

import asyncio
from typing import ClassVar, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

__all__ = ["GuardedProtocol"]

MOST_HEAD_BYTES = 64 * 1024
# Chunks of one byte each come with five more.
_WIRE_PER_BYTE = 6


class GuardedProtocol(HttpToolsProtocol):
    """One connection.

    What is not body (request line, headers, the frames of chunks, trailers) may have 64 KiB and
    six times the body; beyond that the connection is closed.

    Attributes:
        head_seconds: from the connection, or from the first byte of a later request, to the end
            of its headers.
        stall_seconds: that a client may leave what is sent to it unread.
    """

    head_seconds: ClassVar[float] = 20.0
    stall_seconds: ClassVar[float] = 60.0

    _head_timer: asyncio.TimerHandle | None = None
    _stall_timer: asyncio.TimerHandle | None = None
    _fresh = False
    _whole = True
    _wire = 0
    _body = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for a head, but not for ever."""
        # Uvicorn's own signature says what every event loop passes here.
        super().connection_made(cast("asyncio.Transport", transport))
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clocks."""
        self._head_came()
        self._reads_again()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Count what is not body."""
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
        self._fresh, self._whole = True, False
        self._wire = self._body = 0
        if self._head_timer is None:
            self._await_head()

    def on_headers_complete(self) -> None:
        """Its head is whole."""
        self._head_came()
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
            self._stall_timer = self.loop.call_later(self.stall_seconds, self._give_up)

    def resume_writing(self) -> None:
        """It reads again."""
        self._reads_again()
        super().resume_writing()

    def _await_head(self) -> None:
        self._head_timer = self.loop.call_later(self.head_seconds, self._give_up)

    def _head_came(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _reads_again(self) -> None:
        if self._stall_timer is not None:
            self._stall_timer.cancel()
            self._stall_timer = None

    def _give_up(self) -> None:
        self.transport.abort()
