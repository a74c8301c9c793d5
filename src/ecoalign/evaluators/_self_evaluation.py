"""Self-evaluation: the LVLM scores its own thoughts, as in the paper."""

from __future__ import annotations

from ecoalign.evaluators._base import Completer
from ecoalign.models import ChatModel, Usage, open_model
from ecoalign.prompts.dialect import Dialect, dialect_named
from ecoalign.prompts.requests import ScoreRequest, ScoreResult


class SelfEvaluator:
    """Scores with a chat model through a dialect, both safety and utility, in one call.

    The model may be the one that thinks or any other: a second model from another family is a
    more independent judge.

    Args:
        model: who scores.
        dialect: how it is asked; the model's own by default.
    """

    def __init__(self, model: ChatModel, dialect: Dialect | None = None) -> None:
        self.model = model
        self.dialect: Dialect = dialect or dialect_named(model.dialect)

    @property
    def name(self) -> str:
        """ "self:" and the model's name."""
        return f"self:{self.model.name}"

    async def score(
        self, request: ScoreRequest, metered: Completer, *, fund: str | None = None
    ) -> ScoreResult:
        """See `Evaluator.score`."""
        call = self.dialect.render(request)
        completion = await metered.complete(self.model, call, fund=fund)
        return self.dialect.parse_score(request, completion)

    def bound(self, request: ScoreRequest) -> Usage:
        """See `Evaluator.bound`."""
        return self.model.bound(self.dialect.render(request))

    def bounds(self, request: ScoreRequest) -> tuple[tuple[str, Usage], ...]:
        """See `Itemised.bounds`: one call."""
        return ((self.model.name, self.bound(request)),)


class NamedEvaluator:
    """The evaluator that the setting `evaluator` names: the model that answers, or another.

    Args:
        name: "self", or the name of a model.
        timeout: longest a call may take, in seconds.
    """

    def __init__(self, name: str, timeout: float) -> None:
        self._name = name
        self._timeout = timeout
        self._opened: SelfEvaluator | None = None

    def of(self, model: ChatModel) -> SelfEvaluator:
        """Who scores what `model` writes; the other model is opened once.

        Raises:
            InputError: there is no such model.
        """
        if self._name == "self":
            return SelfEvaluator(model)
        if self._opened is None:
            self._opened = SelfEvaluator(open_model(self._name, None, self._timeout))
        return self._opened

    async def aclose(self) -> None:
        """Close the connections of the other model, if any; it opens anew if needed again."""
        if self._opened is not None:
            closing, self._opened = self._opened, None
            await closing.model.aclose()
