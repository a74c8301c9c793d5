"""Whether a store of keys can be written: what a grant needs of it, and leaves nothing behind."""

from __future__ import annotations

import secrets
from collections.abc import Generator, Sequence

Value = str | int | float | None

_FILLER = 8192
"""Characters: two pages of a file, so that one without room says so."""


def written() -> Generator[tuple[str, tuple[Value, ...]], list[Sequence[Value]], None]:
    """An operation that writes a row and takes it back. Nobody else ever sees it: it is one
    transaction, and no key has its digest."""
    name = f"written-{secrets.token_hex(16)}"
    # Not to be packed together where a database does that.
    filler = secrets.token_hex(_FILLER // 2)
    yield (
        "INSERT INTO eco_keys (id, name, digest, policy, pace, created, revoked) "
        "VALUES (?, ?, ?, ?, ?, ?, ?)",
        (name, name, "", filler, "", 0.0, 0.0),
    )
    yield "DELETE FROM eco_keys WHERE id = ?", (name,)
