"""Why a connection could not be made, by what aiohttp raises: nothing was sent."""

from __future__ import annotations

import errno
import os
import re
import socket
import ssl
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import aiohttp

from ecoalign.models._causes import Cause

if TYPE_CHECKING:
    from ecoalign.models._endpoint import Proxy

_NOT_TLS: Final = re.compile(
    "WRONG_VERSION|HTTP_REQUEST|HTTPS_PROXY|RECORD_LAYER|PACKET_LENGTH|WRONG_SSL|UNEXPECTED_MESSAGE"
    "|UNKNOWN_PROTOCOL|RECORD_OVERFLOW|DATA_LENGTH"
)
"""What OpenSSL calls bytes that are not of TLS."""

_CERTIFICATE: Final[dict[int, Cause]] = {
    9: "certificate-early",
    10: "certificate-expired",
    18: "certificate-self-signed",
    2: "certificate-unknown",
    19: "certificate-unknown",
    20: "certificate-unknown",
    21: "certificate-unknown",
    62: "certificate-name",
    64: "certificate-name",
}
"""By the codes of X509_verify_cert."""

_FEW: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

_OWN: Final[dict[Cause, Cause]] = {
    "name": "proxy-name",
    "refused": "proxy-refused",
    "unreachable": "proxy-unreachable",
    "silent": "proxy-silent",
    "not-tls": "proxy-tls",
    "tls": "proxy-tls",
    "tls-closed": "proxy-closed",
    "address": "proxy-unreachable",
}
"""What a cause is where the connection was to be one to the proxy."""


def unsent(error: BaseException | None, proxy: Proxy | None) -> tuple[Cause, str]:
    """The cause, and a detail of it; "" where the cause says it all.

    Args:
        error: what aiohttp raised before there was a connection.
        proxy: on the way.
    """
    if proxy is not None:
        if isinstance(error, aiohttp.ClientHttpProxyError):
            denied: Cause = "proxy-password" if error.status == 407 else "proxy-denied"
            return denied, f"HTTP {error.status}"
        if isinstance(error, aiohttp.ClientResponseError):
            return "proxy-malformed", ""
    cause, why = _direct(error)
    if proxy is None or not _is_to(error, proxy):
        return cause, why
    if cause.startswith("certificate"):
        return "proxy-certificate", why
    return _OWN.get(cause, cause), why


def _is_to(error: BaseException | None, proxy: Proxy) -> bool:
    """Whether it was the connection to the proxy that failed, and not what it was to lead to."""
    if isinstance(error, aiohttp.ClientConnectorError | aiohttp.ClientConnectorCertificateError):
        parts = urlsplit(proxy.url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        return (error.host, error.port) == (parts.hostname, port)
    # Before the way was open nobody else was spoken to.
    return True


def _direct(error: BaseException | None) -> tuple[Cause, str]:
    beneath = getattr(error, "os_error", None) or getattr(error, "certificate_error", None)
    beneath = beneath or (error.__cause__ if error is not None else None) or error
    if isinstance(beneath, ssl.SSLCertVerificationError):
        why = getattr(beneath, "verify_message", "") or "it cannot be verified"
        return _CERTIFICATE.get(getattr(beneath, "verify_code", 0), "certificate"), why
    if isinstance(beneath, ssl.SSLError):
        if isinstance(beneath, ssl.SSLEOFError | ssl.SSLZeroReturnError):
            return "tls-closed", ""
        reason = getattr(beneath, "reason", None) or type(beneath).__name__
        return ("not-tls", "") if _NOT_TLS.search(reason) else ("tls", reason)
    if isinstance(error, TimeoutError):
        return "silent", ""
    if isinstance(beneath, socket.gaierror):
        return "name", ""
    if isinstance(error, aiohttp.ClientConnectorError) and error.ssl and _closed(beneath):
        return "tls-closed", ""
    if isinstance(beneath, aiohttp.ServerDisconnectedError | ConnectionResetError):
        return "tls-closed", ""  # only a proxy is spoken to before that
    if isinstance(beneath, OSError):
        return _of_system(beneath)
    if isinstance(beneath, ValueError):
        return "address", type(beneath).__name__
    return "unreachable", type(beneath).__name__


def _closed(error: BaseException | None) -> bool:
    return isinstance(error, ConnectionError) and not isinstance(error, ConnectionRefusedError)


def _of_system(error: OSError) -> tuple[Cause, str]:
    """By the number of the error, or by those that are told of several addresses together."""
    numbers = [error.errno] if error.errno else re.findall(r"\[Errno (\d+)\]", str(error))
    known = {int(number) for number in numbers}
    if errno.ECONNREFUSED in known:
        return "refused", ""
    why = os.strerror(min(known)) if known else type(error).__name__
    return ("descriptors" if known & _FEW else "unreachable"), why.lower()
