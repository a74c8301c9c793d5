"""Who asks, and from where: decided from the head of a request, before any of its body is read."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ecoalign._web import asked_host, from_another_site, is_json, is_loopback, name_of
from ecoalign.gateway._config import GatewayConfig
from ecoalign.gateway._errors import ApiError
from ecoalign.gateway._limits import MAX_HEADER_BYTES, body_length, send_error
from ecoalign.gateway._state import AppState, Client
from ecoalign.gateway.observe._metrics import GatewayMetrics
from ecoalign.gateway.observe._requests import record_of

LET_IN = "ecoalign.let_in"
"""The extension of ASGI with which a connection is told that a key was shown on it: an object whose
"call" is to be called."""

_CLIENT = "client"

_PROBES = frozenset({"/healthz", "/readyz"})
"""Answered to anyone who reaches the server, whatever they call it."""

_OPEN = _PROBES | {"/metrics", "/openapi.json"}
"""What needs no key. No body is read there."""

_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})

_READ = frozenset(
    {b"host", b"origin", b"sec-fetch-site", b"authorization", b"content-type"}
    | {b"access-control-request-method", b"access-control-request-headers"}
    | {b"access-control-request-private-network"}
)

_TOLD = b"x-request-id, x-ecoalign-trace, x-should-retry, retry-after"
"""The headers of a response that a page may read beside the usual ones."""

_REMEMBERED = b"600"
"""Seconds for which a browser need not ask again."""


@dataclass(slots=True)
class Head:
    """The headers that say who asks.

    Attributes:
        size: bytes of all headers.
        values: by name in lower case, in order; only those that are looked at here.
        length: bytes of the body; 0 where there is none, None where the head does not say.
    """

    size: int = 0
    values: dict[bytes, list[str]] = field(default_factory=dict)
    length: int | None = 0

    @classmethod
    def of(cls, scope: Scope) -> Head:
        """That of a request."""
        head = cls(length=body_length(scope))
        for name, value in scope["headers"]:
            head.size += len(name) + len(value)
            if name in _READ:
                head.values.setdefault(name, []).append(value.decode("latin-1"))
        return head

    def all(self, name: bytes) -> list[str]:
        """The values of a header."""
        return self.values.get(name, [])

    def one(self, name: bytes) -> str | None:
        """The value of a header that may be there once; None otherwise."""
        values = self.values.get(name, ())
        return values[0] if len(values) == 1 else None


def client_of(scope: Scope) -> Client:
    """Who has made the request of an ASGI scope.

    Raises:
        KeyError: the app does not run behind `Guard`, or the path is open to all.
    """
    client = scope["state"][_CLIENT]
    if not isinstance(client, Client):
        raise KeyError(_CLIENT)
    return client


def owner_of(scope: Scope) -> str | None:
    """Whose share of the memory for bodies a request uses: its key's; None where there are no keys,
    or nobody was asked for one."""
    client = scope.get("state", {}).get(_CLIENT)
    return None if not isinstance(client, Client) or client.key is None else client.id


class Guard:
    """ASGI middleware: lets a request through to where its body is read, or refuses it.

    In this order, each from the head alone: the size of the headers; without keys the host that is
    asked for, the page that asks, and the type of the body; the key; the rate of the key. A
    refusal is sent at once and closes the connection: no body is waited for.

    Pages on the list (`GatewayConfig.origins`) may ask and read the answers (CORS), with keys and
    without. Cookies have no meaning here, so credentials are never allowed.

    Args:
        app: what runs behind it, behind `RequestObserver`.
        config: of the gateway.
        state: of the app, once it has started.
        metrics: counts refusals.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        config: GatewayConfig,
        state: Callable[[], AppState],
        metrics: GatewayMetrics,
    ) -> None:
        self._app = app
        self._state = state
        self._metrics = metrics
        self._origins = frozenset(config.origins)
        self._hosts = frozenset(config.hosts)
        self._keyed = config.keys is not None
        self._open = config.open_to_all

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or pass it on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        head = Head.of(scope)
        if self._origins:
            origin = head.one(b"origin") or ""
            page = origin if origin in self._origins else ""
            if page and scope["method"] == "OPTIONS" and _METHOD in head.values:
                await _allow(head, page, send)
                return
            send = _readable(send, page)
        try:
            client = await self._client(scope, head)
        except ApiError as refusal:
            record_of(scope).failed(refusal.code or "error")
            await send_error(send, refusal, close=True)
            return
        if client is not None:
            scope["state"][_CLIENT] = client
            record_of(scope).key_id = client.id
        await self._app(scope, receive, send)

    async def _client(self, scope: Scope, head: Head) -> Client | None:
        """Who asks; None where anybody may.

        Raises:
            ApiError: the request is refused.
        """
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        public = path in _OPEN and head.length == 0
        if head.size > MAX_HEADER_BYTES:
            self._metrics.turned_away("too-large")
            raise ApiError(
                431, "the headers of the request are too large", code="headers_too_large"
            )
        if not self._keyed and not (public and path in _PROBES):
            self._check_place(scope, head)
        if public:
            return None
        state = self._state()
        address = scope["client"][0] if scope.get("client") else ""
        client = await state.client(head.one(b"authorization") or "", address)
        if client.key is not None:
            _tell_connection(scope)
        if scope["method"] not in _SAFE:
            state.check_rate(client)
        return client

    def _check_place(self, scope: Scope, head: Head) -> None:
        """Where there are no keys, who may ask is told by where a request comes from.

        Raises:
            ApiError: from another machine, by another name, for a page that is not listed, or with
                a body that such a page could send.
        """
        refusal = self._misplaced(scope, head)
        if refusal is None and head.length != 0 and not is_json(head.all(b"content-type")):
            refusal = ApiError(
                415,
                "the body of a request is JSON: send the header Content-Type: application/json",
                code="unsupported_media_type",
            )
        if refusal is not None:
            self._metrics.turned_away("place")
            raise refusal

    def _misplaced(self, scope: Scope, head: Head) -> ApiError | None:
        if not self._open:
            peer = scope.get("client")
            if peer is not None and not is_loopback(peer[0]):
                return _forbidden("this server has no keys and answers its own machine only")
            name = name_of(asked_host(head.all(b"host")))
            if not is_loopback(name) and name not in self._hosts:
                return _forbidden(
                    "this server has no keys and answers to localhost and the addresses of its own "
                    "machine only, not to the name in the header Host; `ecoalign serve "
                    "--allow-host NAME` adds one"
                )
        if from_another_site(
            head.all(b"origin"), head.one(b"sec-fetch-site"), own=(), allowed=self._origins
        ):
            return _forbidden(
                "this server has no keys and answers no web pages but those that `ecoalign serve "
                "--allow-origin ORIGIN` names"
            )
        return None


_METHOD = b"access-control-request-method"

_HEADERS = b"access-control-request-headers"

_NETWORK = b"access-control-request-private-network"


def _forbidden(message: str) -> ApiError:
    return ApiError(403, message, "permission_error", code="not_allowed")


def _tell_connection(scope: Scope) -> None:
    known: dict[str, Any] | None = scope.get("extensions", {}).get(LET_IN)
    if known is not None:
        known["call"]()


async def _allow(head: Head, page: str, send: Send) -> None:
    """Tell a browser that a page on the list may ask (the preflight of CORS)."""
    headers = [
        (b"access-control-allow-origin", page.encode("latin-1")),
        (b"access-control-allow-methods", b"GET, POST"),
        (b"access-control-max-age", _REMEMBERED),
        (b"vary", b"Origin, Access-Control-Request-Method, Access-Control-Request-Headers"),
    ]
    asked = head.one(_HEADERS)
    if asked:
        # Which headers a client sends is its own affair: none of them has a say in anything.
        headers.append((b"access-control-allow-headers", asked.encode("latin-1")))
    if _NETWORK in head.values:
        headers.append((b"access-control-allow-private-network", b"true"))
    await send({"type": "http.response.start", "status": 204, "headers": headers})
    await send({"type": "http.response.body", "body": b""})


def _readable(send: Send, page: str) -> Send:
    """A `send` whose responses `page` may read; nobody's where it is ""."""
    added: Collection[tuple[bytes, bytes]] = [(b"vary", b"Origin")]
    if page:
        added = [
            *added,
            (b"access-control-allow-origin", page.encode("latin-1")),
            (b"access-control-expose-headers", _TOLD),
        ]

    async def told(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), *added]}
        await send(message)

    return told
