"""Runs one call with a method, on a ledger. Models and methods are opened once for all calls."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ecoalign.budget import Ledger
from ecoalign.errors import SettingsError
from ecoalign.methods import FULL_PIXELS, open_method, with_preset
from ecoalign.models import checked, open_model
from ecoalign.settings import SERVER_BUDGET

if TYPE_CHECKING:
    from ecoalign.budget import Budget, Spending
    from ecoalign.methods import Method
    from ecoalign.models import ChatModel, FinishReason, SamplingParams, ToolCall
    from ecoalign.query import Query
    from ecoalign.settings import Settings
    from ecoalign.trace import Alignment
    from ecoalign.trace.events import Event

__all__ = ["ChatService", "Outcome", "Plan"]

ECOALIGN = "ecoalign"

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
        events: of the run.

    The rest is as in `Alignment`.
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
        """That of a run."""
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
        self._presets: dict[str, Settings] = {}
        self._methods: dict[tuple[str, str], Method] = {}

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
            plan = Plan(method, self.settings)
            self._opened(plan)
            return plan
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
            on_event: told of every event of the run.

        Raises:
            EcoAlignError: see `Method.answer`.
        """
        method = self._opened(plan)
        try:
            result = await method.answer(query, self.model, ledger, price=price, on_event=on_event)
        finally:
            if method not in self._methods.values():
                await method.aclose()
        return Outcome.of_alignment(result)

    def _opened(self, plan: Plan) -> Method:
        key = (plan.method, plan.settings.preset)
        method = self._methods.get(key)
        if method is None:
            method = open_method(plan.method, plan.settings)
            if len(self._methods) < _MOST_METHODS:
                self._methods[key] = method
        return method

    async def aclose(self) -> None:
        """Close every connection."""
        for method in self._methods.values():
            await method.aclose()
        await self.model.aclose()
