"""No method passes its budget, in no unit, whatever its model does."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from chaos import Chaos, HighBound, prices
from clock import no_wait
from hypothesis import given, settings
from hypothesis import strategies as st
from methodical import UNSAFE, Stages, key_in
from scripted import Script, asking

from ecoalign.budget import Budget, Ledger
from ecoalign.errors import BudgetTooSmall, ModelError, UnpricedModelError, VerdictError
from ecoalign.evaluators import SelfEvaluator
from ecoalign.methods import METHODS, open_method
from ecoalign.methods._baseline import Baseline
from ecoalign.methods._refusals import WITHHELD
from ecoalign.models import ChatRequest, Completion, Usage
from ecoalign.models.fake import FakeModel
from ecoalign.search.context import RunContext, record_run
from ecoalign.search.loop import search
from ecoalign.search.synthesizer import FIXED_REFUSAL, FIXED_REFUSALS
from ecoalign.settings import Settings

if TYPE_CHECKING:
    from ecoalign.trace import Alignment

BASELINES = [name for name in METHODS if not name.startswith("ecoalign")]
GUARDED = ["ecso", "vlm-guard", "best-of-n"]


class Wild(Chaos):
    """Anything at any stage of any method."""

    def __init__(self, seed: int, chaos: float) -> None:
        super().__init__(seed, chaos)
        self.script = Script()
        self.unsafe: set[str] = set()

    def text(self, request: ChatRequest) -> str:
        rng = self.rng
        if request.stage in {"gate", "check"}:
            word = rng.choice(["safe", "unsafe", "perhaps"])
            return f'{{"key": "{key_in(request)}", "verdict": "{word}"}}'
        if request.stage in {"answer", "sample", "blind", "caption"}:
            return rng.choice(["", "same", "t" * rng.randrange(1, 900), f"text {rng.random()}"])
        said = self.script(request)
        assert isinstance(said, str)
        return said


async def run(name: str, model: FakeModel, ledger: Ledger, **chosen: Any) -> Alignment:
    """One answer that waits for nothing between the attempts of a call."""
    settings = Settings.load(env={}, **chosen)
    method = open_method(name, settings)
    evaluator = method.evaluator(model) if isinstance(method, Baseline) else SelfEvaluator(model)
    ctx = RunContext.of(asking(1), model, evaluator, ledger, settings, sleep=no_wait)
    if isinstance(method, Baseline):
        return await asyncio.wait_for(method.run(ctx), 60)
    return await asyncio.wait_for(record_run(ctx, name, search), 60)


budgets = st.builds(
    Budget,
    st.none() | st.integers(300, 12_000),
    st.none() | st.floats(0.001, 0.08),
    st.none() | st.floats(0.05, 3.0),
).filter(lambda budget: not budget.is_empty)


@settings(max_examples=120, deadline=None)
@given(
    st.sampled_from([*BASELINES, "ecoalign"]),
    st.integers(0, 10**9),
    st.sampled_from([0.0, 0.1, 0.4, 1.0]),
    budgets,
    st.integers(0, 1),
)
def test_any_answer_is_paid_for_within_the_budget(
    name: str, seed: int, chaos: float, budget: Budget, retries: int
) -> None:
    wild = Wild(seed, chaos)
    ledger = Ledger(budget, prices, lambda: wild.clock)
    model = HighBound(wild)
    answer: Alignment | None = None
    error: BudgetTooSmall | ModelError | VerdictError | None = None
    try:
        answer = asyncio.run(run(name, model, ledger, retries=retries))
    except (BudgetTooSmall, ModelError, VerdictError) as caught:
        error = caught
    if isinstance(error, BudgetTooSmall):
        assert error.unit in {"tokens", "usd", "seconds"}
        assert error.smallest > 0
    elif error is not None:
        assert chaos > 0
    assert ledger.open_calls == 0
    assert ledger.funded.tokens in (0, None) or name == "ecoalign"
    spent = ledger.spent
    if budget.tokens is not None:
        assert spent.tokens.total <= budget.tokens
    if budget.usd is not None:
        assert spent.usd is not None
        assert spent.usd <= budget.usd
    if answer is not None:
        assert answer.spent.tokens == spent.tokens
        assert 1 <= answer.critical_path <= model.calls
        if name in GUARDED and answer.safety is None:
            # What no verdict stands behind is the fixed refusal, or ECSO's second answer.
            known = answer.answer in {*FIXED_REFUSALS, WITHHELD}
            assert known or answer.stop_reason == "eyes-closed"


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("unit", ["tokens", "usd"])
async def test_the_smallest_budget_that_is_named_does_answer(name: str, unit: str) -> None:
    tiny = Budget(tokens=20) if unit == "tokens" else Budget(usd=1e-5)
    model = Script().model() if name.startswith("ecoalign") else Stages().model()
    plain = {"horizon_unit": "actions"} if unit == "usd" else {}
    with pytest.raises(BudgetTooSmall) as caught:
        await run(name, model, Ledger(tiny, prices), **plain)
    assert model.calls == 0
    smallest = caught.value.smallest
    assert caught.value.unit == unit
    enough = Budget(tokens=int(smallest)) if unit == "tokens" else Budget(usd=smallest * 1.0001)
    answer = await run(name, model, Ledger(enough, prices), **plain)
    assert answer.answer not in {"", FIXED_REFUSAL}


@pytest.mark.parametrize("name", METHODS)
async def test_an_unknown_price_is_an_error_before_anything_is_called(name: str) -> None:
    model = Stages().model()
    with pytest.raises(UnpricedModelError):
        await run(name, model, Ledger(Budget(usd=1.0)))
    assert model.calls == 0


@pytest.mark.parametrize("name", BASELINES)
async def test_time_that_runs_out_over_the_first_call_is_too_small_a_budget(name: str) -> None:
    async def forever(request: ChatRequest) -> str:
        await asyncio.Event().wait()
        return ""

    ledger = Ledger(Budget(seconds=0.05))
    with pytest.raises(BudgetTooSmall) as caught:
        await run(name, FakeModel(forever), ledger)
    assert caught.value.unit == "seconds"
    assert caught.value.smallest > 0.05
    assert ledger.open_calls == 0


@pytest.mark.parametrize("name", GUARDED)
async def test_time_that_runs_out_over_a_check_lets_nothing_out(name: str) -> None:
    async def forever(request: ChatRequest) -> str:
        await asyncio.Event().wait()
        return ""

    model = Stages(answer="CANARY", sample="CANARY", check=forever, score=forever).model()
    answer = await run(name, model, Ledger(Budget(seconds=0.05)))
    assert (answer.answer, answer.stop_reason) == (FIXED_REFUSAL, "fail-closed")
    assert "CANARY" not in str(dict(answer.detail))


@pytest.mark.parametrize("name", BASELINES)
async def test_a_cancelled_answer_closes_its_holds(name: str) -> None:
    reached = asyncio.Event()

    async def stuck(request: ChatRequest) -> str:
        reached.set()
        await asyncio.Event().wait()
        return ""

    ledger = Ledger(Budget(tokens=100_000))
    task = asyncio.create_task(run(name, FakeModel(stuck), ledger))
    await reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ledger.open_calls == 0
    assert ledger.funded.tokens == 0
    assert 0 < ledger.spent.tokens.total <= 100_000


@pytest.mark.parametrize("name", ["base", "cot", *GUARDED])
async def test_a_server_that_reports_what_cannot_be_ends_every_method(name: str) -> None:
    lie = lambda request: Completion("CANARY", Usage(300, 90_000))  # noqa: E731
    model = Stages(answer=lie, sample=lie, check=UNSAFE).model()
    ledger = Ledger(Budget(tokens=60_000))
    with pytest.raises(ModelError, match="reported 90,000 tokens of output") as caught:
        await run(name, model, ledger)
    assert caught.value.fault == "false-usage"
    assert caught.value.trace is not None
    assert "CANARY" not in str(list(caught.value.trace)[-1])
    assert ledger.spent.tokens.completion >= 90_000
    assert ledger.open_calls == 0
