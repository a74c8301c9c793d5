"""Method `base` in front of a server: the request is passed on, and the text of the answer back.

It shows unscored text: the operator decides which keys may choose it. What is checked all the same:
that the request has only parameters whose effect is known, makes the upstream fetch nothing, spends
no more than it may, and goes to the one server only; and that of the answer nothing is shown but
its text (`_passed_answer`).
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import (
    AbstractAsyncContextManager,
    aclosing,
    asynccontextmanager,
    contextmanager,
)
from dataclasses import dataclass, field
from functools import lru_cache

from pydantic_core import to_json
from starlette.requests import Request
from starlette.responses import Response

from ecoalign.budget import (
    Budget,
    Ledger,
    Reservation,
    Spending,
    false_usage,
    impossible,
    least_of,
)
from ecoalign.errors import BudgetTooSmall, EcoAlignError, InputError, ModelError
from ecoalign.gateway._deadline import GRACE, Deadline
from ecoalign.gateway._errors import SERVER, ApiError, of_error
from ecoalign.gateway._forward import Forwarded, Forwarder, UpstreamError
from ecoalign.gateway._images import Held, full
from ecoalign.gateway._limits import body_room
from ecoalign.gateway._state import Allowance, AppState, Client
from ecoalign.gateway.chat._form import Form
from ecoalign.gateway.chat._parameters import CAPS, ChatParameters
from ecoalign.gateway.chat._passed_answer import PassedAnswer, PassedStream
from ecoalign.gateway.chat._passed_request import passed_messages
from ecoalign.gateway.chat._protocol import Json
from ecoalign.gateway.chat._request import passed_on
from ecoalign.gateway.chat._response import (
    ALIVE,
    EventStream,
    cancelled_on_disconnect,
)
from ecoalign.gateway.observe._requests import RequestRecord
from ecoalign.models import (
    ChatModel,
    ChatRequest,
    ImagePart,
    Message,
    TextPart,
    Thinking,
    Usage,
    profile_of,
)
from ecoalign.models import bound as bound_of
from ecoalign.models.openai import apart_of, unknown_name, usage_of

USUAL_CAP = 4096
"""Tokens of an answer where a bound is needed and the client gave none."""

_STAGE = "answer"


@dataclass(slots=True)
class PassthroughBudget:
    """What one call may use, and did.

    Attributes:
        state: whose model it is.
        thinking: the client's own budget for hidden reasoning.
        want: the budget that the call needs; None where it is not held to one.
        bound: the most that the call can use.
        cap: the most tokens of its answer; None where the client's own cap will do.
        most: what a report may say of its answer; None where it has no cap.
        images: of the request.
        charged: what was spent; None where it is not known.
    """

    state: AppState
    thinking: Thinking | None = None
    want: Budget | None = None
    bound: Usage = field(default_factory=Usage)
    cap: int | None = None
    most: int | None = None
    images: int = 0
    charged: Usage | None = None
    _ledger: Ledger | None = None
    _reservation: Reservation | None = None

    @classmethod
    async def of(
        cls,
        state: AppState,
        client: Client,
        parameters: ChatParameters,
        body: Mapping[str, object],
        images: Sequence[Held],
    ) -> PassthroughBudget:
        """The budget of a request.

        Raises:
            BudgetTooSmall: the budget holds no answer.
            InputError: the price of the model is not known, or a budget for hidden reasoning leaves
                no room for an answer.
        """
        policy, passes = client.policy, state.config.passes
        budget, cap = budget_of(state, client, parameters, len(images)), parameters.cap
        windows = policy.window_tokens is not None or policy.window_usd is not None
        thinking = Thinking.of({name: v for name, v in body.items() if name not in passes})
        if budget is None and not (windows and client.key is not None):
            if thinking is not None:
                thinking.within(cap or USUAL_CAP)
            own = None if thinking is None else cap or USUAL_CAP
            held = cap or own
            return cls(
                state,
                thinking,
                cap=own,
                most=None if held is None else held + sum(passes.get(name, 0) for name in body),
            )
        if _is_small(body) and not images:
            prompt = _prompt(state, body, images)  # handing it to a thread would take longer
        else:
            prompt = await asyncio.to_thread(_prompt, state, body, images)
        extra = sum(passes.get(name, 0) for name in body)
        most = cap or USUAL_CAP
        if budget is not None:
            most = _longest_answer(state, budget, prompt, cap, extra)
        if thinking is not None:
            thinking.within(most)
        bound = Usage(prompt.prompt, most + extra, prompt.image)
        want = budget or _needed(state, bound, in_usd=policy.window_usd is not None)
        same = most == cap and thinking is None
        return cls(
            state,
            thinking,
            want,
            bound,
            None if same else most,
            most=bound.completion,
            images=len(images),
        )

    @contextmanager
    def reserved(self, allowance: Allowance, arrived: float) -> Iterator[None]:
        """Reserve the bound for the length of the call; an unknown cost is charged in full.

        Args:
            allowance: as granted.
            arrived: when the request did, as of `time.monotonic`.
        """
        service = self.state.service
        self._ledger = service.ledger(allowance.budget, arrived, allowance.watch)
        with self._ledger.reserve(_STAGE, self.bound, service.model.name) as reservation:
            self._reservation = reservation
            try:
                yield
            finally:
                if reservation.state == "open":
                    reservation.forfeit()
                self.charged = reservation.charged

    def settle(self, usage: object) -> None:
        """The call ended with this usage, as its server says.

        Raises:
            ModelError: no honest server says that.
        """
        read = usage_of(usage, "")
        if self._reservation is not None:
            self._reservation.settle(read)
        elif read is not None:
            self.charged = read
        self.weigh(usage)

    def weigh(self, usage: object) -> None:
        """Whether a server may say this of the call; what nothing is known of, it may.

        Raises:
            ModelError: no honest one does.
        """
        read = usage_of(usage, "")
        if read is None or self.most is None:
            return
        prompt = self.bound.prompt if self.want is not None else read.prompt
        what = impossible(read, Usage(prompt, self.most), images=self.images, apart=apart_of(usage))
        if what:
            if self._reservation is None:
                self.charged = read
            error = false_usage(self.state.service.model.name, what, _STAGE, read)
            error.role = "model"
            raise error

    def failed(self, error: ModelError) -> None:
        """The call failed: what the server reported is charged, and nothing where that is certain;
        what is not known is charged in full when the reservation ends."""
        if self._reservation is None or self._reservation.state != "open":
            return
        if error.usage is not None:
            self._reservation.settle(error.usage)
        elif not error.billed:
            self._reservation.release()

    def spent(self) -> Spending:
        """What was spent, for the account of the key."""
        return Spending() if self._ledger is None else self._ledger.spent


def budget_of(
    state: AppState, client: Client, parameters: ChatParameters, images: int
) -> Budget | None:
    """The budget that the request, its key or the server sets, if any does."""
    settings = state.service.settings
    default = None if settings.origin("budget") == "default" else settings.budget
    asked = state.asked_budget(client, parameters.options.budget, images)
    budget = asked or client.policy.budget or default
    for most in (client.policy.most, state.config.most):
        if most is not None:
            budget = most if budget is None else least_of(budget, most)
    return budget


def _is_small(body: Mapping[str, object]) -> bool:
    """Whether a request is a few short texts and simple parameters."""
    messages = body.get("messages")
    if not isinstance(messages, list) or len(messages) > 16:
        return False
    values = [value for name, value in body.items() if name != "messages"]
    for message in messages:
        values += message.values()
    return all(
        (isinstance(value, str) and len(value) < 4096)
        or value is None
        or isinstance(value, bool | int | float)
        for value in values
    )


def _prompt(state: AppState, body: Mapping[str, object], images: Sequence[Held]) -> Usage:
    """The bound of the prompt: every byte of the request but the images may be a token."""
    headers = [image.header for image in images]
    parts = [ImagePart(b"", one.media_type, one.width, one.height, "high") for one in headers]
    size = len(to_json(body))
    model = state.service.model
    if parts or size > _SMALL or not isinstance(model, Hashable):
        return _bound(model, size, *parts)
    return _small_bound(model, size)


def _bound(model: ChatModel, size: int, *images: ImagePart) -> Usage:
    # A part of so many bytes: what is in it does not matter to the bound.
    request = ChatRequest((Message("user", (TextPart(" " * size), *images)),), 1, _STAGE)
    said, profile = model.bound(request), profile_of(model)
    if profile.detail is None:
        return said
    # The setting is not that of a request which is passed on: its images keep their own detail.
    most = bound_of(request, profile.family, profile.image_tokens)
    return Usage(max(said.prompt, most.prompt), said.completion, max(said.image, most.image))


_SMALL = 64 * 1024

_small_bound = lru_cache(4096)(_bound)


def _longest_answer(
    state: AppState, budget: Budget, prompt: Usage, cap: int | None, extra: int
) -> int:
    """The most tokens of an answer that the budget holds beside `extra`, at most `cap`.

    Raises:
        BudgetTooSmall: not even one.
    """
    most = cap
    if budget.tokens is not None:
        left = budget.tokens - prompt.prompt - extra
        most = left if most is None else min(most, left)
    most = USUAL_CAP if most is None else most
    if budget.usd is not None:
        low, high = 0, max(0, most)
        while low < high:
            middle = (low + high + 1) // 2
            usd = _usd(state, Usage(prompt.prompt, middle + extra, prompt.image))
            low, high = (middle, high) if usd <= budget.usd else (low, middle - 1)
        most = low
    if most < 1:
        raise BudgetTooSmall(
            f"the budget of {budget} does not hold the request itself, which has up to "
            f"{prompt.prompt + extra} tokens",
            unit="tokens",
            smallest=prompt.prompt + extra + 1,
        )
    return most


def _needed(state: AppState, bound: Usage, *, in_usd: bool) -> Budget:
    return Budget(tokens=bound.total, usd=_usd(state, bound) or None if in_usd else None)


def _usd(state: AppState, usage: Usage) -> float:
    name = state.service.model.name
    price = state.service.prices(name, usage)
    if price is None:
        raise InputError(f"a budget in dollars needs the price of {name}, which is not known")
    return float(price)


@dataclass(slots=True)
class Passthrough:
    """One request that is passed on.

    Attributes:
        state, client, parameters, record: of the request.
        body: of the request; then what is sent, which is changed on the way.
        forwarder: of the server.
        form: in which the client reads the answer.
        answered: how the answer is shown.
    """

    state: AppState
    client: Client
    parameters: ChatParameters
    body: dict[str, object]
    record: RequestRecord
    forwarder: Forwarder
    form: Form
    answered: PassedAnswer = field(init=False)
    deadline: Deadline = field(init=False)
    _doing: str = "its images"
    _asked: bool = False
    """Whether the upstream was."""
    _images: list[Held] = field(default_factory=list)
    _own: set[str] = field(default_factory=set)
    """Parameters in `body` that the client did not set."""

    async def answer(self, request: Request) -> Response:
        """The text of the upstream's answer.

        Raises:
            ApiError: the error that the client gets instead.
            ClientDisconnected: the client has disconnected.
        """
        messages, images = passed_messages(
            self.body.get("messages"), max_images=self.state.config.max_images
        )
        self.body = self._request(messages)
        budget = budget_of(self.state, self.client, self.parameters, len(images))
        self.deadline = Deadline(self.record.arrived, None if budget is None else budget.seconds)
        async with self._in_time(), cancelled_on_disconnect(request.receive):
            with self.state.images.open(self.client.id) as loaded:
                self._images = await loaded.held(images)
                for image, held in zip(images, self._images, strict=True):
                    _replace(self.body, image.param, held.name)
            share, size = body_room(request.scope), sum(held.size for held in self._images)
            if share is not None and not await share.wait(size, self.state.images.limits.patience):
                raise full()
            if self.parameters.stream:
                return await self._stream(self._images)
            return Response(await self._post(self._images), media_type="application/json")

    def _in_time(self) -> AbstractAsyncContextManager[None]:
        """A block that ends with the request's time."""
        return self.deadline.limit(lambda: self._doing, spent=lambda: self._asked)

    def _request(self, messages: list[Json]) -> dict[str, object]:
        """What is sent: what was read of the request, and no more."""
        read = self.parameters
        sent = passed_on(read, self.body, self.state.config.passes)
        self.answered = PassedAnswer(read.model, sent, self._thinks(), self.form, read.wants_json)
        for name in CAPS:
            if self.body.get(name) is not None:
                sent = {**sent, name: self.body[name]}
        if read.stream:
            sent = {**sent, "stream": True}
        self._own.add("model")
        return {"model": self.state.service.upstream_name, "messages": messages, **sent}

    def _thinks(self) -> bool:
        """Whether the model may begin inside its thoughts."""
        return profile_of(self.state.service.model).thinking > 0 or self.forwarder.begins_inside

    async def _post(self, images: Sequence[Held]) -> bytes:
        async with self._paid(images) as budget:
            answer = await self._posted()
            shown, usage = self.answered.whole(answer.body)
            budget.settle(usage)
        self._passed()
        return shown

    async def _stream(self, images: Sequence[Held]) -> Response:
        pieces = self._pieces(images)
        first = await anext(pieces, None)
        if first is None:
            raise ApiError(
                502, "the model's upstream sent an empty stream", SERVER, code="model_bad_response"
            )
        left = self.deadline.left
        # Also where the client reads nothing of it.
        return EventStream(_after(first, pieces), limit=None if left is None else left + GRACE)

    async def _pieces(self, images: Sequence[Held]) -> AsyncGenerator[bytes, None]:
        """The events as they come; an error after the first is one of them."""
        begun, quiet = False, self.state.config.keepalive
        now = asyncio.get_running_loop().time
        try:
            async with self._paid(images) as budget:
                self._ask_for_usage(budget)
                last = now()
                stream = PassedStream(self.answered, wants_usage=self.parameters.wants_usage)
                told: object = None
                async with aclosing(self._streamed()) as pieces:
                    async for piece in self._until_over(pieces):
                        shown = stream.feed(piece)
                        if stream.usage is not told:
                            told = stream.usage
                            budget.weigh(told)
                        if not shown and now() - last > quiet:
                            # There is nothing to show of thoughts, but that they go on.
                            shown = ALIVE
                        if shown:
                            begun, last = True, now()
                            yield shown
                shown = stream.end()
                budget.weigh(stream.usage)
                if shown:
                    begun = True
                    yield shown
                budget.settle(stream.usage)
                self.forwarder.begins_inside = self.forwarder.begins_inside or stream.began_inside
            self._passed()
        except ApiError as error:
            if not begun:
                raise
            self.record.failed(error.code or "error", error.told)
            yield self.form.error(error)

    async def _until_over(self, pieces: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
        """The pieces that come within the request's time."""
        while True:
            try:
                # One piece at a time: a timeout belongs to a task, and the reader may change.
                async with self._in_time():
                    piece = await anext(pieces)
            except StopAsyncIteration:
                return
            yield piece

    async def _posted(self) -> Forwarded:
        """The answer; parameters of our own that the server rejects are given up first."""
        while True:
            try:
                return await self.forwarder.post(await self._sent())
            except UpstreamError as error:
                if not self._gives_up(error):
                    raise

    async def _streamed(self) -> AsyncGenerator[bytes, None]:
        """The stream, likewise."""
        begun = False
        while True:
            try:
                async with aclosing(self.forwarder.stream(await self._sent())) as pieces:
                    async for piece in pieces:
                        begun = True
                        yield piece
                return
            except UpstreamError as error:
                if not self._gives_up(error) or begun:
                    raise

    async def _sent(self) -> bytes:
        """The body as it is sent: with the images where their names are."""
        body = to_json(self.body)
        return await asyncio.to_thread(_with_images, body, self._images) if self._images else body

    def _gives_up(self, error: UpstreamError) -> bool:
        """Whether the request is worth sending again, without what was rejected and is our own.

        What cannot be done without is no fault of the client's, and the error no longer says so.
        """
        if error.status not in {400, 422, 500, 501}:
            return False
        named = re.split(r"[.\[]", error.param or "")[0]
        # What the server calls a parameter is its own word, unless it is one that was sent.
        error.param = named if named in self.body else None
        words = f"{named} {error.text}"
        if "stream_options" in self._own and re.search("stream_options|include_usage", words):
            self._own.discard("stream_options")
            self.body.pop("stream_options")
            self.forwarder.counts_streams = False
            return True
        for cap, other in (CAPS, CAPS[::-1]):
            if cap in self._own and re.search(rf"\b{cap}\b", words) and unknown_name(words):
                self._own.discard(cap)
                self.body[other] = self.body.pop(cap)
                return True
        if named in self._own:
            error.param = error.status = None
        return False

    def _ask_for_usage(self, budget: PassthroughBudget) -> None:
        """Ask for the usage where it is paid for, or wanted.

        A server that does not know how to count a stream is not asked: the bound is charged, and
        the client is told of no usage.
        """
        wanted = budget.want is not None or self.parameters.wants_usage
        if not wanted or not self.forwarder.counts_streams:
            return
        self._own.add("stream_options")
        self.body["stream_options"] = {"include_usage": True}

    @asynccontextmanager
    async def _paid(self, images: Sequence[Held]) -> AsyncGenerator[PassthroughBudget, None]:
        """A place, and the budget of the one call; settled when it ends.

        Raises:
            ApiError: there is no place or no budget, or the call failed.
        """
        state, client = self.state, self.client
        self._doing = "its turn"
        async with state.admitted(client):
            try:
                budget = await PassthroughBudget.of(
                    state, client, self.parameters, self.body, images
                )
                try:
                    if budget.want is None:
                        self._cap(budget)
                        self._doing, self._asked = "its answer", True
                        yield budget
                        return
                    self._doing = "its share of the key's budget"
                    async with state.granted(
                        client, budget.want, budget.spent, self.deadline
                    ) as allowance:
                        with budget.reserved(allowance, self.record.arrived):
                            self._cap(budget)
                            self._doing, self._asked = "its answer", True
                            try:
                                yield budget
                            except ModelError as error:
                                budget.failed(error)
                                raise
                finally:
                    self._charge(budget.charged)
            except EcoAlignError as error:
                state.readiness.passed(state.service.model, error)
                raise of_error(error) from error

    def _passed(self) -> None:
        """The request was answered."""
        self.record.answered("", refused=False)
        self.state.readiness.passed(self.state.service.model, None)

    def _cap(self, budget: PassthroughBudget) -> None:
        """Put a cap on the answer, under the name that the client used, if it did."""
        if budget.cap is not None:
            cap = budget.cap if budget.thinking is None else budget.thinking.within(budget.cap)
            name = next((name for name in CAPS if self.body.get(name) is not None), None)
            if name is None:
                name = CAPS[1]
                self._own.add(name)
            self.body[name] = cap

    def _charge(self, charged: Usage | None) -> None:
        if charged is not None:
            service = self.state.service
            usd = service.prices(service.model.name, charged)
            self.record.charge(_STAGE, charged.total, None if usd is None else float(usd))


async def _after(first: bytes, rest: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    async with aclosing(rest):
        yield first
        async for piece in rest:
            yield piece


def _with_images(body: bytes, images: Iterable[Held]) -> bytes:
    pieces = []
    for image in images:
        before, quoted, body = body.partition(to_json(image.name))
        pieces += [before, quoted[:1], *image.uri(), quoted[-1:]]
    return b"".join((*pieces, body))


def _replace(body: dict[str, object], param: str, name: str) -> None:
    """Put the name of an image where its address was; `param` is "messages[0].content[1]..."."""
    message, part = (int(text.partition("]")[0]) for text in param.split("[")[1:])
    messages = body["messages"]
    if isinstance(messages, list):
        content = messages[message]["content"]
        given = content[part]["image_url"]
        detail = (
            {"detail": given["detail"]} if isinstance(given, dict) and "detail" in given else {}
        )
        content[part] = {"type": "image_url", "image_url": {"url": name, **detail}}
