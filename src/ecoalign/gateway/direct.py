"""The way of the one busy route, past the router and its layers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from starlette.requests import Request

if TYPE_CHECKING:
    from starlette.responses import Response
    from starlette.types import ASGIApp, Receive, Scope, Send

__all__ = ["Direct"]


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
