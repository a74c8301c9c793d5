"""`ecoalign ask --estimate`: what it would spend, told without a call."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ecoalign.cli._text import amount, print_json, rich_console, rich_table, say, tell
from ecoalign.methods import Answerer, estimate
from ecoalign.models import PROVIDERS, provider_of

if TYPE_CHECKING:
    from ecoalign.budget import Amount, Budget
    from ecoalign.methods import Estimate
    from ecoalign.query import Query
    from ecoalign.settings import Role, Settings


@contextmanager
def no_key_needed(settings: Settings) -> Iterator[None]:
    """As nobody is asked, a model can be opened without its key: a word that is no key stands for
    one that is missing, and is taken away again."""
    names = list[str]()
    asked: tuple[tuple[Role, str], ...] = (
        ("model", settings.model),
        ("evaluator", settings.evaluator),
    )
    for role, spec in asked:
        if spec == "self":
            continue
        way = settings.reach(spec, role)
        provider = provider_of(way.spec)[0] or PROVIDERS["openai"]
        name = provider.key_env if way.key_env is None else way.key_env
        if name and not os.environ.get(name, "").strip():
            names.append(name)
    os.environ.update(dict.fromkeys(names, "none-as-nobody-is-asked"))
    try:
        yield
    finally:
        for name in names:
            os.environ.pop(name, None)


def tell_estimates(
    answerer: Answerer, query: Query, methods: Sequence[str], budget: Budget, *, as_json: bool
) -> None:
    """Print what each method would spend: a table, or one JSON object.

    Raises:
        InputError: a method does not exist, or the model cannot read the question.
    """
    found = [
        estimate(query, answerer.model, answerer.settings, budget, method) for method in methods
    ]
    if as_json:
        print_json(
            {
                "question": query.question,
                "model": answerer.model.name,
                "budget": {"tokens": budget.tokens, "usd": budget.usd, "seconds": budget.seconds},
                "estimates": {one.method: one.to_json() for one in found},
            }
        )
        return
    rows = [_row(one) for one in found]
    rich_console().print(rich_table(("method", "least", "typical", "most"), rows))
    for one in found:
        name = f"{one.method}, " if len(found) > 1 else ""
        for what, how in one.how.items():
            if what != "most" or one is found[-1]:
                tell(f"{name if what != 'most' else ''}{what}: {how}")
    if any(one.least.usd is None for one in found):
        say("price: unknown for this model; give it in ecoalign.toml, [prices]")


def _row(one: Estimate) -> tuple[str, ...]:
    return (one.method, _shown(one.least), _shown(one.typical), _shown(one.most))


def _shown(what: Amount | None) -> str:
    if what is None:
        return "not measured"
    return amount(what.tokens, what.usd or None, what.seconds) or "no bound"
