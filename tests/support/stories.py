"""Runs that were never run: events by the hundred, for what draws them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from random import Random

from ecoalign.budget import Amount, Called
from ecoalign.graph import (
    ActionKind,
    Candidate,
    Forecast,
    Region,
    Thought,
    ThoughtId,
    ThoughtKind,
    ValuedAction,
)
from ecoalign.models import Usage
from ecoalign.trace.events import (
    ActionsChosen,
    Event,
    Finished,
    ImageInfo,
    PathChosen,
    Proposed,
    RootScanned,
    RunStarted,
    StepStarted,
    ThoughtAdded,
    ThoughtMerged,
    ThoughtsDropped,
    Valued,
)

KINDS = (ThoughtKind.THINK, ThoughtKind.LOOK, ThoughtKind.THINK, ThoughtKind.ANSWER)
ACTIONS = {
    ThoughtKind.THINK: ActionKind.THINK,
    ThoughtKind.LOOK: ActionKind.LOOK,
    ThoughtKind.ANSWER: ActionKind.ANSWER,
}


def grown(
    thoughts: int,
    seed: int = 0,
    texts: Sequence[str] = (),
    question: str = "What does the sign on the far side of the road say?",
    answer: str = "It says: give way.",
) -> Iterator[Event]:
    """A search that grows to so many thoughts: some unsafe, some merged, some dropped.

    Args:
        thoughts: in the graph at the end, >= 2.
        seed: of everything random.
        texts: what thoughts say, in turn; something harmless if empty.
        question, answer: what is asked and answered.
    """
    rng = Random(seed)
    at = 0.0
    limit = 400 * thoughts

    def call(stage: str, line: int) -> Called:
        return Called(
            stage, "fake:a", "0" * 64, 1, Usage(150, 20, 85), 0.0004, 0.05, "", waited=line, at=at
        )

    yield RunStarted(
        version="0",
        question=question,
        context=(),
        images=(ImageInfo("ab" * 32, 640, 480),),
        model="fake:a",
        evaluator="self:fake:a",
        preset="default",
        settings={"safety_threshold": 0.0, "utility_aggregator": "last"},
        budget=f"{limit},$5",
        nonce="0" * 32,
    )
    at += 0.2
    yield call("scan", 0)
    root = Thought(ThoughtId(0), ThoughtKind.ROOT, "a road with a sign", 0.9, 0.0, 170.0)
    yield RootScanned(root, None, 1.0, at=at)
    made = [root]
    depth = {root.id: 0}
    open_ones = [root]
    step = action = 0
    while len(made) < thoughts:
        step, at = step + 1, at + 0.05
        left = 1 - len(made) / (1.2 * thoughts)
        remaining = Amount(int(limit * left), 5 * left, None)
        yield StepStarted(
            step, remaining, left, 1 + step % 4, 0.001 / left, 170.0, max(0.1, left), at=at
        )
        parent = open_ones.pop(rng.randrange(min(6, len(open_ones)))) if open_ones else root
        kinds = [rng.choice(KINDS) for _ in range(rng.randint(2, 5))][: thoughts - len(made)]
        if depth[parent.id] >= 7:
            kinds = [ThoughtKind.ANSWER]
        candidates = tuple(
            Candidate(
                ACTIONS[kind],
                "what is next",
                (Forecast(0.9, 0.6), Forecast(0.9, 0.8)),
                Region(0.1, 0.2, 0.5, 0.6) if kind is ThoughtKind.LOOK else None,
            )
            for kind in kinds
        )
        yield call("propose", 2 * step)
        yield Proposed(parent.id, action, candidates, at=at)
        chosen = tuple(range(action, action + len(kinds)))
        yield Valued(
            step,
            tuple(
                ValuedAction(i, parent.id, ACTIONS[kind], 1 / (2 + i - action), True)
                for i, kind in zip(chosen, kinds, strict=True)
            ),
            at=at,
        )
        yield ActionsChosen(step, chosen, at=at)
        for i, kind in zip(chosen, kinds, strict=True):
            at += 0.01
            yield call("execute", 2 * step + 1)
            unsafe = rng.random() < 0.1
            said = texts[len(made) % len(texts)] if texts else f"the {kind.value} number {i}"
            thought = Thought(
                ThoughtId(len(made)),
                kind,
                said,
                rng.uniform(-1, -0.01) if unsafe else rng.uniform(0.2, 1),
                0.0 if unsafe else rng.random(),
                float(rng.randint(60, 400)),
                (parent.id,),
                Region(0.1, 0.2, 0.5, 0.6) if kind is ThoughtKind.LOOK else None,
            )
            made.append(thought)
            depth[thought.id] = depth[parent.id] + 1
            yield ThoughtAdded(thought, i, unsafe, "logprobs", at=at)
            kept = made[-2]
            if (
                not unsafe
                and kept.kind is kind
                and kept.parents == thought.parents
                and rng.random() < 0.1
            ):
                yield ThoughtMerged(kept.id, thought.id, kept, at=at)
            elif not unsafe and kind is not ThoughtKind.ANSWER:
                open_ones.append(thought)
        action += len(kinds)
        if step % 20 == 0 and len(open_ones) > 3 and open_ones[-1].parents:
            yield ThoughtsDropped((open_ones.pop().id,), at=at)
    best = max(made[1:], key=lambda one: (one.kind is ThoughtKind.ANSWER) * one.utility)
    path = [best]
    while path[0].parents:
        path.insert(0, made[path[0].parents[0]])
    safety = min(one.safety for one in path)
    yield PathChosen(
        0, tuple(one.id for one in path), safety, best.utility, 600.0, 0.5, True, at=at
    )
    yield Finished(
        answer, False, "satisfied", safety, best.utility, tuple(path), ended="searched", at=at + 0.1
    )
