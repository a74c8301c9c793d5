"""`ecoalign serve`: the gateway, with the options of `GatewayConfig`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Option

from ecoalign.cli._options import Quiet, SettingsOptions, notice_of_toy
from ecoalign.cli._play import playground
from ecoalign.cli._text import say, tell
from ecoalign.errors import InputError

if TYPE_CHECKING:
    from ecoalign.settings import Settings

_KEYS = "ECOALIGN_KEYS"

EXITS = (
    "Exit codes: 0 stopped by a signal, 2 bad usage or settings, or the address is in use. The key "
    f"of the model's server comes from the environment only (OPENAI_API_KEY). {_KEYS} may hold the "
    "address of the key store, with its password."
)

_MIB = 1024 * 1024


def serve(
    settings: SettingsOptions,
    host: Annotated[
        str, Option(help="The address to listen on; with any but this machine's, use --keys.")
    ] = "127.0.0.1",
    port: Annotated[
        int, Option(help="The port to listen on; 0 takes a free one.", min=0, max=65535)
    ] = 8000,
    method: Annotated[
        str,
        Option(
            help="How to answer requests that do not choose a method: ecoalign, base and others; "
            "see: ecoalign bench list"
        ),
    ] = "ecoalign",
    budget: Annotated[
        str | None,
        Option(
            "--budget",
            "-b",
            help="The budget of a request that does not choose one: 8000, '$0.02', 5s, or several.",
        ),
    ] = None,
    max_budget: Annotated[str | None, Option(help="The most that any request may choose.")] = None,
    name: Annotated[
        list[str] | None,
        Option(
            help="A name under which clients ask for the model; may be repeated. By default the "
            "model's own name, and ecoalign."
        ),
    ] = None,
    keys: Annotated[
        str | None,
        Option(
            help="The store of API keys: a file, or postgresql://USER@HOST/DATABASE. Without one, "
            "anyone who can reach the server may use it."
        ),
    ] = None,
    concurrency: Annotated[int, Option(help="How many requests to answer at once.", min=1)] = 32,
    queue: Annotated[
        int, Option(help="How many more requests may wait; others get status 429.", min=0)
    ] = 64,
    max_body: Annotated[
        int, Option(help="The largest body of a request, in MiB.", min=1, max=1024)
    ] = 32,
    max_images: Annotated[int, Option(help="The most images in one request.", min=0)] = 16,
    image_urls: Annotated[
        bool,
        Option(
            "--image-urls/--no-image-urls",
            help="Fetch images from public http(s) addresses.",
        ),
    ] = False,
    image_host: Annotated[
        list[str] | None,
        Option(
            help="Fetch images from this host only (.example.org: and all below it); may be "
            "repeated."
        ),
    ] = None,
    passes: Annotated[
        list[str] | None,
        Option(
            "--pass",
            help="Take a further parameter of requests, unread: NAME, or NAME=tokens=N, the most "
            "tokens that it adds to a call; may be repeated.",
        ),
    ] = None,
    drain: Annotated[
        float, Option(help="Seconds that requests have to finish when the server stops.", min=0)
    ] = 30.0,
    trace_memory: Annotated[
        int, Option(help="Memory for kept traces, in MiB; 0 keeps none.", min=0)
    ] = 64,
    trace_dir: Annotated[
        Path | None,
        Option(
            help="Write the whole trace of each answer to this folder, texts that were not scored "
            "safe included; no key can fetch those."
        ),
    ] = None,
    metrics: Annotated[
        bool, Option("--metrics/--no-metrics", help="Serve Prometheus metrics at /metrics.")
    ] = True,
    otel: Annotated[
        bool, Option("--otel/--no-otel", help="Trace with OpenTelemetry (extra otel).")
    ] = False,
    log_json: Annotated[
        bool, Option("--log-json/--log-text", help="Log lines of JSON, or lines for people.")
    ] = False,
    log_level: Annotated[str, Option(help="debug, info, warning, error or critical.")] = "info",
    log_content: Annotated[
        bool,
        Option(
            "--log-content/--no-log-content",
            help="Log questions and answers, too: they may be private.",
        ),
    ] = False,
    engine: Annotated[
        str, Option(help="uvicorn, one process; or ray, several processes behind one address.")
    ] = "uvicorn",
    replicas: Annotated[
        int, Option(help="How many processes, with --engine ray.", min=1, max=1024)
    ] = 1,
    ui: Annotated[
        bool,
        Option(
            "--ui/--no-ui",
            help="Serve the playground, too (see: ecoalign play --help): on 127.0.0.1, on a port "
            "of its own. Its address, with a secret, is printed on standard output. What is asked "
            "there counts against no key.",
        ),
    ] = False,
    ui_port: Annotated[
        int,
        Option(help="The playground's port; 0 takes a free one.", min=0, max=65535),
    ] = 0,
    quiet: Quiet = False,
) -> None:
    """Serve aligned answers to clients of OpenAI's API, each request within a budget.

    [bold]Examples[/bold]

    ecoalign serve

    ecoalign serve --model openai:gpt-4o --budget '40000,$0.10' --keys keys.sqlite3

    ecoalign serve --model Qwen/Qwen2.5-VL-7B-Instruct --base-url http://localhost:8001/v1
    """
    from ecoalign.budget import Budget
    from ecoalign.gateway import (
        FetchPolicy,
        GatewayConfig,
        LogOptions,
        is_loopback,
        listen,
        parse_pass,
        serve_on_ray,
    )
    from ecoalign.gateway import serve as serve_here
    from ecoalign.gateway.observe._logs import configure

    if engine not in {"uvicorn", "ray"}:
        raise InputError(f"--engine is uvicorn or ray, not {engine[:40]!r}")
    if replicas != 1 and engine != "ray":
        raise InputError("--replicas requires --engine ray")
    if ui_port and not ui:
        raise InputError("--ui-port requires --ui")
    if image_host and not image_urls:
        raise InputError("--image-host requires --image-urls")
    config = GatewayConfig(
        settings=settings.load(budget),
        method=method,
        names=tuple(name or ()),
        keys=keys or os.environ.get(_KEYS) or None,
        most=None if max_budget is None else Budget.parse(max_budget),
        concurrency=concurrency,
        queue=queue,
        max_body=max_body * _MIB,
        max_images=max_images,
        fetch=FetchPolicy(image_urls, hosts=frozenset(image_host or ())),
        passes=dict(map(parse_pass, passes or ())),
        trace_bytes=trace_memory * _MIB,
        trace_dir=trace_dir,
        drain=drain,
        metrics=metrics,
        otel=otel,
        log_content=log_content,
    )

    if not quiet:
        notice_of_toy(config.settings)
    if config.keys is None and not is_loopback(host):
        say(
            f"warning: {host} can be reached from other machines; without --keys anyone there "
            "can spend your money; create keys with: ecoalign keys create NAME"
        )
    options = LogOptions(log_json, log_level.upper(), content=log_content)
    try:
        logs = configure(options.as_json, options.level, content=options.content)
    except ValueError:
        raise InputError(
            f"--log-level is debug, info, warning, error or critical, not {log_level[:40]!r}"
        ) from None
    sock = listen(host, port)
    host, port = sock.getsockname()[:2]

    def ready() -> None:
        if not quiet:
            shown = f"[{host}]" if ":" in host else host
            say(
                f"listening on http://{shown}:{port}/v1 (model {config.settings.model}, method "
                f"{config.method}, {'with keys' if config.keys else 'without keys'})"
            )

    with ExitStack() as stack:
        stack.callback(logs.close)
        stack.callback(sock.close)
        if ui:
            stack.enter_context(_playground(config.settings, max_budget, ui_port))
        if engine == "ray":
            sock.close()  # The address is free; Ray opens a socket of its own.
            serve_on_ray(config, host, port, replicas, options, ready)
        else:
            serve_here(config, sock, ready)


@contextmanager
def _playground(settings: Settings, max_budget: str | None, port: int) -> Iterator[None]:
    """The playground beside the gateway. Raises InputError if it cannot be served."""
    from ecoalign.playground import beside, listen

    config = playground(settings, max_budget)
    sock = listen("127.0.0.1", port)
    try:
        with beside(config, sock, tell):
            yield
    finally:
        sock.close()
