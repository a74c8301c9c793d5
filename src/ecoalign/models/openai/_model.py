"""Any OpenAI-compatible server."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from ecoalign.errors import InputError, ModelError
from ecoalign.models import _tokens as tokens
from ecoalign.models._base import ChatRequest, Completion, Usage
from ecoalign.models._endpoint import OPENAI_URL, Endpoint
from ecoalign.models._known import KnownTokens, digest_of
from ecoalign.models._profile import Profile, shipped_profile
from ecoalign.models._speech import begins_inside, ending, visible
from ecoalign.models.openai._learned import Dropped, Learned
from ecoalign.models.openai._request import (
    Feature,
    body_of,
    check_extra_body,
    features_of,
    lacking,
    least_tokens,
    next_to_drop,
    to_blame,
    under,
    with_detail,
)
from ecoalign.models.openai._response import parse

if TYPE_CHECKING:
    from ecoalign.models.openai.server import ChatServer, ServerError

HOSTED_TIMEOUT = 60.0
"""Seconds of one attempt, by default."""

LOCAL_TIMEOUT = 600.0
"""The same for a server on this machine, where a model may run on a processor alone."""

CONNECTIONS = 512
"""At once to one server: 32 runs with as many calls each as `max_concurrency` allows, twice."""

_BLAMING = frozenset({400, 422, 500, 501, 502, 503})
"""Statuses whose message may blame a feature of the request."""

MOST_FAILURES = 3
"""Of one attempt, answers of 5xx that are taken for rejections. Whether each of them was free is
not certain: a server that fails late, whatever it is asked, would be asked for every feature."""

_ONE_AT_A_TIME = threading.Lock()
"""Threads that share a model share its connections' owner."""


class OpenAIModel:
    """A chat model behind an OpenAI-compatible server (OpenAI, Gemini, Qwen, vLLM, Ollama ...).

    One `complete` is at most one billed request: the caller retries, and reserves for each
    attempt. The one exception costs nothing: when a server blames a feature (HTTP 400, 422 or a 5xx
    that names it), the request is sent again without it, and the object remembers that for a while
    (`dropped`; it is tried again after 200 calls or ten minutes, then ever later). Dropped in this
    way, one by one, are: the JSON schema (for `json_object`, then for the schema in the prompt),
    the name of the output cap, temperature, log-probabilities, seed, an image's detail, and the
    system role, whose text is put before the user's. An error that names none of them changes
    nothing. What a client asked for (`ChatRequest.client`) is never dropped: its rejection is an
    error with a `param`. What the server ignores in silence is in `notices`.

    Proxies and certificates are those of the environment. It may be used in several event loops
    and threads, each of which closes its own connections.

    Args:
        model: the model's name on the server.
        base_url: the server, usually ending in /v1; OPENAI_BASE_URL or OpenAI's own by default.
        api_key_env: the environment variable that holds the key. Servers other than OpenAI's
            are used without a key where it is not set.
        timeout: seconds that one attempt may take in all, > 0; by default 60, or 600 where the
            server is on this machine. A request may say otherwise.
        provider: what its name begins with.
        endpoint: the server, in place of what `base_url` and `api_key_env` say.
        profile: what it can do; by default what is known of the family that its name tells.
        image_family: in place of the profile's, one of `ecoalign.models._tokens.FAMILIES`, where
            a server uses a name of its own.

    Raises:
        InputError: a value is out of its range, OpenAI's own server has no key, the key, the
            address, the proxy or the certificates cannot be used, or the profile's `extra_body` can
            cost more than is reserved.
    """

    def __init__(
        self,
        model: str,
        *,
        base_url: str | None = None,
        api_key_env: str = "OPENAI_API_KEY",
        timeout: float | None = None,
        provider: str = "openai",
        endpoint: Endpoint | None = None,
        profile: Profile | None = None,
        image_family: str | None = None,
    ) -> None:
        if not model.strip():
            example = f"{provider}:{'gpt-4o' if provider == 'openai' else 'NAME'}"
            raise InputError(f'the model has no name; write for example "{example}"')
        if timeout is not None and not 0 < timeout < float("inf"):
            raise InputError(f"the timeout is {timeout} s; it must be positive and finite")
        self.profile = profile or shipped_profile(model)
        if image_family is not None:
            self.profile = self.profile.with_values({"family": image_family}, "the caller")
        tokens.check_family(self.profile.family)
        check_extra_body(self.profile.extra_body, self.profile.thinking)
        self.model = model
        self.provider = provider
        self.endpoint = endpoint or Endpoint.of(base_url, key_from=api_key_env)
        usual = LOCAL_TIMEOUT if self.endpoint.is_local else HOSTED_TIMEOUT
        self.timeout = usual if timeout is None else timeout
        self._hosted = urlsplit(self.endpoint.url).hostname == urlsplit(OPENAI_URL).hostname
        if self._hosted and not self.endpoint.key:
            raise InputError(
                f"no key for {self.base_url}: set the environment variable "
                f"{self.endpoint.key_from or api_key_env}, or name "
                "another server with a base URL"
            )
        self.known = KnownTokens()
        self._counts = True
        self._learned = Learned(self.name)
        self._begins_inside = self._sees_images = False
        self._server: ChatServer | None = None

    @property
    def dialect(self) -> str:
        """The dialect that its profile names."""
        return self.profile.dialect

    @property
    def name(self) -> str:
        """The provider and the model's name, as in "openai:gpt-4o"."""
        return f"{self.provider}:{self.model}"

    @property
    def base_url(self) -> str:
        """The server's address, without any user name or password in it."""
        return self.endpoint.base_url

    @property
    def dropped(self) -> Mapping[str, Dropped]:
        """The features that requests do without now, by name, and why."""
        return {str(feature): entry for feature, entry in self._learned.dropped.items()}

    @property
    def notices(self) -> tuple[str, ...]:
        """What was found about the server: rejected features, and what it ignores in silence."""
        return self._learned.notices

    def __repr__(self) -> str:
        return f"OpenAIModel({self.model!r}, base_url={self.base_url!r})"

    def bound(self, request: ChatRequest) -> Usage:
        """Upper bound of one attempt: see `ecoalign.models._tokens`.

        The schema is counted once, wherever it ends up: in the request or in the prompt.
        """
        known = self.profile
        return tokens.bound(under(request, known), known.family, known.image_tokens)

    def segments(self, request: ChatRequest) -> list[tokens.Segment]:
        """See `SupportsSegments.segments`."""
        known = self.profile
        return tokens.segments(under(request, known), known.family, known.image_tokens)

    async def count_lines(self, lines: Iterable[str]) -> None:
        """See `CountsLines.count_lines`. A counter that fails once is not asked again."""
        path = self.profile.tokenize
        new = self.known.uncounted(lines) if path and self._counts else []
        if new:
            from ecoalign.models.openai._counting import counted

            found = await counted(self.endpoint, path, self.model, new)
            self._counts = found is not None
            self.known.add(texts={digest_of(line): n for line, n in (found or {}).items()})

    async def complete(self, request: ChatRequest) -> Completion:
        """Answer `request` in one attempt.

        Raises:
            ModelError: see `ecoalign.errors`; unbilled only where no token can have been spent.
            InputError: `request.extra` sets a parameter that the budget rests on.
        """
        request = under(request, self.profile)
        timeout = self.timeout if request.timeout is None else request.timeout
        server = self._connected()
        started = time.perf_counter()
        data, kept = await self._negotiate(server, request, timeout)
        seconds = time.perf_counter() - started
        done = parse(
            data,
            seconds=seconds,
            key=self.endpoint.key,
            client=request.client,
            thinks=self._begins_inside or self.profile.thinking > 0,
        )
        self._begins_inside = self._begins_inside or begins_inside(done.text)
        self._notice_ignored(request, done, kept)
        return done

    async def _negotiate(
        self, server: ChatServer, request: ChatRequest, limit: float
    ) -> tuple[bytes, frozenset[Feature]]:
        """Send `request`, giving up rejected features until the server takes it or none is left;
        what it answered, and the features that the request still had.

        A 5xx that blames a feature is taken as the rejection that it is: of servers that fail at
        the schema, the grammar or the log-probabilities before anything is generated. One that
        says what it used has cost that: it is the only one of its attempt. Of those that do not,
        only so many are taken for free.
        """
        from ecoalign.models.openai.server import ServerError

        deadline = asyncio.get_running_loop().time() + limit
        never = features_of(request) & lacking(self.profile)
        kept = frozenset({Feature.DETAIL}) if self._dearer_without_detail(request) else frozenset()
        used, dropped = features_of(request) - never, never | self._learned.without() - kept
        rejected: dict[Feature, str] = {}
        failures = 0
        # OpenAI's newer models know only the new name; every other server knows the old one, and
        # one that ignores a name it does not know would write without any cap.
        cap = "max_completion_tokens" if self._hosted else "max_tokens"
        while True:
            body = body_of(request, self.model, dropped=dropped, cap=cap)
            data = json.dumps(body, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
            try:
                _, content = await server.post(data.encode(), limit, deadline)
            except ServerError as error:
                blames = error.fault in {"rejected", "server"} and error.status in _BLAMING
                feature = next_to_drop(error.said, used - dropped - kept) if blames else None
                failures += error.fault == "server"
                if failures > MOST_FAILURES:
                    feature = None
                if feature is not None:
                    rejected[feature] = error.text
                if feature is None or error.usage is not None:
                    if error.usage is not None:
                        # It was not free: the attempt ends here, and the next does without.
                        self._learned.rejects(rejected)
                    raise _told(error, request, used - dropped) from None
                dropped |= {feature}
            else:
                self._learned.succeeded(used - dropped, rejected)
                return content, used - dropped

    def _dearer_without_detail(self, request: ChatRequest) -> bool:
        """Whether an image may cost more than is reserved if its detail is left to the server."""
        free = tuple(with_detail(message, "auto") for message in request.messages)
        family, measured = self.profile.family, self.profile.image_tokens
        most, reserved = (
            tokens.bound(one, family, measured).prompt
            for one in (replace(request, messages=free), request)
        )
        return most > reserved

    def _notice_ignored(
        self, request: ChatRequest, done: Completion, kept: frozenset[Feature]
    ) -> None:
        """Say what the server took in silence and did not heed."""
        notice = self._learned.notice
        pictured = any(message.images for message in request.messages)
        if pictured and done.usage is not None and not self._sees_images:
            least = least_tokens(request, self.profile)
            # Some servers count a prompt less what they have cached: the first call tells.
            self._sees_images = done.usage.prompt >= least
            if not self._sees_images:
                notice(
                    "images",
                    f"{done.usage.prompt} prompt tokens are too few for the text and the images "
                    f"that were sent (at least {least}): the server may not have seen the images",
                    level=logging.WARNING,
                )
        seen = visible(done.text)
        if not seen.text or ending(done.finish_reason) != "stop":
            return
        if Feature.LOGPROBS in kept and done.logprobs is None:
            notice("logprobs", "log-probabilities were asked for, and the server gave none")
        if seen.thoughts and not self.profile.thinking:
            notice(
                "thinking",
                "the model thinks before it answers: set `thinking` to the tokens that this takes, "
                "so that every cap on the output leaves room for them",
            )
        if Feature.JSON_OBJECT in kept and seen.text.lstrip("`json \n")[:1] not in "{[":
            notice("schema", "JSON was asked for (response_format), and the answer was none")

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


def _told(error: ServerError, request: ChatRequest, kept: frozenset[Feature]) -> ModelError:
    """The failure as a model's, with the client's parameter that it is about, if it is."""
    client = request.client if error.status in {400, 422} else {}
    vague = error.fault == "rejected" and error.status in {400, 422} and Feature.JSON_SCHEMA in kept
    hint = (
        ' (if it lacks JSON schemas, and does not say so: set schema_mode = "prompt")'
        if vague
        else ""
    )
    named = error.fault == "rejected"
    param = to_blame(error.said, error.named, client) if named else None
    asked = "" if param is None else f"the server did not take what was asked for with {param}. "
    told = ModelError(
        f"{asked}{error}{hint}",
        fault=error.fault,
        billed=error.billed,
        retry_after=error.retry_after,
        param=param,
        usage=error.usage,
    )
    told.cause, told.told, told.public = error.cause, error.told, error.public
    return told
