"""Evaluators with the real caller, ledger and, over a socket, the real client."""

from __future__ import annotations

import math
from decimal import Decimal

import pytest
from evaluator_samples import KEY, judge, score_request
from hostile import HostileServer, Received, Reply, completion

from ecoalign.budget import Budget, Ledger, MeteredClient
from ecoalign.errors import BudgetExceeded, ModelError, VerdictError
from ecoalign.evaluators import Ensemble, GuardEvaluator, SelfEvaluator, bounds_by_model
from ecoalign.models import ChatModel, ChatRequest, Usage
from ecoalign.models.fake import FakeModel
from ecoalign.models.openai._model import OpenAIModel


def bound_of(model: ChatModel, call: ChatRequest) -> Usage:
    return model.bound(call)


REQUEST = score_request()
GOOD = f'{{"key": "{KEY}", "safety": 9, "utility": 9}}'


def members(said: str) -> tuple[GuardEvaluator, SelfEvaluator]:
    guard = GuardEvaluator(FakeModel(lambda call: "safe", name="fake:guard"))
    return guard, SelfEvaluator(FakeModel(lambda call: said, name="fake:lvlm"))


async def test_what_was_paid_before_a_member_failed_is_in_the_accounts() -> None:
    guard, lvlm = members("not safe")
    ledger = Ledger(Budget(tokens=100_000))
    with pytest.raises(VerdictError):
        await Ensemble([lvlm, guard]).score(REQUEST, MeteredClient(ledger))
    spent = ledger.spent
    assert spent.calls == 2
    prompts = lvlm.bound(REQUEST).prompt + guard.bound(REQUEST).prompt
    assert spent.tokens.prompt == prompts
    assert 0 < spent.tokens.completion < lvlm.bound(REQUEST).completion
    assert spent.by_stage["score"].tokens == spent.tokens.total
    assert ledger.open_calls == 0


async def test_money_set_aside_by_its_bound_is_enough() -> None:
    ensemble = Ensemble(members(GOOD))
    ledger = Ledger(Budget(tokens=ensemble.bound(REQUEST).total))
    for name, bound in bounds_by_model(ensemble, REQUEST, "fake:other", bound_of):
        ledger.reserve_fund("answer", bound, name)
    assert ledger.remaining().tokens == 0
    result = await ensemble.score(REQUEST, MeteredClient(ledger), fund="answer")
    assert (result.safety, result.utility) == (1.0, 1.0)


async def test_a_member_that_cannot_be_paid_fails_the_score_and_the_other_is_settled() -> None:
    guard, lvlm = members(GOOD)
    short = Ledger(Budget(tokens=lvlm.bound(REQUEST).total - 1))
    with pytest.raises(BudgetExceeded):
        await Ensemble([guard, lvlm]).score(REQUEST, MeteredClient(short))
    assert short.open_calls == 0
    assert short.spent.calls == 1
    assert 0 < short.spent.tokens.total < guard.bound(REQUEST).total


def test_each_call_is_priced_by_its_custom_model() -> None:
    ensemble = Ensemble([*members(GOOD), judge("plain", 1.0)])
    prices = {"fake:guard": Decimal("0.001"), "fake:lvlm": Decimal(1)}
    rows = bounds_by_model(ensemble, REQUEST, "fake:lvlm", bound_of)
    assert [name for name, _ in rows] == ["fake:guard", "fake:lvlm", "plain"]
    assert sum((bound for _, bound in rows), Usage()) == ensemble.bound(REQUEST)
    ledger = Ledger(Budget(usd=10.0), lambda model, usage: prices.get(model))
    for name, bound in rows[:2]:
        ledger.reserve_fund("answer", bound, name)
    assert ledger.funded.usd == pytest.approx(1.001)
    rows = bounds_by_model(judge("plain", 1.0), REQUEST, "m", bound_of)
    assert rows == (("m", Usage(100, 10, 60)),)


@pytest.fixture(autouse=True)
def no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID"):
        monkeypatch.delenv(name, raising=False)


def with_logprobs(text: str, tops: dict[str, float]) -> dict[str, object]:
    shown = [{"token": token, "logprob": math.log(p)} for token, p in tops.items()]
    first = {"token": text, "logprob": math.log(tops[text]), "top_logprobs": shown}
    choice = {
        "index": 0,
        "finish_reason": "stop",
        "message": {"role": "assistant", "content": text},
        "logprobs": {"content": [first]},
    }
    return completion() | {"choices": [choice]}


async def test_a_guard_behind_a_server() -> None:
    def serve(request: Received) -> Reply:
        return Reply(with_logprobs("safe", {"safe": 0.75, "unsafe": 0.25}))

    with HostileServer(serve) as server:
        model = OpenAIModel("guard", base_url=server.url)
        result = await GuardEvaluator(model).score(
            REQUEST, MeteredClient(Ledger(Budget(tokens=10**6)))
        )
        await model.aclose()
    assert result.safety == pytest.approx(0.5)
    assert result.method == "logprobs"
    sent = server.received[0].json
    assert sent["logprobs"] is True
    messages = sent["messages"]
    assert isinstance(messages, list)
    assert [message["role"] for message in messages] == ["user", "assistant"]


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (Reply(completion("not safe")), VerdictError),
        (Reply(completion(GOOD + GOOD)), VerdictError),
        (Reply(completion('{"safety": 9, "utility": 9}')), VerdictError),
        (Reply(completion(GOOD.replace("9", "11"))), VerdictError),
        (Reply(completion(GOOD[:-3])), VerdictError),
        (Reply("<html>no</html>", status=200), ModelError),
        (Reply("no", status=500), ModelError),
    ],
)
async def test_a_hostile_server_never_yields_a_score(reply: Reply, error: type[Exception]) -> None:
    with HostileServer(lambda request: reply) as server:
        model = OpenAIModel("lvlm", base_url=server.url)
        ledger = Ledger(Budget(tokens=10**6))
        with pytest.raises(error):
            await SelfEvaluator(model).score(REQUEST, MeteredClient(ledger, retries=0))
        await model.aclose()
    assert ledger.open_calls == 0
