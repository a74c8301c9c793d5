"""`ecoalign doctor`: what is in force, where it came from, and what would work."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import typer

from ecoalign._text import harmless
from ecoalign._version import __version__
from ecoalign.cli._options import Config, Json, Preset, SettingsOptions
from ecoalign.cli._text import print_json, rich_console, rich_table
from ecoalign.errors import EcoAlignError

if TYPE_CHECKING:
    from ecoalign.models import ChatModel
    from ecoalign.settings import SettingRow, Settings

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


@dataclass
class Health:
    """What the doctor found.

    Attributes:
        settings: every setting in force.
        preset: the preset that they started from.
        profile: what is known of the model in force: its hash, its file, and each field's value
            and origin; empty where the model cannot be opened.
        versions: of EcoAlign, Python, the system and the packages that matter.
        extras: by name, the packages that are missing; empty if the extra is installed.
        providers: by name, whether they are usable and why.
        problems: what is wrong, in words; empty if all is well.
    """

    preset: str
    settings: list[SettingRow]
    profile: dict[str, object]
    versions: dict[str, str]
    extras: dict[str, list[str]]
    providers: dict[str, dict[str, object]]
    problems: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, object]:
        """The object of `ecoalign doctor --json`. No key is in it, only whether there is one."""
        return {
            "ok": not self.problems,
            "problems": self.problems,
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


def doctor(preset: Preset = None, config: Config = None, as_json: Json = False) -> None:
    """Show every setting in force and where it came from, and check what works on this machine.

    Asks no server and spends nothing. Exits with 0 if all is well and 2 if something is wrong.
    """
    health = examine(SettingsOptions(preset=preset, config=config).load())
    if as_json:
        print_json(health.to_json())
    else:
        _show(health)
    if health.problems:
        raise typer.Exit(2)


def examine(settings: Settings) -> Health:
    """Look at everything. Asks no server and spends nothing."""
    embedded = _embedded()
    there = all(_version(package) for package in ("torch", "transformers"))
    local: dict[str, object] = {"usable": there, "needs": "the extra hf"}
    openai = _openai(settings.base_url)
    usable = {"embedded": embedded, "openai": openai, "hf": local, **_providers()}
    health = Health(settings.preset, settings.explain(), {}, _versions(), _extras(), usable)
    if not embedded["usable"]:
        health.problems.append(f"the embedded model does not work: {embedded['error']}")
    try:
        model = settings.open_model()
        health.profile = _profile(settings, model)
        if model.name.startswith("hf:"):
            local["model"] = repr(model)  # what it is, where it runs and in what numbers
        for name in settings.endpoints:
            settings.open_model(name, role="judge")
        if settings.evaluator != "self":
            settings.open_model(settings.evaluator, role="evaluator")
    except EcoAlignError as error:
        health.problems.append(f"the model in force cannot be used: {error}")
    else:
        health.problems += _environment(settings.base_url)
    return health


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

    from ecoalign.bench.world.scenes import Scene, Shape, draw
    from ecoalign.models import ChatRequest, Message, TextPart
    from ecoalign.models.embedded import EmbeddedModel
    from ecoalign.query import Picture

    shapes = (Shape(1, "red", "circle"), Shape(5, "blue", "square"), Shape(6, "green", "star"))
    picture = Picture.load(draw(Scene(shapes, (), seed=3)))
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


def profile_rows(profile: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """The fields of `Health.profile` as rows of a table."""
    return [
        (name, json.dumps(row["value"], ensure_ascii=False), row["origin"])
        for name, row in profile["fields"].items()
    ]


def _show(health: Health) -> None:
    """Print the findings on standard output."""
    from rich.text import Text

    console = rich_console()

    def line(text: str) -> None:
        console.print(Text(harmless(text)))

    line("versions: " + ", ".join(f"{name} {text}" for name, text in health.versions.items()))
    for name, missing in health.extras.items():
        advice = f"not installed; pip install 'ecoalign[{name}]' (missing: {', '.join(missing)})"
        line(f"extra {name}: {advice if missing else 'installed'}")
    for name, facts in health.providers.items():
        details = {key: value for key, value in facts.items() if key != "usable"}
        rest = "; ".join(f"{key}: {value}" for key, value in details.items())
        state = "usable" if facts["usable"] else "not usable here"
        line(f"provider {name}: {state}" + (f" ({rest})" if rest else ""))
    line(f"preset: {health.preset}")
    heads = ("setting", "value", "range", "from")
    rows = [(row.name, row.value, row.range, row.origin) for row in health.settings]
    console.print(rich_table(heads, rows))
    if health.profile:
        line(f"profile of {health.profile['model']}: {health.profile['hash']}")
        console.print(rich_table(("field", "value", "from"), profile_rows(health.profile)))
    for problem in health.problems:
        line(f"problem: {problem}")
    if not health.problems:
        line("no problems found")
