"""What the gateway adds to a call, beside its peers, in the same run; loopback only, bounded.

    python perf/gateway_load.py                     # our gateway against the bare upstream
    python perf/gateway_load.py --peers FOLDER      # its_hub and litellm as well (2 GB)
    python perf/gateway_load.py --best-of           # several calls at once, 50 ms upstream

Upstream, load generator and every server are processes of their own. The pass-through path
(method `base`) is measured with one connection and with 32; every figure is the median over the
repeats, in which the servers take turns, back and forth. "Added" is against the bare upstream of
the same repeat. Times of servers that run on another machine say nothing: compare the rows.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import gateway_peers
from gateway_servers import Running, drive, gateway, key_store, mock

if TYPE_CHECKING:
    from collections.abc import Sequence

CONNECTIONS = 32
UPSTREAM_MS = 50.0
Figures = dict[str, float]
Start = Callable[[Path, str], Running]
PEERS: Mapping[str, Start] = {"its_hub": gateway_peers.its_hub, "litellm": gateway_peers.litellm}


def started_servers(
    stack: ExitStack, upstream: Running, folder: Path, peers: Path | None, chosen: Sequence[str]
) -> list[Running]:
    """Our gateway, without keys and with them, and the peers."""

    def kept(server: Running) -> Running:
        stack.callback(server.stop)
        return server

    store, key = key_store(folder)
    servers = [
        kept(gateway(upstream.url, "--queue", "256")),
        kept(
            gateway(upstream.url, "--queue", "256", "--keys", store, name="ecoalign, keys", key=key)
        ),
    ]
    if peers is not None:
        for name in chosen:
            place = gateway_peers.install(peers, name)
            servers.append(kept(PEERS[name](place, upstream.url)))
    return servers


def passes(servers: Sequence[Running], repeats: int, seconds: float) -> dict[str, Figures]:
    """The pass-through path of each server, by name; the first one is the bare upstream."""
    runs: dict[str, list[Figures]] = {server.name: [] for server in servers}
    for server in servers:  # connections, caches, code that is loaded at the first call
        drive(server, concurrency=CONNECTIONS, seconds=min(1.0, seconds))
    for repeat in range(repeats):
        for server in servers if repeat % 2 == 0 else servers[::-1]:
            runs[server.name].append(_one_pass(server, seconds))
    bare = runs[servers[0].name]
    return {name: _medians(found, bare) for name, found in runs.items()}


def _one_pass(server: Running, seconds: float) -> Figures:
    one = drive(server, concurrency=1, seconds=seconds)
    before = server.cpu_seconds()
    many = drive(server, concurrency=CONNECTIONS, seconds=seconds)
    cpu = server.cpu_seconds() - before
    return {
        "p50_1": one["p50"],
        "p99_1": one["p99"],
        "p50_32": many["p50"],
        "p99_32": many["p99"],
        "per_second": many["per_second"],
        "cpu_ms": 1e3 * cpu / many["requests"],
    }


def _medians(runs: Sequence[Figures], bare: Sequence[Figures]) -> Figures:
    row = {key: statistics.median([run[key] for run in runs]) for key in runs[0]}
    pairs = list(zip(runs, bare, strict=True))
    for key in ("p50_1", "p99_1", "p50_32", "p99_32"):
        row[f"added_{key}"] = statistics.median([run[key] - b[key] for run, b in pairs])
    row["share"] = statistics.median([run["per_second"] / b["per_second"] for run, b in pairs])
    return row


def shown(rows: Mapping[str, Figures]) -> str:
    """The table of `passes`."""
    lines = [
        f"{'':<16}{'added, 1 connection':>24}{'added, 32':>20}{'with 32':>14}{'of the':>9}"
        f"{'processor':>12}",
        f"{'':<16}{'p50 ms':>12}{'p99 ms':>12}{'p50 ms':>10}{'p99 ms':>10}{'requests/s':>14}"
        f"{'bare':>9}{'ms each':>12}",
    ]
    lines += [
        f"{name:<16}{row['added_p50_1']:>12.2f}{row['added_p99_1']:>12.2f}"
        f"{row['added_p50_32']:>10.1f}{row['added_p99_32']:>10.1f}"
        f"{row['per_second']:>14,.0f}{row['share']:>9.1%}{row['cpu_ms']:>12.3f}"
        for name, row in rows.items()
    ]
    return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class Case:
    """One kind of request to one server."""

    server: Running
    label: str
    fields: Mapping[str, object]


def fan_out(
    repeats: int, seconds: float, peers: Path | None, verdict_ms: float
) -> list[dict[str, str | float]]:
    """Several calls of one request at once, against an upstream of 50 ms, beside one call."""
    with ExitStack() as stack:
        upstream = mock(UPSTREAM_MS, verdict_ms)
        stack.callback(upstream.stop)
        ours = gateway(upstream.url, "--budget", "10000000")
        stack.callback(ours.stop)
        cases = [Case(ours, "one call", {})]
        for n in (4, 32):
            cases.append(Case(ours, f"best of {n}", {"ecoalign": {"method": f"best-of-{n}"}}))
        if peers is not None:
            place = gateway_peers.install(peers, "its_hub")
            hub = gateway_peers.its_hub(place, upstream.url)
            stack.callback(hub.stop)
            cases.append(Case(hub, "one call", {}))
            cases += [Case(hub, f"{n} samples", {"budget": n}) for n in (4, 32)]
        times: list[list[float]] = [[] for _ in cases]
        for case in cases:
            drive(case.server, concurrency=1, seconds=1.0, requests=3, fields=case.fields)
        for repeat in range(repeats):
            order = range(len(cases))
            for i in order if repeat % 2 == 0 else order[::-1]:
                case = cases[i]
                found = drive(case.server, concurrency=1, seconds=seconds, fields=case.fields)
                times[i].append(found["p50"])
    single: dict[str, float] = {}
    rows: list[dict[str, str | float]] = []
    for case, one in zip(cases, times, strict=True):
        p50 = statistics.median(one)
        ratio = p50 / single.setdefault(case.server.name, p50)
        rows.append({"server": case.server.name, "request": case.label, "p50": p50, "ratio": ratio})
    return rows


def machine() -> str:
    """What this ran on, in a line."""
    return (
        f"Python {platform.python_version()}, {os.cpu_count()} processors, {platform.machine()}, "
        f"{platform.system()}"
    )


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each single measurement")
    parser.add_argument("--peers", type=Path, help="folder of the peers' environments, kept")
    parser.add_argument(
        "--only",
        nargs="+",
        choices=list(gateway_peers.PEERS),
        default=list(gateway_peers.PEERS),
        help="which peers",
    )
    parser.add_argument("--best-of", action="store_true", help="several calls at once instead")
    parser.add_argument(
        "--verdict-ms",
        type=float,
        default=0.0,
        help="of the upstream, for verdicts, with --best-of",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    given = parser.parse_args()
    if not (1 <= given.repeats <= 100 and 0.1 <= given.seconds <= 60):
        parser.error("repeats go from 1 to 100, seconds from 0.1 to 60")
    found: dict[str, object] = {"machine": machine()}
    text: list[str] = [machine()]
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        if given.best_of:
            rows = fan_out(given.repeats, given.seconds, given.peers, given.verdict_ms)
            found["best_of"] = rows
            text += [
                f"{row['server']:<12}{row['request']:<12}{row['p50']:>9.1f} ms{row['ratio']:>8.2f}x"
                for row in rows
            ]
        else:
            upstream = mock()
            stack.callback(upstream.stop)
            servers = started_servers(stack, upstream, folder, given.peers, given.only)
            table = passes([upstream, *servers], given.repeats, given.seconds)
            found["passes"] = table
            text.append(shown(table))
    print(json.dumps(found) if given.json else "\n".join(text))
    return 0


if __name__ == "__main__":
    sys.exit(main())
