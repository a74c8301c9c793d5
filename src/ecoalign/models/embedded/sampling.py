"""What the embedded model can do of what a client may ask."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["first_unsupported", "stops_of", "until_stop"]

MOST_STOPS = 4
HOTTEST = 2.0

# Values that ask for nothing beyond what every answer has.
_NEUTRAL: Mapping[str, tuple[object, ...]] = {
    "top_p": (1,),
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "logit_bias": ({},),
    "response_format": ({"type": "text"},),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
}
# They say who asks and how it is kept, and nothing about the answer.
_ABOUT = frozenset({"user", "safety_identifier", "metadata", "parallel_tool_calls"})


def first_unsupported(params: Mapping[str, object]) -> str | None:
    """The name of the first parameter that cannot be honoured; None if all of them can.

    Honoured are `temperature` from 0 to 2, `seed` (0 or more) and up to four texts of `stop`; null
    is no request at all.
    """
    return next((name for name, value in params.items() if not _honoured(name, value)), None)


def _honoured(name: str, value: object) -> bool:
    if value is None or name in _ABOUT:
        return True
    if isinstance(value, bool):  # True is a 1 to Python
        return any(value is known for known in _NEUTRAL.get(name, ()))
    match name:
        case "temperature":
            return isinstance(value, int | float) and 0 <= value <= HOTTEST
        case "seed":
            return isinstance(value, int) and value >= 0
        case "stop":
            stops = [value] if isinstance(value, str) else value
            return (
                isinstance(stops, list)
                and len(stops) <= MOST_STOPS
                and all(isinstance(stop, str) and stop for stop in stops)
            )
    return value in _NEUTRAL.get(name, ())


def stops_of(params: Mapping[str, object]) -> tuple[str, ...]:
    """The texts at which an answer is to end, by `stop`."""
    stop = params.get("stop")
    if isinstance(stop, str):
        return (stop,)
    return tuple(map(str, stop)) if isinstance(stop, list) else ()


def until_stop(text: str, stops: tuple[str, ...]) -> tuple[str, bool]:
    """`text` up to the first of `stops`, and whether there was one."""
    places = [place for place in map(text.find, stops) if place >= 0]
    return (text[: min(places)].rstrip(), True) if places else (text, False)
