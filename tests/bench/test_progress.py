from __future__ import annotations

import pytest
from bench_doubles import row
from clock import Clock

from ecoalign.bench import Bar, BenchProgress
from ecoalign.bench._rows import Failure


def test_money_rate_and_time_to_go_are_of_this_run_alone() -> None:
    clock = Clock(100.0)
    progress = BenchProgress(total=30, before=10, clock=clock)
    assert (progress.rate, progress.remaining) == (None, None)
    assert str(progress) == "10 of 30, 0 tokens"
    clock.now += 10
    for i in range(5):
        progress.add(row(f"s{i}", tokens=1000, usd=0.001))
    assert (progress.rate, progress.remaining) == (0.5, 30.0)
    assert str(progress) == "15 of 30, 5,000 tokens, $0.0050, 30.0/min, 0:30 to go"


def test_what_went_wrong_is_counted_and_an_unknown_price_stays_unknown() -> None:
    progress = BenchProgress(total=9000)
    progress.add(row("a", usd=None, cached=1))
    progress.add(row("b", usd=1.0, label="unusable"))
    progress.add(row("c", failure=Failure("ModelError", "x", 3)))
    assert progress.usd is None
    assert "price unknown, 1 failed, 1 unusable, 1 cached" in str(progress)


def test_long_runs_are_told_in_hours() -> None:
    clock = Clock(100.0)
    progress = BenchProgress(total=3601, clock=clock)
    clock.now += 2
    progress.add(row())
    assert str(progress).endswith("2:00:00 to go")


def test_without_a_terminal_nothing_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    with Bar(BenchProgress(2)) as bar:
        bar.progress.add(row())
        bar.update()
    assert capsys.readouterr() == ("", "")


def test_the_bar_is_on_standard_error(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Rich takes it for a terminal then.
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    with Bar(BenchProgress(2), wanted=True) as bar:
        bar.progress.add(row(tokens=1234))
        bar.update()
    said = capsys.readouterr()
    assert said.out == ""
    assert "1,234 tokens" in said.err
