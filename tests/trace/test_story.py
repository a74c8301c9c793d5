"""The story of a run: what is drawn of it, one event at a time."""

from __future__ import annotations

import copy
import itertools
import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecoalign.bench.suites import open_suite
from ecoalign.bench.suites.population import OnProfile, PopulationSuite
from ecoalign.budget import Budget, Ledger
from ecoalign.errors import InputError
from ecoalign.graph import Thought, ThoughtId, ThoughtKind
from ecoalign.methods import Answerer
from ecoalign.models.fake import FakeModel
from ecoalign.settings import Settings
from ecoalign.trace import Node, Story, layout
from ecoalign.trace.events import (
    Event,
    Finished,
    PathChosen,
    Proposed,
    RootScanned,
    RunFailed,
    RunStarted,
    ThoughtAdded,
    ThoughtMerged,
    ThoughtsDropped,
)


async def run(question: int, preset: str = "default") -> tuple[Event, ...]:
    """The events of a question of the embedded model's world."""
    sample = open_suite("world", split="dev").samples()[question]
    async with Answerer(Settings.load(preset=preset, env={})) as answerer:
        return (await answerer.answer(sample.query())).trace.events


def applied(frames: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What a drawing knows that has been handed these frames."""
    state: dict[str, Any] = {"nodes": {}, "gauges": {}}
    for frame in frames:
        for name, changed in frame.get("nodes", {}).items():
            state["nodes"].setdefault(name, {}).update(copy.deepcopy(changed))
        for action, value in frame.get("values", {}).items():
            for node in state["nodes"].values():
                for option in node.get("options", []):
                    if option["action"] == int(action):
                        option["value"] = value
        state["gauges"] |= frame.get("gauges", {})
        state |= {name: frame[name] for name in ("path", "frontier", "result") if name in frame}
    return state


@pytest.mark.parametrize("preset", ["default", "paper"])
@pytest.mark.parametrize("question", [3, 90, 260, 700, 1200])
async def test_the_frames_tell_all_that_the_story_knows(question: int, preset: str) -> None:
    events = await run(question, preset)
    story = Story.of(events)
    body = json.loads(json.dumps(story.to_json()))
    told = applied(body["frames"])
    assert len(body["frames"]) == len(events)
    whole = told["nodes"]
    assert list(whole) == list(story.nodes)
    for name, node in story.nodes.items():
        assert whole[name]["text"] == node.text
        assert whole[name]["marks"] == node.marks
        assert whole[name]["why"] == node.why
        assert [o["state"] for o in whole[name]["options"]] == [o.state for o in node.options]
    assert told["path"] == story.path
    assert told["result"] == story.result
    assert told["gauges"]["tokens"] == story.gauges.tokens
    assert set(body["layout"]) == set(story.nodes)


@pytest.mark.parametrize("preset", ["default", "paper", "mean-safety"])
async def test_it_agrees_with_the_run(preset: str) -> None:
    for question in (3, 90, 260, 700):
        events = await run(question, preset)
        story = Story.of(events)
        added = [e for e in events if isinstance(e, ThoughtAdded)]
        assert len(story.nodes) == len(added) + 1 == story.gauges.thoughts
        last = events[-1]
        assert isinstance(last, Finished)
        assert story.path == [f"t{thought.id}" for thought in last.path]
        assert story.gauges.tokens == last.spent["tokens"]["total"]
        assert story.gauges.calls == last.spent["calls"]
        limit = story.run["budget"]["tokens"]
        assert story.gauges.left == pytest.approx(1 - story.gauges.tokens / limit)
        stages = last.spent["by_stage"]
        assert {k: v["tokens"] for k, v in story.gauges.stages.items()} == {
            k: v["tokens"] for k, v in stages.items()
        }
        cut = {f"t{e.thought.id}" for e in added if e.pruned}
        cut |= {f"t{i}" for e in events if isinstance(e, ThoughtsDropped) for i in e.thoughts}
        assert {n.id for n in story.nodes.values() if "pruned" in n.marks} == cut
        for node in story.nodes.values():
            assert ("path" in node.marks) == (node.id in story.path)
        for chosen in (e for e in events if isinstance(e, PathChosen) and e.rank == 0):
            best = [one for one in story.frontier if one["chosen"]]
            assert [one["ids"] for one in best] == [[f"t{i}" for i in chosen.ids]]


async def test_a_path_of_the_frontier_is_no_worse_in_all_three_than_another() -> None:
    for question in (3, 90, 260, 700):
        frontier = Story.of(await run(question)).frontier
        for one in frontier:
            for other in frontier:
                worse = (
                    one["safety"] < other["safety"]
                    and one["utility"] < other["utility"]
                    and one["cost"] > other["cost"]
                )
                assert not worse


async def test_long_runs_of_simulated_models_are_told_as_well() -> None:
    """They merge, cut and confirm, which the embedded model seldom does."""
    seen: set[str] = set()
    for sample in PopulationSuite("dev").samples()[:12]:
        settings = Settings.load(preset="paper", env={}).replace(max_thoughts=48)
        method = OnProfile("ecoalign", settings)
        query = sample.query()
        answer = await method.answer(query, FakeModel(lambda _: ""), Ledger(Budget(tokens=1)))
        story = Story.of(answer.trace.events)
        assert applied(story.frames)["path"] == story.path == [f"t{t.id}" for t in answer.path]
        assert not {name for name in story.path if "pruned" in story.nodes[name].marks}
        assert {name for name, node in story.nodes.items() if "merged" in node.marks} == {
            f"t{e.merged}" for e in answer.trace.events if isinstance(e, ThoughtMerged)
        }
        seen |= {mark for node in story.nodes.values() for mark in node.marks}
    assert seen >= {"unsafe", "pruned", "path", "answer"}


def test_a_merged_thought_leaves_the_path_to_the_one_that_stands_for_it() -> None:
    def thought(i: int, *parents: int, safety: float = 1.0, utility: float = 0.5) -> Thought:
        kind = ThoughtKind.THINK if parents else ThoughtKind.ROOT
        ids = tuple(ThoughtId(p) for p in parents)
        return Thought(ThoughtId(i), kind, f"thought {i}", safety, utility, 10.0, ids)

    story = Story()
    story.see(RootScanned(thought(0), None, 1.0))
    story.see(ThoughtAdded(thought(1, 0, utility=0.2), -1, False, "verdict"))
    story.see(ThoughtAdded(thought(2, 0, utility=0.9), -1, False, "verdict"))
    assert story.path == ["t0", "t2"]
    frame = story.see(
        ThoughtMerged(ThoughtId(1), ThoughtId(2), thought(1, 0, safety=0.5, utility=0.9))
    )
    assert story.nodes["t2"].marks == ["merged"]
    assert story.nodes["t2"].into == "t1"
    assert story.path == ["t0", "t1"]
    assert frame["nodes"]["t1"]["safety"] == 0.5
    assert story.nodes["t1"].marks == ["path"]


def test_a_failed_run_has_a_result() -> None:
    story = Story()
    frame = story.see(RunFailed("ModelError", "the server is gone"))
    assert story.finished
    assert frame["result"]["error"] == "ModelError: the server is gone"


# -- the layout -----------------------------------------------------------------------------------


@st.composite
def trees(draw: st.DrawFn) -> list[Node]:
    """Nodes with parents among their elders; a few come from several, or from younger ones."""
    nodes = [Node("t0", "root")]
    for i in range(1, draw(st.integers(0, 40)) + 1):
        parents = draw(st.lists(st.integers(0, i - 1), min_size=1, max_size=3, unique=True))
        depth = 1 + max(nodes[p].depth for p in parents)
        nodes.append(Node(f"t{i}", "think", parents=[f"t{p}" for p in parents], depth=depth))
    if len(nodes) > 3 and draw(st.booleans()):
        # A merge may hand an elder the parents of a younger thought.
        nodes[1].parents.append(nodes[-1].id)
    return nodes


@given(trees())
def test_no_two_thoughts_of_a_layer_are_nearer_than_a_row(nodes: list[Node]) -> None:
    places = layout(nodes)
    assert min(y for _, y in places.values()) == 0.0
    layers: dict[float, list[float]] = {}
    for node in nodes:
        x, y = places[node.id]
        assert x == node.depth
        layers.setdefault(x, []).append(y)
    for rows in layers.values():
        rows.sort()
        assert all(b - a >= 0.999 for a, b in itertools.pairwise(rows))


@given(trees(), st.data())
def test_what_grows_never_reorders_its_elders(nodes: list[Node], data: st.DataObject) -> None:
    some = nodes[: data.draw(st.integers(1, len(nodes)))]
    before, after = layout(some), layout(nodes)
    for layer in {x for x, _ in before.values()}:
        inside = [node.id for node in some if before[node.id][0] == layer]
        by_row = sorted(inside, key=lambda name: before[name][1])
        assert by_row == sorted(inside, key=lambda name: after[name][1])


@pytest.mark.parametrize(
    "settings",
    [
        {"aggregator": "x"},
        {"utility_aggregator": ["a"]},
        {"economy": {}},
        {"safety_threshold": "0.5"},
        {"safety_threshold": [0]},
        {"safety_threshold": None},
        {"safety_threshold": True},
    ],
)
async def test_a_setting_that_is_none_is_an_error_in_words(settings: dict[str, Any]) -> None:
    started, *_ = await run(0)
    assert isinstance(started, RunStarted)
    made = replace(started, settings={**started.settings, **settings})
    with pytest.raises(InputError, match="a setting of the trace cannot be read"):
        Story().see(made)


async def test_a_trace_made_by_hand_cannot_make_a_page_without_end() -> None:
    events = list(await run(0))
    added = next(one for one in events if isinstance(one, ThoughtAdded))
    proposed = next(one for one in events if isinstance(one, Proposed))
    candidates = tuple(proposed.candidates[:1]) * 1500
    star = [events[0], replace(proposed, first=0, candidates=candidates)]
    chain = [events[0]]
    for i in range(1, 1500):
        star.append(replace(added, action=i, thought=replace(added.thought, id=ThoughtId(i))))
        thought = replace(added.thought, id=ThoughtId(i), parents=(ThoughtId(i - 1),))
        chain.append(replace(added, action=-1, thought=thought))
    for one in (star, chain):
        story = Story.of(one)
        assert len(json.dumps(story.to_json())) < 5_000_000
        assert len(story.nodes) == 1500
