"""POST /v1/chat/completions: from a request to a response."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from starlette.responses import Response

from ecoalign.errors import EcoAlignError
from ecoalign.gateway._admission import RateLimited
from ecoalign.gateway._errors import ApiError, of_error
from ecoalign.gateway._state import AppState, Client
from ecoalign.gateway._traces import new_id
from ecoalign.gateway.chat._job import ClientDisconnected, Job, left, wanted
from ecoalign.gateway.chat._passthrough import Passthrough
from ecoalign.gateway.chat._request import ChatCall, read_body, read_call, read_head
from ecoalign.gateway.chat._response import dumped
from ecoalign.gateway.chat._stream import Stream

if TYPE_CHECKING:
    from starlette.requests import Request

    from ecoalign.gateway._service import Outcome, Plan
    from ecoalign.gateway.keys._policy import Choice
    from ecoalign.gateway.observe._requests import RequestNotes
    from ecoalign.trace.events import Event

__all__ = ["Chat"]

BASE = "base"


@dataclass(slots=True)
class Chat:
    """Answers requests for chat completions.

    Attributes:
        house: what they share.
    """

    state: AppState

    async def answer(self, request: Request, notes: RequestNotes) -> Response:
        """The response, which may be a stream.

        Raises:
            ApiError: what the client is told instead.
            ClientDisconnected: the client has left.
        """
        state = self.state
        client = await state.client(request.headers.get("authorization", ""))
        notes.key_id = client.id
        self._pace(client)
        head = read_head(read_body(await request.body()))
        self._check_model(head.model)
        plan = self._plan(head, client)
        served = state.config.served[0]
        notes.begun(method=plan.method, model=served, key_id=client.id, stream=head.stream)
        if state.forwarder is not None and plan.method == BASE:
            passing = Passthrough(state, client, head, notes, state.forwarder, state.upstream_name)
            return await passing.answer(request)
        call = read_call(head, most_images=state.config.max_images)
        self._check_sampling(call)
        run = _Run(state, client, call, plan, notes)
        if call.stream:
            return await run.stream(request)
        return await run.whole(request)

    def _pace(self, client: Client) -> None:
        try:
            self.state.rates.take(client.id, client.policy.requests_per_minute)
        except RateLimited as limited:
            self.state.metrics.turned_away("rate")
            raise ApiError(
                429,
                str(limited),
                "requests",
                code="rate_limit_exceeded",
                retry_after=limited.retry_after,
            ) from None

    def _check_model(self, name: str) -> None:
        if name not in self.state.config.served:
            raise ApiError(
                404,
                f"there is no model {name[:80]!r} here; GET /v1/models lists them",
                param="model",
                code="model_not_found",
            )

    def _plan(self, head: ChatCall, client: Client) -> Plan:
        options, policy = head.options, client.policy
        asked: dict[Choice, object] = {
            "budget": options.budget,
            "preset": options.preset,
            "method": options.method,
            "trace": options.trace,
        }
        for name, value in asked.items():
            if value is not None and name not in policy.may_choose:
                raise ApiError(
                    403,
                    f"this key may not choose ecoalign.{name}",
                    "permission_error",
                    param=f"ecoalign.{name}",
                    code="not_allowed",
                )
        method = options.method or policy.method or self.state.config.method
        preset = options.preset or (None if ":" in method else policy.preset)
        try:
            return self.state.engine.plan(method, preset)
        except EcoAlignError as error:
            param = "ecoalign.preset" if "preset" in str(error) else "ecoalign.method"
            raise ApiError(400, str(error), param=param, code="unsupported_value") from None

    def _check_sampling(self, call: ChatCall) -> None:
        try:
            self.state.engine.check(call.sampling)
        except EcoAlignError as error:
            failure = of_error(error)
            failure.code = "unsupported_parameter"
            raise failure from None


@dataclass(slots=True)
class _Run:
    """One call, answered by a method."""

    state: AppState
    client: Client
    call: ChatCall
    plan: Plan
    notes: RequestNotes
    job: Job = field(init=False)
    trace: str | None = None

    def __post_init__(self) -> None:
        chosen = self.call.options.trace
        kept = self.client.policy.trace if chosen is None else chosen
        if kept and self.plan.searches:
            self.trace = new_id()

    def _start(self, on_event: Stream | None) -> asyncio.Task[Outcome]:
        def see(event: Event) -> None:
            self.notes.event(event)
            if on_event is not None:
                on_event.see(event)

        want = wanted(self.state, self.client, self.call.options.budget)
        self.job = Job(self.state, self.client, self.call, self.plan, want, see, self.notes)
        self.notes.span.asked(self.call.question)
        return asyncio.create_task(self.job.run())

    async def whole(self, request: Request) -> Response:
        """All of the answer in one response.

        Raises:
            ApiError, ClientDisconnected: see `Chat.answer`.
        """
        task = self._start(None)
        disconnect = asyncio.create_task(left(request.receive))
        try:
            await asyncio.wait({task, disconnect}, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                raise ClientDisconnected
            outcome = await self.finished(task)
        finally:
            disconnect.cancel()
            await self.stopped(task)
        body = dumped(self.job.envelope.completion(outcome, self.trace))
        return Response(body, media_type="application/json", headers=self.headers())

    async def stream(self, request: Request) -> Response:
        """The answer as a stream, which begins once there is progress.

        Raises:
            ApiError, ClientDisconnected: it failed, or the client left, before anything was sent.
        """
        stream = Stream(self.state.config)
        task = self._start(stream)
        disconnect = asyncio.create_task(left(request.receive))
        begun = False
        try:
            await stream.begun(task, disconnect)
            if task.done() and task.exception() is not None:
                await self.finished(task)
            if disconnect.done():
                raise ClientDisconnected
            begun = True
        finally:
            disconnect.cancel()
            if not begun:
                await self.stopped(task)
        return stream.response(self, task)

    async def finished(self, task: asyncio.Task[Outcome]) -> Outcome:
        """The outcome of the task, its trace kept; or its error.

        Raises:
            ApiError: it failed.
        """
        try:
            outcome = await task
        except ApiError as error:
            self.notes.failed(error.code or "error")
            cause = error.__cause__
            trace = cause.trace if isinstance(cause, EcoAlignError) else None
            if trace is not None:
                await self._keep(tuple(trace))
            raise
        self.notes.span.about(safety=outcome.safety)
        self.notes.span.answered(outcome.content or "", outcome.finish_reason)
        await self._keep(outcome.events)
        return outcome

    async def stopped(self, task: asyncio.Task[Outcome]) -> None:
        """End the task, if it has not."""
        if not task.done():
            task.cancel()
            await asyncio.wait([task])
        if not task.cancelled():
            # Whoever left early has no use for it; unread, asyncio would complain.
            task.exception()

    async def _keep(self, events: tuple[Event, ...]) -> None:
        if self.trace is not None and not await self.state.traces.keep(
            self.trace, self.client.id, events
        ):
            self.trace = None

    def headers(self) -> dict[str, str]:
        """Where the trace is, if it is kept."""
        return {} if self.trace is None else {"x-ecoalign-trace": self.trace}
