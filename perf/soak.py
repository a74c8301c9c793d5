"""The long campaign against the gateway: good, bad, slow and leaving clients, an upstream that
fails and lies, keys that come and go, and workers that are killed; loopback only, bounded.

    python perf/soak.py --minutes 1          # as in CI
    python perf/soak.py --minutes 600 --json
    python perf/soak.py --busy               # beside other work: times are told, not judged

A real `ecoalign serve` with keys runs through rounds. After each it is left alone for a moment:
what it holds then, at rest, must stay flat. At the end it must hold no more memory, descriptors and
threads than at the beginning, its /healthz must have answered in time (p99 under 100 ms, none over
500 ms), each failure must have had a reason, and the accounts of the keys must hold what the
upstream has served: to the token for good clients, within the bounds of `ACCOUNTS` for the others.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import json
import os
import random
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from gateway_servers import HERE, HOST, Running, clean_environment, drive, gateway
from soak_clients import ROUGH, question
from soak_upstream import TALLY

from ecoalign.gateway.keys import CHOICES, KeyPolicy, KeyStore, open_store

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

P99_MS, MOST_MS = 100.0, 500.0
"""What /healthz may take."""
TREE_BYTES = 1 << 30
"""What the processes of the gateway may hold together, under load."""
LONG_SECONDS = 300.0
SHORT_ROOM_BYTES, SHORT_ROOM_FILES = 64e6, 24
"""What memory and descriptors may grow by in a campaign that is shorter."""
ROOM_BYTES, ROOM_SHARE = 12e6, 0.06
"""How much more memory at rest the last third may have than the middle one: the greater of both."""
ROOM_FILES = 4
"""How many descriptors and threads may come and go."""
BUDGET = 1_000_000
ACCOUNTS = {"exact": 0, "search": BUDGET, "rough": ROUGH, "hard": BUDGET}
"""Keys, with the tokens of a request: the most that a call can cost of which nobody knows the end.
In the first there is none such: it holds what was served, to the token."""
KEYS = (*ACCOUNTS, "gone", "spent")
_REST = 1.5
_PROBE_EVERY = 0.04
_PACE = 0.5
_STEADY = 0.3
"""The part of a round in which there is a steady load, too."""


@dataclass(frozen=True, slots=True)
class Tree:
    """What the processes of the gateway hold: bytes (proportional share), descriptors, threads."""

    bytes: int
    files: int
    threads: int
    processes: int


@dataclass(slots=True)
class Round:
    """One round: its end in seconds, the tree at rest after it, its peak, and what was answered."""

    at: float
    rest: Tree
    most_bytes: int
    seen: dict[str, Counter[str]]
    wrong: Counter[str]


@dataclass(slots=True)
class Found:
    """All that the campaign found.

    Attributes:
        seconds: how long it took.
        rounds: see `Round`.
        probe_ms: of every GET /healthz, in order.
        steady: requests of the steady load, with answers.
        killed: workers that were killed.
        keys_made: keys that were made and revoked again in between.
        accounts: by key, what the store holds, and what the upstream has served.
        faults: what should not be, in words; empty if all holds.
    """

    seconds: float = 0.0
    rounds: list[Round] = field(default_factory=list)
    probe_ms: list[float] = field(default_factory=list)
    steady: int = 0
    killed: int = 0
    keys_made: int = 0
    accounts: dict[str, dict[str, int]] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    def quantile(self, share: float) -> float:
        """The probe's time below which `share` of them lie, in ms."""
        ordered = sorted(self.probe_ms)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0

    def line(self) -> str:
        """The last round, for people."""
        last = self.rounds[-1]
        answers: Counter[str] = Counter()
        for statuses in last.seen.values():
            for status, count in statuses.items():
                answers[status.partition(" ")[0]] += count
        shown = " ".join(f"{status}:{count}" for status, count in sorted(answers.items()))
        tree, slowest = last.rest, max(self.probe_ms, default=0.0)
        return (
            f"{last.at:7.0f} s  {tree.bytes / 1e6:6.1f} MB at rest, "
            f"{last.most_bytes / 1e6:6.1f} at most; {tree.files} files, {tree.threads} threads, "
            f"{tree.processes} processes; /healthz p99 {self.quantile(0.99):.1f} ms, "
            f"most {slowest:.0f} ms; {shown}"
        )

    def to_json(self) -> dict[str, object]:
        """Plain JSON, the probe's times summed up."""
        times = {"count": len(self.probe_ms), "p50": self.quantile(0.5), "p99": self.quantile(0.99)}
        most = max(self.probe_ms, default=0.0)
        return asdict(self) | {"probe_ms": times | {"most": most}}


def descendants(pid: int) -> Iterator[int]:
    """A process and all below it."""
    yield pid
    with suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            with suppress(OSError):
                for child in (task / "children").read_text().split():
                    yield from descendants(int(child))


def tree(pid: int) -> Tree:
    """What a process and those below it hold now.

    Raises:
        OSError: the process is gone, or the system does not tell it in /proc.
    """
    held = files = threads = processes = 0
    for one in list(descendants(pid)):
        try:
            lines = Path(f"/proc/{one}/smaps_rollup").read_text().splitlines()
            held += sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
            files += len(os.listdir(f"/proc/{one}/fd"))
            threads += len(os.listdir(f"/proc/{one}/task"))
            processes += 1
        except OSError:
            if one == pid:
                raise
    return Tree(held, files, threads, processes)


def workers(pid: int) -> list[int]:
    """The leaves below a process that are alive: those that decode, where there are any."""
    below = [one for one in descendants(pid) if one != pid]
    return [one for one in below if len(list(descendants(one))) == 1 and _works(one)]


def _works(pid: int) -> bool:
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
    return bool(command) and b"resource_tracker" not in command


class Campaign:
    """One run of it.

    Args:
        folder: for the store of the keys.
        every: seconds of a round.
        seed: of the clients, and of what is killed.
    """

    def __init__(self, folder: Path, every: float, seed: int) -> None:
        self._url = str(folder / "keys.sqlite3")
        self._every = every
        self._random = random.Random(seed)
        self.found = Found()
        self._stop = threading.Event()
        self._most = 0

    def run(self, seconds: float, say: bool) -> Found:
        """All of it.

        Raises:
            RuntimeError: a server did not start, or the clients failed.
        """
        keys = asyncio.run(self._make_keys())
        upstream, tallies = _upstream(), {}
        options = ("--keys", self._url, "--budget", str(BUDGET), "--queue", "256")
        # Kept traces fill their memory in the first round, so that it is full from there on.
        server = gateway(upstream.url, *options, "--trace-memory", "2", key=keys["exact"])
        looking = threading.Thread(target=self._look, args=(server,))
        clients = _clients(server, keys, self._random.randrange(10**9))
        begun = time.monotonic()
        try:
            looking.start()
            while (at := time.monotonic() - begun) < seconds:
                self._round(server, clients, min(self._every, max(seconds - at, 1.0)), begun)
                if say:
                    print(self.found.line(), file=sys.stderr, flush=True)
            self._check_idle(server)
            self.found.faults += _errors(server)
        finally:
            self._stop.set()
            looking.join()
            clients.kill()
            clients.communicate()
            server.stop()
            self.found.seconds = time.monotonic() - begun
            tallies = _tallies(upstream) if upstream.process.poll() is None else {}
            upstream.stop()
        if server.process.returncode != 0:
            self.found.faults.append(f"the gateway ended with {server.process.returncode}")
        asyncio.run(self._check_accounts(tallies))
        return self.found

    async def _make_keys(self) -> dict[str, str]:
        store = open_store(self._url)
        policy = KeyPolicy(window_tokens=10**12, may_choose=frozenset(CHOICES), trace=True)
        spent = KeyPolicy(window_tokens=1, may_choose=frozenset(CHOICES))
        try:
            policies = {name: spent if name == "spent" else policy for name in KEYS}
            made = {name: (await store.create(name, one)).secret for name, one in policies.items()}
            await store.revoke("gone")
            return made
        finally:
            await store.aclose()

    def _round(
        self, server: Running, clients: subprocess.Popen[str], seconds: float, begun: float
    ) -> None:
        self._most, until = 0, time.monotonic() + seconds
        if clients.stdin is None or clients.stdout is None:
            raise RuntimeError("the clients have no pipes")
        print(seconds, file=clients.stdin, flush=True)
        faults = Counter(self._drive(server, _STEADY * seconds))
        while time.monotonic() < until:
            time.sleep(min(_PACE, max(0.0, until - time.monotonic())))
            asyncio.run(self._administer())
            self._kill_a_worker(server)
        said = clients.stdout.readline()
        if not said:
            raise RuntimeError("the clients have ended")
        told = json.loads(said)
        time.sleep(_REST)
        seen = {kind: Counter(statuses) for kind, statuses in told["seen"].items()}
        rest, at = tree(server.process.pid), time.monotonic() - begun
        faults.update(told["wrong"])
        self.found.rounds.append(Round(at, rest, self._most, seen, faults))

    def _drive(self, server: Running, seconds: float) -> list[str]:
        """As many good requests as can be, so that a little that each leaves behind adds up."""
        fields = json.loads(question("exact", "well", stream=self._random.random() < 0.5))
        try:
            done = drive(server, concurrency=4, seconds=seconds, fields=fields)
        except RuntimeError as error:
            return [f"steady load: {error}"]
        self.found.steady += int(done["requests"])
        return []

    async def _administer(self) -> None:
        """Another process on the same store, as `ecoalign keys` is."""
        store = open_store(self._url)
        try:
            name = f"passing {self.found.keys_made}"
            await store.create(name, KeyPolicy(window_tokens=1000))
            await store.usage("exact")
            await store.revoke(name)
            self.found.keys_made += 1
        finally:
            await store.aclose()

    def _kill_a_worker(self, server: Running) -> None:
        there = workers(server.process.pid)
        if there and self._random.random() < 0.1:
            with suppress(ProcessLookupError):
                os.kill(self._random.choice(there), signal.SIGKILL)
                self.found.killed += 1

    def _look(self, server: Running) -> None:
        """Ask /healthz all the time, as a supervisor would, and look at the memory now and then."""
        port = urlsplit(server.url).port
        looked = 0.0
        while not self._stop.wait(_PROBE_EVERY):
            begun = time.monotonic()
            line = http.client.HTTPConnection(HOST, port, timeout=60)
            try:
                line.request("GET", "/healthz")
                status = line.getresponse().status
            except (OSError, http.client.HTTPException) as error:
                status = 0
                self.found.faults.append(f"/healthz: {type(error).__name__}")
            finally:
                line.close()
            ended = time.monotonic()
            self.found.probe_ms.append(1e3 * (ended - begun))
            if status not in {0, 200}:
                self.found.faults.append(f"/healthz: {status}")
            if ended - looked > _PACE:
                looked = ended
                with suppress(OSError):
                    self._most = max(self._most, tree(server.process.pid).bytes)

    def _check_idle(self, server: Running) -> None:
        """No request runs or waits any more: those of clients that left have ended, too."""
        names = ("ecoalign_queue_waiting", "ecoalign_requests_running")
        for _ in range(40):
            line = http.client.HTTPConnection(HOST, urlsplit(server.url).port, timeout=60)
            line.request("GET", "/metrics")
            text = line.getresponse().read().decode()
            line.close()
            held = [one for one in text.splitlines() if one.startswith(names)]
            if len(held) == len(names) and all(float(one.split()[1]) == 0 for one in held):
                return
            time.sleep(0.25)
        self.found.faults.append(f"not at rest: {'; '.join(held)}")

    async def _check_accounts(self, tallies: Mapping[str, Mapping[str, int]]) -> None:
        store = open_store(self._url)
        try:
            for name in ACCOUNTS:
                self._check_account(name, await _account(store, name), tallies.get(name, {}))
        finally:
            await store.aclose()
        if "unmarked" in tallies:
            self.found.faults.append(f"calls that nobody asked for: {tallies['unmarked']}")

    def _check_account(
        self, name: str, account: Mapping[str, int], tally: Mapping[str, int]
    ) -> None:
        served, broken = tally.get("tokens", 0), tally.get("calls", 0) - tally.get("whole", 0)
        # What was cut off may have cost all that was reserved for it; a lie, what it says.
        most = served + tally.get("reported", 0) + broken * ACCOUNTS[name]
        told = {"served": served, "most": most, "calls": tally.get("calls", 0), "broken": broken}
        self.found.accounts[name] = dict(account) | told
        if account["open"] or account["held"]:
            self.found.faults.append(f"account {name}: {account['open']} grants are still open")
        if not served <= account["tokens"] <= most:
            self.found.faults.append(
                f"account {name}: {account['tokens']} tokens, not {served} to {most}"
            )


def _errors(server: Running) -> list[str]:
    """What the gateway has logged as an error: nothing that a client or an upstream does is one."""
    try:
        lines = Path(f"/proc/{server.process.pid}/fd/2").read_text(errors="replace").splitlines()
    except OSError:
        return []
    return [f"logged: {one[:1000]}" for one in lines if re.match(r"\S+ +(ERROR|CRITICAL) ", one)]


async def _account(store: KeyStore, name: str) -> dict[str, int]:
    windows = await store.usage(name, 400)
    return {
        "tokens": sum(one.tokens for one in windows),
        "requests": sum(one.requests for one in windows),
        "open": sum(one.open for one in windows),
        "held": sum(one.held_tokens for one in windows),
    }


def _clients(server: Running, keys: Mapping[str, str], seed: int) -> subprocess.Popen[str]:
    command = [sys.executable, str(HERE / "soak_clients.py"), server.url, "--seed", str(seed)]
    return subprocess.Popen(  # noqa: S603
        command,
        env=clean_environment(SOAK_KEYS=json.dumps(dict(keys))),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def _upstream() -> Running:
    process = subprocess.Popen(  # noqa: S603
        [sys.executable, str(HERE / "soak_upstream.py")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=clean_environment(),
    )
    port = process.stdout.readline() if process.stdout is not None else ""
    return Running("the upstream", f"http://{HOST}:{int(port)}/v1", process)


def _tallies(upstream: Running) -> dict[str, dict[str, int]]:
    line = http.client.HTTPConnection(HOST, urlsplit(upstream.url).port, timeout=30)
    try:
        line.request("POST", "/", TALLY)
        told: dict[str, dict[str, int]] = json.loads(line.getresponse().read())
        return told
    finally:
        line.close()


def judged(found: Found, busy: bool) -> list[str]:
    """What does not hold, in words.

    Args:
        found: by the campaign.
        busy: the machine has other work, so that times say nothing.
    """
    wrong: Counter[str] = Counter(found.faults)
    for each in found.rounds:
        wrong.update(each.wrong)
    faults = [f"{count} x {what}" for what, count in wrong.items()]
    for each in found.rounds:
        if each.most_bytes > TREE_BYTES:
            faults.append(f"{each.most_bytes / 1e6:.0f} MB under load at {each.at:.0f} s")
    if len(found.rounds) < 3:
        return [*faults, "too few rounds to tell whether anything grows"]
    third = max(1, len(found.rounds) // 3)
    middle, last = found.rounds[third : 2 * third], found.rounds[-third:]
    early, late = _rest(middle, "bytes"), _rest(last, "bytes")
    # In a minute, a worker that was started anew and clients that have just left are much of it.
    long = found.rounds[-1].at >= LONG_SECONDS
    room, files = (ROOM_BYTES, ROOM_FILES) if long else (SHORT_ROOM_BYTES, SHORT_ROOM_FILES)
    if late - early > max(room, ROOM_SHARE * early):
        faults.append(f"memory grows: {early / 1e6:.1f} MB, then {late / 1e6:.1f} MB at rest")
    for name in ("files", "threads", "processes"):
        if _rest(last, name) - _rest(middle, name) > files:
            faults.append(f"{name} grow: {_rest(middle, name)}, then {_rest(last, name)} at rest")
    if not busy:
        p99, most = found.quantile(0.99), max(found.probe_ms)
        if p99 >= P99_MS or most >= MOST_MS:
            faults.append(f"/healthz: p99 {p99:.0f} ms, at most {most:.0f} ms")
    return faults


def _rest(rounds: Sequence[Round], name: str) -> float:
    return statistics.median([float(getattr(one.rest, name)) for one in rounds])


def main() -> int:
    """The command line; 1 where something does not hold."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--every", type=float, help="seconds of a round; by default a ninth, to 30")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--busy", action="store_true", help="do not judge the times of /healthz")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    given = parser.parse_args()
    if not 0.5 <= given.minutes <= 10_080:
        parser.error("minutes go from 0.5 to 10080, a week")
    # Whoever ends it ends all that it has started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    seconds = 60.0 * given.minutes
    every = given.every or min(30.0, seconds / 9)
    with tempfile.TemporaryDirectory() as folder:
        found = Campaign(Path(folder), every, given.seed).run(seconds, say=True)
    found.faults = judged(found, given.busy)
    kinds: dict[str, Counter[str]] = {}
    for each in found.rounds:
        for kind, statuses in each.seen.items():
            kinds.setdefault(kind, Counter()).update(statuses)
    if given.json:
        print(json.dumps(found.to_json() | {"kinds": kinds}))
    else:
        for kind in sorted(kinds):
            told = ", ".join(f"{status}: {n}" for status, n in sorted(kinds[kind].items()))
            print(f"{kind:<26}{told}")
        for name, account in found.accounts.items():
            print(f"account {name}: " + ", ".join(f"{k} {v:,}" for k, v in account.items()))
        print(f"{found.steady:,} requests of the steady load")
        print(f"{found.killed} workers killed, {found.keys_made} keys made and revoked")
        print("\n".join(found.faults[:40]) or "all of it holds")
    return 1 if found.faults else 0


if __name__ == "__main__":
    sys.exit(main())
