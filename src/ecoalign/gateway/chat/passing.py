"""Method `base`: the request as it came to the model's server, the answer as it came back.

It shows unscored text: whoever runs the server decides who may have it. What is checked all the
same: that the request makes nobody fetch anything, spends no more than it may, and goes nowhere
but to the one server.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pydantic_core import to_json
from starlette.responses import Response

from ecoalign.errors import EcoAlignError, ModelError
from ecoalign.gateway.chat.leaving import Gone, Staying, left
from ecoalign.gateway.chat.messages import check_raw
from ecoalign.gateway.chat.purse import Purse, capped
from ecoalign.gateway.chat.sse import UsageReader
from ecoalign.gateway.chat.streaming import EventStream, failed
from ecoalign.gateway.chat.work import admitted, granted
from ecoalign.gateway.errors import SERVER, ApiError, of_error
from ecoalign.gateway.limits import JsonError, parse_json

if TYPE_CHECKING:
    from starlette.requests import Request

    from ecoalign.gateway.chat.call import ChatCall
    from ecoalign.gateway.forward import Forwarder
    from ecoalign.gateway.house import Client, House
    from ecoalign.gateway.observe.requests import RequestNotes

__all__ = ["Passing"]


@dataclass(slots=True)
class Passing:
    """One request that is passed on.

    Attributes:
        house, client, call, notes: the request.
        forwarder: the way.
    """

    house: House
    client: Client
    call: ChatCall
    notes: RequestNotes
    forwarder: Forwarder
    model: str
    _body: dict[str, object] = field(init=False)

    async def answer(self, request: Request) -> Response:
        """The upstream's answer as it came.

        Raises:
            ApiError: what the client is told instead.
            Gone: the client has left.
        """
        self._body = {**self.call.raw, "model": self.model}
        with self.house.pictures.room() as room:
            for image in check_raw(self._body.get("messages")):
                _replace(self._body, image.param, await room.data_uri(image))
        if self.call.stream:
            return await self._stream(request)
        return await self._whole(request)

    async def _whole(self, request: Request) -> Response:
        async with Staying(request.receive):
            return Response(await self._post(), media_type="application/json")

    async def _post(self) -> bytes:
        async with self._paid() as purse:
            try:
                async with asyncio.timeout(purse.seconds):
                    answer = await self.forwarder.post(to_json(self._body))
                purse.used(_usage_in(answer.body))
            except ModelError as error:
                purse.failed(billed=error.billed)
                raise
        self.notes.answered("", refused=False)
        return answer.body

    async def _stream(self, request: Request) -> Response:
        pieces = self._pieces()
        first = asyncio.ensure_future(anext(pieces))
        leaving = asyncio.create_task(left(request.receive))
        begun = False
        try:
            await asyncio.wait({first, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if not first.done():
                raise Gone
            piece = await first
            begun = True
        except StopAsyncIteration:
            raise ApiError(
                502, "the model's upstream sent an empty stream", SERVER, code="model_bad_response"
            ) from None
        finally:
            leaving.cancel()
            if not begun:
                if not first.done():
                    first.cancel()
                    await asyncio.wait([first])
                await pieces.aclose()
        return EventStream(_after(piece, pieces))

    async def _pieces(self) -> AsyncGenerator[bytes, None]:
        """The events as they come; an error after the first is one of them."""
        begun = False
        try:
            async with self._paid() as purse:
                reader = UsageReader(hide=self._ask_for_usage(purse))
                try:
                    async with aclosing(self.forwarder.stream(to_json(self._body))) as pieces:
                        async for piece in _until(pieces, purse.seconds):
                            if shown := reader.feed(piece):
                                begun = True
                                yield shown
                    if shown := reader.end():
                        yield shown
                except ModelError as error:
                    purse.failed(billed=error.billed)
                    raise
                purse.used(reader.usage)
            self.notes.answered("", refused=False)
        except ApiError as error:
            if not begun:
                raise
            self.notes.failed(error.code or "error")
            yield failed(error)

    def _ask_for_usage(self, purse: Purse) -> bool:
        """Ask for the usage where it is paid for; whether the client did not and is not told."""
        if not purse.bounded or self.call.include_usage:
            return False
        given = self._body.get("stream_options")
        options = given if isinstance(given, dict) else {}
        self._body["stream_options"] = {**options, "include_usage": True}
        return True

    @asynccontextmanager
    async def _paid(self) -> AsyncGenerator[Purse, None]:
        """A place, and the money for the one call; settled when it ends.

        Raises:
            ApiError: there is no place or no money, or the call failed.
        """
        house, client = self.house, self.client
        async with admitted(house, client):
            try:
                purse = await Purse.of(house, client, self.call.options.budget, self._body)
                try:
                    if purse.want is None:
                        yield purse
                        return
                    async with granted(house, client, purse.want, purse.spent) as allowance:
                        with purse.opened(allowance.budget):
                            capped(self._body, purse.cap)
                            yield purse
                finally:
                    self._note(purse)
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

    def _note(self, purse: Purse) -> None:
        charged = purse.charged
        if charged is not None:
            usd = self.house.engine.prices(self.house.engine.model.name, charged)
            self.notes.charge("answer", charged.total, None if usd is None else float(usd))


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
