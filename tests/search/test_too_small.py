"""A budget that is too small names the least that does, and that does; one that is not is never
said to have run out."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

import pytest
from scripted import Script, action, actions, align, asking

from ecoalign.aligner import Aligner
from ecoalign.budget import Budget, Ledger, Pricing
from ecoalign.errors import BudgetTooSmall
from ecoalign.evaluators import GuardEvaluator
from ecoalign.methods import open_method
from ecoalign.models import ChatModel, Completion, SamplingParams, Usage
from ecoalign.models.embedded import EmbeddedModel
from ecoalign.models.fake import FakeModel
from ecoalign.query import Query
from ecoalign.settings import Settings
from ecoalign.trace import Alignment


def prices(model: str, usage: Usage) -> Decimal:
    return Decimal(usage.prompt * 3 + usage.completion * 17) / 10**7


def least_and_sensible(error: BudgetTooSmall) -> tuple[Budget, Budget]:
    least, sensible = re.findall(r"'([^']+)'", str(error))
    return Budget.parse(least), Budget.parse(sensible)


async def ask(
    model: ChatModel,
    query: Query,
    budget: Budget,
    price: Pricing = prices,
    evaluator: Any = None,
    **settings: Any,
) -> Alignment:
    chosen = Settings.load(env={}, **({"retries": 0} | settings))
    return await Aligner(model, chosen, evaluator=evaluator, price=price).align(query, budget)


def scripted() -> ChatModel:
    return Script(propose=lambda p: actions(action("answer"))).model()


def embedded() -> ChatModel:
    return EmbeddedModel()


@pytest.mark.parametrize("budget", [Budget(1), Budget(usd=1e-9), Budget(1, 1e-9), Budget(1, 5.0)])
@pytest.mark.parametrize("images", [0, 1, 3])
@pytest.mark.parametrize(
    "settings",
    [{}, {"draft": False}, {"preset": "paper"}, {"synthesis": "always"}, {"fidelity": "rollout"}],
)
async def test_the_least_budget_that_is_named_answers(
    budget: Budget, images: int, settings: dict[str, Any]
) -> None:
    query = asking(images)
    with pytest.raises(BudgetTooSmall) as caught:
        await ask(scripted(), query, budget, **settings)
    least, sensible = least_and_sensible(caught.value)
    assert caught.value.smallest == getattr(least, caught.value.unit)
    result = await ask(scripted(), query, least, **settings)
    assert not result.refused
    assert result.answer
    assert result.spent.tokens.total <= (least.tokens or float("inf"))
    result = await ask(scripted(), query, sensible, **settings)
    assert not result.refused
    assert result.stop_reason != "budget"
    if least.tokens and least.usd is None:
        # It is what a long caption would take, and not much more than a short one does.
        with pytest.raises(BudgetTooSmall):
            await ask(scripted(), query, Budget(int(0.8 * least.tokens)), **settings)


@pytest.mark.parametrize("budget", [Budget(1), Budget(usd=1e-9), Budget(200)])
async def test_the_least_budget_of_the_embedded_model_answers(budget: Budget) -> None:
    query = Query.of("examples/signs.png", "What is the sum of the two numbers?")
    with pytest.raises(BudgetTooSmall) as caught:
        await ask(embedded(), query, budget)
    least, sensible = least_and_sensible(caught.value)
    result = await ask(embedded(), query, least)
    assert result.answer
    assert not result.refused
    assert (await ask(embedded(), query, sensible)).stop_reason == "satisfied"
    if budget.tokens:
        assert sensible == Budget(8000)


async def test_a_judge_of_its_own_is_counted_in() -> None:
    guard = GuardEvaluator(FakeModel(lambda request: "safe", name="guard"))
    with pytest.raises(BudgetTooSmall) as caught:
        await ask(scripted(), asking(1), Budget(1, 1e-9), evaluator=guard)
    least, _ = least_and_sensible(caught.value)
    assert not (await ask(scripted(), asking(1), least, evaluator=guard)).refused


@pytest.mark.parametrize("name", ["base", "cot", "best-of-4", "ecso", "vlm-guard"])
@pytest.mark.parametrize("budget", [Budget(1), Budget(usd=1e-9)])
async def test_the_least_budget_of_every_method_answers(name: str, budget: Budget) -> None:
    query = Query.of("examples/signs.png", "What colour is the circle?")
    method = open_method(name, Settings(retries=0))

    async def answer(allowed: Budget) -> Alignment:
        return await method.answer(query, EmbeddedModel(), Ledger(allowed, prices))

    with pytest.raises(BudgetTooSmall, match=name) as caught:
        await answer(budget)
    least, sensible = least_and_sensible(caught.value)
    assert (await answer(least)).answer
    assert (await answer(sensible)).answer


async def test_what_a_failed_scan_has_cost_is_counted_in() -> None:
    """The first attempt is billed and lost; what is left does not pay for a second one."""

    def script() -> FakeModel:
        lost = iter([Completion("", Usage(300, 10), "weird")])
        return Script(scan=lambda p: next(lost, "a caption")).model()

    for tokens in range(1500, 3200, 100):
        try:
            result = await align(script(), tokens, retries=2)
        except BudgetTooSmall as error:
            least, _ = least_and_sensible(error)
            assert least.tokens is not None
            assert least.tokens > tokens
            await align(script(), least.tokens, retries=2)
        else:
            assert result.spent.tokens.total <= tokens


async def test_no_time_is_told_as_that() -> None:
    now = [0.0]
    settings = Settings(draft=False, retries=0)

    def scan(prompt: Any) -> str:
        now[0] += 5.0
        return '{"caption": "c", "safety": 9, "strategy": ""}'

    aligner = Aligner(Script(scan=scan).model(), settings, clock=lambda: now[0])
    with pytest.raises(BudgetTooSmall, match="try '60s'") as caught:
        await aligner.align(asking(), Budget(seconds=1e-12))
    assert caught.value.unit == "seconds"


async def test_a_search_that_the_budget_ends_says_what_was_missing_and_what_would_do() -> None:
    model = Script(propose=lambda p: actions(*(action("think", str(i)) for i in range(4)))).model()
    seen = 0
    for tokens in range(3_000, 9_000, 250):
        result = await align(model, tokens, lambda0=0.0)
        if result.ended != "budget":
            continue
        seen += 1
        found = re.search(
            r"^the budget of ([\d,]+) tokens has no room for [a-z ]+: that may need ([\d,]+) "
            r"tokens, and ([\d,]+) tokens are left, beside ([\d,]+) tokens spent and ([\d,]+) "
            r"tokens kept for the answer. '(\d+)' would have paid for it; a sensible budget is "
            r"'(\d+)'$",
            result.hint,
        )
        assert found, result.hint
        budget, needed, left, spent, kept, enough, sensible = (
            int(text.replace(",", "")) for text in found.groups()
        )
        assert budget == tokens
        assert needed > left == budget - spent - kept
        assert enough == spent + kept + needed
        assert sensible >= 40_000
        assert "ran out" not in result.hint
    assert seen


async def test_dollars_are_told_in_dollars() -> None:
    model = Script(propose=lambda p: actions(*(action("think", str(i)) for i in range(4)))).model()
    result = await ask(model, asking(1), Budget(usd=0.003), lambda0=0.0, draft=False)
    assert result.ended == "budget"
    assert "the budget of $0.003 has no room for" in result.hint
    found = re.findall(r"'\$([0-9.]+)'", result.hint)
    assert 0.003 < float(found[0]) < float(found[1])


async def test_a_risk_that_leaves_a_share_of_the_budget_is_named() -> None:
    script = Script(
        request_safety=5, propose=lambda p: actions(*(action("think", str(i)) for i in range(4)))
    )
    for tokens in range(6_000, 20_000, 1_000):
        result = await align(script.model(), tokens, lambda0=0.0)
        if result.ended == "budget":
            assert "of the share that the risk of the request leaves to a search" in result.hint
            return
    pytest.fail("no search was ended by its budget")


async def test_an_answer_that_its_cap_cut_off_says_so_and_how_to_get_more() -> None:
    script = Script(propose=lambda p: actions(action("answer")), execute=lambda p: "on " * 1100)
    query, room = asking(1), Budget(100_000)
    result = await ask(script.model(), query, room, draft=False, caps={"answer": 20})
    assert result.finish_reason == "length"
    assert "cut off at 20 output tokens" in result.hint
    assert 'caps={"answer": 40}' in result.hint
    more = Query.of(None, "What?", sampling=SamplingParams(max_tokens=900))
    small = await ask(script.model(), more, Budget(12_000), draft=False)
    assert "as a budget of 12,000 tokens allows no more" in small.hint
    found = re.search(r"it takes ([\d,]+)$", small.hint)
    assert found
    enough = Budget(int(found[1].replace(",", "")))
    assert (await ask(script.model(), more, enough, draft=False)).hint == ""
    base = open_method("base", Settings(retries=0, caps={"direct": 20}))
    alone = await base.answer(query, FakeModel(lambda r: "on " * 1100), Ledger(room))
    assert 'caps={"direct": 40}' in alone.hint
