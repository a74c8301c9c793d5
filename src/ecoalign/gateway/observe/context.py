"""Which request a line of the log is about."""

from __future__ import annotations

import re
import secrets
from contextvars import ContextVar
from functools import lru_cache

__all__ = ["current_request", "request_id", "word"]

current_request: ContextVar[str] = ContextVar("ecoalign_request", default="")
"""The id of the request that is being answered; "" outside of requests."""

_HARMLESS = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)
# Nobody's key may come back to life as an id in logs and headers.
_KEY = re.compile(r"(?:sk|pk|rk|eco)-", re.IGNORECASE)
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,127}", re.ASCII)


def request_id(given: str | None) -> str:
    """`given`, the client's X-Request-Id, where it is harmless, else a new one.

    Harmless are up to 64 letters, digits, dots, dashes and underscores that do not begin like an
    API key.
    """
    if given is not None and _HARMLESS.fullmatch(given) and _KEY.match(given) is None:
        return given
    return "req-" + secrets.token_hex(12)


@lru_cache(1024)
def word(text: str) -> str:
    """`text` where it is one harmless word, such as a model's name, else "other" ("" stays)."""
    harmless = not text or (_WORD.fullmatch(text) is not None and _KEY.match(text) is None)
    return text if harmless else "other"
