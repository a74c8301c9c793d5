"""Where settings come from: files and the environment. Raw values, with their origin."""

from __future__ import annotations

import json
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ecoalign.errors import SettingsError
from ecoalign.settings.text import unknown_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["CONFIG", "FILE", "PREFIX", "Layer", "from_environment", "from_files", "from_text"]

PREFIX = "ECOALIGN_"
CONFIG = "config"
"""ECOALIGN_CONFIG names the file to read; it is no setting itself."""
KEYS = "keys"
"""ECOALIGN_KEYS names the gateway's store of API keys; it is read there and is no setting."""
FILE = "ecoalign.toml"
_STRUCTURED = {"prices"}
_OPTIONAL = {"seed", "base_url"}


@dataclass(frozen=True, slots=True)
class Layer:
    """Raw values from one place, and what to call that place for each of them."""

    values: Mapping[str, object]
    origins: Mapping[str, str]


def from_files(explicit: Path | None, known: Iterable[str]) -> list[Layer]:
    """The layers of the TOML files, the one that counts less first.

    Raises:
        SettingsError: a file cannot be read, is not TOML, or has an unknown key; or `explicit`
            does not exist.
    """
    if explicit is not None:
        return [_file(explicit.expanduser(), known)]
    from platformdirs import user_config_path

    places = (user_config_path("ecoalign", appauthor=False) / FILE, Path(FILE))
    return [_file(place, known) for place in places if place.is_file()]


def _file(path: Path, known: Iterable[str]) -> Layer:
    try:
        with path.open("rb") as file:
            values = tomllib.load(file)
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"settings file {path} is not TOML: {error}") from None
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise SettingsError(f"settings file {path} cannot be read: {why}") from None
    names = set(known)
    for name in values:
        if name not in names:
            raise unknown_name("setting", name, names, str(path))
    return Layer(values, dict.fromkeys(values, str(path)))


def from_environment(env: Mapping[str, str], known: Iterable[str]) -> Layer:
    """The layer of the ECOALIGN_* variables. An empty one counts as not set.

    Raises:
        SettingsError: a variable names no setting, or is not the JSON that it should be.
    """
    names = {*known, CONFIG}
    values: dict[str, object] = {}
    origins: dict[str, str] = {}
    for variable, text in sorted(env.items()):
        if not variable.startswith(PREFIX) or not text.strip():
            continue
        name = variable.removeprefix(PREFIX).lower()
        if variable == f"{PREFIX}{KEYS.upper()}":
            continue
        if name not in names or variable != variable.upper():
            known_variables = {f"{PREFIX}{each.upper()}" for each in names}
            raise unknown_name("variable", variable, known_variables, "the environment")
        values[name] = from_text(name, variable, text)
        origins[name] = f"environment {variable}"
    return Layer(values, origins)


def from_text(name: str, variable: str, text: str) -> object:
    """The raw value of setting `name` that was written as text, in `variable` or on a command line.

    Raises:
        SettingsError: the setting is a table and the text is not JSON.
    """
    if name in _STRUCTURED:
        try:
            return json.loads(text)
        except json.JSONDecodeError as error:
            raise SettingsError(
                f"{variable} is not JSON ({error}); it looks like "
                '{"openai:name": {"input": 2.5, "output": 10.0}}'
            ) from None
    if name in _OPTIONAL and text.strip().lower() == "none":
        return None
    return text.strip()
