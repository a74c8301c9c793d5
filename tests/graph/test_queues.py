"""What a search asks of its graph at every step: which actions compete, and which wait."""

from __future__ import annotations

import pytest

from ecoalign.graph import (
    ROOT,
    ActionKind,
    ActionQueue,
    BestAnswer,
    Candidate,
    ExpansionQueue,
    PendingAction,
    ThoughtGraph,
    ThoughtId,
    ThoughtKind,
    ValuedAction,
)
from ecoalign.graph.economics import SafetyAggregator


def pending(number: int, *partners: int) -> PendingAction:
    others = tuple(map(ThoughtId, partners))
    return PendingAction(number, ROOT, Candidate(ActionKind.THINK, "", (), partners=others))


def ranked(*numbers: int) -> list[ValuedAction]:
    """So many actions, the best first."""
    return [
        ValuedAction(number, ROOT, ActionKind.THINK, -float(place), affordable=True)
        for place, number in enumerate(numbers)
    ]


def test_the_least_valuable_wait_until_there_is_room() -> None:
    queue = ActionQueue(size=2)
    for number in range(4):
        queue.add(pending(number))
    queue.settle(ranked(3, 1, 0, 2))
    assert [one.id for one in queue] == [1, 3]
    assert (len(queue), queue.waiting) == (4, 2)
    queue.refill()
    assert [one.id for one in queue] == [1, 3]
    queue.remove(3)
    queue.refill()
    assert [one.id for one in queue] == [1, 0]  # of higher last value than 2
    assert queue.waiting == 1
    assert queue.call_all()
    assert [one.id for one in queue] == [1, 0, 2]
    assert not queue.call_all()


def test_what_fits_does_not_wait() -> None:
    queue = ActionQueue(size=2)
    queue.add(pending(0))
    queue.add(pending(1))
    queue.settle(ranked(0))
    assert [one.id for one in queue] == [0, 1]


def test_a_thought_is_concerned_while_an_action_needs_it() -> None:
    queue = ActionQueue(size=1)
    queue.add(pending(0, 7))
    queue.add(pending(1, 7, 8))
    assert queue.concerns(ROOT)
    queue.keep([queue[0]])
    assert queue.concerns(ThoughtId(7))
    assert not queue.concerns(ThoughtId(8))
    queue.remove(0)
    assert not queue.concerns(ThoughtId(7))
    assert not queue.concerns(ROOT)


def test_openings_give_the_most_promising_open_thought_and_of_equals_the_newest() -> None:
    graph = ThoughtGraph("root")
    openings = ExpansionQueue(deepest=2)
    graph.expanded(ROOT)

    def grow(parent: ThoughtId, promise: float, safety: float = 1.0) -> ThoughtId:
        new = graph.add(
            ThoughtKind.THINK, "x", parent=parent, safety=safety, utility=0.5, cost=1.0
        ).id
        openings.add(new, promise)
        return new

    one, two = grow(ROOT, 0.5), grow(ROOT, 0.5)
    low = grow(ROOT, 0.1)
    assert openings.first(graph) == (two, 0.5)
    assert openings.first(graph) == (two, 0.5)  # until it is expanded
    graph.expanded(two)
    assert openings.first(graph) == (one, 0.5)
    deep = grow(grow(one, 0.9), 1.0)
    assert len(graph.path_to(deep)) - 1 == 3
    graph.expanded(one)
    # What is two steps deep may not be expanded, however promising.
    assert openings.first(graph) == (low, 0.1)
    graph.prune(low)
    assert openings.first(graph) == (None, 0.0)


def test_the_best_answer_follows_merges_up_and_down() -> None:
    graph, best = ThoughtGraph("root"), BestAnswer()

    def answer(safety: float, utility: float) -> ThoughtId:
        new = graph.add(
            ThoughtKind.ANSWER, "x", parent=ROOT, safety=safety, utility=utility, cost=1.0
        ).id
        best.note(graph, new)
        return new

    assert best.value(graph) == 0.0
    good, poor = answer(1.0, 0.9), answer(0.5, 0.2)
    assert best.value(graph) == 0.9
    third = answer(1.0, 0.6)
    # The least safety and the greatest utility: 0.5 * 0.9, which is less than the third's.
    assert graph.merge(good, poor)
    best.note(graph, good)
    assert best.value(graph) == 0.6
    graph.prune(third)
    assert best.value(graph) == 0.45
    assert answer(1.0, 7.0) is not None
    assert best.value(graph) == 1.0


@pytest.mark.parametrize(
    ("aggregator", "value"),
    [(SafetyAggregator.MIN, 0.2), (SafetyAggregator.LAST, 0.8), (SafetyAggregator.MEAN, 0.5)],
)
def test_how_good_an_answer_is_follows_from_the_safety_of_its_path(
    aggregator: SafetyAggregator, value: float
) -> None:
    graph = ThoughtGraph("root", aggregator=aggregator)
    weak = graph.add(ThoughtKind.THINK, "a", parent=ROOT, safety=0.2, utility=0.0, cost=1.0)
    end = graph.add(ThoughtKind.ANSWER, "b", parent=weak.id, safety=0.8, utility=1.0, cost=1.0)
    best = BestAnswer()
    best.note(graph, end.id)
    assert best.value(graph) == pytest.approx(value)
