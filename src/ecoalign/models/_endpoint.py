"""How to reach a chat completions server: address, credentials, proxy and TLS.

Each of these values has one reader, whichever option, setting or variable it comes from.
"""

from __future__ import annotations

import base64
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import SplitResult, unquote, urlsplit

from ecoalign._version import __version__
from ecoalign.errors import InputError

if TYPE_CHECKING:
    import ssl

OPENAI_URL: Final = "https://api.openai.com/v1"

USER_AGENT: Final = f"ecoalign/{__version__}"

_OPENAI_KEY: Final = "OPENAI_API_KEY"

_WORDS = {"OpenAI-Organization": "OPENAI_ORG_ID", "OpenAI-Project": "OPENAI_PROJECT_ID"}
"""Further headers, which go where OpenAI's key goes, and the variables that they are read from."""

_UNFIT = re.compile(r"[^!-~]")
"""What a header value or an address in ASCII does not hold: blanks, controls, other scripts."""

_HOST = re.compile(r"[a-z0-9._-]+|[0-9a-f:.]+(%[a-z0-9._-]+)?", re.I | re.ASCII)


def base_url_of_environment() -> str:
    """OPENAI_BASE_URL as it was set, without outer blanks; "" where it is not."""
    return os.environ.get("OPENAI_BASE_URL", "").strip()


def read_base_url(text: str, name: str = "the base URL") -> SplitResult:
    """An address of a server, in parts.

    Args:
        text: the address; blanks around it are dropped.
        name: what to call it in the error.

    Raises:
        InputError: it is not http or https, has no host that could be looked up or a port that is
            none, a query, a fragment or blanks, or ends in what is added to it.
    """
    text = text.strip()
    wrong = _wrong_with(text)
    if wrong is not None:
        shown = re.split(r"[?#]", text.rpartition("@")[2])[0]
        raise InputError(f"{name} {shown!r} {wrong}")
    return urlsplit(text)


_PLACE = re.compile(r"(\[[^\[\]]*\]|[^\[\]:]*)(:\d*)?")
"""Host and port."""

_EXAMPLE = "give one such as http://localhost:8000/v1"

_QUOTES = "\"'`\u2018\u2019\u201c\u201d"

_ADDED = re.compile(r"/(chat/completions|completions|responses)/*$")


def _wrong_with(text: str) -> str | None:
    """What is wrong with an address of a server, and the cure; None if nothing is."""
    before, _, after = text.rpartition("@")
    if text[:1] and text[0] in _QUOTES:
        return "has quotes around it; leave them out"
    if re.search(r"\s", text):
        return "has a blank or a line break in it; write it without"
    if not text.isprintable() or "\\" in text:
        return "has a character in it that no address has; type it anew"
    if not re.match(r"https?://", text, re.I):
        return f"is not an http or https address; {_EXAMPLE}"
    if re.match(r"https?:/+https?:", text, re.I):
        return "begins with http:// twice; leave one out"
    if re.search("[?#]", before):
        return "has ? or # in its password; write %3F for ?, and %23 for #"
    if re.search("[?#]", text):
        return "has a query or a fragment, which is not allowed; end it with its path, such as /v1"
    place = after.partition("://")[2] or after
    place = place.partition("/")[0]
    if place.count(":") > 1 and re.fullmatch("[0-9a-f:.%]+", place, re.I):
        return "has an IPv6 address without brackets; write it as in http://[::1]:8000/v1"
    try:
        parts = urlsplit(text)
        host = parts.hostname or ""
        number = parts.port
    except ValueError:
        known = "[" not in place or re.fullmatch(r"\[[0-9a-f:.%]+\](:.*)?", place, re.I)
        host, number = ("h", 0) if known else ("", 1)
    if number == 0:
        return "has a port that is no number from 1 to 65535; correct it"
    if not (_PLACE.fullmatch(place) and _can_be_looked_up(host)):
        return f"has no name of a server in it, or one that nobody can have; {_EXAMPLE}"
    if added := _ADDED.search(parts.path):
        return f"ends in /{added[1]}, which is added to it; leave that out"
    if re.search(r"(/v\d+)\1/*$", parts.path):
        return "has /v1 at its end twice; leave one out"
    return None


def _can_be_looked_up(host: str) -> bool:
    """Whether it has the form of a name or an address."""
    if not (_HOST.fullmatch(host) or re.fullmatch(r"[\w.\u3002-]+", host)):
        return False
    if ":" in host:
        return True
    labels = host.removesuffix(".").split(".")
    if len(host) > 253 or not all(0 < len(label) < 64 for label in labels):
        return False
    if host.isascii() and "xn--" not in host.lower():
        return True
    from yarl import URL  # which reads it in the end, and takes a while to import

    try:
        return bool(URL.build(scheme="http", host=host).host)
    except ValueError:
        return False


def read_key(variable: str, key: str | None = None) -> str:
    """The key, or other word for a header, that an environment variable holds; "" for none.

    Args:
        variable: its name; "" for none.
        key: what it held, where it was read before.

    Raises:
        InputError: it cannot be sent in a header. The message does not show it.
    """
    key = os.environ.get(variable, "").strip() if key is None else key
    if _UNFIT.search(key):
        raise InputError(
            f"{variable} cannot be sent: there is a blank, a line break or a character that is "
            "not ASCII in it; copy it again"
        )
    return key


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy of the environment.

    Attributes:
        url: http or https, with the user and password where there are any.
        variable: where it was named.
    """

    url: str = field(repr=False)
    variable: str


def proxy_for(parts: SplitResult) -> Proxy | None:
    """The proxy between here and an address, by HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY.

    A name in lower case comes before the one in capitals, and ALL_PROXY last. The loopback
    interface is no exception. Where the environment names no proxy, the settings of the system
    count (Windows, macOS).

    Raises:
        InputError: the proxy is of a kind that is not supported, such as SOCKS.
    """
    from urllib.request import getproxies

    host = parts.hostname or ""
    port = parts.port or (443 if parts.scheme == "https" else 80)
    proxies = getproxies()
    kind = next((kind for kind in (parts.scheme, "all") if proxies.get(kind)), None)
    if kind is None or _exempt(host, port, proxies.get("no", "")):
        return None
    names = (f"{kind}_proxy", f"{kind}_proxy".upper())
    variable = next((name for name in names if os.environ.get(name)), "the system's proxy setting")
    return read_proxy(proxies[kind], variable, f", or add {host} to NO_PROXY to go without one")


def read_proxy(url: str, variable: str, otherwise: str = "") -> Proxy:
    """A proxy by its address, which may lack the scheme.

    Args:
        url: the address.
        variable: where it was named.
        otherwise: what else to do, in the error.

    Raises:
        InputError: it is no such address, or of a kind that is not supported, such as SOCKS.
    """
    url = url.strip()
    url = url if "://" in url else f"http://{url}"
    try:
        proxy = urlsplit(url)
        usable = _can_be_looked_up(proxy.hostname or "") and proxy.port != 0
        usable = usable and bool(_PLACE.fullmatch(proxy.netloc.rpartition("@")[2]))
        usable = usable and not re.search(r"[\s\\]", url)
        f"{unquote(proxy.username or '')}{unquote(proxy.password or '')}".encode("latin-1")
    except ValueError:
        proxy, usable = urlsplit("http://"), False
    if proxy.scheme not in {"http", "https"}:
        raise InputError(
            f"{variable} names a proxy of the kind {proxy.scheme!r}, which is not supported; name "
            f"an http:// or https:// proxy{otherwise}"
        )
    if not usable:
        raise InputError(
            f"{variable} is not the address of a proxy; give one such as http://host:3128"
        )
    return Proxy(url, variable)


def _exempt(host: str, port: int, listed: str) -> bool:
    """Whether NO_PROXY lists a host: as a name, a domain, an address, a network or "*"."""
    from urllib.request import getproxies_environment, proxy_bypass

    if not getproxies_environment():
        return bool(proxy_bypass(host))
    host = host.lower().rstrip(".")
    for entry in listed.lower().replace(" ", ",").split(","):
        found = re.fullmatch(r"(\[[^\]]*\]|[^:\[\]]*)(?::(\d+))?", entry)
        name, only = (found[1].strip("[]"), found[2]) if found else (entry, None)
        if not name or (only and int(only) != port):
            continue
        domain = name.removeprefix("*").lstrip(".")
        if name == "*" or host.endswith(f".{domain}") or (host == domain and name[0] != "*"):
            return True
        try:
            if ip_address(host) in ip_network(name, strict=False):
                return True
        except ValueError:
            continue
    return False


def tls_context() -> ssl.SSLContext:
    """Certificates are checked against SSL_CERT_FILE and SSL_CERT_DIR, else the system's own.

    Raises:
        InputError: one of these is set and holds no certificates.
    """
    import ssl

    file, folder = os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR")
    if folder and not Path(folder).is_dir():
        raise InputError(f"SSL_CERT_DIR names {folder!r}, which is no folder")
    try:
        if file or folder:
            context = ssl.create_default_context(cafile=file or None, capath=folder or None)
        elif sys.platform in {"darwin", "win32"}:
            import truststore

            context = truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        else:
            context = ssl.create_default_context()
    except OSError as error:  # that a file is not PEM is one, too
        raise InputError(
            f"SSL_CERT_FILE names {file!r}, which cannot be read as certificates in PEM "
            f"({type(error).__name__})"
        ) from None
    context.set_alpn_protocols(["http/1.1"])
    return context


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A server of chat completions. Build it with `of`.

    Attributes:
        url: of the chat completions, without user and password.
        base_url: the server's address, without user and password.
        origin: scheme, host and port, for messages.
        key: sent as the bearer token; "" where the server needs none.
        key_from: the variable that holds the key, for messages.
        has_user: whether the address holds a user and a password, which are sent for the key.
        headers: of every request; one of them holds the key.
        proxy: None where the way is direct.
        tls: None where none is spoken.
    """

    url: str
    base_url: str
    origin: str
    key: str = field(repr=False)
    key_from: str
    has_user: bool
    headers: Mapping[str, str] = field(repr=False)
    proxy: Proxy | None
    tls: ssl.SSLContext | None

    @property
    def is_local(self) -> bool:
        """Whether the server is on this machine, and reached without a proxy."""
        host = urlsplit(self.url).hostname or ""
        try:
            loopback = ip_address(host).is_loopback
        except ValueError:
            loopback = host == "localhost" or host.endswith(".localhost")
        return loopback and self.proxy is None

    @classmethod
    def of(
        cls,
        base_url: str | None = None,
        key: str | None = None,
        *,
        key_from: str = _OPENAI_KEY,
        proxy: str | None = None,
    ) -> Endpoint:
        """The server at `base_url`, by default at OPENAI_BASE_URL, and else OpenAI's own.

        Args:
            base_url: usually ends in /v1.
            key: None to read it from the environment.
            key_from: the variable of the key; "" for no key.
            proxy: the address of the proxy; "" to go without one, None for the environment's.

        Raises:
            InputError: the address, the key, or a proxy or certificates of the environment cannot
                be used.
        """
        named = base_url_of_environment()
        if base_url:
            parts = read_base_url(base_url)
        elif named:
            parts = read_base_url(named, "the base URL in OPENAI_BASE_URL")
        else:
            parts = read_base_url(OPENAI_URL)
        key = read_key(key_from, key)
        headers = {
            "User-Agent": USER_AGENT,
            "Accept": "application/json",
            "Accept-Encoding": "identity",
            "Content-Type": "application/json",
        }
        for name, variable in _WORDS.items() if key_from == _OPENAI_KEY else ():
            if word := read_key(variable):
                headers[name] = word
        user = parts.netloc.rpartition("@")[0]
        if user:
            pair = base64.b64encode(unquote(user).encode()).decode("ascii")
            headers["Authorization"] = f"Basic {pair}"
        elif key:
            headers["Authorization"] = f"Bearer {key}"
        parts = parts._replace(netloc=parts.netloc.rpartition("@")[2])
        if proxy is None:
            way = proxy_for(parts)
        else:
            way = read_proxy(proxy, "the endpoint's proxy") if proxy else None
        secure = parts.scheme == "https" or (way is not None and way.url.startswith("https:"))
        return cls(
            url=parts._replace(path=parts.path.rstrip("/") + "/chat/completions").geturl(),
            base_url=parts.geturl(),
            origin=f"{parts.scheme}://{parts.netloc}",
            key=key,
            key_from=key_from,
            has_user=bool(user),
            headers=headers,
            proxy=way,
            tls=tls_context() if secure else None,
        )
