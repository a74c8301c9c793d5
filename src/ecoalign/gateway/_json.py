"""The JSON of a request, within bounds. Nothing here needs the web server: workers read with it."""

from __future__ import annotations

import math
import re
from collections.abc import Collection
from dataclasses import dataclass

from ecoalign.errors import InputError

MAX_DEPTH = 64

MAX_VALUES = 20_000
"""In a request. Each takes tens of bytes of memory for one or two of the body, and the event loop
looks at all of them."""

MAX_WIDE = 2048
"""Entries of a parameter, and messages and parts of messages: each is validated by itself."""

MAX_TEXT = 400_000
"""Characters of a request but for its images."""

# Possessive: what was matched is never gone over again.
_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"', re.DOTALL)


class JsonError(InputError):
    """The body of a request is not JSON, or exceeds the limits on it."""


@dataclass(frozen=True, slots=True)
class Lengths:
    """How much a request may hold.

    Attributes:
        text: characters in all, names included, but for its images.
        values: lists, objects and what is between commas.
        wide: entries of one parameter, and messages and parts of messages together.
        depth: levels of lists and objects, 1 to 200.
    """

    text: int = MAX_TEXT
    values: int = MAX_VALUES
    wide: int = MAX_WIDE
    depth: int = MAX_DEPTH


def parse_json(body: bytes, lengths: Lengths = Lengths()) -> object:
    """The JSON in `body`.

    NaN, infinities, numbers beyond the range of floats and halves of characters are refused.
    Nothing of the body is in the messages. The length of its texts is for the caller to check.

    Raises:
        JsonError: the body is none, or holds too much.
    """
    from pydantic_core import from_json

    if _values(body) > lengths.values and _values(_STRING.sub(b"", body)) > lengths.values:
        raise JsonError(
            f"the body of the request holds too many values; at most {lengths.values:,} are taken"
        )
    try:
        value: object = from_json(body, allow_inf_nan=False, cache_strings="keys")
    except ValueError as error:
        # The parser names the place, and only what it had expected there.
        raise JsonError(f"the body of the request is not JSON: {error}") from None
    _check(value, lengths.depth)
    _check_wide(value, lengths.wide)
    return value


def _values(body: bytes) -> int:
    return body.count(b",") + body.count(b"[") + body.count(b"{")


def _check(value: object, depth: int) -> None:
    level = [value]
    for _ in range(depth + 1):
        below: list[object] = []
        for item in level:
            inner = _inner(item)
            if inner:
                below.extend(inner)
            elif type(item) is float and not math.isfinite(item):
                raise JsonError("the body of the request holds a number that is out of range")
        if not below:
            return
        level = below
    raise JsonError(f"the body of the request is nested more than {depth} levels deep")


def _inner(item: object) -> Collection[object]:
    if isinstance(item, dict):
        return item.values()
    return item if isinstance(item, list) else ()


def _check_wide(value: object, most: int) -> None:
    if not isinstance(value, dict):
        return
    for name, entry in value.items():
        inner = _inner(entry)
        parts = 0
        if name in {"messages", "input"}:
            parts = sum(len(_inner(one.get("content"))) for one in inner if isinstance(one, dict))
        if len(inner) + parts > most:
            raise JsonError(
                f"{name[:40]} holds too many entries; at most {most:,} are taken, parts included"
            )


def measured(value: object) -> int:
    """The characters of all texts and names in a JSON value."""
    size, level = 0, [value]
    while level:
        one = level.pop()
        if isinstance(one, str):
            size += len(one)
        elif isinstance(one, list):
            level += one
        elif isinstance(one, dict):
            size += sum(map(len, one))
            level += one.values()
    return size


def too_long(most: int) -> str:
    """What is said of a request with more than `most` characters."""
    return f"the request has more than {most:,} characters beside its images; send a shorter one"
