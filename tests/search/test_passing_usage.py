"""What a server says that a call has used: believed as far as it can be true."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hostile import HostileServer, Received, Reply, completion
from scripted import image
from served import well_behaved

from ecoalign.budget import Budget, Ledger, MeteredClient
from ecoalign.budget._accounts import MOST_REPORTED, chargeable
from ecoalign.errors import ModelError
from ecoalign.methods import open_method
from ecoalign.models import ChatRequest, Completion, Message, TextPart, ToolCall, Usage
from ecoalign.models.openai._model import OpenAIModel
from ecoalign.query import Query
from ecoalign.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from ecoalign.trace import Alignment

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
        # A little above the bound may be; it is charged as it is.
        (Usage(20, 116), (20, 116)),
        (Usage(3000, 12), (3000, 12)),
    ],
)
async def test_a_report_is_believed_as_far_as_it_can_be_true(
    usage: Usage | None, what: tuple[int, int]
) -> None:
    spent, ledger = await charged(Completion(TEXT, usage))
    assert (spent.prompt, spent.completion) == what
    assert not ledger.overdrawn


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
    most = Usage(MOST_REPORTED, MOST_REPORTED)
    assert chargeable(most, BOUND) == most
    assert chargeable(Usage(10**30, 10**12), BOUND) == most


LIES: list[Mapping[str, Any] | str | None] = [
    None,
    "lots",
    {},
    {"prompt_tokens": -5, "completion_tokens": -5, "total_tokens": -10},
    {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0},
    {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
    {"prompt_tokens": "9", "completion_tokens": True},
    {"prompt_tokens": 9.5, "completion_tokens": 1e308},
    {"prompt_tokens": 100, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 999}},
]


TOO_MUCH: list[Mapping[str, Any]] = [
    {"prompt_tokens": 10**12, "completion_tokens": 10**12, "total_tokens": 10**13},
    {"prompt_tokens": 5_000_000, "completion_tokens": 1, "total_tokens": 5_000_001},
    {"prompt_tokens": 100, "completion_tokens": 5, "total_tokens": 99_000_000},
    {"prompt_tokens": 100, "completion_tokens": 140_000},
]


@pytest.mark.parametrize("name", ["base", "best-of-4", "ecoalign"])
@pytest.mark.parametrize("usage", TOO_MUCH, ids=range(len(TOO_MUCH)))
async def test_who_reports_what_cannot_be_is_charged_so_and_asked_no_more(
    name: str, usage: Mapping[str, Any]
) -> None:
    server, model, asking = liar(usage)
    with server:
        ledger = Ledger(Budget(tokens=60_000))
        with pytest.raises(ModelError, match="is asked no more in this run") as caught:
            await asking(name, ledger)
        await model.aclose()
    assert caught.value.fault == "false-usage"
    assert ledger.spent.tokens.total >= min(10**8, usage["prompt_tokens"])
    assert ledger.spent.tokens.total > 60_000
    # The scan and the draft, or the samples, are asked for at once.
    assert len(server.received) <= {"base": 1, "best-of-4": 4, "ecoalign": 2}[name]


def liar(
    usage: object,
) -> tuple[HostileServer, OpenAIModel, Callable[[str, Ledger], Awaitable[Alignment]]]:
    """A server that answers well and reports this, its model, and a question to it."""

    def lying(request: Received) -> Reply:
        body = well_behaved(request).body
        assert isinstance(body, dict)
        return Reply(body | {"usage": usage})

    server = HostileServer(lying)
    # Of this family an image is a few hundred tokens.
    model = OpenAIModel("gpt-4o", base_url=server.url)
    settings = Settings.load(env={}, retries=0)

    async def asking(name: str, ledger: Ledger) -> Alignment:
        query = Query.of([image()], "What does the sign say?")
        return await open_method(name, settings).answer(query, model, ledger)

    return server, model, asking


@pytest.mark.parametrize("name", ["base", "best-of-4", "ecoalign"])
@pytest.mark.parametrize("usage", LIES, ids=range(len(LIES)))
async def test_no_lie_about_usage_passes_the_budget_or_costs_the_answer(
    name: str, usage: Mapping[str, Any] | str | None
) -> None:
    server, model, asking = liar(usage)
    with server:
        ledger = Ledger(Budget(tokens=60_000))
        answer = await asking(name, ledger)
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
