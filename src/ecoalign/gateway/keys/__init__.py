"""API keys: who may ask, what they may spend, and the stores that keep it."""

from __future__ import annotations

from ecoalign.gateway.keys.base import (
    Grant,
    KeyRecord,
    KeyStore,
    NewKey,
    StoreError,
    UnknownKey,
    WindowExhausted,
    WindowUsage,
)
from ecoalign.gateway.keys.opening import default_url, open_store
from ecoalign.gateway.keys.policy import KeyPolicy
from ecoalign.gateway.keys.secrets import KeyId

__all__ = [
    "Grant",
    "KeyId",
    "KeyPolicy",
    "KeyRecord",
    "KeyStore",
    "NewKey",
    "StoreError",
    "UnknownKey",
    "WindowExhausted",
    "WindowUsage",
    "default_url",
    "open_store",
]
