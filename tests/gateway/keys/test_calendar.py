"""Days, weeks and months of a time zone, through every change of its clocks."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from clock import Clock
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ecoalign.budget import Budget, Spending
from ecoalign.errors import InputError
from ecoalign.gateway.keys import KeyPolicy, WindowExhausted
from ecoalign.gateway.keys._calendar import CALENDARS, Calendar, calendar_span, zone_named
from ecoalign.gateway.keys._sqlite import SqliteStore
from ecoalign.models import Usage

DAY = 86_400
ZONES = (
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "America/Sao_Paulo",  # its clocks changed at midnight
    "Asia/Beirut",  # likewise
    "Africa/Cairo",  # likewise
    "America/Havana",  # likewise, and back
    "Australia/Lord_Howe",  # by half an hour
    "Asia/Kathmandu",
    "Pacific/Apia",  # skipped the 30th of December 2011
    "Pacific/Chatham",
    "Africa/Casablanca",
)
moments = st.floats(datetime(2000, 1, 1, tzinfo=UTC).timestamp(), 2_140_000_000.0)


@settings(max_examples=300, deadline=None)
@given(now=moments, calendar=st.sampled_from(CALENDARS), zone=st.sampled_from(ZONES))
@example(now=1325239200.0, calendar="day", zone="Pacific/Apia")
@example(now=1540695599.5, calendar="day", zone="Europe/Berlin")
def test_windows_follow_each_other_without_a_gap(now: float, calendar: Calendar, zone: str) -> None:
    span = calendar_span(now, calendar, zone)
    assert span.start <= now < span.end
    # All of it is one window, its ends included, and the next begins where it ends.
    for inside in (span.start, (span.start + span.end) / 2, span.end - 1e-3):
        assert calendar_span(inside, calendar, zone) == span
    after, before = (calendar_span(at, calendar, zone) for at in (span.end, span.start - 1e-3))
    assert (after.start, before.end) == (span.end, span.start)
    assert span.seconds == span.end - span.start


@settings(max_examples=300, deadline=None)
@given(now=moments, calendar=st.sampled_from(CALENDARS), zone=st.sampled_from(ZONES))
def test_they_begin_with_a_midnight_of_their_zone(
    now: float, calendar: Calendar, zone: str
) -> None:
    span, where = calendar_span(now, calendar, zone), zone_named(zone)
    first = datetime.fromtimestamp(span.start, where)
    # Where midnight was left out, the day begins with the first moment there is.
    gap = datetime.fromtimestamp(span.start - 1, where)
    assert (first.hour, first.minute, first.second) == (0, 0, 0) or gap.date() < first.date()
    if calendar == "week":
        assert first.weekday() == 0
    if calendar == "month":
        assert first.day == 1
    lengths = {"day": (1, 1), "week": (7, 7), "month": (28, 31)}
    low, high = lengths[calendar]
    skipped = DAY if zone == "Pacific/Apia" else 0
    assert low * DAY - 3600 - skipped <= span.seconds <= high * DAY + 3600 + skipped


def test_clocks_that_change() -> None:
    def local(*when: int) -> float:
        return datetime(*when, tzinfo=zone_named("Europe/Berlin")).timestamp()  # type: ignore[misc, arg-type]

    spring = calendar_span(local(2026, 3, 29, 12), "day", "Europe/Berlin")
    autumn = calendar_span(local(2026, 10, 25, 12), "day", "Europe/Berlin")
    assert (spring.seconds, autumn.seconds) == (23 * 3600, 25 * 3600)
    week = calendar_span(local(2026, 11, 26, 5), "week", "Europe/Berlin")
    assert (week.start, week.end) == (local(2026, 11, 23), local(2026, 11, 30))
    month = calendar_span(local(2028, 2, 29, 23), "month", "Europe/Berlin")
    assert (month.start, month.end) == (local(2028, 2, 1), local(2028, 3, 1))


def test_a_day_in_utc_is_one_of_seconds() -> None:
    for now in (0.0, 86_399.9, 1.7e9):
        both = KeyPolicy(window_seconds=DAY).span(now), KeyPolicy(calendar="day").span(now)
        assert both[0] == both[1]


def test_what_is_no_window_is_refused() -> None:
    for wrong in (
        {"calendar": "week", "zone": "Europe/Berlim"},
        {"calendar": "week", "zone": "../../etc/passwd"},
        {"calendar": "week", "zone": ""},
        {"calendar": "year"},
        {"zone": "Europe/Berlin"},
    ):
        with pytest.raises(InputError):
            KeyPolicy(**wrong)  # type: ignore[arg-type]


def test_a_policy_survives_its_text_and_old_programs_read_what_they_can() -> None:
    month = KeyPolicy(window_tokens=5, calendar="month", zone="Asia/Kathmandu")
    assert KeyPolicy.from_text(month.text()) == month
    assert not {"calendar", "zone"} & KeyPolicy(window_tokens=5).to_json().keys()


@settings(max_examples=40, deadline=None)
@given(now=moments, calendar=st.sampled_from(CALENDARS), zone=st.sampled_from(ZONES))
def test_retry_after_is_when_the_next_window_has_room(
    tmp_path_factory: pytest.TempPathFactory, now: float, calendar: Calendar, zone: str
) -> None:
    import asyncio

    async def run(path: Path) -> None:
        clock = Clock(now)
        store = SqliteStore(path / "k.sqlite3", clock)
        policy = KeyPolicy(window_tokens=100, calendar=calendar, zone=zone)
        key = (await store.create("k", policy)).record
        await store.settle(await store.grant(key, Budget(100)), Spending(Usage(100, 0)))
        with pytest.raises(WindowExhausted) as short:
            await store.grant(key, Budget(1))
        wait = short.value.retry_after
        assert wait is not None
        assert 0 < wait <= 32 * DAY + 3600
        assert not short.value.crowded
        clock.now = now + wait - 1e-3
        if clock.now > now:
            with pytest.raises(WindowExhausted):
                await store.grant(key, Budget(1))
        clock.now = now + wait + 1e-3
        await store.settle(await store.grant(key, Budget(100)), Spending(Usage(70, 0)))
        new, old = await store.usage(key.id)
        assert (new.tokens, old.tokens) == (70, 100)
        assert new.start == old.start + old.seconds
        assert new.start == pytest.approx(now + wait, abs=1e-3)
        await store.aclose()

    asyncio.run(run(tmp_path_factory.mktemp("calendar")))


async def test_a_month_forgets_months_and_knows_the_one_before(tmp_path: Path) -> None:
    start = datetime(2026, 1, 15, 12, tzinfo=UTC)
    clock = Clock(start.timestamp())
    store = SqliteStore(tmp_path / "k.sqlite3", clock)
    key = (await store.create("k", KeyPolicy(window_tokens=1000, calendar="month"))).record
    for month in range(3):
        clock.now = (start + timedelta(days=31 * month)).timestamp()
        for _ in range(5):
            await store.settle(await store.grant(key, Budget(10)), Spending(Usage(10, 0)))
    months = await store.usage("k")
    assert [one.seconds // DAY for one in months] == [31, 28, 31]
    assert [one.tokens for one in months] == [50, 50, 50]
    await store.aclose()
