from __future__ import annotations

import pytest
from clock import Clock
from hypothesis import given, settings
from hypothesis import strategies as st

from ecoalign.gateway._admission import RateLimited, RateLimiter


def test_a_burst_then_the_rate() -> None:
    clock = Clock(1000.0)
    limiter = RateLimiter(clock)
    for _ in range(10):  # 60 a minute: ten seconds' worth at once
        limiter.take("a", 60)
    with pytest.raises(RateLimited) as refused:
        limiter.take("a", 60)
    assert refused.value.retry_after == pytest.approx(1.0)
    assert "60 requests a minute" in str(refused.value)
    clock.now += refused.value.retry_after
    limiter.take("a", 60)
    with pytest.raises(RateLimited):
        limiter.take("a", 60)


def test_a_refusal_takes_nothing() -> None:
    clock = Clock(1000.0)
    limiter = RateLimiter(clock)
    limiter.take("a", 1)
    waits = []
    for _ in range(3):
        with pytest.raises(RateLimited) as refused:
            limiter.take("a", 1)
        waits.append(refused.value.retry_after)
    assert waits == pytest.approx([60.0] * 3)


def test_keys_do_not_share_a_bucket() -> None:
    limiter = RateLimiter(Clock(1000.0))
    limiter.take("a", 1)
    limiter.take("b", 1)
    with pytest.raises(RateLimited):
        limiter.take("a", 1)


def test_no_rate_is_no_limit_and_a_rate_of_nothing_is_a_mistake() -> None:
    limiter = RateLimiter(Clock(1000.0))
    for _ in range(1000):
        limiter.take("a", None)
    with pytest.raises(ValueError, match="1 or more"):
        limiter.take("a", 0)


@settings(max_examples=60, deadline=None)
@given(
    rpm=st.integers(1, 600),
    gaps=st.lists(st.floats(0, 30, allow_nan=False), min_size=1, max_size=60),
)
def test_never_more_than_the_rate_and_one_burst(rpm: int, gaps: list[float]) -> None:
    clock = Clock(1000.0)
    limiter = RateLimiter(clock)
    start, passed = clock.now, 0
    for gap in gaps:
        clock.now += gap
        try:
            limiter.take("a", rpm)
        except RateLimited as refused:
            # What it promises is kept: right then, and not before.
            clock.now += refused.retry_after
            limiter.take("a", rpm)
        passed += 1
    minutes = (clock.now - start) / 60
    assert passed <= rpm * minutes + max(1.0, rpm / 6) + 1e-6


def test_idle_buckets_are_forgotten_and_busy_ones_kept() -> None:
    clock = Clock(1000.0)
    limiter = RateLimiter(clock)
    for number in range(9_999):
        limiter.take(f"idle-{number}", 1)
    clock.now += 60.0
    limiter.take("busy", 1)
    limiter.take("new", 1)
    assert set(limiter._buckets) == {"busy", "new"}
    with pytest.raises(RateLimited):
        limiter.take("busy", 1)
