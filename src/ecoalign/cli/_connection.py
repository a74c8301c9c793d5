"""`ecoalign doctor --connect`: one request that costs nothing, and what its failure means."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Literal

from ecoalign._text import short

if TYPE_CHECKING:
    from ecoalign.models import Endpoint

_PATIENCE = 10.0
"""Seconds that a server may take to answer; half of it to be reached."""

_SHOWN = 8


State = Literal["ok", "note", "problem"]


async def ask_server(endpoint: Endpoint, model: str) -> tuple[State, str]:
    """Ask a server for the list of its models: whether it answers as it should, and in words.

    Args:
        endpoint: the server.
        model: the model's name there.
    """
    from ecoalign.models import Failure
    from ecoalign.models.openai import listed

    begun = time.perf_counter()
    answer = await listed(endpoint, _PATIENCE)
    took = f"in {time.perf_counter() - begun:.2f} s"
    if isinstance(answer, Failure):
        loading = "; or it is loading its model" if answer.cause == "timeout" else ""
        return "problem", f"{answer.line}{loading}"
    if answer.status != 200:
        return _refused(endpoint, answer.status, answer.body, took)
    return _listed(endpoint, answer.body, model, took)


def _refused(endpoint: Endpoint, status: int, body: bytes, took: str) -> tuple[State, str]:
    """What another status than 200 means."""
    from ecoalign.models import Failure, cause_of_answer

    if status in {404, 405, 501}:
        return "note", (
            f"{endpoint.origin} answers {took}, but lists no models (HTTP {status}): some servers "
            "do not; if asking fails, too, check that the address ends as theirs does, mostly /v1"
        )
    text, page = body[:2000].decode("utf-8", "replace"), body.lstrip()[:1] == b"<"
    key = bool(endpoint.key or endpoint.has_user)
    cause = cause_of_answer(status, text, page=page, key=key)
    if cause is not None:
        return "problem", f"{Failure(cause, endpoint).line} (HTTP {status}, {took})"
    if status == 429:
        return "note", f"{endpoint.origin} answers {took}, and limits the rate just now (HTTP 429)"
    who = endpoint.origin
    if endpoint.proxy is not None and endpoint.url.startswith("http:"):
        who = f"the proxy in {endpoint.proxy.variable}, or {who} behind it,"
    return "problem", f"{who} answers {took} with HTTP {status}: it is not well"


def _listed(endpoint: Endpoint, body: bytes, model: str, took: str) -> tuple[State, str]:
    """Whether the list of models has the one that is wanted."""
    from ecoalign.models import Failure

    try:
        entries = json.loads(body)["data"]
        names = [str(entry["id"]) for entry in entries]
    except (ValueError, KeyError, TypeError, RecursionError):
        if body.lstrip()[:1] == b"<":
            return "problem", Failure("page", endpoint).line
        return "problem", (
            f"{endpoint.origin} answers {took}, but with something else than a list of models: the "
            "address is not one of an API; it mostly ends in /v1"
        )
    if any(name == model or name.rpartition("/")[2] == model for name in names):
        return "ok", f"{endpoint.origin} answers {took} and has {short(model, 60)}"
    some = ", ".join(short(name, 40) for name in names[:_SHOWN])
    rest = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return "note", (
        f"{endpoint.origin} answers {took}, but does not list {short(model, 60)!r}: it lists "
        f"{some or 'nothing'}{rest}. Some servers take any name, most do not"
    )
