"""Every event survives its line of JSON, in any reader; trace files survive a crash."""

from __future__ import annotations

import json
import math
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecoalign.budget import Amount
from ecoalign.errors import InputError
from ecoalign.graph import ActionKind, Candidate, Forecast, Region, ValuedAction
from ecoalign.graph._thoughts import Thought, ThoughtId, ThoughtKind
from ecoalign.models import FinishReason, Reply, TokenLogprob, ToolCall, Usage
from ecoalign.trace import Trace, TraceWriter, read_trace
from ecoalign.trace.events import (
    ActionFailed,
    ActionsChosen,
    Called,
    CallFailure,
    Confirmed,
    Ending,
    Event,
    Finished,
    ImageInfo,
    PathChosen,
    Proposed,
    RootScanned,
    RunFailed,
    RunStarted,
    StepStarted,
    StopReason,
    ThoughtAdded,
    ThoughtMerged,
    ThoughtsDropped,
    Valued,
    from_json,
    to_json,
)

# What a model may write: line separators of Unicode, control characters, half a character.
texts = st.text(max_size=12) | st.sampled_from(
    ["a\u2028b\u2029", "\x85\x0b\x1c\r\n", "\ud800x", ""]
)
numbers = st.floats(allow_nan=False, allow_infinity=False)
positive = st.floats(0, 1e12)
counts = st.integers(0, 10**9)
ids = st.integers(0, 50).map(ThoughtId)
usages = st.builds(Usage, counts, counts, counts, counts)
amounts = st.builds(Amount, st.none() | counts, st.none() | positive, st.none() | positive)
regions = st.builds(
    Region, st.just(0.125), st.just(0.25), st.just(0.5), st.just(1.0), st.integers(0, 3)
)
thoughts = st.builds(
    Thought,
    ids,
    st.sampled_from(ThoughtKind),
    texts,
    st.floats(-1, 1),
    positive,
    positive,
    st.lists(ids, max_size=3).map(tuple),
    st.none() | regions,
)
forecasts = st.builds(Forecast, st.floats(-1, 1), positive, positive)
candidates = st.builds(
    Candidate,
    st.sampled_from(ActionKind),
    texts,
    st.lists(forecasts, max_size=3).map(tuple),
    st.none() | regions,
    st.lists(ids, max_size=2).map(tuple),
)
logprobs = st.builds(
    TokenLogprob,
    texts,
    numbers,
    st.dictionaries(texts.filter(lambda t: t.isascii()), numbers, max_size=2),
)
plain = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | numbers | st.text(max_size=5),
    lambda inner: st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=4,
)
objects = st.dictionaries(st.text(max_size=6), plain, max_size=3)
anything = st.floats(allow_nan=False)


def tuples(of: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.lists(of, max_size=3).map(tuple)


images = st.builds(ImageInfo, texts, counts, counts, tuples(texts))
failures = st.builds(
    CallFailure, texts, texts, st.booleans(), st.none() | positive, st.none() | texts
)
calls = st.builds(ToolCall, texts, texts, texts, st.sampled_from(["function", "custom"]))
replies = st.builds(
    Reply, st.sampled_from(get_args(FinishReason)), tuples(calls), st.none() | objects
)
EVENTS: dict[type, st.SearchStrategy[Any]] = {
    RunStarted: st.builds(
        RunStarted,
        texts, texts, tuples(texts), tuples(images),
        texts, texts, texts, objects, texts, texts, objects, texts, texts, objects, texts, objects,
        positive,
    ),
    Called: st.builds(
        Called,
        texts, texts, texts, counts, usages, st.none() | positive, positive, st.none() | texts,
        st.none() | usages, texts, st.none() | tuples(logprobs), texts,
        tuples(calls), st.none() | objects, st.none() | failures, positive, st.none() | counts,
    ),
    RootScanned: st.builds(RootScanned, thoughts, st.none() | texts, positive, texts, positive),
    StepStarted: st.builds(
        StepStarted, counts, amounts, positive, counts, positive, positive, positive, positive
    ),
    Proposed: st.builds(Proposed, ids, counts, tuples(candidates), counts, counts, positive),
    Valued: st.builds(
        Valued,
        counts,
        tuples(
            st.builds(
                ValuedAction, counts, ids, st.sampled_from(ActionKind), anything, st.booleans()
            )
        ),
        positive,
    ),
    ActionsChosen: st.builds(ActionsChosen, counts, tuples(counts), positive),
    ActionFailed: st.builds(ActionFailed, st.integers(-1, 9), texts, texts, texts, positive),
    ThoughtAdded: st.builds(
        ThoughtAdded, thoughts, st.integers(-1, 9), st.booleans(), texts, positive
    ),
    Confirmed: st.builds(Confirmed, st.integers(-1, 9), tuples(numbers), counts, positive),
    ThoughtMerged: st.builds(ThoughtMerged, ids, ids, thoughts, positive),
    ThoughtsDropped: st.builds(ThoughtsDropped, st.lists(ids).map(tuple), positive),
    PathChosen: st.builds(
        PathChosen,
        counts, tuples(ids), numbers, positive, positive, anything, st.booleans(), positive,
    ),
    Finished: st.builds(
        Finished,
        texts, st.booleans(), st.sampled_from(get_args(StopReason)) | texts,
        st.none() | numbers, st.none() | positive,
        tuples(thoughts), objects, texts, replies, objects, st.sampled_from(get_args(Ending)),
        positive,
    ),
    RunFailed: st.builds(RunFailed, texts, texts, objects, positive),
}  # fmt: skip
events = st.sampled_from(sorted(EVENTS, key=lambda kind: kind.__name__)).flatmap(EVENTS.__getitem__)


def test_every_kind_of_event_is_tried_here_with_all_its_fields() -> None:
    assert set(EVENTS) == set(get_args(Event))


@settings(max_examples=120, deadline=None)
@given(events)
def test_an_event_and_its_line_are_the_same_thing(event: Event) -> None:
    line = to_json(event)
    assert from_json(line) == event
    assert to_json(from_json(line)) == line
    assert "\n" not in line
    line.encode("utf-8")
    # Strict JSON: no NaN, no Infinity, which no browser would read.
    body = json.loads(line, parse_constant=pytest.fail)
    assert body["event"] == type(event).__name__
    named = {"event", *(field.name for field in fields(event))}
    # Only baselines have a detail, and only what was fetched with a key is redacted; what EcoAlign
    # writes is as it always was.
    blank = {name for name in ("detail", "redacted") if getattr(event, name, 1) in ({}, False)}
    assert set(body) == named - blank


def test_infinite_values_are_read_back_as_such() -> None:
    action = ValuedAction(3, ThoughtId(1), ActionKind.LOOK, -math.inf, False)
    again = from_json(to_json(Valued(1, (action,))))
    assert isinstance(again, Valued)
    assert again.actions[0].value == -math.inf


@pytest.mark.parametrize(
    "line",
    [
        "",
        "{",
        "[]",
        "3",
        "null",
        '"Finished"',
        "{}",
        '{"event": "Unknown"}',
        '{"event": 3}',
        '{"event": ["Finished"]}',
        '{"event": "Finished"}',
        '{"event": "ActionsChosen", "step": "x", "actions": []}',
        '{"event": "ThoughtAdded", "thought": {"id": 1}, "action": 1, "pruned": false}',
    ],
)
def test_a_line_that_is_no_event_is_a_clear_error(line: str) -> None:
    with pytest.raises(InputError, match="not a line of a trace"):
        from_json(line)


MANY: list[Event] = [
    ActionFailed(1, "execute", "ModelError", "a\u2028b \x85 \ud800"),
    ActionsChosen(1, (1, 2)),
    RunFailed("ModelError", "gone", {"calls": 2}),
]


def test_a_trace_file_is_whole_after_every_event(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    with TraceWriter(path) as writer:
        for count, event in enumerate(MANY, 1):
            writer.write(event)
            # Read while it is open: nothing waits in a buffer.
            assert read_trace(path) == tuple(MANY[:count])
    writer.close()
    Trace(tuple(MANY)).save(tmp_path / "saved.jsonl")
    assert (tmp_path / "saved.jsonl").read_bytes() == path.read_bytes()


def test_writing_only_appends(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    sizes = []
    with TraceWriter(path) as writer:
        before = b""
        for event in MANY:
            writer.write(event)
            now = path.read_bytes()
            assert now.startswith(before)
            before = now
            sizes.append(len(now))
    assert sizes == sorted(set(sizes))


def test_a_last_line_that_was_cut_off_anywhere_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    Trace(tuple(MANY)).save(path)
    whole = path.read_bytes()
    last = whole[:-1].rindex(b"\n") + 1
    for end in range(last, len(whole)):
        path.write_bytes(whole[:end])
        assert read_trace(path) == tuple(MANY[:2])
    path.write_bytes(whole)
    assert read_trace(path) == tuple(MANY)


def test_a_broken_line_in_the_middle_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    Trace(tuple(MANY)).save(path)
    lines = path.read_bytes().split(b"\n")
    lines[1] = lines[1][:-3]
    path.write_bytes(b"\n".join(lines))
    with pytest.raises(InputError, match="not a line of a trace"):
        read_trace(path)


def test_files_that_are_no_traces(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot read"):
        read_trace(tmp_path / "missing.jsonl")
    with pytest.raises(InputError, match="cannot write"):
        TraceWriter(tmp_path / "no" / "folder.jsonl")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="not UTF-8"):
        read_trace(tmp_path / "binary")
    (tmp_path / "empty").write_bytes(b"")
    assert read_trace(tmp_path / "empty") == ()


def test_a_line_of_brackets_is_an_error_in_words() -> None:
    for line in ("[" * 100_000, '{"event":"Finished","spent":' + '{"a":' * 100_000):
        with pytest.raises(InputError, match="not a line of a trace"):
            from_json(line)
