"""A model that is a function: for tests of your own code, without a network."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable

from ecoalign.errors import ModelError
from ecoalign.models._base import ChatRequest, Completion, ImagePart, Usage
from ecoalign.models._profile import Profile

__all__ = ["FakeModel", "Reply", "count_tokens"]

Reply = str | Completion | ModelError

BYTES_PER_TOKEN = 4


def count_tokens(text: str) -> int:
    """The tokens a `FakeModel` counts in `text`: one for each four UTF-8 bytes begun."""
    size = len(text) if text.isascii() else len(text.encode("utf-8", "replace"))
    return -(-size // BYTES_PER_TOKEN)


class FakeModel:
    """A `ChatModel` that answers with what a function says, at once and with no network.

    The function may be synchronous or not. A `str` it returns is cut at the request's cap, as a
    server would, and comes with the usage that `bound` foresaw for the prompt; a `Completion` is
    passed on untouched, so that usage can be left out or be wrong; a `ModelError`, returned or
    raised, is raised.

        model = FakeModel(lambda request: "4" if request.stage == "execute" else "...")

    Args:
        fn: answers a request.
        name: what `name` says.
        dialect: the prompt dialect it is to be spoken to in: "full", "small" or "compact".
        image_tokens: what each image costs, >= 0.
        profile: what it can do; by default the defaults, with its dialect.

    Attributes:
        requests: every request so far, oldest first.
        peak: the largest number of requests that were under way at once.
    """

    def __init__(
        self,
        fn: Callable[[ChatRequest], Reply | Awaitable[Reply]],
        name: str = "fake",
        dialect: str = "full",
        *,
        image_tokens: int = 64,
        profile: Profile | None = None,
    ) -> None:
        self.name = name
        self.profile = profile or Profile().with_values({"dialect": dialect}, "the model")
        self.dialect: str = self.profile.dialect
        self.requests: list[ChatRequest] = []
        self.peak = 0
        self._fn = fn
        self._image_tokens = image_tokens
        self._under_way = 0

    def __repr__(self) -> str:
        return f"FakeModel(name={self.name!r}, calls={self.calls})"

    @property
    def calls(self) -> int:
        """How many requests there have been, failed ones included."""
        return len(self.requests)

    def bound(self, request: ChatRequest) -> Usage:
        """The exact tokens of the prompt, and the request's cap (and what may come beyond it) as
        completion."""
        text = image = 0
        for message in request.messages:
            for part in message.parts:
                if isinstance(part, ImagePart):
                    image += self._image_tokens
                else:
                    text += count_tokens(part.text)
        # A prompt of nothing is one token, as there is no call without a prompt.
        completion = request.max_tokens + request.beyond
        return Usage(prompt=max(1, text + image), completion=completion, image=image)

    async def complete(self, request: ChatRequest) -> Completion:
        """What the function says to `request`.

        Raises:
            ModelError: the one that the function returned or raised.
        """
        self.requests.append(request)
        self._under_way += 1
        self.peak = max(self.peak, self._under_way)
        try:
            reply = self._fn(request)
            if not isinstance(reply, str) and inspect.isawaitable(reply):
                reply = await reply
            else:
                # No server answers before its client has let others run.
                await asyncio.sleep(0)
        finally:
            self._under_way -= 1
        if isinstance(reply, ModelError):
            raise reply
        if isinstance(reply, Completion):
            return reply
        return self._completion(request, reply)

    def _completion(self, request: ChatRequest, text: str) -> Completion:
        encoded, most = text.encode("utf-8", "replace"), request.max_tokens * BYTES_PER_TOKEN
        kept = encoded[:most].decode("utf-8", "ignore")
        prompt, written = self.bound(request), count_tokens(kept)
        return Completion(
            text=kept,
            usage=Usage(prompt.prompt, written, prompt.image),
            finish_reason="stop" if len(encoded) <= most else "length",
            model=self.name,
        )

    async def aclose(self) -> None:
        """Nothing to release."""
