"""The app as a Ray Serve deployment: several processes behind one address (extra `ray`).

The replicas share what is in the store of the keys: budgets and windows hold for all of them
together, as for several servers on one store. What is in memory is each replica's own: rate limits
and places (`--concurrency`, `--queue`) are per replica, so N replicas let in N times as many, a
kept trace is found only by the replica that answered, and GET /metrics tells of one of them.
"""

from __future__ import annotations

import os
import secrets
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ecoalign.errors import InputError
from ecoalign.gateway._config import GatewayConfig
from ecoalign.gateway._state import check

if TYPE_CHECKING:
    from fastapi import FastAPI


_KEEP_ALIVE = 75

_SPARE = 8
"""Requests at a replica beyond those that run and wait: /healthz and those to be turned away."""

_SETTLING = 5.0

_STORE_BYTES = 80 * 1024 * 1024
"""Of Ray's shared memory, which is hardly used: about the least that it takes."""


@dataclass(frozen=True, slots=True)
class LogOptions:
    """How each replica logs; see `ecoalign.gateway.observe._logs.configure`."""

    as_json: bool
    level: str
    content: bool


def ray_is_installed() -> bool:
    """Whether the extra is there. Imports Ray, which takes seconds."""
    try:
        import ray.serve  # noqa: F401
    except ImportError:
        return False
    return True


def serve_on_ray(
    config: GatewayConfig,
    host: str,
    port: int,
    replicas: int,
    logs: LogOptions,
    ready: Callable[[], None],
) -> None:
    """Answer requests until SIGINT or SIGTERM, with a Ray of our own or that of RAY_ADDRESS.

    Our own listens on the loopback interface, has no dashboard and sends no telemetry. A client
    that connects to it needs a token, which is made anew each time and kept in no file; that goes
    for the port, too, that Ray Serve opens on all interfaces for each replica, wherever the rest
    listens. RAY_ADDRESS names a cluster to use in its place, whose nodes need the package and the
    keys of the upstreams in their environment.

    Args:
        config: of each replica.
        host, port: of the proxy that the clients talk to.
        replicas: processes, >= 1.
        logs: of the replicas.
        ready: called once requests are answered.

    Raises:
        InputError: the extra is missing, or the configuration cannot work.
    """
    check(config)
    address = os.environ.get("RAY_ADDRESS")
    _prepare(own=not address)
    if not ray_is_installed():
        raise InputError('--engine ray needs Ray: pip install "ecoalign[ray]"')
    import ray
    from ray import serve

    stop = threading.Event()
    if address:
        ray.init(address, logging_level="warning")
    else:
        ray.init(
            "local",
            include_dashboard=False,
            object_store_memory=_STORE_BYTES,
            logging_level="warning",
        )
    # Ray has put handlers of its own there.
    for one in (signal.SIGINT, signal.SIGTERM):
        signal.signal(one, lambda *_: stop.set())
    try:
        quiet = {"enable_access_log": False, "log_level": "WARNING"}
        serve.start(
            proxy_location="HeadOnly",
            http_options={"host": host, "port": port, "keep_alive_timeout_s": _KEEP_ALIVE},
            logging_config=quiet,
        )
        deployment = serve.deployment(serve.ingress(builder(config, logs))()).options(
            name="gateway",
            num_replicas=replicas,
            max_ongoing_requests=config.concurrency + config.queue + _SPARE,
            graceful_shutdown_timeout_s=config.drain + _SETTLING,
            # They wait for others most of the time: more of them than processors is fine.
            ray_actor_options={"num_cpus": 0},
            logging_config=quiet,
        )
        serve.run(deployment.bind(), name="ecoalign", route_prefix="/")
        ready()
        stop.wait()
    finally:
        serve.shutdown()
        ray.shutdown()


def _prepare(*, own: bool) -> None:
    """Set what Ray reads from the environment when it is imported."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Lines that are alike are requests, not repetitions.
    os.environ.setdefault("RAY_DEDUP_LOGS", "0")
    if own:
        # A Ray of one machine, as on Windows and macOS: its services listen on the loopback.
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
        os.environ["RAY_AUTH_MODE"] = "token"
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))


def builder(config: GatewayConfig, logs: LogOptions) -> Callable[[], FastAPI]:
    """What makes the app of a replica; it is sent there, so it imports what it needs itself."""

    def build() -> FastAPI:
        from ecoalign.gateway._app import create_app
        from ecoalign.gateway.observe._logs import configure

        configure(logs.as_json, logs.level, content=logs.content)
        return create_app(config)

    return build
