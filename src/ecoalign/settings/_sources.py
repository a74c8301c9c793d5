"""Where settings come from: files and the environment. Raw values, with their origin."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Literal, get_args, get_origin

from annotated_types import Ge, Gt, Le
from pydantic import StringConstraints, ValidationError

from ecoalign.budget import Budget
from ecoalign.errors import SettingsError

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

_SECRET = ("key", "secret", "password", "passwd", "credential", "auth")

_LONGEST = 80

_SPECIAL = {
    "budget": '"8000", "8k", "$0.02", "0.02usd", "5s", "500ms", "2m", "1h" or "8000,$0.02,5s"',
    "prices": "by model: input, output, cached >= 0, in dollars per million tokens",
    "endpoints": "by name: model, base_url, key_env, proxy, timeout, profile",
    "image_family": "one of the families in docs/models.md, or none",
    "profile": '"auto", "none", or a file',
    "reasoning_effort": "a text of 1 to 400 characters, or none",
    "policy": "a text of 1 to 20000 characters",
    "extra_body": "a table of parameters",
    "caps": "a table of stages and tokens",
    "base_url": "http:// or https://, without a user, password or query; or none",
}


def range_of(name: str, field: FieldInfo) -> str:
    """The values that a setting may have."""
    if name in _SPECIAL:
        return _SPECIAL[name]
    kinds = get_args(field.annotation) or (field.annotation,)
    literal = next(
        (kind for kind in (field.annotation, *kinds) if get_origin(kind) is Literal), None
    )
    if literal is not None:
        words = [str(word) for word in get_args(literal)]
        return " | ".join([*words, "none"] if NoneType in kinds else words)
    kind = kinds[0]
    if isinstance(kind, type) and issubclass(kind, Enum):
        return " | ".join(str(member.value) for member in kind)
    if kind is bool:
        return "true | false"
    words = [word for part in field.metadata if (word := _limit(part))]
    if kind is int:
        words.insert(0, "whole number")
    if NoneType in kinds:
        words.append("or none")
    return ", ".join(words)


def _limit(part: object) -> str:
    match part:
        case Ge(ge=value):
            return f"at least {value}"
        case Gt(gt=value):
            return f"above {value}"
        case Le(le=value):
            return f"at most {value}"
        case StringConstraints(max_length=value):
            return f"a text of 1 to {value} characters"
        case _:
            return ""


def shown(value: object) -> str:
    """A value as a person would write it in the TOML file."""
    if isinstance(value, bool):
        return str(value).lower()
    if value is None:
        return "none"
    if isinstance(value, Mapping):
        return ", ".join(sorted(str(key) for key in value)) or "none"
    return str(value)


def complaint(
    error: ValidationError, origins: Mapping[str, str], fields: Mapping[str, FieldInfo]
) -> SettingsError:
    """One `SettingsError` for all that pydantic found wrong."""
    lines = []
    for each in error.errors(include_url=False):
        name = str(each["loc"][0]) if each["loc"] else ""
        if name not in fields:
            lines.append(each["msg"].removeprefix("Value error, "))
            continue
        where = f"setting {name} (from {origins.get(name, 'keyword')})"
        said = each["msg"].removeprefix("Value error, ")
        if name == "budget" and said.startswith("budget "):
            # A text that cannot be read as a budget is shown by that, with how it is written.
            lines.append(f"{where}: {said}")
            continue
        # An address may hold a password, which is what is wrong with it.
        value = "" if name in {"base_url", "endpoints"} else f" is {_short(each['input'])}"
        own = each["type"] == "value_error"
        why = f": {said}" if own else ""
        lines.append(f"{where}{value}{why}; it takes: {range_of(name, fields[name])}")
    return SettingsError("\n".join(lines))


def _short(value: object) -> str:
    text = str(value) if isinstance(value, Budget) else repr(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def unknown_name(what: str, name: str, known: Iterable[str], origin: str) -> SettingsError:
    """The complaint about a setting or preset that does not exist. Shows no value."""
    choices = {_plain(choice): choice for choice in sorted(known)}
    text = f"unknown {what} {name!r} (from {origin})"
    if what != "preset" and any(word in name.lower() for word in _SECRET):
        return SettingsError(
            f"{text}: keys of services are not settings; give them in the environment of the "
            f"client, OPENAI_API_KEY"
        )
    near = difflib.get_close_matches(_plain(name), choices, n=1, cutoff=0.0)
    text += f": did you mean {choices[near[0]]!r}?"
    if what == "preset":
        text += f" There are: {', '.join(choices.values())}"
    return SettingsError(text)


def _plain(name: str) -> str:
    return name.lower().removeprefix("ecoalign_").replace("-", "_")


PREFIX = "ECOALIGN_"

CONFIG = "config"
"""ECOALIGN_CONFIG names the file to read; it is no setting itself."""

KEYS = ("keys", "keys_file")
"""ECOALIGN_KEYS names the gateway's store of API keys; it is read there and is no setting."""

FILE = "ecoalign.toml"


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

    places = [Path(FILE)]
    with suppress(RuntimeError):  # an account without a home, as in a container
        places.insert(0, user_config_path("ecoalign", appauthor=False) / FILE)
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
        SettingsError: a variable names no setting.
    """
    names = {*known, CONFIG}
    values: dict[str, object] = {}
    origins: dict[str, str] = {}
    for variable, text in sorted(env.items()):
        if not variable.startswith(PREFIX) or not text.strip():
            continue
        name = variable.removeprefix(PREFIX).lower()
        if variable in {f"{PREFIX}{each.upper()}" for each in KEYS}:
            continue
        if name not in names or variable != variable.upper():
            known_variables = {f"{PREFIX}{each.upper()}" for each in names}
            raise unknown_name("variable", variable, known_variables, "the environment")
        values[name] = text
        origins[name] = f"environment {variable}"
    return Layer(values, origins)
