"""API keys: who may ask, what they may spend, and the stores that keep it."""

from __future__ import annotations

from ecoalign.gateway.keys._base import (
    Grant,
    KeyRecord,
    KeyStore,
    NewKey,
    StoreError,
    UnknownKey,
    WindowExhausted,
    WindowUsage,
)
from ecoalign.gateway.keys._open import default_url, open_store
from ecoalign.gateway.keys._policy import KeyId, KeyPolicy

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
