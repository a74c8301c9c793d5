"""The graph: pruning, fusing, merging, and what each does to safety, edges and order."""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING

import networkx as nx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecoalign.graph import ENDS, ROOT, Region, Thought, ThoughtGraph, ThoughtId, ThoughtKind
from ecoalign.graph._thought_graph import PrunedError
from ecoalign.graph.economics import SafetyAggregator

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType

    from _typeshed import TraceFunction

THINK, ANSWER, FUSE = ThoughtKind.THINK, ThoughtKind.ANSWER, ThoughtKind.FUSE


def grow(
    graph: ThoughtGraph,
    parent: int = 0,
    safety: float = 1.0,
    kind: ThoughtKind = THINK,
    *,
    utility: float = 1.0,
    cost: float = 10.0,
) -> ThoughtId:
    new = graph.add(
        kind, "text", parent=ThoughtId(parent), safety=safety, utility=utility, cost=cost
    )
    return new.id


def fuse(graph: ThoughtGraph, parents: Sequence[int], safety: float = 1.0) -> Thought:
    ids = [ThoughtId(p) for p in parents]
    return graph.fuse(ids, "both", safety=safety, utility=1.0, cost=10.0)


def test_ids_are_indexes_and_edges_run_both_ways() -> None:
    graph = ThoughtGraph("a caption", safety=-0.3, cost=50)
    first, second = grow(graph), grow(graph)
    below = grow(graph, first)
    assert [first, second, below] == [1, 2, 3]
    assert graph.children(ROOT) == (1, 2)
    assert graph.children(first) == (3,)
    assert graph.parents(below) == (1,)
    assert [t.id for t in graph] == [0, 1, 2, 3]
    assert len(graph) == 4
    assert graph.root.text == "a caption"


def test_the_roots_safety_is_in_no_path() -> None:
    graph = ThoughtGraph("risky", safety=-0.9)
    below = grow(graph, safety=0.8)
    assert graph.floor(ROOT) == 1.0
    assert graph.floor(below) == 0.8
    assert not graph.is_pruned(ROOT)


@pytest.mark.parametrize(("safety", "pruned"), [(-1.0, True), (-1e-9, True), (0.0, False)])
def test_a_negative_safety_is_pruned_at_once(safety: float, pruned: bool) -> None:
    graph = ThoughtGraph("root")
    for kind in (THINK, ANSWER):
        new = grow(graph, safety=safety, kind=kind)
        assert graph.is_pruned(new) is pruned
        assert (new in graph.open) is (not pruned and kind is THINK)
        assert (new in graph.ends) is (not pruned and kind is ANSWER)


def test_nothing_grows_from_a_pruned_thought() -> None:
    graph = ThoughtGraph("root")
    bad, good = grow(graph, safety=-0.1), grow(graph)
    with pytest.raises(PrunedError) as caught:
        grow(graph, bad)
    assert caught.value.thought == bad
    with pytest.raises(PrunedError):
        fuse(graph, [good, bad])
    assert len(graph) == 3
    assert graph.children(good) == ()


def test_the_threshold_can_be_stricter_but_not_laxer() -> None:
    graph = ThoughtGraph("root", threshold=0.5)
    assert graph.is_pruned(grow(graph, safety=0.49))
    assert not graph.is_pruned(grow(graph, safety=0.5))
    for wrong in (-0.1, 1.1, math.nan):
        with pytest.raises(ValueError, match="threshold"):
            ThoughtGraph("root", threshold=wrong)


def test_a_fused_thought_is_as_safe_as_its_least_safe_ancestor() -> None:
    graph = ThoughtGraph("root")
    risky = grow(graph, safety=0.2)
    via = grow(graph, risky, safety=0.9)
    clean = grow(graph, safety=0.8)
    fused = fuse(graph, [via, clean], safety=1.0)
    assert fused.safety == 0.2
    assert graph[fused.id].safety == graph.floor(fused.id) == 0.2
    assert fuse(graph, [via, clean], safety=0.1).safety == 0.1
    again = grow(graph, fused.id, safety=0.9)
    assert graph[again].safety == 0.9
    assert graph.floor(again) == 0.2


def test_fusing_needs_two_thoughts_beneath_the_root() -> None:
    graph = ThoughtGraph("root")
    one = grow(graph)
    for parents in ([one], [one, one], [], [ROOT, one]):
        with pytest.raises(ValueError, match="Fusing"):
            fuse(graph, parents)
    for kind in (FUSE, ThoughtKind.ROOT):
        with pytest.raises(ValueError, match="cannot be added"):
            grow(graph, kind=kind)


def test_fusing_what_was_merged_meanwhile_keeps_the_floor_of_both() -> None:
    graph = ThoughtGraph("root")
    low = grow(graph, safety=0.3)
    one, two = grow(graph), grow(graph, low)
    assert graph.merge(one, two)
    fused = fuse(graph, [one, two])
    assert fused.parents == (one,)
    assert fused.safety == 0.3


def test_merging_keeps_the_least_safety_the_most_utility_and_its_own_cost() -> None:
    graph = ThoughtGraph("root")
    a, b = grow(graph), grow(graph)
    keep = grow(graph, a, safety=0.9, utility=1.0, cost=10.0)
    gone = grow(graph, b, safety=0.4, utility=3.0, cost=5.0)
    child = grow(graph, gone)
    assert graph.merge(keep, gone)
    merged = graph[keep]
    assert (merged.safety, merged.utility, merged.cost) == (0.4, 3.0, 10.0)
    assert merged.parents == (a, b)
    assert graph.children(keep) == (child,)
    assert graph.parents(child) == (keep,)
    assert graph.children(b) == (keep,)
    assert graph[gone] == merged
    assert graph.is_merged(gone)
    assert gone not in graph.open
    assert [t.id for t in graph] == [0, a, b, keep, child]


def test_a_merged_id_stands_for_its_representative_everywhere() -> None:
    graph = ThoughtGraph("root")
    ids = [grow(graph) for _ in range(4)]
    assert graph.merge(ids[1], ids[0])
    assert graph.merge(ids[2], ids[1])
    assert graph.merge(ids[3], ids[0])
    assert [graph.resolve(i) for i in ids] == [ids[3]] * 4
    assert graph[ids[0]] == graph[ids[3]]
    assert graph.parents(grow(graph, ids[0])) == (ids[3],)
    assert not graph.merge(ids[0], ids[2])


def test_merges_that_are_refused_change_nothing() -> None:
    graph = ThoughtGraph("root")
    top = grow(graph)
    middle = grow(graph, top)
    low = grow(graph, middle)
    answer = grow(graph, kind=ANSWER)
    bad = grow(graph, safety=-1)
    before = list(graph)
    for keep, gone in [
        (top, low), (low, top), (top, middle), (top, top), (top, answer), (ROOT, ROOT),
        (ROOT, top), (top, ROOT), (top, bad), (bad, top),
    ]:  # fmt: skip
        assert not graph.merge(keep, gone)
    assert list(graph) == before


def test_a_cycle_through_an_earlier_merge_is_refused() -> None:
    graph = ThoughtGraph("root")
    a, b = grow(graph), grow(graph)
    below_a, below_b = grow(graph, a), grow(graph, b)
    assert graph.merge(b, below_a)  # now a -> b -> below_b
    assert not graph.merge(a, below_b)
    assert not graph.merge(below_b, a)
    assert [t.id for t in graph.topological()] == [ROOT, a, b, below_b]


def test_a_later_merge_lowers_the_fused_thoughts_beneath_it() -> None:
    graph = ThoughtGraph("root")
    a, b, twin = grow(graph, safety=0.9), grow(graph, safety=0.8), grow(graph, safety=0.3)
    middle = grow(graph, a)
    fused = fuse(graph, [middle, b])
    again = fuse(graph, [grow(graph, fused.id), b])
    assert (fused.safety, again.safety) == (0.8, 0.8)
    assert graph.merge(a, twin)
    assert graph[fused.id].safety == graph[again.id].safety == 0.3
    assert graph[middle].safety == 1.0
    assert graph.floor(middle) == 0.3


def test_a_new_alternative_parent_lowers_the_fused_thoughts_beneath_it() -> None:
    graph = ThoughtGraph("root")
    a, b, low = grow(graph), grow(graph), grow(graph, safety=0.2)
    fused = fuse(graph, [a, b])
    assert graph.merge(a, grow(graph, low))
    assert graph[fused.id].safety == 0.2


def test_merged_fusions_keep_the_least_of_both() -> None:
    graph = ThoughtGraph("root")
    a, b, low = grow(graph), grow(graph), grow(graph, safety=0.2)
    keep, gone = fuse(graph, [a, b]), fuse(graph, [b, low])
    assert graph.merge(keep.id, gone.id)
    assert graph[keep.id].safety == 0.2
    assert graph.parents(keep.id) == (a, b, low)


@pytest.mark.parametrize("swap", [False, True])
def test_a_child_is_not_cleared_by_a_history_that_is_not_its_own(swap: bool) -> None:
    graph = ThoughtGraph("root")
    risky, clean = grow(graph, safety=0.2), grow(graph, safety=0.9)
    below_risky, below_clean = grow(graph, risky), grow(graph, clean)
    from_risky, from_clean = grow(graph, below_risky), grow(graph, below_clean)
    pair = (below_risky, below_clean) if swap else (below_clean, below_risky)
    assert graph.merge(*pair)
    assert graph[from_risky].safety == 0.2
    assert graph[from_clean].safety == 1.0
    later = grow(graph, below_risky)
    assert clean in [t.id for t in graph.path_to(later)]


def test_pruning_takes_what_cannot_stand_without_it() -> None:
    graph = ThoughtGraph("root")
    a, b, twin_above = grow(graph), grow(graph), grow(graph)
    only, shared = grow(graph, a), grow(graph, a)
    assert graph.merge(shared, grow(graph, twin_above))
    fused = fuse(graph, [a, b]).id
    end = grow(graph, fused, kind=ANSWER)
    assert set(graph.prune(a)) == {a, only, fused, end}
    assert not graph.is_pruned(shared)
    assert [t.id for t in graph.path_to(shared)] == [ROOT, twin_above, shared]
    assert graph.prune(a) == ()
    assert list(graph.ends) == []
    with pytest.raises(ValueError, match="root"):
        graph.prune(ROOT)


def test_open_thoughts_leave_when_expanded_merged_or_pruned() -> None:
    graph = ThoughtGraph("root")
    assert list(graph.open) == [ROOT]
    a, b, c = grow(graph), grow(graph), grow(graph)
    view = graph.open
    graph.expanded(ROOT)
    graph.expanded(ROOT)
    assert list(view) == [a, b, c]
    graph.prune(b)
    assert graph.merge(a, c)
    assert list(view) == [a]
    graph.expanded(c)
    assert list(view) == []


def test_paths() -> None:
    graph = ThoughtGraph("root")
    a, b = grow(graph), grow(graph)
    fused = fuse(graph, [a, b]).id
    assert graph.parents(fused) == (a, b)
    assert [t.id for t in graph.path([ROOT, b, fused])] == [ROOT, b, fused]
    for wrong in ([], [a, fused], [ROOT, fused], [ROOT, a, b]):
        with pytest.raises(ValueError, match=r"path|edge"):
            graph.path([ThoughtId(i) for i in wrong])
    for unknown in (-1, 9):
        with pytest.raises(ValueError, match="no thought"):
            graph[ThoughtId(unknown)]


@pytest.mark.parametrize(
    "box",
    [(0.5, 0, 0.5, 1), (0.6, 0, 0.5, 1), (-0.1, 0, 1, 1), (0, 0, 1.1, 1), (0, 0.5, 1, 0.5),
     (0, -0.1, 1, 1), (0, 0, 1, 1.1), (math.nan, 0, 1, 1), (0, 0, 1, math.nan)],
)  # fmt: skip
def test_a_region_must_be_a_rectangle_of_the_image(box: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="region"):
        Region(box[0], box[1], box[2], box[3])


def test_a_region_may_be_the_whole_of_any_image() -> None:
    assert Region(0, 0, 1, 1, image=2).image == 2
    with pytest.raises(ValueError, match="image"):
        Region(0, 0, 1, 1, image=-1)


@pytest.mark.parametrize(
    ("safety", "utility", "cost"),
    [(1.1, 1, 1), (-1.1, 1, 1), (math.nan, 1, 1), (1, -1, 1), (1, math.inf, 1), (1, 1, -1),
     (1, 1, math.nan)],
)  # fmt: skip
def test_scores_out_of_range_are_refused_and_add_nothing(
    safety: float, utility: float, cost: float
) -> None:
    graph = ThoughtGraph("root")
    with pytest.raises(ValueError, match="must be"):
        grow(graph, safety=safety, utility=utility, cost=cost)
    assert len(graph) == 1
    assert graph.children(ROOT) == ()


@st.composite
def histories(draw: st.DrawFn) -> ThoughtGraph:
    """Random operations, some of which the graph refuses."""
    graph = ThoughtGraph("root")
    safety = st.sampled_from([-0.5, 0.0, 0.25, 0.5, 0.75, 1.0])
    for _ in range(draw(st.integers(1, 25))):
        pick = st.integers(0, len(graph) - 1)
        action = draw(st.sampled_from(["add", "add", "answer", "fuse", "merge", "merge", "prune"]))
        a, b = draw(pick), draw(pick)
        try:
            if action == "merge":
                graph.merge(ThoughtId(a), ThoughtId(b))
            elif action == "fuse":
                fuse(graph, [a, b], draw(safety))
            elif action == "prune":
                graph.prune(ThoughtId(a))
            else:
                grow(graph, a, draw(safety), ANSWER if action == "answer" else THINK)
        except (PrunedError, ValueError):
            continue
    return graph


def as_networkx(graph: ThoughtGraph) -> nx.DiGraph[int]:
    net: nx.DiGraph[int] = nx.DiGraph()
    for thought in range(len(graph)):
        if not graph.is_merged(ThoughtId(thought)):
            net.add_node(thought)
            net.add_edges_from((p, thought) for p in graph.parents(ThoughtId(thought)))
    return net


@given(histories())
@settings(max_examples=150, deadline=None)
def test_whatever_happens_the_graph_stays_sound(graph: ThoughtGraph) -> None:
    net = as_networkx(graph)
    assert nx.is_directed_acyclic_graph(net)
    assert set(nx.descendants(net, 0)) | {0} == set(net)
    live = {t.id for t in graph}
    order = [t.id for t in graph.topological()]
    assert sorted(order) == sorted(live)
    assert set(graph.ends) == {t.id for t in graph if t.kind in ENDS}
    assert set(graph.open) == {t.id for t in graph if t.kind not in ENDS}
    for thought in net:
        node = graph[ThoughtId(thought)]
        assert set(graph.children(node.id)) == set(net.successors(thought))
        above = {ThoughtId(a) for a in nx.ancestors(net, thought) if a}
        own = [] if node.id == ROOT else [node.safety]
        floor = min([1.0, *own, *(graph[a].safety for a in above)])
        if node.id in live:
            assert graph.floor(node.id) <= floor
            assert all(order.index(p) < order.index(node.id) for p in node.parents if p in live)
            assert any(p in live for p in node.parents) or node.id == ROOT
            path = graph.path_to(node.id)
            assert {t.id for t in path} <= live
            assert graph.path([t.id for t in path]) == path
        if node.kind is FUSE:
            assert node.safety <= min(graph.floor(p) for p in node.parents)
            assert node.id not in live or set(node.parents) <= live
        # No floor is lower than some safety that was really given.
        assert graph.floor(node.id) in {-0.5, 0.0, 0.25, 0.5, 0.75, 1.0}


@pytest.mark.parametrize("merging", [False, True])
def test_the_work_per_expansion_does_not_grow_with_the_graph(merging: bool) -> None:
    """Counted, not timed: lines executed inside the graph for late expansions against early."""
    lines = 0

    def count(frame: FrameType, event: str, _: object) -> TraceFunction | None:
        nonlocal lines
        if frame.f_code.co_filename.endswith("graph.py"):
            lines += event == "line"
            return count
        return None

    graph = ThoughtGraph("root")
    before, steps = sys.gettrace(), []
    sys.settrace(count)
    try:
        for step in range(2000):
            lines = 0
            parent = next(iter(graph.open))
            graph.expanded(parent)
            twins = [grow(graph, parent) for _ in range(3)]
            if merging and step % 2:
                graph.merge(twins[0], twins[1])
            steps.append(lines)
    finally:
        sys.settrace(before)
    assert max(steps[1000:]) <= max(steps[:100])


def by(aggregator: SafetyAggregator, *safeties: float, end: ThoughtKind = ANSWER) -> list[bool]:
    """Whether each thought of a chain lives, as far as there is one."""
    graph, last, alive = ThoughtGraph("root", safety=-1.0, aggregator=aggregator), ROOT, []
    for i, safety in enumerate(safeties):
        kind = end if i == len(safeties) - 1 else THINK
        last = grow(graph, last, safety, kind)
        alive.append(not graph.is_pruned(last))
        if not alive[-1]:
            break
    return alive


def test_what_is_pruned_follows_from_the_safety_of_the_path() -> None:
    """If none with s < 0 ever lived, `last` and `mean` could not differ from the weakest link."""
    last, mean, least = SafetyAggregator.LAST, SafetyAggregator.MEAN, SafetyAggregator.MIN
    assert by(least, 1.0, -0.5) == by(least, 1.0, -0.5, 1.0) == [True, False]
    assert by(last, 1.0, -0.5, 1.0) == by(mean, 1.0, -0.5, 1.0) == [True, True, True]
    # By the last thought only an end is held to it, by the average every thought is.
    assert by(last, -1.0, 0.0) == [True, True]
    assert by(last, 1.0, 1.0, -0.1) == [True, True, False]
    assert by(mean, -0.1, 1.0) == [False]
    assert by(mean, 1.0, -0.5, -0.6, end=THINK) == [True, True, False]
    assert by(mean, 1.0, 0.5, -0.6) == [True, True, True]


@pytest.mark.parametrize(
    ("aggregator", "safety", "fused"),
    [
        (SafetyAggregator.MIN, 0.1, 0.1),
        (SafetyAggregator.LAST, 1.0, 0.4),
        (SafetyAggregator.MEAN, 0.7, 0.4),
    ],
)
def test_the_safety_of_a_path_and_of_what_is_fused_from_two(
    aggregator: SafetyAggregator, safety: float, fused: float
) -> None:
    graph = ThoughtGraph("root", safety=-1.0, aggregator=aggregator)
    one = grow(graph, grow(graph, grow(graph, ROOT, 0.1), 1.0), 1.0)
    two = grow(graph, ROOT, 0.4)
    assert graph.path_safety(ROOT) == 1.0
    assert graph.path_safety(one) == pytest.approx(safety)
    made = graph.fuse([one, two], "both", safety=1.0, utility=1.0, cost=1.0)
    assert made.safety == fused


@pytest.mark.parametrize("aggregator", SafetyAggregator)
def test_only_by_the_weakest_link_do_children_of_a_merged_thought_keep_its_history(
    aggregator: SafetyAggregator,
) -> None:
    graph = ThoughtGraph("root", aggregator=aggregator)
    weak, strong = grow(graph, ROOT, 0.1), grow(graph, ROOT, 0.9)
    below, other = grow(graph, weak, 0.8), grow(graph, strong, 0.8)
    child = grow(graph, below, 0.9)
    assert graph.merge(other, below)
    assert graph[child].safety == (0.1 if aggregator is SafetyAggregator.MIN else 0.9)
