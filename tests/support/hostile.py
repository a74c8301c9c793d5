"""A real HTTP server on a real socket that says whatever a test tells it to.

`HostileServer(handler)` is a context manager; `handler` maps a `Received` to a `Reply` and runs
in a thread of the server, so that asyncio code, threads and subprocesses can all be its clients.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType


@dataclass(frozen=True, slots=True)
class Received:
    """One request as it came in; header names in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> dict[str, object]:
        """The body as a JSON object."""
        value = json.loads(self.body)
        assert isinstance(value, dict)
        return value


@dataclass(frozen=True, slots=True)
class Reply:
    """What to send back.

    Attributes:
        body: sent as it is if bytes or text, else as JSON.
        length: the Content-Length to claim, where it should not be the true one.
        raw: sent instead of everything else, then the connection is closed.
        hang: send nothing until the server is closed.
        endless: after the body, keep sending this piece until the client goes away.
        drips: wait a twentieth of a second before each endless piece.
    """

    body: object = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    length: int | None = None
    raw: bytes | None = None
    hang: bool = False
    endless: bytes | None = None
    drips: bool = False

    def encoded(self) -> bytes:
        """The body as bytes."""
        if isinstance(self.body, bytes):
            return self.body
        if isinstance(self.body, str):
            return self.body.encode()
        return json.dumps(self.body).encode()


Handler = Callable[[Received], Reply]


def completion(text: object = "fine", **changes: object) -> dict[str, object]:
    """A well-formed chat completion; `changes` replace its top-level fields."""
    return {
        "id": "c-1",
        "object": "chat.completion",
        "created": 1,
        "model": "served-model",
        "choices": [
            {
                "index": 0,
                "finish_reason": "stop",
                "message": {"role": "assistant", "content": text},
            }
        ],
        "usage": {"prompt_tokens": 11, "completion_tokens": 3, "total_tokens": 14},
    } | changes


class HostileServer:
    """Serves `handler` on a free port of the loopback interface.

    Attributes:
        received: every request so far, in order of arrival.
        url: the base URL for an OpenAI-compatible client ("http://127.0.0.1:PORT/v1").
    """

    def __init__(self, handler: Handler) -> None:
        self.received: list[Received] = []
        self.closing = threading.Event()
        self._handler = handler
        self._server = _Server(("127.0.0.1", 0), _handler_class(self))
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/v1"
        # The default poll of half a second would be waited for at every close.
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    def answer(self, request: Received) -> Reply:
        """What the handler says; called by the connection threads."""
        self.received.append(request)
        return self._handler(request)

    def __enter__(self) -> HostileServer:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.closing.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = False  # so that closing waits for them

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that give up are what this server is for."""


def _handler_class(owner: HostileServer) -> type[BaseHTTPRequestHandler]:
    class Connection(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = int(self.headers.get("content-length", "0"))
            headers = {name.lower(): value for name, value in self.headers.items()}
            body = self.rfile.read(length)
            self._send(owner.answer(Received(self.command, self.path, headers, body)))

        do_GET = do_POST  # noqa: N815

        def _send(self, reply: Reply) -> None:
            self.close_connection = True
            if reply.hang:
                owner.closing.wait(30)
                return
            if reply.raw is not None:
                self.wfile.write(reply.raw)
                return
            body = reply.encoded()
            self.send_response(reply.status)
            for name, value in ({"Content-Type": "application/json"} | dict(reply.headers)).items():
                self.send_header(name, value)
            if reply.endless is None:
                length = len(body) if reply.length is None else reply.length
                self.send_header("Content-Length", str(length))
            self.end_headers()
            self.wfile.write(body)
            pause = 0.05 if reply.drips else 0.0
            while reply.endless is not None and not owner.closing.wait(pause):
                self.wfile.write(reply.endless)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Say nothing: tests read what is on standard error."""

    return Connection
