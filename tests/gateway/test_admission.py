from __future__ import annotations

import asyncio
import math
from contextlib import ExitStack

import pytest
from clock import Clock
from hypothesis import given, settings
from hypothesis import strategies as st

from ecoalign.gateway._admission import Admission, Durations, Overloaded


class Clients:
    """Tasks that hold a slot until they are told to go."""

    def __init__(self, admission: Admission) -> None:
        self.admission = admission
        self.inside: list[str] = []
        self.go: dict[str, asyncio.Event] = {}
        self.tasks: dict[str, asyncio.Task[None]] = {}

    async def come(self, name: str, key: str = "", most: int | None = None) -> None:
        self.go[name] = asyncio.Event()
        self.tasks[name] = asyncio.create_task(self._stay(name, key, most))
        await settled()

    async def leave(self, name: str) -> None:
        self.go[name].set()
        await self.tasks[name]
        await settled()

    async def _stay(self, name: str, key: str, most: int | None) -> None:
        async with self.admission.slot(key, most):
            self.inside.append(name)
            await self.go[name].wait()


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_the_limit_then_the_queue_then_a_refusal() -> None:
    admission = Admission(2, 1)
    clients = Clients(admission)
    for name in ("a", "b", "c"):
        await clients.come(name)
    assert clients.inside == ["a", "b"]
    assert (admission.running, admission.waiting) == (2, 1)
    with pytest.raises(Overloaded, match="2 requests are running and 1 waiting") as refused:
        async with admission.slot():
            pytest.fail("there was no room")
    assert refused.value.retry_after >= 1
    assert not refused.value.draining
    await clients.leave("a")
    assert clients.inside == ["a", "b", "c"]
    assert (admission.running, admission.waiting) == (2, 0)
    await clients.leave("b")
    await clients.leave("c")
    assert (admission.running, admission.waiting) == (0, 0)


async def test_without_a_queue_nobody_waits() -> None:
    admission = Admission(1, 0)
    async with admission.slot():
        with pytest.raises(Overloaded):
            async with admission.slot():
                pytest.fail("there was no room")
    async with admission.slot():
        assert admission.running == 1


async def test_retry_after_follows_the_mean_duration() -> None:
    clock = Clock()
    admission = Admission(2, 3, clock)
    for _ in range(3):
        async with admission.slot():
            clock.now += 12.0
    clients = Clients(admission)
    for name in "abcde":
        await clients.come(name)
    with pytest.raises(Overloaded) as refused:
        async with admission.slot():
            pytest.fail("there was no room")
    # Three wait before us, two leave every 12 s.
    assert refused.value.retry_after == 24
    for name in "abcde":
        await clients.leave(name)


async def test_keys_take_turns() -> None:
    admission = Admission(1, 10)
    clients = Clients(admission)
    await clients.come("first", "x")
    for name in ("a1", "a2", "a3"):
        await clients.come(name, "a")
    await clients.come("b1", "b")
    for name in ("first", "a1", "b1", "a2", "a3"):
        await clients.leave(name)
    assert clients.inside == ["first", "a1", "b1", "a2", "a3"]


async def test_a_key_at_its_own_limit_is_overtaken() -> None:
    admission = Admission(3, 10)
    clients = Clients(admission)
    await clients.come("a1", "a", 1)
    await clients.come("a2", "a", 1)
    await clients.come("b1", "b", 1)
    assert clients.inside == ["a1", "b1"]
    await clients.leave("b1")
    assert clients.inside == ["a1", "b1"]
    await clients.leave("a1")
    assert clients.inside == ["a1", "b1", "a2"]
    await clients.leave("a2")


async def test_a_full_queue_makes_room_for_a_key_that_has_less_of_it() -> None:
    admission = Admission(1, 3)
    clients = Clients(admission)
    await clients.come("running", "x")
    for name in ("a1", "a2", "a3"):
        await clients.come(name, "a")
    await clients.come("b1", "b")
    with pytest.raises(Overloaded):
        await clients.tasks["a3"]
    await clients.come("b2", "b")
    with pytest.raises(Overloaded):  # it would have as many as the longest line
        await clients.tasks["b2"]
    assert admission.waiting == 3
    for name in ("running", "a1", "b1", "a2"):
        await clients.leave(name)
    assert clients.inside == ["running", "a1", "b1", "a2"]


async def test_who_stops_waiting_leaves_the_queue() -> None:
    admission = Admission(1, 1)
    clients = Clients(admission)
    await clients.come("a")
    await clients.come("b")
    clients.tasks["b"].cancel()
    await settled()
    assert admission.waiting == 0
    await clients.come("c")
    await clients.leave("a")
    assert clients.inside == ["a", "c"]
    await clients.leave("c")


async def test_a_slot_handed_to_someone_who_is_cancelled_goes_to_the_next() -> None:
    admission = Admission(1, 2)
    clients = Clients(admission)
    async with admission.slot():
        await clients.come("b")
        await clients.come("c")
    # The slot is b's now, and b is cancelled before it has noticed.
    assert (admission.running, admission.waiting) == (1, 1)
    clients.tasks["b"].cancel()
    await settled()
    assert clients.inside == ["c"]
    await clients.leave("c")
    assert (admission.running, admission.waiting) == (0, 0)


async def test_who_is_cancelled_at_the_moment_of_its_turn_loses_no_slot() -> None:
    """It leaves, and before its task has run again a slot becomes free, or all are sent away."""
    admission = Admission(1, 2)
    clients = Clients(admission)
    async with admission.slot():
        await clients.come("b")
        await clients.come("c")
        clients.tasks["b"].cancel()
    await settled()
    assert clients.inside == ["c"]
    await clients.come("d")
    clients.tasks["d"].cancel()
    assert not await admission.drain(0)
    assert clients.tasks["d"].cancelled()
    await clients.leave("c")
    assert (admission.running, admission.waiting) == (0, 0)


async def test_a_failure_inside_gives_the_slot_back() -> None:
    admission = Admission(1, 0)
    with pytest.raises(RuntimeError, match="inside"):
        async with admission.slot("k", 1):
            raise RuntimeError("inside")
    async with admission.slot("k", 1):
        assert admission.running == 1


async def test_drain_sends_away_who_waits_and_waits_for_who_runs() -> None:
    admission = Admission(1, 5)
    clients = Clients(admission)
    await clients.come("a")
    await clients.come("b")
    draining = asyncio.create_task(admission.drain(60))
    await settled()
    with pytest.raises(Overloaded) as sent:
        await clients.tasks["b"]
    assert sent.value.draining
    with pytest.raises(Overloaded, match="shutting down"):
        async with admission.slot():
            pytest.fail("nobody is let in any more")
    assert not draining.done()
    await clients.leave("a")
    assert await draining is True


async def test_drain_gives_up_after_its_time() -> None:
    admission = Admission(1, 0)
    async with admission.slot():
        assert await admission.drain(0.01) is False
    assert await admission.drain(0.01) is True


def test_numbers_out_of_range() -> None:
    for limit, queue in ((0, 1), (1, -1)):
        with pytest.raises(ValueError, match="admission"):
            Admission(limit, queue)


@settings(max_examples=60, deadline=None)
@given(
    limit=st.integers(1, 3),
    queue=st.integers(0, 4),
    most=st.none() | st.integers(1, 2),
    moves=st.lists(
        st.tuples(st.sampled_from(["come", "go", "cancel"]), st.integers(0, 5)), max_size=40
    ),
)
def test_whatever_happens_the_limits_hold_and_no_slot_is_lost(
    limit: int, queue: int, most: int | None, moves: list[tuple[str, int]]
) -> None:
    async def scenario() -> None:
        admission = Admission(limit, queue)
        clients = Clients(admission)
        for number, (move, pick) in enumerate(moves):
            alive = [name for name, task in clients.tasks.items() if not task.done()]
            if move == "come":
                await clients.come(f"{number}", "abc"[pick % 3], most)
            elif alive and move == "go":
                clients.go[alive[pick % len(alive)]].set()
            elif alive:
                clients.tasks[alive[pick % len(alive)]].cancel()
            if pick % 2:
                continue  # and the next thing happens before anybody has noticed
            await settled()
            assert admission.running <= limit
            assert admission.waiting <= queue
            alive = [name for name, task in clients.tasks.items() if not task.done()]
            assert admission.running + admission.waiting == len(alive)
            if most is None:
                assert admission.waiting == 0 or admission.running == limit
        for event in clients.go.values():
            event.set()
        await asyncio.gather(*clients.tasks.values(), return_exceptions=True)
        assert (admission.running, admission.waiting) == (0, 0)

    asyncio.run(scenario())


# How long to wait ---------------------------------------------------------------------------------


@given(
    st.floats(0.01, 200),
    st.lists(st.floats(0, 1), min_size=1, max_size=8),
)
def test_who_waits_as_told_finds_that_what_was_under_way_has_ended(
    lasts: float, begun: list[float]
) -> None:
    """Once one has ended, whenever the others began."""
    clock = Clock()
    durations = Durations(clock)
    with durations.lasting("a"):
        clock.now += lasts
    now = clock.now
    ends = []
    with ExitStack() as open_:
        for since in sorted(begun, reverse=True):
            clock.now = now - since * lasts
            open_.enter_context(durations.lasting("a"))
            ends.append(clock.now + lasts)
        clock.now = now
        assert now + durations.each("a") >= max(ends) - 1e-6


@given(st.floats(0.01, 5000))
def test_while_nothing_has_ended_the_time_to_wait_grows_with_it(lasts: float) -> None:
    """So a client that waits as it is told finds room after a few times."""
    clock = Clock()
    durations = Durations(clock)
    with durations.lasting("a"):
        tries = 0
        while clock.now < lasts:
            clock.now += durations.each("a")
            tries += 1
    assert tries <= 2 + math.log(max(1.0, lasts), 3)
    # Of others nothing is known by it but their mean.
    assert durations.each("b") == durations.each() > 0


async def test_a_key_with_a_limit_of_its_own_is_told_to_wait_for_it() -> None:
    clock = Clock()
    admission = Admission(8, 1, clock)
    async with admission.slot():
        clock.now += 10.0
    clients = Clients(admission)
    await clients.come("a1", "a", 1)
    await clients.come("a2", "a", 1)
    with pytest.raises(Overloaded) as refused:
        async with admission.slot("a", 1):
            pytest.fail("there was no room")
    # One ahead of it, one at a time.
    assert refused.value.retry_after == 20
    for name in ("a1", "a2"):
        await clients.leave(name)
