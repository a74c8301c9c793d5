"""What the gateway's processes hold together, and how long it is silent, under its worst inputs.

    python perf/gateway_memory.py                      # 32 clients, 60 s, every input
    python perf/gateway_memory.py --inputs webp,percent --method base

Each client sends its next request when it has the answer to its last one. The inputs are the
largest and the slowest that are taken by default, and some that are not. In the same run the memory
of the whole tree of processes is looked at (the proportional set size of each, summed) and /healthz
is asked, over a connection of its own. Upstream, clients and gateway are processes of one machine:
where they share few cores, the times say as much of the clients as of the gateway; how busy the
cores were is printed, too. Loopback only. It fails where the memory or a silence is over its bound.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import multiprocessing
import os
import random
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from gateway_servers import HOST, Running, gateway, mock
from PIL import Image

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

MIB = 1024 * 1024
BODY = 20 * MIB
MOST_MIB = 1024.0
"""The bound on the memory of the tree."""
P99_MS, MOST_MS = 100.0, 500.0
"""The bounds on the answers of /healthz."""
HEALTH_SECONDS = 0.02
LOOK_SECONDS = 0.005
WAIT = 30.0

Body = dict[str, Any]


def picture(kind: str, mode: str, size: tuple[int, int], **options: object) -> bytes:
    """An encoded image of one colour: few bytes, many pixels."""
    data = io.BytesIO()
    Image.new(mode, size).save(data, kind, **options)
    return data.getvalue()


def noise(most: int) -> bytes:
    """A JPEG of 12 megapixels that has nearly `most` bytes."""
    pixels = Image.frombytes("RGB", (4000, 3000), random.Random(7).randbytes(36_000_000))
    for quality in range(95, 5, -10):
        data = io.BytesIO()
        pixels.save(data, "JPEG", quality=quality)
        if len(data.getvalue()) <= most:
            return data.getvalue()
    raise ValueError(most)


def uri(data: bytes) -> str:
    """A `data:` URI."""
    return "data:;base64," + base64.b64encode(data).decode()


def asking(*urls: str, text: str = "What does it say?", **more: object) -> Body:
    """A request with images."""
    images = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
    content = [{"type": "text", "text": text}, *images]
    return {"messages": [{"role": "user", "content": content}], **more}


def tool(schema: object) -> Body:
    """A tool with a schema."""
    return {"type": "function", "function": {"name": "f", "parameters": schema}}


MEGAPIXELS = (4000, 3000)
TEXT = 390_000

INPUTS: Mapping[str, Callable[[], Body]] = {
    "photo": lambda: asking(uri(noise(BODY * 3 // 4 - 4096))),
    "png16": lambda: asking(uri(picture("PNG", "I;16", MEGAPIXELS))),
    "rgba": lambda: asking(uri(picture("PNG", "RGBA", MEGAPIXELS))),
    "progressive": lambda: asking(
        uri(picture("JPEG", "CMYK", MEGAPIXELS, progressive=True, subsampling=0))
    ),
    "reduced": lambda: asking(uri(picture("JPEG", "RGB", (8000, 6000)))),
    "webp": lambda: asking(uri(picture("WEBP", "RGBA", MEGAPIXELS))),
    "gif": lambda: asking(uri(picture("GIF", "P", MEGAPIXELS))),
    "three": lambda: asking(*[uri(picture("PNG", "RGB", MEGAPIXELS))] * 3),
    "bomb": lambda: asking(uri(picture("PNG", "I;16", (8000, 8000)))),
    "percent": lambda: asking(
        "data:image/png," + "".join(f"%{one:02x}" for one in noise(BODY // 3 - 4096))
    ),
    "spaces": lambda: asking("data:;base64," + " A" * (BODY // 2 - 4096)),
    "special": lambda: asking(text="<|" * (TEXT // 2)),
    "wide": lambda: asking(text="\u1234" * TEXT),
    "lines": lambda: asking(text="\n" * TEXT + "?"),
    "words": lambda: asking(text="a b, " * (TEXT // 5)),
    "fences": lambda: asking(text="BEGIN abcdef12\nEND abcdef12\n" * (TEXT // 28)),
    "system": lambda: {
        "messages": [
            {"role": "system", "content": "<s>[INST]" * (TEXT // 9)},
            {"role": "user", "content": "Hi?"},
        ]
    },
    "turns": lambda: {"messages": [{"role": "user", "content": "x"}] * 2040},
    "parts": lambda: {
        "messages": [{"role": "user", "content": [{"type": "text", "text": "x"}] * 2040}]
    },
    "schema": lambda: asking(tools=[tool({"enum": [0] * 19_000})]),
    "names": lambda: asking(tools=[tool({"k" * TEXT: {}})]),
    "tokens": lambda: asking(text="<|" * (BODY // 2 - 4096)),
    "list": lambda: asking(stop=["x"] * 400_000),
    "nest": lambda: asking(metadata=[[[[0]] * 60] * 60] * 60),
    "bad": lambda: {"messages": [0] * 4000},
}


def inputs(names: list[str], method: str) -> dict[str, bytes]:
    """Whole HTTP requests, by the name of the input."""
    made = {}
    for name in names:
        options = {"method": method, "budget": 40_000_000}
        body = json.dumps({"model": "ecoalign", **INPUTS[name](), "ecoalign": options}).encode()
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: {HOST}\r\n"
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        made[name] = head.encode() + body
    return made


# -- asking ----------------------------------------------------------------------------------------


def answer(line: socket.socket, request: bytes) -> tuple[int, bool]:
    """The status of one answer, read to its end, and whether the connection can be used again.

    Raises:
        OSError: the connection broke.
    """
    line.sendall(request)
    data = b""
    while (end := data.find(b"\r\n\r\n")) < 0:
        piece = line.recv(65536)
        if not piece:
            raise ConnectionError
        data += piece
    head = data[:end].lower()
    length = int(head.partition(b"content-length:")[2].split(b"\r\n")[0])
    while len(data) < end + 4 + length:
        piece = line.recv(65536)
        if not piece:
            raise ConnectionError
        data += piece
    return int(head.split()[1]), b"connection: close" not in head


def client(port: int, bodies: list[tuple[str, bytes]], until: float, seen: Counter[str]) -> None:
    """One client: its requests in turn until the time is over."""
    line, at = None, 0
    while time.monotonic() < until:
        name, request = bodies[at % len(bodies)]
        at += 1
        try:
            line = line or socket.create_connection((HOST, port), WAIT)
            status, kept = answer(line, request)
        except OSError:
            status, kept = 0, False
        if not kept and line is not None:
            line.close()
            line = None
        seen[f"{name} {status or 'broken'}"] += 1
    if line is not None:
        line.close()


def clients(port: int, made: dict[str, bytes], count: int, seconds: float, to: Connection) -> None:
    """All clients, in a process of their own; what they were answered goes to `to`."""
    until, seen = time.monotonic() + seconds, Counter[str]()
    bodies = list(made.items())
    every = []
    for number in range(count):
        own = bodies[number % len(bodies) :] + bodies[: number % len(bodies)]
        every.append(threading.Thread(target=client, args=(port, own, until, seen)))
    for one in every:
        one.start()
    for one in every:
        one.join()
    to.send(dict(seen))


def health(port: int, until: float, to: Connection) -> None:
    """Ask /healthz over one connection; the milliseconds of each answer go to `to`, and by how many
    a wait in between was too long, which says how busy the machine is."""
    request = f"GET /healthz HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode()
    took, late = list[float](), list[float]()
    with socket.create_connection((HOST, port), WAIT) as line:
        while time.monotonic() < until:
            began = time.monotonic()
            status, _ = answer(line, request)
            took.append(1000 * (time.monotonic() - began) if status == 200 else float("inf"))
            began = time.monotonic()
            time.sleep(HEALTH_SECONDS)
            late.append(1000 * (time.monotonic() - began - HEALTH_SECONDS))
    to.send((took, late))


# -- looking ---------------------------------------------------------------------------------------


def tree(pid: int) -> Iterator[int]:
    """A process and all below it."""
    above: dict[int, list[int]] = {}
    for folder in Path("/proc").iterdir():
        with suppress(OSError, ValueError):
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            above.setdefault(int(fields[1]), []).append(int(folder.name))
    waiting = [pid]
    while waiting:
        one = waiting.pop()
        yield one
        waiting += above.get(one, [])


def pss(pid: int) -> float:
    """The proportional set size of a process, in MiB; 0 where it has just ended."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) / 1024
    return 0.0


@dataclass(slots=True)
class Peak:
    """The most that was seen.

    Attributes:
        whole: of the tree, in MiB.
        parts: of each process at that time, the gateway's own first.
        looks: how often it was looked at.
    """

    whole: float = 0.0
    parts: tuple[float, ...] = ()
    looks: int = 0
    pids: Sequence[int] = ()

    def look(self, pid: int) -> None:
        """Look once; now and then at which processes there are."""
        if self.looks % 20 == 0:
            self.pids = list(tree(pid))
        parts = tuple(map(pss, self.pids))
        self.looks += 1
        if sum(parts) > self.whole:
            self.whole, self.parts = sum(parts), parts


def busy() -> tuple[float, float]:
    """Processor time of the machine that was used, and in all, so far."""
    fields = list(map(int, Path("/proc/stat").read_text().split("\n")[0].split()[1:9]))
    return sum(fields) - fields[3] - fields[4], sum(fields)


def measured(server: Running, made: dict[str, bytes], count: int, seconds: float) -> bool:
    """Load the server and print what was seen; whether all was within its bounds."""
    port = urlsplit(server.url).port or 0
    fork = multiprocessing.get_context("fork")
    peak, before = Peak(), busy()
    peak.look(server.process.pid)
    print(f"idle: {peak.whole:.0f} MiB in {len(peak.parts)} processes")
    from_clients, to_clients = fork.Pipe(duplex=False)
    from_health, to_health = fork.Pipe(duplex=False)
    until = time.monotonic() + seconds
    load = fork.Process(target=clients, args=(port, made, count, seconds, to_clients))
    asks = fork.Process(target=health, args=(port, until, to_health))
    load.start()
    asks.start()
    seen: dict[str, int] = {}
    took, late = list[float](), list[float]()
    while load.is_alive() or asks.is_alive():
        peak.look(server.process.pid)
        seen = from_clients.recv() if from_clients.poll() else seen
        took, late = from_health.recv() if from_health.poll() else (took, late)
        time.sleep(LOOK_SECONDS)
    after = busy()
    for name, number in sorted(seen.items()):
        print(f"  {name}: {number}")
    took.sort()
    late.sort()
    p50, p99 = (took[int(share * (len(took) - 1))] for share in (0.5, 0.99))
    share = (after[0] - before[0]) / (after[1] - before[1])
    print(f"peak: {peak.whole:.0f} MiB, of which {[round(part) for part in peak.parts]}")
    print(f"/healthz: p50 {p50:.1f} ms, p99 {p99:.1f} ms, most {took[-1]:.1f} ms ({len(took)})")
    own = late[int(0.99 * (len(late) - 1))]
    print(f"a sleeper was late by {own:.1f} ms in 99 of 100, {late[-1]:.1f} ms at most")
    print(f"cores: {os.cpu_count()}, {share:.0%} busy; the memory was looked at {peak.looks} times")
    return peak.whole <= MOST_MIB and p99 <= P99_MS and took[-1] <= MOST_MS


def main() -> int:
    """Run it; 1 where something is over its bound."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60.0, help="of load")
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--inputs", default=",".join(INPUTS), help="some of them, by commas")
    parser.add_argument("--method", default="ecoalign", help="ecoalign, base and others")
    parser.add_argument("--latency-ms", type=float, default=20.0, help="of the upstream")
    chosen = parser.parse_args()
    made = inputs(chosen.inputs.split(","), chosen.method)
    upstream = mock(chosen.latency_ms, chosen.latency_ms)
    options = ("--may-choose", "budget,method,base", "--max-budget", "40000000")
    try:
        server = gateway(upstream.url, *options)
        try:
            return 0 if measured(server, made, chosen.clients, chosen.seconds) else 1
        finally:
            server.stop()
    finally:
        upstream.stop()


if __name__ == "__main__":
    sys.exit(main())
