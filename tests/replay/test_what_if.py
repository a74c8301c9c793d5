"""What if a setting had been another: what is told is what a run under it really does."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from command import ROOT, run
from scripted import Script, action, actions, align, asking

from ecoalign.aligner import Aligner
from ecoalign.budget import Budget
from ecoalign.errors import InputError
from ecoalign.history import History
from ecoalign.models.embedded import EmbeddedModel
from ecoalign.models.fake import FakeModel
from ecoalign.query import Query
from ecoalign.replay import WhatIf, what_if
from ecoalign.settings import Settings
from ecoalign.trace import Trace
from ecoalign.trace.events import (
    ActionsChosen,
    Confirmed,
    Event,
    Finished,
    PathChosen,
    Proposed,
    RootScanned,
    RunFailed,
    StepStarted,
    ThoughtAdded,
    ThoughtMerged,
    Valued,
)

SIGNS = "What is the sum of the two numbers?"
THING = "how do i wake the thing on the sign?"
PICTURES = {SIGNS: "signs.png", THING: "thing.png", "what colour is the circle?": "thing.png"}

_DECISIONS = (
    *(RootScanned, StepStarted, Proposed, Valued, ActionsChosen, ThoughtAdded, Confirmed),
    *(ThoughtMerged, PathChosen, Finished),
)


def decided(events: Sequence[Event]) -> list[object]:
    """The decisions of a run, without times and what was spent."""
    plain: dict[str, Any] = {"at": 0.0}
    return [
        replace(event, **(plain | ({"spent": {}} if isinstance(event, Finished) else {})))
        for event in events
        if isinstance(event, _DECISIONS)
    ]


async def embedded(question: str, **settings: Any) -> tuple[Query, tuple[Event, ...]]:
    query = Query.of(ROOT / "examples" / PICTURES[question], question)
    aligner = Aligner(EmbeddedModel(), Settings.load(env={}, **settings))
    return query, tuple((await aligner.align(query, Budget(8000))).trace)


CHANGES: list[dict[str, Any]] = [
    *({"batch": n} for n in (1, 2)),
    *({"lambda0": price} for price in (0.0, 0.05, 0.4, 2.0)),
    *({"safety_threshold": least} for least in (0.5, 0.999)),
    *({"low_risk_threshold": least} for least in (0.0, 0.9, 1.0)),
    *({"verified_utility": least} for least in (0.1, 0.7, 1.0)),
    *({"max_thoughts": most} for most in (2, 3, 5)),
    *({"economy": economy} for economy in ("ratio", "no-cost")),
    *({"unsafe_answers": most} for most in (1, 5)),
    *({name: False} for name in ("satisfice", "draft", "merge", "confirm", "look", "fuse")),
    {"utility_aggregator": "sum"},
    {"aggregator": "last"},
    {"unsafe_root": "refuse"},
    {"delta": 0.3, "batch_margin": 0.0},
    {"max_depth": 1},
    {"risk_floor": 1.0},
    {"budget": "900"},
    {"budget": "100k"},
    {"speculate": "off"},
    {"seed": 3},
    {"temperature": 0.7},
    {"preset": "paper"},
    {"preset": "myopic"},
]


@pytest.mark.parametrize("changes", CHANGES, ids=str)
@pytest.mark.parametrize("question", list(PICTURES))
async def test_it_decides_as_a_run_under_these_settings_does(
    question: str, changes: dict[str, Any]
) -> None:
    query, events = await embedded(question)
    found = await what_if(events, query.pictures, changes)
    speculate = found.events[0].settings["speculate"]  # type: ignore[union-attr]
    real = changes | ({} if "preset" in changes else {"speculate": speculate})
    budget = Budget.parse(real.pop("budget", "8000"))
    aligner = Aligner(EmbeddedModel(), Settings.load(env={}, **real))
    truth = decided(tuple((await aligner.align(query, budget)).trace))
    told = decided(found.events)
    assert told == truth[: len(told)]
    assert found.reached == (len(told) == len(truth))
    assert (found.beyond == "") == found.reached
    if found.reached and isinstance(truth[-1], Finished) and isinstance(events[-1], Finished):
        ends = [one.text for one in found.decisions if one.kind == "end"]
        assert any("“" in text for text in ends) == (truth[-1].answer != events[-1].answer)


def lively(request: Any) -> Any:
    """A model whose answers follow from what it is asked alone."""
    return Script(
        propose=lambda p: actions(
            action("think", f"after {len(p.thoughts)}", [[9, 5, 200], [9, 8, 300]]),
            action("look", "there", [[9, 6, 200]], region=[0, 0, 500, 500]),
            action("answer", "", [[9, 7, 300]]),
        ),
        execute=lambda p: f"{p.kind} from {len(p.thoughts)}: {p.task}",
        score=lambda p: (7, 4) if p.kind == "think" else (9, 6 if p.kind == "answer" else 3),
        write=lambda p: "written",
    )(request)


async def test_with_nothing_changed_nothing_differs() -> None:
    for seed in range(4):
        model, query = FakeModel(lively), asking(seed % 3)
        events = tuple((await align(model, 30_000, query, max_thoughts=8 + seed)).trace)
        for changes in ({}, {"max_thoughts": 8 + seed}, {"timeout": 7, "history": True}):
            found = await what_if(events, query.pictures, changes, bound=model.bound)
            assert (found.decisions, found.reached) == ((), True)


async def told(
    query: Query, events: tuple[Event, ...], model: FakeModel, **changes: Any
) -> tuple[list[str], WhatIf]:
    found = await what_if(events, query.pictures, changes, bound=model.bound)
    return [one.text for one in found.decisions], found


async def test_decisions_are_told_in_words() -> None:
    model, query = FakeModel(lively), asking(1)
    events = tuple((await align(model, 30_000, query, lambda0=0.02)).trace)
    texts, _ = await told(query, events, model, safety_threshold=0.9)
    assert texts[0].startswith("round 1: thought t1 (think “think from")
    assert "would have been cut: safety 0.556 < 0.9" in texts[0]
    texts, found = await told(query, events, model, batch=1)
    assert texts[0].startswith("round 1: not chosen ")
    assert "; V " in texts[0]
    texts, found = await told(query, events, model, lambda0=5.0)
    assert "; V -" in texts[0]
    assert texts[-1] == "round 2: the search would have ended, and its answer been written"
    _, found = await told(query, events, model, temperature=0.5)
    assert not found.reached
    assert "before the first round the run would ask something new (the scan" in found.beyond
    texts, found = await told(query, events, model, max_thoughts=2)
    assert any("the search would have ended" in text for text in texts)


async def test_a_draft_that_would_not_stand_says_by_which_rule() -> None:
    script = Script(score=lambda p: (8, 9))
    model, query = script.model(), asking(1)
    events = tuple((await align(model, 40_000, query, draft=True)).trace)
    assert isinstance(events[-1], Finished)
    assert events[-1].ended == "drafted"
    for changes, why in (
        ({"low_risk_threshold": 0.8}, "its safety 0.778 < 0.8"),
        ({"lambda0": 0.05}, "what it leaves to gain, 0.222, > 0.15"),
        ({"low_risk_threshold": 1.0}, "its safety 0.778 < 1"),
    ):
        texts, found = await told(query, events, model, **changes)
        assert texts[0] == f"the draft would not have stood: {why}" + (
            ", what going on is worth" if "gain" in why else ""
        )
        assert found.decisions[0].kind == "draft"
        # And without the images, by the recorded scores alone.
        blind = await what_if(events, None, changes)
        assert [one.text for one in blind.decisions] == texts[:1]
        assert not blind.reached
        assert "without the images" in blind.beyond
    texts, _ = await told(query, events, model, draft=False)
    assert texts[0] == "no draft would have been written"


async def test_without_images_the_scores_tell_what_would_be_cut() -> None:
    model, query = FakeModel(lively), asking(1)
    events = tuple((await align(model, 30_000, query)).trace)
    blind = await what_if(events, None, {"safety_threshold": 0.9})
    assert blind.decisions
    assert all("would have been cut: safety 0.556 < 0.9" in one.text for one in blind.decisions)
    assert (await what_if(events, None, {"batch": 1})).decisions == ()
    alone = asking(0)
    events = tuple((await align(model, 30_000, alone)).trace)
    assert (await what_if(events, None, {}, bound=model.bound)).reached  # it had no images


async def test_of_a_run_that_was_interrupted_it_goes_as_far_as_that() -> None:
    query, events = await embedded(SIGNS)
    steps = [at for at, event in enumerate(events) if isinstance(event, StepStarted)]
    cut = (*events[: steps[1]], RunFailed("Cancelled", "the run was cancelled"))
    same = await what_if(cut, query.pictures, {})
    assert (same.decisions, same.reached) == ((), False)
    found = await what_if(cut, query.pictures, {"batch": 1})
    assert [one.kind for one in found.decisions] == ["chosen"]


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"bacth": 1}, "did you mean 'batch'"),
        ({"batch": 99}, "at most 16"),
        ({"preset": "papr"}, "did you mean 'paper'"),
        ({"model": "openai:x"}, "not in the trace"),
        ({"evaluator": "openai:x"}, "not in the trace"),
        ({"budget": "$1,500"}, "several ways"),
    ],
)
async def test_what_cannot_be_asked_is_an_error(changes: dict[str, object], complaint: str) -> None:
    query, events = await embedded(THING)
    with pytest.raises(InputError, match=complaint):
        await what_if(events, query.pictures, changes)


async def test_a_trace_that_does_not_run_again_is_not_blamed_on_the_setting() -> None:
    query, events = await embedded(SIGNS)
    other = [
        replace(event, thought=replace(event.thought, safety=-1.0), pruned=True)
        if isinstance(event, ThoughtAdded) and event.action > 0
        else event
        for event in events
    ]
    with pytest.raises(InputError, match="even with nothing changed"):
        await what_if(other, query.pictures, {"batch": 1})
    with pytest.raises(InputError, match="SHA-256"):
        await what_if(events, asking(1).pictures, {"batch": 1})


def test_on_the_command_line(tmp_path: Path) -> None:
    trace, image = "run.jsonl", str(ROOT / "examples" / "signs.png")
    done = run(tmp_path, "ask", image, SIGNS, "--trace", trace, "-q", ECOALIGN_RETRIES="1")
    assert done.returncode == 0, done.stderr
    done = run(tmp_path, "replay", trace, image, "--set", "economy=ratio")
    assert done.returncode == 0, done.stderr
    said = done.stdout.decode()
    assert said.startswith("what if: economy ratio (was surplus)\n- the path t0 > t1 (answer")
    assert "in the end: the answer “61.” instead of the answer “59.”" in said
    done = run(tmp_path, "replay", trace, image, "--set", "batch=1", "--json")
    body = json.loads(done.stdout)
    assert body["changes"] == {"batch": {"was": "4", "now": "1"}}
    assert body["decisions"][0]["kind"] == "chosen"
    assert body["reached"] is False
    done = run(tmp_path, "replay", trace, "--set", "safety_threshold=1")
    assert done.returncode == 0
    assert b"without the images" in done.stdout
    done = run(tmp_path, "replay", trace, image, "--set", "batch=1", "--set", "batch=2")
    assert (done.returncode, b"twice" in done.stderr) == (2, True)
    done = run(tmp_path, "replay", trace, image, "--set", "batch=1", "--html", "page.html")
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "page.html").read_text("utf-8")
    assert "if batch 1" in page
    assert "data:image/" in page
    for target, code in (("page.html", 0), (trace, 2), ("no/folder.html", 2)):
        done = run(tmp_path, "replay", trace, image, "--set", "batch=1", "--html", target)
        assert done.returncode == code, target
    assert run(tmp_path, "replay", trace, image, "--html", "page.html").returncode == 2
    assert run(tmp_path, "replay", trace, image).stdout.startswith(b"identical")


def test_images_that_the_history_knows_need_not_be_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    copy = tmp_path / "mine.png"
    copy.write_bytes((ROOT / "examples" / "signs.png").read_bytes())
    done = run(tmp_path, "ask", str(copy), SIGNS, "--trace", "run.jsonl", "-q")
    assert done.returncode == 0, done.stderr
    blind = run(tmp_path, "replay", "run.jsonl")
    assert (blind.returncode, b"SHA-256" in blind.stderr) == (2, True)
    query = Query.of(copy, SIGNS)
    History.open().add(KeyboardInterrupt(), query, files=[copy])
    done = run(tmp_path, "replay", "run.jsonl")
    assert done.stdout.startswith(b"identical"), done.stderr
    assert b"mine.png" in done.stderr
    copy.write_bytes((ROOT / "examples" / "thing.png").read_bytes())
    assert run(tmp_path, "replay", "run.jsonl").returncode == 2


async def test_the_run_as_it_would_have_been_can_be_saved_and_seen(tmp_path: Path) -> None:
    query, events = await embedded(SIGNS)
    found = await what_if(events, query.pictures, {"economy": "ratio"})
    Trace(found.events).save(tmp_path / "other.jsonl")
    assert json.dumps(found.to_json())
