"""The HTTP transport of pass-through: sends a body to the model's server and redacts its key from
the answer."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass

from ecoalign.errors import InputError, ModelError
from ecoalign.models import Endpoint
from ecoalign.models.openai import said, scrub
from ecoalign.models.openai.server import MAX_ANSWER_BYTES, ChatServer, ServerError

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


class UpstreamError(ModelError):
    """The model's server did not answer the request.

    Attributes:
        status: of its answer; None where there was none.
        text: what it said, in one short line without a key; "" if nothing.
    """

    def __init__(self, error: ServerError) -> None:
        super().__init__(
            str(error),
            fault=error.fault,
            billed=error.billed,
            retry_after=error.retry_after,
            param=error.named or None,
            usage=error.usage,
        )
        self.role = "model"
        self.status = error.status
        self.text = error.text
        self.cause, self.told, self.public = error.cause, error.told, error.public


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
        self.counts_streams = True
        """Whether the server may be asked for the usage of a stream; until it rejects that."""
        self.begins_inside = False
        """Whether a stream of its began inside the model's thoughts."""
        self._key = endpoint.key
        self._origin = endpoint.origin
        self._timeout = timeout
        self._server = ChatServer(
            endpoint,
            connections=connections,
            most=most,
            accept="application/json, text/event-stream",
        )

    def __repr__(self) -> str:
        return f"Forwarder({self._origin!r})"

    async def post(self, body: bytes) -> Forwarded:
        """Send `body` to the chat completions; the answer, if it is one.

        If the caller is cancelled, the connection is closed at once.

        Raises:
            UpstreamError: there was no answer, or one that is no success or not JSON.
        """
        try:
            answer, data = await self._server.post(body, self._timeout)
            if data.lstrip()[:1] != b"{":
                shown = scrub(said(data), self._key) or "nothing"
                raise self._server.refused(answer, data, f"sent no JSON object but {shown}")
        except ServerError as error:
            raise UpstreamError(error) from None
        whole = StreamRedactor(self._key).whole(data)
        return Forwarded(answer.status, answer.header("X-Request-Id"), whole)

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
            async with aclosing(self._server.stream(body, self._timeout)) as pieces:
                async for piece in pieces:
                    if shown := redactor.feed(piece):
                        yield shown
        except ServerError as error:
            raise UpstreamError(error) from None
        if shown := redactor.end():
            yield shown

    async def aclose(self) -> None:
        """Close every connection; requests under way fail. Safe to call twice."""
        await self._server.aclose()
