"""The gateway: EcoAlign in front of any model, for any client of OpenAI's API.

    from ecoalign.gateway import GatewayConfig, create_app
    app = create_app(GatewayConfig())        # an ASGI app

The names are loaded when they are first used: keys and their stores need no web server, the app
needs the extra `serve`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from ecoalign.errors import InputError

if TYPE_CHECKING:
    from ecoalign.gateway._app import create_app
    from ecoalign.gateway._config import GatewayConfig
    from ecoalign.gateway._ray import LogOptions, serve_on_ray
    from ecoalign.gateway._server import is_loopback, listen, serve
    from ecoalign.gateway.chat._parameters import parse_pass
    from ecoalign.query import FetchPolicy

_HOMES = {
    "FetchPolicy": "_config",
    "GatewayConfig": "_config",
    "LogOptions": "_ray",
    "create_app": "_app",
    "is_loopback": "_server",
    "listen": "_server",
    "parse_pass": "chat._parameters",
    "serve": "_server",
    "serve_on_ray": "_ray",
}

_SERVE = frozenset({"fastapi", "prometheus_client", "starlette", "uvicorn"})
"""What the extra `serve` installs."""

__all__ = [
    "FetchPolicy",
    "GatewayConfig",
    "LogOptions",
    "create_app",
    "is_loopback",
    "listen",
    "parse_pass",
    "serve",
    "serve_on_ray",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'ecoalign.gateway' has no attribute {name!r}")
    try:
        return getattr(importlib.import_module(f"ecoalign.gateway.{_HOMES[name]}"), name)
    except ModuleNotFoundError as missing:
        if (missing.name or "").partition(".")[0] not in _SERVE:
            raise
        raise InputError(
            "the gateway needs fastapi and uvicorn: pip install 'ecoalign[serve]'"
        ) from None
