"""The ASGI app: routes, errors, and the life of what they share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Path, Query
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from fastapi.security import HTTPBearer
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from ecoalign._version import __version__
from ecoalign.errors import EcoAlignError
from ecoalign.gateway._config import GatewayConfig
from ecoalign.gateway._errors import SERVER, ApiError, ErrorResponse, invalid, of_error
from ecoalign.gateway._guard import Guard, client_of, owner_of
from ecoalign.gateway._intake import Intake
from ecoalign.gateway._json import Lengths
from ecoalign.gateway._limits import BodyLimit
from ecoalign.gateway._names import listed, unknown_model
from ecoalign.gateway._room import Room
from ecoalign.gateway._state import AppState
from ecoalign.gateway._usage import MOST_WINDOWS, KeyUsage, usage_of
from ecoalign.gateway.chat._handler import answer_chat
from ecoalign.gateway.chat._parameters import ChatCompletionRequest, check_pass
from ecoalign.gateway.chat._protocol import (
    ChatCompletion,
    ModelInfo,
    ModelList,
    Status,
)
from ecoalign.gateway.chat._response import ClientDisconnected
from ecoalign.gateway.observe._metrics import GatewayMetrics
from ecoalign.gateway.observe._requests import RequestObserver, RequestRecord, record_of
from ecoalign.gateway.observe._tracing import Tracing
from ecoalign.gateway.responses._handler import answer_response
from ecoalign.gateway.responses._protocol import ResponseObject, ResponsesRequest

Endpoint = Callable[[Request], Awaitable[Response]]

Answer = Callable[[AppState, Request, RequestRecord], Awaitable[Response]]

_CHAT = "/v1/chat/completions"

_RESPONSES = "/v1/responses"

_JSON = "application/json"

_STREAM = "text/event-stream"

_LINES = "application/x-ndjson"

_TEXT = "text/plain"


class DirectRoute:
    """ASGI middleware, the innermost: answers POST requests for one path itself.

    The app keeps the route as well, for other methods and for servers that mount it below a path
    of their own. Routing through the framework took a seventh of a raw request's processor time.

    Args:
        app: what answers everything else.
        path: as clients ask for it.
        endpoint: gives the response, errors included.
    """

    def __init__(self, app: ASGIApp, *, path: str, endpoint: Endpoint) -> None:
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
    for name in config.passes:
        check_pass(name)
    metrics = GatewayMetrics()
    memory = Room(config.all_bodies)
    tracing = Tracing.open(config.otel, content=config.log_content)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        state = await AppState.open(config, metrics, memory)
        app.state.state = state
        try:
            yield
        finally:
            await state.aclose()
            await asyncio.to_thread(tracing.close)

    app = FastAPI(
        title="EcoAlign",
        version=__version__,
        description="Aligned answers within a budget, for any client of OpenAI's API.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )

    def answering(answer: Answer) -> Endpoint:
        async def endpoint(request: Request) -> Response:
            try:
                return await answer(state_of(app), request, record_of(request.scope))
            except (ApiError, EcoAlignError) as error:
                return await _refused(request, error)
            except ClientDisconnected:
                raise ClientDisconnect from None

        return endpoint

    chat, responses = answering(answer_chat), answering(answer_response)
    _add_routes(app, chat, responses, with_metrics=config.metrics)
    app.add_exception_handler(HTTPException, _no_route)
    app.add_exception_handler(RequestValidationError, _misread)
    app.add_exception_handler(ApiError, _refused)
    app.add_exception_handler(EcoAlignError, _refused)
    app.add_middleware(DirectRoute, path=_RESPONSES, endpoint=responses)
    app.add_middleware(DirectRoute, path=_CHAT, endpoint=chat)
    app.add_middleware(
        Intake,
        paths=("/chat/completions", "/responses"),
        lengths=Lengths(text=config.max_text),
        state=lambda: state_of(app),
    )
    app.add_middleware(
        BodyLimit,
        max_bytes=config.max_body,
        room=memory,
        owner=owner_of,
        on_refusal=metrics.turned_away,
    )
    app.add_middleware(Guard, config=config, state=lambda: state_of(app), metrics=metrics)
    app.add_middleware(RequestObserver, metrics=metrics, tracing=tracing)
    return app


def state_of(app: FastAPI) -> AppState:
    """What the requests of a started app share."""
    state: AppState = app.state.state
    return state


_STATUSES = {
    400: "The request cannot be answered as it is; `param` names the part.",
    401: "The key is missing, unknown or revoked.",
    403: "The request may not choose this; or, without keys, where it comes from may not ask.",
    404: "Unknown model, trace or path.",
    405: "Method not allowed on this path.",
    408: "The request body took too long to arrive.",
    413: "The body is too large.",
    415: "The body is not said to be JSON, or the upstream does not accept its media type.",
    422: "The upstream rejected the request.",
    429: "Too many requests, or the key's budget is used up; see Retry-After.",
    431: "The headers are too large.",
    500: "An internal error.",
    502: "The model's or the evaluator's upstream failed.",
    503: "The server is shutting down, or short of memory.",
    504: "An upstream did not answer in time.",
}


def _errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    return {
        status: {"model": ErrorResponse, "description": _STATUSES[status]}
        for status in statuses or _STATUSES
    }


def _of_type(media_type: str) -> dict[int | str, dict[str, Any]]:
    return {200: {"content": {media_type: {"schema": {"type": "string"}}}}}


_OPEN = _errors(403, 405, 413, 431, 503)

_KEYED = _errors(401, 403, 404, 405, 413, 422, 431, 503)


_BEARER = HTTPBearer(scheme_name="key", description="A key of `ecoalign keys`.", auto_error=False)

_BY_KEY: dict[str, Any] = {
    "dependencies": [Depends(_BEARER)],
    # No key is needed where the server has none.
    "openapi_extra": {"security": [{}]},
}
"""Only documents that a key may be needed: the guard looks it up."""


def _raw(endpoint: Endpoint) -> type[APIRoute]:
    """Routes whose requests `endpoint` answers; the function that they are given only documents
    them, by the models of its signature. The body is validated once, in the handler."""

    class RawRoute(APIRoute):
        def get_route_handler(self) -> Any:
            return endpoint

    return RawRoute


def _add_routes(app: FastAPI, chat: Endpoint, responses: Endpoint, *, with_metrics: bool) -> None:
    def info(name: str) -> ModelInfo:
        return ModelInfo(id=name, created=state_of(app).started)

    async def completion(body: ChatCompletionRequest) -> None:
        """Answer a chat within a budget. Nothing is sent before all of the answer is scored."""

    app.router.add_api_route(
        _CHAT,
        completion,
        methods=["POST"],
        route_class_override=_raw(chat),
        operation_id="chat",
        summary="Answer a chat",
        **_BY_KEY,
        response_model=ChatCompletion,
        response_description="The answer, scored.",
        responses={**_of_type(_STREAM), **_errors()},
    )

    async def response(body: ResponsesRequest) -> None:
        """Answer within a budget, as `/v1/chat/completions` does, in the form of a response."""

    app.router.add_api_route(
        _RESPONSES,
        response,
        methods=["POST"],
        route_class_override=_raw(responses),
        operation_id="response",
        summary="Answer in the form of a response",
        **_BY_KEY,
        response_model=ResponseObject,
        response_description="The answer, scored.",
        responses={**_of_type(_STREAM), **_errors()},
    )

    @app.get(
        "/v1/models", operation_id="models", summary="List the models", responses=_KEYED, **_BY_KEY
    )
    async def models(request: Request) -> ModelList:
        """The names by which the model can be asked for, and those of presets and methods that the
        client may choose."""
        names = listed(state_of(app), client_of(request.scope))
        return ModelList(data=[info(name) for name in names])

    @app.get(
        "/v1/models/{model:path}",
        operation_id="model",
        summary="Look a model up",
        responses=_KEYED,
        **_BY_KEY,
    )
    async def model(
        request: Request, model: Annotated[str, Path(description="A name.")]
    ) -> ModelInfo:
        """One of the names by which the model can be asked for."""
        if model not in listed(state_of(app), client_of(request.scope)):
            raise unknown_model(model)
        return info(model)

    @app.get(
        "/v1/ecoalign/traces/{trace}",
        response_class=Response,
        response_description="One event of the run a line, as `ecoalign replay` reads them.",
        responses={**_of_type(_LINES), **_KEYED},
        operation_id="trace",
        summary="Read a trace",
        **_BY_KEY,
    )
    async def trace(
        request: Request, trace: Annotated[str, Path(description="Its name.")]
    ) -> Response:
        """A trace that was kept, for the key that it was made with."""
        state = state_of(app)
        lines = await state.traces.read(trace, client_of(request.scope).id)
        if lines is None:
            raise ApiError(404, "there is no such trace, or it has been dropped", code="not_found")
        return Response(lines, media_type=_LINES)

    @app.get(
        "/v1/ecoalign/usage",
        responses={**_KEYED, **_errors(400)},
        operation_id="usage",
        summary="Read what a key has spent",
        **_BY_KEY,
    )
    async def usage(
        request: Request,
        windows: Annotated[
            int, Query(ge=1, le=MOST_WINDOWS, description="How many, the current one included.")
        ] = 3,
    ) -> KeyUsage:
        """Usage against limit, of the key that asks and of no other."""
        return await usage_of(state_of(app), client_of(request.scope), windows)

    @app.get("/healthz", responses=_OPEN, operation_id="health", summary="Liveness")
    async def healthz() -> Status:
        """Answers as long as the process runs."""
        return Status(status="ok")

    @app.get("/readyz", responses=_OPEN, operation_id="ready", summary="Readiness")
    async def readyz() -> Status:
        """Answers with 503, and why, while no request could be served: the server shuts down; the
        store of the keys is gone, full or read-only; the model's or the evaluator's upstream is not
        there; traces cannot be written. Looked at anew for each call, at most every two seconds."""
        reason = await state_of(app).ready()
        if reason is not None:
            raise ApiError(503, reason, SERVER, code="not_ready", retry_after=1)
        return Status(status="ready")

    async def metrics() -> Response:
        """Counters, histograms and gauges in the text format of Prometheus."""
        await state_of(app).ready()
        body, kind = await asyncio.to_thread(state_of(app).metrics.render)
        return Response(body, media_type=kind)

    if with_metrics:
        app.get(
            "/metrics",
            response_class=Response,
            responses={**_of_type(_TEXT), **_OPEN},
            operation_id="metrics",
            summary="Read the metrics",
        )(metrics)


async def _refused(request: Request, error: Exception) -> Response:
    """The response to a request that failed, and a note of it in its record."""
    failure = of_error(error)
    record_of(request.scope).failed(failure.code or "error", failure.told)
    return Response(failure.body(), failure.status, dict(failure.headers()), _JSON)


async def _misread(request: Request, error: Exception) -> Response:
    """A parameter in the address that is none."""
    found = error.errors() if isinstance(error, RequestValidationError) else []
    name = str(found[0]["loc"][-1])[:80] if found else None
    why = str(found[0]["msg"])[:200] if found else "the address cannot be read"
    return await _refused(request, invalid(f"{name}: {why}", name, "invalid_value"))


async def _no_route(request: Request, error: Exception) -> Response:
    """What the router refuses: 404 and 405."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    headers = (error.headers or {}) if isinstance(error, HTTPException) else {}
    path = request.url.path[:200]
    if status == 405:
        failure = ApiError(
            405,
            f"{path} does not take {request.method}",
            code="method_not_allowed",
            allow=headers.get("Allow"),
        )
    elif status == 404:
        message = f"unknown path {path}; the API is under /v1"
        failure = ApiError(404, message, code="not_found")
    else:
        failure = ApiError(status, "the request was refused", code="refused")
    return await _refused(request, failure)
