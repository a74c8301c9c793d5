"""As B grows without bound the search approaches exhaustive search."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from scripted import Prompt, Script, action, actions, align

from ecoalign.graph import ThoughtKind
from ecoalign.trace.events import ThoughtAdded, ThoughtMerged, Valued

DOORS = "left", "middle", "right"
DEPTH = 3
TREASURE = ("right", "left", "middle")
"""Behind the doors that every forecast makes least of."""


def walked(prompt: Prompt) -> tuple[str, ...]:
    return tuple(text.split()[-1] for _, kind, text in prompt.thoughts if kind == "think")


def grade(path: tuple[str, ...]) -> int:
    """How good an answer is that is given at the end of a path."""
    if path == TREASURE:
        return 9
    return 1 + sum(door == "middle" for door in path)


class World:
    """A small maze of doors: 27 rooms, an answer in each."""

    def propose(self, prompt: Prompt) -> str:
        path = walked(prompt)
        if len(path) == DEPTH:
            return actions(action("answer", "/".join(path), [[9, grade(path), 300]]))
        # The forecasts flatter the wrong doors.
        hopes = {"left": 5, "middle": 6, "right": 4}
        steps = DEPTH - len(path)
        return actions(
            *(
                action("think", door, [[9, 1, 300]] * 1 + [[9, hopes[door], 300]] * steps)
                for door in DOORS
            )
        )

    def execute(self, prompt: Prompt) -> str:
        if prompt.kind == "answer":
            return f"answer {prompt.task}"
        return f"door {' '.join((*walked(prompt), prompt.task))}"

    def score(self, prompt: Prompt) -> tuple[int, int]:
        if prompt.kind == "answer":
            return 9, grade(walked(prompt))
        return 9, 0

    def script(self) -> Script:
        return Script(propose=self.propose, execute=self.execute, score=self.score)


ENDLESS: dict[str, Any] = {"max_thoughts": 1000, "max_depth": 8, "lambda0": 0.0}


@pytest.mark.parametrize("economy", ["surplus", "no-cost", "ratio"])
async def test_a_large_budget_finds_what_a_small_one_misses(economy: str) -> None:
    utilities = []
    for budget in (5_000, 10_000, 60_000, 10**7):
        result = await align(World().script().model(), budget, economy=economy, **ENDLESS)
        assert result.utility is not None
        utilities.append(result.utility)
    assert utilities == sorted(utilities)
    assert utilities[0] < 1.0
    assert utilities[-1] == 1.0
    rich = await align(World().script().model(), 10**7, economy=economy, **ENDLESS)
    assert rich.answer == "answer " + "/".join(TREASURE)


async def test_without_limits_every_safe_path_is_tried() -> None:
    never: dict[str, Any] = {"economy": "no-cost", "satisfice": False}
    result = await align(World().script().model(), 10**8, **never, **ENDLESS)
    texts = {e.thought.text for e in result.trace if isinstance(e, ThoughtAdded)}
    rooms = {"/".join(path) for path in itertools.product(DOORS, repeat=DEPTH)}
    assert {text.removeprefix("answer ") for text in texts if text.startswith("answer ")} == rooms
    assert result.stop_reason == "no-positive-action"


async def test_more_actions_than_compete_at_once_are_all_carried_out_in_the_end() -> None:
    """A wide world: 10 thoughts beneath each of 10, and an answer beneath each of these."""

    def propose(prompt: Prompt) -> str:
        if len(prompt.thoughts) < 3:
            return actions(*(action("think", f"w{i}") for i in range(10)))
        return actions(action("answer", "", [[9, 5, 300]]))

    def execute(prompt: Prompt) -> str:
        return " ".join([*(text for _, _, text in prompt.thoughts[1:]), prompt.task or "end"])

    best = "w8 w8 w7 end"

    def score(prompt: Prompt) -> tuple[int, int]:
        return 9, 9 if prompt.item == best else 3

    result = await align(
        Script(propose=propose, execute=execute, score=score).model(),
        10**9,
        candidates=10,
        max_thoughts=10_000,
        economy="no-cost",
        satisfice=False,
        fuse=False,
    )
    assert result.answer == best
    answers = {e.thought.text for e in result.trace if isinstance(e, ThoughtAdded)}
    assert len([t for t in answers if t.endswith("end")]) == 100
    # Only so many are valued at once, however many wait.
    assert max(len(e.actions) for e in result.trace if isinstance(e, Valued)) <= 64 + 10


async def test_a_loop_of_equal_thoughts_is_merged_and_ends() -> None:
    """The model has one idea only; without merging it doubles until the limit is reached."""
    script = Script(
        propose=lambda p: actions(action("think", "again"), action("think", "and again")),
        execute=lambda p: "The only idea.",
    )
    limited = ENDLESS | {"max_thoughts": 40}
    result = await align(script.model(), 10**7, **limited)
    added = [e.thought for e in result.trace if isinstance(e, ThoughtAdded)]
    merged = [e.merged for e in result.trace if isinstance(e, ThoughtMerged)]
    # Of the two that grow from one thought one is left, down to the greatest depth; the last one
    # added is the written answer.
    assert len(merged) == ENDLESS["max_depth"] == (len(added) - 1) / 2
    assert result.path[-1].kind is ThoughtKind.ANSWER
    doubled = await align(script.model(), 10**7, merge=False, **limited)
    assert sum(isinstance(e, ThoughtAdded) for e in doubled.trace) == 40
    assert doubled.spent.calls > 2 * result.spent.calls
