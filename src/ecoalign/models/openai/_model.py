"""Any OpenAI-compatible server, through the official `openai` client."""

from __future__ import annotations

import asyncio
import os
import time
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

from ecoalign.errors import InputError, ModelError
from ecoalign.models import _tokens as tokens
from ecoalign.models.openai._request import Feature, body_of, features_of, next_to_drop, to_blame
from ecoalign.models.openai._response import parse

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ecoalign.models._base import ChatRequest, Completion, Usage
    from ecoalign.models.openai._transport import Line, RejectionError

__all__ = ["DEFAULT_TIMEOUT", "OpenAIModel"]

DEFAULT_TIMEOUT = 60.0

OPENAI_URL = "https://api.openai.com/v1"

# Sent to servers that need no key; the client insists on one.
NO_KEY = "no-key-needed"


class OpenAIModel:
    """A chat model behind an OpenAI-compatible server (OpenAI, Gemini, Qwen, vLLM, Ollama ...).

    One `complete` is one billed request at most. The client's own retries are off: whoever calls
    retries, and reserves for each attempt. The one exception costs nothing: when a server
    rejects a parameter (HTTP 400 or 422, which is not billed), the request is sent again without
    it, and a rejection that was got over is remembered for as long as this object lives. So
    given up, one by one, are: the JSON schema (for `json_object`, then for the schema in the
    prompt), the name of the output cap, temperature, log-probabilities and seed. What a client
    asked for (`ChatRequest.client`) is never given up: its rejection is an error with a `param`.

    Args:
        model: the model's name on the server.
        base_url: the server, usually ending in /v1; OPENAI_BASE_URL or OpenAI's own by default.
        api_key_env: the environment variable that holds the key. Servers other than OpenAI's
            are used without a key where it is not set.
        timeout: seconds that one attempt may take in all, > 0; a request may say otherwise.
        image_family: whose image tokens to reserve, a key of `tokens.FAMILIES`; by default
            guessed from the model's name. Set it where a server uses a name of its own.

    Raises:
        InputError: a value is out of its range, or OpenAI's own server has no key.
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
        self._url = _checked_url(base_url or os.environ.get("OPENAI_BASE_URL") or OPENAI_URL)
        self._key_env = api_key_env
        self._key = os.environ.get(api_key_env, "").strip() or NO_KEY
        self._hosted = urlsplit(self._url).hostname == urlsplit(OPENAI_URL).hostname
        if self._hosted and self._key == NO_KEY:
            raise InputError(
                f"no key for {self._url}: set the environment variable {api_key_env}, or name "
                "another server with a base URL"
            )
        self._dropped: frozenset[Feature] = frozenset()
        self._line: Line | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def name(self) -> str:
        """ "openai:" and the model's name."""
        return f"openai:{self.model}"

    @property
    def base_url(self) -> str:
        """The server's address, without any user name or password in it."""
        parts = urlsplit(self._url)
        return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))

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
        # Importing and setting up the client takes time that is not the server's.
        line = self._connected()
        started = time.perf_counter()
        try:
            # The client's timeouts are per read, which a server that drips bytes never trips.
            async with asyncio.timeout(timeout):
                data = await self._negotiate(line, request, timeout)
        except TimeoutError:
            data = None
        if data is None:
            raise ModelError(
                f"the model server at {self.base_url} did not answer within {timeout:g} s; allow "
                "more time or a smaller output",
                fault="timeout",
                billed=True,
            )
        seconds = time.perf_counter() - started
        return parse(data, seconds=seconds, key=self._key, client=request.client)

    async def _negotiate(self, line: Line, request: ChatRequest, limit: float) -> bytes:
        """Send `request`, giving up rejected features until the server takes it or none is left."""
        from ecoalign.models.openai._transport import RejectionError, post

        used, dropped = features_of(request), self._dropped
        # OpenAI's newer models know only the new name; every other server knows the old one, and
        # one that ignores a name it does not know would write without any cap.
        cap = "max_completion_tokens" if self._hosted else "max_tokens"
        while True:
            body = body_of(request, self.model, dropped=dropped, cap=cap)
            try:
                data = await post(line, body, limit=limit, key=self._key, key_env=self._key_env)
            except RejectionError as rejection:
                feature = next_to_drop(rejection.text, used - dropped)
                if feature is None:
                    raise _blaming(rejection, request.client) from None
                dropped |= {feature}
            else:
                self._dropped |= dropped
                return data

    def _connected(self) -> Line:
        """The line of the running event loop: connections do not outlive their loop."""
        from ecoalign.models.openai._transport import open_line

        loop = asyncio.get_running_loop()
        if self._line is None or self._loop is not loop:
            self._line = open_line(self._url, self._key, self.timeout)
            self._loop = loop
        return self._line

    async def aclose(self) -> None:
        """Release connections. Safe to call twice; a later call opens new ones."""
        line, self._line = self._line, None
        if line is not None:
            await line.aclose()


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


def _checked_url(url: str) -> str:
    try:
        parts = urlsplit(url)
        valid = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        valid = False
    if not valid:
        shown = url.rpartition("@")[2]
        raise InputError(
            f"the base URL {shown!r} is not one; it looks like http://localhost:8000/v1"
        )
    return url
