"""Batches in real processes, ended at any moment; what they paid is counted at the server."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from command import WAIT, environment
from counted import Counted

from ecoalign.batch._journal import SUFFIX

ROWS = 12
BUDGET = 4_000_000


def started(home: Path, url: str, *options: str, out: str = "out.jsonl") -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "ecoalign", "batch", "in.jsonl", out]
    command += ["--model", "openai:tiny", "--base-url", url, "--concurrency", "3"]
    return subprocess.Popen(
        [*command, *options],
        cwd=home,
        env=environment(home, OPENAI_API_KEY="sk-none-0123456789"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def write_input(home: Path) -> None:
    rows = [{"question": f"What is number {n}?", "n": n} for n in range(ROWS)]
    (home / "in.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows))


def lines(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a file of JSON lines."""
    return [json.loads(line) for line in path.read_text().split("\n")[:-1]]


def finished(journal: Path) -> set[str]:
    if not journal.exists():
        return set()
    data = journal.read_text()
    whole = data[: data.rfind("\n") + 1].split("\n")[:-1]
    return {body["end"] for body in map(json.loads, whole) if "row" in body}


def charged(journal: Path) -> int:
    return sum(body["cost"][0] for body in lines(journal) if "end" in body)


def begun(journal: Path) -> dict[str, int]:
    """How often each item was begun."""
    return Counter(body["begin"] for body in lines(journal) if "begin" in body)


def essence(path: Path) -> list[dict[str, Any]]:
    """The output without what depends on the clock."""
    return [{k: v for k, v in row.items() if k != "seconds"} for row in lines(path)]


@pytest.mark.parametrize("method", ["base", "ecoalign"])
def test_kill_9_at_any_moment_loses_nothing_and_pays_nothing_twice(
    tmp_path: Path, method: str
) -> None:
    """A process for each of about six kills: that takes some seconds."""
    write_input(tmp_path)
    options = ["--method", method, "--total-budget", str(BUDGET), "--quiet", "--json"]
    with Counted().serving() as server:
        process = started(tmp_path, server.url, *options, out="whole.jsonl")
        told, said = process.communicate(timeout=WAIT)
        assert process.returncode == 0, said.decode()
    calls = len(server.received) // ROWS
    # At less than this nothing would ever be finished: three are asked at once.
    least = 3 * calls if calls > 1 else 1
    chance = random.Random(method)
    counted = Counted()
    journal = tmp_path / f"out.jsonl{SUFFIX}"
    asked_of_done: dict[str, int] = {}
    kills = 0
    with counted.serving() as server:
        for _ in range(100):
            process = started(tmp_path, server.url, *options)
            end = counted.requests + chance.randint(least, 5 * calls)

            def kill(
                number: int, process: subprocess.Popen[bytes] = process, at: int = end
            ) -> None:
                if number >= at:
                    # Somewhere between this call and what its reply is written down as.
                    delay = chance.random() * 0.01
                    threading.Timer(delay, process.send_signal, [signal.SIGKILL]).start()

            counted.before = kill
            told, said = process.communicate(timeout=WAIT)
            counted.before = lambda number: None
            if process.returncode == 0:
                break
            assert process.returncode == -signal.SIGKILL, said.decode()
            if (tmp_path / "out.jsonl").exists():
                assert len(finished(journal)) == ROWS
            kills += 1
            for item in finished(journal) - asked_of_done.keys():
                asked_of_done[item] = begun(journal)[item]
        assert kills >= 3
    assert essence(tmp_path / "out.jsonl") == essence(tmp_path / "whole.jsonl")
    # What had its row at a kill was not begun again, and so not asked.
    assert begun(journal).items() >= asked_of_done.items()
    rows = lines(tmp_path / "out.jsonl")
    assert [row["n"] for row in rows] == list(range(ROWS))
    summary = json.loads(told)
    assert summary["charged"]["tokens"] == charged(journal)
    # All that the server was paid for is charged, and the bounds of what a kill cut off.
    assert counted.used <= charged(journal) <= BUDGET
    extra = sum(counted.asked.values()) - calls * ROWS
    assert extra <= kills * 3 * calls


def test_the_budget_is_kept_over_kills(tmp_path: Path) -> None:
    """Where money is short, what kills cost is missing at the end, and never added."""
    write_input(tmp_path)
    counted = Counted()
    journal = tmp_path / f"out.jsonl{SUFFIX}"
    options = [
        "--method",
        "base",
        "--budget",
        "3000",
        "--total-budget",
        "5000",
        "--quiet",
        "--json",
    ]
    chance = random.Random(5)
    with counted.serving() as server:
        code = None
        while code not in {0, 4}:
            process = started(tmp_path, server.url, *options)
            end = counted.requests + chance.randint(1, 3)

            def kill(
                number: int, process: subprocess.Popen[bytes] = process, at: int = end
            ) -> None:
                if number >= at:
                    process.send_signal(signal.SIGKILL)

            counted.before = kill
            process.communicate(timeout=WAIT)
            code = process.returncode
        assert code == 4
        assert charged(journal) <= 5000
        assert counted.used <= charged(journal)
        rows = lines(tmp_path / "out.jsonl")
        answered = [row["n"] for row in rows if row["status"] == "answered"]
        assert 0 < len(answered) < ROWS
        assert {row["status"] for row in rows} == {"answered", "budget"}
        before = Counter({n: counted.asked[n] for n in answered})
        # With more money it goes on, and asks only what has no answer.
        counted.before = lambda number: None
        more = [*options[:-3], str(BUDGET), "--quiet", "--json"]
        process = started(tmp_path, server.url, *more)
        assert process.wait(WAIT) == 0
        process.communicate()
        assert Counter({n: counted.asked[n] for n in answered}) == before
    assert [row["status"] for row in lines(tmp_path / "out.jsonl")] == ["answered"] * ROWS


@pytest.mark.parametrize(
    "signals",
    [[signal.SIGINT], [signal.SIGTERM], [signal.SIGINT, signal.SIGINT]],
    ids=["ctrl-c", "sigterm", "ctrl-c twice"],
)
def test_an_interrupted_batch_says_how_to_go_on(
    tmp_path: Path, signals: list[signal.Signals]
) -> None:
    write_input(tmp_path)
    held, release = threading.Event(), threading.Event()
    counted = Counted()

    def hold(number: int) -> None:
        # As many as are asked at once.
        if number == 6:
            held.set()
        if number >= 4:
            release.wait(WAIT)

    counted.before = hold
    journal = tmp_path / f"out.jsonl{SUFFIX}"
    with counted.serving() as server:
        process = started(tmp_path, server.url, "--method", "base", "--json")
        assert held.wait(WAIT)
        assert process.stderr is not None
        heard: list[str] = []
        for number in signals:
            os.kill(process.pid, number)
            if not heard:
                heard = _until(process, "what has begun", "finishing what has begun")
        if len(signals) == 1:
            release.set()
        told, said = process.communicate(timeout=WAIT)
        release.set()
        ended = ("interrupted", 130) if signal.SIGINT in signals else ("terminated", 143)
        summary = json.loads(told)
        assert (summary["stopped"], process.returncode) == ended
        assert "the same command goes on" in said.decode()
        done = finished(journal)
        assert len(done) == summary["answered"]
        # What was under way has ended, one way or the other: nothing is left open.
        ends = Counter(body["end"] for body in lines(journal) if "end" in body)
        assert ends == begun(journal)
        if len(signals) == 1:
            assert len(done) == 6
        assert not (tmp_path / "out.jsonl").exists()
        counted.before = lambda number: None
        process = started(tmp_path, server.url, "--method", "base", "--json")
        told, _ = process.communicate(timeout=WAIT)
        assert process.returncode == 0
    assert json.loads(told)["fresh"] == ROWS - len(done)
    assert json.loads(told)["lost"] == 0
    assert counted.used <= charged(journal)


def _until(process: subprocess.Popen[bytes], *marks: str) -> list[str]:
    """The lines on standard error up to one with any of the marks."""
    assert process.stderr is not None
    heard: list[str] = []
    while not any(mark in line for line in heard for mark in marks):
        heard.append(process.stderr.readline().decode())
        assert heard[-1], heard
    return heard
