"""A web server for the operator's own browser: on this machine only, behind a token, and closed to
every other page that the browser has open.

Who may read or start something is decided in one place, `_guard`:

- it listens on 127.0.0.1 and nowhere else;
- the header Host must name this address and port, so that a foreign name that was rebound to
  127.0.0.1 finds nothing (DNS rebinding);
- another site may lead here by a link, and nothing more: what a browser fetches, or sends, must
  come from this very page (Sec-Fetch-Site, Origin);
- all but the page itself, which holds nothing private, needs the token. It is in the fragment of
  the address, which browsers send to nobody, and comes back as a header. It is no cookie: cookies
  are sent to every port of a host.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import logging
import secrets
import signal
import socket
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from html.parser import HTMLParser

from aiohttp import web

from ecoalign._web import asked_host, from_another_site, is_json
from ecoalign.errors import EcoAlignError, InputError

HOST = "127.0.0.1"

_NAMES = (HOST, "localhost")
"""What a browser may call it."""

_MIB = 1024 * 1024

_LAST_CALL = 3.0
"""Seconds for what is under way to end after it was told to."""

_LINGERING = 2.0
"""Seconds in which the rest of a refused body is read, so that the client sees the answer."""

_BODY_SECONDS = 60.0
"""For a body to come in."""

_log = logging.getLogger("ecoalign.loopback")

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def listen(host: str, port: int) -> socket.socket:
    """A socket on this machine's own address.

    Args:
        host: "127.0.0.1" or "localhost".
        port: 0 takes a free one.

    Raises:
        InputError: the host is another, or the port cannot be listened on.
    """
    if host.lower() not in _NAMES:
        raise InputError(
            f"this page is for this machine only: it listens on {HOST}, not on {host[:80]!r}. To "
            "reach it from another machine forward the port: ssh -L PORT:127.0.0.1:PORT HOST"
        )
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((HOST, port))
        sock.listen(128)
        sock.setblocking(False)
    except (OSError, OverflowError) as error:
        sock.close()
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"cannot listen on {HOST} port {port}: {reason}") from None
    return sock


def content_policy(html: str) -> str:
    """The Content-Security-Policy of a page: its own inline scripts and styles by their hashes,
    pictures from memory, requests to where it came from, and nothing else."""
    inline = _Inline()
    inline.feed(html)
    inline.close()
    scripts, styles = (
        " ".join(map(_hash, inline.found[tag])) or "'none'" for tag in ("script", "style")
    )
    return (
        f"default-src 'none'; script-src {scripts}; style-src {styles}; img-src data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'; trusted-types 'none'"
    )


class _Inline(HTMLParser):
    """What stands in the scripts and styles of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.found: dict[str, list[str]] = {"script": [], "style": []}

    def handle_starttag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        if tag in self.found:
            self.found[tag].append("")

    def handle_data(self, data: str) -> None:
        if self.cdata_elem in self.found:
            self.found[self.cdata_elem][-1] += data


def _hash(text: str) -> str:
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")
    return f"'sha256-{digest}'"


@contextmanager
def _signalled() -> Iterator[asyncio.Event]:
    """An event that SIGINT and SIGTERM set."""
    event, loop = asyncio.Event(), asyncio.get_running_loop()
    caught = (signal.SIGINT, signal.SIGTERM)
    # Event loops take no signals on Windows: there Ctrl-C raises, which will do.
    with suppress(NotImplementedError):
        for one in caught:
            loop.add_signal_handler(one, event.set)
    try:
        yield event
    finally:
        with suppress(NotImplementedError):
            for one in caught:
                loop.remove_signal_handler(one)


class Refused(Exception):
    """A request that is not answered.

    Attributes:
        status: of HTTP.
        kind: a name for the page's script.
    """

    def __init__(self, status: int, message: str, kind: str = "Refused") -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind


class LoopbackServer:
    """A page and what its script may ask for.

    Args:
        page: the HTML at "/"; anyone on this machine may read it.
        routes: method and path of what needs the token, and who answers it. Where the client goes
            away, the handler is cancelled.
        sock: from `listen`; closed at the end.
        most_body: bytes that a request may have.

    Attributes:
        token: the secret of this server, new each time.
    """

    def __init__(
        self,
        page: str,
        routes: Sequence[tuple[str, str, Handler]],
        sock: socket.socket,
        *,
        most_body: int = _MIB,
    ) -> None:
        self.token = secrets.token_urlsafe(24)
        self._sock = sock
        self._page = page.encode()
        self._policy = content_policy(page)
        self._most_body = most_body
        self._handling: set[asyncio.Task[object]] = set()
        port = sock.getsockname()[1]
        self._hosts = {f"{name}:{port}" for name in _NAMES} | (set(_NAMES) if port == 80 else set())
        app = web.Application(middlewares=[self._guard], client_max_size=most_body)
        app.on_response_prepare.append(self._seal)
        app.router.add_get("/", self._show)
        for method, path, handler in routes:
            app.router.add_route(method, path, handler)
        self._app = app

    @property
    def address(self) -> str:
        """Where the operator's browser finds it, token included."""
        return f"http://{HOST}:{self._sock.getsockname()[1]}/#{self.token}"

    async def run(self, ready: Callable[[str], None], stop: asyncio.Event | None = None) -> None:
        """Serve until SIGINT or SIGTERM, or until `stop` is set; what is under way is cancelled.

        Args:
            ready: told the address once requests are answered.
            stop: in place of signals.
        """
        runner = web.AppRunner(
            self._app,
            access_log=None,
            handler_cancellation=True,
            lingering_time=_LINGERING,
            shutdown_timeout=_LAST_CALL,
        )
        await runner.setup()
        try:
            await web.SockSite(runner, self._sock).start()
            with nullcontext(stop) if stop is not None else _signalled() as ended:
                ready(self.address)
                await ended.wait()
        finally:
            for task in self._handling:
                task.cancel()
            await runner.cleanup()
            self._sock.close()

    async def _show(self, request: web.Request) -> web.Response:
        return web.Response(body=self._page, content_type="text/html", charset="utf-8")

    async def _seal(self, request: web.Request, response: web.StreamResponse) -> None:
        """What every response says, errors too."""
        headers = response.headers
        headers["Content-Security-Policy"] = self._policy
        headers["X-Frame-Options"] = "DENY"
        headers["X-Content-Type-Options"] = "nosniff"
        headers["Referrer-Policy"] = "no-referrer"
        headers["Cache-Control"] = "no-store"
        headers["Cross-Origin-Opener-Policy"] = "same-origin"
        headers["Cross-Origin-Resource-Policy"] = "same-origin"
        headers.popall("Server", None)

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a handler runs in one
        self._handling.add(task)
        try:
            self._check(request)
            return await handler(request)
        except Refused as refused:
            return problem(refused.status, refused.kind, str(refused))
        except EcoAlignError as error:
            return problem(400, type(error).__name__, str(error))
        except web.HTTPRequestEntityTooLarge:
            return problem(413, "Refused", self._too_large)
        except web.HTTPException as error:
            return problem(error.status, "Refused", error.reason)
        except (ConnectionError, asyncio.CancelledError):
            raise
        except Exception as error:
            _log.exception("a request failed")
            kind = type(error).__name__
            return problem(500, kind, f"unexpected {kind}; the terminal shows more")
        finally:
            self._handling.discard(task)

    def _check(self, request: web.Request) -> None:
        """Raise `Refused` unless the request comes from the operator's page, or opens it."""
        headers = request.headers
        host, origins = asked_host(headers.getall("Host", ())), headers.getall("Origin", ())
        if host not in self._hosts:
            raise Refused(421, "this server has another address: open the one it printed")
        opens = request.method in {"GET", "HEAD"} and request.path == "/"
        site = headers.get("Sec-Fetch-Site")
        linked = opens and _by_a_link(headers)
        if from_another_site(origins, None if linked else site, own={f"http://{host}"}):
            raise Refused(403, "another site may not ask here")
        if opens:
            return
        if request.method not in {"GET", "HEAD"} and not origins and site != "same-origin":
            raise Refused(403, "only the page itself may ask: the header Origin is missing")
        kind, _, token = headers.get("Authorization", "").partition(" ")
        right = hmac.compare_digest(token.strip().encode("utf-8", "replace"), self.token.encode())
        if kind.lower() != "bearer" or not right:
            raise Refused(
                401, "the token is missing or old: open the address that was printed last", "Token"
            )
        if request.method == "POST" and not is_json(headers.getall("Content-Type", ())):
            raise Refused(415, "the body of a request is application/json")
        if request.content_length is not None and request.content_length > self._most_body:
            raise Refused(413, self._too_large)

    @property
    def _too_large(self) -> str:
        return f"a request may have {self._most_body // _MIB} MiB: use smaller pictures, or fewer"


def _by_a_link(headers: Mapping[str, str]) -> bool:
    """Whether a person followed a link, rather than a script or a frame fetching something."""
    way = (headers.get("Sec-Fetch-Mode"), headers.get("Sec-Fetch-Dest"))
    return way == ("navigate", "document")


def problem(status: int, kind: str, message: str) -> web.Response:
    """A response that says what was wrong, for the page to show."""
    return web.json_response({"error": {"type": kind, "message": message}}, status=status)


async def body_of(request: web.Request) -> object:
    """The JSON of a request.

    Raises:
        Refused: it is none, or came in too slowly.
    """
    try:
        async with asyncio.timeout(_BODY_SECONDS):
            return json.loads(await request.read())
    except TimeoutError:
        raise Refused(408, "the body took too long to come in") from None
    except (ValueError, RecursionError):
        raise Refused(400, "the body is not JSON") from None


class Lines:
    """A response of JSON objects, one a line, each sent at once."""

    def __init__(self, response: web.StreamResponse) -> None:
        self._response = response

    @classmethod
    async def open(cls, request: web.Request) -> Lines:
        """Begin the response."""
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        await response.prepare(request)
        return cls(response)

    async def send(self, body: object) -> None:
        """One line. Raises ConnectionError where nobody reads any more."""
        line = json.dumps(body, ensure_ascii=True, separators=(",", ":"))
        await self._response.write(line.encode() + b"\n")

    async def close(self) -> web.StreamResponse:
        """End it."""
        await self._response.write_eof()
        return self._response
