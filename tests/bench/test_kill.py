"""Runs in real processes, ended at any moment."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

from command import ROOT, WAIT, environment

from ecoalign.bench._rows import ROWS, read_rows

SUPPORT = ROOT / "tests" / "support"
COUNT = 20


def _started(script: str, *arguments: str, home: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(SUPPORT / script), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment(home),
    )


def test_kill_9_loses_no_finished_sample_and_none_is_paid_twice(tmp_path: Path) -> None:
    out, paid = tmp_path / "run", tmp_path / "paid"
    finished: set[str] = set()
    for free in (7, 12):
        with _started("bench_process.py", str(out), str(paid), str(free), home=tmp_path) as process:
            assert process.stdout is not None
            under_way = 0
            while len(finished) < free or under_way < 3:
                line = process.stdout.readline().strip()
                if line.startswith("under way"):
                    under_way += 1
                else:
                    finished.add(line)
            process.send_signal(signal.SIGKILL)
            assert process.wait(WAIT) == -signal.SIGKILL
        assert (
            {row.key.sample for row in read_rows(out)} == finished == {f"n{i}" for i in range(free)}
        )
        # The worst place of all: in the middle of a line.
        with (out / ROWS).open("ab") as file:
            file.write(b'{"experiment":"test","varia')
    with _started("bench_process.py", str(out), str(paid), "99", home=tmp_path) as process:
        said, _ = process.communicate(timeout=WAIT)
        assert process.returncode == 0
    assert set(said.split()) == {f"n{i}" for i in range(12, COUNT)}
    rows = read_rows(out)
    assert Counter(row.key.sample for row in rows) == Counter(f"n{i}" for i in range(COUNT))
    assert all(row.score is not None and row.score.label == "right" for row in rows)
    times = Counter(map(int, paid.read_text().split()))
    # Three samples were under way at each kill; they alone were begun again.
    twice = {number for number, n in times.items() if n > 1}
    assert twice == {7, 8, 9, 12, 13, 14}
    assert set(times) == set(range(COUNT))


def test_ctrl_c_finishes_what_is_under_way_and_the_run_goes_on(tmp_path: Path) -> None:
    out = tmp_path / "run"
    with _started("bench_interrupted.py", str(out), home=tmp_path) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == "first\n"
        os.kill(process.pid, signal.SIGINT)
        process.stdin.write("\n")
        process.stdin.flush()
        said, _ = process.communicate(timeout=WAIT)
        assert process.returncode == 0
    assert "stopping" in said
    assert "stopped=True" in said
    before = len(read_rows(out))
    assert 1 <= before < 120
    assert (out / "report.html").exists()
    with _started("bench_interrupted.py", str(out), home=tmp_path) as process:
        said, _ = process.communicate("\n", timeout=WAIT)
    assert f"stopped=False fresh={120 - before} total=120" in said
    assert len(read_rows(out)) == 120
