"""Any OpenAI-compatible server."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from ecoalign.errors import InputError, ModelError
from ecoalign.models import _tokens as tokens
from ecoalign.models._base import ChatRequest, Completion, Usage
from ecoalign.models._endpoint import OPENAI_URL, Endpoint
from ecoalign.models._known import KnownTokens
from ecoalign.models._profile import Profile, shipped_profile
from ecoalign.models.openai._request import Feature, body_of, features_of, next_to_drop, to_blame
from ecoalign.models.openai._response import parse

if TYPE_CHECKING:
    from ecoalign.models.openai.server import ChatServer, ServerError

DEFAULT_TIMEOUT = 60.0

CONNECTIONS = 512
"""At once to one server: 32 runs with as many calls each as `max_concurrency` allows, twice."""

_ONE_AT_A_TIME = threading.Lock()
"""Threads that share a model share its connections' owner."""


class OpenAIModel:
    """A chat model behind an OpenAI-compatible server (OpenAI, Gemini, Qwen, vLLM, Ollama ...).

    One `complete` is at most one billed request: the caller retries, and reserves for each
    attempt. The one exception costs nothing: when a server
    rejects a parameter (HTTP 400 or 422, which is not billed), the request is sent again without
    it, and the object remembers which features the server rejects. Dropped
    in this way, one by one, are: the JSON schema (for `json_object`, then for the schema in the
    prompt), the name of the output cap, temperature, log-probabilities and seed. What a client
    asked for (`ChatRequest.client`) is never dropped: its rejection is an error with a `param`.

    Proxies and certificates are those of the environment. It may be used in several event loops
    and threads, each of which closes its own connections.

    Args:
        model: the model's name on the server.
        base_url: the server, usually ending in /v1; OPENAI_BASE_URL or OpenAI's own by default.
        api_key_env: the environment variable that holds the key. Servers other than OpenAI's
            are used without a key where it is not set.
        timeout: seconds that one attempt may take in all, > 0; a request may say otherwise.
        profile: what it can do; by default what is known of the family that its name tells.
        image_family: in place of the profile's, one of `ecoalign.models._tokens.FAMILIES`, where
            a server uses a name of its own.

    Raises:
        InputError: a value is out of its range, OpenAI's own server has no key, or the key, the
            address, the proxy or the certificates cannot be used.
    """

    def __init__(
        self,
        model: str,
        *,
        base_url: str | None = None,
        api_key_env: str = "OPENAI_API_KEY",
        timeout: float = DEFAULT_TIMEOUT,
        profile: Profile | None = None,
        image_family: str | None = None,
    ) -> None:
        if not model.strip():
            raise InputError('the model has no name; write for example "openai:gpt-4o"')
        if not 0 < timeout < float("inf"):
            raise InputError(f"the timeout is {timeout} s; it must be positive and finite")
        self.profile = profile or shipped_profile(model)
        if image_family is not None:
            self.profile = self.profile.with_values({"family": image_family}, "the caller")
        tokens.check_family(self.profile.family)
        self.model = model
        self.timeout = timeout
        self.endpoint = Endpoint.of(base_url, key_from=api_key_env)
        self._hosted = urlsplit(self.endpoint.url).hostname == urlsplit(OPENAI_URL).hostname
        if self._hosted and not self.endpoint.key:
            raise InputError(
                f"no key for {self.base_url}: set the environment variable {api_key_env}, or name "
                "another server with a base URL"
            )
        self.known = KnownTokens()
        self._dropped: frozenset[Feature] = frozenset()
        self._server: ChatServer | None = None

    @property
    def dialect(self) -> str:
        """The dialect that its profile names."""
        return self.profile.dialect

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

    @property
    def _priced(self) -> tuple[str, Mapping[str, int], tokens.Detail | None]:
        return self.profile.family, self.profile.image_tokens, self.profile.detail

    def bound(self, request: ChatRequest) -> Usage:
        """Upper bound of one attempt: see `ecoalign.models._tokens`.

        The schema is counted once, wherever it ends up: in the request or in the prompt.
        """
        return tokens.bound(request, *self._priced)

    def segments(self, request: ChatRequest) -> list[tokens.Segment]:
        """See `SupportsSegments.segments`."""
        return tokens.segments(request, *self._priced)

    async def complete(self, request: ChatRequest) -> Completion:
        """Answer `request` in one attempt.

        Raises:
            ModelError: see `ecoalign.errors`; unbilled only where no token can have been spent.
            InputError: `request.extra` sets a parameter that the budget rests on.
        """
        timeout = self.timeout if request.timeout is None else request.timeout
        server = self._connected()
        started = time.perf_counter()
        data = await self._negotiate(server, request, timeout)
        seconds = time.perf_counter() - started
        return parse(data, seconds=seconds, key=self.endpoint.key, client=request.client)

    async def _negotiate(self, server: ChatServer, request: ChatRequest, limit: float) -> bytes:
        """Send `request`, giving up rejected features until the server takes it or none is left."""
        from ecoalign.models.openai.server import ServerError

        deadline = asyncio.get_running_loop().time() + limit
        used, dropped = features_of(request), self._dropped
        # OpenAI's newer models know only the new name; every other server knows the old one, and
        # one that ignores a name it does not know would write without any cap.
        cap = "max_completion_tokens" if self._hosted else "max_tokens"
        while True:
            body = body_of(request, self.model, dropped=dropped, cap=cap)
            data = json.dumps(body, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
            try:
                _, content = await server.post(data.encode(), limit, deadline)
            except ServerError as error:
                rejected = error.status in {400, 422}
                feature = next_to_drop(error.said, used - dropped) if rejected else None
                if feature is None:
                    raise _told(error, request.client if rejected else {}) from None
                dropped |= {feature}
            else:
                self._dropped |= dropped
                return content

    def _connected(self) -> ChatServer:
        """What sends requests. It takes a while to import: before any time of the server's runs."""
        from ecoalign.models.openai.server import MAX_ANSWER_BYTES, ChatServer

        with _ONE_AT_A_TIME:
            if self._server is None:
                self._server = ChatServer(
                    self.endpoint,
                    connections=CONNECTIONS,
                    most=MAX_ANSWER_BYTES,
                    closed="bad-response",
                )
            return self._server

    async def aclose(self) -> None:
        """Release the connections of the running event loop.

        Safe to call twice; a later call opens new ones.
        """
        if self._server is not None:
            await self._server.aclose()


def _told(error: ServerError, client: Mapping[str, object]) -> ModelError:
    """The failure as a model's, with the client's parameter that it is about, if it is."""
    param = to_blame(error.said, error.named, client)
    asked = "" if param is None else f"the server did not take what was asked for with {param}. "
    return ModelError(
        f"{asked}{error}",
        fault=error.fault,
        billed=error.billed,
        retry_after=error.retry_after,
        param=param,
    )
