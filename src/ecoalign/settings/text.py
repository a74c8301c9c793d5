"""Settings in words: ranges, values, and complaints that say what is wrong and what fits."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from enum import Enum
from types import NoneType
from typing import TYPE_CHECKING, Literal, get_args, get_origin

from annotated_types import Ge, Gt, Le
from pydantic import StringConstraints

from ecoalign.budget import Budget
from ecoalign.errors import SettingsError

if TYPE_CHECKING:
    from pydantic import ValidationError
    from pydantic.fields import FieldInfo

__all__ = ["complaint", "range_of", "shown", "unknown_name"]

_SECRET = ("key", "secret", "password", "passwd", "credential", "auth")
_LONGEST = 80
_SPECIAL = {
    "budget": '"8000", "$0.02", "5s", "500ms", "2m" or "8000,$0.02,5s"',
    "prices": "by model: input, output, cached >= 0, in dollars per million tokens",
    "base_url": "http:// or https://, without a user, password or query; or none",
}


def range_of(name: str, field: FieldInfo) -> str:
    """The values that a setting may have."""
    if name in _SPECIAL:
        return _SPECIAL[name]
    kinds = get_args(field.annotation) or (field.annotation,)
    if get_origin(field.annotation) is Literal:
        return " | ".join(str(kind) for kind in kinds)
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
        # An address may hold a password, which is what is wrong with it.
        value = "" if name == "base_url" else f" is {_short(each['input'])}"
        own = each["type"] == "value_error"
        why = f": {each['msg'].removeprefix('Value error, ')}" if own else ""
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
