"""What the head of a request tells about where it comes from: pure checks, one reader for every
server of the package."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address

_ORIGIN = re.compile(r"([a-z][a-z0-9+.-]*)://(\[[0-9a-f:.]+\]|[a-z0-9_.-]+)(?::([0-9]{1,5}))?")

_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9_.-]+)(?::[0-9]{1,5})?")

_PORTS = {"http": 80, "https": 443}

_NOT_ANOTHER = frozenset({None, "none", "same-origin"})
"""What Sec-Fetch-Site says of a request that no other site has made."""


@lru_cache(maxsize=256)
def is_loopback(host: str) -> bool:
    """Whether only this machine can reach `host`, an address or a name."""
    name = host.lower().removeprefix("[").removesuffix("]")
    if name == "localhost":
        return True
    try:
        address: IPv4Address | IPv6Address = ip_address(name.partition("%")[0])
    except ValueError:
        return False
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback


def asked_host(hosts: Sequence[str]) -> str:
    """The host and port that a request names, in lower case.

    Args:
        hosts: every header Host of the request.

    Returns:
        "" where there is none, or more than one.
    """
    return hosts[0].strip().lower() if len(hosts) == 1 else ""


def name_of(host: str) -> str:
    """A host without its port, as from `asked_host`; "" for what is no host."""
    match = _HOST.fullmatch(host)
    return match[1] if match else ""


def origin_of(text: str) -> str | None:
    """An origin ("https://app.example") as browsers send it; None for what is not exactly one."""
    match = _ORIGIN.fullmatch(text.strip().lower().removesuffix("/"))
    if match is None:
        return None
    scheme, host, port = match.groups()
    if port is None:
        return f"{scheme}://{host}"
    number = int(port)
    if not 1 <= number <= 65_535:
        return None
    return f"{scheme}://{host}" + ("" if _PORTS.get(scheme) == number else f":{number}")


def from_another_site(
    origins: Sequence[str], site: str | None, *, own: Collection[str], allowed: Collection[str] = ()
) -> bool:
    """Whether a browser sent a request for a page that may not.

    A program that is no browser sends neither header. A page can forge none of them.

    Args:
        origins: every header Origin of the request.
        site: its header Sec-Fetch-Site; None where it has none.
        own: the origins of the server's own pages.
        allowed: the origins of other pages that may ask.
    """
    if origins and all(origin in allowed for origin in origins):
        return False
    return site not in _NOT_ANOTHER or any(origin not in own for origin in origins)


def is_json(content_types: Sequence[str]) -> bool:
    """Whether a body is said to be JSON, once; a page of another site cannot say so without
    asking first (a preflight)."""
    kinds = [kind.partition(";")[0].strip().lower() for kind in content_types]
    return kinds == ["application/json"]
