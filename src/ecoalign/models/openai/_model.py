"""Any OpenAI-compatible server."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from ecoalign.errors import InputError, ModelError
from ecoalign.models import _tokens as tokens
from ecoalign.models._endpoint import OPENAI_URL, Endpoint
from ecoalign.models.openai._request import Feature, body_of, features_of, next_to_drop, to_blame
from ecoalign.models.openai._response import (
    MAX_ANSWER_BYTES,
    broken,
    fault_of,
    is_packed,
    named,
    parse,
    said,
    scrub,
    seconds_to_wait,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ecoalign.models._base import ChatRequest, Completion, Usage
    from ecoalign.models.http import Exchange, HttpClient, HttpError

__all__ = ["DEFAULT_TIMEOUT", "OpenAIModel"]

DEFAULT_TIMEOUT = 60.0

CONNECTIONS = 512
"""At once to one server: 32 runs with as many calls each as `max_concurrency` allows, twice."""

_ONE_AT_A_TIME = threading.Lock()
"""Threads that share a model make one client."""

_HINTS = {
    "timeout": "; allow more time or a smaller output",
    "refused": "; is it running, and is the base URL right?",
    "too-large": "; the answer was not read",
}


class RejectionError(ModelError):
    """A 400 or 422: the server did not take the request, which may do without some feature."""

    def __init__(self, message: str, *, text: str, named: str) -> None:
        super().__init__(message, fault="rejected", billed=False)
        self.text = text
        self.named = named


class OpenAIModel:
    """A chat model behind an OpenAI-compatible server (OpenAI, Gemini, Qwen, vLLM, Ollama ...).

    One `complete` is one billed request at most: whoever calls retries, and reserves for each
    attempt. The one exception costs nothing: when a server
    rejects a parameter (HTTP 400 or 422, which is not billed), the request is sent again without
    it, and a rejection that was got over is remembered for as long as this object lives. So
    given up, one by one, are: the JSON schema (for `json_object`, then for the schema in the
    prompt), the name of the output cap, temperature, log-probabilities and seed. What a client
    asked for (`ChatRequest.client`) is never given up: its rejection is an error with a `param`.

    Proxies and certificates are those of the environment. It may be used in several event loops
    and threads, each of which closes its own connections.

    Args:
        model: the model's name on the server.
        base_url: the server, usually ending in /v1; OPENAI_BASE_URL or OpenAI's own by default.
        api_key_env: the environment variable that holds the key. Servers other than OpenAI's
            are used without a key where it is not set.
        timeout: seconds that one attempt may take in all, > 0; a request may say otherwise.
        image_family: whose image tokens to reserve, a key of `tokens.FAMILIES`; by default
            guessed from the model's name. Set it where a server uses a name of its own.

    Raises:
        InputError: a value is out of its range, OpenAI's own server has no key, or the key, the
            address, the proxy or the certificates cannot be used.
    """

    dialect = "full"

    def __init__(
        self,
        model: str,
        *,
        base_url: str | None = None,
        api_key_env: str = "OPENAI_API_KEY",
        timeout: float = DEFAULT_TIMEOUT,
        image_family: str | None = None,
    ) -> None:
        if not model.strip():
            raise InputError('the model has no name; write for example "openai:gpt-4o"')
        if not 0 < timeout < float("inf"):
            raise InputError(f"the timeout is {timeout} s; it must be positive and finite")
        if image_family is not None and image_family not in tokens.FAMILIES:
            known = ", ".join(sorted(tokens.FAMILIES))
            raise InputError(f"unknown image family {image_family!r}; choose one of: {known}")
        self.model = model
        self.timeout = timeout
        self.image_family = image_family or tokens.image_family(model)
        self.endpoint = Endpoint.of(base_url, key_from=api_key_env)
        self._hosted = urlsplit(self.endpoint.url).hostname == urlsplit(OPENAI_URL).hostname
        if self._hosted and not self.endpoint.key:
            raise InputError(
                f"no key for {self.base_url}: set the environment variable {api_key_env}, or name "
                "another server with a base URL"
            )
        self._dropped: frozenset[Feature] = frozenset()
        self._client: HttpClient | None = None

    @property
    def name(self) -> str:
        """ "openai:" and the model's name."""
        return f"openai:{self.model}"

    @property
    def base_url(self) -> str:
        """The server's address, without any user name or password in it."""
        return self.endpoint.base_url

    def __repr__(self) -> str:
        return f"OpenAIModel({self.model!r}, base_url={self.base_url!r})"

    def bound(self, request: ChatRequest) -> Usage:
        """Upper bound of one attempt: see `ecoalign.models._tokens`.

        The schema is counted once, wherever it ends up: in the request or in the prompt.
        """
        return tokens.bound(request, self.image_family)

    async def complete(self, request: ChatRequest) -> Completion:
        """Answer `request` in one attempt.

        Raises:
            ModelError: see `ecoalign.errors`; unbilled only where no token can have been spent.
            InputError: `request.extra` sets a parameter that the budget rests on.
        """
        timeout = self.timeout if request.timeout is None else request.timeout
        client = self._connected()
        started = time.perf_counter()
        data = await self._negotiate(client, request, timeout)
        seconds = time.perf_counter() - started
        return parse(data, seconds=seconds, key=self.endpoint.key, client=request.client)

    async def _negotiate(self, client: HttpClient, request: ChatRequest, limit: float) -> bytes:
        """Send `request`, giving up rejected features until the server takes it or none is left."""
        deadline = asyncio.get_running_loop().time() + limit
        used, dropped = features_of(request), self._dropped
        # OpenAI's newer models know only the new name; every other server knows the old one, and
        # one that ignores a name it does not know would write without any cap.
        cap = "max_completion_tokens" if self._hosted else "max_tokens"
        while True:
            body = body_of(request, self.model, dropped=dropped, cap=cap)
            try:
                data = await self._post(client, body, deadline, limit)
            except RejectionError as rejection:
                feature = next_to_drop(rejection.text, used - dropped)
                if feature is None:
                    raise _blaming(rejection, request.client) from None
                dropped |= {feature}
            else:
                self._dropped |= dropped
                return data

    async def _post(
        self, client: HttpClient, body: Mapping[str, object], deadline: float, limit: float
    ) -> bytes:
        """The body of a successful answer.

        Raises:
            RejectionError: status 400 or 422.
            ModelError: anything else went wrong. Neither the message nor a chained error holds
                the key, whatever the server echoes.
        """
        from ecoalign.models.http import URL, HttpError

        data = json.dumps(body, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        url = URL(self.endpoint.url)
        try:
            async with client.exchange("POST", url, data.encode(), deadline=deadline) as answer:
                content = await answer.whole()
        except HttpError as error:
            failure = self._broken(error, limit)
        else:
            if 200 <= answer.status < 300 and not is_packed(answer.header):
                return content
            failure = self._refused(answer, content)
        raise failure

    def _broken(self, error: HttpError, limit: float) -> ModelError:
        message, fault, billed = broken(error, self.endpoint.origin, limit)
        # To ask again costs as much as the first time did: not for half an answer.
        fault = "bad-response" if error.cause == "closed" else fault
        return ModelError(message + _HINTS.get(error.cause, ""), fault=fault, billed=billed)

    def _refused(self, answer: Exchange, content: bytes) -> ModelError:
        status, origin = answer.status, self.endpoint.origin
        if 200 <= status < 300:
            return ModelError(
                f"the model server at {origin} packed its answer unasked",
                fault="bad-response",
                billed=True,
            )
        text = "" if is_packed(answer.header) else said(content)
        words = scrub(text, self.endpoint.key) or "no further message"
        shown = f"HTTP {status} from {origin}: {words}"
        fault, billed = fault_of(status, text)
        if status in {400, 422}:
            message = f"the server did not take the request. {shown}"
            return RejectionError(message, text=text, named=named(content))
        waits = fault in {"rate-limited", "server"}
        return ModelError(
            f"{self._advice(status, fault)}. {shown}",
            fault=fault,
            billed=billed,
            retry_after=seconds_to_wait(answer.header) if waits else None,
        )

    def _advice(self, status: int, fault: str) -> str:
        if fault == "server":
            return "the server failed"
        if fault == "rate-limited":
            return "the server limits the rate of requests"
        if 300 <= status < 400:
            return (
                "the server redirects elsewhere, which is not followed so that the key stays here; "
                "set the base URL to the right address"
            )
        key = self.endpoint.key_from
        refused = f"the key was refused; check {key} and what the key may use"
        return {
            401: refused,
            403: refused,
            404: "no such model or address; check the model's name and the base URL",
            407: "the proxy wants a user and a password; put them into its address",
            408: "the server timed out",
            413: "the request is too large for the server; use a smaller image side",
            429: "the account's quota is used up; check plan and billing",
        }.get(status, "the server refused the request")

    def _connected(self) -> HttpClient:
        """The client, which takes a while to import: before any time of the server's runs."""
        from ecoalign.models.http import HttpClient

        with _ONE_AT_A_TIME:
            if self._client is None:
                self._client = HttpClient(
                    self.endpoint.headers,
                    connections=CONNECTIONS,
                    most=MAX_ANSWER_BYTES,
                    tls=self.endpoint.tls,
                    proxy=self.endpoint.proxy,
                )
            return self._client

    async def aclose(self) -> None:
        """Release the connections of the running event loop.

        Safe to call twice; a later call opens new ones.
        """
        if self._client is not None:
            await self._client.aclose()


def _blaming(rejection: RejectionError, client: Mapping[str, object]) -> ModelError:
    """`rejection`, or the error that names the client's parameter that it is about."""
    param = to_blame(rejection.text, rejection.named, client)
    if param is None:
        return rejection
    return ModelError(
        f"the server did not take what was asked for with {param}. {rejection}",
        fault="rejected",
        billed=False,
        param=param,
    )
