"""Untrusted text made safe to print: no control characters, no reordering marks."""

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
