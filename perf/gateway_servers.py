"""Processes of the gateway's load test: how they are started, looked at and stopped."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from ecoalign.gateway.keys import CHOICES, KeyPolicy, open_store

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = [
    "HOST",
    "Running",
    "call",
    "drive",
    "free_port",
    "gateway",
    "key_store",
    "mock",
    "started",
]

HOST = "127.0.0.1"
HERE = Path(__file__).parent
START_SECONDS = 120.0
STOP_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Running:
    """A server that answers.

    Attributes:
        name: for the tables.
        url: its base URL, ending in /v1.
        process: it.
        key: what it wants as the bearer token; "" for nothing.
    """

    name: str
    url: str
    process: subprocess.Popen[str]
    key: str = ""

    def stop(self) -> None:
        """End it; at once if it does not come to an end by itself."""
        if self.process.stdin is not None:
            self.process.stdin.close()
        self.process.terminate()
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def cpu_seconds(self) -> float:
        """Processor time so far; 0 where the system does not tell it in /proc."""
        try:
            fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return 0.0
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory(self) -> int:
        """Resident memory in bytes.

        Raises:
            OSError: the system does not tell it in /proc.
        """
        pages = Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")


def free_port() -> int:
    """A port of the loopback interface that nobody listens on."""
    with socket.create_server((HOST, 0)) as listening:
        port: int = listening.getsockname()[1]
    return port


def clean_environment(**more: str) -> dict[str, str]:
    """What a server needs to run, and none of the caller's keys, settings or proxies."""
    kept = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "PYTHONPATH")
    return {name: os.environ[name] for name in kept if name in os.environ} | more


def mock(latency_ms: float = 0.0, verdict_ms: float = 0.0) -> Running:
    """The upstream; see gateway_mock.py."""
    command = [sys.executable, str(HERE / "gateway_mock.py")]
    command += ["--latency-ms", str(latency_ms), "--verdict-ms", str(verdict_ms)]
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=clean_environment(),
    )
    port = process.stdout.readline() if process.stdout is not None else ""
    return Running("bare upstream", f"http://{HOST}:{int(port)}/v1", process)


def gateway(upstream: str, *options: str, name: str = "ecoalign", key: str = "") -> Running:
    """Our gateway, in front of `upstream`, with method `base` unless `options` say otherwise."""
    port = free_port()
    command = [sys.executable, "-m", "ecoalign", "serve", "--model", "openai:mock"]
    command += ["--base-url", upstream, "--port", str(port), "--method", "base", *options]
    if "--keys" not in options and "--may-choose" not in options:
        command += ["--may-choose", "budget,method"]
    url = f"http://{HOST}:{port}/v1"
    return started(name, command, url, ready="/models", environment={}, key=key)


def key_store(folder: Path) -> tuple[str, str]:
    """A new store of keys, and a key in it with a window that no test can use up."""
    url = str(folder / "keys.sqlite3")

    async def made() -> str:
        store = open_store(url)
        try:
            policy = KeyPolicy(window_tokens=10**12, may_choose=frozenset(CHOICES))
            return (await store.create("load", policy)).secret
        finally:
            await store.aclose()

    return url, asyncio.run(made())


def started(
    name: str,
    command: Sequence[str | Path],
    url: str,
    *,
    ready: str,
    environment: Mapping[str, str] | None = None,
    key: str = "",
) -> Running:
    """Run `command` until `url` + `ready` answers 200.

    Raises:
        RuntimeError: it did not come up; what it said is in the message.
    """
    with tempfile.NamedTemporaryFile("w+", suffix=".log") as log:
        process = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=log,
            text=True,
            env=clean_environment(**(environment or {})),
        )
        server = Running(name, url, process, key)
        until = time.monotonic() + START_SECONDS
        while time.monotonic() < until and process.poll() is None:
            if _answers(url + ready, key):
                return server
            time.sleep(0.1)
        server.stop()
        log.seek(0)
        raise RuntimeError(f"{name} did not start: {log.read()[-2000:]}")


def _answers(url: str, key: str) -> bool:
    try:
        return call(url, key=key) == 200
    except (OSError, http.client.HTTPException):
        return False


def call(url: str, *, key: str = "", body: bytes | None = None) -> int:
    """The status of one GET, or of a POST of `body`, without any proxy.

    Raises:
        OSError, http.client.HTTPException: there was none.
    """
    parts = urlsplit(url)
    line = http.client.HTTPConnection(parts.hostname or "", parts.port or 80, timeout=30)
    headers = {"Content-Type": "application/json"}
    if key:
        headers["Authorization"] = f"Bearer {key}"
    try:
        line.request("GET" if body is None else "POST", parts.path, body, headers)
        return line.getresponse().status
    finally:
        line.close()


def drive(
    server: Running,
    *,
    concurrency: int,
    seconds: float,
    requests: int = 1_000_000,
    fields: Mapping[str, object] | None = None,
) -> dict[str, float]:
    """Load `server` from a process of its own; see gateway_driver.py.

    Raises:
        RuntimeError: an answer was no success.
    """
    command = [sys.executable, str(HERE / "gateway_driver.py"), server.url]
    command += ["--concurrency", str(concurrency), "--seconds", str(seconds)]
    command += ["--requests", str(requests), "--fields", json.dumps(dict(fields or {}))]
    environment = {**os.environ, "GATEWAY_KEY": server.key}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    measured: dict[str, float] = json.loads(done.stdout)
    if measured["failures"] or not measured["requests"]:
        raise RuntimeError(f"{server.name}: {measured['failures']} failures in {measured}")
    return measured
