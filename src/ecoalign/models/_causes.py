"""Why a server could not be asked, or did not answer as one: every cause once, with its cure.

The one table of these words. The models, requests that are passed through, the probe and
`ecoalign doctor` say a line of it whole (`Failure.line`); what strangers read, the gateway's errors
and the hints of a run, says the same without addresses (`Failure.public`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from ecoalign.errors import ModelError, ModelFault
    from ecoalign.models._endpoint import Endpoint

Cause = Literal[
    "busy",
    "descriptors",
    "name",
    "refused",
    "unreachable",
    "silent",
    "certificate",
    "certificate-early",
    "certificate-expired",
    "certificate-name",
    "certificate-self-signed",
    "certificate-unknown",
    "not-tls",
    "tls",
    "tls-closed",
    "proxy-certificate",
    "proxy-closed",
    "proxy-denied",
    "proxy-malformed",
    "proxy-name",
    "proxy-password",
    "proxy-refused",
    "proxy-silent",
    "proxy-tls",
    "proxy-unreachable",
    "address",
    "timeout",
    "closed",
    "malformed",
    "too-large",
    "tls-port",
    "page",
    "redirect",
    "key",
    "no-key",
    "path",
    "model",
]


@dataclass(frozen=True, slots=True)
class _Meaning:
    """What a cause is called. `{}` fields are those of `_fields`.

    Attributes:
        fault: the `ModelError.fault`.
        what: after who it is about: what failed.
        cure: what to do.
        who: whose fault it is; "" for the server's, or the proxy's, by the way to it.
    """

    fault: ModelFault
    what: str
    cure: str
    who: str = ""


_CERTIFICATE = "the certificate of {host}"
_PROXY = "the proxy in {proxy}"
_AWAY = "correct it there, or add {host} to NO_PROXY to go without one"
_NETWORK = "check its spelling, and this machine's network"
_AUTHORITY = "if it is to be trusted, name the file of {authority} in SSL_CERT_FILE"

_MEANINGS: Mapping[Cause, _Meaning] = {
    # Nothing was sent: it costs nothing.
    "busy": _Meaning(
        "down",
        "has so many requests under way to the model server that this one was not sent within "
        "{seconds} s",
        "ask less at once, or allow more time",
        "this process",
    ),
    "descriptors": _Meaning(
        "down",
        "cannot open a connection ({why})",
        "ask less at once, or raise its limit of open files (ulimit -n)",
        "this process",
    ),
    "name": _Meaning("down", "cannot be reached: the name {host} is not known", _NETWORK),
    "refused": _Meaning(
        "down", "cannot be reached: nothing listens there", "start it, or correct the base URL"
    ),
    "unreachable": _Meaning(
        "down",
        "cannot be reached ({why})",
        "check the base URL, and this machine's network and firewall",
    ),
    "silent": _Meaning(
        "down",
        "cannot be reached: it accepted no connection within {seconds} s",
        "a firewall may be in the way; if there has to be a proxy, name it in {variable}",
    ),
    "certificate": _Meaning(
        "down", "is not accepted ({why})", "have it made anew, by an authority", _CERTIFICATE
    ),
    "certificate-early": _Meaning(
        "down", "is not valid yet", "set this machine's clock", _CERTIFICATE
    ),
    "certificate-expired": _Meaning(
        "down", "has expired", "renew it, or set this machine's clock", _CERTIFICATE
    ),
    "certificate-name": _Meaning(
        "down",
        "is for another name",
        "write the name that it is for into the base URL",
        _CERTIFICATE,
    ),
    "certificate-self-signed": _Meaning(
        "down",
        "is not trusted: no authority has signed it but itself",
        _AUTHORITY.format(authority="the certificate"),
        _CERTIFICATE,
    ),
    "certificate-unknown": _Meaning(
        "down",
        "is not trusted: its authority is not known here",
        "if it is your own, or your company's proxy signs it, name the authority's file in "
        "SSL_CERT_FILE",
        _CERTIFICATE,
    ),
    "not-tls": _Meaning(
        "down",
        "cannot be reached: it does not speak TLS",
        "write http:// in place of https://, or the port of its https",
    ),
    "tls": _Meaning(
        "down",
        "cannot be reached: it agrees on no way to speak TLS ({why})",
        "update it, or correct the base URL",
    ),
    "tls-closed": _Meaning(
        "down",
        "cannot be reached: it closed the connection before TLS was agreed on",
        "write http:// in place of https:// if it speaks no TLS",
    ),
    "proxy-certificate": _Meaning(
        "down",
        "cannot be used: its own certificate is not trusted ({why})",
        "name the file of its authority in SSL_CERT_FILE, or write http:// before it",
        _PROXY,
    ),
    "proxy-closed": _Meaning(
        "down", "cannot be used: it closed the connection without an answer", _AWAY, _PROXY
    ),
    "proxy-denied": _Meaning("down", "does not open the way to {host} ({why})", _AWAY, _PROXY),
    "proxy-malformed": _Meaning(
        "down", "cannot be used: it does not answer as an HTTP proxy", _AWAY, _PROXY
    ),
    "proxy-name": _Meaning("down", "cannot be reached: its name is not known", _AWAY, _PROXY),
    "proxy-password": _Meaning(
        "rejected",
        "wants a user and a password",
        "name them there, http://USER:PASSWORD@HOST:PORT",
        _PROXY,
    ),
    "proxy-refused": _Meaning("down", "cannot be reached: nothing listens there", _AWAY, _PROXY),
    "proxy-silent": _Meaning("down", "opened no way to {host} within {seconds} s", _AWAY, _PROXY),
    "proxy-tls": _Meaning(
        "down",
        "cannot be used: it does not speak TLS",
        "write http:// before it in place of https://",
        _PROXY,
    ),
    "proxy-unreachable": _Meaning("down", "cannot be reached ({why})", _AWAY, _PROXY),
    "address": _Meaning("down", "cannot be asked by this address ({why})", "correct the base URL"),
    # It was sent, and may have been charged.
    "timeout": _Meaning(
        "timeout", "did not answer within {seconds} s", "allow more time or a smaller output"
    ),
    "closed": _Meaning("server", "broke off {why}", "the request may have been charged{other}"),
    "malformed": _Meaning(
        "bad-response", "sent an answer that is not HTTP", "is the base URL right?"
    ),
    "too-large": _Meaning("bad-response", "sent {why}", "the answer was not read"),
    "tls-port": _Meaning("rejected", "speaks TLS there", "write https:// in place of http://"),
    "page": _Meaning(
        "bad-response",
        "answered with an HTML page",
        "the base URL is that of no API; it mostly ends in /v1",
    ),
    # It was answered, and refused.
    "redirect": _Meaning(
        "rejected",
        "redirects elsewhere, which is not followed so that the key stays here",
        "set the base URL to the right address",
    ),
    "key": _Meaning("rejected", "refuses the key in {key}", "check it, and what it may use"),
    "no-key": _Meaning("rejected", "wants a key", "set {key}"),
    "path": _Meaning(
        "rejected", "has nothing at {path}", "correct the base URL; it mostly ends in /v1"
    ),
    "model": _Meaning("rejected", "does not know the model", "check the model's name"),
}


@dataclass(frozen=True, slots=True)
class Failure:
    """A cause, and the way on which it was met.

    Attributes:
        cause: one of the table.
        endpoint: the server.
        why: a detail, such as "HTTP 403"; nothing that a server or a client wrote.
        seconds: that were waited.
    """

    cause: Cause
    endpoint: Endpoint
    why: str = ""
    seconds: float = 0.0

    def explain(self, error: ModelError) -> None:
        """Let an error say what failed."""
        error.cause, error.told, error.public = self.cause, self.line, self.public

    @property
    def fault(self) -> ModelFault:
        """What kind of failure it is."""
        return _MEANINGS[self.cause].fault

    @property
    def line(self) -> str:
        """What failed, and the cure: one line, without a key."""
        meaning, fields = _MEANINGS[self.cause], self._fields()
        who = meaning.who or self._server()
        return f"{who} {meaning.what}; {meaning.cure}".format(**fields)

    @property
    def public(self) -> str:
        """What failed, for those who must not read where the server is."""
        meaning = _MEANINGS[self.cause]
        hidden = {"host": "its server", "proxy": "the environment", "path": "its address"}
        hidden |= {"why": self.why, "seconds": f"{self.seconds:g}", "key": "the environment"}
        who = meaning.who or ("the proxy, or the server behind it," if self.unclear else "it")
        return f"{who} {meaning.what}".format(**hidden)

    @property
    def unclear(self) -> bool:
        """Whether what answers may be the proxy as well: it reads what is sent."""
        return self.endpoint.proxy is not None and self.endpoint.url.startswith("http:")

    def _server(self) -> str:
        server = f"the model server at {self.endpoint.origin}"
        if self.endpoint.proxy is None or self.cause in {"redirect", "key", "no-key", "model"}:
            return server
        proxy = f"the proxy in {self.endpoint.proxy.variable}"
        return f"{proxy}, or {server} behind it," if self.unclear else f"{server}, through {proxy},"

    def _fields(self) -> Mapping[str, str]:
        parts = urlsplit(self.endpoint.url)
        proxy = self.endpoint.proxy
        return {
            "host": parts.hostname or self.endpoint.origin,
            "path": parts.path,
            "proxy": "" if proxy is None else proxy.variable,
            "variable": f"{parts.scheme.upper()}_PROXY",
            "other": "; does it want https://?" if parts.scheme == "http" else "",
            "key": self.endpoint.key_from or "its variable (key_env)",
            "why": self.why,
            "seconds": f"{self.seconds:g}",
        }


_TLS_PORT = re.compile(
    r"plain HTTP request was sent to HTTPS|HTTP request to an HTTPS server|plain HTTP to an SSL",
    re.IGNORECASE,
)
"""What nginx, Go's servers and Apache say to one who speaks no TLS."""


def cause_of_answer(status: int, text: str, *, page: bool, key: bool) -> Cause | None:
    """The cause that an answer tells of by its status; None where it is none of the table.

    Args:
        status: of the answer.
        text: what it says.
        page: whether it is HTML.
        key: whether a key was sent.
    """
    if status == 407:
        return "proxy-password"
    if 200 <= status < 300:
        return "page" if page else None
    if 300 <= status < 400:
        return "redirect"
    if status in {401, 403}:
        return "key" if key else "no-key"
    if status == 404:
        return "model" if "model" in text.lower() and not page else "path"
    return "tls-port" if status == 400 and _TLS_PORT.search(text) else None


LASTING = frozenset[Cause](
    {
        *("certificate", "certificate-early", "certificate-expired", "certificate-name"),
        *("certificate-self-signed", "certificate-unknown", "not-tls", "tls", "address"),
        *("proxy-certificate", "proxy-malformed", "proxy-tls"),
    }
)
"""What no further attempt can help against."""

NOBODY = frozenset[Cause]({"key", "no-key", "path", "model", "proxy-password"})
"""Of the rejections, those that no other request would be spared."""
