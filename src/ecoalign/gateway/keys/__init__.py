"""API keys: who may ask, what they may spend, and the stores that keep it."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from ecoalign.errors import InputError
from ecoalign.gateway.keys._policy import (
    CHOICES,
    Choice,
    Grant,
    KeyId,
    KeyPolicy,
    KeyRecord,
    NewKey,
    Process,
    Released,
    StoreError,
    UnknownKey,
    WindowExhausted,
    WindowUsage,
    choices,
)
from ecoalign.gateway.keys._store import KeyStore

__all__ = [
    "CHOICES",
    "Choice",
    "Grant",
    "KeyId",
    "KeyPolicy",
    "KeyRecord",
    "KeyStore",
    "NewKey",
    "Process",
    "Released",
    "StoreError",
    "UnknownKey",
    "WindowExhausted",
    "WindowUsage",
    "choices",
    "default_url",
    "open_store",
]

_DEFAULT_FILE = "keys.sqlite3"


def default_url() -> str:
    """The file in the user's data folder."""
    from platformdirs import user_data_path

    return str(user_data_path("ecoalign") / _DEFAULT_FILE)


def open_store(url: str) -> KeyStore:
    """The store at `url`. Nothing is opened before it is first used.

    Args:
        url: a file ("keys.sqlite3", "sqlite:///srv/keys.sqlite3", four slashes for an absolute
            path) or "postgresql://user@host/database" (extra `postgres`).

    Raises:
        InputError: the address is none of these, or the extra is not installed.
    """
    scheme = urlsplit(url).scheme if "://" in url else ""
    if scheme in {"postgresql", "postgres"}:
        from ecoalign.gateway.keys._postgres import PostgresStore

        return PostgresStore(url)
    path = unquote(url.removeprefix("sqlite:///")) if scheme == "sqlite" else url
    if scheme not in {"", "sqlite"} or not path.strip() or "://" in path:
        raise InputError(
            "the store of the keys is a file (keys.sqlite3, or sqlite:///keys.sqlite3) or "
            f"postgresql://user@host/database, not {scheme or 'an empty text'}"
        )
    from ecoalign.gateway.keys._sqlite import SqliteStore

    return SqliteStore(Path(path).expanduser())
