"""What is chosen without valuing all open actions is what valuing all of them would choose."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest

from ecoalign.aligner import Aligner
from ecoalign.budget import Budget
from ecoalign.graph import ActionQueue, PendingAction
from ecoalign.models import ChatRequest
from ecoalign.models.fake import FakeModel
from ecoalign.query import Query
from ecoalign.settings import Settings
from ecoalign.trace.events import (
    ActionsChosen,
    Event,
    Proposed,
    RunStarted,
    ThoughtMerged,
    ThoughtsDropped,
)

WORDS = ["red", "blue", "circle", "square", "left", "right", "one", "two"]


def erratic(seed: int) -> FakeModel:
    """A model of the compact dialect that answers each request by chance, always alike: thoughts
    that merge, that are unsafe, that cost more and more, and any forecast."""

    def reply(request: ChatRequest) -> str:
        text = request.messages[-1].text
        chance = random.Random(f"{seed} {text}")

        def digit(least: int) -> int:
            return chance.randint(least, 9)

        if request.stage == "scan":
            return f"a red circle > {digit(5)}"
        if request.stage == "score":
            return f"{digit(3)} {digit(0)}"
        if request.stage != "propose":
            return " ".join(chance.choices(WORDS, k=chance.choice([1, 2, 2, 30])))
        kinds = ["think", "think", "think", "answer", "refuse"]
        kinds += ["fuse 1"] if "<others>" in text else []
        return "; ".join(
            f"{chance.choice(kinds)} {digit(4)} {digit(0)} {digit(1)}"
            + f" > {digit(4)} {digit(0)} {digit(1)}" * chance.randint(0, 2)
            for _ in range(6)
        )

    return FakeModel(reply, dialect="compact")


def sorting(
    queue: ActionQueue, value: object, bound: object
) -> Iterator[tuple[PendingAction, float]]:
    """The plain ranking: value all, sort."""
    assert callable(value)
    worth = [(action, value(action)) for action in list(queue)]
    for action, one in worth:
        if one is None:
            queue.remove(action.id)
    alive = [(action, one) for action, one in worth if one is not None]
    yield from sorted(alive, key=lambda entry: (-entry[1], entry[0].id))


async def events_of(seed: int, budget: int, settings: Settings) -> list[Event]:
    aligner = Aligner(erratic(seed), settings, clock=lambda: 0.0)
    result = await aligner.align(Query.of(None, "what is here"), Budget(tokens=budget))
    return [event for event in result.trace if not isinstance(event, RunStarted)]


@pytest.mark.parametrize(
    ("preset", "changes"),
    [
        ("default", {"lambda0": 0.001, "satisfice": False}),
        ("default", {"batch": 1, "lambda0": 0.01, "confirm": False}),
        ("paper", {"strategy": False}),
        ("no-cost", {"satisfice": False}),
        ("default", {"fidelity": "surrogate", "lambda0": 0.001, "satisfice": False}),
        ("paper", {"fidelity": "rollout", "strategy": False, "max_thoughts": 12}),
    ],
)
async def test_a_search_goes_as_if_all_actions_were_valued_at_every_step(
    monkeypatch: pytest.MonkeyPatch, preset: str, changes: dict[str, Any]
) -> None:
    given: dict[str, Any] = {
        "max_thoughts": 40,
        "temperature": 1.0,
        "unsafe_answers": 100,
        "candidates": 6,
    }
    settings = Settings.load(preset=preset, env={}, **given | {"batch": 2} | changes)
    seen: list[Event] = []
    for seed in range(5):
        for budget in (3_000, 30_000):
            with monkeypatch.context() as patched:
                patched.setattr(ActionQueue, "best_first", sorting)
                expected = await events_of(seed, budget, settings)
            assert await events_of(seed, budget, settings) == expected
            seen += expected
    # An older action was often better than the new ones, or the test would say little.
    first, older = 0, 0
    for event in seen:
        if isinstance(event, Proposed):
            first = event.first
        elif isinstance(event, ActionsChosen):
            older += event.actions[0] < first
    assert older > 10
    assert any(isinstance(event, ThoughtMerged | ThoughtsDropped) for event in seen)
