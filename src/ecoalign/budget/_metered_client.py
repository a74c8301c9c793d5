"""The one way to call a model: reserve, call, settle; retry where it can help; record it all."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any, Final

from ecoalign._record import dataclass
from ecoalign.budget._accounts import MOST_APART, impossible
from ecoalign.budget._learned import Learned
from ecoalign.budget._ledger import Ledger, Reservation
from ecoalign.errors import BudgetExceeded, InputError, ModelError, ModelFault
from ecoalign.models import (
    LASTING,
    ChatModel,
    ChatRequest,
    Completion,
    TokenLogprob,
    ToolCall,
    Usage,
    request_key,
)

RETRIED: frozenset[ModelFault] = frozenset({"down", "rate-limited", "server"})
"""Faults that a further attempt may help against. To wait as long again for a server that hangs
helps nobody, and may cost as much."""

FIRST_WAIT = 0.5

LONGEST_WAIT = 8.0

# A server that asks for more patience than this is as good as down for one answer.
LONGEST_RETRY_AFTER = 60.0

PATIENCE = 2
"""Calls in a row that a model may leave unanswered."""

WORDS_A_TOKEN = 4

FALSE_USAGE: Final = "false-usage"


@dataclass(frozen=True, slots=True)
class CallFailure:
    """Why an attempt failed."""

    kind: str
    """The model's fault (`ModelFault`), or "deadline" (the budget's time ran out), "cancelled" or
    "crashed" (an error that no model should raise)."""
    message: str
    """The model's message, which holds no secret; for a crash only the error's type."""
    billed: bool = True
    """Whether tokens may have been spent on the attempt."""
    retry_after: float | None = None
    """Seconds, >= 0, that the server asked to wait; None where it did not ask."""
    param: str | None = None
    """The client's parameter that the server rejected, if that was it."""


@dataclass(frozen=True, slots=True)
class Called:
    """One attempt to call a model: what came back, as it came, and what it was charged.

    It is an event of the trace, and what the replay answers from.
    """

    stage: str
    """The stage that made the call: scan, propose, execute, score, write, answer and so on."""
    model: str
    """The model that was called, as "provider:name"."""
    key: str
    """`request_key` of the request: SHA-256 in hexadecimal."""
    attempt: int
    """1 for the first attempt, 2 for the first retry, and so on."""
    charged: Usage
    """The tokens that the ledger counted as spent."""
    usd: float | None
    """Dollars of `charged`, >= 0; None where the price is unknown."""
    seconds: float
    """Duration of the attempt in seconds, >= 0."""
    text: str | None = None
    """What the model answered; None if the attempt failed."""
    usage: Usage | None = None
    """The usage that the server reported, beside an answer that cannot be used as well; None if
    nothing was reported."""
    finish_reason: str = "stop"
    """Why the answer ended, in the server's word; "" where it gave none, or the attempt failed."""
    logprobs: tuple[TokenLogprob, ...] | None = None
    """One entry per output token (natural logarithms); None if not requested or not given."""
    served_by: str = ""
    """The model's name as the server gave it; "" where it gave none."""
    tool_calls: tuple[ToolCall, ...] = ()
    """Calls of the client's tools in the answer."""
    raw_logprobs: Mapping[str, Any] | None = None
    """`logprobs` as the server gave them, where the client asked for them."""
    error: CallFailure | None = None
    """Why the attempt failed; None if it did not."""
    at: float = 0.0
    """When the attempt ended, in seconds since the run began, >= 0."""
    waited: int | None = None
    """The longest chain of attempts that had to end, one after the other, before this one could
    start, >= 0: its start on a clock that every attempt moves on by 1. None in traces of before
    this was counted."""


class _Line:
    """Where a line of work is on the clock that counts attempts: what it does waits for what it
    did, and for nothing that other lines do at the same time."""

    __slots__ = ("ended",)

    def __init__(self, ended: int = 0) -> None:
        self.ended = ended

    def wait_for(self, waited: int) -> None:
        """An attempt that started at `waited` has ended, and what follows needed it."""
        self.ended = max(self.ended, waited + 1)


@dataclass(slots=True)
class _Caught:
    """A server that reported what cannot be, of all that one client asks.

    Attributes:
        error: the first one; None while there is none.
        tell: told of it.
    """

    error: ModelError | None = None
    tell: Callable[[], object] | None = None


class MeteredClient:
    """Calls models and charges every attempt to one ledger.

    A server that reports more tokens than its call can have used (`impossible`) is charged as it
    reports, and ends everything: the call fails with the fault "false-usage", as does every later
    one, unmade.

    Args:
        ledger: what the calls are charged to.
        retries: how often a failed attempt is repeated, >= 0. Each attempt is reserved anew.
        sleep: waits so many seconds between attempts.
        on_call: told of every attempt as it ends, in the order in which they end.
        max_concurrency: how many attempts may be under way at once, >= 1.
        rng: the jitter of the waits.
        patience: after so many calls in a row that a model did not answer in time it is asked no
            more, >= 1; None where it always is.
        trusting: whether a server may report what it will.

    Attributes:
        learned: what settled calls have told of the cost of later ones. What they tell counts
            once `learned.take` is called, and not in a client that never does.

    Raises:
        ValueError: a number is out of its range.
    """

    def __init__(
        self,
        ledger: Ledger,
        retries: int = 2,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        on_call: Callable[[Called], object] | None = None,
        *,
        max_concurrency: int = 8,
        rng: random.Random | None = None,
        patience: int | None = PATIENCE,
        trusting: bool = False,
    ) -> None:
        if retries < 0:
            raise ValueError(f"retries must be 0 or more, not {retries}")
        if max_concurrency < 1:
            raise ValueError(f"max_concurrency must be 1 or more, not {max_concurrency}")
        self.ledger = ledger
        self._retries = retries
        self._sleep = sleep
        self._on_call = on_call
        self._gate = asyncio.Semaphore(max_concurrency)
        self._rng = random.Random() if rng is None else rng
        self._stage = ""
        self._line = _Line()
        self._patience = patience
        self._hung: dict[int, int] = {}
        self._trusting = trusting
        self._caught = _Caught()
        self.learned = Learned()

    def scoped(
        self,
        *,
        on_call: Callable[[Called], object] | None = None,
        stage: str = "",
        after: Iterable[Called] = (),
    ) -> MeteredClient:
        """The same client, its ledger and its bound on calls under way, for a part of a run.

        Args:
            on_call: told of the part's attempts in place of the client's own, and the part is a
                line of its own: what else is done does not wait for it, until it is joined. None
                keeps both.
            stage: the stage that all of its calls are recorded under; "" keeps each call's own.
            after: attempts of other parts that such a line waits for, too.
        """
        part = object.__new__(type(self))
        vars(part).update(vars(self))
        if on_call is not None:
            part._on_call, part._line = on_call, _Line(self._line.ended)
            for call in after:
                part._line.wait_for(call.waited or 0)
        part._stage = stage or self._stage
        return part

    def join(self, calls: Iterable[Called]) -> None:
        """Tell of the attempts of a part that was waited for: what follows waits for them, too."""
        for call in calls:
            self._line.wait_for(call.waited or 0)
            if self._on_call is not None:
                self._on_call(call)

    def rebook(self, calls: Iterable[Called], stage: str) -> list[Called]:
        """Enter what calls were charged under another stage of the ledger's accounts.

        Returns:
            The calls under that stage. Their keys are those of what was asked.
        """
        booked = []
        for call in calls:
            if call.error is None or call.error.billed or call.charged.total:
                self.ledger.rebook(call.stage, stage, call.charged, call.usd, call.seconds)
            booked.append(replace(call, stage=stage))
        return booked

    def check(self) -> None:
        """Nothing, unless a server was caught: for where a run would end with an answer.

        Raises:
            ModelError: the one that names it.
        """
        if self._caught.error is not None:
            raise self._caught.error

    @contextmanager
    def until_caught(self) -> Iterator[None]:
        """A block of the task that enters it, which ends at once when a server is caught.

        Raises:
            ModelError: one was.
        """
        task, caught, loop = asyncio.current_task(), self._caught, asyncio.get_running_loop()
        if task is None:
            raise RuntimeError("there is no task to end")
        ended = False

        def end() -> None:
            nonlocal ended
            if caught.tell is not None and not ended:
                ended = True
                task.cancel()

        # Not from within the task: it would be cancelled at some later time.
        caught.tell = partial(loop.call_soon, end)
        try:
            yield
        except asyncio.CancelledError:
            # A cancellation from elsewhere at the same time takes precedence.
            if ended and not task.uncancel():
                self.check()
            raise
        except BaseException:
            if ended:
                task.uncancel()
            self.check()
            raise
        finally:
            caught.tell = None
        self.check()

    def bound(self, model: ChatModel, request: ChatRequest) -> Usage:
        """The worst case of one attempt at `request`, by what the run has learned."""
        return self.learned.bound(model, request)

    async def complete(
        self,
        model: ChatModel,
        request: ChatRequest,
        *,
        fund: str | None = None,
        bound: Usage | None = None,
    ) -> Completion:
        """Answer `request`, paid from the ledger and repeated where that can help.

        Args:
            model: who answers.
            request: what is asked. Its timeout is shortened to the time that is left.
            fund: money reserved in the ledger that this call may use.
            bound: the worst case of `request` (`bound`), if it is known.

        Returns:
            The model's completion, its `usage` replaced by what the ledger charged for it, which
            is never None. Failed attempts are not in it: they are in the ledger alone.

        Raises:
            BudgetExceeded: the first attempt's worst case does not fit and was not made, or the
                budget's time ran out during an attempt.
            UnpricedModelError: the budget is in dollars and the model has no known price.
            ModelError: the last attempt's error, where a further one would not help, is not
                allowed, does not fit the budget or would come after its end.
        """
        if self._stage:
            request = replace(request, stage=self._stage)
        key = request_key(request)
        failed: ModelError | None = None
        attempt, waited = 0, self._line.ended
        while True:
            attempt += 1
            async with self._gate:
                self._refuse()
                try:
                    reservation = self.ledger.reserve(
                        request.stage, bound or self.bound(model, request), model.name, fund=fund
                    )
                except BudgetExceeded as short:
                    if failed is None:
                        raise
                    failed.add_note(f"It was not tried again: {short}")
                    raise failed from None
                try:
                    return await self._attempt(reservation, model, request, key, attempt, waited)
                except ModelError as error:
                    failed = error
            waited += 1
            wait = self._wait(failed, attempt, fund)
            if attempt > self._retries or wait is None:
                raise failed
            await self._sleep(wait)

    async def _attempt(
        self,
        reservation: Reservation,
        model: ChatModel,
        request: ChatRequest,
        key: str,
        attempt: int,
        waited: int,
    ) -> Completion:
        """One attempt on a fresh reservation, which is closed and recorded whatever happens."""
        with reservation:
            left = self.ledger.seconds_left(reservation.fund)
            scope = None if left is None else asyncio.timeout(left)
            try:
                if scope is None:
                    completion = await self._answer(model, request)
                else:
                    async with scope:
                        completion = await self._answer(model, _timed(request, left))
                floor = _certain(request, completion, reservation.bound)
                charged = reservation.settle(completion.usage, floor=floor)
                if completion.usage is not None:
                    used = completion.usage.prompt
                    self._weigh(model, request, reservation, completion.usage, completion.apart)
                    if used <= reservation.bound.prompt and used == charged.prompt:
                        self.learned.note(model, request, key, used, floor.prompt)
            except BaseException as raised:
                error = raised
                if isinstance(error, ModelError):
                    error.upstream = error.upstream or model.name
                failure = _failure(error, expired=scope is not None and scope.expired())
                usage = error.usage if isinstance(error, ModelError) else None
                if reservation.state == "open":
                    if usage is not None:
                        said = Completion("", usage)
                        reservation.settle(usage, floor=_certain(request, said, reservation.bound))
                        if failure.kind != FALSE_USAGE:
                            try:
                                self._weigh(model, request, reservation, usage, MOST_APART)
                            except ModelError as caught:
                                error, failure = caught, _failure(caught, expired=False)
                    elif failure.billed:
                        reservation.forfeit()
                    else:
                        reservation.release()
                self._record(reservation, key, attempt, waited, None, failure, usage)
                if failure.kind == "deadline":
                    raise BudgetExceeded(
                        f"{reservation.stage} call to {reservation.model}: the budget's time ran "
                        "out during the call, which was cut off; raise the budget in seconds",
                        unit="seconds",
                        needed=reservation.seconds,
                        remaining=0.0,
                    ) from None
                if isinstance(error, ModelError) and error.fault == FALSE_USAGE:
                    self._catch(error)
                if error is raised:
                    raise
                raise error from raised
        self._record(reservation, key, attempt, waited, completion, None)
        return completion if completion.usage is charged else replace(completion, usage=charged)

    def _weigh(
        self,
        model: ChatModel,
        request: ChatRequest,
        reservation: Reservation,
        used: Usage,
        apart: int,
    ) -> None:
        """What a report beyond the bound of its call means.

        Raises:
            ModelError: no honest server gives it.
        """
        had = reservation.bound
        if used.prompt > had.prompt:
            self.learned.forget(model)
        if used.prompt <= had.prompt and used.completion <= had.completion:
            return
        formula = model.bound(request)
        images = sum(len(message.images) for message in request.messages)
        what = impossible(used, formula, images=images, apart=apart)
        if what and not self._trusting:
            raise false_usage(model.name, what, request.stage, used)
        self.learned.exceeded(
            model,
            Usage(used.prompt - formula.prompt, used.completion - formula.completion),
        )

    def _catch(self, error: ModelError) -> None:
        if self._caught.error is None:
            self._caught.error = error
            if self._caught.tell is not None:
                self._caught.tell()

    def _refuse(self) -> None:
        """Nobody is asked after a server was caught.

        Raises:
            ModelError: one was.
        """
        if (caught := self._caught.error) is not None:
            # One of its own: where it ends up, it is told who was asked.
            again = ModelError(str(caught), fault=FALSE_USAGE, billed=False)
            again.upstream = caught.upstream
            raise again

    async def _answer(self, model: ChatModel, request: ChatRequest) -> Completion:
        """The model's answer, unless it has hung too often to be asked again."""
        hung = self._hung.get(id(model), 0)
        if self._patience is not None and hung >= self._patience:
            raise ModelError(
                f"{model.name} did not answer {hung} times in a row, and is asked no more",
                fault="timeout",
                billed=False,
            )
        try:
            completion = await model.complete(request)
        except ModelError as error:
            # Of calls that were under way together, all that hang count as one.
            self._hung[id(model)] = hung + 1 if error.fault == "timeout" else 0
            raise
        self._hung[id(model)] = 0
        return completion

    def _record(
        self,
        reservation: Reservation,
        key: str,
        attempt: int,
        waited: int,
        completion: Completion | None,
        error: CallFailure | None,
        used: Usage | None = None,
    ) -> None:
        self._line.wait_for(waited)
        if self._on_call is None:
            return
        done = completion
        self._on_call(
            Called(
                stage=reservation.stage,
                model=reservation.model,
                key=key,
                attempt=attempt,
                charged=reservation.charged,
                usd=reservation.usd,
                seconds=round(reservation.seconds, 6),
                text=None if done is None else done.text,
                usage=used if done is None else done.usage,
                finish_reason="" if done is None else done.finish_reason,
                logprobs=None if done is None else done.logprobs,
                served_by="" if done is None else done.model,
                tool_calls=() if done is None else done.tool_calls,
                raw_logprobs=None if done is None else done.raw_logprobs,
                error=error,
                waited=waited,
            )
        )

    def _wait(self, error: ModelError, attempt: int, fund: str | None) -> float | None:
        """Seconds to wait before the next attempt; None where there is no use in one."""
        if error.fault not in RETRIED or error.cause in LASTING:
            return None
        # Full jitter: many callers that failed together do not come back together.
        longest = min(LONGEST_WAIT, FIRST_WAIT * 2.0 ** (attempt - 1))
        wait = self._rng.uniform(0.0, longest)
        asked = error.retry_after
        if asked is not None and math.isfinite(asked):
            if asked > LONGEST_RETRY_AFTER:
                return None
            wait = max(wait, asked)
        left = self.ledger.seconds_left(fund)
        return None if left is not None and wait >= left else wait


def false_usage(model: str, what: str, stage: str, used: Usage) -> ModelError:
    """The error that names a server whose report cannot be.

    Args:
        model: "provider:name".
        what: its report, in words (`impossible`).
        stage: of the call.
        used: what it reports.
    """
    error = ModelError(
        f"{model} reported {what}, for a {stage} call: it was charged as it reports, and is asked "
        "no more in this run. Either it does not keep the cap of its answers (`ecoalign probe` "
        "finds out), or it, or what stands before it, does not count as it bills: take it up with "
        "who runs it",
        fault=FALSE_USAGE,
        usage=used,
    )
    error.upstream, error.told = model, str(error)
    return error


def _timed(request: ChatRequest, left: float | None) -> ChatRequest:
    if left is None or (request.timeout is not None and request.timeout <= left):
        return request
    # A model may insist on a positive timeout; the scope around the call ends it anyway.
    return replace(request, timeout=max(left, 0.001))


def _certain(request: ChatRequest, completion: Completion, bound: Usage) -> Usage:
    """The least that a call must have used, whatever its server reports.

    What is only concluded from the words, and not counted token by token, stays within `bound`.
    """
    read = sum([_least(message.text) for message in request.messages])
    spoken = max(_least(completion.text), 1 if completion.text else 0)
    if completion.tool_calls:
        calls = (f"{call.name} {call.arguments}" for call in completion.tool_calls)
        spoken += _least(" ".join(calls))
    written = min(spoken, bound.completion)
    counted = len(completion.logprobs or ())
    return Usage(min(read, bound.prompt), max(written, counted))


def _least(text: str) -> int:
    """Fewer tokens than any tokenizer makes of `text`: few of them join words, none joins more
    than `WORDS_A_TOKEN` on average."""
    return -(-len(text.split()) // WORDS_A_TOKEN)


def _failure(error: BaseException, *, expired: bool) -> CallFailure:
    if isinstance(error, ModelError):
        return CallFailure(error.fault, str(error), error.billed, error.retry_after, error.param)
    if expired and isinstance(error, TimeoutError):
        return CallFailure("deadline", "the budget's time ran out")
    if isinstance(error, InputError):
        # The model refused to read it: nothing was computed.
        return CallFailure("rejected", str(error), billed=False)
    if isinstance(error, asyncio.CancelledError):
        return CallFailure("cancelled", "the call was cancelled")
    return CallFailure("crashed", type(error).__name__)
