"""What all requests of one process share. Opened when the app starts, closed when it ends."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from dataclasses import dataclass, field

from ecoalign.errors import EcoAlignError
from ecoalign.gateway._admission import Admission, RateLimiter
from ecoalign.gateway._config import GatewayConfig
from ecoalign.gateway._errors import SERVER, ApiError
from ecoalign.gateway._forward import Forwarder
from ecoalign.gateway._image_fetch import ImageFetcher
from ecoalign.gateway._image_urls import ImageUrlError
from ecoalign.gateway._service import ChatService
from ecoalign.gateway._traces import Traces
from ecoalign.gateway.chat._pictures import Fetch, Pictures
from ecoalign.gateway.keys import KeyStore, open_store
from ecoalign.gateway.keys._base import KeyPolicy, KeyRecord, StoreError
from ecoalign.gateway.observe._metrics import GatewayMetrics
from ecoalign.models.openai._model import OpenAIModel

__all__ = ["AppState", "Client", "check", "store_down"]

_LAST_CALL = 5.0
"""Seconds for the requests that were cancelled to come to their end."""


@dataclass(frozen=True, slots=True)
class Client:
    """Who asks.

    Attributes:
        key: None where the server has no keys.
        policy: what may be asked for.
    """

    key: KeyRecord | None
    policy: KeyPolicy

    @property
    def id(self) -> str:
        """Of the key; "" for a guest."""
        return "" if self.key is None else self.key.id


@dataclass(slots=True)
class AppState:
    """The parts of a running gateway. Build it with `open`."""

    config: GatewayConfig
    engine: ChatService
    store: KeyStore | None
    forwarder: Forwarder | None
    fetcher: ImageFetcher
    pictures: Pictures
    admission: Admission
    rates: RateLimiter
    metrics: GatewayMetrics
    traces: Traces
    born: int = field(default_factory=lambda: int(time.time()))
    closing: bool = False
    _tasks: set[asyncio.Task[object]] = field(default_factory=set)

    @classmethod
    async def open(cls, config: GatewayConfig, metrics: GatewayMetrics) -> AppState:
        """Open everything, in the event loop where it will be used.

        Raises:
            InputError: a setting does not fit.
        """
        engine = ChatService(config.settings)
        engine.plan(config.method, None)
        fetcher = ImageFetcher(config.fetch)
        admission = Admission(config.concurrency, config.queue)
        metrics.queue(lambda: float(admission.waiting), lambda: float(admission.running))
        return cls(
            config=config,
            engine=engine,
            store=None if config.keys is None else open_store(config.keys),
            forwarder=_forwarder(engine, config),
            fetcher=fetcher,
            pictures=Pictures(_counted(fetcher, metrics), config.max_pixels, config.all_pixels),
            admission=admission,
            rates=RateLimiter(),
            metrics=metrics,
            traces=Traces(config.trace_bytes),
        )

    @property
    def upstream_name(self) -> str:
        """What the model is called on its own server."""
        model = self.engine.model
        return model.model if isinstance(model, OpenAIModel) else model.name

    async def client(self, authorization: str) -> Client:
        """Who asks, from the header `Authorization`.

        Raises:
            ApiError: 401, or 503 where the store cannot be read.
        """
        if self.store is None:
            return Client(None, self.config.guest)
        kind, _, secret = authorization.partition(" ")
        if kind.lower() != "bearer" or not secret.strip():
            self.metrics.turned_away("key")
            raise ApiError(
                401,
                "an API key is needed: send it as the header Authorization: Bearer KEY",
                code="invalid_api_key",
            )
        try:
            record = await self.store.find(secret.strip())
        except StoreError:
            raise store_down() from None
        if record is None:
            self.metrics.turned_away("key")
            raise ApiError(401, "the API key is unknown or was revoked", code="invalid_api_key")
        return Client(record, record.policy)

    async def ready(self) -> str | None:
        """Why no request can be answered now; None if one can."""
        if self.closing:
            return "closing"
        if self.store is not None:
            try:
                await self.store.ping()
            except EcoAlignError:
                return "the store of the keys does not answer"
        return None

    def spawn(self, work: Coroutine[object, object, object]) -> asyncio.Task[object]:
        """A task that is waited for before the house closes, whoever else is cancelled."""
        task: asyncio.Task[object] = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def close_doors(self) -> None:
        """Let nobody in any more and wait, for a while, for those who are inside."""
        self.closing = True
        await self.admission.drain(self.config.drain)

    async def aclose(self) -> None:
        """Let the accounts of what was under way be settled, then close everything."""
        self.closing = True
        # Who is still inside has been cancelled by now, or the app ends without a server.
        await self.admission.drain(_LAST_CALL)
        while self._tasks:
            await asyncio.wait(set(self._tasks))
        if self.forwarder is not None:
            await self.forwarder.aclose()
        await self.fetcher.aclose()
        await self.engine.aclose()
        self.pictures.close()
        if self.store is not None:
            await self.store.aclose()


def _counted(fetcher: ImageFetcher, metrics: GatewayMetrics) -> Fetch:
    async def fetch(url: str) -> bytes:
        try:
            return await fetcher.fetch(url)
        except ImageUrlError as error:
            metrics.image_refused(error.reason)
            raise

    return fetch


def check(config: GatewayConfig) -> None:
    """Whether a gateway of this kind could start. Opens no connection.

    Raises:
        InputError: a setting does not fit, or a key is missing.
    """
    ChatService(config.settings).plan(config.method, None)
    if config.keys is not None:
        open_store(config.keys)


def store_down() -> ApiError:
    """The store of the keys failed: nobody is let in, and nothing is spent."""
    return ApiError(
        503,
        "the store of the API keys does not answer; try again shortly",
        SERVER,
        code="store_unavailable",
        retry_after=1,
    )


def _forwarder(engine: ChatService, config: GatewayConfig) -> Forwarder | None:
    model = engine.model
    if not isinstance(model, OpenAIModel) or model.endpoint.has_user:
        # A server with a user name in its address is asked by the model's own client.
        return None
    return Forwarder(
        model.endpoint, timeout=config.settings.timeout, connections=config.concurrency
    )
