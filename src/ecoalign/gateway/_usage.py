"""GET /v1/ecoalign/usage: what a key has spent of its windows, and what it may."""

from __future__ import annotations

import time
from typing import Literal

from pydantic import BaseModel, Field

from ecoalign.gateway._errors import ApiError
from ecoalign.gateway._state import AppState, Client, store_down
from ecoalign.gateway.keys import KeyPolicy, StoreError, UnknownKey, WindowUsage

MOST_WINDOWS = 100


class KeyLimits(BaseModel):
    """What the key may, null where it has no limit."""

    tokens: int | None = Field(description="Tokens per window.")
    usd: float | None = Field(description="Dollars per window.")
    window: str = Field(description='Its length: "month", "604800 s" and the like.')
    requests_per_minute: int | None = Field(description="In one process of the server.")
    max_concurrent: int | None = Field(description="At once, in one process of the server.")
    budget: str | None = Field(description="Of a request that does not choose one.")
    most: str | None = Field(description="The most that one request may spend.")


class UsedWindow(BaseModel):
    """One window. A limit of now is held against earlier windows, too."""

    start: float = Field(description="When it begins, in seconds since the epoch.")
    end: float = Field(description="When it ends, likewise; the next one begins then.")
    requests: int = Field(description="That were granted a budget.")
    open: int = Field(description="Of these, those not settled.")
    tokens: int = Field(description="Settled.")
    usd: float = Field(description="Settled, in dollars.")
    held_tokens: int = Field(description="Reserved by open requests.")
    held_usd: float = Field(description="Reserved by open requests, in dollars.")
    left_tokens: int | None = Field(description="Neither settled nor reserved; null: no limit.")
    left_usd: float | None = Field(description="The same in dollars.")


class KeyUsage(BaseModel):
    """Usage against limit, of the key that asks."""

    object: Literal["ecoalign.usage"] = "ecoalign.usage"
    key: str = Field(description="The public part of the key.")
    name: str = Field(description="Its name.")
    time_zone: str = Field(description="In which its windows begin.")
    limits: KeyLimits
    windows: list[UsedWindow] = Field(description="The current one first, also where it is empty.")


async def usage_of(state: AppState, client: Client, windows: int) -> KeyUsage:
    """What the key of a client has spent in its current window and those before, so many in all.

    Raises:
        ApiError: the server has no keys (404), the key was revoked (401), or the store does not
            answer (503).
    """
    if state.store is None or client.key is None:
        raise ApiError(
            404, "this server has no keys, and keeps no account of anyone", code="not_found"
        )
    try:
        found = list(await state.store.usage(client.key.id, windows))
    except UnknownKey:
        raise ApiError(401, "the API key was revoked", code="invalid_api_key") from None
    except StoreError:
        raise store_down() from None
    policy = client.policy
    now = policy.span(time.time())
    start, seconds = now.start, now.seconds
    if not any(one.start == start and one.seconds == seconds for one in found):
        found.insert(0, WindowUsage(start, seconds, 0, 0, 0, 0.0, 0, 0.0))
    return KeyUsage(
        key=client.key.id,
        name=client.key.name,
        time_zone=policy.zone,
        limits=KeyLimits(
            tokens=policy.window_tokens,
            usd=policy.window_usd,
            window=policy.calendar or f"{policy.window_seconds} s",
            requests_per_minute=policy.requests_per_minute,
            max_concurrent=policy.max_concurrent,
            budget=None if policy.budget is None else str(policy.budget),
            most=None if policy.most is None else str(policy.most),
        ),
        windows=[_told(policy, one) for one in found[:windows]],
    )


def _told(policy: KeyPolicy, one: WindowUsage) -> UsedWindow:
    tokens, usd = policy.window_tokens, policy.window_usd
    return UsedWindow(
        start=one.start,
        end=one.start + one.seconds,
        requests=one.requests,
        open=one.open,
        tokens=one.tokens,
        usd=one.usd,
        held_tokens=one.held_tokens,
        held_usd=one.held_usd,
        left_tokens=None if tokens is None else max(0, tokens - one.tokens - one.held_tokens),
        left_usd=None if usd is None else max(0.0, usd - one.usd - one.held_usd),
    )
