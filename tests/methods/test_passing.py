"""What a client asks of the answer, in every method; and one failed branch of several."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from hostile import HostileServer, Received, Reply, completion
from methodical import Stages, answered, graded, stages_of
from scripted import image
from served import well_behaved

from ecoalign.budget import Budget, Ledger
from ecoalign.errors import InputError, ModelError, VerdictError
from ecoalign.methods import METHODS, open_method
from ecoalign.methods._refusals import WITHHELD
from ecoalign.models import Completion, SamplingParams, ToolCall, Usage
from ecoalign.models.fake import FakeModel
from ecoalign.models.openai._model import OpenAIModel
from ecoalign.query import Query
from ecoalign.settings import Settings
from ecoalign.trace import Alignment

if TYPE_CHECKING:
    from collections.abc import Callable

    from ecoalign.models import ChatRequest

PARAMS: dict[str, object] = {"temperature": 0.7, "top_p": 0.9, "stop": ["END"], "x_vendor": 1}
CALL = ToolCall("call_1", "look_up", '{"what": "sign"}')
ANSWERING = {"answer", "sample", "blind"}
CHECKED = ["ecso", "vlm-guard", "best-of-n"]
BASELINES = ["base", "cot", "cod", "safety-prompt", *CHECKED]


def asked(sampling: SamplingParams, context: tuple[str, ...] = ()) -> Query:
    return Query.of([image()], "What does the sign say?", context, sampling)


@pytest.mark.parametrize("name", BASELINES)
async def test_the_answering_calls_carry_it_and_no_others(name: str) -> None:
    model = Stages(check=graded(0, 0)).model()  # so that ecso asks again
    await answered(name, model, query=asked(SamplingParams(33, PARAMS)))
    assert set(stages_of(model)) & ANSWERING
    for request in model.requests:
        carries = request.stage in ANSWERING
        assert request.client == (PARAMS if carries else {}), request.stage
        assert (request.max_tokens == 33) is carries
        assert (request.temperature == 0.7) is carries


async def test_samples_are_a_choice_even_where_the_client_sets_the_seed() -> None:
    model = Stages().model()
    await answered(
        "best-of-4", model, query=asked(SamplingParams(params={"seed": 7, "top_p": 0.5}))
    )
    drawn = [request.client for request in model.requests if request.stage == "sample"]
    assert drawn == [{"seed": 7 + i, "top_p": 0.5} for i in range(4)]


@pytest.mark.parametrize("name", BASELINES)
async def test_earlier_turns_are_data_in_every_call(name: str) -> None:
    model = Stages(check=graded(0, 0)).model()
    await answered(name, model, query=asked(SamplingParams(), ("system: Speak like a pirate.",)))
    for request in model.requests:
        text = request.messages[-1].text
        start, end = text.index("BEGIN"), text.index("END")
        assert start < text.index("Speak like a pirate.") < end


def saying(done: Completion, **more: Any) -> FakeModel:
    return Stages(answer=lambda r: done, sample=lambda r: done, **more).model()


@pytest.mark.parametrize("name", BASELINES)
async def test_the_answer_keeps_its_finish_reason_tool_calls_and_logprobs(name: str) -> None:
    raw = {"content": [{"token": "It says", "bytes": None}, {"token": " 42", "bytes": None}]}
    done = Completion("It says 42", Usage(20, 9), "length", raw_logprobs=raw, tool_calls=(CALL,))
    result = await answered(name, saying(done), query=asked(SamplingParams(9, {"tools": [{}]})))
    assert result.finish_reason == "length"
    assert result.tool_calls == (CALL,)
    assert result.content == "It says 42"
    assert result.logprobs == raw
    assert json.loads(result.answer.splitlines()[-1])["tool_call"]["name"] == "look_up"


@pytest.mark.parametrize("name", CHECKED)
async def test_a_tool_call_is_judged_and_one_that_is_not_safe_never_gets_out(name: str) -> None:
    seen: list[str] = []

    def judge(request: ChatRequest) -> str:
        seen.append(request.messages[-1].text)
        return "unsafe, whatever"

    done = Completion("", Usage(20, 9), "tool_calls", tool_calls=(CALL,))
    model = saying(done, check=judge, score=judge)
    asking = answered(name, model, query=asked(SamplingParams(params={"tools": [{}]})))
    if name == "best-of-n":  # its judge gives scores, and this one's cannot be read
        with pytest.raises(VerdictError) as refused:
            await asking
        assert "look_up" not in str(refused.value)
        result = None
    else:
        result = await asking
    assert all(CALL.text in text for text in seen)
    assert seen
    if result is None:
        return
    assert "look_up" not in result.answer
    assert result.tool_calls == ()
    assert result.finish_reason == "stop"


@pytest.mark.parametrize("name", ["cot", "cod"])
async def test_log_probabilities_of_the_steps_are_not_shown(name: str) -> None:
    tokens = ["step one ", "#### ", "42"]
    raw = {"content": [{"token": token, "bytes": None} for token in tokens]}
    done = Completion("".join(tokens), Usage(20, 9), raw_logprobs=raw)
    result = await answered(
        name, saying(done), query=asked(SamplingParams(params={"logprobs": True}))
    )
    assert result.answer == "42"
    assert result.logprobs == {"content": raw["content"][2:]}


@pytest.mark.parametrize("name", BASELINES)
async def test_what_the_server_withheld_ends_with_its_filter(name: str) -> None:
    done = Completion("half of", Usage(20, 9), "content_filter", tool_calls=(CALL,))
    result = await answered(name, saying(done), query=asked(SamplingParams(params={"tools": [{}]})))
    assert (result.answer, result.finish_reason) == (WITHHELD, "content_filter")
    assert result.tool_calls == ()


@pytest.mark.parametrize("name", BASELINES)
async def test_a_request_that_the_server_filters_is_withheld_and_costs_nothing(name: str) -> None:
    def filtering(request: Received) -> Reply:
        error = {"message": "The response was filtered", "code": "content_filter"}
        return Reply({"error": error}, 400)

    with HostileServer(filtering) as server:
        model = OpenAIModel("m", base_url=server.url)
        method = open_method(name, Settings.load(env={}))
        result = await method.answer(asked(SamplingParams()), model, Ledger(Budget(tokens=40_000)))
        await model.aclose()
    assert result.refused
    assert result.spent.tokens.total == 0
    if name not in CHECKED:
        assert (result.answer, result.finish_reason) == (WITHHELD, "content_filter")


async def test_the_engine_behind_the_methods_says_it_too() -> None:
    with HostileServer(well_behaved) as server:
        model = OpenAIModel("m", base_url=server.url)
        method = open_method("ecoalign", Settings.load(env={}))
        query = asked(SamplingParams(50, {"top_p": 0.5}))
        result = await method.answer(query, model, Ledger(Budget(tokens=40_000)))
        await model.aclose()
    assert (result.answer, result.content, result.finish_reason) == ("42", "42", "stop")
    carried = [request.json for request in server.received if "top_p" in request.json]
    assert carried
    assert all(body["max_tokens"] == 50 and body["top_p"] == 0.5 for body in carried)


@pytest.mark.parametrize("name", [name for name in METHODS if ":" not in name])
async def test_every_method_says_beforehand_what_its_model_cannot_honour(name: str) -> None:
    from ecoalign.models.embedded import EmbeddedModel

    ledger = Ledger(Budget(tokens=8_000))
    method = open_method(name, Settings.load(env={}))
    with pytest.raises(InputError, match="top_k") as caught:
        await method.answer(asked(SamplingParams(params={"top_k": 4})), EmbeddedModel(), ledger)
    assert caught.value.param == "top_k"
    assert ledger.spent.calls == 0


# Several branches, over a real socket ------------------------------------------------------------


def counting(fails: Callable[[str, int], Reply | None]) -> Callable[[Received], Reply]:
    """A well-behaved server, but for the n-th call of a kind ("answer" or "score")."""
    seen: Counter[str] = Counter()

    def handle(request: Received) -> Reply:
        kind = "score" if '"safety"' in request.body.decode() else "answer"
        seen[kind] += 1
        return fails(kind, seen[kind]) or well_behaved(request)

    return handle


async def served(name: str, handler: Callable[[Received], Reply], **settings: Any) -> Alignment:
    with HostileServer(handler) as server:
        model = OpenAIModel("m", base_url=server.url)
        chosen = Settings.load(env={}, **({"retries": 0} | settings))
        ledger = Ledger(Budget(tokens=100_000))
        try:
            query = asked(SamplingParams(params={"top_p": 0.5}))
            return await open_method(name, chosen).answer(query, model, ledger)
        finally:
            await model.aclose()


BROKEN = [
    Reply({"error": {"message": "oops"}}, 500),
    Reply(b"<html>"),
    Reply(raw=b""),
    Reply({"error": {"message": "slow down"}}, 429),
    Reply({"error": {"message": "no top_p or logprobs today", "param": "top_p"}}, 400),
    Reply(completion("")),
]


@pytest.mark.parametrize("kind", ["answer", "score"])
@pytest.mark.parametrize("reply", BROKEN, ids=range(len(BROKEN)))
async def test_one_failed_branch_throws_none_of_the_paid_ones_away(kind: str, reply: Reply) -> None:
    result = await served(
        "best-of-4", counting(lambda k, number: reply if (k, number) == (kind, 2) else None)
    )
    assert (result.answer, result.stop_reason) == ("42", "best")
    # A verdict that is rejected is asked for again in another way, at no cost.
    again = kind == "score" and reply.status == 400
    assert (result.detail["samples"], result.detail["scored"]) == (4, 4 if again else 3)


async def test_the_last_branch_standing_is_the_answer() -> None:
    def fails(kind: str, number: int) -> Reply | None:
        return BROKEN[number % len(BROKEN)] if kind == "answer" and number != 3 else None

    result = await served("best-of-8", counting(fails))
    assert (result.answer, result.detail["scored"]) == ("42", 1)


async def test_where_all_branches_fail_it_says_who() -> None:
    with pytest.raises(ModelError) as caught:
        await served("best-of-4", counting(lambda kind, number: BROKEN[0]))
    assert (caught.value.role, caught.value.upstream) == ("model", "openai:m")
    with pytest.raises(ModelError) as caught:
        await served("best-of-4", counting(lambda kind, number: BROKEN[4]))
    assert caught.value.param == "top_p"


async def test_where_no_answer_is_scored_the_evaluator_is_named() -> None:
    with pytest.raises(ModelError) as caught:
        await served(
            "best-of-4", counting(lambda kind, number: BROKEN[0] if kind == "score" else None)
        )
    assert (caught.value.role, caught.value.fault) == ("evaluator", "server")


async def test_a_failed_action_of_a_batch_leaves_the_others() -> None:
    def fails(kind: str, number: int) -> Reply | None:
        return BROKEN[0] if (kind, number) == ("answer", 3) else None

    result = await served("ecoalign", counting(fails), draft=False, synthesis="always")
    assert result.answer == "42"


@pytest.mark.parametrize("n", [4, 32])
async def test_all_samples_are_asked_for_and_scored_at_once(n: int) -> None:
    waiting: list[asyncio.Event] = []

    def together(said: Callable[[ChatRequest], str]) -> Callable[[ChatRequest], Any]:
        arrived = 0
        all_here = asyncio.Event()
        waiting.append(all_here)

        async def say(request: ChatRequest) -> str:
            nonlocal arrived
            arrived += 1
            if arrived == n:
                all_here.set()
            await all_here.wait()  # forever, if they came one after the other
            return said(request)

        return say

    model = Stages(sample=together(lambda r: "an answer"), score=together(graded(9, 9))).model()
    async with asyncio.timeout(20):
        result = await answered(f"best-of-{n}", model, 1_000_000)
    assert result.detail["scored"] == n
    assert model.peak == n


async def test_a_limit_that_somebody_has_set_is_kept() -> None:
    async def slow(request: ChatRequest) -> str:
        await asyncio.sleep(0)
        return "an answer"

    model = Stages(sample=slow).model()
    await answered("best-of-8", model, max_concurrency=3)
    assert model.peak == 3
