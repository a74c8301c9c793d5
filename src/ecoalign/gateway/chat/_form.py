"""How an answer is written down: as a chat completion here, as a response beside it.

Every route makes completions and chunks of them; a form turns each into what its client reads.
"""

from __future__ import annotations

from typing import Protocol

from ecoalign.gateway.chat._protocol import Json
from ecoalign.gateway.chat._response import DONE, dumped, error_event


class Form(Protocol):
    """What a client is sent of one answer, whole or in a stream."""

    def whole(self, completion: Json) -> Json:
        """The body of a response."""
        ...

    def begin(self) -> bytes:
        """What a stream begins with."""
        ...

    def chunk(self, chunk: Json) -> bytes:
        """The events for a chunk of the answer."""
        ...

    def end(self) -> bytes:
        """What a stream ends with."""
        ...

    def error(self, error: BaseException) -> bytes:
        """The event for a failure after the stream has begun; the official clients raise it."""
        ...


class ChatForm:
    """Chat completions as they are."""

    def whole(self, completion: Json) -> Json:
        """See `Form`."""
        return completion

    def begin(self) -> bytes:
        """See `Form`."""
        return b""

    def chunk(self, chunk: Json) -> bytes:
        """See `Form`."""
        return b"data: " + dumped(chunk) + b"\n\n"

    def end(self) -> bytes:
        """See `Form`."""
        return DONE

    def error(self, error: BaseException) -> bytes:
        """See `Form`."""
        return error_event(error)
