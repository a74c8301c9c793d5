"""Method `base` in front of a server: the request as it came, the answer as it comes back.

It shows unscored text: the operator decides which keys may choose it. What is checked all the same:
that the request makes the upstream fetch nothing, spends no more than it may, and goes to the one
server only.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass, field

from pydantic_core import to_json
from starlette.requests import Request
from starlette.responses import Response

from ecoalign.budget import Budget, Ledger, Reservation, Spending, least_of
from ecoalign.errors import BudgetTooSmall, EcoAlignError, InputError, ModelError
from ecoalign.gateway._errors import SERVER, ApiError, of_error
from ecoalign.gateway._forward import Forwarded, Forwarder, UpstreamError
from ecoalign.gateway._images import ImageRef
from ecoalign.gateway._limits import JsonError, parse_json
from ecoalign.gateway._state import AppState, Client
from ecoalign.gateway.chat._protocol import CAPS, ChatParameters
from ecoalign.gateway.chat._request import cap_of, passed_images
from ecoalign.gateway.chat._response import EventStream, cancelled_on_disconnect, error_event
from ecoalign.gateway.observe._requests import RequestRecord
from ecoalign.models import ChatRequest, ImagePart, Message, TextPart, Usage, profile_of
from ecoalign.models import bound as bound_of
from ecoalign.models.openai import unknown_name, usage_of
from ecoalign.query import read_header, read_source

USUAL_CAP = 4096
"""Tokens of an answer where a bound is needed and the client gave none."""

_STAGE = "answer"


@dataclass(slots=True)
class PassthroughBudget:
    """What one call may use, and did.

    Attributes:
        state: whose model it is.
        want: the budget that the call needs; None where it is not held to one.
        bound: the most that the call can use.
        cap: the most tokens of its answer; None where the client's own cap will do.
        charged: what was spent; None where it is not known.
    """

    state: AppState
    want: Budget | None = None
    bound: Usage = field(default_factory=Usage)
    cap: int | None = None
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
        images: Sequence[ImageRef],
    ) -> PassthroughBudget:
        """The budget of a request.

        Raises:
            BudgetTooSmall: the budget holds no answer.
            InputError: an image cannot be read, or the price of the model is not known.
        """
        policy = client.policy
        budget = _budget(state, client, parameters, len(images))
        windows = policy.window_tokens is not None or policy.window_usd is not None
        if budget is None and not (windows and client.key is not None):
            return cls(state)
        prompt = await asyncio.to_thread(_prompt, state, body, images)
        cap = cap_of(parameters)
        most = cap or USUAL_CAP
        if budget is not None:
            most = _longest_answer(state, budget, prompt, cap)
        bound = Usage(prompt.prompt, most, prompt.image)
        want = budget or _needed(state, bound, in_usd=policy.window_usd is not None)
        return cls(state, want, bound, None if most == cap else most)

    @property
    def seconds(self) -> float | None:
        """How long the call may take; None for as long as any."""
        return None if self.want is None else self.want.seconds

    @contextmanager
    def reserved(self, budget: Budget) -> Iterator[None]:
        """Reserve the bound for the length of the call; an unknown cost is charged in full."""
        service = self.state.service
        self._ledger = service.ledger(budget)
        with self._ledger.reserve(_STAGE, self.bound, service.model.name) as reservation:
            self._reservation = reservation
            try:
                yield
            finally:
                if reservation.state == "open":
                    reservation.forfeit()
                self.charged = reservation.charged

    def settle(self, usage: object) -> None:
        """The call ended with this usage, as its server says."""
        read = usage_of(usage, "")
        if self._reservation is not None:
            self._reservation.settle(read)
        elif read is not None:
            self.charged = read

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


def _budget(
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


def _prompt(state: AppState, body: Mapping[str, object], images: Sequence[ImageRef]) -> Usage:
    """The bound of the prompt: every byte of the request but the images may be a token."""
    parts = []
    for image in images:
        header = read_header(read_source(image.url)[0], "the image")
        parts.append(ImagePart(b"", header.media_type, header.width, header.height, "high"))
    size = len(to_json(body)) - sum(len(to_json(image.url)) for image in images)
    # A part of so many bytes: what is in it does not matter to the bound.
    request = ChatRequest((Message("user", (TextPart(" " * size), *parts)),), 1, _STAGE)
    model = state.service.model
    said, profile = model.bound(request), profile_of(model)
    if profile.detail is None:
        return said
    # The setting is not that of a request which is passed on: its images keep their own detail.
    most = bound_of(request, profile.family, profile.image_tokens)
    return Usage(max(said.prompt, most.prompt), said.completion, max(said.image, most.image))


def _longest_answer(state: AppState, budget: Budget, prompt: Usage, cap: int | None) -> int:
    """The most tokens of an answer that the budget holds, at most `cap`.

    Raises:
        BudgetTooSmall: not even one.
    """
    most = cap
    if budget.tokens is not None:
        left = budget.tokens - prompt.prompt
        most = left if most is None else min(most, left)
    most = USUAL_CAP if most is None else most
    if budget.usd is not None:
        low, high = 0, max(0, most)
        while low < high:
            middle = (low + high + 1) // 2
            usd = _usd(state, Usage(prompt.prompt, middle, prompt.image))
            low, high = (middle, high) if usd <= budget.usd else (low, middle - 1)
        most = low
    if most < 1:
        raise BudgetTooSmall(
            f"the budget of {budget} does not hold the request itself, which has up to "
            f"{prompt.prompt} tokens",
            unit="tokens",
            smallest=prompt.prompt + 1,
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


_MOST = 1024 * 1024
"""Bytes of one event that are looked at; a longer one passes by unread."""


class UsageReader:
    """Reads the usage of a stream of chunks.

    Args:
        hide: leave out the chunk that holds nothing but the usage, since the client did not ask
            for it.

    Attributes:
        usage: as the server gave it; None if it has not.
    """

    def __init__(self, *, hide: bool) -> None:
        self.usage: object = None
        self._hide = hide
        self._rest = b""

    def feed(self, piece: bytes) -> bytes:
        """What is passed on of `piece` and of what was held back; whole events only."""
        self._rest += piece
        shown = b""
        while (end := _end_of_event(self._rest)) >= 0:
            event, self._rest = self._rest[:end], self._rest[end:]
            if self._shows(event):
                shown += event
        if len(self._rest) > _MOST:
            shown, self._rest = shown + self._rest, b""
        return shown

    def end(self) -> bytes:
        """What is left at the end."""
        rest, self._rest = self._rest, b""
        return rest

    def _shows(self, event: bytes) -> bool:
        if b'"usage"' not in event:
            return True
        text = b"".join(line[5:] for line in event.splitlines() if line.startswith(b"data:"))
        try:
            chunk = parse_json(text)
        except JsonError:
            return True
        if not isinstance(chunk, Mapping) or chunk.get("usage") is None:
            return True
        self.usage = chunk["usage"]
        return not (self._hide and chunk.get("choices") == [])


def _end_of_event(text: bytes) -> int:
    ends = [
        at + len(mark) for mark in (b"\n\n", b"\r\n\r\n", b"\r\r") if (at := text.find(mark)) >= 0
    ]
    return min(ends, default=-1)


@dataclass(slots=True)
class Passthrough:
    """One request that is passed on.

    Attributes:
        state, client, parameters, record: of the request.
        body: what is sent; it is changed on the way.
        forwarder: of the server.
    """

    state: AppState
    client: Client
    parameters: ChatParameters
    body: dict[str, object]
    record: RequestRecord
    forwarder: Forwarder
    _own: set[str] = field(default_factory=set)
    """Parameters in `body` that the client did not set."""

    async def answer(self, request: Request) -> Response:
        """The upstream's answer as it came.

        Raises:
            ApiError: the error that the client gets instead.
            ClientDisconnected: the client has disconnected.
        """
        self.body.pop("ecoalign", None)
        self.body["model"] = self.state.service.upstream_name
        self._own.add("model")
        images = passed_images(self.body.get("messages"))
        with self.state.images.open() as loaded:
            for index, image in enumerate(images):
                if image.url[:5].lower() != "data:":
                    uri = await loaded.data_uri(image)
                    _replace(self.body, image.param, uri)
                    images[index] = ImageRef(uri, image.param)
        if self.parameters.stream:
            return await self._stream(request, images)
        async with cancelled_on_disconnect(request.receive):
            return Response(await self._post(images), media_type="application/json")

    async def _post(self, images: Sequence[ImageRef]) -> bytes:
        async with self._paid(images) as budget:
            async with asyncio.timeout(budget.seconds):
                answer = await self._posted()
            budget.settle(_usage_in(answer.body))
        self.record.answered("", refused=False)
        return answer.body

    async def _stream(self, request: Request, images: Sequence[ImageRef]) -> Response:
        pieces = self._pieces(images)
        async with cancelled_on_disconnect(request.receive):
            first = await anext(pieces, None)
        if first is None:
            raise ApiError(
                502, "the model's upstream sent an empty stream", SERVER, code="model_bad_response"
            )
        return EventStream(_after(first, pieces))

    async def _pieces(self, images: Sequence[ImageRef]) -> AsyncGenerator[bytes, None]:
        """The events as they come; an error after the first is one of them."""
        begun = False
        try:
            async with self._paid(images) as budget:
                reader = UsageReader(hide=self._ask_for_usage(budget))
                async with aclosing(self._streamed()) as pieces:
                    async for piece in _until(pieces, budget.seconds):
                        if shown := reader.feed(piece):
                            begun = True
                            yield shown
                if shown := reader.end():
                    yield shown
                budget.settle(reader.usage)
            self.record.answered("", refused=False)
        except ApiError as error:
            if not begun:
                raise
            self.record.failed(error.code or "error")
            yield error_event(error)

    async def _posted(self) -> Forwarded:
        """The answer; parameters of our own that the server rejects are given up first."""
        while True:
            try:
                return await self.forwarder.post(to_json(self.body))
            except UpstreamError as error:
                if not self._gives_up(error):
                    raise

    async def _streamed(self) -> AsyncGenerator[bytes, None]:
        """The stream, likewise."""
        begun = False
        while True:
            try:
                async with aclosing(self.forwarder.stream(to_json(self.body))) as pieces:
                    async for piece in pieces:
                        begun = True
                        yield piece
                return
            except UpstreamError as error:
                if begun or not self._gives_up(error):
                    raise

    def _gives_up(self, error: UpstreamError) -> bool:
        """Whether the request is worth sending again, without what was rejected and is our own.

        What cannot be done without is no fault of the client's, and the error no longer says so.
        """
        if error.status not in {400, 422, 500, 501}:
            return False
        named = (error.param or "").partition(".")[0]
        words = f"{named} {error.text}"
        if "stream_options" in self._own and re.search("stream_options|include_usage", words):
            self._own.discard("stream_options")
            self.body.pop("stream_options")
            if self.parameters.stream_options is not None:
                given = self.parameters.stream_options.model_dump(exclude_unset=True)
                self.body["stream_options"] = given
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

    def _ask_for_usage(self, budget: PassthroughBudget) -> bool:
        """Ask for the usage where it is paid for; whether it is to be hidden from the client.

        A server that does not know how to count a stream is not asked: the bound is charged.
        """
        if budget.want is None or self.parameters.wants_usage:
            return False
        if not self.forwarder.counts_streams:
            return True
        self._own.add("stream_options")
        given = self.body.get("stream_options")
        known = given if isinstance(given, dict) else {}
        self.body["stream_options"] = {**known, "include_usage": True}
        return True

    @asynccontextmanager
    async def _paid(self, images: Sequence[ImageRef]) -> AsyncGenerator[PassthroughBudget, None]:
        """A place, and the budget of the one call; settled when it ends.

        Raises:
            ApiError: there is no place or no budget, or the call failed.
        """
        state, client = self.state, self.client
        async with state.admitted(client):
            try:
                budget = await PassthroughBudget.of(
                    state, client, self.parameters, self.body, images
                )
                try:
                    if budget.want is None:
                        yield budget
                        return
                    async with state.granted(client, budget.want, budget.spent) as allowance:
                        with budget.reserved(allowance.budget):
                            self._cap(budget.cap)
                            try:
                                yield budget
                            except ModelError as error:
                                budget.failed(error)
                                raise
                finally:
                    self._charge(budget.charged)
            except EcoAlignError as error:
                raise of_error(error) from error
            except TimeoutError:
                raise ApiError(
                    504,
                    "the budget's time ran out before the model's upstream had answered",
                    SERVER,
                    code="budget_time",
                    retry=False,
                ) from None

    def _cap(self, cap: int | None) -> None:
        """Put a cap on the answer, under the name that the client used, if it did."""
        if cap is not None:
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


async def _until(
    pieces: AsyncGenerator[bytes, None], seconds: float | None
) -> AsyncGenerator[bytes, None]:
    """The pieces of the next `seconds`; then a TimeoutError."""
    end = None if seconds is None else asyncio.get_running_loop().time() + seconds
    while True:
        try:
            # One piece at a time: a timeout belongs to a task, and the reader may change.
            async with asyncio.timeout_at(end):
                piece = await anext(pieces)
        except StopAsyncIteration:
            return
        yield piece


def _usage_in(body: bytes) -> object:
    """The usage of a completion.

    Raises:
        ModelError: it is no whole JSON object.
    """
    try:
        value = parse_json(body, depth=200)
    except JsonError:
        value = None
    if not isinstance(value, Mapping):
        failure = ModelError("half an answer", fault="bad-response", billed=True)
        failure.role = "model"
        raise failure
    return value.get("usage")


def _replace(body: dict[str, object], param: str, uri: str) -> None:
    """Put the data of an image where its address was; `param` is "messages[0].content[1]..."."""
    message, part = (int(text.partition("]")[0]) for text in param.split("[")[1:])
    messages = body["messages"]
    if isinstance(messages, list):
        content = messages[message]["content"]
        given = content[part]["image_url"]
        detail = (
            {"detail": given["detail"]} if isinstance(given, dict) and "detail" in given else {}
        )
        content[part] = {"type": "image_url", "image_url": {"url": uri, **detail}}
