"""`ecoalign serve`: the gateway, with the options of `GatewayConfig`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Option

from ecoalign.cli._options import Quiet, SettingsOptions, notice_of_toy
from ecoalign.cli._play import playground
from ecoalign.cli._secrets import PLACES, STORE, store_url
from ecoalign.cli._text import say, tell
from ecoalign.errors import InputError

if TYPE_CHECKING:
    from ecoalign.gateway import GatewayConfig
    from ecoalign.settings import Settings

EXITS = (
    "Exit codes: 0 stopped by a signal, 2 bad usage or settings, or the address is in use. The key "
    "of the model's server comes from the variable OPENAI_API_KEY, or from the file that "
    f"OPENAI_API_KEY_FILE names. So may the address of the key store, with its password: {STORE}, "
    f"{STORE}_FILE."
)

_MIB = 1024 * 1024


def serve(
    settings: SettingsOptions,
    host: Annotated[
        str,
        Option(
            help="The address to listen on; one that other machines reach needs --keys, or --open."
        ),
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
            metavar="URL",
            help=f"The store of API keys: {PLACES}. Without one, the programs of this machine may "
            "use the server, and no web page.",
        ),
    ] = None,
    may_choose: Annotated[
        str | None,
        Option(
            help="Without keys, what a request may choose itself, separated by commas: budget (up "
            "to the server's own, or --max-budget), preset, trace, method; base, for the methods "
            "that show text which was not scored; or nothing. By default budget,preset,trace."
        ),
    ] = None,
    allow_origin: Annotated[
        list[str] | None,
        Option(
            metavar="ORIGIN",
            help="A web page that may ask, with keys or without, by its exact origin: "
            "https://app.example; may be repeated.",
        ),
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        Option(
            metavar="NAME",
            help="Without keys, one more name by which this machine's programs may call the "
            "server, such as host.docker.internal; may be repeated.",
        ),
    ] = None,
    open_: Annotated[
        bool,
        Option(
            "--open",
            help="Serve without keys to everyone who can reach the server: they spend your money.",
        ),
    ] = False,
    concurrency: Annotated[int, Option(help="How many requests to answer at once.", min=1)] = 32,
    queue: Annotated[
        int, Option(help="How many more requests may wait; others get status 429.", min=0)
    ] = 64,
    max_body: Annotated[
        int, Option(help="The largest body of a request, in MiB.", min=1, max=1024)
    ] = 20,
    body_memory: Annotated[
        int,
        Option(
            help="Memory for the bodies of all requests under way, in MiB; at least two of the "
            "largest. One key may hold half of it.",
            min=1,
        ),
    ] = 160,
    max_text: Annotated[
        int,
        Option(help="The most characters of a request, but for its images; 413 beyond.", min=1),
    ] = 400_000,
    max_images: Annotated[int, Option(help="The most images in one request.", min=0)] = 16,
    max_pixels: Annotated[
        float, Option(help="The largest image, in megapixels.", min=0.01, max=64)
    ] = 12,
    request_pixels: Annotated[
        float, Option(help="All images of one request, in megapixels.", min=0.01)
    ] = 36,
    all_pixels: Annotated[
        float,
        Option(
            help="All images of all requests under way, in megapixels; at least twice those of "
            "one. One key may hold half of it.",
            min=0.02,
        ),
    ] = 96,
    max_decoded: Annotated[
        int,
        Option(help="All images of one request without base64, in MiB; 413 beyond.", min=1),
    ] = 20,
    workers: Annotated[
        int,
        Option(
            help="How many processes read large requests and decode large pictures; as many more "
            "do the small ones.",
            min=1,
            max=64,
        ),
    ] = 1,
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

    ecoalign serve --allow-origin http://localhost:3000

    ecoalign serve --model Qwen/Qwen2.5-VL-7B-Instruct --base-url http://localhost:8001/v1
    """
    from ecoalign.budget import Budget
    from ecoalign.gateway import (
        FetchPolicy,
        GatewayConfig,
        LogOptions,
        listen,
        parse_pass,
        serve_on_ray,
    )
    from ecoalign.gateway import serve as serve_here
    from ecoalign.gateway._config import MAY_CHOOSE
    from ecoalign.gateway.keys import KeyPolicy, choices
    from ecoalign.gateway.observe._logs import configure

    if engine not in {"uvicorn", "ray"}:
        raise InputError(f"--engine is uvicorn or ray, not {engine[:40]!r}")
    if replicas != 1 and engine != "ray":
        raise InputError("--replicas requires --engine ray")
    if ui_port and not ui:
        raise InputError("--ui-port requires --ui")
    if image_host and not image_urls:
        raise InputError("--image-host requires --image-urls")
    keys = store_url(keys)
    given = {"--may-choose": may_choose, "--allow-host": allow_host, "--open": open_ or None}
    _check_doors(host, keys, [name for name, value in given.items() if value is not None])
    config = GatewayConfig(
        settings=settings.load(budget),
        method=method,
        names=tuple(name or ()),
        keys=keys,
        anonymous=KeyPolicy(
            may_choose=MAY_CHOOSE if may_choose is None else choices(may_choose, "a request")
        ),
        open_to_all=open_,
        hosts=tuple(allow_host or ()),
        origins=tuple(allow_origin or ()),
        most=None if max_budget is None else Budget.parse(max_budget),
        concurrency=concurrency,
        queue=queue,
        max_body=max_body * _MIB,
        body_memory=body_memory * _MIB,
        max_text=max_text,
        max_images=max_images,
        max_pixels=round(max_pixels * 1e6),
        request_pixels=round(request_pixels * 1e6),
        all_pixels=round(all_pixels * 1e6),
        max_decoded=max_decoded * _MIB,
        workers=workers,
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
    options = LogOptions(log_json, log_level.upper(), content=log_content)
    try:
        logs = configure(options.as_json, options.level, content=options.content)
    except ValueError:
        raise InputError(
            f"--log-level is debug, info, warning, error or critical, not {log_level[:40]!r}"
        ) from None
    sock = listen(host, port)
    host, port = sock.getsockname()[:2]
    if open_:
        say(
            f"warning: open to everyone who can reach {host} port {port}, without a key: they can "
            "spend your money"
        )

    def ready() -> None:
        if not quiet:
            shown = f"[{host}]" if ":" in host else host
            say(
                f"listening on http://{shown}:{port}/v1 (model {config.settings.model}, method "
                f"{config.method}, {'with keys' if config.keys else 'without keys'})"
            )
            for line in _doors(config):
                say(line)

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


def _check_doors(host: str, keys: str | None, keyless: Sequence[str]) -> None:
    """Raise InputError where strangers could come in without having been asked.

    Args:
        host: to listen on.
        keys: the address of their store, if any.
        keyless: the options given that are for a server without keys.
    """
    from ecoalign._web import is_loopback

    if keys is not None and keyless:
        raise InputError(
            f"{keyless[0]} is for a server without keys; leave it out, or --keys and {STORE}"
        )
    if keys is None and "--open" not in keyless and not is_loopback(host):
        raise InputError(
            f"--host {host[:80]} can be reached from other machines: ask them for keys with --keys "
            "URL (make one with: ecoalign keys create NAME), or serve everyone there with --open"
        )


def _doors(config: GatewayConfig) -> list[str]:
    """What is open to whom, a line each."""
    from ecoalign.gateway.keys import CHOICES

    pages = ", ".join(config.origins) or "none (--allow-origin ORIGIN adds one)"
    if config.keys is not None:
        free = "/healthz, /readyz, /openapi.json" + (", /metrics" if config.metrics else "")
        return [
            f"open to: who has a key; without one only {free}",
            f"web pages that may ask, with a key: {pages}",
        ]
    who = "all who can reach this address" if config.open_to_all else "programs on this machine"
    own = None if config.settings.origin("budget") == "default" else config.settings.budget
    most = config.most or own or "the server's own"
    may = [choice for choice in CHOICES if choice in config.anonymous.may_choose]
    shown = [f"budget (at most {most})" if choice == "budget" else choice for choice in may]
    return [
        f"open to: {who}, without a key; a request may choose {', '.join(shown) or 'nothing'}",
        f"web pages that may ask: {pages}",
    ]


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
