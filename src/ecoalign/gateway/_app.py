"""The ASGI app: routes, errors, and the life of what they share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from ecoalign._version import __version__
from ecoalign.errors import EcoAlignError
from ecoalign.gateway._config import GatewayConfig
from ecoalign.gateway._errors import SERVER, ApiError, of_error
from ecoalign.gateway._limits import BodyLimit
from ecoalign.gateway._openapi import schema
from ecoalign.gateway._state import AppState
from ecoalign.gateway.chat._handler import Chat
from ecoalign.gateway.chat._job import ClientDisconnected
from ecoalign.gateway.chat._response import dumped
from ecoalign.gateway.observe._metrics import GatewayMetrics
from ecoalign.gateway.observe._requests import Observed, notes_of
from ecoalign.gateway.observe._tracing import Tracing

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

__all__ = ["Direct", "create_app", "house_of"]


class Direct:
    """ASGI middleware, the innermost: answers POST requests for one path itself.

    The app keeps the route as well, for other methods and for servers that mount it below a path
    of their own. Routing through the framework took a seventh of a raw request's processor time.

    Args:
        app: what answers everything else.
        path: as clients ask for it.
        endpoint: gives the response, errors included.
    """

    def __init__(
        self, app: ASGIApp, *, path: str, endpoint: Callable[[Request], Awaitable[Response]]
    ) -> None:
        self._app = app
        self._path = path
        self._endpoint = endpoint

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or pass it on."""
        if (
            scope["type"] == "http"
            and scope["method"] == "POST"
            and scope["path"] == self._path
            and not scope.get("root_path")
        ):
            response = await self._endpoint(Request(scope, receive, send))
            await response(scope, receive, send)
        else:
            await self._app(scope, receive, send)


JSON = "application/json"

CHAT = "/v1/chat/completions"

Endpoint = Callable[[Request], Awaitable[Response]]


class _App(FastAPI):
    """With a description of its own: the handlers read the bodies themselves."""

    def openapi(self) -> dict[str, Any]:
        """See `ecoalign.gateway._openapi`."""
        return schema(__version__)


def create_app(config: GatewayConfig | None = None) -> FastAPI:
    """The gateway as an ASGI app.

    Nothing is opened before the app starts (its lifespan), so it may be made in one process and
    started in another.

    Args:
        config: the defaults if None.

    Raises:
        SettingsError: tracing is on and the extra `otel` is not installed.
    """
    config = config or GatewayConfig()
    metrics = GatewayMetrics()
    tracing = Tracing.open(config.otel, content=config.log_content)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        state = await AppState.open(config, metrics)
        app.state.state = state
        try:
            yield
        finally:
            await state.aclose()
            await asyncio.to_thread(tracing.close)

    app = _App(
        title="EcoAlign", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None
    )
    chat = _routes(app, with_metrics=config.metrics)
    app.add_exception_handler(HTTPException, _not_found)
    app.add_middleware(Direct, path=CHAT, endpoint=chat)
    app.add_middleware(BodyLimit, max_bytes=config.max_body, on_refusal=metrics.turned_away)
    app.add_middleware(Observed, metrics=metrics, tracing=tracing)
    return app


def house_of(app: FastAPI) -> AppState:
    """What the requests of a started app share."""
    state: AppState = app.state.state
    return state


def _routes(app: FastAPI, *, with_metrics: bool) -> Endpoint:
    """Adds all routes; returns what answers `CHAT`."""

    def add(path: str, endpoint: Endpoint, method: str = "GET") -> None:
        app.add_route(path, _told(endpoint), methods=[method], include_in_schema=False)

    async def chat(request: Request) -> Response:
        return await Chat(house_of(app)).answer(request, notes_of(request.scope))

    async def models(request: Request) -> Response:
        state = house_of(app)
        await _identified(state, request)
        data = [_model(state, name) for name in state.config.served]
        return _json({"object": "list", "data": data})

    async def model(request: Request) -> Response:
        state = house_of(app)
        await _identified(state, request)
        name = request.path_params["model"]
        if name not in state.config.served:
            raise ApiError(
                404, f"there is no model {name[:80]!r} here", param="model", code="model_not_found"
            )
        return _json(_model(state, name))

    async def trace(request: Request) -> Response:
        state = house_of(app)
        client = await state.client(request.headers.get("authorization", ""))
        lines = await state.traces.read(request.path_params["trace"], client.id)
        if lines is None:
            raise ApiError(404, "there is no such trace, or not any more", code="not_found")
        return Response(lines, media_type="application/x-ndjson")

    async def healthz(request: Request) -> Response:
        return _json({"status": "ok"})

    async def readyz(request: Request) -> Response:
        reason = await house_of(app).ready()
        if reason is not None:
            raise ApiError(503, reason, SERVER, code="not_ready", retry_after=1)
        return _json({"status": "ready"})

    async def metrics(request: Request) -> Response:
        body, kind = await asyncio.to_thread(house_of(app).metrics.render)
        return Response(body, media_type=kind)

    add(CHAT, chat, "POST")
    add("/v1/models", models)
    add("/v1/models/{model:path}", model)
    add("/v1/ecoalign/traces/{trace}", trace)
    add("/healthz", healthz)
    add("/readyz", readyz)
    if with_metrics:
        add("/metrics", metrics)
    return _told(chat)


async def _identified(state: AppState, request: Request) -> None:
    await state.client(request.headers.get("authorization", ""))


def _model(state: AppState, name: str) -> dict[str, object]:
    return {"id": name, "object": "model", "created": state.born, "owned_by": "ecoalign"}


def _told(endpoint: Endpoint) -> Endpoint:
    """`endpoint` with its errors in the API's shape."""

    async def answer(request: Request) -> Response:
        try:
            return await endpoint(request)
        except ApiError as error:
            return _refused(request, error)
        except EcoAlignError as error:
            return _refused(request, of_error(error))
        except ClientDisconnected:
            raise ClientDisconnect from None

    return answer


def _refused(request: Request, error: ApiError) -> Response:
    if "ecoalign_notes" in request.scope.get("state", {}):
        notes_of(request.scope).failed(error.code or "error")
    return Response(error.body(), error.status, dict(error.headers()), JSON)


async def _not_found(request: Request, error: Exception) -> Response:
    """What the router refuses: 404 and 405."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    headers = (error.headers or {}) if isinstance(error, HTTPException) else {}
    if status == 405:
        return _refused(
            request,
            ApiError(
                405,
                f"{request.url.path} does not take {request.method}",
                code="method_not_allowed",
                allow=headers.get("Allow"),
            ),
        )
    if status == 404:
        message = f"there is nothing at {request.url.path[:200]}; the API is at /v1"
        return _refused(request, ApiError(404, message, code="not_found"))
    return _refused(request, ApiError(status, "the request was refused", code="refused"))


def _json(value: Any) -> Response:
    return Response(dumped(value), media_type=JSON)
