"""The same question answered by several methods, without async."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Unpack

from ecoalign.aligner import run_blocking, settings_for
from ecoalign.budget import Budget, BudgetLike
from ecoalign.errors import EcoAlignError, InputError
from ecoalign.methods._answerer import Answerer
from ecoalign.models import ChatModel
from ecoalign.query import AllowUrls, Images, Query
from ecoalign.settings import Options, Settings
from ecoalign.trace import Alignment, dollars, html_table
from ecoalign.trace.events import Event

__all__ = ["Comparison", "compare"]


class Comparison(Mapping[str, Alignment]):
    """Answers by the name of their method, in the order in which they were asked for.

    To read the answer of a method that failed raises its error. A notebook shows them as a table.

    Attributes:
        answers: by method, where there is one.
        errors: by method, where there is none.
    """

    def __init__(self, outcomes: Mapping[str, Alignment | EcoAlignError]) -> None:
        self._outcomes = dict(outcomes)
        self.answers = {n: one for n, one in outcomes.items() if isinstance(one, Alignment)}
        self.errors = {n: one for n, one in outcomes.items() if isinstance(one, EcoAlignError)}

    def __getitem__(self, method: str) -> Alignment:
        """The answer of a method.

        Raises:
            KeyError: it was not asked.
            EcoAlignError: its own error.
        """
        if method in self.errors:
            raise self.errors[method]
        return self.answers[method]

    def __iter__(self) -> Iterator[str]:
        return iter(self._outcomes)

    def __len__(self) -> int:
        return len(self._outcomes)

    def __repr__(self) -> str:
        lines = ",\n".join(f"    {name!r}: {one!r}" for name, one in self._outcomes.items())
        return f"Comparison({{\n{lines}\n}})"

    def _repr_html_(self) -> str:
        rows = [
            _row(name, one)
            if isinstance(one, Alignment)
            else (name, f"{type(one).__name__}: {one}", *[""] * 6)
            for name, one in self._outcomes.items()
        ]
        heads = ("method", "answer", "refused", "safety", "utility", "tokens", "dollars", "seconds")
        return html_table(heads, rows, "<<<>>>>>")


def _row(name: str, one: Alignment) -> tuple[str, ...]:
    spent = one.spent
    return (
        name,
        one.answer,
        "yes" if one.refused else "no",
        "not scored" if one.safety is None else f"{one.safety:+.2f}",
        "" if one.utility is None else f"{one.utility:.2f}",
        f"{spent.tokens.total:,}",
        dollars(spent.usd),
        f"{spent.seconds:.1f}",
    )


def compare(
    image: Images,
    question: str,
    methods: Sequence[str] = ("base", "ecoalign"),
    *,
    model: str | ChatModel | None = None,
    budget: BudgetLike | None = None,
    evaluator: str | None = None,
    settings: Settings | None = None,
    instructions: str = "",
    context: Sequence[str] = (),
    allow_urls: AllowUrls = False,
    on_event: Callable[[str, Event], None] | None = None,
    **options: Unpack[Options],
) -> Comparison:
    """Answer a question by several methods at once, each within a budget of its own.

        both = compare("photo.jpg", "What does the sign say?", model="openai:gpt-4o")
        both["base"].answer                # what the plain model says: it is scored by nobody
        both["ecoalign"].answer            # what EcoAlign says

    Args:
        image, question, model, budget, settings, instructions, context, allow_urls, options: see
            `align`.
        methods: "base" (the plain model), "ecoalign", "ecoalign:PRESET" as in "ecoalign:paper",
            "best-of-N", "ecso", "vlm-guard" and the others that `open_method` reads.
        evaluator: the name of another model that scores.
        on_event: called with the name of the method and the event, as it happens.

    Returns:
        By method the answer. Where one fails, the others are there; to read it raises its error.

    Raises:
        InputError: an image, the question, the budget or a setting cannot be used, or there is no
            such method (SettingsError).
    """
    chosen = settings_for(model, settings, evaluator, options)
    query = Query.of(image, question, context, None, instructions, allow_urls=allow_urls)
    allowed = None if budget is None else Budget.of(budget)
    if isinstance(methods, str):
        raise InputError(f'methods are a list: methods=["{methods}"]')
    own = None if isinstance(model, str) else model
    if isinstance(model, str) and model != chosen.model:
        chosen = chosen.replace(model=model)

    async def once() -> Comparison:
        async with Answerer(chosen, own) as answerer:
            return Comparison(await answerer.compare(query, methods, allowed, on_event=on_event))

    return run_blocking(once())
