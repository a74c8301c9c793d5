"""From the options of a command to settings and a query."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ecoalign.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ecoalign.query import ImageSource, Query
    from ecoalign.settings import Settings

__all__ = [
    "BaseUrl",
    "Choices",
    "Config",
    "Debug",
    "Evaluator",
    "Json",
    "Model",
    "Preset",
    "Quiet",
    "Seed",
    "SettingPairs",
    "load_query",
    "load_settings",
]

ORIGIN = "command line"

_STDIN = "-"


@dataclass(frozen=True, slots=True)
class Choices:
    """What the options say about the settings; None is not given.

    Attributes:
        single: settings that have an option of their own, by name.
        pairs: the texts of `--set`, "name=value".
    """

    preset: str | None
    config: Path | None
    single: dict[str, object]
    pairs: Sequence[str] = ()


def load_settings(choices: Choices) -> Settings:
    """The settings in force: those of the options before all others.

    Raises:
        SettingsError: see `Settings.load`.
        InputError: a `--set` is not name=value, or sets again what another option sets.
    """
    from ecoalign.settings import Settings, from_text, unknown_name

    given = {name: value for name, value in choices.single.items() if value is not None}
    for pair in choices.pairs:
        name, equals, text = pair.partition("=")
        name = name.strip().replace("-", "_")
        if not (equals and name):
            raise InputError(f"--set takes name=value, as in --set batch=2, not {pair!r}")
        if name in {"preset", "config"}:
            raise InputError(f"--set {name}: there is an option for it, --{name}")
        if name not in Settings.model_fields:
            raise unknown_name("setting", name, Settings.model_fields, ORIGIN)
        if name in given:
            raise InputError(f"{name} is set twice on the command line")
        given[name] = from_text(name, f"--set {name}", text)
    nothing = {name: None for name, value in given.items() if value is None}
    settings = Settings.load(choices.preset, choices.config, None, ORIGIN, **given)
    if nothing:
        settings = settings.replace(**nothing)
    if given.get("base_url") and settings.model == "embedded":
        raise InputError(
            "--base-url names a server; say which of its models to ask, too: --model NAME"
        )
    return settings


def load_query(images: Sequence[str], question: str) -> Query:
    """The question and its images; "-" is standard input.

    Raises:
        InputError: see `Query.of`; also if standard input is asked for twice or is a terminal.
    """
    from ecoalign.query import Query

    if images.count(_STDIN) > 1:
        raise InputError('only one image can be read from standard input ("-")')
    # An argument that is no valid text holds surrogates, which could not be sent or saved.
    text = question.encode("utf-8", "replace").decode("utf-8")
    if not text.strip():
        # Before the images: this is the cheaper thing to get right.
        return Query.of(None, text)
    sources: list[ImageSource] = [_stdin() if one == _STDIN else one for one in images]
    return Query.of(sources, text)


def _stdin() -> bytes:
    from ecoalign.query import MAX_BYTES

    if sys.stdin is None or sys.stdin.isatty():
        raise InputError('"-" reads the image from standard input; pipe one in: ... < photo.png')
    # One byte more than is allowed shows that there is more.
    return sys.stdin.buffer.read(MAX_BYTES + 1)


Json = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]

Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", help="Say nothing on standard error but errors.")
]

Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of unforeseen errors.")]

Preset = Annotated[
    str | None,
    typer.Option(
        help="default, paper, myopic, fixed-horizon, last-safety, mean-safety or no-cost.",
        show_default=False,
    ),
]

Config = Annotated[
    Path | None,
    typer.Option(help="Read this TOML file of settings and no other.", show_default=False),
]

Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        help="embedded (the default), openai:NAME, or NAME with --base-url.",
        show_default=False,
    ),
]

BaseUrl = Annotated[
    str | None,
    typer.Option(
        help="An OpenAI-compatible server for the model, usually ending in /v1.",
        show_default=False,
    ),
]

Evaluator = Annotated[
    str | None,
    typer.Option(help="Who scores: self (the default) or a model.", show_default=False),
]

SettingPairs = Annotated[
    list[str] | None,
    typer.Option("--set", help="Any setting; may be repeated.", metavar="NAME=VALUE"),
]

Seed = Annotated[int | None, typer.Option(help="Of everything random.", show_default=False)]
