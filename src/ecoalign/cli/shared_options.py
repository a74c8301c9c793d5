"""The options that several commands share, as typer reads them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = [
    "BaseUrl",
    "Config",
    "Debug",
    "Evaluator",
    "Json",
    "Model",
    "Preset",
    "Quiet",
    "Seed",
    "SettingPairs",
]

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
