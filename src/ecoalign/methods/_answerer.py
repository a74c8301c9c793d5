"""One model, opened once, that answers by any method: what the command line, the playground, a
batch and the gateway run on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from functools import partial

from ecoalign.aligner import Aligner
from ecoalign.budget import Budget, Ledger, Reservation
from ecoalign.errors import EcoAlignError
from ecoalign.methods._base import Method
from ecoalign.methods._registry import open_method
from ecoalign.models import ChatModel
from ecoalign.query import Query
from ecoalign.settings import Settings
from ecoalign.trace import Alignment, stream_events
from ecoalign.trace.events import Event


class Answerer:
    """Answers queries with one model by any method. Reusable, also concurrently.

        answerer = Answerer(Settings.load(model="openai:gpt-4o"))
        both = await answerer.compare(query, ["base", "ecoalign"])

    Args:
        settings: of every method; `Settings.load()` if None.
        model: who answers, in place of the settings' model; it is left open.

    Raises:
        InputError: there is no such model.
    """

    def __init__(self, settings: Settings | None = None, model: ChatModel | None = None) -> None:
        self.settings = settings or Settings.load()
        self._given = model is not None
        self.model = model or self.settings.open_model()
        self.prices = self.settings.price_book()
        self._methods: dict[str, Method] = {}

    def method(self, name: str) -> Method:
        """The method of this name, opened once.

        Raises:
            SettingsError: there is no such method or preset.
        """
        if name not in self._methods:
            self._methods[name] = open_method(name, self.settings)
        return self._methods[name]

    def budget_for(self, query: Query) -> Budget:
        """What one answer may spend where nobody says; see `Aligner.budget_for`."""
        return Aligner(self.model, self.settings).budget_for(query)

    def ledger(
        self,
        budget: Budget,
        started: float | None = None,
        on_change: Callable[[Reservation], object] | None = None,
    ) -> Ledger:
        """An account for one answer, whose time began at `started` (`time.monotonic`), or now; see
        `Ledger`."""
        return Ledger(budget, self.prices, started=started, on_change=on_change)

    async def answer(
        self,
        query: Query,
        method: str = "ecoalign",
        budget: Budget | None = None,
        *,
        ledger: Ledger | None = None,
        price_factor: float = 1.0,
        on_event: Callable[[Event], None] | None = None,
    ) -> Alignment:
        """One answer by `method` within `budget` (by default `budget_for`).

        Args:
            query: the question.
            method: as `open_method` reads it: "ecoalign", "base", "ecoalign:paper" ...
            budget: what it may spend.
            ledger: pays instead of one of the run's own, with its own budget.
            price_factor: see `Method.answer`.
            on_event: told of every event as it is recorded. It must not raise.

        Raises:
            ValueError: both a budget and a ledger are given.
            SettingsError: there is no such method.
            BudgetTooSmall, ModelError, InputError: see `Method.answer`.
        """
        if budget is not None and ledger is not None:
            raise ValueError("give a budget or a ledger, not both: a ledger has its own budget")
        chosen = self.method(method)
        ledger = ledger or self.ledger(budget or self.budget_for(query))
        return await chosen.answer(
            query, self.model, ledger, price_factor=price_factor, on_event=on_event
        )

    def stream(
        self, query: Query, method: str = "ecoalign", budget: Budget | None = None
    ) -> AsyncGenerator[Event, None]:
        """The events of `answer` as they happen; see `Aligner.stream`."""
        return stream_events(lambda on_event: self.answer(query, method, budget, on_event=on_event))

    async def compare(
        self,
        query: Query,
        methods: Sequence[str] = ("base", "ecoalign"),
        budget: Budget | None = None,
        *,
        on_event: Callable[[str, Event], None] | None = None,
    ) -> dict[str, Alignment | EcoAlignError]:
        """The same question answered by several methods at once, each within a budget of its own.

        Args:
            query: the question.
            methods: their names; the answers are in this order.
            budget: of each; by default `budget_for`.
            on_event: told of every event, with the name of the method.

        Returns:
            By method the answer, or the error that there is instead.

        Raises:
            SettingsError: one of the methods does not exist.
        """
        names = list(dict.fromkeys(methods))
        for name in names:
            self.method(name)
        budget = budget or self.budget_for(query)

        async def one(name: str) -> Alignment | EcoAlignError:
            told = None if on_event is None else partial(on_event, name)
            try:
                return await self.answer(query, name, budget, on_event=told)
            except EcoAlignError as error:
                return error

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(name)) for name in names]
        return {name: task.result() for name, task in zip(names, tasks, strict=True)}

    async def aclose(self) -> None:
        """Close what was opened here: the methods, and the model unless it was handed in."""
        for method in self._methods.values():
            await method.aclose()
        if not self._given:
            await self.model.aclose()

    async def __aenter__(self) -> Answerer:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()
