"""Plain HTTP servers in threads: a collector of spans, a model that echoes, a door to watch."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Heard:
    """What a server was asked.

    Attributes:
        url: where it listens.
        paths: of the requests, in order.
        bodies: of the requests, in order.
        heads: their headers, as text.
    """

    url: str
    paths: list[str] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    heads: list[str] = field(default_factory=list)


@contextmanager
def listening(
    answer: Callable[[bytes], tuple[int, bytes]] = lambda _: (200, b""),
) -> Iterator[Heard]:
    """A server that gives `answer(body)`, a status and a JSON body, to every request."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            heard.paths.append(self.path)
            heard.bodies.append(body)
            heard.heads.append(str(self.headers))
            status, said = answer(body)
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)

        do_GET = do_POST  # noqa: N815 - the name is the library's

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    heard = Heard(f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield heard
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
