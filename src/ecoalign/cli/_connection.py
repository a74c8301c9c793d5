"""`ecoalign doctor --connect`: one request that costs nothing, and what its failure means."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

from ecoalign._text import short

if TYPE_CHECKING:
    from ecoalign.models import Endpoint
    from ecoalign.models.http import HttpError

_PATIENCE = 10.0
"""Seconds that a server may take to answer; half of it to be reached."""

_MOST_BYTES = 4 * 1024 * 1024

_SHOWN = 8


State = Literal["ok", "note", "problem"]


async def ask_server(endpoint: Endpoint, model: str) -> tuple[State, str]:
    """Ask a server for the list of its models: whether it answers as it should, and in words.

    Args:
        endpoint: the server.
        model: the model's name there.
    """
    from ecoalign.models.http import URL, HttpClient, HttpError

    client = HttpClient(
        endpoint.headers,
        connections=1,
        most=_MOST_BYTES,
        tls=endpoint.tls,
        proxy=endpoint.proxy,
        keep=False,
        connect=_PATIENCE / 2,
    )
    begun = time.perf_counter()
    try:
        url = URL(f"{endpoint.base_url.rstrip('/')}/models")
        deadline = asyncio.get_running_loop().time() + _PATIENCE
        async with client.exchange("GET", url, deadline=deadline) as answer:
            body = await answer.whole()
    except HttpError as error:
        return "problem", _unreached(endpoint, error)
    finally:
        await client.aclose()
    took = f"in {time.perf_counter() - begun:.2f} s"
    if answer.status != 200:
        return _refused(endpoint, answer.status, took)
    return _listed(endpoint, body, model, took)


def _unreached(endpoint: Endpoint, error: HttpError) -> str:
    """Why there was no answer, and the cure."""
    host = urlsplit(endpoint.url).hostname or endpoint.origin
    proxy = endpoint.proxy
    if proxy is not None:
        away = f"correct it, or add {host} to NO_PROXY to go without one"
        if error.kind == "HTTP 407":
            return (
                f"the proxy in {proxy.variable} wants a password: name it there, "
                "http://USER:PASSWORD@HOST:PORT"
            )
        if error.kind.startswith("HTTP "):
            return f"the proxy in {proxy.variable} refuses the way to {host} ({error.kind}): {away}"
        if error.kind in {"gaierror", "ConnectionRefusedError"}:
            what = "its name is not known" if error.kind == "gaierror" else "nothing listens there"
            return f"the proxy in {proxy.variable} cannot be reached, {what}: {away}"
    way = "" if proxy is None else f" by way of the proxy in {proxy.variable}"
    if error.kind == "gaierror":
        return f"the name {host} is not known: check its spelling, and this machine's network"
    if "Certificate" in error.kind or "CertVerification" in error.kind:
        return (
            f"the certificate of {host} is not trusted{way}: if it is your own, or your company's "
            "proxy signs it, name the authority's file in SSL_CERT_FILE"
        )
    if "SSL" in error.kind:
        return f"{endpoint.origin} does not speak TLS as it should: is it http:// and not https://?"
    if error.kind == "ConnectionRefusedError":
        cure = "start it" if endpoint.is_local else "check the port"
        return f"nothing listens at {endpoint.origin}: {cure}, or correct the address"
    if error.cause == "timeout" or "Timeout" in error.kind:
        if error.sent:
            silent = f"answered nothing within {_PATIENCE:g} s: it may be loading its model"
        else:
            silent = (
                f"accepted no connection within {_PATIENCE / 2:g} s: a firewall may be in the way; "
                "name a proxy in HTTPS_PROXY if there has to be one"
            )
        return f"{endpoint.origin}{way} {silent}"
    if error.cause in {"malformed", "closed"}:
        other = "https" if endpoint.url.startswith("http:") else "http"
        return f"{endpoint.origin} {error}: is it {other}://, or another kind of server?"
    return f"{endpoint.origin} {error}{way}: check the address"


def _refused(endpoint: Endpoint, status: int, took: str) -> tuple[State, str]:
    """What another status than 200 means."""
    if status in {401, 403}:
        key = endpoint.key_from or "its key"
        there = f"the key in {key} is refused" if endpoint.key else f"it wants a key: set {key}"
        return "problem", f"{endpoint.origin} answers {took}, but {there} (HTTP {status})"
    if status in {404, 405, 501}:
        return "note", (
            f"{endpoint.origin} answers {took}, but lists no models (HTTP {status}): some servers "
            "do not; if asking fails, too, check that the address ends as theirs does, mostly /v1"
        )
    if status == 429:
        return "note", f"{endpoint.origin} answers {took}, and limits the rate just now (HTTP 429)"
    if 300 <= status < 400:
        return "problem", (
            f"{endpoint.origin} sends elsewhere (HTTP {status}), which is not followed so that the "
            "key stays here: name the right address"
        )
    return "problem", f"{endpoint.origin} answers {took} with HTTP {status}: it is not well"


def _listed(endpoint: Endpoint, body: bytes, model: str, took: str) -> tuple[State, str]:
    """Whether the list of models has the one that is wanted."""
    try:
        entries = json.loads(body)["data"]
        names = [str(entry["id"]) for entry in entries]
    except (ValueError, KeyError, TypeError, RecursionError):
        page = body.lstrip()[:1] == b"<"
        what = "with a web page" if page else "with something else than a list of models"
        return "problem", (
            f"{endpoint.origin} answers {took}, but {what}: the address is not one of an API; it "
            "mostly ends in /v1"
        )
    if any(name == model or name.rpartition("/")[2] == model for name in names):
        return "ok", f"{endpoint.origin} answers {took} and has {short(model, 60)}"
    some = ", ".join(short(name, 40) for name in names[:_SHOWN])
    rest = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return "note", (
        f"{endpoint.origin} answers {took}, but does not list {short(model, 60)!r}: it lists "
        f"{some or 'nothing'}{rest}. Some servers take any name, most do not"
    )
