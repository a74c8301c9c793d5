"""The playground's server: what the page may ask for, and within which bounds."""

from __future__ import annotations

import asyncio
import base64
import binascii
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import aclosing, contextmanager, suppress
from typing import Annotated, Any

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ecoalign._version import __version__
from ecoalign.budget import Budget, least_of
from ecoalign.errors import InputError
from ecoalign.methods import METHODS, Answerer
from ecoalign.models import ChatModel, Usage, check_domain
from ecoalign.playground._asking import ask
from ecoalign.playground._config import PlaygroundConfig
from ecoalign.playground._page import page
from ecoalign.query import Picture, Query, read_header
from ecoalign.settings import PRESET_TEXTS, PRESETS
from ecoalign.view import Lines, LoopbackServer, Refused, body_of, listen

__all__ = ["beside", "listen", "serve"]

_LONGEST = 200_000
"""Characters of a question, or of instructions."""

_MOST_PIXELS = 64_000_000
"""Of all pictures of a question."""

_FINEST = 40
"""The slider begins at this part of the default budget."""


class _Question(BaseModel):
    """What the page sends."""

    model_config = ConfigDict(extra="forbid", strict=True)

    question: Annotated[str, Field(max_length=_LONGEST)]
    instructions: Annotated[str, Field(max_length=_LONGEST)] = ""
    images: list[str] = []
    """Encoded pictures, in base64."""
    methods: Annotated[list[str], Field(min_length=1)]
    budget: str | None = None
    """Of each method, as `Budget.parse` reads it; None for the default."""
    judge: bool = False
    """Whether an answer that its method does not score is judged afterwards."""


class Playground:
    """The playground in its event loop."""

    def __init__(self, config: PlaygroundConfig, model: ChatModel | None) -> None:
        self.config = config
        self.answerer = Answerer(config.settings, model)
        self.running = 0

    # -- what the page has to know -----------------------------------------------------------------

    async def about(self, request: web.Request) -> web.Response:
        """What can be chosen, and the examples."""
        config, settings = self.config, self.config.settings
        methods = [
            {"name": name, "text": text} for name, text in METHODS.items() if ":" not in name
        ]
        return web.json_response(
            {
                "version": __version__,
                "model": self.answerer.model.name,
                "evaluator": settings.evaluator,
                "toy": self.answerer.model.name == "embedded",
                "methods": methods,
                "presets": [{"name": name, "text": PRESET_TEXTS.get(name, "")} for name in PRESETS],
                "preset": settings.preset,
                "budget": self._budgets(),
                "most": {
                    "images": config.most_images,
                    "bytes": config.most_body,
                    "methods": config.most_methods,
                },
                "examples": [
                    {
                        "name": one.name,
                        "png": base64.b64encode(one.png).decode("ascii"),
                        "questions": one.questions,
                    }
                    for one in config.examples
                ],
            }
        )

    def _budgets(self) -> dict[str, Any]:
        """The slider: its unit, its ends, and where it stands by the number of pictures."""
        config, limit = self.config, self.config.limit
        usual = [
            least_of(config.settings.budget_for(self.answerer.model, images), limit)
            for images in range(config.most_images + 1)
        ]
        unit = next(u for u in ("tokens", "usd", "seconds") if getattr(usual[0], u) is not None)
        defaults = [getattr(budget, unit) for budget in usual]
        least, most = min(defaults) / _FINEST, getattr(limit, unit) or 10 * max(defaults)
        others = Budget(**{u: getattr(limit, u) for u in ("tokens", "usd", "seconds") if u != unit})
        million = Usage(completion=1_000_000)
        dearest = config.settings.price_book()(self.answerer.model.name, million)
        return {
            "unit": unit,
            "default": defaults,
            "least": max(1, round(least)) if unit == "tokens" else least,
            "most": most,
            "also": str(others),
            "usd_per_token": None if dearest is None else float(dearest) / 1_000_000,
        }

    # -- asking ------------------------------------------------------------------------------------

    async def run(self, request: web.Request) -> web.StreamResponse:
        """Ask; the answer comes as lines while it is searched for."""
        if self.running >= self.config.runs:
            raise Refused(
                429,
                f"{self.running} questions are under way already: wait for one, or cancel it",
                "Busy",
            )
        self.running += 1
        try:
            return await self._run(request)
        finally:
            self.running -= 1

    async def _run(self, request: web.Request) -> web.StreamResponse:
        asked = _read(await body_of(request))
        methods = self._methods(asked)
        pictures = await self._pictures(asked)
        query = Query.of(pictures, asked.question, instructions=asked.instructions)
        check_domain(self.answerer.model, query.question, [one.image for one in query.pictures])
        want = Budget.parse(asked.budget) if asked.budget else self.answerer.budget_for(query)
        budget = least_of(want, self.config.limit)
        lines = await Lines.open(request)
        await lines.send({"budget": str(budget), "cut": budget != want})
        asking = ask(self.answerer, query, methods, budget, judge=asked.judge)
        async with aclosing(asking):
            async for line in asking:
                await lines.send(line)
        await lines.send({"done": True})
        return await lines.close()

    def _methods(self, asked: _Question) -> list[str]:
        names = list(dict.fromkeys(asked.methods))
        if len(names) > self.config.most_methods:
            raise InputError(f"choose at most {self.config.most_methods} methods")
        for name in names:
            self.answerer.method(name)
        return names

    async def _pictures(self, asked: _Question) -> tuple[Picture, ...]:
        most = self.config.most_images
        if len(asked.images) > most:
            raise InputError(f"a question may have {most} pictures, not {len(asked.images)}")
        return await asyncio.to_thread(_decoded, asked.images)


def _read(body: object) -> _Question:
    try:
        return _Question.model_validate(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"])) or "the body"
        raise InputError(f"{where}: {first['msg']}") from None


def _decoded(images: list[str]) -> tuple[Picture, ...]:
    """Only ever bytes: a text would be read as the path of a file."""
    try:
        encoded = [base64.b64decode(one, validate=True) for one in images]
    except (binascii.Error, ValueError):
        raise InputError("a picture is not base64") from None
    names = [f"picture {number}" for number in range(1, len(encoded) + 1)]
    headers = [read_header(data, name) for data, name in zip(encoded, names, strict=True)]
    if sum(header.pixels for header in headers) > _MOST_PIXELS:
        raise InputError(f"the pictures have more than {_MOST_PIXELS:,} pixels together")
    return tuple(map(Picture.load, encoded))


async def serve(
    config: PlaygroundConfig,
    sock: socket.socket,
    ready: Callable[[str], None],
    *,
    model: ChatModel | None = None,
    stop: asyncio.Event | None = None,
) -> None:
    """Serve the playground until SIGINT or SIGTERM, or until `stop` is set.

    Args:
        config: what the operator decided.
        sock: from `listen`; closed at the end.
        ready: told the address, with its token, once it answers.
        model: who answers, in place of the settings' model; it is left open.
        stop: in place of signals, for a server that is not in the main thread.

    Raises:
        InputError: there is no such model, or it has no key.
    """
    with sock:
        playground = Playground(config, model)
        try:
            routes = (("GET", "/api/about", playground.about), ("POST", "/api/run", playground.run))
            server = LoopbackServer(page(), routes, sock, most_body=config.most_body)
            await server.run(ready, stop)
        finally:
            await playground.answerer.aclose()


@contextmanager
def beside(
    config: PlaygroundConfig,
    sock: socket.socket,
    ready: Callable[[str], None],
    *,
    model: ChatModel | None = None,
) -> Iterator[None]:
    """Serve the playground in a thread of its own while the block runs.

    The arguments are those of `serve`.

    Raises:
        EcoAlignError: it could not start.
    """
    stop, begun = asyncio.Event(), threading.Event()
    loops: list[asyncio.AbstractEventLoop] = []
    failed: list[BaseException] = []

    def told(address: str) -> None:
        ready(address)
        begun.set()

    def work() -> None:
        try:
            with asyncio.Runner() as runner:
                loops.append(runner.get_loop())
                runner.run(serve(config, sock, told, model=model, stop=stop))
        except BaseException as error:
            failed.append(error)
        finally:
            begun.set()

    thread = threading.Thread(target=work, name="playground")
    thread.start()
    begun.wait()
    try:
        if failed:
            raise failed[0]
        yield
    finally:
        # Closed where the playground has ended by an error of its own.
        with suppress(RuntimeError):
            loops[0].call_soon_threadsafe(stop.set)
        thread.join()
