"""What a search asks of its graph at every step: the best action, thought and answer."""

from __future__ import annotations

from itertools import islice

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

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
)
from ecoalign.graph.economics import SafetyAggregator


def pending(number: int, *partners: int) -> PendingAction:
    others = tuple(map(ThoughtId, partners))
    return PendingAction(number, ROOT, Candidate(ActionKind.THINK, "", (), partners=others))


levels = st.integers(-2, 6).map(lambda n: n / 4)  # few, so that there are ties


class LazyRanking(RuleBasedStateMachine):
    """Any order of proposing, executing, and of values that change: the queue against sorting."""

    def __init__(self) -> None:
        super().__init__()
        self.queue = ActionQueue()
        self.worth: dict[int, float | None] = {}
        self.most: dict[int, float] = {}

    @rule(values=st.lists(st.tuples(levels, levels), max_size=5))
    def propose(self, values: list[tuple[float, float]]) -> None:
        for now, room in values:
            number = len(self.worth)
            self.worth[number], self.most[number] = now, max(now, room)
            self.queue.add(pending(number))

    @rule(data=st.data())
    def lower(self, data: st.DataObject) -> None:
        """Values and their bounds fall; some actions can no longer be done."""
        for number in data.draw(st.sets(st.sampled_from(sorted(self.most)))) if self.most else ():
            self.most[number] = min(self.most[number], data.draw(levels))
            now = self.worth[number]
            if now is not None:
                now = min(now, self.most[number], data.draw(levels))
                self.worth[number] = data.draw(st.sampled_from([now, now, None]))

    @rule(data=st.data())
    def change(self, data: st.DataObject) -> None:
        """Anything may have changed."""
        for number in [n for n, now in self.worth.items() if now is not None]:
            now = data.draw(levels)
            self.worth[number], self.most[number] = now, max(now, data.draw(levels))
        self.queue.forget_bounds()

    @rule(asked=st.integers(0, 6), done=st.sets(st.integers(0, 5)))
    def choose(self, asked: int, done: set[int]) -> None:
        worth = ((action.id, self.worth[action.id]) for action in self.queue)
        alive = [(number, value) for number, value in worth if value is not None]
        wanted = sorted(alive, key=lambda one: (-one[1], one[0]))
        found = self.queue.best_first(
            lambda action: self.worth[action.id],
            lambda action: None if self.worth[action.id] is None else self.most[action.id],
        )
        first = list(islice(found, asked))
        assert [(one.id, value) for one, value in first] == wanted[:asked]
        for place in done:
            if place < len(first):
                self.queue.remove(first[place][0].id)

    @invariant()
    def loses_nothing(self) -> None:
        found = {action.id for action in self.queue.concerning(ROOT)}
        assert found == {action.id for action in self.queue}
        assert len(self.queue) == len(found)


TestLazyRanking = LazyRanking.TestCase


def test_a_step_values_only_what_may_be_chosen() -> None:
    queue, asked = ActionQueue(), list[int]()
    worth = {number: (number % 97) / 97 for number in range(1000)}

    def value(action: PendingAction) -> float:
        asked.append(action.id)
        return worth[action.id]

    for number in worth:
        queue.add(pending(number))
    for _ in range(2):  # what is new is valued once and bounded once
        assert len(list(islice(queue.best_first(value, value), 3))) == 3
    asked.clear()
    queue.add(pending(1000))
    worth[1000] = 0.5
    # The new one's value, the bounds of the three that were valued before, and their values again.
    assert [one.id for one, _ in islice(queue.best_first(value, value), 3)] == [96, 193, 290]
    assert sorted(set(asked)) == [96, 193, 290, 1000]
    assert len(asked) == 7


def test_the_actions_that_concern_a_thought_are_those_that_need_it() -> None:
    queue = ActionQueue()
    first, second = pending(0, 7), pending(1, 7, 8)
    queue.add(first)
    queue.add(second)
    assert queue.concerning(ROOT) == [first, second]
    assert queue.concerning(ThoughtId(8)) == [second]
    queue.remove(1)
    assert queue.concerning(ThoughtId(7)) == [first]
    assert queue.concerning(ThoughtId(8)) == []
    assert queue[0] is first
    with pytest.raises(KeyError):
        queue.remove(1)


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
