"""Method `base`: a request as it came to the model's server, and the answer as it came back."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ecoalign.errors import InputError, ModelError
from ecoalign.models.http import URL, HttpClient, HttpError
from ecoalign.models.openai._response import (
    MAX_ANSWER_BYTES,
    broken,
    fault_of,
    is_packed,
    named,
    said,
    scrub,
    seconds_to_wait,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from ecoalign.errors import ModelFault
    from ecoalign.models import Endpoint
    from ecoalign.models.http import Exchange

__all__ = ["Forwarded", "Forwarder", "StreamRedactor", "UpstreamError"]

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

    A request is sent once. No redirect is followed. The proxies and certificates are those of the
    environment, as for the model's own calls.

    Args:
        endpoint: the server. One with a user in its address is not taken.
        timeout: seconds that a request may take in all, > 0.
        connections: at most so many requests at once, >= 1; more wait, and the wait counts.
        most: bytes of the body of one answer.

    Raises:
        InputError: there is a user in the address.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        timeout: float,
        connections: int,
        most: int = MAX_ANSWER_BYTES,
    ) -> None:
        if endpoint.has_user:
            raise InputError("the base URL holds a user name or a password; give a key instead")
        self._key = endpoint.key
        self._origin = endpoint.origin
        self._url = URL(endpoint.url)
        self._timeout = timeout
        self._client = HttpClient(
            {**endpoint.headers, "Accept": "application/json, text/event-stream"},
            connections=connections,
            most=most,
            tls=endpoint.tls,
            proxy=endpoint.proxy,
        )

    def __repr__(self) -> str:
        return f"Forwarder({self._origin!r})"

    def _send(self, body: bytes) -> Exchange:
        deadline = asyncio.get_running_loop().time() + self._timeout
        return self._client.exchange("POST", self._url, body, deadline=deadline)

    async def post(self, body: bytes) -> Forwarded:
        """Send `body` to the chat completions; the answer, if it is one.

        If the caller is cancelled, the connection is closed at once.

        Raises:
            UpstreamError: there was no answer, or one that is no success or not JSON.
        """
        try:
            async with self._send(body) as answer:
                data = await answer.whole()
        except HttpError as error:
            failure = self._broken(error)
        else:
            if not 200 <= answer.status < 300 or is_packed(answer.header):
                failure = self._refused(answer, data)
            elif data.lstrip()[:1] != b"{":
                shown = scrub(said(data), self._key) or "nothing"
                failure = self._bad(answer, f"sent no JSON object but {shown}")
            else:
                whole = StreamRedactor(self._key).whole(data)
                return Forwarded(answer.status, answer.header("X-Request-Id"), whole)
        raise failure

    async def stream(self, body: bytes) -> AsyncGenerator[bytes, None]:
        """Send `body`, which asks for a stream; the server-sent events, in pieces as they come.

        A piece may end anywhere. A reader that is slow holds the server back. If the reader is
        cancelled or closes this generator, the connection is closed at once.

        Raises:
            UpstreamError: before the first piece as in `post`, or where the stream is not one of
                events; later, if it breaks off.
        """
        redactor = StreamRedactor(self._key)
        try:
            async with self._send(body) as answer:
                if answer.status == 200 and _is_events(answer) and not is_packed(answer.header):
                    while piece := await answer.piece():
                        if shown := redactor.feed(piece):
                            yield shown
                    if shown := redactor.end():
                        yield shown
                    return
                failure = self._refused(answer, await answer.whole())
        except HttpError as error:
            failure = self._broken(error)
        raise failure

    async def aclose(self) -> None:
        """Close every connection; requests under way fail. Safe to call twice."""
        await self._client.aclose()

    def _broken(self, error: HttpError) -> UpstreamError:
        message, fault, billed = broken(error, self._origin, self._timeout)
        return UpstreamError(message, fault=fault, billed=billed)

    def _bad(self, answer: Exchange, what: str) -> UpstreamError:
        return UpstreamError(
            f"the model server at {self._origin} {what}",
            fault="bad-response",
            billed=True,
            status=answer.status,
        )

    def _refused(self, answer: Exchange, body: bytes) -> UpstreamError:
        status, packed = answer.status, is_packed(answer.header)
        if 200 <= status < 300:
            return self._bad(
                answer, "packed its answer unasked" if packed else "sent no stream of events"
            )
        text = "" if packed else scrub(said(body), self._key)
        fault, billed = fault_of(status, text)
        param = named(body) if status in {400, 422} else ""
        return UpstreamError(
            f"HTTP {status} from the model server at {self._origin}: "
            f"{text or 'no further message'}",
            fault=fault,
            billed=billed,
            status=status,
            text=text,
            retry_after=seconds_to_wait(answer.header),
            param=param if _PARAM.fullmatch(param) else None,
        )


def _is_events(answer: Exchange) -> bool:
    kind = answer.header("Content-Type").partition(";")[0]
    return kind.strip().lower() == "text/event-stream"
