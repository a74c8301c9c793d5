"""What a search asks of its graph at every step: which actions compete, and which wait."""

from __future__ import annotations

from ecoalign.graph import (
    ActionKind,
    ActionQueue,
    Candidate,
    PendingAction,
    ThoughtId,
    ValuedAction,
)

ROOT = ThoughtId(0)


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
