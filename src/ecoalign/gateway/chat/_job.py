"""One answer under way: admitted, paid for, run and settled, in this order and come what may."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ecoalign.budget import Budget, Spending
from ecoalign.errors import EcoAlignError
from ecoalign.gateway._admission import Overloaded
from ecoalign.gateway._errors import SERVER, ApiError, of_error
from ecoalign.gateway._state import AppState, Client, store_down
from ecoalign.gateway.chat._response import Envelope
from ecoalign.gateway.keys._base import Grant, StoreError, UnknownKey, WindowExhausted
from ecoalign.gateway.keys._policy import least_of
from ecoalign.query import Query

if TYPE_CHECKING:
    from types import TracebackType

    from starlette.types import Receive

    from ecoalign.budget import Ledger
    from ecoalign.gateway._service import Outcome, Plan
    from ecoalign.gateway.chat._request import ChatCall
    from ecoalign.gateway.observe._requests import RequestNotes
    from ecoalign.trace.events import Event

__all__ = [
    "Allowance",
    "ClientDisconnected",
    "Job",
    "WhileConnected",
    "admitted",
    "granted",
    "left",
    "wanted",
]

_log = logging.getLogger("ecoalign.gateway")

_LEAST = 4
"""A search makes do with this part of the budget that it wants, where its key has no more."""


@dataclass(frozen=True, slots=True)
class Allowance:
    """What one run may spend.

    Attributes:
        budget: hard, in each unit.
        price: factor on the setting `lambda0`.
        cut: whether the key's window had less than was wanted.
        grant: on the key's account; None for a guest.
    """

    budget: Budget
    price: float = 1.0
    cut: bool = False
    grant: Grant | None = None


@asynccontextmanager
async def admitted(state: AppState, client: Client) -> AsyncGenerator[None, None]:
    """A place among the requests that run.

    Raises:
        ApiError: 429 where the queue is full, 503 where the server is shutting down.
    """
    slot = state.admission.slot(client.id, client.policy.max_concurrent)
    try:
        await slot.__aenter__()
    except Overloaded as full:
        state.metrics.turned_away("draining" if full.draining else "overloaded")
        if full.draining:
            raise ApiError(
                503, str(full), SERVER, code="shutting_down", retry_after=full.retry_after
            ) from None
        raise ApiError(
            429, str(full), "requests", code="overloaded", retry_after=full.retry_after
        ) from None
    try:
        yield
    finally:
        await slot.__aexit__(None, None, None)


@asynccontextmanager
async def granted(
    state: AppState,
    client: Client,
    want: Budget,
    spent: Callable[[], Spending],
    *,
    least: Budget | None = None,
) -> AsyncGenerator[Allowance, None]:
    """Leave to spend, on disk before the block and settled after it, whatever happens in it.

    Args:
        house, client: who pays.
        want: the most that is wanted.
        spent: what was spent by the end of the block.
        least: what will do; all of `want` if None.

    Raises:
        ApiError: the key has too little left (429), was revoked (401), or nobody can tell (503).
    """
    if state.store is None or client.key is None:
        yield Allowance(want)
        return
    try:
        grant = await state.store.grant(client.key, want, least)
    except WindowExhausted as short:
        state.metrics.turned_away("window")
        raise ApiError(
            429,
            f"the key's budget in {short.unit} is used up for now: {short}",
            "insufficient_quota",
            code="insufficient_quota",
            retry_after=short.retry_after,
            retry=False,
        ) from None
    except UnknownKey:
        raise ApiError(401, "the API key was revoked", code="invalid_api_key") from None
    except StoreError:
        raise store_down() from None
    try:
        yield Allowance(grant.budget, grant.price, grant.budget != want, grant)
    finally:
        # A task of its own: however often this one is cancelled, the account is put in order.
        settling = state.spawn(_settle(state, grant, spent()))
        await asyncio.shield(settling)


async def _settle(state: AppState, grant: Grant, spent: Spending) -> None:
    """The reservation stays counted in full where the store fails: never too little."""
    if state.store is not None:
        try:
            await state.store.settle(grant, spent)
        except StoreError as error:
            _log.error("a grant could not be settled and stays reserved", exc_info=error)


@dataclass(slots=True)
class Job:
    """The answer to one call by a method, in a task of its own.

    Attributes:
        house, client, call, plan: what is to be done for whom.
        want: the budget that is asked for.
        on_event: told of each event of a search; called in the event loop.
        notes: of the request; told of every call and of what was spent.
        envelope: known from when it runs.
        spent: what was spent by the end.
        cut: whether the key's window had less than was wanted.
    """

    state: AppState
    client: Client
    call: ChatCall
    plan: Plan
    want: Budget
    on_event: Callable[[Event], None]
    notes: RequestNotes
    envelope: Envelope = field(init=False)
    spent: Spending = field(default_factory=Spending)
    cut: bool = False
    _ledger: Ledger | None = None

    async def run(self) -> Outcome:
        """Answer.

        Raises:
            ApiError: what the client is told.
        """
        state = self.state
        async with admitted(state, self.client):
            try:
                with state.pictures.room() as room:
                    pictures = await room.load(self.call.images, self.plan.side)
                    query = Query.of(
                        pictures, self.call.question, self.call.context, self.call.sampling
                    )
                    least = _part(self.want) if self.plan.searches else None
                    async with granted(
                        state, self.client, self.want, self._spent, least=least
                    ) as allowance:
                        self.cut = allowance.cut
                        return await self._answer(query, allowance)
            except EcoAlignError as error:
                raise of_error(error, cut_by_window=self.cut) from error
            finally:
                self.notes.spent(self._spent())

    async def _answer(self, query: Query, allowance: Allowance) -> Outcome:
        state = self.state
        self._ledger = state.engine.ledger(allowance.budget)
        self.envelope = Envelope(self.call.model, self.plan, allowance.budget)
        return await state.engine.run(
            self.plan, query, self._ledger, price=allowance.price, on_event=self.on_event
        )

    def _spent(self) -> Spending:
        if self._ledger is not None:
            self.spent = self._ledger.spent
        return self.spent


def _part(want: Budget) -> Budget:
    """The least of a budget that is worth trying; time is not shared out."""
    return Budget(
        None if want.tokens is None else max(1, want.tokens // _LEAST),
        None if want.usd is None else want.usd / _LEAST,
        want.seconds,
    )


def wanted(state: AppState, client: Client, asked: Budget | None) -> Budget:
    """What a request wants to spend: its own choice, its key's or the server's, within `most`."""
    want = client.policy.request_budget(asked, state.engine.budget)
    return want if state.config.most is None else least_of(want, state.config.most)


class ClientDisconnected(Exception):
    """The client has left; there is nobody to answer."""


async def left(receive: Receive) -> None:
    """Returns when the client has gone. The body must have been read."""
    while (await receive())["type"] != "http.disconnect":
        pass


class WhileConnected:
    """A block that is cancelled when the client leaves; `async with WhileConnected(receive): ...`.

    The block runs in the task that enters it, as with `asyncio.timeout`.

    Raises:
        ClientDisconnected: the client left before the block had ended.
    """

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._gone = False

    async def __aenter__(self) -> None:
        """Begin to watch."""
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("there is no task to cancel")
        self._task = task
        self._watch = asyncio.create_task(left(self._receive))
        self._watch.add_done_callback(self._leave)

    def _leave(self, watch: asyncio.Task[None]) -> None:
        if not watch.cancelled():
            watch.exception()  # A connection that cannot be listened to is gone as well.
            self._gone = True
            self._task.cancel()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the watch."""
        self._watch.remove_done_callback(self._leave)
        self._watch.cancel()
        # Whoever else cancels the task at the same time gets what they asked for.
        if self._gone and not self._task.uncancel() and isinstance(error, asyncio.CancelledError):
            raise ClientDisconnected from None
