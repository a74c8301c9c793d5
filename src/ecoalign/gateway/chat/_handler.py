"""POST /v1/chat/completions: from a request to a response."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import AsyncGenerator, Awaitable, Iterable, Mapping
from dataclasses import dataclass, field, replace

from starlette.requests import Request
from starlette.responses import Response

from ecoalign.budget import Budget, Ledger, Spending
from ecoalign.errors import BudgetExceeded, BudgetTooSmall, EcoAlignError
from ecoalign.gateway._deadline import CLEANUP, GRACE, Deadline
from ecoalign.gateway._errors import ApiError, invalid, of_error
from ecoalign.gateway._guard import client_of
from ecoalign.gateway._names import chosen_by
from ecoalign.gateway._state import AppState, Client
from ecoalign.gateway.chat._form import ChatForm, Form
from ecoalign.gateway.chat._parameters import ChatParameters
from ecoalign.gateway.chat._passthrough import Passthrough
from ecoalign.gateway.chat._request import (
    Conversation,
    read_body,
    read_messages,
    read_parameters,
    sampling_of,
)
from ecoalign.gateway.chat._response import (
    ClientDisconnected,
    EventStream,
    Progress,
    Reply,
    cancelled_on_disconnect,
    disconnected,
    dumped,
)
from ecoalign.gateway.observe._requests import RequestRecord
from ecoalign.methods import DIRECT, Method
from ecoalign.models import SamplingParams
from ecoalign.prompts import turn
from ecoalign.query import Query
from ecoalign.search.synthesizer import FIXED_REFUSAL
from ecoalign.trace import Alignment
from ecoalign.trace.events import Event

_BASE = "base"

_LEAST = 4
"""Where the key has less left than the budget asked for, a run is accepted down to 1/`_LEAST` of
it."""

_TURN = "its turn"

_log = logging.getLogger("ecoalign.gateway")


async def answer_chat(state: AppState, request: Request, record: RequestRecord) -> Response:
    """The response to a request for a chat completion, which may be a stream.

    Raises:
        ApiError: the error that the client gets instead.
        ClientDisconnected: the client has disconnected.
    """
    body = read_body(await request.body())
    return await answer_body(state, request, record, body, ChatForm())


async def answer_body(
    state: AppState,
    request: Request,
    record: RequestRecord,
    body: dict[str, object],
    form: Form,
) -> Response:
    """The same for a request whose body has been read, written in a form.

    Raises:
        ApiError, ClientDisconnected: see `answer_chat`.
    """
    client = client_of(request.scope)
    parameters = read_parameters(body, state.config.passes)
    method = _method(state, client, parameters)
    stream = parameters.stream is True
    record.start(method=method.name, model=state.config.served[0], stream=stream)
    if state.forwarder is not None and method.name == _BASE:
        passed = Passthrough(state, client, parameters, body, record, state.forwarder, form)
        return await passed.answer(request)
    conversation = read_messages(body.get("messages"), max_images=state.config.max_images)
    sampling = _sampling(state, parameters, body)
    run = _Run(state, client, parameters, conversation, sampling, method, record, form)
    return await (run.stream(request) if stream else run.whole(request))


def _method(state: AppState, client: Client, parameters: ChatParameters) -> Method:
    """The choice of the request, of its key or of the server."""
    options, policy = parameters.options, client.policy
    for name in options.model_fields_set:
        value = getattr(options, name)
        if value is not None and not client.may_choose(name, value):
            raise _not_allowed(client, name, value)
    named = chosen_by(state, client, parameters.model)
    for own, other in ((named.method, options.method), (named.preset, options.preset)):
        if own and other and own != other:
            raise invalid(
                f"the model's name asks for {own}, and the object ecoalign for {other[:64]}; "
                "choose one",
                "model",
            )
    method = options.method or named.method or policy.method or state.config.method
    preset = options.preset or named.preset or (None if ":" in method else policy.preset)
    try:
        return state.service.method(method, preset)
    except EcoAlignError as error:
        param = "ecoalign.preset" if "preset" in str(error) else "ecoalign.method"
        raise ApiError(400, str(error), param=param, code="unsupported_value") from None


def _not_allowed(client: Client, name: str, value: object) -> ApiError:
    what = f"ecoalign.{name}"
    if name == "method" and value in DIRECT:
        what = f"the method {value}, which shows text that was not scored"
    message = (
        f"this key may not choose {what}"
        if client.key is not None
        else f"a request without a key may not choose {what}; `ecoalign serve --may-choose` says "
        "what it may"
    )
    param = f"ecoalign.{name}"
    return ApiError(403, message, "permission_error", param=param, code="not_allowed")


def _sampling(
    state: AppState, parameters: ChatParameters, body: Mapping[str, object]
) -> SamplingParams:
    try:
        sampling = sampling_of(parameters, body, state.config.passes)
        state.service.check(sampling)
    except EcoAlignError as error:
        failure = of_error(error)
        failure.code = "unsupported_parameter"
        raise failure from None
    return sampling


@dataclass(slots=True)
class _Run:
    """The answer to one request by a method: admitted, paid for, run and settled, in this order
    and whatever happens."""

    state: AppState
    client: Client
    parameters: ChatParameters
    conversation: Conversation
    sampling: SamplingParams
    method: Method
    record: RequestRecord
    form: Form
    reply: Reply = field(init=False)
    progress: Progress = field(init=False)
    deadline: Deadline = field(init=False)
    trace: str | None = None
    _name: str = field(init=False)
    _want: Budget = field(init=False)
    _doing: str = _TURN
    _ledger: Ledger | None = None
    _result: Alignment | None = None

    def __post_init__(self) -> None:
        config, chosen = self.state.config, self.parameters.options.trace
        self.reply = Reply(self.parameters.model, self.parameters.wants_json)
        self.progress = Progress(config.progress, config.keepalive)
        self._name = self.state.traces.new_name()
        if self.client.policy.trace if chosen is None else chosen:
            self.trace = self._name
        asked, images = self.parameters.options.budget, len(self.conversation.images)
        self._want = self.state.budget_for(self.client, asked, images)
        self.deadline = Deadline(self.record.arrived, self._want.seconds)

    async def _in_time(self) -> Alignment:
        """The result of the run, by the end of the request's time.

        A run that does not end then is cut off, and its client told; it settles its account and
        gives back its place by itself.

        Raises:
            ApiError: it failed, or there is no result by then.
        """
        left = self.deadline.left
        if left == 0:
            raise self.deadline.over("its body", spent=False)
        run = self.state.spawn(self._answer())
        run.add_done_callback(_noticed)
        try:
            await asyncio.wait([run], timeout=left)
            if not run.done() and self._ledger is not None:
                await asyncio.wait([run], timeout=GRACE)
            if not run.done() and self._result is not None:
                return self._result
            if not run.done():
                run.cancel()
                await asyncio.wait([run], timeout=CLEANUP)
                if not run.done() or run.cancelled():
                    raise self._over()
        except asyncio.CancelledError:
            await _stopped(run)
            raise
        return run.result()

    def _over(self) -> ApiError:
        ledger = self._ledger
        spent = ledger is not None and (ledger.open_calls or ledger.spent.calls) > 0
        return self.deadline.over(self._doing, spent=spent)

    async def _answer(self) -> Alignment:
        """The result of the run, its trace kept.

        Raises:
            ApiError: it failed.
        """
        state = self.state
        self.record.span.asked(self.conversation.question)
        async with state.admitted(self.client):
            try:
                with state.images.open(self.client.id) as opened:
                    self._doing = "its images"
                    pictures = await opened.load(self.conversation.images)
                    query = Query.of(
                        pictures,
                        self.conversation.question,
                        self.conversation.context,
                        self.sampling,
                        self.conversation.instructions,
                    )
                    await turn(query.length)
                    self._result = result = await self._paid(query)
            except EcoAlignError as error:
                if error.trace is not None:
                    await self._keep(error.trace)
                raise of_error(error) from error
            finally:
                self.record.spent(self._spent())
        await self._keep(result.trace)
        return result

    async def _paid(self, query: Query) -> Alignment:
        """The result of the method, within what the key has left.

        A window may give less than is wanted, and what it gives may turn out to be too little for
        an answer before anything is called: then that much is asked of it.

        Raises:
            ApiError: the window has too little.
            EcoAlignError: the method failed.
        """
        state, want, least = self.state, self._want, _part(self._want)
        while True:
            self._doing = "its share of the key's budget"
            async with state.granted(
                self.client, want, self._spent, self.deadline, least
            ) as allowance:
                self._doing = "its answer"
                arrived = self.record.arrived
                self._ledger = state.service.ledger(allowance.budget, arrived, allowance.watch)
                try:
                    result = await self.method.answer(
                        query,
                        state.service.model,
                        self._ledger,
                        price_factor=allowance.price_factor,
                        on_event=self._on_event,
                    )
                    if result.answer == FIXED_REFUSAL and self.deadline.left == 0:
                        # There is nothing to give: no model wrote it, and nobody scored it.
                        await self._keep(result.trace)
                        raise self._over()
                    return result
                except (BudgetTooSmall, BudgetExceeded) as short:
                    if short.unit == "seconds":
                        raise self._over() from short
                    more = _raised(least, want, short)
                    if allowance.cut is None or more is None:
                        raise
                    if self._ledger.spent.calls:
                        raise of_error(short, cut=allowance.cut) from short
                    least = more

    def _on_event(self, event: Event) -> None:
        self.record.on_event(event)
        self.state.readiness.on_event(event)
        self.progress.on_event(event)

    def _spent(self) -> Spending:
        return Spending() if self._ledger is None else self._ledger.spent

    async def whole(self, request: Request) -> Response:
        """All of the answer in one response.

        Raises:
            ApiError, ClientDisconnected: see `answer_chat`.
        """
        async with cancelled_on_disconnect(request.receive):
            result = await self._finished(self._in_time())
        made = self.reply.completion(result, self.trace).model_dump(exclude_unset=True)
        return Response(
            dumped(self.form.whole(made)), media_type="application/json", headers=self._headers()
        )

    async def stream(self, request: Request) -> Response:
        """The answer as a stream, which begins once there is progress.

        Raises:
            ApiError, ClientDisconnected: it failed, or the client disconnected, before anything
                was sent.
        """
        task = asyncio.create_task(self._in_time())
        watch = asyncio.create_task(disconnected(request.receive))
        started = False
        try:
            await self.progress.started(task, watch)
            if task.done() and task.exception() is not None:
                await self._finished(task)
            if watch.done():
                raise ClientDisconnected
            started = True
        finally:
            watch.cancel()
            if not started:
                await _stopped(task)
        return EventStream(self._parts(task), self._headers())

    async def _parts(self, task: asyncio.Task[Alignment]) -> AsyncGenerator[bytes, None]:
        form = self.form
        try:
            if begun := form.begin():
                yield begun
            async for comment in self.progress.comments(task):
                yield comment
            try:
                result = await self._finished(task)
            except ApiError as error:
                yield form.error(error)
                return
            except Exception as error:
                # The response has begun: a broken connection would tell the client less.
                _log.error("a run failed in its stream", exc_info=error)
                yield form.error(error)
                return
            usage = self.parameters.wants_usage
            for chunk in self.reply.chunks(result, self.trace, include_usage=usage):
                yield form.chunk(chunk.model_dump(exclude_unset=True))
            yield form.end()
        finally:
            await _stopped(task)

    async def _finished(self, answer: Awaitable[Alignment]) -> Alignment:
        """The result of the run; or its error, recorded."""
        try:
            result = await answer
        except ApiError as error:
            self.record.failed(error.code or "error", error.told)
            raise
        self.record.span.about(safety=result.safety)
        self.record.span.answered(result.content or "", result.finish_reason)
        return result

    async def _keep(self, trace: Iterable[Event]) -> None:
        events = tuple(trace)
        await self.state.traces.write(self._name, events)
        if self.trace is not None and not await self.state.traces.keep(
            self.trace, self.client.id, events
        ):
            self.trace = None

    def _headers(self) -> dict[str, str]:
        """Where the trace is, if it is kept."""
        return {} if self.trace is None else {"x-ecoalign-trace": self.trace}


async def _stopped(task: asyncio.Task[Alignment]) -> None:
    """End the task, if it has not."""
    if not task.done():
        task.cancel()
        await asyncio.wait([task])
    _noticed(task)


def _noticed(task: asyncio.Task[Alignment]) -> None:
    """Read the error of a task, so that asyncio does not report it as never retrieved."""
    if not task.cancelled():
        task.exception()


def _raised(least: Budget, want: Budget, short: BudgetTooSmall | BudgetExceeded) -> Budget | None:
    """What a budget must have after one that `least` allowed was too small; None where no more was
    wanted. What is sure to do may be more than that: then all that was wanted has to."""
    if not isinstance(short, BudgetTooSmall):
        return None
    wanted = want.tokens if short.unit == "tokens" else want.usd
    had = (least.tokens if short.unit == "tokens" else least.usd) or 0
    if wanted is None or wanted <= had:
        return None
    more = min(wanted, max(short.smallest, had))
    if short.unit == "tokens":
        return replace(least, tokens=max(math.ceil(more), int(had) + 1))
    return replace(least, usd=more if more > had else wanted)


def _part(want: Budget) -> Budget:
    """The least of a budget that is worth trying; time is not shared out."""
    return Budget(
        None if want.tokens is None else max(1, want.tokens // _LEAST),
        None if want.usd is None else want.usd / _LEAST,
        want.seconds,
    )
