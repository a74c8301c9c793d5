"""Image URLs, read strictly: one spelling, one meaning."""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Literal
from urllib.parse import quote, urljoin

from ecoalign.errors import InputError

Address = IPv4Address | IPv6Address

Network = IPv4Network | IPv6Network

# Written out rather than left to `ipaddress.is_global`, whose table differs between the patch
# releases of Python: the IANA special-purpose registries, and what clouds put beside them.
_CLOSED_V4 = tuple(
    map(
        IPv4Network,
        (
            "0.0.0.0/8",  # this network
            "10.0.0.0/8",  # private
            "100.64.0.0/10",  # carrier-grade NAT; also Alibaba's metadata at 100.100.100.200
            "127.0.0.0/8",  # loopback
            "168.63.129.16/32",  # Azure's host agent, at an address that looks public
            "169.254.0.0/16",  # link-local; the metadata of most clouds
            "172.16.0.0/12",  # private
            "192.0.0.0/24",  # protocol assignments; also Oracle's metadata
            "192.0.2.0/24",  # documentation
            "192.31.196.0/24",  # AS112
            "192.52.193.0/24",  # multicast tunnels
            "192.88.99.0/24",  # 6to4 relays
            "192.168.0.0/16",  # private
            "192.175.48.0/24",  # AS112
            "198.18.0.0/15",  # benchmarks
            "198.51.100.0/24",  # documentation
            "203.0.113.0/24",  # documentation
            "224.0.0.0/4",  # multicast
            "240.0.0.0/4",  # reserved, broadcast
        ),
    )
)

# All else is loopback, mapped, translated (NAT64), unique-local, link-local, multicast or reserved.
_GLOBAL_V6 = IPv6Network("2000::/3")

_CLOSED_V6 = tuple(
    map(
        IPv6Network,
        (
            "2001::/23",  # protocol assignments: Teredo, which holds an IPv4 address, and others
            "2001:db8::/32",  # documentation
            "2002::/16",  # 6to4, which holds an IPv4 address
            "2620:4f:8000::/48",  # AS112
            "3fff::/20",  # documentation
        ),
    )
)

# The middle of an interface id that holds an IPv4 address for ISATAP (with either u bit).
_ISATAP, _ISATAP_MASK = 0x00005EFE, 0xFDFFFFFF


def parse_address(text: str) -> Address | None:
    """The address that `text` spells in full, or None.

    IPv4 only as four decimal numbers without leading zeros: the other spellings that C libraries
    take (one number, octal, hexadecimal, fewer parts) are none here. A zone id makes it None.
    """
    kind = IPv6Address if ":" in text else IPv4Address
    try:
        return kind(text) if "%" not in text else None
    except ValueError:
        return None


def is_public(address: Address) -> bool:
    """Whether `address` belongs to the open Internet.

    False for loopback, private, link-local, carrier-grade NAT, multicast, reserved, unspecified
    and documentation addresses, for the metadata services of clouds, and for every IPv6 form that
    holds an IPv4 address (mapped, compatible, 6to4, Teredo, NAT64, ISATAP), whatever it holds.
    """
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _CLOSED_V4)
    if address not in _GLOBAL_V6 or any(address in network for network in _CLOSED_V6):
        return False
    return (int(address) >> 32) & _ISATAP_MASK != _ISATAP


Refusal = Literal[
    "off", "url", "host", "address", "connection", "status", "type", "size", "time", "redirect"
]
"""Why an image was not fetched: fetching is turned off; the URL is malformed or of a kind that is
not taken; its host is not on the list; an address is not public; no connection, or broken HTTP;
an unexpected status; no image, or encoded; too large; too slow; too many or bad redirects."""

MOST_CHARACTERS = 4096

_DEFAULT_PORTS = {"http": 80, "https": 443}

# Parsers disagree about backslashes, white space and control characters, so none is taken.
_FORBIDDEN = re.compile(r"[\s\\\x00-\x20\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]")

_PARTS = re.compile(r"(https?)://([^/?#]+)([^?#]*)(?:\?([^#]*))?(?:#.*)?", re.IGNORECASE)

_PORT = re.compile(r"[0-9]{1,5}", re.ASCII)

_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?", re.ASCII)

# A host whose last label is a number is an IPv4 address to browsers and C libraries.
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*", re.ASCII)


class ImageUrlError(InputError):
    """An image URL that is not fetched, or did not give an image.

    The message is fit for the client: it holds no address, no part of a response and no URL.

    Attributes:
        reason: one word for it, for metrics.
    """

    def __init__(self, reason: Refusal, message: str) -> None:
        super().__init__(message)
        self.reason: Refusal = reason


@dataclass(frozen=True, slots=True)
class ImageUrl:
    """A URL in parts, each in its one normal form.

    Attributes:
        scheme: "http" or "https".
        host: in lower case and ASCII, without a trailing dot or brackets.
        address: where `host` is an address, it.
        port: from 1 to 65535.
        target: path and query, percent-encoded; starts with "/".
    """

    scheme: str
    host: str
    address: Address | None
    port: int
    target: str

    @property
    def authority(self) -> str:
        """Host and port as the Host header has them."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}{self.target}"


def read_url(text: str) -> ImageUrl:
    """Read an absolute http or https URL.

    Refused are user names and passwords; white space, backslashes and control characters anywhere;
    numbers that stand for an address in other spellings than the usual ones; names without a dot.
    Names in other scripts become ASCII by UTS 46. Nothing is looked up.

    Raises:
        ImageUrlError: it is none, with reason "url".
    """
    if len(text) > MOST_CHARACTERS:
        raise _bad(f"it is longer than {MOST_CHARACTERS} characters")
    if _FORBIDDEN.search(text) is not None:
        raise _bad("it has white space, a backslash or a control character in it")
    match = _PARTS.fullmatch(text)
    if match is None:
        raise _bad("it must begin with http:// or https:// and a host, or be a data: URI")
    scheme, authority, path, query = match[1].lower(), match[2], match[3], match[4]
    if "@" in authority:
        raise _bad("it must not hold a user name or a password")
    name, port = _split(authority, _DEFAULT_PORTS[scheme])
    host, address = _host(name)
    target = _quoted(path or "/") + ("" if query is None else "?" + _quoted(query))
    return ImageUrl(scheme, host, address, port, target)


def follow(base: ImageUrl, location: bytes) -> ImageUrl:
    """Where a redirect from `base` to the Location header `location` leads.

    Raises:
        ImageUrlError: nowhere, or from https back to http; with reason "redirect".
    """
    try:
        text = location.decode("ascii")
    except UnicodeDecodeError:
        raise _astray("its target is no URL") from None
    # Asked before joining, which would drop some of these unseen.
    if not text or _FORBIDDEN.search(text) is not None:
        raise _astray("its target is no URL")
    try:
        url = read_url(urljoin(str(base), text))
    except ValueError:
        raise _astray("its target is no URL") from None
    except ImageUrlError:
        raise _astray("its target is not a URL that is fetched") from None
    if base.scheme == "https" and url.scheme != "https":
        raise _astray("it leads from https to http")
    return url


def _bad(what: str) -> ImageUrlError:
    return ImageUrlError("url", f"the image URL cannot be used: {what}")


def _astray(what: str) -> ImageUrlError:
    return ImageUrlError("redirect", f"the image URL redirects, and {what}")


def _split(authority: str, default: int) -> tuple[str, int]:
    """Host, still in its brackets, and port."""
    if authority.startswith("["):
        host, bracket, rest = authority.partition("]")
        host += bracket
        colon, port = rest[:1], rest[1:]
    else:
        host, colon, port = authority.partition(":")
    if not colon:
        return host, default
    if colon != ":" or _PORT.fullmatch(port) is None or not 1 <= int(port) <= 65535:
        raise _bad("its port is not a number from 1 to 65535, or its host has a colon")
    return host, int(port)


def _host(name: str) -> tuple[str, Address | None]:
    if name.startswith("["):
        address = parse_address(name[1:-1]) if name.endswith("]") else None
        if address is None or address.version != 6:
            raise _bad("what is in its brackets is not an IPv6 address")
        return str(address), address
    host = _ascii(name).removesuffix(".")
    labels = host.split(".")
    if len(host) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise _bad("its host is not a name")
    if _NUMBER.fullmatch(labels[-1]) is not None:
        address = parse_address(host)
        if address is None:
            raise _bad("its host is a number; write an IPv4 address as four decimal numbers")
        return host, address
    if len(labels) == 1:
        raise _bad("its host has no dot in it, so it is not a public name")
    return host, None


def _ascii(name: str) -> str:
    if name.isascii():
        return name.lower()
    import idna

    try:
        return idna.encode(name, uts46=True).decode("ascii").lower()
    except idna.IDNAError:
        raise _bad("its host is not a name") from None


def _quoted(text: str) -> str:
    """Percent-encode what a request line cannot hold; what is encoded already stays."""
    return quote(text, safe="/?:@!$&'()*+,;=-._~%[]|^")


MEDIA_TYPES = frozenset({"image/gif", "image/jpeg", "image/jpg", "image/png", "image/webp"})
"""What servers may call them."""

ENOUGH_BYTES = 12
"""How many of the first bytes `kind_of` needs."""

_STARTS = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
)


def kind_of(data: bytes) -> str | None:
    """The media type of an image by its first bytes: PNG, JPEG, GIF or WebP; None for all else."""
    for start, kind in _STARTS:
        if data.startswith(start):
            return kind
    return "image/webp" if data[:4] == b"RIFF" and data[8:12] == b"WEBP" else None


@dataclass(frozen=True, slots=True)
class FetchPolicy:
    """What may be fetched. The defaults fetch nothing.

    Attributes:
        enabled: whether anything is fetched at all.
        max_bytes: largest image, in bytes, from 1.
        seconds: longest time for one image in all, the wait for its turn and redirects included,
            above 0.
        redirects: how many are followed, from 0.
        ports: the ports that are asked.
        hosts: the only hosts that are asked, redirects included: names ("images.example.org"),
            or all names below one (".example.org"); none for every public host.
        never: networks that are not asked though they are public, such as one's own.
        concurrency: how many images are fetched at once, from 1; more wait.

    Raises:
        ValueError: a number is out of its range.
    """

    enabled: bool = False
    max_bytes: int = 20 * 1024 * 1024
    seconds: float = 10.0
    redirects: int = 3
    ports: frozenset[int] = frozenset({80, 443})
    hosts: frozenset[str] = frozenset()
    never: tuple[Network, ...] = ()
    concurrency: int = 8

    def __post_init__(self) -> None:
        for name, least in (("max_bytes", 1), ("redirects", 0), ("concurrency", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be {least} or more, not {getattr(self, name)}")
        if not 0 < self.seconds < float("inf"):
            raise ValueError(f"seconds must be positive and finite, not {self.seconds}")

    def allows_host(self, host: str) -> bool:
        """Whether `host`, in lower case, is on the list, or there is none."""
        if not self.hosts:
            return True
        listed = {entry.lower().rstrip(".") for entry in self.hosts}
        return host in listed or any(
            entry.startswith(".") and host.endswith(entry) for entry in listed
        )
