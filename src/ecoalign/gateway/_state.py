"""What all requests of one process share. Opened when the app starts, closed when it ends."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from ecoalign.budget import Budget, Reservation, Spending, least_of
from ecoalign.gateway._admission import (
    Admission,
    Durations,
    Overloaded,
    RateLimited,
    RateLimiter,
)
from ecoalign.gateway._config import GatewayConfig
from ecoalign.gateway._deadline import Deadline
from ecoalign.gateway._errors import SERVER, ApiError, Cut, Kind, crowded
from ecoalign.gateway._forward import Forwarder
from ecoalign.gateway._images import Fetch, ImageLoader, PictureLimits
from ecoalign.gateway._readiness import Readiness
from ecoalign.gateway._room import Room
from ecoalign.gateway._service import ChatService
from ecoalign.gateway._traces import TraceStore
from ecoalign.gateway._workers import WorkerPool
from ecoalign.gateway.keys import KeyStore, open_store
from ecoalign.gateway.keys._policy import (
    Grant,
    KeyPolicy,
    KeyRecord,
    StoreError,
    UnknownKey,
    WindowExhausted,
    split,
)
from ecoalign.gateway.observe._metrics import GatewayMetrics
from ecoalign.methods import DIRECT
from ecoalign.models.openai import OpenAIModel
from ecoalign.query import ImageFetcher, ImageUrlError

_LAST_CALL = 5.0
"""Seconds for the requests that were cancelled to come to their end."""

_LOOKUPS = 4
"""Keys that nobody has shown lately are looked up so many at once."""

_MOST_LOOKUPS = 512
"""Requests that wait for that."""

_log = logging.getLogger("ecoalign.gateway")

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Client:
    """The client of a request.

    Attributes:
        key: None where the server has no keys.
        policy: what its requests may choose and spend.
    """

    key: KeyRecord | None
    policy: KeyPolicy

    @property
    def id(self) -> str:
        """Of the key; "" where the server has no keys."""
        return "" if self.key is None else self.key.id

    def may_choose(self, name: str, value: object) -> bool:
        """Whether a request may set an option of `ecoalign` to a value.

        What shows unscored text is a choice of its own, and one that comes with the method for a
        key only.
        """
        choices = self.policy.may_choose
        if name == "method" and value in DIRECT:
            return "base" in choices or (self.key is not None and "method" in choices)
        return name in choices


@dataclass(frozen=True, slots=True)
class Allowance:
    """What one run may spend.

    Attributes:
        budget: hard, in each unit.
        price_factor: on the setting `lambda0`.
        cut: why it is less than was wanted, if it is.
        watch: the `on_change` of the run's ledger.
    """

    budget: Budget
    price_factor: float = 1.0
    cut: Cut | None = None
    watch: Callable[[Reservation], None] | None = None


@dataclass(slots=True)
class AppState:
    """The parts of a running gateway. Build it with `open`."""

    config: GatewayConfig
    service: ChatService
    store: KeyStore | None
    forwarder: Forwarder | None
    fetcher: ImageFetcher
    images: ImageLoader
    admission: Admission
    rates: RateLimiter
    strangers: Admission
    metrics: GatewayMetrics
    traces: TraceStore
    readiness: Readiness
    started: int = field(default_factory=lambda: int(time.time()))
    closing: bool = False
    grants: Durations = field(default_factory=Durations)
    _tasks: set[asyncio.Task[Any]] = field(default_factory=set)

    @classmethod
    async def open(
        cls, config: GatewayConfig, metrics: GatewayMetrics, memory: Room | None = None
    ) -> AppState:
        """Open everything, in the event loop where it will be used.

        Args:
            config: of the gateway.
            metrics: of the gateway.
            memory: for the bodies of all requests, and for what is fetched for them.

        Raises:
            InputError: a setting does not fit.
        """
        service = ChatService(config.settings)
        service.method(config.method, None)
        fetcher = ImageFetcher(config.fetch)
        admission = Admission(config.concurrency, config.queue)
        metrics.queue(lambda: float(admission.waiting), lambda: float(admission.running))
        store = None if config.keys is None else open_store(config.keys)
        return cls(
            config=config,
            service=service,
            store=store,
            forwarder=_forwarder(service, config),
            fetcher=fetcher,
            images=ImageLoader(
                _counted(fetcher, metrics),
                PictureLimits(
                    config.max_pixels,
                    config.request_pixels,
                    config.all_pixels,
                    config.max_images,
                    config.max_decoded,
                    config.fetch.max_bytes,
                ),
                WorkerPool(config.workers, config.worker_memory, config.worker_seconds),
                memory or Room(config.all_bodies),
            ),
            admission=admission,
            rates=RateLimiter(),
            strangers=Admission(_LOOKUPS, _MOST_LOOKUPS),
            metrics=metrics,
            traces=TraceStore(config.trace_bytes, config.trace_dir),
            readiness=_readiness(service, store, config, metrics),
        )

    async def client(self, authorization: str, address: str = "") -> Client:
        """Who asks.

        The store is asked for the keys of strangers a few at a time, in turn between addresses, so
        that no crowd of them keeps it from those whose key it knows.

        Args:
            authorization: the header of that name; "" where there is none, or more than one.
            address: where the request comes from.

        Raises:
            ApiError: 401, or 503 where the store cannot be read or too many strangers wait for it.
        """
        if self.store is None:
            return Client(None, self.config.anonymous)
        kind, _, secret = authorization.partition(" ")
        secret = secret.strip()
        if kind.lower() != "bearer" or not secret:
            self.metrics.turned_away("key")
            raise ApiError(
                401,
                "an API key is needed: send it as the header Authorization: Bearer KEY",
                code="invalid_api_key",
            )
        try:
            if split(secret) is None or self.store.knows(secret):
                record = await self.store.find(secret)
            else:
                async with self.strangers.slot(address):
                    record = await self.store.find(secret)
        except StoreError:
            raise store_down() from None
        except Overloaded as crowd:
            self.metrics.turned_away("overloaded")
            raise ApiError(
                503,
                "too many keys are being looked up; try again shortly",
                SERVER,
                code="overloaded",
                retry_after=crowd.retry_after,
            ) from None
        if record is None:
            self.metrics.turned_away("key")
            raise ApiError(401, "the API key is unknown or was revoked", code="invalid_api_key")
        return Client(record, record.policy)

    def check_rate(self, client: Client) -> None:
        """Count a request of a client.

        Raises:
            ApiError: 429, its key has made too many in this minute.
        """
        try:
            self.rates.take(client.id, client.policy.requests_per_minute)
        except RateLimited as limited:
            self.metrics.turned_away("rate")
            raise ApiError(
                429,
                str(limited),
                "requests",
                code="rate_limit_exceeded",
                retry_after=limited.retry_after,
            ) from None

    def budget_for(self, client: Client, asked: Budget | None, images: int) -> Budget:
        """What a request with so many images may spend: its own choice, its key's or the server's,
        within limits."""
        asked = self.asked_budget(client, asked, images)
        want = client.policy.request_budget(asked, self.service.budget_for(images))
        return want if self.config.most is None else least_of(want, self.config.most)

    def asked_budget(self, client: Client, asked: Budget | None, images: int) -> Budget | None:
        """What a request asks for, as far as it may: without a key it is cut to what it would get
        unasked, if the server has no other most."""
        if asked is None or client.key is not None or self.config.most is not None:
            return asked
        return least_of(asked, self.service.budget_for(images))

    @asynccontextmanager
    async def admitted(self, client: Client) -> AsyncGenerator[None, None]:
        """A place among the requests that run.

        Raises:
            ApiError: 429 where the queue is full, 503 where the server is shutting down.
        """
        slot = self.admission.slot(client.id, client.policy.max_concurrent)
        try:
            await slot.__aenter__()
        except Overloaded as full:
            self.metrics.turned_away("draining" if full.draining else "overloaded")
            status, kind, code = (
                (503, SERVER, "shutting_down") if full.draining else (429, "requests", "overloaded")
            )
            wait = full.retry_after
            raise ApiError(status, str(full), kind, code=code, retry_after=wait) from None
        try:
            yield
        finally:
            await slot.__aexit__(None, None, None)

    @asynccontextmanager
    async def granted(
        self,
        client: Client,
        want: Budget,
        spent: Callable[[], Spending],
        deadline: Deadline,
        least: Budget | None = None,
    ) -> AsyncGenerator[Allowance, None]:
        """Reserve a budget in the key's window before the block and settle it after, whatever
        happens in it.

        Args:
            client: who pays.
            want: the most that is wanted.
            spent: what was spent by the end of the block.
            deadline: of the request; what a slow store needs beyond it, it needs by itself.
            least: what will do; all of `want` if None.

        Raises:
            ApiError: the key has too little left (429), was revoked (401), or the store does not
                answer (503).
        """
        if self.store is None or client.key is None:
            yield Allowance(want)
            return
        try:
            grant = await self.store.grant(client.key, want, least)
        except WindowExhausted as short:
            self.metrics.turned_away("window")
            if short.crowded:
                wait = self._room_after(client.id, short.retry_after)
                raise crowded(str(short), wait) from None
            raise ApiError(
                429,
                f"the key's budget in {short.unit} is used up for now: {short}",
                "insufficient_quota",
                code="insufficient_quota",
                retry_after=short.retry_after,
                retry=False,
            ) from None
        except UnknownKey:
            raise ApiError(401, "the API key was revoked", code="invalid_api_key") from None
        except StoreError:
            raise store_down() from None
        cut = None
        if grant.budget != want:
            kind: Kind = "crowded" if grant.crowded else "paced" if client.policy.fleet else "spent"
            cut = Cut(kind, self._room_after(client.id))
        try:
            with self.grants.lasting(client.id):
                watch = self.store.watch(grant)
                yield Allowance(grant.budget, grant.price_factor, cut, watch)
        finally:
            used = spent()
            if not self.store.settle_at_once(grant, used):
                # A task of its own: however often this one is cancelled, the account is settled.
                await deadline.settled(self.spawn(self._settle(self.store, grant, used)))

    def _room_after(self, key: str, stored: float | None = None) -> float:
        """Seconds until the requests of a key that are under way should have given back what they
        do not need.

        Args:
            key: its id.
            stored: what the store expects, by the requests of all processes.
        """
        return max(1.0, self.grants.each(key), stored or 0.0)

    async def _settle(self, store: KeyStore, grant: Grant, spent: Spending) -> None:
        """The reservation stays counted in full where the store fails: never too little."""
        try:
            await store.settle(grant, spent)
        except StoreError as error:
            _log.error("a grant could not be settled and stays reserved", exc_info=error)

    async def ready(self) -> str | None:
        """Why no request can be answered now, in words for strangers; None if one can."""
        if self.closing:
            return "closing"
        return "; ".join((await self.readiness.reasons()).values()) or None

    def spawn(self, work: Coroutine[object, object, Result]) -> asyncio.Task[Result]:
        """A task that is waited for before the app ends, also when its request is cancelled."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def drain(self) -> None:
        """Admit no more requests and wait, for a while, for those that run."""
        self.closing = True
        await self.admission.drain(self.config.drain)

    async def aclose(self) -> None:
        """Let the accounts of what was under way be settled, then close everything."""
        self.closing = True
        # What still runs has been cancelled by now, or the app ends without a server.
        await self.admission.drain(_LAST_CALL)
        while self._tasks:
            await asyncio.wait(set(self._tasks))
        if self.forwarder is not None:
            await self.forwarder.aclose()
        await self.fetcher.aclose()
        await self.service.aclose()
        self.images.close()
        if self.store is not None:
            await self.store.aclose()


def check(config: GatewayConfig) -> None:
    """Whether a gateway of this kind could start. Opens no connection.

    Raises:
        InputError: a setting does not fit, or a key is missing.
    """
    ChatService(config.settings).method(config.method, None)
    if config.keys is not None:
        open_store(config.keys)


def _counted(fetcher: ImageFetcher, metrics: GatewayMetrics) -> Fetch:
    async def fetch(url: str) -> bytes:
        try:
            return await fetcher.fetch(url)
        except ImageUrlError as error:
            metrics.image_refused(error.reason)
            raise

    return fetch


def store_down() -> ApiError:
    """The store of the keys failed: no request is answered, and nothing is spent."""
    return ApiError(
        503,
        "the store of the API keys does not answer; try again shortly",
        SERVER,
        code="store_unavailable",
        retry_after=1,
    )


def _readiness(
    service: ChatService, store: KeyStore | None, config: GatewayConfig, metrics: GatewayMetrics
) -> Readiness:
    """What every request needs."""
    readiness = Readiness(metrics)
    readiness.watch("model", service.model)
    settings = config.settings
    if settings.evaluator != "self":
        readiness.watch("evaluator", settings.open_model(settings.evaluator, role="evaluator"))
    if store is not None:
        readiness.store(store)
    if config.trace_dir is not None:
        readiness.folder(config.trace_dir)
    return readiness


def _forwarder(service: ChatService, config: GatewayConfig) -> Forwarder | None:
    model = service.model
    if not isinstance(model, OpenAIModel) or model.endpoint.has_user:
        # A server with a user name in its address is asked by the model's own client.
        return None
    return Forwarder(model.endpoint, timeout=model.timeout, connections=config.concurrency)
