"""Secrets come from the environment and from files: everyone can read a command line."""

from __future__ import annotations

import os
import re
from collections.abc import MutableMapping
from pathlib import Path

from ecoalign.errors import InputError

STORE = "ECOALIGN_KEYS"
"""The variable with the address of the key store, and its password."""

PLACES = "a file, postgresql://USER@HOST/DATABASE, or @FILE for a file that holds the address"
"""What --keys takes."""

MOST_BYTES = 4096
"""A file that holds more is not one secret."""

_BY_FILE = re.compile(rf"({STORE}|\w+_API_KEY)_FILE", re.ASCII)

# Between "//" and "@", as a user and a password; or a parameter: password=, sslpassword=.
_PASSWORD = re.compile(r"://[^/?#@]*:[^@]+@|[?&][^=&]*(?:p|%70)assword=.", re.IGNORECASE)


def take_files(environment: MutableMapping[str, str]) -> None:
    """Put each secret that a variable NAME_FILE names in its place, the variable NAME.

    NAME is ECOALIGN_KEYS or ends in _API_KEY. A file that is empty counts as not given, as does a
    variable that is.

    Args:
        environment: changed: each NAME_FILE goes, so that a child does not read it again.

    Raises:
        InputError: a file cannot be read or holds more than a line, or NAME is set, too.
    """
    for variable in [each for each in environment if _BY_FILE.fullmatch(each)]:
        file, name = environment.pop(variable).strip(), variable.removesuffix("_FILE")
        secret = read_secret(Path(file), variable) if file else ""
        if secret and environment.get(name, "").strip():
            raise InputError(f"{name} and {variable} are both set; leave one of them out")
        if secret:
            environment[name] = secret


def read_secret(path: Path, what: str) -> str:
    """The one line of a file; "" where there is none.

    Args:
        path: of the file. Its content is in no message.
        what: has named it, for messages.

    Raises:
        InputError: it cannot be read, or holds anything but one line of text.
    """
    try:
        with path.expanduser().open("rb") as file:
            text = file.read(MOST_BYTES + 1).decode().strip()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text in UTF-8"
        raise InputError(f"{what}: the file {str(path)!r} cannot be read: {reason}") from None
    if len(text) > MOST_BYTES or not text.isprintable():
        raise InputError(f"{what}: the file {str(path)!r} holds more than one line with a secret")
    return text


def store_url(given: str | None) -> str | None:
    """The address of the key store: that of --keys, or of ECOALIGN_KEYS; None where none is given.

    Args:
        given: by --keys: the address, or @FILE for what a file holds.

    Raises:
        InputError: the file cannot be read or is empty, or `given` holds a password.
    """
    if given and given.startswith("@"):
        if url := read_secret(Path(given[1:]), "--keys"):
            return url
        raise InputError(f"--keys: the file {given[1:]!r} is empty")
    if given and _PASSWORD.search(given):
        raise InputError(
            "--keys: everyone on this machine can read a password in a command line, so none is "
            f"taken from there: put the whole address into the variable {STORE}, or into a file "
            "and give --keys @FILE; or leave the password to PGPASSWORD or ~/.pgpass"
        )
    return given or os.environ.get(STORE) or None
