"""`ecoalign serve`: the command and its options."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from ecoalign.cli._errors import reported
from ecoalign.cli._options import (
    BaseUrl,
    Choices,
    Config,
    Debug,
    Evaluator,
    Model,
    Preset,
    Quiet,
    Seed,
    SettingPairs,
)

if TYPE_CHECKING:
    from ecoalign.gateway._config import GatewayConfig

__all__ = ["SERVE_EXITS", "Request", "serve_command"]

_KEYS = "ECOALIGN_KEYS"

_ENGINES = ("uvicorn", "ray")

SERVE_EXITS = (
    "Exit codes: 0 stopped by a signal, 2 bad usage or settings, or the address is in use. Keys of "
    f"upstreams come from the environment only; {_KEYS} may hold the address of the key store, "
    "with its password."
)


@dataclass(frozen=True, slots=True)
class Request:
    """What was asked for on the command line; see the options."""

    choices: Choices
    host: str
    port: int
    method: str
    name: tuple[str, ...]
    keys: str | None
    most: str | None
    concurrency: int
    queue: int
    max_body: int
    max_images: int
    image_urls: bool
    image_hosts: tuple[str, ...]
    drain: float
    trace_memory: int
    metrics: bool
    otel: bool
    log_json: bool
    log_level: str
    log_content: bool
    engine: str
    replicas: int
    quiet: bool


def serve_command(
    model: Model = None,
    base_url: BaseUrl = None,
    host: Annotated[
        str, typer.Option(help="Where to listen; anything but this machine needs --keys.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0 takes a free one.", min=0, max=65535)] = 8000,
    method: Annotated[
        str,
        typer.Option(help="How requests are answered that do not choose: ecoalign, base ..."),
    ] = "ecoalign",
    preset: Preset = None,
    budget: Annotated[
        str | None,
        typer.Option(
            "--budget",
            "-b",
            help="Of a request that does not choose: 8000, '$0.02', 5s, or several.",
            show_default=False,
        ),
    ] = None,
    max_budget: Annotated[
        str | None,
        typer.Option(help="The most that any request may choose.", show_default=False),
    ] = None,
    evaluator: Evaluator = None,
    config: Config = None,
    settings: SettingPairs = None,
    seed: Seed = None,
    name: Annotated[
        list[str] | None,
        typer.Option(
            help="What clients call the model; may be repeated. By default its own name, and "
            "ecoalign.",
            show_default=False,
        ),
    ] = None,
    keys: Annotated[
        str | None,
        typer.Option(
            help="The store of API keys: a file, or postgresql://USER@HOST/DATABASE. Without one "
            "everybody may ask.",
            show_default=False,
        ),
    ] = None,
    concurrency: Annotated[int, typer.Option(help="Requests answered at once.", min=1)] = 32,
    queue: Annotated[int, typer.Option(help="Requests that may wait; 429 beyond.", min=0)] = 64,
    max_body: Annotated[
        int, typer.Option(help="Largest body of a request, in MiB.", min=1, max=1024)
    ] = 32,
    max_images: Annotated[int, typer.Option(help="Images of a request.", min=0)] = 16,
    image_urls: Annotated[
        bool,
        typer.Option(
            "--image-urls/--no-image-urls",
            help="Fetch images from public http(s) addresses.",
        ),
    ] = False,
    image_host: Annotated[
        list[str] | None,
        typer.Option(
            help="Fetch images from this host only (.example.org: and all below it); may be "
            "repeated.",
            show_default=False,
        ),
    ] = None,
    drain: Annotated[
        float,
        typer.Option(help="Seconds that requests have to end when the server is stopped.", min=0),
    ] = 30.0,
    trace_memory: Annotated[
        int, typer.Option(help="Memory for kept traces, in MiB; 0 keeps none.", min=0)
    ] = 64,
    metrics: Annotated[
        bool, typer.Option("--metrics/--no-metrics", help="Whether there is /metrics.")
    ] = True,
    otel: Annotated[
        bool, typer.Option("--otel/--no-otel", help="Trace with OpenTelemetry (extra otel).")
    ] = False,
    log_json: Annotated[
        bool, typer.Option("--log-json/--log-text", help="JSON lines, or lines for people.")
    ] = False,
    log_level: Annotated[
        str, typer.Option(help="debug, info, warning, error or critical.")
    ] = "info",
    log_content: Annotated[
        bool,
        typer.Option(
            "--log-content/--no-log-content", help="Log questions and answers, too. Think first."
        ),
    ] = False,
    engine: Annotated[
        str, typer.Option(help="uvicorn, one process; or ray: several behind one address.")
    ] = "uvicorn",
    replicas: Annotated[
        int, typer.Option(help="Processes, with --engine ray.", min=1, max=1024)
    ] = 1,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Answer the clients of OpenAI's API with aligned answers, each within a budget.

    [bold]Examples[/bold]

    ecoalign serve

    ecoalign serve --model openai:gpt-4o --budget '40000,$0.10' --keys keys.sqlite3

    ecoalign serve --model Qwen/Qwen2.5-VL-7B-Instruct --base-url http://localhost:8001/v1
    """
    with reported(as_json=False, debug=debug):
        single: dict[str, object] = {
            "model": model,
            "base_url": base_url,
            "budget": budget,
            "evaluator": evaluator,
            "seed": seed,
        }
        choices = Choices(preset, config, single, tuple(settings or ()))
        run(
            Request(
                choices=choices,
                host=host,
                port=port,
                method=method,
                name=tuple(name or ()),
                keys=keys or os.environ.get(_KEYS) or None,
                most=max_budget,
                concurrency=concurrency,
                queue=queue,
                max_body=max_body,
                max_images=max_images,
                image_urls=image_urls,
                image_hosts=tuple(image_host or ()),
                drain=drain,
                trace_memory=trace_memory,
                metrics=metrics,
                otel=otel,
                log_json=log_json,
                log_level=log_level,
                log_content=log_content,
                engine=engine,
                replicas=replicas,
                quiet=quiet,
            )
        )


def gateway_config(request: Request) -> GatewayConfig:
    """The configuration that the options mean.

    Raises:
        InputError: an option does not fit.
    """
    from ecoalign.budget import Budget
    from ecoalign.cli._options import load_settings
    from ecoalign.errors import InputError
    from ecoalign.gateway._config import GatewayConfig
    from ecoalign.gateway._image_fetch import FetchPolicy

    if request.image_hosts and not request.image_urls:
        raise InputError("--image-host goes with --image-urls")
    mebi = 1024 * 1024
    return GatewayConfig(
        settings=load_settings(request.choices),
        method=request.method,
        names=request.name,
        keys=request.keys,
        most=None if request.most is None else Budget.parse(request.most),
        concurrency=request.concurrency,
        queue=request.queue,
        max_body=request.max_body * mebi,
        max_images=request.max_images,
        fetch=FetchPolicy(request.image_urls, hosts=frozenset(request.image_hosts)),
        trace_bytes=request.trace_memory * mebi,
        drain=request.drain,
        metrics=request.metrics,
        otel=request.otel,
        log_content=request.log_content,
    )


def run(request: Request) -> None:
    """Serve until a signal.

    Raises:
        EcoAlignError: it could not start.
    """
    from ecoalign.cli._text import say
    from ecoalign.errors import InputError
    from ecoalign.gateway._ray import LogOptions, serve_on_ray
    from ecoalign.gateway._server import is_loopback, listen, serve
    from ecoalign.gateway.observe._logs import configure

    if request.engine not in _ENGINES:
        raise InputError(f"--engine is uvicorn or ray, not {request.engine[:40]!r}")
    if request.replicas != 1 and request.engine != "ray":
        raise InputError("--replicas goes with --engine ray")
    config = gateway_config(request)
    if config.keys is None and not is_loopback(request.host):
        say(
            f"warning: {request.host} is reached from other machines, and without --keys everybody "
            "there may spend your money; make keys with: ecoalign keys create NAME"
        )
    try:
        logs = configure(request.log_json, request.log_level.upper(), content=request.log_content)
    except ValueError:
        raise InputError(
            "--log-level is debug, info, warning, error or critical, not "
            f"{request.log_level[:40]!r}"
        ) from None
    sock = listen(request.host, request.port)
    host, port = sock.getsockname()[:2]

    def ready() -> None:
        if not request.quiet:
            shown = f"[{host}]" if ":" in host else host
            say(
                f"listening on http://{shown}:{port}/v1 (model {config.settings.model}, method "
                f"{config.method}, {'with keys' if config.keys else 'without keys'})"
            )

    try:
        if request.engine == "ray":
            sock.close()  # The address is free; Ray opens a socket of its own.
            options = LogOptions(
                request.log_json, request.log_level.upper(), content=request.log_content
            )
            serve_on_ray(config, host, port, request.replicas, options, ready)
        else:
            serve(config, sock, ready)
    finally:
        sock.close()
        logs.close()
