"""The gateway: EcoAlign in front of any model, for any client of OpenAI's API.

    from ecoalign.gateway import GatewayConfig, create_app
    app = create_app(GatewayConfig())        # an ASGI app

The names are loaded when they are first used: the key store alone needs no web server.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ecoalign.gateway._app import create_app
    from ecoalign.gateway._config import GatewayConfig

__all__ = ["GatewayConfig", "create_app"]


def __getattr__(name: str) -> object:
    if name == "create_app":
        from ecoalign.gateway._app import create_app

        return create_app
    if name == "GatewayConfig":
        from ecoalign.gateway._config import GatewayConfig

        return GatewayConfig
    raise AttributeError(f"module 'ecoalign.gateway' has no attribute {name!r}")
