"""The options that commands share, and how a command is made of options."""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer
from typer import Option

from ecoalign.cli._errors import reported
from ecoalign.cli._secrets import take_files
from ecoalign.cli._text import say
from ecoalign.errors import InputError

if TYPE_CHECKING:
    from ecoalign.query import ImageSource, Query
    from ecoalign.settings import Settings

_ORIGIN = "command line"

STDIN = "-"
"""Standard input, in place of a file."""

_OUTPUT = "Output"

_MONEY = "Model and money"

_SETTINGS = "Settings"

Json = Annotated[
    bool,
    Option("--json", help="Print one JSON object and nothing else.", rich_help_panel=_OUTPUT),
]

ShowProgress = Annotated[
    bool | None,
    Option(
        "--progress/--no-progress",
        help="Show progress; by default only where standard error is a terminal.",
        rich_help_panel=_OUTPUT,
    ),
]

Quiet = Annotated[
    bool,
    Option(
        "--quiet",
        "-q",
        help="Print nothing on standard error but errors.",
        rich_help_panel=_OUTPUT,
    ),
]

Preset = Annotated[
    str | None,
    Option(
        help="Start from these settings: default, paper, or an ablation of either: myopic, "
        "fixed-horizon, last-safety, mean-safety, no-cost, paper-myopic, paper-fixed-horizon, "
        "paper-last-safety, paper-mean-safety, paper-no-cost.",
        rich_help_panel=_SETTINGS,
    ),
]

Config = Annotated[
    Path | None,
    Option(
        help="Read settings from this TOML file, and from no other file.",
        rich_help_panel=_SETTINGS,
    ),
]

_Debug = Annotated[
    bool,
    Option("--debug", help="Show the traceback of unexpected errors.", rich_help_panel=_OUTPUT),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingsOptions:
    """The options for the settings; None is not given."""

    model: Annotated[
        str | None,
        Option(
            "--model",
            "-m",
            help="The model: embedded (the default), PROVIDER:NAME, an endpoint's name, or NAME "
            "with --base-url.",
            rich_help_panel=_MONEY,
        ),
    ] = None
    base_url: Annotated[
        str | None,
        Option(
            help="The OpenAI-compatible server that runs the model; usually ends in /v1.",
            rich_help_panel=_MONEY,
        ),
    ] = None
    preset: Preset = None
    config: Config = None
    evaluator: Annotated[
        str | None,
        Option(
            help="Who scores thoughts: self (the model, the default), another model or endpoint.",
            rich_help_panel=_MONEY,
        ),
    ] = None
    pairs: Annotated[
        list[str] | None,
        Option(
            "--set",
            help="Change any setting; may be repeated.",
            metavar="NAME=VALUE",
            rich_help_panel=_SETTINGS,
        ),
    ] = None
    seed: Annotated[
        int | None, Option(help="The seed of everything random.", rich_help_panel=_SETTINGS)
    ] = None

    def load(self, budget: str | None = None) -> Settings:
        """The settings in force: those of the options, and `budget`, before all others.

        Raises:
            SettingsError: see `Settings.load`.
            InputError: a `--set` is not name=value, or sets again what another option sets.
        """
        from ecoalign.settings import Settings, unknown_name

        own = ("model", "base_url", "evaluator", "seed")
        options = {"budget": budget, **{name: getattr(self, name) for name in own}}
        given: dict[str, object] = {k: v for k, v in options.items() if v is not None}
        for pair in self.pairs or ():
            name, text = split_pair(pair, "--set takes name=value, as in --set batch=2")
            name = name.replace("-", "_")
            if name in {"preset", "config"}:
                raise InputError(f"--set {name}: there is an option for it, --{name}")
            if name not in Settings.model_fields:
                raise unknown_name("setting", name, Settings.model_fields, _ORIGIN)
            if name in given:
                raise InputError(f"{name} is set twice on the command line")
            given[name] = text
        settings = Settings.load(self.preset, self.config, None, _ORIGIN, **given)
        if "base_url" in given and settings.base_url and settings.model == "embedded":
            raise InputError(
                "--base-url names a server; say which of its models to ask, too: --model NAME"
            )
        return settings


def notice_of_toy(settings: Settings) -> None:
    """Say where the embedded model answers, and how to name another one."""
    if settings.model == "embedded":
        say(
            "note: the embedded model answers, a demonstration that knows only its own small world "
            "of coloured shapes, signs and made-up rules. For your own pictures name a real model, "
            "such as --model openai:NAME with OPENAI_API_KEY set."
        )


def split_pair(pair: str, rule: str) -> tuple[str, str]:
    """The two sides of "name=value".

    Raises:
        InputError: it is not one; the message begins with `rule`.
    """
    name, equals, value = pair.partition("=")
    if not (equals and name.strip()):
        raise InputError(f"{rule}, not {pair!r}")
    return name.strip(), value


def load_query(
    images: Sequence[str], question: str, context: Sequence[str] = (), instructions: str = ""
) -> Query:
    """The question, its images and what came before it; an image "-" is standard input.

    Raises:
        InputError: see `Query.of`; also if standard input is asked for twice or is a terminal.
    """
    from ecoalign.query import Query

    if images.count(STDIN) > 1:
        raise InputError('only one image can be read from standard input ("-")')
    # An argument that is no valid text holds surrogates, which could not be sent or saved.
    text, instructions = map(_whole, (question, instructions))
    if not text.strip():
        # Before the images: this is the cheaper thing to get right.
        return Query.of(None, text)
    sources: list[ImageSource] = [_stdin() if one == STDIN else one for one in images]
    return Query.of(sources, text, context, instructions=instructions)


def _whole(text: str) -> str:
    return text.encode("utf-8", "replace").decode("utf-8")


def _stdin() -> bytes:
    from ecoalign.query import MAX_BYTES

    if sys.stdin is None or sys.stdin.isatty():
        raise InputError('"-" reads the image from standard input; pipe one in: ... < photo.png')
    # One byte more than is allowed shows that there is more.
    return sys.stdin.buffer.read(MAX_BYTES + 1)


def _settle_home() -> None:
    """Let an account that has no home, as in a container, be one whose folders are missing."""
    try:
        Path.home()
    except RuntimeError:
        os.environ["HOME"] = "/nonexistent"


def command(
    app: typer.Typer, name: str, *, epilog: str | None = None
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Make the decorated function the command `name` of `app`; its docstring is the help.

    A parameter whose type is a dataclass stands for the fields of it: each is an option, and the
    function gets the object. The command has `--debug`, too, and reports what the function raises
    (see `ecoalign.cli._errors`), as JSON where its parameter `as_json` is true.
    """

    def register(function: Callable[..., None]) -> Callable[..., None]:
        types = get_type_hints(function, include_extras=True)
        own = inspect.signature(function).parameters.values()
        options = [
            option for one in own for option in _flat(one.name, types[one.name], one.default)
        ]
        options += _flat("debug", _Debug, False)

        def call(**values: Any) -> None:
            with reported(as_json=values.get("as_json", False), debug=values.pop("debug")):
                _settle_home()
                take_files(os.environ)
                function(**{one.name: _built(one.name, types[one.name], values) for one in own})

        # Terminals have widths of their own: only blank lines divide a text.
        paragraphs = inspect.cleandoc(function.__doc__ or "").split("\n\n")
        call.__doc__ = "\n\n".join(" ".join(one.split()) for one in paragraphs)
        call.__annotations__ = {option.name: option.annotation for option in options}
        call.__dict__["__signature__"] = inspect.Signature(options)
        app.command(name=name, epilog=epilog)(call)
        return function

    return register


def _flat(name: str, kind: Any, default: object) -> Iterator[inspect.Parameter]:
    """The options of one parameter."""
    if is_dataclass(kind):
        types = get_type_hints(kind, include_extras=True)
        for field in fields(kind):
            yield from _flat(field.name, types[field.name], field.default)
    else:
        nothing = inspect.Parameter.empty if default is MISSING else default
        yield inspect.Parameter(
            name, inspect.Parameter.KEYWORD_ONLY, default=nothing, annotation=kind
        )


def _built(name: str, kind: Any, values: Mapping[str, Any]) -> Any:
    """The value of one parameter from those of the options."""
    if not is_dataclass(kind):
        return values[name]
    types = get_type_hints(kind, include_extras=True)
    made: Any = kind
    return made(**{one.name: _built(one.name, types[one.name], values) for one in fields(made)})
