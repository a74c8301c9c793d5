"""API keys as text: `eco-<id>-<secret>`, shown once and kept only as a hash.

The secret part is 256 random bits, so there is nothing to guess and no dictionary to try: a plain
fast hash (SHA-256) already makes a stolen table useless. A slow, salted hash protects passwords
that people choose; here it would only add work to every request, and so a way to overload the
server. The id part finds the row without a scan; it is no secret and may be logged.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass, field
from typing import NewType

__all__ = ["PREFIX", "KeyId", "KeySecret", "digest_of", "matches", "mint", "split"]

KeyId = NewType("KeyId", str)
"""The public part of a key: 12 lower-case letters and digits (60 random bits)."""

PREFIX = "eco"
_SHAPE = re.compile(r"eco-([a-z2-7]{12})-([a-z2-7]{52})")
_ID_LETTERS = 12
_ID_BYTES = 8
_SECRET_BYTES = 32


@dataclass(frozen=True, slots=True)
class KeySecret:
    """A key that has just been made. `text` is the only place where the secret ever is.

    Attributes:
        id: the public part.
        text: the whole key, as the client sends it.
        digest: what is stored.
    """

    id: KeyId
    text: str = field(repr=False)
    digest: str = field(repr=False)


def mint() -> KeySecret:
    """A new key from the operating system's randomness."""
    key_id = KeyId(_letters(secrets.token_bytes(_ID_BYTES))[:_ID_LETTERS])
    text = f"{PREFIX}-{key_id}-{_letters(secrets.token_bytes(_SECRET_BYTES))}"
    return KeySecret(key_id, text, digest_of(text))


def split(text: str) -> KeyId | None:
    """The id of a key, or None for what cannot be a key; nothing is looked up for that."""
    match = _SHAPE.fullmatch(text)
    return None if match is None else KeyId(match[1])


def digest_of(text: str) -> str:
    """SHA-256 of the whole key, in hexadecimal."""
    return hashlib.sha256(text.encode()).hexdigest()


def matches(text: str, digest: str) -> bool:
    """Whether `text` is the key of `digest`; takes the same time wherever they differ."""
    return hmac.compare_digest(digest_of(text), digest)


def _letters(raw: bytes) -> str:
    return base64.b32encode(raw).decode().rstrip("=").lower()
