from __future__ import annotations

import pytest
from bench_doubles import row

from ecoalign.bench._rows import Failure
from ecoalign.bench.progress import Bar, Counts


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_money_rate_and_time_to_go_are_of_this_run_alone() -> None:
    clock = Clock()
    counts = Counts(total=30, before=10, clock=clock)
    assert (counts.rate, counts.remaining) == (None, None)
    assert counts.words() == "10 of 30, 0 tokens"
    clock.now += 10
    for i in range(5):
        counts.add(row(f"s{i}", tokens=1000, usd=0.001))
    assert (counts.rate, counts.remaining) == (0.5, 30.0)
    assert counts.words() == "15 of 30, 5,000 tokens, $0.0050, 30.0/min, 0:30 to go"


def test_what_went_wrong_is_counted_and_an_unknown_price_stays_unknown() -> None:
    counts = Counts(total=9000)
    counts.add(row("a", usd=None, cached=1))
    counts.add(row("b", usd=1.0, label="unusable"))
    counts.add(row("c", failure=Failure("ModelError", "x", 3)))
    assert counts.usd is None
    assert "price unknown, 1 failed, 1 unusable, 1 cached" in counts.words()


def test_long_runs_are_told_in_hours() -> None:
    clock = Clock()
    counts = Counts(total=3601, clock=clock)
    clock.now += 2
    counts.add(row())
    assert counts.words().endswith("2:00:00 to go")


def test_without_a_terminal_nothing_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    with Bar(Counts(2)) as bar:
        bar.add(row())
    assert bar.counts.done == 1
    assert capsys.readouterr() == ("", "")


def test_the_bar_is_on_standard_error(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Rich takes it for a terminal then.
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    with Bar(Counts(2), wanted=True) as bar:
        bar.add(row(tokens=1234))
    said = capsys.readouterr()
    assert said.out == ""
    assert "1,234 tokens" in said.err
