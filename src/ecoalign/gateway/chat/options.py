"""The `ecoalign` object of a request: budget, preset, method, trace."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ecoalign.budget import Budget
from ecoalign.errors import InputError
from ecoalign.gateway.chat.call import EcoOptions
from ecoalign.gateway.errors import invalid

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["read_options"]

_KNOWN = ("budget", "preset", "method", "trace")
_UNITS = ("tokens", "usd", "seconds")


def read_options(value: object) -> EcoOptions:
    """Read the object; None is an empty one.

    Raises:
        ApiError: 400, naming the part that is wrong.
    """
    if value is None:
        return EcoOptions()
    if not isinstance(value, dict):
        raise invalid("ecoalign must be an object", "ecoalign")
    for name in value:
        if name not in _KNOWN:
            raise invalid(
                f"ecoalign has no option {str(name)[:40]!r}; it has {', '.join(_KNOWN)}",
                f"ecoalign.{str(name)[:40]}",
                "unknown_parameter",
            )
    trace = value.get("trace")
    if trace is not None and not isinstance(trace, bool):
        raise invalid("ecoalign.trace must be true or false", "ecoalign.trace")
    return EcoOptions(
        budget=_budget(value.get("budget")),
        preset=_name(value, "preset"),
        method=_name(value, "method"),
        trace=trace,
    )


def _name(value: Mapping[str, object], name: str) -> str | None:
    text = value.get(name)
    if text is None:
        return None
    if not isinstance(text, str) or not 0 < len(text) <= 64:
        raise invalid(f"ecoalign.{name} must be a name", f"ecoalign.{name}")
    return text


def _budget(value: object) -> Budget | None:
    """`8000`, `"8000,$0.02,5s"` or `{"tokens": 8000, "usd": 0.02, "seconds": 5}`."""
    where = "ecoalign.budget"
    if value is None:
        return None
    try:
        if isinstance(value, bool):
            raise InputError("budget: it is not a truth value")
        if isinstance(value, int):
            return Budget(tokens=value)
        if isinstance(value, str):
            return Budget.parse(value)
        if not isinstance(value, dict) or not value or not value.keys() <= set(_UNITS):
            raise InputError(f"budget: an object has one or more of {', '.join(_UNITS)}")
        made = Budget(**value)
    except InputError as error:
        raise invalid(f"ecoalign.{error}", where) from None
    if made.is_empty:
        raise invalid(f"{where} bounds nothing", where)
    return made
