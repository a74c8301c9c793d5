"""What a server says that a call has used: believed as far as it can be true."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hostile import HostileServer, Received, Reply, completion
from scripted import image
from served import well_behaved

from ecoalign.budget import Budget, Ledger, MeteredClient
from ecoalign.budget._accounts import IMPLAUSIBLE_EXCESS, chargeable
from ecoalign.methods import open_method
from ecoalign.models import ChatRequest, Completion, Message, TextPart, ToolCall, Usage
from ecoalign.models.openai._model import OpenAIModel
from ecoalign.query import Query
from ecoalign.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Mapping

TEXT = "one two three four five six seven eight nine ten eleven twelve"
BOUND = Usage(1000, 100)


def asked(text: str) -> ChatRequest:
    return ChatRequest((Message("user", (TextPart(text),)),), 100, "answer")


class Says:
    """A model that answers as it is told to."""

    name = "says"
    dialect = "full"

    def __init__(self, done: Completion) -> None:
        self.done = done

    def bound(self, request: ChatRequest) -> Usage:
        return BOUND

    async def complete(self, request: ChatRequest) -> Completion:
        return self.done

    async def aclose(self) -> None:
        """Nothing to close."""


async def charged(done: Completion, text: str = "hi") -> tuple[Usage, Ledger]:
    ledger = Ledger(Budget(tokens=5_000))
    await MeteredClient(ledger, retries=0).complete(Says(done), asked(text))
    return ledger.spent.tokens, ledger


@pytest.mark.parametrize(
    ("usage", "what"),
    [
        (Usage(20, 12), (20, 12)),
        (Usage(20, 3), (20, 3)),
        # Twelve words in two tokens, no tokens, or none said: the worst case.
        (Usage(20, 2), (20, 100)),
        (Usage(20, 0), (20, 100)),
        (Usage(-1, 12), (1000, 100)),
        (Usage(20, -1), (1000, 100)),
        (Usage(0, 12), (1000, 12)),
        (None, (1000, 100)),
        # Hidden reasoning past the cap is possible; a billion tokens are not.
        (Usage(20, 3000), (20, 3000)),
        (Usage(20, 10**9), (20, 100)),
        (Usage(10**9, 12), (1000, 12)),
        (Usage(10**9, 10**9), (1000, 100)),
    ],
)
async def test_a_report_is_believed_as_far_as_it_can_be_true(
    usage: Usage | None, what: tuple[int, int]
) -> None:
    spent, ledger = await charged(Completion(TEXT, usage))
    assert (spent.prompt, spent.completion) == what
    # Above the bound nothing more is granted, since no further call could be bounded.
    assert ledger.overdrawn is (what[1] > 100)


async def test_a_long_prompt_was_read_whatever_is_said() -> None:
    long = "word " * 400
    spent, _ = await charged(Completion("ok", Usage(99, 1)), long)
    assert spent.prompt == 1000
    spent, _ = await charged(Completion("ok", Usage(100, 1)), long)
    assert spent.prompt == 100


async def test_a_tool_call_was_written_too() -> None:
    call = ToolCall("c", "f", '{"text": "' + "word " * 40 + '"}')
    spent, _ = await charged(Completion("", Usage(20, 1), "tool_calls", tool_calls=(call,)))
    assert spent.completion == 100


async def test_what_is_only_concluded_from_words_does_not_overdraw() -> None:
    spent, ledger = await charged(Completion("word " * 4000, Usage(20, 50)))
    assert spent.completion == 100
    assert not ledger.overdrawn


def test_the_limit_of_belief() -> None:
    most = Usage(BOUND.prompt + IMPLAUSIBLE_EXCESS, BOUND.completion + IMPLAUSIBLE_EXCESS)
    assert chargeable(most, BOUND) == Usage(most.prompt, most.completion)
    assert chargeable(Usage(most.prompt + 1, most.completion + 1), BOUND) == BOUND


LIES: list[Mapping[str, Any] | str | None] = [
    None,
    "lots",
    {},
    {"prompt_tokens": -5, "completion_tokens": -5, "total_tokens": -10},
    {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0},
    {"prompt_tokens": 10**12, "completion_tokens": 10**12, "total_tokens": 10**13},
    {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
    {"prompt_tokens": 5_000_000, "completion_tokens": 1, "total_tokens": 5_000_001},
    {"prompt_tokens": "9", "completion_tokens": True},
    {"prompt_tokens": 9.5, "completion_tokens": 1e308},
    {"prompt_tokens": 100, "completion_tokens": 5, "total_tokens": 99_000_000},
    {"prompt_tokens": 100, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 999}},
]


@pytest.mark.parametrize("name", ["base", "best-of-4", "ecoalign"])
@pytest.mark.parametrize("usage", LIES, ids=range(len(LIES)))
async def test_no_lie_about_usage_passes_the_budget_or_costs_the_answer(
    name: str, usage: Mapping[str, Any] | str | None
) -> None:
    def lying(request: Received) -> Reply:
        body = well_behaved(request).body
        assert isinstance(body, dict)
        return Reply(body | {"usage": usage})

    with HostileServer(lying) as server:
        # Of this family an image is a few hundred tokens.
        model = OpenAIModel("gpt-4o", base_url=server.url)
        settings = Settings.load(env={}, retries=0)
        ledger = Ledger(Budget(tokens=60_000))
        query = Query.of([image()], "What does the sign say?")
        answer = await open_method(name, settings).answer(query, model, ledger)
        await model.aclose()
        calls = len(server.received)
    assert answer.answer == "42"
    assert answer.spent.calls == calls
    assert calls <= answer.spent.tokens.total <= 60_000
    assert not ledger.overdrawn


async def test_a_body_without_usage_is_charged_at_its_bound() -> None:
    body = {name: value for name, value in completion("fine").items() if name != "usage"}
    with HostileServer(lambda _: Reply(body)) as server:
        model = OpenAIModel("gpt-4o", base_url=server.url)
        ledger = Ledger(Budget(tokens=5_000))
        request = asked("hi")
        await MeteredClient(ledger, retries=0).complete(model, request)
        assert ledger.spent.tokens == model.bound(request)
        await model.aclose()
