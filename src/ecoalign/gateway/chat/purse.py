"""The money of a request that is passed on: one call, bounded where anybody asked for a bound."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pydantic_core import to_json

from ecoalign.budget import Budget, Spending
from ecoalign.errors import BudgetTooSmall, InputError
from ecoalign.gateway.chat.messages import image_urls
from ecoalign.gateway.chat.parameters import CAPS
from ecoalign.gateway.keys.policy import least_of
from ecoalign.models.base import ChatRequest, ImagePart, Message, TextPart, Usage
from ecoalign.models.openai_answer import usage_of
from ecoalign.picture_files import read_header, read_source

if TYPE_CHECKING:
    from ecoalign.gateway.house import Client, House
    from ecoalign.hold import Hold
    from ecoalign.ledger import Ledger

__all__ = ["Purse", "capped"]

USUAL_CAP = 4096
"""Tokens of an answer where a bound is needed and the client gave none."""
_STAGE = "answer"


@dataclass(slots=True)
class Purse:
    """What one call may use, and did.

    Attributes:
        house: whose model it is.
        want: the budget it needs; None where nobody asked for a bound.
        bound: of the call.
        cap: the most tokens of its answer; None where the client's own will do.
        charged: what was spent; None where nobody knows.
    """

    house: House
    want: Budget | None = None
    bound: Usage = field(default_factory=Usage)
    cap: int | None = None
    charged: Usage | None = None
    _ledger: Ledger | None = None
    _hold: Hold | None = None

    @classmethod
    async def of(
        cls, house: House, client: Client, asked: Budget | None, body: Mapping[str, object]
    ) -> Purse:
        """The purse of a request.

        Raises:
            BudgetTooSmall: the budget holds no answer.
            InputError: an image cannot be read, or the price of the model is not known.
        """
        policy = client.policy
        budget = _budget(house, client, asked)
        windows = policy.window_tokens is not None or policy.window_usd is not None
        if budget is None and not (windows and client.key is not None):
            return cls(house)
        prompt = await asyncio.to_thread(_prompt, house, body)
        own = [cap for name in CAPS if type(cap := body.get(name)) is int]
        cap = own[0] if own else None
        room = cap or USUAL_CAP
        if budget is not None:
            room = _room(house, budget, prompt, cap)
        bound = Usage(prompt.prompt, room, prompt.image)
        want = budget or _needed(house, bound, in_usd=policy.window_usd is not None)
        return cls(house, want, bound, None if room == cap else room)

    @property
    def bounded(self) -> bool:
        """Whether the call is held to a budget."""
        return self.want is not None

    @property
    def seconds(self) -> float | None:
        """How long the call may take; None for as long as any."""
        return None if self.want is None else self.want.seconds

    @contextmanager
    def opened(self, budget: Budget) -> Iterator[None]:
        """Hold the bound for the length of the call; what is not known of its cost is charged."""
        self._ledger = self.house.engine.ledger(budget)
        with self._ledger.reserve(_STAGE, self.bound, self.house.engine.model.name) as hold:
            self._hold = hold
            try:
                yield
            finally:
                if hold.state == "open":
                    hold.forfeit()
                self.charged = hold.charged

    def used(self, usage: object) -> None:
        """The call ended with this usage, as its server says."""
        read = usage_of(usage, "")
        if self._hold is not None:
            self._hold.settle(read)
        elif read is not None:
            self.charged = read

    def failed(self, *, billed: bool) -> None:
        """The call failed."""
        if self._hold is not None and self._hold.state == "open" and not billed:
            self._hold.release()

    def spent(self) -> Spending:
        """What was spent, for the account of the key."""
        return Spending() if self._ledger is None else self._ledger.spent


def capped(body: dict[str, object], cap: int | None) -> None:
    """Put a cap on the answer, under the name that the client used, if it did."""
    if cap is not None:
        name = next((name for name in CAPS if body.get(name) is not None), CAPS[1])
        body[name] = cap


def _budget(house: House, client: Client, asked: Budget | None) -> Budget | None:
    """What somebody said that the request may spend: itself, its key or the server."""
    settings = house.engine.settings
    default = None if settings.origin("budget") == "default" else settings.budget
    budget = asked or client.policy.budget or default
    for most in (client.policy.most, house.config.most):
        if most is not None:
            budget = most if budget is None else least_of(budget, most)
    return budget


def _prompt(house: House, body: Mapping[str, object]) -> Usage:
    """The bound of the prompt: every byte of the request but the images may be a token."""
    urls = image_urls(body.get("messages"))
    images = []
    for url in urls:
        header = read_header(read_source(url)[0], "the image")
        images.append(ImagePart(b"", header.media_type, header.width, header.height, "high"))
    text = to_json(body)
    size = len(text) - sum(len(to_json(url)) for url in urls)
    # A part of so many bytes: what is in it does not matter to the bound.
    request = ChatRequest((Message("user", (TextPart(" " * size), *images)),), 1, _STAGE)
    return house.engine.model.bound(request)


def _room(house: House, budget: Budget, prompt: Usage, cap: int | None) -> int:
    """The most tokens of an answer that the budget holds, at most `cap`.

    Raises:
        BudgetTooSmall: not even one.
    """
    most = cap
    if budget.tokens is not None:
        left = budget.tokens - prompt.prompt
        most = left if most is None else min(most, left)
    most = USUAL_CAP if most is None else most
    if budget.usd is not None:
        low, high = 0, max(0, most)
        while low < high:
            middle = (low + high + 1) // 2
            usd = _usd(house, Usage(prompt.prompt, middle, prompt.image))
            low, high = (middle, high) if usd <= budget.usd else (low, middle - 1)
        most = low
    if most < 1:
        raise BudgetTooSmall(
            f"the budget of {budget} does not hold the request itself, which has up to "
            f"{prompt.prompt} tokens",
            unit="tokens",
            smallest=prompt.prompt + 1,
        )
    return most


def _needed(house: House, bound: Usage, *, in_usd: bool) -> Budget:
    return Budget(tokens=bound.total, usd=_usd(house, bound) or None if in_usd else None)


def _usd(house: House, usage: Usage) -> float:
    price = house.engine.prices(house.engine.model.name, usage)
    if price is None:
        raise InputError(
            f"a budget in dollars needs the price of {house.engine.model.name}, which is not known"
        )
    return float(price)
