"""Self-evaluation: the LVLM scores its own thoughts, as in the paper."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from ecoalign.evaluators._base import Bounder, Completer
from ecoalign.evaluators._unseen import described, require_caption
from ecoalign.models import ChatModel, Usage, check_judge, profile_of
from ecoalign.prompts.dialect import Dialect, dialect_of
from ecoalign.prompts.requests import ScoreRequest, ScoreResult


class SelfEvaluator:
    """Scores with a chat model through a dialect, both safety and utility.

    The model may be the one that thinks or any other: a second model from another family is a
    more independent judge. One whose profile says that it sees no images is told what they show by
    the caption at the root of the path; without one there is no verdict.

    Args:
        model: who scores.
        dialect: how it is asked; the model's own by default.
    """

    def __init__(self, model: ChatModel, dialect: Dialect | None = None) -> None:
        self.model = model
        self.dialect: Dialect = dialect or dialect_of(profile_of(model))

    @property
    def name(self) -> str:
        """ "self:" and the model's name."""
        return f"self:{self.model.name}"

    async def score(
        self, request: ScoreRequest, metered: Completer, *, fund: str | None = None
    ) -> ScoreResult:
        """See `Evaluator.score`.

        Raises:
            VerdictError: also where the model sees no images and no caption describes them.
        """
        if self._blind(request):
            require_caption(self.name, request)
        asked = self._asked(request)
        calls = self.dialect.score_calls(asked)
        if len(calls) == 1:
            # No task of its own: that costs as much as all else of a call.
            only = await metered.complete(self.model, calls[0], fund=fund)
            return self.dialect.read_score(request, [only])
        # All are let finish: one that is cut off is charged at its worst case.
        outcomes = await asyncio.gather(
            *(metered.complete(self.model, call, fund=fund) for call in calls),
            return_exceptions=True,
        )
        completions = []
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
            completions.append(outcome)
        return self.dialect.read_score(asked, completions)

    def bound(self, request: ScoreRequest) -> Usage:
        """See `Evaluator.bound`."""
        calls = self.dialect.score_calls(self._asked(request))
        return sum(map(self.model.bound, calls), Usage())

    def bounds(self, request: ScoreRequest, bound: Bounder) -> tuple[tuple[str, Usage], ...]:
        """See `Itemised.bounds`."""
        calls = self.dialect.score_calls(self._asked(request))
        return tuple((self.model.name, bound(self.model, call)) for call in calls)

    def _blind(self, request: ScoreRequest) -> bool:
        return bool(request.images) and not profile_of(self.model).images

    def _asked(self, request: ScoreRequest) -> ScoreRequest:
        return described(request) if self._blind(request) else request


class NamedEvaluator:
    """The evaluator that the setting `evaluator` names: the model that answers, or another.

    Args:
        name: "self", or the name of a model.
        open_model: opens a model by its name.
        dialect: how a model is spoken to.
    """

    def __init__(
        self,
        name: str,
        open_model: Callable[[str], ChatModel],
        dialect: Callable[[ChatModel], Dialect],
    ) -> None:
        self._name = name
        self._open = open_model
        self._dialect = dialect
        self._opened: SelfEvaluator | None = None

    def of(self, model: ChatModel) -> SelfEvaluator:
        """Who scores what `model` writes; the other model is opened once.

        Raises:
            InputError: there is no such model.
            SettingsError: it is the embedded model, and what is scored is another's.
        """
        if self._name == "self":
            return SelfEvaluator(model, self._dialect(model))
        if self._opened is None:
            other = self._open(self._name)
            check_judge(other.name, model.name)
            self._opened = SelfEvaluator(other, self._dialect(other))
        return self._opened

    async def aclose(self) -> None:
        """Close the connections of the other model, if any; it opens anew if needed again."""
        if self._opened is not None:
            closing, self._opened = self._opened, None
            await closing.model.aclose()
