"""`ecoalign batch --engine ray`: the same output, also where a process is killed in the middle."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from command import environment
from counted import Counted

from ecoalign.batch._journal import SUFFIX

pytest.importorskip(
    "ray.data", reason='Ray Data is not installed: pip install "ecoalign[ray]" "ray[data]"'
)

ROWS = 16
WAIT = 180


def started(home: Path, url: str, out: str, *options: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "ecoalign", "batch", "in.jsonl", out, "--method", "base"]
    command += ["--model", "openai:tiny", "--base-url", url, "--concurrency", "4"]
    return subprocess.Popen(
        [*command, "--json", *options],
        cwd=home,
        env=environment(home, OPENAI_API_KEY="sk-none-0123456789"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().split("\n")[:-1]]


def essence(path: Path) -> list[dict[str, Any]]:
    """The output without what depends on the clock, and where its traces are."""
    return [{k: v for k, v in row.items() if k not in {"seconds", "trace"}} for row in lines(path)]


def processes(home: Path, name: str = "") -> list[int]:
    """The processes of Ray that belong to this test, by the home in their environment."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            settings = (entry / "environ").read_bytes()
            title = (entry / "cmdline").read_bytes()
        except OSError:
            continue
        if f"HOME={home}\0".encode() in settings and title.startswith(b"ray::" + name.encode()):
            found.append(int(entry.name))
    return found


@pytest.fixture
def home(tmp_path: Path) -> Path:
    rows = [{"question": f"What is number {n}?", "n": n} for n in range(ROWS)]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows))
    return tmp_path


def test_a_killed_process_costs_its_grants_and_nothing_else(home: Path) -> None:
    with Counted().serving() as server:
        process = started(home, server.url, "local.jsonl")
        _, said = process.communicate(timeout=WAIT)
        assert process.returncode == 0, said.decode()
    held, release = threading.Event(), threading.Event()
    counted = Counted()

    def hold(number: int) -> None:
        # Two of each process are under way.
        if number == 9:
            held.set()
        if number >= 6:
            release.wait(WAIT)

    counted.before = hold
    budget = 500_000
    options = ["--engine", "ray", "--budget", "20000", "--total-budget", str(budget)]
    with counted.serving() as server:
        options += ["--traces", "traces", "--quiet"]
        process = started(home, server.url, "ray.jsonl", *options)
        assert held.wait(WAIT)
        workers = processes(home, "MapWorker")
        assert len(workers) == 2
        os.kill(workers[0], signal.SIGKILL)
        release.set()
        told, said = process.communicate(timeout=WAIT)
        assert process.returncode == 0, said.decode()
    # Ray tells of the process that died, and nothing else is said.
    assert [line for line in said.decode().splitlines() if "(raylet)" not in line] == []
    assert essence(home / "ray.jsonl") == essence(home / "local.jsonl")
    journal = lines(home / f"ray.jsonl{SUFFIX}")
    ends = Counter(body["end"] for body in journal if "row" in body)
    assert set(ends.values()) == {1}
    lost = [body for body in journal if "end" in body and "row" not in body]
    # What the killed process had under way, each at the whole of its grant.
    assert [body["cost"][0] for body in lost] == [20_000, 20_000]
    assert sorted(counted.asked.values()) == [*[1] * (ROWS - 2), 2, 2]
    charged = json.loads(told)["charged"]["tokens"]
    assert counted.used <= charged <= budget
    for row in lines(home / "ray.jsonl"):
        assert lines(home / row["trace"])[-1]["event"] == "Finished"
    _gone(home)


def test_an_interrupted_batch_leaves_nothing_behind_and_goes_on(home: Path) -> None:
    held, release = threading.Event(), threading.Event()
    counted = Counted()

    def hold(number: int) -> None:
        if number == 4:
            held.set()
        if number >= 4:
            release.wait(WAIT)

    counted.before = hold
    with counted.serving() as server:
        process = started(home, server.url, "out.jsonl", "--engine", "ray", "--budget", "9000")
        assert held.wait(WAIT)
        os.kill(process.pid, signal.SIGINT)
        assert process.stderr is not None
        while b"press Ctrl-C again" not in (line := process.stderr.readline()):
            assert line
        os.kill(process.pid, signal.SIGINT)
        told, said = process.communicate(timeout=WAIT)
        release.set()
        assert process.returncode == 130, said.decode()
        first = json.loads(told)
        assert first["stopped"] == "interrupted"
        assert not (home / "out.jsonl").exists()
        _gone(home)
        # It goes on with the other engine: the journal is the same.
        counted.before = lambda number: None
        process = started(home, server.url, "out.jsonl", "--budget", "9000")
        told, said = process.communicate(timeout=WAIT)
        assert process.returncode == 0, said.decode()
    second = json.loads(told)
    assert second["fresh"] == ROWS - first["answered"]
    assert second["lost"] == 0
    assert [row["n"] for row in lines(home / "out.jsonl")] == list(range(ROWS))


def test_what_cannot_go_on_says_so(home: Path) -> None:
    """An error of the whole batch in a process of Ray is the error of the command."""
    (home / "ecoalign.toml").write_text('[prices."openai:tiny"]\ninput = 1.0\noutput = 1.0\n')
    with Counted().serving() as server:
        options = ["--engine", "ray", "--workers", "1", "--total-budget", "$1"]
        options += ["--method", "ecoalign", "--evaluator", "openai:judge"]
        process = started(home, server.url, "out.jsonl", *options)
        told, said = process.communicate(timeout=WAIT)
        assert process.returncode == 2, said.decode()
    error = json.loads(told)["error"]
    assert error["type"] == "UnpricedModelError"
    assert "openai:judge" in error["message"]
    _gone(home)


def _gone(home: Path) -> None:
    until = time.monotonic() + WAIT
    while left := processes(home):
        assert time.monotonic() < until, left
        time.sleep(0.05)
