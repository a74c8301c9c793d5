"""Text for people: untrusted text made safe to print, and amounts in words."""

from __future__ import annotations

import unicodedata

# Marks that reorder what is shown: a text could look like another one.
_REORDERING = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def harmless(text: str) -> str:
    """`text` without control characters, marks that reorder it, and halves of characters.

    Each becomes U+FFFD; newlines and tabs are kept.
    """
    return "".join(
        "\ufffd"
        if char in _REORDERING
        or (unicodedata.category(char) in {"Cc", "Cs"} and char not in "\n\t")
        else char
        for char in text
    )


def short(text: str, most: int = 72) -> str:
    """`text` on one line of at most `most` characters."""
    line = " ".join(harmless(text).split())
    return line if len(line) <= most else f"{line[: most - 1]}…"


def amount(
    tokens: int | None = None, usd: float | None = None, seconds: float | None = None
) -> str:
    """Amounts in words, those that are not None: "1,260 tokens, $0.0031, 4.2 s"."""
    words = []
    if tokens is not None:
        words.append(f"{tokens:,} tokens")
    if usd is not None:
        words.append(f"${usd:.4f}")
    if seconds is not None:
        words.append(f"{seconds:.1f} s")
    return ", ".join(words)


def counted(number: int, one: str, several: str = "") -> str:
    """A number of things in words: "1 call", "2 calls"."""
    return f"{number:,} {one if number == 1 else several or f'{one}s'}"


def pace(rate: float | None, left: float | None) -> list[str]:
    """How fast work goes, in things a second, and the seconds to go, in words; what is None is left
    out: ["2.5/s", "1:02:03 to go"]."""
    words = []
    if rate is not None:
        words.append(f"{rate:.1f}/s" if rate >= 1 else f"{60 * rate:.1f}/min")
    if left is not None:
        minutes, second = divmod(round(left), 60)
        hours, minute = divmod(minutes, 60)
        clock = f"{hours}:{minute:02d}:{second:02d}" if hours else f"{minute}:{second:02d}"
        words.append(f"{clock} to go")
    return words
