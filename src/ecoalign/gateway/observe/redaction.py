"""What no line of a log may hold, wherever it comes from."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping

__all__ = ["Redactor", "secrets_of"]

MOST_CHARACTERS = 8192
_SHORTEST_SECRET = 6
_SECRET_NAME = re.compile(r"(?:^|_)(?:KEY|TOKEN|PASSWORD|PASSWD|SECRET|CREDENTIALS?)(?:_|$)")

# Each is linear in the text: no repetition stands beside another that can match the same.
_PATTERNS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"data:[^\s,]{0,200};base64,[\w+/=%-]*", re.IGNORECASE), "data:[image]"),
    # Any other data: URI may hold spaces and quotes, so all that follows it goes.
    (re.compile(r"data:[\w.+-]{1,80}/[^\s,]{0,200},.*", re.IGNORECASE | re.DOTALL), "data:[image]"),
    (re.compile(r"\b(bearer|basic)\s+[^\s\"',;]+", re.IGNORECASE), r"\1 [key]"),
    (re.compile(r"(?<![A-Za-z0-9])(?:sk|pk|rk|eco)-[A-Za-z0-9_-]{12,}"), "[key]"),
    (re.compile(r"://[^\s/@\"']*@"), "://[user]@"),
    (
        re.compile(
            r"\b((?:x-)?api[-_]?key|authorization|token|password|secret)(\\?[\"']?\s*[:=]\s*\\?[\"']?)"
            r"[^\s\"',}\\]+",
            re.IGNORECASE,
        ),
        r"\1\2[key]",
    ),
    (re.compile(r"[A-Za-z0-9+/_=-]{160,}"), "[data]"),
)
# What none of them can match; most of what is logged is such a word.
_PLAIN = re.compile(r"[A-Za-z0-9_]{0,159}|req-[0-9a-f]{32}")


def secrets_of(environment: Mapping[str, str] | None = None) -> frozenset[str]:
    """The values of all environment variables whose names say that they are secret."""
    found = os.environ if environment is None else environment
    return frozenset(
        value.strip() for name, value in found.items() if _SECRET_NAME.search(name.upper())
    )


class Redactor:
    """Takes secrets and images out of text.

    Args:
        secrets: texts that are never shown, as they are. Those under six characters are passed
            over: taking them out would show where they were.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        known = sorted({each for each in secrets if len(each) >= _SHORTEST_SECRET}, key=len)
        joined = "|".join(re.escape(each) for each in reversed(known))
        self._secrets = re.compile(joined) if joined else None

    def __call__(self, text: str) -> str:
        """`text` without secrets, credentials in URLs, data: URIs and long runs of base64."""
        if self._secrets is not None:
            text = self._secrets.sub("[key]", text)
        if _PLAIN.fullmatch(text):
            return text
        for pattern, instead in _PATTERNS:
            text = pattern.sub(instead, text)
        return text if len(text) <= MOST_CHARACTERS else text[:MOST_CHARACTERS] + " ..."
