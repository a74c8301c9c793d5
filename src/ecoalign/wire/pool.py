"""Connections to one server, kept open between requests."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from ecoalign.wire.connection import Connection, WireError

if TYPE_CHECKING:
    import ssl

__all__ = ["CONNECT_SECONDS", "IDLE_SECONDS", "Pool"]

IDLE_SECONDS: Final = 4.0
"""A connection that has rested for longer is not used again: the usual server closes after 5 s,
and a request that crosses with the closing may or may not have been taken."""
CONNECT_SECONDS: Final = 10.0


class Pool:
    """Connections to one server, kept open between requests.

    Args:
        host, port: where it listens.
        tls: how to speak TLS; None for plain HTTP.
        connections: at most so many at once (>= 1); who comes later waits.
        most: bytes of one answer.
    """

    def __init__(
        self, host: str, port: int, *, tls: ssl.SSLContext | None, connections: int, most: int
    ) -> None:
        self._host = host
        self._port = port
        self._tls = tls
        self._most = most
        self._slots = asyncio.Semaphore(connections)
        self._idle: list[Connection] = []
        self._busy: set[Connection] = set()

    async def take(self) -> Connection:
        """A connection that is fit for a request, to be handed back to `give`.

        Raises:
            WireError: none can be had ("refused").
        """
        await self._slots.acquire()
        try:
            connection = self._rested() or await self._open()
        except BaseException:
            self._slots.release()
            raise
        self._busy.add(connection)
        return connection

    def give(self, connection: Connection) -> None:
        """Hand back a connection. It is closed unless an answer was read to its end."""
        self._busy.discard(connection)
        self._slots.release()
        if connection.rest():
            self._idle.append(connection)
        else:
            connection.abort()

    def close(self) -> None:
        """Close every connection. Who waits for an answer gets an error."""
        for connection in [*self._idle, *self._busy]:
            connection.abort()
        self._idle.clear()

    def _rested(self) -> Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if connection.usable and connection.idle_seconds < IDLE_SECONDS:
                return connection
            connection.abort()
        return None

    async def _open(self) -> Connection:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                _, connection = await loop.create_connection(
                    lambda: Connection(self._most), self._host, self._port, ssl=self._tls
                )
        except TimeoutError:
            message = f"it took no connection within {CONNECT_SECONDS:g} s"
        except OSError as error:
            message = f"it took no connection ({type(error).__name__})"
        else:
            return connection
        raise WireError("refused", message)
