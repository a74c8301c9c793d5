"""Calls that fail, retry, time out, are cancelled and under-report: the money always adds up."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import math
import random
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from clock import Clock
from hypothesis import given, settings
from hypothesis import strategies as st

from ecoalign.budget import PATIENCE, Budget, Called, CallFailure, Ledger, MeteredClient
from ecoalign.errors import BudgetExceeded, ModelError, UnpricedModelError
from ecoalign.models import (
    ChatRequest,
    Completion,
    ImagePart,
    Message,
    TextPart,
    TokenLogprob,
    Usage,
    request_key,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ecoalign.errors import ModelFault

BOUND = Usage(60, 40, 10)


class Scripted:
    """A `ChatModel` whose every attempt is one call of `act`; its bound is always `BOUND`."""

    name = "test:scripted"
    dialect = "full"

    def __init__(self, act: Callable[[ChatRequest, int], Awaitable[Completion]]) -> None:
        self._act = act
        self.requests: list[ChatRequest] = []

    def bound(self, request: ChatRequest) -> Usage:
        return BOUND

    async def complete(self, request: ChatRequest) -> Completion:
        self.requests.append(request)
        return await self._act(request, len(self.requests))

    async def aclose(self) -> None:
        return None


def request(text: str = "hello", timeout: float | None = None) -> ChatRequest:
    messages = (Message("user", (TextPart(text),)),)
    return ChatRequest(messages, max_tokens=40, stage="think", timeout=timeout)


def failing(*faults: ModelFault, billed: bool = True, retry_after: float | None = None) -> Scripted:
    """Fails with each fault in turn, then answers."""

    async def act(_: ChatRequest, turn: int) -> Completion:
        if turn <= len(faults):
            fault = faults[turn - 1]
            raise ModelError(f"no {turn}", fault=fault, billed=billed, retry_after=retry_after)
        return Completion("yes", Usage(20, 5, 10, 4))

    return Scripted(act)


def setup(
    budget: Budget | None = None, **options: Any
) -> tuple[Ledger, MeteredClient, Clock, list[Called]]:
    clock, records = Clock(), list[Called]()
    ledger = Ledger(budget or Budget(tokens=1000), lambda m, u: Decimal(u.total) / 100, clock)
    metered = MeteredClient(
        ledger, sleep=clock.sleep, on_call=records.append, rng=random.Random(7), **options
    )
    return ledger, metered, clock, records


# -- one call -----------------------------------------------------------------------------------


async def test_a_call_is_paid_at_its_real_usage_and_recorded() -> None:
    ledger, metered, _, records = setup()
    model = failing()
    answer = await metered.complete(model, request())
    assert answer == Completion("yes", Usage(20, 5, 10, 4))
    assert ledger.spent.tokens == Usage(20, 5, 10, 4)
    assert ledger.spent.by_stage["think"].tokens == 25
    assert records == [
        Called(
            "think",
            "test:scripted",
            request_key(request()),
            1,
            Usage(20, 5, 10, 4),
            0.25,
            0.0,
            "yes",
            Usage(20, 5, 10, 4),
            waited=0,
        )
    ]


async def test_a_call_that_does_not_fit_is_never_made() -> None:
    ledger, metered, _, records = setup(Budget(tokens=99))
    model = failing()
    with pytest.raises(BudgetExceeded):
        await metered.complete(model, request())
    assert model.requests == []
    assert records == []
    assert ledger.spent.calls == 0


async def test_a_dollar_budget_without_a_price_makes_no_call() -> None:
    model = failing()
    with pytest.raises(UnpricedModelError):
        await MeteredClient(Ledger(Budget(usd=1.0))).complete(model, request())
    assert model.requests == []


async def test_a_call_is_paid_from_its_fund() -> None:
    ledger, metered, _, _ = setup(Budget(tokens=100))
    ledger.reserve_fund("answer", BOUND, "test:scripted")
    with pytest.raises(BudgetExceeded):
        await metered.complete(failing(), request())
    await metered.complete(failing(), request(), fund="answer")
    assert ledger.spent.tokens.total == 25
    assert ledger.funded.tokens == 75


@pytest.mark.parametrize(
    ("completion", "charged"),
    [
        (Completion("yes", None), BOUND),
        (Completion("yes", Usage()), BOUND),
        (Completion("yes", Usage(20, 0)), Usage(20, 40)),
        (Completion("", Usage(20, 0)), Usage(20, 0)),
        (
            Completion("yes", Usage(20, 1), logprobs=(TokenLogprob("y", -1.0),) * 2),
            Usage(20, 40),
        ),
        (
            Completion("yes", Usage(20, 2), logprobs=(TokenLogprob("y", -1.0),) * 2),
            Usage(20, 2),
        ),
    ],
)
async def test_what_a_server_hides_is_charged(completion: Completion, charged: Usage) -> None:
    async def act(_: ChatRequest, __: int) -> Completion:
        return completion

    ledger, metered, _, records = setup()
    answer = await metered.complete(Scripted(act), request())
    assert answer.usage == charged
    assert ledger.spent.tokens == charged
    assert (records[0].text, records[0].usage) == (completion.text, completion.usage)
    assert records[0].charged == charged


# -- failures and retries -------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["down", "rate-limited", "server"])
async def test_what_may_pass_is_tried_again_and_each_attempt_is_paid(fault: ModelFault) -> None:
    ledger, metered, clock, records = setup()
    answer = await metered.complete(failing(fault, fault), request())
    assert answer.usage == Usage(20, 5, 10, 4)
    assert ledger.spent.tokens.total == 2 * 100 + 25
    assert ledger.spent.calls == 3
    assert [record.attempt for record in records] == [1, 2, 3]
    assert records[0].error == CallFailure(fault, "no 1")
    assert records[0].text is None
    assert records[0].charged == BOUND
    assert len(clock.waits) == 2
    assert 0 <= clock.waits[0] <= 0.5
    assert 0 <= clock.waits[1] <= 1.0


async def test_a_server_that_hangs_is_not_waited_for_again() -> None:
    ledger, metered, clock, records = setup()
    with pytest.raises(ModelError):
        await metered.complete(failing("timeout"), request())
    assert (ledger.spent.tokens.total, len(records), clock.waits) == (100, 1, [])


async def test_a_model_that_hangs_twice_in_a_row_is_asked_no_more() -> None:
    ledger, metered, _, records = setup()
    model = failing("timeout", "timeout", "timeout", "server", "timeout", "timeout")
    for _ in range(PATIENCE):
        with pytest.raises(ModelError):
            await metered.complete(model, request())
    before = ledger.spent.tokens.total
    with pytest.raises(ModelError, match="asked no more") as caught:
        await metered.scoped(stage="x").complete(model, request())
    assert (caught.value.fault, caught.value.billed) == ("timeout", False)
    assert caught.value.upstream == model.name
    assert ledger.spent.tokens.total == before
    assert [record.charged.total for record in records] == [100, 100, 0]
    assert len(model.requests) == PATIENCE


async def test_of_calls_that_hang_together_all_count_as_one() -> None:
    _, metered, _, records = setup()

    async def act(_: ChatRequest, turn: int) -> Completion:
        await asyncio.sleep(0)
        if turn <= 3:
            raise ModelError("no", fault="timeout")
        return Completion("yes", Usage(20, 5))

    model = Scripted(act)
    calls = (metered.complete(model, request()) for _ in range(3))
    done = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(one, ModelError) for one in done)
    assert (await metered.complete(model, request())).text == "yes"
    assert len(records) == 4


async def test_an_answer_between_two_timeouts_counts() -> None:
    _, metered, _, records = setup()
    model = failing("timeout", "server", "timeout")
    for _ in range(2):
        with contextlib.suppress(ModelError):
            await metered.complete(model, request())
    assert (await metered.complete(model, request())).text
    assert [r.error.kind if r.error else "" for r in records] == [
        "timeout",
        "server",
        "timeout",
        "",
    ]


async def test_usage_beside_an_unusable_answer_is_what_is_charged() -> None:
    used = Usage(9, 3, 4)

    async def act(_: ChatRequest, turn: int) -> Completion:
        raise ModelError("no text", fault="bad-response", usage=used)

    ledger, metered, _, records = setup()
    with pytest.raises(ModelError):
        await metered.complete(Scripted(act), request())
    assert ledger.spent.tokens == used
    assert (records[0].usage, records[0].charged, records[0].text) == (used, used, None)


async def test_waits_double_up_to_a_longest_one() -> None:
    class Longest(random.Random):
        def uniform(self, a: float, b: float) -> float:
            assert a == 0
            return b

    clock = Clock()
    metered = MeteredClient(Ledger(Budget(tokens=1000)), 6, clock.sleep, rng=Longest())
    server: ModelFault = "server"
    await metered.complete(failing(*[server] * 6), request())
    assert clock.waits == [0.5, 1.0, 2.0, 4.0, 8.0, 8.0]


async def test_an_attempt_that_was_not_billed_costs_nothing() -> None:
    ledger, metered, _, records = setup(Budget(tokens=100))
    await metered.complete(failing("rate-limited", "down", billed=False), request())
    assert ledger.spent.tokens.total == 25
    assert ledger.spent.calls == 1
    assert [record.charged.total for record in records] == [0, 0, 25]


@pytest.mark.parametrize("fault", ["rejected", "bad-response"])
async def test_what_will_not_pass_is_not_tried_again(fault: ModelFault) -> None:
    _, metered, clock, records = setup()
    with pytest.raises(ModelError) as failed:
        await metered.complete(failing(fault), request())
    assert failed.value.fault == fault
    assert len(records) == 1
    assert clock.waits == []


async def test_the_last_failure_is_the_one_that_is_raised() -> None:
    ledger, metered, _, _ = setup(retries=1)
    with pytest.raises(ModelError, match="no 2"):
        await metered.complete(failing("server", "down", "server"), request())
    assert ledger.spent.tokens.total == 200
    assert ledger.open_calls == 0


async def test_without_retries_there_is_one_attempt() -> None:
    _, metered, _, records = setup(retries=0)
    with pytest.raises(ModelError):
        await metered.complete(failing("server"), request())
    assert len(records) == 1


async def test_a_retry_that_does_not_fit_raises_what_went_wrong_first() -> None:
    ledger, metered, _, _ = setup(Budget(tokens=199))
    model = failing("server")
    with pytest.raises(ModelError, match="no 1") as failed:
        await metered.complete(model, request())
    assert "needs up to 100 tokens" in failed.value.__notes__[0]
    assert len(model.requests) == 1
    assert ledger.spent.tokens.total == 100


@pytest.mark.parametrize("asked", [3.0, 60.0])
async def test_a_server_is_left_alone_as_long_as_it_asks(asked: float) -> None:
    _, metered, clock, _ = setup()
    await metered.complete(failing("rate-limited", retry_after=asked), request())
    assert clock.waits == [asked]


@pytest.mark.parametrize("asked", [float("nan"), float("inf"), -5.0])
async def test_a_server_that_asks_for_nonsense_is_not_listened_to(asked: float) -> None:
    _, metered, clock, _ = setup()
    await metered.complete(failing("rate-limited", retry_after=asked), request())
    assert 0 <= clock.waits[0] <= 0.5


@pytest.mark.parametrize(
    ("budget", "asked"), [(Budget(tokens=1000), 61.0), (Budget(seconds=10.0), 10.0)]
)
async def test_no_wait_is_longer_than_the_time_there_is(budget: Budget, asked: float) -> None:
    _, metered, clock, records = setup(budget)
    with pytest.raises(ModelError, match="no 1"):
        await metered.complete(failing("rate-limited", retry_after=asked), request())
    assert clock.waits == []
    assert records[0].error == CallFailure("rate-limited", "no 1", retry_after=asked)


# -- time -----------------------------------------------------------------------------------------


async def test_a_call_gets_the_time_that_is_left() -> None:
    _, metered, clock, _ = setup(Budget(seconds=10.0))
    model = failing()
    clock.now = 4.0
    await metered.complete(model, request())
    await metered.complete(model, request(timeout=2.0))
    await metered.complete(model, request(timeout=20.0))
    assert [asked.timeout for asked in model.requests] == [6.0, 2.0, 6.0]
    _, free, _, _ = setup(Budget(tokens=1000))
    await free.complete(model, request(timeout=20.0))
    assert model.requests[-1].timeout == 20.0


async def hang(_: ChatRequest, __: int) -> Completion:
    await asyncio.Event().wait()
    raise AssertionError


async def test_a_call_is_cut_off_when_the_time_is_up() -> None:
    ledger, metered, clock, records = setup(Budget(seconds=10.0))
    clock.now = 10.0 - 1e-6
    with pytest.raises(BudgetExceeded) as late:
        await metered.complete(Scripted(hang), request())
    assert late.value.unit == "seconds"
    assert ledger.spent.tokens == BOUND
    assert ledger.open_calls == 0
    assert records[0].error == CallFailure("deadline", "the budget's time ran out")
    clock.now = 10.0
    with pytest.raises(BudgetExceeded):
        await metered.complete(failing(), request())


async def test_a_timeout_that_a_model_lets_slip_is_not_the_budgets() -> None:
    async def act(_: ChatRequest, __: int) -> Completion:
        raise TimeoutError

    ledger, metered, _, records = setup(Budget(seconds=10.0))
    with pytest.raises(TimeoutError):
        await metered.complete(Scripted(act), request())
    assert records[0].error == CallFailure("crashed", "TimeoutError")
    assert ledger.spent.tokens == BOUND


async def test_a_crash_costs_the_worst_case_and_its_words_are_not_kept() -> None:
    async def act(_: ChatRequest, __: int) -> Completion:
        raise RuntimeError("Authorization: Bearer hunter2")

    ledger, metered, _, records = setup()
    with pytest.raises(RuntimeError):
        await metered.complete(Scripted(act), request())
    assert records[0].error == CallFailure("crashed", "RuntimeError")
    assert "hunter2" not in repr(records)
    assert ledger.spent.tokens == BOUND


# -- cancellation and concurrency -----------------------------------------------------------------


async def until(condition: Callable[[], bool]) -> None:
    """Let other tasks run until `condition` holds."""
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("it never came to that")


async def test_a_cancelled_call_stops_at_once_and_is_forfeited() -> None:
    ledger, metered, _, records = setup()
    model = Scripted(hang)
    task = asyncio.create_task(metered.complete(model, request()))
    await until(lambda: bool(model.requests))
    assert ledger.reserved.tokens == 100
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ledger.spent.tokens == BOUND
    assert ledger.open_calls == 0
    assert records[0].error == CallFailure("cancelled", "the call was cancelled")


async def test_a_call_cancelled_between_attempts_holds_nothing() -> None:
    waiting = asyncio.Event()

    async def sleep(_: float) -> None:
        waiting.set()
        await asyncio.Event().wait()

    ledger = Ledger(Budget(tokens=1000))
    task = asyncio.create_task(
        MeteredClient(ledger, sleep=sleep).complete(failing("server"), request())
    )
    await waiting.wait()
    assert ledger.open_calls == 0
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ledger.spent.tokens.total == 100


async def test_calls_that_wait_for_their_turn_hold_nothing() -> None:
    gate = asyncio.Event()

    async def act(_: ChatRequest, __: int) -> Completion:
        await gate.wait()
        return Completion("yes", Usage(1, 1))

    ledger, metered, _, _ = setup(max_concurrency=2)
    model = Scripted(act)
    tasks = [asyncio.create_task(metered.complete(model, request())) for _ in range(5)]
    await until(lambda: len(model.requests) == 2)
    for _ in range(20):
        await asyncio.sleep(0)
    assert len(model.requests) == 2
    assert ledger.open_calls == 2
    gate.set()
    await asyncio.gather(*tasks)
    assert ledger.spent.calls == 5


def test_numbers_out_of_their_range_are_refused() -> None:
    ledger = Ledger(Budget(tokens=1))
    with pytest.raises(ValueError, match="retries"):
        MeteredClient(ledger, retries=-1)
    with pytest.raises(ValueError, match="max_concurrency"):
        MeteredClient(ledger, max_concurrency=0)


# -- keys -----------------------------------------------------------------------------------------


def test_a_key_is_stable_and_names_all_that_an_answer_depends_on() -> None:
    image = ImagePart(b"png", "image/png", 4, 3)
    base = replace(request(), messages=(Message("user", (TextPart("a"), image)),))
    variants = [
        base,
        replace(base, messages=(Message("system", base.messages[0].parts),)),
        replace(base, messages=(Message("user", (image, TextPart("a"))),)),
        replace(base, messages=(Message("user", (TextPart("a"), replace(image, data=b"pnG"))),)),
        replace(base, messages=(Message("user", (TextPart("a"), replace(image, detail="low"))),)),
        replace(base, messages=(*base.messages, Message("user", (TextPart("b"),)))),
        replace(base, max_tokens=41),
        replace(base, stage="score"),
        replace(base, temperature=0.5),
        replace(base, schema={}),
        replace(base, top_logprobs=1),
        replace(base, seed=0),
        replace(base, extra={"top_p": 1}),
    ]
    assert len({request_key(each) for each in variants}) == len(variants)
    assert request_key(replace(base, timeout=3.0)) == request_key(base)
    reordered = {"a": 1, "b": {"c": 2, "d": 3}}, {"b": {"d": 3, "c": 2}, "a": 1}
    assert len({request_key(replace(base, schema=schema)) for schema in reordered}) == 1
    # Written down once: traces of one release must replay with the next.
    assert request_key(request()) == (
        "87880873416790fdebf3ab9fa7baebedd6b3600e416cf227bf52c2f11679c5dd"
    )


TEXTS = st.text(st.characters(codec=None), max_size=8)  # lone surrogates included
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(TEXTS, inner, max_size=2),
    max_leaves=4,
)
OBJECTS = st.dictionaries(TEXTS, JSON, max_size=3) | st.dictionaries(TEXTS, TEXTS, max_size=3)


@given(
    TEXTS,
    TEXTS,
    st.floats(0, 2) | st.integers(0, 2),
    st.none() | OBJECTS,
    st.none() | st.integers() | st.booleans(),
    OBJECTS,
    OBJECTS,
)
def test_a_key_is_the_digest_of_canonical_json(
    text: str,
    stage: str,
    temperature: float,
    schema: dict[str, object] | None,
    seed: int | None,
    extra: dict[str, object],
    client: dict[str, object],
) -> None:
    image = ImagePart(b"png", "image/png", 4, 3, "low")
    said = Message("user", (TextPart(text), image))
    call = ChatRequest((said,), 7, stage, temperature, schema, 2, seed, extra, client)
    digest = hashlib.sha256(b"png").hexdigest()
    shown = {"image": digest, "as": "image/png", "size": [4, 3], "at": "low"}
    canonical: dict[str, object] = {
        "messages": [{"role": "user", "parts": [{"text": text}, shown]}],
        "max_tokens": 7,
        "stage": stage,
        "temperature": float(temperature),
        "schema": schema,
        "top_logprobs": 2,
        "seed": seed,
        "extra": extra,
    } | ({"client": client} if client else {})
    written = json.dumps(canonical, sort_keys=True, separators=(",", ":"))
    assert request_key(call) == hashlib.sha256(written.encode()).hexdigest()


def test_what_is_no_json_has_no_key() -> None:
    odd = {"top_p": math.nan}
    for call in (
        replace(request(), extra=odd),
        replace(request(), client=odd),
        replace(request(), schema=odd),
        replace(request(), temperature=math.inf),
    ):
        with pytest.raises(ValueError, match="not JSON compliant"):
            request_key(call)


# -- the invariant --------------------------------------------------------------------------------

FATES = ["ok", "hidden", "zero", "odd", "short", "unbilled", "server", "rejected", "hang", "crash"]
TOKENS, DOLLARS = 900, 8.0


class Server:
    """Bills in truth what its script says, reports what it likes, fails, hangs and crashes."""

    name = "test:server"
    dialect = "full"

    def __init__(self, ledger: Ledger, fates: list[str], rng: random.Random) -> None:
        self.ledger = ledger
        self.fates = fates
        self.rng = rng
        self.billed = 0
        self.calls = 0
        self.hanging = 0

    def bound(self, request: ChatRequest) -> Usage:
        return Usage(len(request.messages[0].text), request.max_tokens)

    async def complete(self, request: ChatRequest) -> Completion:
        fate = self.fates[self.calls % len(self.fates)]
        self.calls += 1
        check(self.ledger)
        for _ in range(self.rng.randrange(3)):
            await asyncio.sleep(0)
        if fate == "unbilled":
            raise ModelError("busy", fault="rate-limited", billed=False)
        bound = self.bound(request)
        true = Usage(self.rng.randint(1, bound.prompt), self.rng.randint(1, bound.completion))
        # From here on the server has done the work, whatever it tells.
        self.billed += true.total
        if fate == "hang":
            self.hanging += 1
            await asyncio.Event().wait()
        if fate in {"server", "rejected"}:
            raise ModelError("broken", fault="server" if fate == "server" else "rejected")
        if fate == "crash":
            raise RuntimeError
        reports = {
            "ok": true,
            "hidden": None,
            "zero": Usage(),
            "odd": Usage(-true.prompt, true.completion, 10**6, 10**6),
            "short": Usage(true.prompt, true.completion - 1),
        }
        tokens = (TokenLogprob("x", 0.0),) * true.completion
        return Completion("x" * true.completion, reports[fate], logprobs=tokens)

    async def aclose(self) -> None:
        return None


def check(ledger: Ledger) -> None:
    committed = ledger.committed
    assert committed.tokens is not None
    assert committed.usd is not None
    assert committed.tokens <= TOKENS
    assert committed.usd <= DOLLARS
    assert not ledger.overdrawn


@dataclass(frozen=True)
class Storm:
    """What comes together: `sizes` are prompt, cap and whether the fund is used."""

    fates: list[str]
    sizes: list[tuple[int, int, bool]]
    cancelled: set[int]
    tightened: float
    width: int
    seed: int


storms = st.builds(
    Storm,
    fates=st.lists(st.sampled_from(FATES), min_size=1, max_size=12),
    sizes=st.lists(
        st.tuples(st.integers(1, 90), st.integers(1, 60), st.booleans()), min_size=1, max_size=25
    ),
    cancelled=st.sets(st.integers(0, 24), max_size=8),
    tightened=st.sampled_from([1.0, 0.7]),
    width=st.integers(1, 6),
    seed=st.integers(0, 2**16),
)


@settings(max_examples=100, deadline=None)
@given(storms)
def test_whatever_happens_no_more_than_the_budget_is_ever_billed(storm: Storm) -> None:
    asyncio.run(_weather(storm))


async def _weather(storm: Storm) -> None:
    rng, clock, records = random.Random(storm.seed), Clock(), list[Called]()
    ledger = Ledger(Budget(tokens=TOKENS, usd=DOLLARS), lambda m, u: Decimal(u.total) / 100, clock)
    ledger.reserve_fund("answer", Usage(90, 60), "test:server")
    ledger.tighten(storm.tightened)
    server = Server(ledger, storm.fates, rng)
    metered = MeteredClient(
        ledger, 2, clock.sleep, records.append, max_concurrency=storm.width, rng=rng
    )

    async def one(prompt: int, most: int, answers: bool) -> None:
        asked = replace(request("p" * prompt), max_tokens=most)
        try:
            done = await metered.complete(server, asked, fund="answer" if answers else None)
        except (BudgetExceeded, ModelError, RuntimeError):
            return
        finally:
            check(ledger)
        assert done.usage is not None
        assert done.usage.total <= prompt + most

    tasks = [asyncio.create_task(one(*size)) for size in storm.sizes]
    for _ in range(rng.randrange(12)):
        await asyncio.sleep(0)
    for index in storm.cancelled:
        if index < len(tasks):
            tasks[index].cancel()
    # Let everything run that can; what hangs at the end is cancelled, as a user would.
    while not all(task.done() for task in tasks):
        before = server.calls, len(records), len(clock.waits)
        for _ in range(30):
            await asyncio.sleep(0)
        if before == (server.calls, len(records), len(clock.waits)):
            for task in tasks:
                task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    check(ledger)
    spent = ledger.spent
    assert ledger.open_calls == 0
    assert ledger.reserved.tokens == 0
    assert server.billed <= spent.tokens.total <= TOKENS
    assert spent.usd is not None
    assert spent.usd <= DOLLARS
    assert sum(record.charged.total for record in records) == spent.tokens.total
    assert len(records) == server.calls


async def test_what_a_model_refuses_to_read_costs_nothing() -> None:
    from ecoalign.errors import InputError
    from ecoalign.models.fake import FakeModel

    def refuse(request: ChatRequest) -> str:
        raise InputError("too long for this model")

    ledger = Ledger(Budget(tokens=1000))
    records: list[Called] = []
    metered = MeteredClient(ledger, on_call=records.append)
    with pytest.raises(InputError, match="too long"):
        await metered.complete(
            FakeModel(refuse), ChatRequest((Message("user", (TextPart("x"),)),), 10, "scan")
        )
    assert ledger.spent.tokens.total == 0
    assert ledger.open_calls == 0
    assert [(r.error.kind, r.error.billed) for r in records if r.error] == [("rejected", False)]


async def test_a_part_is_a_line_of_its_own_until_it_is_joined() -> None:
    _, metered, _, records = setup(Budget(tokens=10_000), retries=1)
    mine: list[Called] = []
    await metered.complete(failing(), request())
    part = metered.scoped(on_call=mine.append)
    await part.complete(failing("down"), request())
    await part.complete(failing(), request())
    await metered.scoped(stage="x").complete(failing(), request())
    assert [call.waited for call in mine] == [1, 2, 3]
    assert [call.waited for call in records] == [0, 1]
    metered.join(mine[:2])
    await metered.complete(failing(), request())
    assert [call.waited for call in records] == [0, 1, 1, 2, 3]


async def test_a_part_of_a_run_has_its_own_listener_and_stage_on_the_same_account() -> None:
    ledger, metered, _, records = setup()
    mine: list[Called] = []
    part = metered.scoped(on_call=mine.append, stage="simulate")
    await part.complete(failing(), request())
    await metered.complete(failing(), request())
    assert [record.stage for record in records] == ["think"]
    assert [record.stage for record in mine] == ["simulate"]
    # The stage is part of what is asked, so a replay tells the two apart.
    assert mine[0].key != records[0].key
    assert {stage: entry.calls for stage, entry in ledger.spent.by_stage.items()} == {
        "think": 1,
        "simulate": 1,
    }
