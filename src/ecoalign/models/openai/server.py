"""One server of chat completions: what is sent to it, and what its failures mean."""

from __future__ import annotations

import asyncio
import re
import zlib
from collections.abc import AsyncGenerator, Mapping

from ecoalign.errors import ModelError, ModelFault
from ecoalign.models._base import Usage
from ecoalign.models._causes import Failure, cause_of_answer
from ecoalign.models._endpoint import Endpoint
from ecoalign.models._speech import withheld
from ecoalign.models.http import URL, Exchange, HttpClient, HttpError
from ecoalign.models.openai._response import named, said, scrub, seconds_to_wait, usage_in

MAX_ANSWER_BYTES = 16 * 1024 * 1024
"""A completion with log-probabilities is at most a few MB; anything larger is not one."""

_BAD: ModelFault = "bad-response"

_LARGE = "the request is too large for the server; use a smaller image side"

_UNTOUCHED: Mapping[int, str] = {
    501: "the server has no such function",
    503: "the server is loading or overloaded",
    529: "the server is overloaded",
}
"""What a server sends before it does any work, so that nothing can have been used."""

_UNABLE = re.compile(
    r"(?:not|n't) (?:yet )?(?:supported|implemented)|unsupported|(?:does|do) ?(?:not|n't) support"
    r"|unexpected keyword argument|NotImplementedError",
    re.IGNORECASE,
)
"""What a 5xx says that refuses what was asked before any of it was done."""

_GENERATED = re.compile(
    r"failed_generation|json_validate_failed"
    r"|generated (?:json|output|text)\b.{0,60}\b(?:not|invalid)",
    re.IGNORECASE | re.DOTALL,
)
"""What a server says that generated a text and then rejected it (Groq): that was no request that it
cannot take, and it was not free."""

_NO_FILTER = frozenset({401, 404, 407, 413})

_COMPRESSED = "sent a compressed answer, although none was requested"

_PARAM = re.compile(r"[A-Za-z0-9_.\[\]-]{1,100}")


class ServerError(ModelError):
    """A server failed, or its answer is not usable. Neither the message nor a chained error holds
    the key.

    Attributes:
        status: of its answer; None where there was none.
        said: what it said, as it came.
        text: the same in one short line without a key.
        named: the parameter that it named in a field of its own; "" if none.
    """

    status: int | None = None
    said = text = named = ""


class ChatServer:
    """Sends chat completion requests to one server, each of them once.

    Args:
        endpoint: the server.
        connections: at most so many requests at once, >= 1; more wait, and the wait counts.
        most: bytes of the body of one answer.
        accept: the kinds of answers that are wanted.
        closed: the fault where the server breaks off; for a model it is "bad-response", as asking
            again would cost as much as the first time did.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        connections: int,
        most: int,
        accept: str = "application/json",
        closed: ModelFault = "server",
    ) -> None:
        self._endpoint = endpoint
        self._closed = closed
        self._url = URL(endpoint.url)
        self._client = HttpClient(
            {**endpoint.headers, "Accept": accept},
            connections=connections,
            most=most,
            tls=endpoint.tls,
            proxy=endpoint.proxy,
        )

    async def post(
        self, body: bytes, limit: float, deadline: float | None = None
    ) -> tuple[Exchange, bytes]:
        """A successful answer, and its body.

        Args:
            body: the request.
            limit: seconds that it may take in all.
            deadline: of the running loop's time, where some of them have passed already.

        Raises:
            ServerError: there was none.
        """
        try:
            async with self._send(body, limit, deadline) as answer:
                content = await answer.whole()
        except HttpError as error:
            failure = self._broken(error, limit)
        else:
            plain = self._plain(answer, content)
            page = plain is not None and plain.lstrip()[:1] == b"<"
            if 200 <= answer.status < 300 and plain is not None and not page:
                return answer, plain
            failure = self.refused(answer, content, _COMPRESSED)
        raise failure

    async def stream(self, body: bytes, limit: float) -> AsyncGenerator[bytes, None]:
        """The body of a stream of server-sent events, in pieces as they come.

        Raises:
            ServerError: as in `post`, or the answer is no such stream, or it breaks off.
        """
        try:
            async with self._send(body, limit, None) as answer:
                kind = answer.header("Content-Type").partition(";")[0].strip().lower()
                events = answer.status == 200 and kind == "text/event-stream"
                if events and answer.encoding == "identity":
                    while piece := await answer.piece():
                        yield piece
                    return
                wrong = _COMPRESSED if events else "sent no stream of events"
                failure = self.refused(answer, await answer.whole(), wrong)
        except HttpError as error:
            failure = self._broken(error, limit)
        raise failure

    def _send(self, body: bytes, limit: float, deadline: float | None) -> Exchange:
        end = asyncio.get_running_loop().time() + limit if deadline is None else deadline
        return self._client.exchange("POST", self._url, body, deadline=end)

    async def aclose(self) -> None:
        """Close the connections of the running loop; requests under way fail."""
        await self._client.aclose()

    def _broken(self, error: HttpError, limit: float) -> ServerError:
        met = Failure(error.cause, self._endpoint, error.why, error.seconds or limit)
        fault = self._closed if error.cause == "closed" else met.fault
        failure = ServerError(met.line, fault=fault, billed=error.sent)
        met.explain(failure)
        return failure

    def refused(self, answer: Exchange, content: bytes, wrong: str) -> ServerError:
        """What an answer means that is not one that was asked for.

        Args:
            answer, content: the answer and its body.
            wrong: what is wrong with it if its status is that of a success.
        """
        status, origin = answer.status, self._endpoint.origin
        content = self._plain(answer, content) or b""
        text = said(content)
        shown = scrub(text, self._endpoint.key)
        usage: Usage | None = None
        met = self._met(status, content, text)
        if 200 <= status < 300:
            fault, billed = _BAD, True
            message = met.line if met else f"the model server at {origin} {wrong}"
        else:
            advice, fault, billed = self._meaning(status, text)
            met = None if fault == "filtered" else met
            if met is not None:
                advice, fault = met.line, met.fault
            elif self._is_unclear(content):
                proxy = self._endpoint.proxy
                origin = f"the proxy in {proxy and proxy.variable}, or from {origin} behind it"
                advice = advice.replace("the server", "the proxy, or the server behind it,", 1)
            usage = usage_in(content)
            billed = billed or usage is not None
            message = f"{advice}. HTTP {status} from {origin}: {shown or 'no further message'}"
        wait = seconds_to_wait(answer.header)
        error = ServerError(message, fault=fault, billed=billed, retry_after=wait, usage=usage)
        error.status, error.said, error.text = status, text, shown
        if met is not None:
            met.explain(error)
        if status in {400, 422} and _PARAM.fullmatch(param := named(content)):
            error.named = param
        return error

    def _plain(self, answer: Exchange, content: bytes) -> bytes | None:
        """The body without its compression, which nobody asked for; None where it cannot be had,
        or is larger than an answer may be."""
        if answer.encoding == "identity":
            return content
        if answer.encoding not in {"gzip", "x-gzip", "deflate"}:
            return None
        unpacker = zlib.decompressobj(wbits=zlib.MAX_WBITS + 32)
        try:
            plain = unpacker.decompress(content, self._client.most)
        except zlib.error:
            return None
        return plain if unpacker.eof else None

    def _meaning(self, status: int, text: str) -> tuple[str, ModelFault, bool]:
        """What to do, the fault, and whether tokens may have been spent."""
        if status == 429 and "insufficient_quota" in text:
            return "the account's quota is used up; check plan and billing", "rejected", False
        if status == 429:
            return "the server limits the rate of requests", "rate-limited", False
        if status == 408:
            return "the server timed out", "timeout", True
        if status not in _NO_FILTER and withheld(text):
            return "the server's content filter refused the request", "filtered", False
        if (status >= 500 or status in {400, 422}) and _GENERATED.search(text):
            return "the model did not keep to the form that was asked for", _BAD, True
        if status in _UNTOUCHED:
            return _UNTOUCHED[status], "server", False
        if status >= 500 and _UNABLE.search(text):
            return "the server cannot do what was asked", "rejected", False
        if status >= 500:
            return "the server failed", "server", True
        if status in {400, 422}:
            return "the server did not take the request", "rejected", False
        return _LARGE if status == 413 else "the server refused the request", "rejected", False

    def _is_unclear(self, content: bytes) -> bool:
        """Whether a proxy that reads what is sent may have answered this in place of the server."""
        proxy = self._endpoint.proxy
        plain = proxy is not None and self._endpoint.url.startswith("http:")
        return plain and content.lstrip()[:1] not in {b"{", b"["}

    def _met(self, status: int, content: bytes, text: str) -> Failure | None:
        """The cause in the table that an answer of this status tells of."""
        cause = cause_of_answer(
            status,
            text + content[:2000].decode("utf-8", "replace"),
            page=content.lstrip()[:1] == b"<",
            key=bool(self._endpoint.key or self._endpoint.has_user),
        )
        if cause in {"key", "no-key"} and self._is_unclear(content):
            cause = None
        return None if cause is None else Failure(cause, self._endpoint, f"HTTP {status}")
