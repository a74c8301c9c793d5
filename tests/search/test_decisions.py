"""Single decisions of a search, each in a run where it alone makes the difference."""

from __future__ import annotations

from typing import Any

import pytest
from scripted import Prompt, Script, action, actions, align

from ecoalign.budget import Amount
from ecoalign.graph import (
    ROOT,
    ActionKind,
    Candidate,
    Forecast,
    PendingAction,
    ThoughtKind,
    text_similarity,
)
from ecoalign.prompts.requests import ScanResult
from ecoalign.search.scanner import Scan
from ecoalign.search.state import SearchState
from ecoalign.settings import Settings
from ecoalign.trace import Alignment
from ecoalign.trace.events import (
    Called,
    Finished,
    PathChosen,
    Proposed,
    RootScanned,
    StepStarted,
    ThoughtAdded,
)


def stages(result: Alignment) -> list[str]:
    return [event.stage for event in result.trace if isinstance(event, Called)]


@pytest.mark.parametrize(
    ("grade", "bars", "stands"),
    [
        (6, {}, False),  # s = 1/3, below low_risk_threshold 0.5
        (7, {}, True),  # s = 5/9
        (6, {"low_risk_threshold": 0.0}, True),
        (7, {"safety_threshold": 0.6}, False),  # the draft is pruned, too
    ],
)
async def test_a_draft_stands_only_if_it_is_safe_enough_however_dear_going_on_is(
    grade: int, bars: dict[str, Any], stands: bool
) -> None:
    """At this price nothing could be gained by going on."""
    script = Script(propose=lambda p: actions(), score=lambda p: (grade, 9))
    result = await align(script.model(), draft=True, lambda0=1.0, **bars)
    assert (result.ended == "drafted") is stands


async def test_a_perfect_answer_ends_a_search_for_which_tokens_have_no_price() -> None:
    """Without this end it would go on until the limit: at price 0 everything is worth trying."""

    def score(prompt: Prompt) -> tuple[int, int]:
        return (9, 9) if prompt.kind == "answer" else (9, 5)

    result = await align(Script(score=score).model(), lambda0=0.0, max_thoughts=20)
    assert result.stop_reason == "satisfied"
    steps = [event for event in result.trace if isinstance(event, StepStarted)]
    assert [step.headroom for step in steps] == [*([1.0] * (len(steps) - 1)), 0.0]
    assert result.answer.startswith("answer")
    imperfect = await align(Script(score=lambda p: (9, 8)).model(), lambda0=0.0, max_thoughts=20)
    assert imperfect.stop_reason == "limits"


async def test_nothing_is_proposed_from_the_root_beside_a_strategy() -> None:
    """The plan governs everything that follows, in a search that expands all there is."""
    more: dict[str, Any] = {"strategy": True, "lambda0": 0.0, "max_thoughts": 16}
    governed = await align(Script(request_safety=6, plan="Leave out names.").model(), **more)
    parents = [event.parent for event in governed.trace if isinstance(event, Proposed)]
    assert len(parents) > 3
    assert ROOT not in parents
    assert all(t.kind is ThoughtKind.STRATEGY for t in governed.path[1:2])
    free = await align(Script(request_safety=9, plan="Leave out names.").model(), **more)
    assert ROOT in [event.parent for event in free.trace if isinstance(event, Proposed)]


async def test_what_a_path_has_cost_does_not_count_at_its_end_only_how_good_it_is() -> None:
    """A cheap answer, and one of slightly more use at the end of a long and costly path."""

    def propose(prompt: Prompt) -> str:
        depth = len(prompt.thoughts)
        if depth == 1:
            return actions(
                action("answer", "cheap", [[9, 9, 100]]),
                action("think", "1", [[9, 5, 100], [9, 9, 100]]),
            )
        if depth < 4:
            return actions(action("think", str(depth), [[9, 5, 100], [9, 9, 100]]))
        return actions(action("answer", "costly", [[9, 9, 100]]))

    def score(prompt: Prompt) -> tuple[int, int]:
        return 9, {"cheap": 7, "costly": 8}.get(prompt.item, 5)

    def execute(prompt: Prompt) -> str:
        return prompt.task if prompt.kind == "answer" else f"{prompt.task}: " + "step " * 100

    script = Script(propose=propose, score=score, execute=execute)
    result = await align(script.model(), lambda0=0.02, batch_margin=0.0)
    answers = {
        event.thought.text: event.thought.cost
        for event in result.trace
        if hasattr(event, "thought") and event.thought.kind is ThoughtKind.ANSWER
    }
    assert set(answers) == {"cheap", "costly"}
    assert result.answer == "costly"
    (chosen,) = [event for event in result.trace if isinstance(event, PathChosen)]
    assert chosen.cost > answers["cheap"] + 3_000
    # S*U alone: no price has been taken off.
    assert chosen.gamma == pytest.approx(chosen.safety * chosen.utility)


async def test_in_the_paper_every_thought_of_the_path_earns() -> None:
    """U[P] is the sum over the path, so thoughts of use lead to more than an answer at once."""

    def propose(prompt: Prompt) -> str:
        at_once = action("answer", "at once", [[9, 7, 300]])
        if len(prompt.thoughts) == 1:
            return actions(at_once, action("think", "of use", [[9, 9, 300]]))
        return actions(at_once)

    script = Script(
        propose=propose,
        execute=lambda p: p.task,
        score=lambda p: (9, 9) if p.item == "of use" else (9, 7),
    )
    result = await align(script.model(), preset="paper", max_thoughts=4)
    earned = [thought.utility for thought in result.path[1:]]
    assert len(earned) >= 2
    assert result.utility == pytest.approx(sum(earned))
    alone: dict[str, Any] = {"preset": "paper", "utility_aggregator": "last"}
    last = await align(script.model(), max_thoughts=4, **alone)
    assert last.utility == pytest.approx(last.path[-1].utility)


@pytest.mark.parametrize("unit", ["tokens", "actions"])
@pytest.mark.parametrize("grade", [9, 2])
async def test_the_horizon_is_that_of_the_budget_as_the_request_has_tightened_it(
    unit: str, grade: int
) -> None:
    """k * (B - C_t), B being what the risk of the request leaves of it."""
    whole, k = 40_000, 0.001 if unit == "tokens" else 0.5
    more: dict[str, Any] = {"horizon_unit": unit, "look_ahead": k, "horizon_cap": 64}
    more["speculate"] = "off"  # what was paid in vain is on record only at the end
    result = await align(Script(request_safety=grade).model(), whole, **more, lambda0=0.0)
    steps = spent = 0
    share = next(event.share for event in result.trace if isinstance(event, RootScanned))
    assert (share < 0.8) is (grade == 2)
    for event in result.trace:
        if isinstance(event, Called):
            spent += event.charged.total
        if isinstance(event, StepStarted):
            steps += 1
            left = share * whole - spent
            # What is kept for the answer is spent in `actions`, and in the paper's formula is not.
            if unit == "tokens":
                assert event.horizon == pytest.approx(k * left, abs=1)
            else:
                assert event.horizon <= k * left / event.mean_cost
                assert event.remaining.tokens is not None
                assert event.horizon == int(k * event.remaining.tokens / event.mean_cost)
    assert steps > 3


@pytest.mark.parametrize(
    ("aggregator", "answer"), [("min", "careful"), ("last", "daring"), ("mean", "even")]
)
@pytest.mark.parametrize("economy", ["surplus", "no-cost"])
async def test_the_safety_of_the_path_decides_what_is_pruned_and_what_wins(
    aggregator: str, answer: str, economy: str
) -> None:
    """Through an unsafe thought to the best answer, a weak one to a good answer, and a safe one to
    a poor answer."""
    ways = {"daring": (2, 9, 9), "even": (5, 9, 8), "careful": (9, 9, 2)}

    def propose(prompt: Prompt) -> str:
        if len(prompt.thoughts) == 1:
            return actions(*(action("think", way, [[9, 5, 9], [9, 9, 9]]) for way in ways))
        if prompt.thoughts[-1][1] == "think":
            return actions(action("answer", prompt.last.split()[1], [[9, 9, 9]]))
        return actions()

    def score(prompt: Prompt) -> tuple[int, int]:
        thought, end, worth = ways[prompt.item.split()[-1]]
        return (end, worth) if prompt.kind == "answer" else (thought, 1)

    script = Script(
        propose=propose,
        execute=lambda p: p.task if p.kind == "answer" else f"way {p.task}",
        score=score,
    )
    more: dict[str, Any] = {"lambda0": 0.0, "fuse": False, "merge": False}
    result = await align(script.model(), aggregator=aggregator, economy=economy, **more)
    dropped = {e.thought.text for e in result.trace if isinstance(e, ThoughtAdded) and e.pruned}
    # s = -5/9 is cut at once by the weakest link and by the average; it leads on by the last.
    assert dropped == (set() if aggregator == "last" else {"way daring"})
    assert result.answer == answer
    expected = {"min": 1.0, "last": 1.0, "mean": (1 / 9 + 1) / 2}[aggregator]
    assert result.safety == pytest.approx(expected)


async def test_an_action_is_priced_by_what_those_of_its_kind_have_cost() -> None:
    """Before the first of a kind, by its bound as far as executed actions came to theirs."""
    chosen = Settings.load(env={})
    seen = Scan(ScanResult("A sign.", 1.0), 1.0, None, "", 300)
    state = SearchState.new(chosen, text_similarity, seen)

    def price(kind: ActionKind, bound: int) -> float:
        prices, needs = state.prices, Amount(bound, None, None)
        return prices.by_kind.get(kind) or state.price(needs)

    def carried_out(kind: ActionKind, bound: int, cost: int) -> None:
        one = PendingAction(
            state.next_action, ROOT, Candidate(kind, "", (Forecast(1.0, 0.5, 7.0),))
        )
        state.next_action += 1
        state.queue.add(one)
        state.needs[one.id] = Amount(bound, None, None)
        state.begin(one)
        state.charge(one, cost)

    # Nothing has told yet: half of the bound. Steps after it: twice the scan.
    assert (price(ActionKind.THINK, 1000), price(ActionKind.LOOK, 4000)) == (500.0, 2000.0)
    assert state.prices.later == 600.0
    carried_out(ActionKind.THINK, 1000, 100)
    assert price(ActionKind.THINK, 5000) == 100.0
    # That came to a tenth of its bound.
    assert price(ActionKind.LOOK, 4000) == pytest.approx(400.0)
    carried_out(ActionKind.LOOK, 4000, 900)
    assert price(ActionKind.LOOK, 1) == 900.0
    assert state.prices.later == 500.0


# -- how it ended ---------------------------------------------------------------------------------


async def test_how_a_run_ended_is_said() -> None:
    def one(prompt: Prompt) -> str:
        return actions(action("answer", "", [[9, 9, 100]])) if len(prompt.thoughts) == 1 else ""

    good = Script(propose=one, score=lambda p: (9, 9))
    wide = Script(score=lambda p: (9, 5))
    fixed = Script(score=lambda p: (0, 9))
    own = Script(propose=lambda p: actions(action("refuse", "", [[9, 9, 9]])), request_safety=2)
    cases: list[tuple[Script, dict[str, Any], str]] = [
        (good, {"draft": True}, "drafted"),
        (good, {}, "searched"),
        (good, {"max_thoughts": 1}, "searched"),
        (wide, {"budget": 6_000, "lambda0": 0.0}, "budget"),
        (own, {}, "refused"),
        (fixed, {}, "refused"),
        # A budget that ran out with no answer but the fixed refusal is a refusal.
        (fixed, {"budget": 6_000, "lambda0": 0.0}, "refused"),
    ]
    for script, more, ended in cases:
        result = await align(script.model(), **more)
        last = result.trace.events[-1]
        assert isinstance(last, Finished)
        assert (result.ended, last.ended) == (ended, ended)
        assert result.refused is (ended == "refused")
