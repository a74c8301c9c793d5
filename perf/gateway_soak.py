"""Whether the gateway's memory stays flat under load of several kinds."""

from __future__ import annotations

import statistics
import threading
import time
from typing import TYPE_CHECKING, TypedDict

from gateway_servers import Running, drive, gateway, key_store, mock

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["Soaked", "soak"]

ROUND_SECONDS = 1.5
SAMPLE_SECONDS = 0.2
ROOM_MB = 8.0
ROOM_SHARE = 0.05
"""How much more the last quarter may hold than the second: whichever of the two is greater. A
request that leaked 10 kB would pass it within seconds."""

KINDS: tuple[tuple[int, Mapping[str, object]], ...] = (
    (32, {}),
    (16, {"stream": True}),
    (4, {"ecoalign": {"method": "best-of-2"}}),
    (4, {"ecoalign": {"method": "ecoalign"}}),
)
"""Connections, and what is asked for, in turn."""


class Soaked(TypedDict):
    """What the soak found: resident memory in MB, medians of the second and the last quarter."""

    seconds: float
    requests: int
    early_mb: float
    late_mb: float
    most_mb: float
    flat: bool


def soak(seconds: float, folder: Path) -> Soaked:
    """Load our gateway, with keys, for so many seconds.

    Raises:
        RuntimeError: a request failed, or the memory could not be looked at.
    """
    store, key = key_store(folder)
    upstream = mock()
    server = gateway(upstream.url, "--keys", store, "--budget", "10000000", key=key)
    samples: list[tuple[float, float]] = []
    stop = threading.Event()

    def look() -> None:
        while not stop.wait(SAMPLE_SECONDS):
            samples.append((time.monotonic(), server.memory() / 1e6))

    looking = threading.Thread(target=look)
    try:
        for kind in range(len(KINDS)):  # what is loaded and cached once
            _round(server, kind, ROUND_SECONDS)
        looking.start()
        begun = time.monotonic()
        requests, kind = 0, 0
        while (left := begun + seconds - time.monotonic()) > 0:
            requests += _round(server, kind, min(ROUND_SECONDS, left + 0.1))
            kind = (kind + 1) % len(KINDS)
        took = time.monotonic() - begun
    finally:
        stop.set()
        if looking.is_alive():
            looking.join()
        server.stop()
        upstream.stop()
    if len(samples) < 8:
        raise RuntimeError("too few samples of the memory: longer, and on a system with /proc")
    early = _median(samples, begun + took / 4, begun + took / 2)
    late = _median(samples, begun + 3 * took / 4, begun + took)
    return {
        "seconds": took,
        "requests": requests,
        "early_mb": early,
        "late_mb": late,
        "most_mb": max(memory for _, memory in samples),
        "flat": late - early <= max(ROOM_MB, ROOM_SHARE * early),
    }


def _round(server: Running, kind: int, seconds: float) -> int:
    connections, fields = KINDS[kind]
    return int(drive(server, concurrency=connections, seconds=seconds, fields=fields)["requests"])


def _median(samples: list[tuple[float, float]], since: float, until: float) -> float:
    return statistics.median([memory for at, memory in samples if since <= at <= until])
