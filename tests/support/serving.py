"""`ecoalign serve` in a process of its own, and what tests say to it."""

from __future__ import annotations

import base64
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
from command import SIGNS, environment

WAIT = 60.0
"""Seconds after which a test that hangs fails; far more than anything here takes."""
ANY_METHOD = ("--may-choose", "budget,preset,trace,method,base")
"""For a server without keys: a request may choose the method, one that scores nothing, too."""
JSON = {"content-type": "application/json"}
_LISTENING = re.compile(r"listening on (http://\S+)/v1")


@dataclass
class Served:
    """A gateway that answers.

    Attributes:
        url: without /v1.
        process: the gateway.
        said: its lines on standard error, so far.
    """

    url: str
    process: subprocess.Popen[str]
    said: list[str] = field(default_factory=list)

    @property
    def v1(self) -> str:
        """The base URL for clients."""
        return f"{self.url}/v1"

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def get(self, path: str, **headers: str) -> httpx2.Response:
        return httpx2.get(f"{self.url}{path}", headers=headers, timeout=WAIT)

    def post(self, body: object, key: str = "") -> httpx2.Response:
        """Ask for a chat completion."""
        headers = {"authorization": f"Bearer {key}"} if key else {}
        url = f"{self.v1}/chat/completions"
        return httpx2.post(url, json=body, headers=headers, timeout=WAIT)

    def metric(self, line: str) -> float:
        """The value of a metric, 0 where it is not there."""
        for text in self.get("/metrics").text.splitlines():
            name, _, value = text.rpartition(" ")
            if name == line:
                return float(value)
        return 0.0

    def stop(self) -> int:
        """Ask it to end, and wait for that; its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(WAIT)


@contextmanager
def serving(home: Path, *arguments: str, **variables: str) -> Iterator[Served]:
    """Run `ecoalign serve` with `arguments` on a free port."""
    process = subprocess.Popen(
        [sys.executable, "-m", "ecoalign", "serve", "--port", "0", "--log-json", *arguments],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        cwd=home,
        env=environment(home, **variables),
        text=True,
    )
    served = Served("", process)
    heard = threading.Event()

    def listen() -> None:
        assert process.stderr is not None
        for line in process.stderr:
            served.said.append(line)
            if found := _LISTENING.search(line):
                served.url = found[1]
                heard.set()
        heard.set()

    reader = threading.Thread(target=listen)
    reader.start()
    try:
        assert heard.wait(WAIT)
        assert served.url, "".join(served.said)
        yield served
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(WAIT)
            except subprocess.TimeoutExpired:
                process.kill()
        process.wait()
        reader.join()
        assert process.stderr is not None
        process.stderr.close()


def picture(path: str = SIGNS) -> dict[str, object]:
    """A part of a message: an image as a data: URI."""
    data = base64.b64encode(Path(path).read_bytes()).decode()
    return {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}}


def asking(*parts: object, **changes: object) -> dict[str, object]:
    """The body of a request with one turn of the user."""
    content: object = parts[0] if len(parts) == 1 and isinstance(parts[0], str) else list(parts)
    return {
        "model": "ecoalign",
        "messages": [{"role": "user", "content": content}],
        **changes,
    }


def text(words: str) -> dict[str, object]:
    """A part of a message: text."""
    return {"type": "text", "text": words}
