"""A PostgreSQL server of our own: in a folder that is deleted, on a Unix socket, no network."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

WAIT = 60
_QUICK = ("fsync=off", "full_page_writes=off", "listen_addresses=", "max_connections=60")


def missing() -> str | None:
    """Why there can be no server here; None if there can."""
    if _program("initdb") is None or _program("pg_ctl") is None:
        return "PostgreSQL is not installed (Debian: apt-get install postgresql)"
    if os.geteuid() == 0 and _account() is None:
        return "PostgreSQL does not run as root, and there is no other account to run it as"
    return None


@contextmanager
def private_server() -> Iterator[str]:
    """The URL of a running server, to which a database's name is still to be added."""
    # Not in pytest's folders: the path of a socket is short, and another account must reach it.
    folder = Path(tempfile.mkdtemp(prefix="eco-pg-"))
    try:
        account = _account()
        if account is not None:
            shutil.chown(folder, account)
        data = folder / "data"
        _do("initdb", "-D", str(data), "-A", "trust", "-U", "eco", "-E", "UTF8", "--no-sync")
        options = " ".join(f"-c {option}" for option in _QUICK) + f" -k {folder}"
        log = str(folder / "log")
        _do("pg_ctl", "-D", str(data), "-w", "-t", str(WAIT), "-o", options, "-l", log, "start")
        try:
            yield f"postgresql://eco@{str(folder).replace('/', '%2F')}"
        finally:
            _do("pg_ctl", "-D", str(data), "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _do(name: str, *arguments: str) -> None:
    program = _program(name)
    assert program is not None
    done = subprocess.run(
        [program, *arguments],
        check=False,
        cwd="/",
        stdin=subprocess.DEVNULL,
        # A server that stays keeps what it inherits: a pipe would never end.
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        timeout=WAIT * 2,
        user=_account(),
        env={"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "LC_ALL": "C.UTF-8"},
    )
    assert done.returncode == 0, f"{name} {' '.join(arguments)} ended with {done.returncode}"


def _account() -> str | None:
    """Who the server runs as; None is who we are."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name).pw_name
        except KeyError:
            continue
    return None


def _program(name: str) -> str | None:
    """Debian keeps the programs of each version in a folder of its own, off the PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return str(found[-1]) if found else shutil.which(name)
