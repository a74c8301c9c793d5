"""The calls of a probe: each small, each paid, none repeated because a server does not like it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from ecoalign.budget import Called, Ledger, MeteredClient
from ecoalign.errors import ModelError
from ecoalign.models import (
    NOBODY,
    ChatRequest,
    ImagePart,
    Message,
    TextPart,
    TokenLogprob,
    Usage,
    Visible,
    visible,
)
from ecoalign.models.openai import OpenAIModel

STAGE = "probe"

_TOKENIZE_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back of one call.

    Attributes:
        text: what the model wrote; "" where there is none.
        usage: what the server reported; None where it did not.
        seconds: that the call took.
        finish: why the text ended, in the server's word.
        logprobs: as in a completion.
        error: why there is no usable text; None if there is.
    """

    text: str
    usage: Usage | None
    seconds: float
    finish: str = ""
    logprobs: tuple[TokenLogprob, ...] | None = None
    error: ModelError | None = None

    @property
    def seen(self) -> Visible:
        """The text without hidden reasoning."""
        return visible(self.text)

    @property
    def refused(self) -> bool:
        """Whether the server did not take the request, or failed at it."""
        return self.error is not None and self.error.fault in {"rejected", "server"}

    @property
    def why(self) -> str:
        """The error in one line."""
        return "" if self.error is None else " ".join(str(self.error).split())[:200]


@dataclass
class Calls:
    """Makes the calls of one probe.

    Attributes:
        model, ledger: who is asked, and what pays.
        room: tokens of hidden reasoning that every cap leaves room for.
        limit: parameters that keep hidden reasoning short.
        made: how many calls were made.
    """

    model: OpenAIModel
    ledger: Ledger
    retries: int = 2
    room: int = 0
    limit: Mapping[str, Any] = field(default_factory=dict)
    made: int = 0

    async def ask(
        self,
        text: str,
        *,
        images: tuple[ImagePart, ...] = (),
        system: str = "",
        cap: int = 16,
        client: Mapping[str, object] | None = None,
    ) -> Reply:
        """One call.

        Args:
            text, images, system: what is sent.
            cap: output tokens, without those for hidden reasoning.
            client: parameters that are sent unchanged and never dropped.

        Raises:
            ModelError: the server cannot be reached, takes too long, or does not know key or model.
            BudgetExceeded: the call does not fit what is left; it was not made.
        """
        messages = [Message("user", (*images, TextPart(text)))]
        if system:
            messages.insert(0, Message("system", (TextPart(system),)))
        request = ChatRequest(
            tuple(messages),
            cap + self.room,
            STAGE,
            client={**self.limit, **(client or {})},
        )
        try:
            return await self._once(request, retries=0)
        except ModelError as error:
            if error.fault != "rate-limited":
                raise
            return await self._once(request, self.retries)

    async def _once(self, request: ChatRequest, retries: int) -> Reply:
        called: list[Called] = []
        # Whether it keeps the cap is for the probe to find out.
        metered = MeteredClient(self.ledger, retries, on_call=called.append, trusting=True)
        self.made += 1
        loop = asyncio.get_running_loop()
        started = loop.time()
        try:
            done = await metered.complete(self.model, request)
        except ModelError as error:
            lost = error.fault not in {"rejected", "server", "bad-response"}
            if lost or (error.fault == "rejected" and _nobody(error)):
                raise
            return Reply("", error.usage, loop.time() - started, error=error)
        # What was charged may be the bound: only what the server said tells anything.
        usage = called[-1].usage
        return Reply(done.text, usage, done.seconds, done.finish_reason, done.logprobs)

    async def count(self, text: str) -> int | None:
        """What the server's own token counter says of `text`; None where there is none.

        vLLM and SGLang read `prompt` and answer a `count`, llama.cpp reads `content` and answers
        `tokens`; each ignores the other's word. Nothing is generated, so nothing is charged.
        """
        from ecoalign.models.http import URL, HttpClient, HttpError

        endpoint = self.model.endpoint
        parts = urlsplit(endpoint.base_url)
        url = URL(f"{parts.scheme}://{parts.netloc}/tokenize")
        client = HttpClient(
            endpoint.headers,
            connections=1,
            most=1_000_000,
            tls=endpoint.tls,
            proxy=endpoint.proxy,
            keep=False,
        )
        body = json.dumps({"model": self.model.model, "prompt": text, "content": text}).encode()
        end = asyncio.get_running_loop().time() + _TOKENIZE_SECONDS
        try:
            async with client.exchange("POST", url, body, deadline=end) as answer:
                said = json.loads(await answer.whole()) if answer.status == 200 else None
        except (HttpError, ValueError, RecursionError):
            return None
        finally:
            await client.aclose()
        return _counted(said)


def _nobody(error: ModelError) -> bool:
    """Whether it is the key, the address, the proxy or the model's name that is wrong."""
    return error.cause in NOBODY


def _counted(said: object) -> int | None:
    if not isinstance(said, Mapping):
        return None
    count, tokens = said.get("count"), said.get("tokens")
    if isinstance(count, int) and not isinstance(count, bool) and count > 0:
        return count
    return len(tokens) if isinstance(tokens, list) and tokens else None
