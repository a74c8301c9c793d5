"""Method `base`: a request as it came to the model's server, and the answer as it came back."""

from __future__ import annotations

import asyncio
import json
import re
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from ecoalign.errors import InputError, ModelError
from ecoalign.models.openai._response import said, scrub, seconds_to_wait
from ecoalign.wire.connection import Head, WireError
from ecoalign.wire.pool import Pool

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from ecoalign.errors import ModelFault
    from ecoalign.wire.connection import Connection

__all__ = ["MAX_ANSWER_BYTES", "Forwarded", "Forwarder", "StreamRedactor", "UpstreamError"]

_SHOWN = b"[key]"

# A shorter one is no secret, and its letters may well stand in an answer.
_SHORTEST = 8


class StreamRedactor:
    """Takes a secret out of bytes, whole or in pieces that may end anywhere.

    Args:
        secret: under eight bytes it is left alone.
    """

    def __init__(self, secret: str) -> None:
        coded = secret.encode()
        self._secret = coded if len(coded) >= _SHORTEST else b""
        self._held = b""

    def whole(self, data: bytes) -> bytes:
        """`data` without the secret."""
        return data.replace(self._secret, _SHOWN) if self._secret else data

    def feed(self, piece: bytes) -> bytes:
        """What can be shown so far; what may be the start of the secret waits for the rest."""
        data = self.whole(self._held + piece)
        cut = len(data) - self._begun(data)
        self._held = data[cut:]
        return data[:cut]

    def end(self) -> bytes:
        """What was waiting when there are no more pieces."""
        rest, self._held = self._held, b""
        return rest

    def _begun(self, data: bytes) -> int:
        """How many of the last bytes are the first of the secret, but not all of it."""
        most = min(len(self._secret) - 1, len(data))
        if most < 1 or self._secret[:1] not in data[-most:]:
            return 0
        return next((n for n in range(most, 0, -1) if data.endswith(self._secret[:n])), 0)


MAX_ANSWER_BYTES = 16 * 1024 * 1024
"""A completion with log-probabilities is at most a few MB; anything larger is not one."""

_FAULTS: dict[str, tuple[ModelFault, bool]] = {
    "refused": ("down", False),
    "closed": ("server", True),
    "malformed": ("bad-response", True),
    "too-large": ("bad-response", True),
}
"""What the wire says: the fault, and whether tokens may have been spent."""

_PARAM = re.compile(r"[A-Za-z0-9_.\[\]-]{1,100}")


class UpstreamError(ModelError):
    """The model's server did not answer the request.

    Attributes:
        status: of its answer; None where there was none.
        text: what it said, in one short line without a key; "" if nothing.
    """

    def __init__(
        self,
        message: str,
        *,
        fault: ModelFault,
        billed: bool,
        status: int | None = None,
        text: str = "",
        retry_after: float | None = None,
        param: str | None = None,
    ) -> None:
        super().__init__(message, fault=fault, billed=billed, retry_after=retry_after, param=param)
        self.role = "model"
        self.status = status
        self.text = text


@dataclass(frozen=True, slots=True)
class Forwarded:
    """An answer of the server: a JSON object, as far as its first byte tells.

    Attributes:
        status: from 200 to 299.
        request_id: the server's name for the request; "" where it gave none.
        body: as it came.
    """

    status: int
    request_id: str
    body: bytes


class Forwarder:
    """The way to one server, whose address and key no request can change.

    A request is sent once. Connections are kept open, and one that the server has closed
    meanwhile is not used; where the closing crosses with the request, nobody knows whether it was
    taken, so that is an error and not sent again. No redirect is followed, no proxy of the
    environment used. Certificates are checked against the system's; SSL_CERT_FILE adds others.

    Belongs to the event loop in which it is first used.

    Args:
        base_url: the server, usually ending in /v1.
        api_key: sent as the bearer token; None where the server needs none.
        timeout: seconds that a request may take in all, > 0.
        connections: at most so many requests at once, >= 1; more wait, and the wait counts.
        most: bytes of one answer.

    Raises:
        InputError: the address or the key cannot be sent.
    """

    def __init__(
        self,
        base_url: str,
        api_key: str | None,
        *,
        timeout: float,
        connections: int,
        most: int = MAX_ANSWER_BYTES,
    ) -> None:
        self._key = api_key or ""
        self._timeout = timeout
        self._origin, pool, self._head = _address(base_url, self._key)
        self._pool = Pool(*pool, tls=_tls(base_url), connections=connections, most=most)

    def __repr__(self) -> str:
        return f"Forwarder({self._origin!r})"

    async def post(self, body: bytes) -> Forwarded:
        """Send `body` to the chat completions; the answer, if it is one.

        If the caller is cancelled, the connection is closed at once.

        Raises:
            UpstreamError: there was no answer, or one that is no success or not JSON.
        """
        connection: Connection | None = None
        try:
            async with asyncio.timeout(self._timeout):
                connection = await self._pool.take()
                try:
                    connection.send(b"%s%d\r\n\r\n" % (self._head, len(body)), body)
                    head = await connection.head()
                    data = await connection.whole()
                finally:
                    self._pool.give(connection)
        except TimeoutError:
            raise self._late(sent=connection is not None) from None
        except WireError as error:
            raise self._broken(error) from None
        if not 200 <= head.status < 300:
            raise self._refused(head, data)
        self._require_plain(head)
        if data.lstrip()[:1] != b"{":
            raise self._bad(head, f"sent no JSON object but {self._shown(data)}")
        return Forwarded(
            head.status, head.get(b"x-request-id"), StreamRedactor(self._key).whole(data)
        )

    async def stream(self, body: bytes) -> AsyncGenerator[bytes, None]:
        """Send `body`, which asks for a stream; the server-sent events, in pieces as they come.

        A piece may end anywhere. A reader that is slow holds the server back. If the reader is
        cancelled or closes this generator, the connection is closed at once.

        Raises:
            UpstreamError: before the first piece as in `post`, or where the stream is not one of
                events; later, if it breaks off.
        """
        deadline = asyncio.get_running_loop().time() + self._timeout
        connection: Connection | None = None
        try:
            async with asyncio.timeout_at(deadline):
                connection = await self._pool.take()
                connection.send(b"%s%d\r\n\r\n" % (self._head, len(body)), body, streams=True)
                head = await connection.head()
                if head.status != 200 or not _is_events(head):
                    raise self._refused(head, await connection.whole())
                self._require_plain(head)
            hiding = StreamRedactor(self._key)
            while True:
                async with asyncio.timeout_at(deadline):
                    piece = await connection.some()
                shown = hiding.feed(piece) if piece else hiding.end()
                if shown:
                    yield shown
                if not piece:
                    return
        except TimeoutError:
            raise self._late(sent=connection is not None) from None
        except WireError as error:
            raise self._broken(error) from None
        finally:
            if connection is not None:
                self._pool.give(connection)

    async def aclose(self) -> None:
        """Close every connection; requests under way fail. Safe to call twice."""
        self._pool.close()

    def _late(self, *, sent: bool) -> UpstreamError:
        return UpstreamError(
            f"the model server at {self._origin} did not answer within {self._timeout:g} s",
            fault="timeout",
            billed=sent,
        )

    def _broken(self, error: WireError) -> UpstreamError:
        fault, billed = _FAULTS[error.cause]
        message = f"the model server at {self._origin} failed: {error}"
        return UpstreamError(message, fault=fault, billed=billed)

    def _require_plain(self, head: Head) -> None:
        encoding = head.get(b"content-encoding").lower()
        if encoding not in {"", "identity"}:
            raise self._bad(head, f"packed its answer ({scrub(encoding, self._key)}) unasked")

    def _bad(self, head: Head, what: str) -> UpstreamError:
        return UpstreamError(
            f"the model server at {self._origin} {what}",
            fault="bad-response",
            billed=True,
            status=head.status,
        )

    def _shown(self, body: bytes) -> str:
        return scrub(said(body), self._key) or "nothing"

    def _refused(self, head: Head, body: bytes) -> UpstreamError:
        status = head.status
        if 200 <= status < 300:
            return self._bad(head, "sent no stream of events")
        text = scrub(said(body), self._key)
        fault, billed = _fault_of(status, text)
        return UpstreamError(
            f"HTTP {status} from the model server at {self._origin}: "
            f"{text or 'no further message'}",
            fault=fault,
            billed=billed,
            status=status,
            text=text,
            retry_after=seconds_to_wait(lambda name: head.get(name.encode())),
            param=_param_of(body) if status in {400, 422} else None,
        )


def _fault_of(status: int, text: str) -> tuple[ModelFault, bool]:
    """The fault, and whether tokens may have been spent."""
    if status == 429:
        return ("rejected" if "insufficient_quota" in text else "rate-limited"), False
    if status == 408:
        return "timeout", True
    if status >= 500:
        return "server", True
    return "rejected", False


def _param_of(body: bytes) -> str | None:
    """The parameter that the server names in its error."""
    try:
        answer: object = json.loads(body)
    except (ValueError, RecursionError):
        return None
    error = answer.get("error") if isinstance(answer, dict) else None
    param = error.get("param") if isinstance(error, dict) else None
    return param if isinstance(param, str) and _PARAM.fullmatch(param) else None


def _is_events(head: Head) -> bool:
    kind = head.get(b"content-type").partition(";")[0]
    return kind.strip().lower() == "text/event-stream"


def _address(base_url: str, key: str) -> tuple[str, tuple[str, int], bytes]:
    """The origin, host and port, and the head of every request up to its length.

    Raises:
        InputError: there is something in them that no HTTP request can hold.
    """
    try:
        parts = urlsplit(base_url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        host, port = "", None
    if not host or parts.scheme not in {"http", "https"} or port == 0:
        raise InputError(
            f"the base URL {base_url.rpartition('@')[2]!r} is not one; it looks like "
            "http://localhost:8000/v1"
        )
    if parts.username is not None or parts.password is not None:
        raise InputError("the base URL holds a user name or a password; give a key instead")
    path = parts.path.rstrip("/") + "/chat/completions"
    target = f"{path}?{parts.query}" if parts.query else path
    lines = [
        f"POST {target} HTTP/1.1",
        f"host: {parts.netloc}",
        "user-agent: ecoalign",
        "accept: application/json, text/event-stream",
        "accept-encoding: identity",
        "content-type: application/json",
    ]
    if key:
        lines.append(f"authorization: Bearer {key}")
    if not all(line.isascii() and line.isprintable() for line in lines) or " " in target:
        raise InputError("the base URL or the key holds characters that cannot be sent")
    head = "\r\n".join([*lines, "content-length: "]).encode()
    port = port or (443 if parts.scheme == "https" else 80)
    return f"{parts.scheme}://{parts.netloc}", (host, port), head


def _tls(base_url: str) -> ssl.SSLContext | None:
    if urlsplit(base_url).scheme != "https":
        return None
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context
