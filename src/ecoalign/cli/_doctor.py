"""`ecoalign doctor`: what is in force, where it came from, and what would work."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlsplit

import typer
from typer import Option

from ecoalign._text import harmless
from ecoalign._version import __version__
from ecoalign.cli._connection import State, ask_server
from ecoalign.cli._options import Json, SettingsOptions
from ecoalign.cli._text import amount, print_json, rich_console, rich_table
from ecoalign.errors import EcoAlignError

if TYPE_CHECKING:
    from PIL import Image
    from rich.console import Console

    from ecoalign.models import ChatModel
    from ecoalign.query import Query
    from ecoalign.settings import Role, SettingRow, Settings

_PACKAGES = (
    *("onnxruntime", "aiohttp", "numpy", "pillow"),
    *("pydantic", "genai-prices", "rich", "typer"),
)

_EXTRAS = {
    "serve": ("fastapi", "uvicorn", "prometheus-client"),
    "bench": ("openpyxl", "pyarrow"),
    "postgres": ("psycopg", "psycopg-pool"),
    "otel": ("opentelemetry-sdk", "opentelemetry-exporter-otlp-proto-http"),
    "ray": ("ray",),
    "hf": ("torch", "transformers", "llguidance"),
}
"""The packages that each extra of EcoAlign brings."""

_QUESTION, _EXPECTED = "what colour is the circle?", "red"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at.

    Attributes:
        name: what: model, evaluator, budget, price, profile, server, installation, history.
        state: "ok"; "note", worth knowing; or "problem", it will not work.
        text: what was found, and the cure.
    """

    name: str
    state: State
    text: str


@dataclass
class Health:
    """What the doctor found.

    Attributes:
        checks: what you are about to run, in the order of what matters first.
        settings: every setting in force.
        preset: the preset that they started from.
        profile: what is known of the model in force: its hash, its file, and each field's value
            and origin; empty where the model cannot be opened.
        versions: of EcoAlign, Python, the system and the packages that matter.
        extras: by name, the packages that are missing; empty if the extra is installed.
        providers: by name, whether they are usable and why.
    """

    preset: str
    settings: list[SettingRow]
    checks: list[Check]
    profile: dict[str, object]
    versions: dict[str, str]
    extras: dict[str, list[str]]
    providers: dict[str, dict[str, object]]

    @property
    def problems(self) -> list[str]:
        """What is wrong, in words; empty if all is well."""
        return [f"{one.name}: {one.text}" for one in self.checks if one.state == "problem"]

    def to_json(self) -> dict[str, object]:
        """The object of `ecoalign doctor --json`. No key is in it, only whether there is one."""
        return {
            "ok": not self.problems,
            "problems": self.problems,
            "checks": [asdict(check) for check in self.checks],
            "preset": self.preset,
            "settings": [asdict(row) for row in self.settings],
            "profile": self.profile,
            "versions": self.versions,
            "extras": {
                name: {"installed": not missing, "missing": missing}
                for name, missing in self.extras.items()
            },
            "providers": self.providers,
        }


def doctor(
    options: SettingsOptions,
    budget: Annotated[
        str | None, Option("--budget", "-b", help="The budget that you are going to give.")
    ] = None,
    connect: Annotated[
        bool,
        Option("--connect", help="Ask each server for its list of models, which costs nothing."),
    ] = False,
    everything: Annotated[
        bool, Option("--all", help="Show every setting, the model's profile, packages and extras.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Check what you are about to run: give the same options as to ask.

    Is the model there, its key, a way to it; is the budget enough, the price known; which settings
    are not as by default, and where each comes from. Spends nothing, and without --connect asks no
    server. Exits with 0 if all is well and 2 if something is wrong.

    [bold]Examples[/bold]

    ecoalign doctor

    ecoalign doctor --model openai:gpt-4o --budget '$0.02' --connect

    ecoalign doctor --model qwen3-vl:8b --base-url http://localhost:11434/v1 --connect
    """
    health = examine(options.load(budget), connect=connect)
    if as_json:
        print_json(health.to_json())
    else:
        _show(health, everything=everything)
    if health.problems:
        raise typer.Exit(2)


def examine(settings: Settings, *, connect: bool = False) -> Health:
    """Look at everything. Spends nothing, and asks no server unless it is to `connect`."""
    embedded = _embedded()
    there = all(_version(package) for package in ("torch", "transformers"))
    local: dict[str, object] = {"usable": there, "needs": "the extra hf"}
    openai = _openai(settings.base_url)
    usable = {"embedded": embedded, "openai": openai, "hf": local, **_providers()}
    health = Health(settings.preset, settings.explain(), [], {}, _versions(), _extras(), usable)
    found = health.checks.append
    opened: dict[str, ChatModel] = {}
    for name, spec, role in _models(settings):
        try:
            opened[name] = settings.open_model(spec, role=role)
        except EcoAlignError as error:
            found(Check(name, "problem", f"it cannot be used: {error}"))
        else:
            found(Check(name, "ok", _where(settings, opened[name])))
    model = opened.get("model")
    if model is not None:
        health.profile = _profile(settings, model)
        if model.name.startswith("hf:"):
            local["model"] = repr(model)  # what it is, where it runs and in what numbers
        health.checks += _money(settings, model, opened.get("evaluator"))
        health.checks += _known(health.profile, model)
    health.checks += [Check("network", "problem", text) for text in _environment(settings.base_url)]
    if connect:
        health.checks += _connected(opened)
    if settings.history:
        from ecoalign.history import history_file

        found(Check("history", "note", f"each run is noted in {history_file()}, with its answer"))
    if embedded["usable"]:
        read = f"the embedded model reads a drawn scene in {embedded['seconds']} s"
        found(Check("installation", "ok", f"EcoAlign {__version__} works here: {read}"))
    else:
        text = f"the embedded model does not work: {embedded['error']}"
        found(Check("installation", "problem", text))
    return health


def _models(settings: Settings) -> Iterator[tuple[str, str, Role]]:
    """The models that the settings name: what for, their names and roles."""
    yield "model", settings.model, "model"
    if settings.evaluator != "self":
        yield "evaluator", settings.evaluator, "evaluator"
    for name in settings.endpoints:
        if name not in {settings.model, settings.evaluator}:
            yield f"endpoint {name}", name, "judge"


def _where(settings: Settings, model: ChatModel) -> str:
    """A model, where it is and with which key, in words."""
    from ecoalign.models.openai import OpenAIModel

    if model.name == "embedded":
        return (
            "embedded: it comes with the package, runs here for free, and knows only its own small "
            "world of shapes and signs; name a real model with --model"
            if settings.origin("model") == "default"
            else "embedded: it runs here, and knows only its own small world of shapes and signs"
        )
    if not isinstance(model, OpenAIModel):
        return f"{model.name}: it runs in this process"
    server = model.endpoint
    key = f"the key in {server.key_from}" if server.key else "no key"
    key = "a user and a password" if server.has_user else key
    way = "" if server.proxy is None else f", by way of the proxy in {server.proxy.variable}"
    return f"{model.name} at {server.base_url}, with {key}{way}"


def _money(settings: Settings, model: ChatModel, evaluator: ChatModel | None) -> Iterator[Check]:
    """Whether the budget is enough for a question about one picture, and what it may cost."""
    from ecoalign.aligner import Aligner
    from ecoalign.budget import Ledger
    from ecoalign.search.context import RunContext
    from ecoalign.search.drafter import check_budget

    if settings.evaluator != "self" and evaluator is None:
        return  # it was told already
    try:
        query = _usual_query(model)
        aligner = Aligner(model, settings)
        budget, book = aligner.budget_for(query), settings.price_book()
        calls = aligner.first_round(query)
        ledger = Ledger(budget, book)
        ctx = RunContext.of(query, model, aligner.evaluator, ledger, settings)
        check_budget(ctx)
    except EcoAlignError as error:
        yield Check("budget", "problem", str(error))
        return
    first = sum(bound.total for _, bound in calls)
    prices = [book(name, bound) for name, bound in calls]
    usd = None if None in prices else float(sum(filter(None, prices)))
    allowed = amount(budget.tokens, budget.usd, budget.seconds)
    origin = settings.origin("budget")
    what = "as by default" if origin == "default" else f"from {origin}"
    needs = f"scan, draft and answer about one picture may need {amount(first, usd or None)}"
    tight = (budget.tokens is not None and budget.tokens < first) or (
        budget.usd is not None and usd is not None and budget.usd < usd
    )
    note = ": enough for an answer, with little room to search" if tight else ""
    yield Check("budget", "note" if tight else "ok", f"{allowed}, {what}; {needs}{note}")
    if model.name == "embedded":
        return
    price = book.lookup(model.name)
    if price is None:
        text = (
            "not known, so a budget in dollars is refused; give it in ecoalign.toml, "
            f'[prices."{model.name}"] input = 2.5, output = 10.0'
        )
        yield Check("price", "note", text)
    else:
        shown = ", ".join(f"{name} ${value:g}" for name, value in price.to_json().items())
        yield Check("price", "ok", f"{shown} per million tokens")


def _usual_query(model: ChatModel) -> Query:
    """A question as there are many: short, about one picture."""
    from PIL import Image

    from ecoalign.query import Query

    if model.name == "embedded":
        return Query.of(_scene(), _QUESTION)
    return Query.of(Image.new("RGB", (1024, 768)), "What does the sign say?")


def _known(profile: Mapping[str, Any], model: ChatModel) -> Iterator[Check]:
    """Whether anything is known of a model on a server."""
    if not profile["file"]:
        return
    sources = {str(row["origin"]) for row in profile["fields"].values()}
    if any(source.startswith("the probe") for source in sources):
        yield Check("profile", "ok", f"probed: {profile['file']}")
        return
    families = sorted(source for source in sources if source.startswith("the family"))
    known = f"only what {' and '.join(families)} tells" if families else "nothing"
    yield Check(
        "profile",
        "note",
        f"{known} is known of it; ecoalign probe {model.name} finds out, with about a dozen cheap "
        "calls, what it can do and what an image costs",
    )


def _connected(opened: Mapping[str, ChatModel]) -> Iterator[Check]:
    """Ask each server once."""
    import asyncio

    from ecoalign.models.openai import OpenAIModel

    asked: set[tuple[str, str]] = set()
    for name, model in opened.items():
        if isinstance(model, OpenAIModel) and (model.base_url, model.model) not in asked:
            asked.add((model.base_url, model.model))
            state, text = asyncio.run(ask_server(model.endpoint, model.model))
            yield Check("server" if name == "model" else f"server of the {name}", state, text)
    if not asked:
        yield Check("server", "ok", "none is asked by what you are about to run")


def _profile(settings: Settings, model: ChatModel) -> dict[str, object]:
    """What is known of a model, line by line, and where each line comes from."""
    from dataclasses import fields

    from ecoalign.models import Profile, profile_file, profile_of, profiles_folder
    from ecoalign.models.openai import OpenAIModel

    known = settings.tuned(profile_of(model))
    file = ""
    if isinstance(model, OpenAIModel):
        file = str(profile_file(profiles_folder(), model.base_url, model.model))
    rows = {
        field.name: {
            "value": getattr(known, field.name),
            "origin": known.sources.get(field.name, "default"),
        }
        for field in fields(Profile)
        if field.name != "sources"
    }
    return {"model": model.name, "hash": known.hash, "file": file, "fields": rows}


def _environment(base_url: str | None) -> list[str]:
    """What is wrong with the key, the address, the proxy or the certificates in the environment."""
    from ecoalign.models import Endpoint

    try:
        Endpoint.of(base_url)
    except EcoAlignError as error:
        return [f"no server can be asked: {error}"]
    return []


def _versions() -> dict[str, str]:
    return {
        "ecoalign": __version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        **{package: _version(package) or "not installed" for package in _PACKAGES},
    }


def _extras() -> dict[str, list[str]]:
    return {
        name: [package for package in packages if _version(package) is None]
        for name, packages in _EXTRAS.items()
    }


def _version(package: str) -> str | None:
    """The version of an installed package; None if it is not installed."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _openai(base_url: str | None) -> dict[str, object]:
    """Whether a key is there; never the key."""
    key = bool(os.environ.get("OPENAI_API_KEY", "").strip())
    from ecoalign.models import base_url_of_environment

    url = base_url_of_environment()
    usable = key or bool(url or base_url)
    facts: dict[str, object] = {
        "usable": usable,
        "OPENAI_API_KEY": "set" if key else "not set",
        "OPENAI_BASE_URL": _address(url) if url else "not set",
        "base_url": base_url or "not set",
    }
    needs = "OPENAI_API_KEY for OpenAI, or the base URL of any other server"
    return facts if usable else facts | {"needs": needs}


def _providers() -> dict[str, dict[str, object]]:
    """The other providers whose key is set; never the key."""
    from ecoalign.models import PROVIDERS

    there = [
        provider
        for provider in PROVIDERS.values()
        if provider.name != "openai" and os.environ.get(provider.key_env, "").strip()
    ]
    return {
        one.name: {"usable": True, one.key_env: "set", "base_url": one.base_url} for one in there
    }


def _address(url: str) -> str:
    """An address without user, password and query, which may hold a key."""
    try:
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return "set, but no address"
    return f"{parts.scheme}://{parts.hostname or '?'}{port}{parts.path}"


def _embedded() -> dict[str, object]:
    """Load the embedded model and ask it about a scene that is drawn here."""
    import asyncio

    from ecoalign.models import ChatRequest, Message, TextPart
    from ecoalign.models.embedded import EmbeddedModel
    from ecoalign.query import Picture

    picture = Picture.load(_scene())
    parts = (picture.view(512), TextPart(_QUESTION))
    request = ChatRequest((Message("user", parts),), max_tokens=16, stage="doctor")
    begun = time.perf_counter()
    try:
        answer = asyncio.run(EmbeddedModel().complete(request)).text
    except Exception as error:
        # Whatever a broken installation raises: finding it is what the doctor is for.
        return {"usable": False, "error": f"{type(error).__name__}: {error}"}
    return {
        "usable": True,
        "question": _QUESTION,
        "expected": _EXPECTED,
        "answer": answer,
        "correct": answer.strip(" .").lower() == _EXPECTED,
        "seconds": round(time.perf_counter() - begun, 3),
    }


def _scene() -> Image.Image:
    """A picture of the embedded model's world."""
    from ecoalign.bench.world.scenes import Scene, Shape, draw

    shapes = (Shape(1, "red", "circle"), Shape(5, "blue", "square"), Shape(6, "green", "star"))
    return draw(Scene(shapes, (), seed=3))


def profile_rows(profile: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """The fields of `Health.profile` as rows of a table."""
    return [
        (name, json.dumps(row["value"], ensure_ascii=False), row["origin"])
        for name, row in profile["fields"].items()
    ]


def _show(health: Health, *, everything: bool) -> None:
    """Print the findings on standard output: what matters first, and little else."""
    from rich.table import Table
    from rich.text import Text

    console = rich_console()

    def line(text: str) -> None:
        console.print(Text(harmless(text)))

    table = Table.grid(padding=(0, 2))
    for one in health.checks:
        style = {"ok": "green", "note": "yellow", "problem": "bold red"}[one.state]
        state = Text(one.state.upper() if one.state == "problem" else one.state, style)
        table.add_row(state, Text(one.name), Text(harmless(one.text)))
    console.print(table)
    rows = [row for row in health.settings if everything or row.origin != "default"]
    if rows:
        line("")
        preset = "" if health.preset == "default" else f", preset {health.preset}"
        line(f"settings{'' if everything else ' that are not as by default'}{preset}:")
        heads: tuple[str, ...] = ("setting", "value", "range", "from")
        cells: list[tuple[str, ...]]
        cells = [(row.name, row.value, row.range, row.origin) for row in rows]
        if not everything:
            heads, cells = heads[:2] + heads[3:], [row[:2] + row[3:] for row in cells]
        console.print(rich_table(heads, cells))
    if everything:
        _show_all(health, line, console)
    line("")
    if health.problems:
        count = len(health.problems)
        line(f"{count} {'problem' if count == 1 else 'problems'} found")
    else:
        more = "" if everything else "; --all shows every setting, the profile and the packages"
        line(f"no problems found{more}")


def _show_all(health: Health, line: Callable[[str], None], console: Console) -> None:
    """The rest of the findings."""
    if health.profile:
        line("")
        line(f"profile of {health.profile['model']}: {health.profile['hash']}")
        console.print(rich_table(("field", "value", "from"), profile_rows(health.profile)))
    line("")
    line("versions: " + ", ".join(f"{name} {text}" for name, text in health.versions.items()))
    for name, missing in health.extras.items():
        advice = f"not installed; pip install 'ecoalign[{name}]' (missing: {', '.join(missing)})"
        line(f"extra {name}: {advice if missing else 'installed'}")
    for name, facts in health.providers.items():
        details = {key: value for key, value in facts.items() if key != "usable"}
        rest = "; ".join(f"{key}: {value}" for key, value in details.items())
        state = "usable" if facts["usable"] else "not usable here"
        line(f"provider {name}: {state}" + (f" ({rest})" if rest else ""))
