"""Runs one call with a method, on a ledger. Models and methods are opened once for all calls."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ecoalign.aligner import Aligner
from ecoalign.budget import Ledger
from ecoalign.errors import SettingsError
from ecoalign.methods import open_method
from ecoalign.methods._context import FULL_PIXELS
from ecoalign.methods._registry import Judge, with_preset
from ecoalign.models import checked, open_model
from ecoalign.settings import SERVER_BUDGET
from ecoalign.trace import Alignment

if TYPE_CHECKING:
    from ecoalign.budget import Budget, Spending
    from ecoalign.methods._base import Answer
    from ecoalign.methods._registry import OpenMethod
    from ecoalign.models import ChatModel, FinishReason, SamplingParams, ToolCall
    from ecoalign.query import Query
    from ecoalign.settings import Settings
    from ecoalign.trace.events import Event

__all__ = ["ChatService", "Outcome", "Plan"]

ECOALIGN = "ecoalign"

_DEAREST = 1000.0
"""The largest value of the setting lambda0."""

_MOST_METHODS = 64


@dataclass(frozen=True, slots=True)
class Plan:
    """How a call is answered, checked.

    Attributes:
        method: its name; "ecoalign" whatever the preset.
        settings: with the preset; the price and the budget of a run are put in by `run`.
    """

    method: str
    settings: Settings = field(repr=False)

    @property
    def searches(self) -> bool:
        """Whether it is EcoAlign itself."""
        return self.method == ECOALIGN

    @property
    def side(self) -> int:
        """Pixels of the view of an image that is asked for first."""
        return self.settings.view_pixels if self.searches else FULL_PIXELS


@dataclass(frozen=True, slots=True)
class Outcome:
    """An answer with its evidence, whatever the method.

    Attributes:
        content: the text that is shown; None if it is nothing but calls of tools.
        events: of the search; empty for other methods.

    The rest is as in `Alignment` and `Answer`.
    """

    content: str | None = field(repr=False)
    refused: bool
    finish_reason: FinishReason
    safety: float | None
    utility: float | None
    stop_reason: str
    hint: str
    spent: Spending
    tool_calls: tuple[ToolCall, ...] = field(default=(), repr=False)
    logprobs: Mapping[str, object] | None = field(default=None, repr=False)
    events: tuple[Event, ...] = field(default=(), repr=False)

    @classmethod
    def of_alignment(cls, result: Alignment) -> Outcome:
        """That of a search."""
        return cls(
            content=result.content,
            refused=result.refused,
            finish_reason=result.finish_reason,
            safety=result.safety,
            utility=result.utility,
            stop_reason=result.stop_reason,
            hint=result.hint,
            spent=result.spent,
            tool_calls=result.tool_calls,
            logprobs=result.logprobs,
            events=result.trace.events,
        )

    @classmethod
    def of_answer(cls, answer: Answer) -> Outcome:
        """That of another method."""
        return cls(
            content=answer.content,
            refused=answer.refused,
            finish_reason=answer.finish_reason,
            safety=answer.safety,
            utility=answer.utility,
            stop_reason=answer.stop_reason,
            hint="",
            spent=answer.spent,
            tool_calls=answer.tool_calls,
            logprobs=answer.logprobs,
        )


class ChatService:
    """The model, who scores, and the methods.

    Args:
        settings: of the server.

    Raises:
        InputError: there is no such model, or it has no key.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        remote = settings.model != "embedded"
        base_url = settings.base_url if remote else None
        self.model: ChatModel = open_model(settings.model, base_url, settings.timeout)
        self.prices = settings.price_book()
        self._judge = Judge(settings)
        self._presets: dict[str, Settings] = {}
        self._methods: dict[str, OpenMethod] = {}

    @property
    def budget(self) -> Budget:
        """Of a request that does not choose, nor its key: as for `Aligner`."""
        if self.settings.origin("budget") == "default" and self.model.name != "embedded":
            return SERVER_BUDGET
        return self.settings.budget

    def plan(self, method: str, preset: str | None) -> Plan:
        """How to answer with `method` ("ecoalign:paper" has its preset) and `preset`.

        Raises:
            SettingsError: there is no such method or preset, or they do not go together.
        """
        kind, _, own = method.partition(":")
        if kind != ECOALIGN:
            self._opened(method)
            return Plan(method, self.settings)
        if own and preset and own != preset:
            raise SettingsError(f"the method {method!r} and the preset {preset!r} differ")
        chosen = own or preset
        if not chosen or chosen == self.settings.preset:
            return Plan(ECOALIGN, self.settings)
        if chosen not in self._presets:
            self._presets[chosen] = with_preset(self.settings, chosen)
        return Plan(ECOALIGN, self._presets[chosen])

    def check(self, sampling: SamplingParams) -> None:
        """Refuse what the model surely cannot honour.

        Raises:
            InputError: with the `param`.
        """
        checked(self.model, sampling)

    def ledger(self, budget: Budget) -> Ledger:
        """An account for one run."""
        return Ledger(budget, self.prices)

    async def run(
        self,
        plan: Plan,
        query: Query,
        ledger: Ledger,
        *,
        price: float = 1.0,
        on_event: Callable[[Event], None] | None = None,
    ) -> Outcome:
        """Answer.

        Args:
            plan: how.
            query: what.
            ledger: pays; whatever happens, it knows what was spent.
            price: factor on the setting `lambda0`, > 0.
            on_event: told of every event of a search.

        Raises:
            EcoAlignError: see `Aligner.align` and `Method.answer`.
        """
        if not plan.searches:
            method = self._opened(plan.method)
            try:
                return Outcome.of_answer(await method.answer(query, self.model, ledger))
            finally:
                if self._methods.get(plan.method) is not method:
                    await method.aclose()
        dear = min(_DEAREST, plan.settings.lambda0 * price)
        settings = plan.settings.replace(budget=ledger.budget, lambda0=dear)
        evaluator = self._judge.evaluator()
        aligner = Aligner(self.model, settings, evaluator=evaluator, price=self.prices)
        if on_event is None:
            return Outcome.of_alignment(await aligner.align(query, ledger=ledger))
        events: list[Event] = []
        async for event in aligner.stream(query, ledger=ledger):
            events.append(event)
            on_event(event)
        return Outcome.of_alignment(Alignment.from_events(events))

    def _opened(self, name: str) -> OpenMethod:
        method = self._methods.get(name)
        if method is None:
            method = open_method(name, self.settings)
            if len(self._methods) < _MOST_METHODS:
                self._methods[name] = method
        return method

    async def aclose(self) -> None:
        """Close every connection."""
        for method in self._methods.values():
            await method.aclose()
        await self._judge.aclose()
        await self.model.aclose()
