"""What a store does when a key spends: grants, settlements, and what processes lease ahead.

A lease is a row among the grants, held in its window like any other: a program of the first
release that shares the store sees a grant that is long under way. What the lease's own grants have
cost is booked from it in one go (`synced`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ecoalign.budget import Budget, Spending
from ecoalign.budget.pacing import NOTHING, PacingState, Short, Sum
from ecoalign.errors import InputError
from ecoalign.gateway.keys._policy import (
    Grant,
    GrantId,
    KeyId,
    KeyPolicy,
    UnknownKey,
    WindowExhausted,
)
from ecoalign.gateway.keys._schema import Operation
from ecoalign.gateway.keys._statements import Locked, locked, real, whole, window_at
from ecoalign.gateway.keys._windows import (
    Window,
    charge,
    decide,
    lease_size,
    repriced,
    scarce,
)

_KEPT = 400
"""Windows kept for `usage`."""

_SOON = 600.0
"""An open grant older than this many seconds is not expected to give anything back."""

_FULL = 9 * 10**18
"""The most that a counter of 64 bits goes up to."""

_GRANT = (
    "id, key_id, seconds, start, tokens, nano, at, process, slot, lease, booked_tokens, "
    "booked_nano, booked_requests, opened"
)


@dataclass(frozen=True, slots=True)
class Owner:
    """The process that a grant is made for, as it is entered in the store."""

    process: str
    name: str


@dataclass(frozen=True, slots=True)
class Report:
    """What a process tells of a lease, and wants of it.

    Attributes:
        id: of the lease.
        slot: of its entry in the process's book.
        new: whether there is no such lease yet.
        start, seconds: its window.
        spent: what its grants have cost since it began.
        requests: grants made of it since it began.
        open: its grants not settled, and `held` what those have reserved.
        wish: how much the process would like to be free to grant.
        largest: the most that one grant has held lately.
        ends: whether nothing more is granted of the lease; it keeps what is open.
        costs: of each grant settled since the last report that was booked, and the seconds that it
            was open: the pace learns of them.
    """

    id: GrantId
    slot: int
    new: bool
    start: float
    seconds: int
    spent: Sum
    requests: int
    open: int
    held: Sum
    wish: Sum
    largest: Sum
    ends: bool
    costs: Sequence[tuple[Sum, float]]


@dataclass(frozen=True, slots=True)
class Synced:
    """What the store knows of a lease now.

    Attributes:
        kept: what is held for it, beyond what is booked.
        policy: of the key.
        pace: of the key.
        window: the counters of its window.
        stop: whether to grant nothing more of it, and to give it back: the key is revoked, the
            window has ended or is scarce, or another process needs room.
        gone: whether there is no such lease any more.
    """

    kept: Sum
    policy: KeyPolicy
    pace: PacingState
    window: Window
    stop: bool
    gone: bool


@dataclass(frozen=True, slots=True)
class Opened:
    """A grant, and what it holds."""

    grant: Grant
    held: Sum


def grant(
    grant_id: GrantId,
    key: KeyId,
    want: Budget,
    least: Budget | None,
    now: float,
    owner: Owner,
    slot: int,
) -> Operation[Opened]:
    """See `KeyStore.grant`."""
    state = yield from locked(key)
    policy = state.policy
    span = policy.span(now)
    found = yield from window_at(key, span.start, span.seconds)
    if found is None:
        window, pace = yield from _next_window(key, state, now)
    else:
        window, pace = found, state.pace
    decision = decide(policy, window, pace, want, least, now)
    if isinstance(decision, Short):
        raise (yield from _exhausted(key, window, pace, decision, now))
    held = decision.held
    if found is None:
        yield from _begin(key, policy, window, pace)
    yield (
        "UPDATE eco_windows SET requests = requests + 1, open = open + 1, "
        "held_tokens = held_tokens + ?, held_nano = held_nano + ? "
        "WHERE key_id = ? AND start = ? AND seconds = ?",
        (held.tokens, held.nano, key, window.start, span.seconds),
    )
    yield from _enter(owner, now)
    yield from _insert(grant_id, key, window, held, now, owner, slot, lease=0, opened=1)
    made = Grant(grant_id, key, decision.budget, decision.price, decision.crowded)
    return Opened(made, held)


def settle(grant_id: GrantId, key: KeyId, spent: Spending, now: float) -> Operation[None]:
    """See `KeyStore.settle`."""
    try:
        state = yield from locked(key, revoked_too=True)
    except UnknownKey:
        return  # deleted, and all its accounts with it
    rows = yield (
        "SELECT start, seconds, tokens, nano, at FROM eco_grants WHERE id = ? AND key_id = ?",
        (grant_id, key),
    )
    if not rows:
        yield from _corrected(grant_id, key, spent)
        return
    start, seconds, at = real(rows[0][0]), whole(rows[0][1]), real(rows[0][4])
    held = Sum(whole(rows[0][2]), whole(rows[0][3]))
    cost = charge(held, spent)
    yield "DELETE FROM eco_grants WHERE id = ?", (grant_id,)
    yield from book(key, start, seconds, cost=cost, held=NOTHING - held, opened=-1)
    window = yield from window_at(key, start, seconds)
    policy = state.policy
    if window is not None and policy.fleet and policy.span(now).start == start:
        paced = repriced(policy, window, state.pace, [(cost, now - at)], now)
        yield "UPDATE eco_keys SET pace = ? WHERE id = ?", (paced.to_json(), key)


def synced(key: KeyId, report: Report, now: float, owner: Owner) -> Operation[Synced]:
    """Book what a lease's grants have cost, and make it larger or smaller."""
    state = yield from locked(key, revoked_too=True)
    policy = state.policy
    span = policy.span(now)
    current = (span.start, span.seconds) == (report.start, report.seconds)
    # Also a new one may be there already: its transaction was whole, and the answer got lost.
    row = yield from _lease_row(report.id, key)
    if row is None and not report.new:
        window = Window(report.start, report.start, seconds=report.seconds)
        return Synced(NOTHING, policy, state.pace, window, stop=True, gone=True)
    kept, booked, requests, opened = row or (NOTHING, NOTHING, 0, 0)
    cost = report.spent - booked
    left = kept.beyond(cost)
    if report.ends:
        left = left.least(report.held)
    yield from book(
        key,
        report.start,
        report.seconds,
        cost=cost,
        held=left - kept,
        opened=report.open - opened,
        requests=report.requests - requests,
    )
    found = yield from window_at(key, report.start, report.seconds)
    pace = state.pace
    if found is not None and policy.fleet and current:
        pace = repriced(policy, found, pace, report.costs, now)
    if found is not None:
        window = found
    else:
        # A new lease may be what opens a window.
        window, pace = yield from _next_window(key, replace(state, pace=pace), now)
        if not current:
            return Synced(NOTHING, policy, pace, window, stop=True, gone=True)
    rows = yield (
        "SELECT recall FROM eco_windows WHERE key_id = ? AND start = ? AND seconds = ?",
        (key, report.start, report.seconds),
    )
    recalled = bool(rows) and real(rows[0][0]) > now
    stop = not current or state.revoked or recalled or scarce(policy, window)
    more = NOTHING
    if not stop and not report.ends:
        rows = yield (
            "SELECT COALESCE(SUM(tokens), 0), COALESCE(SUM(nano), 0) FROM eco_grants "
            "WHERE key_id = ? AND start = ? AND seconds = ? AND lease = 1 AND id <> ?",
            (key, report.start, report.seconds, report.id),
        )
        others = Sum(whole(rows[0][0]), whole(rows[0][1]))
        free = left.beyond(report.held)
        more = lease_size(policy, window, others, free, report.wish, report.largest)
    if more != NOTHING:
        if found is None:
            yield from _begin(key, policy, window, pace)
        yield from book(key, report.start, report.seconds, held=more)
        left, window = left + more, replace(window, held=window.held + more)
    if row is None and left != NOTHING:
        yield from _enter(owner, now)
        yield from _insert(report.id, key, window, left, now, owner, report.slot, lease=1, opened=0)
    else:
        yield from _kept(report, left, now)
    if pace != state.pace:
        yield "UPDATE eco_keys SET pace = ? WHERE id = ?", (pace.to_json(), key)
    gone = (report.ends and not report.open) or (row is None and left == NOTHING)
    return Synced(left, policy, pace, window, stop, gone)


def recall(key: KeyId, now: float, until: float) -> Operation[None]:
    """Ask all processes to give back what they have leased of the window of `now`."""
    state = yield from locked(key)
    span = state.policy.span(now)
    yield (
        "UPDATE eco_windows SET recall = ? WHERE key_id = ? AND start = ? AND seconds = ?",
        (until, key, span.start, span.seconds),
    )


def book(
    key: KeyId,
    start: float,
    seconds: int,
    *,
    cost: Sum = NOTHING,
    held: Sum = NOTHING,
    opened: int = 0,
    requests: int = 0,
) -> Operation[None]:
    """Add to the counters of a window. What is spent stops at the greatest number."""
    tokens, nano = min(cost.tokens, _FULL // 2), min(cost.nano, _FULL // 2)
    yield (
        "UPDATE eco_windows SET requests = requests + ?, open = open + ?, "  # noqa: S608
        f"tokens = CASE WHEN tokens > ? THEN {_FULL} ELSE tokens + ? END, "
        f"nano = CASE WHEN nano > ? THEN {_FULL} ELSE nano + ? END, "
        "held_tokens = held_tokens + ?, held_nano = held_nano + ? "
        "WHERE key_id = ? AND start = ? AND seconds = ?",
        (
            requests,
            opened,
            *(_FULL - max(0, tokens), tokens, _FULL - max(0, nano), nano),
            *(held.tokens, held.nano, key, start, seconds),
        ),
    )


def _corrected(grant_id: GrantId, key: KeyId, spent: Spending) -> Operation[None]:
    """Its process was taken for dead: what it was charged with gives way to the truth, once."""
    rows = yield (
        "SELECT start, seconds, tokens, nano, charged_tokens, charged_nano FROM eco_released "
        "WHERE id = ? AND key_id = ?",
        (grant_id, key),
    )
    if rows:
        start, seconds, tokens, nano, charged_tokens, charged_nano = rows[0]
        cost = charge(Sum(whole(tokens), whole(nano)), spent)
        charged = Sum(whole(charged_tokens), whole(charged_nano))
        yield "DELETE FROM eco_released WHERE id = ?", (grant_id,)
        yield from book(key, real(start), whole(seconds), cost=cost - charged)


def _lease_row(lease: GrantId, key: KeyId) -> Operation[tuple[Sum, Sum, int, int] | None]:
    """What is kept for a lease, what is booked of it, for how many requests, and how many open.

    If its process was taken for dead it is opened again, as it was: what the lease held is charged
    in full until then, so there is room for all that the process has granted of it.
    """
    columns = "tokens, nano, booked_tokens, booked_nano, booked_requests, opened"
    query = f"SELECT {columns} FROM eco_grants WHERE id = ? AND key_id = ?"  # noqa: S608
    rows = yield query, (lease, key)
    if not rows:
        rows = yield (
            "SELECT start, seconds, tokens, nano, opened, charged_tokens, charged_nano "
            "FROM eco_released WHERE id = ? AND key_id = ?",
            (lease, key),
        )
        if not rows:
            return None
        start, seconds, tokens, nano, opened, charged_tokens, charged_nano = rows[0]
        yield (
            f"INSERT INTO eco_grants ({_GRANT}) SELECT {_GRANT} FROM eco_released "  # noqa: S608
            "WHERE id = ?",
            (lease,),
        )
        yield "DELETE FROM eco_released WHERE id = ?", (lease,)
        yield from book(
            key,
            real(start),
            whole(seconds),
            cost=NOTHING - Sum(whole(charged_tokens), whole(charged_nano)),
            held=Sum(whole(tokens), whole(nano)),
            opened=whole(opened),
        )
        rows = yield query, (lease, key)
    tokens, nano, booked_tokens, booked_nano, requests, opened = rows[0]
    return (
        Sum(whole(tokens), whole(nano)),
        Sum(whole(booked_tokens), whole(booked_nano)),
        whole(requests),
        whole(opened),
    )


def _kept(report: Report, left: Sum, now: float) -> Operation[None]:
    """The row of the lease, as it is from now on."""
    if report.ends and not report.open:
        yield "DELETE FROM eco_grants WHERE id = ?", (report.id,)
        return
    yield (
        "UPDATE eco_grants SET tokens = ?, nano = ?, booked_tokens = ?, booked_nano = ?, "
        "booked_requests = ?, opened = ?, at = ? WHERE id = ?",
        (
            *(left.tokens, left.nano, report.spent.tokens, report.spent.nano),
            *(report.requests, report.open, now, report.id),
        ),
    )


def _insert(
    grant_id: GrantId,
    key: KeyId,
    window: Window,
    held: Sum,
    now: float,
    owner: Owner,
    slot: int,
    *,
    lease: int,
    opened: int,
) -> Operation[None]:
    yield (
        f"INSERT INTO eco_grants ({_GRANT}) "  # noqa: S608
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, 0, 0, ?)",
        (
            *(grant_id, key, window.seconds, window.start, held.tokens, held.nano, now),
            *(owner.process, slot, lease, opened),
        ),
    )


def _enter(owner: Owner, now: float) -> Operation[None]:
    """The process is there: it has a row as long as it has grants."""
    yield (
        "INSERT INTO eco_processes (id, name, started, seen) VALUES (?, ?, ?, ?) "
        "ON CONFLICT (id) DO NOTHING",
        (owner.process, owner.name, now, now),
    )


def _next_window(key: KeyId, state: Locked, now: float) -> Operation[tuple[Window, PacingState]]:
    """A window that nothing has been granted of, and the pace in it."""
    span, pace = state.policy.span(now), state.pace
    window = Window(span.start, max(span.start, state.created), seconds=span.seconds)
    if pace.window != span.start:
        last = yield from _last_requests(key, state.policy, span.start)
        pace = replace(pace, window=span.start, last=last)
    return window, pace


def _begin(key: KeyId, policy: KeyPolicy, window: Window, pace: PacingState) -> Operation[None]:
    yield from _forget_old(key, policy, window.start)
    yield (
        "INSERT INTO eco_windows (key_id, seconds, start, since, requests, open, tokens, nano, "
        "held_tokens, held_nano) VALUES (?, ?, ?, ?, 0, 0, 0, 0, 0, 0)",
        (key, window.seconds, window.start, window.since),
    )
    yield "UPDATE eco_keys SET pace = ? WHERE id = ?", (pace.to_json(), key)


def _last_requests(key: KeyId, policy: KeyPolicy, start: float) -> Operation[float]:
    """Requests of the window just before, scaled to a whole one; 0 if there was none."""
    span = policy.span(start - 0.5)
    before = yield from window_at(key, span.start, span.seconds)
    if before is None:
        return 0.0
    used = start - before.since
    return before.requests * span.seconds / used if used > 0 else 0.0


def _forget_old(key: KeyId, policy: KeyPolicy, start: float) -> Operation[None]:
    seconds = policy.span(start).seconds
    # The days, weeks and months of a zone are not all of one length.
    low, high = (seconds, seconds) if policy.calendar is None else (seconds // 2, seconds * 2)
    for table in ("eco_grants", "eco_released", "eco_windows"):
        yield (
            f"DELETE FROM {table} WHERE key_id = ? "  # noqa: S608
            "AND seconds BETWEEN ? AND ? AND start < ?",
            (key, low, high, start - _KEPT * seconds),
        )


def _exhausted(
    key: KeyId, window: Window, pace: PacingState, short: Short, now: float
) -> Operation[WindowExhausted]:
    if window.seconds is None:
        raise InputError("a window without a length")
    of_window = "FROM eco_grants WHERE key_id = ? AND start = ? AND seconds = ?"
    where = (key, window.start, window.seconds)
    at = 0 if short.unit == "tokens" else 1
    sums = "SELECT COALESCE(SUM(tokens), 0), COALESCE(SUM(nano), 0)"
    rows = yield f"{sums} {of_window} AND at > ?", (*where, now - _SOON)
    returning = whole(rows[0][at])
    rows = yield f"{sums} {of_window} AND lease = 1", where
    leased = whole(rows[0][at])
    ends = window.start + window.seconds - now
    scale, word = (1, "tokens") if short.unit == "tokens" else (10**9, "dollars")
    message = (
        f"the key's window of {window.seconds} s has {short.free / scale:.10g} of "
        f"{short.limit / scale:.10g} {word} left (requests under way count as taken), and this "
        f"request needs {short.needed / scale:.10g}"
    )
    crowded = False
    if short.needed > short.limit:
        wait = None
        message += ": more than a whole window; lower the request's budget"
    elif short.free + returning >= short.needed:
        wait, crowded = min(ends, max(1.0, pace.seconds)), True
        message += "; requests under way may give some of it back"
    else:
        wait = ends
        message += f"; the next window begins in {ends:.0f} s"
    return WindowExhausted(
        message,
        unit=short.unit,
        retry_after=wait,
        crowded=crowded,
        leased=leased > 0 and short.free + leased >= short.needed,
    )
