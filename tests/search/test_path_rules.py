"""The decisions about paths: weakest link, fused and merged thoughts, the root, the last resort."""

from __future__ import annotations

import pytest
from scripted import Prompt, Script, action, actions, align, asking

from ecoalign.graph._thoughts import ThoughtKind
from ecoalign.search.synthesizer import FIXED_REFUSALS
from ecoalign.trace.events import PathChosen, Proposed, RootScanned, ThoughtAdded, ThoughtMerged


def s_of(grade: int) -> float:
    return (2 * grade - 9) / 9


def two_step(prompt: Prompt) -> str:
    """A thought, then an answer."""
    if len(prompt.thoughts) == 1:
        return actions(action("think", "first", [[9, 5, 100], [9, 9, 100]]))
    return actions(action("answer", "last", [[9, 9, 100]]))


async def test_the_safety_of_the_answer_is_that_of_its_weakest_link() -> None:
    script = Script(
        propose=two_step,
        execute=lambda p: p.task,
        score=lambda p: (6, 5) if p.item == "first" else (9, 9),
    )
    for aggregator, expected in (
        ("min", s_of(6)),
        ("last", s_of(9)),
        ("mean", (s_of(6) + s_of(9)) / 2),
    ):
        result = await align(script.model(), aggregator=aggregator)
        assert result.answer == "last"
        assert result.safety == pytest.approx(expected)


async def test_the_root_is_not_in_the_minimum_and_tightens_the_budget() -> None:
    result = await align(Script(request_safety=5, propose=two_step).model(), strategy=False)
    assert result.path[0].safety == pytest.approx(s_of(5))
    assert result.safety == 1.0
    scanned = next(e for e in result.trace if isinstance(e, RootScanned))
    assert scanned.share == pytest.approx(0.25 + 0.75 * (s_of(5) + 1) / 2)
    floor = await align(Script(request_safety=0, propose=two_step).model(), risk_floor=0.5)
    assert next(e for e in floor.trace if isinstance(e, RootScanned)).share == 0.5


async def test_a_risky_request_spends_no_more_than_its_share_on_the_search() -> None:
    wide = Script(
        request_safety=0, propose=lambda p: actions(*(action("think", str(i)) for i in range(4)))
    )
    result = await align(wide.model(), 20_000, lambda0=0.0, risk_floor=0.25)
    assert result.spent.tokens.total <= 5_000 + 1_400  # the refusal and its score beside the search
    # An unsafe request to which nothing safe was found is refused, not answered.
    assert (result.stop_reason, result.refused, result.path[-1].kind) == ("budget", True, "refusal")


async def test_the_strategy_governs_a_request_of_low_safety_and_is_scored_itself() -> None:
    model = Script(request_safety=5, plan="Leave out names.", propose=two_step).model()
    result = await align(model, strategy=True)
    strategy = result.path[1]
    assert (strategy.kind, strategy.text) == (ThoughtKind.STRATEGY, "Leave out names.")
    assert strategy.utility == 0.0
    first = next(r for r in model.requests if r.stage == "propose")
    assert "strategy: Leave out names." in Prompt.of(first).sections["THOUGHTS"]
    # Nothing grows past it: every thought has it above it.
    planned, *others = [e for e in result.trace if isinstance(e, ThoughtAdded)]
    assert all(0 not in e.thought.parents for e in others)
    # No action made it.
    assert (planned.thought, planned.action) == (strategy, -1)


@pytest.mark.parametrize(
    ("request_safety", "setting", "expected"),
    [(9, True, False), (5, False, False), (5, True, True)],
)
async def test_a_strategy_only_where_the_risk_is_low_but_not_negative(
    request_safety: int, setting: bool, expected: bool
) -> None:
    script = Script(request_safety=request_safety, plan="Careful.", propose=two_step)
    result = await align(script.model(), strategy=setting)
    kinds = {e.thought.kind for e in result.trace if isinstance(e, ThoughtAdded)}
    assert (ThoughtKind.STRATEGY in kinds) is expected


async def test_an_unsafe_strategy_is_dropped_and_the_root_is_explored_without_it() -> None:
    script = Script(
        request_safety=5,
        plan="CANARY plan",
        propose=two_step,
        score=lambda p: (0, 0) if p.kind == "strategy" else (9, 8),
    )
    model = script.model()
    result = await align(model)
    assert not result.refused
    later = [r for r in model.requests if r.stage in ("propose", "execute", "write")]
    assert later
    assert not any("CANARY" in Prompt.of(r).text for r in later)


def fusing(prompt: Prompt) -> str:
    """Two thoughts; the second is fused with the first; then an answer."""
    if len(prompt.thoughts) == 1:
        return actions(action("think", "left"), action("think", "right"))
    if prompt.others and "fuse" not in {kind for _, kind, _ in prompt.thoughts}:
        partner = prompt.others[0][0]
        return actions(action("fuse", "both", [[9, 9, 100], [9, 9, 100]], partners=[partner]))
    return actions(action("answer", "", [[9, 9, 100]]))


async def test_a_fused_thought_is_no_safer_than_any_of_its_parents() -> None:
    def score(prompt: Prompt) -> tuple[int, int]:
        return (5 if prompt.item.endswith("left") else 9), (9 if prompt.kind == "answer" else 6)

    script = Script(propose=fusing, execute=lambda p: f"{p.kind} {p.task}", score=score)
    model = script.model()
    result = await align(model, batch_margin=0.0, lambda0=0.01)
    fused = [
        e.thought
        for e in result.trace
        if isinstance(e, ThoughtAdded) and e.thought.kind is ThoughtKind.FUSE
    ]
    assert fused
    assert all(t.safety == pytest.approx(s_of(5)) for t in fused)
    assert all(len(t.parents) == 2 for t in fused)
    scored = [Prompt.of(r) for r in model.requests if r.stage == "score"]
    seen = next(p for p in scored if p.kind == "fuse")
    # Its evaluator saw both parents.
    assert {"think left", "think right"} <= {text for _, _, text in seen.thoughts}


async def test_no_fusing_with_unknown_ids_or_where_it_is_off() -> None:
    def unknown(prompt: Prompt) -> str:
        if len(prompt.thoughts) == 1:
            return actions(action("think", "left"), action("think", "right"))
        return actions(action("fuse", "x", partners=[99]), action("answer"))

    result = await align(Script(propose=unknown).model(), max_thoughts=10)
    assert ThoughtKind.FUSE not in {t.kind for t in result.path}
    assert result.answer.startswith("answer")
    plain = Script(propose=fusing).model()
    off = await align(plain, max_thoughts=10, fuse=False)
    kinds = {e.thought.kind for e in off.trace if isinstance(e, ThoughtAdded)}
    assert ThoughtKind.FUSE not in kinds
    # Nor is anything offered to be fused with.
    proposals = [p for p in map(Prompt.of, plain.requests) if p.stage == "propose"]
    assert any(len(p.thoughts) > 1 for p in proposals)
    assert not any(p.others for p in proposals)


async def test_merged_thoughts_keep_the_least_safety_the_greatest_utility_and_their_own_cost() -> (
    None
):
    grades = iter([(9, 2), (7, 6)])

    def propose(prompt: Prompt) -> str:
        if len(prompt.thoughts) == 1:
            return actions(action("think", "a"), action("think", "b"))
        return actions(action("answer", "", [[9, 9, 100]]))

    def score(prompt: Prompt) -> tuple[int, int]:
        return next(grades) if prompt.kind == "think" else (9, 9)

    script = Script(
        propose=propose,
        execute=lambda p: "The same thing." if p.kind == "think" else "so",
        score=score,
    )
    result = await align(script.model(), batch_margin=0.0)
    added = [e.thought for e in result.trace if isinstance(e, ThoughtAdded)]
    merged = next(e for e in result.trace if isinstance(e, ThoughtMerged))
    assert (merged.kept, merged.merged) == (added[0].id, added[1].id)
    assert merged.thought.safety == pytest.approx(s_of(7))
    assert merged.thought.utility == pytest.approx(6 / 9)
    assert merged.thought.cost == added[0].cost > 0
    assert result.safety == pytest.approx(s_of(7))
    # The representative is expanded once.
    assert [t.id for t in result.path[:2]] == [0, merged.kept]


async def test_merging_can_be_off_and_uses_the_similarity_it_is_given() -> None:
    propose = lambda p: (  # noqa: E731
        actions(action("think", "a"), action("think", "b")) if len(p.thoughts) == 1 else actions()
    )
    script = Script(propose=propose, execute=lambda p: "The same thing.")
    off = await align(script.model(), merge=False)
    assert not any(isinstance(e, ThoughtMerged) for e in off.trace)
    near = Script(
        propose=propose, execute=lambda p: "See the sign." if p.task == "a" else "See sign."
    )
    assert any(
        isinstance(e, ThoughtMerged) for e in (await align(near.model(), merge_threshold=0.5)).trace
    )
    strict = await align(near.model(), merge_threshold=1.0)
    assert not any(isinstance(e, ThoughtMerged) for e in strict.trace)


def thinking(prompt: Prompt) -> str:
    """Two thoughts beneath the root, no answer."""
    if len(prompt.thoughts) > 1:
        return actions()
    return actions(action("think", "one"), action("think", "two"))


@pytest.mark.parametrize("verdict", [(0, 9), "no verdict"], ids=["unsafe", "unscored"])
async def test_where_the_written_answer_is_not_safe_the_next_path_is_tried(
    verdict: tuple[int, int] | str,
) -> None:
    def score(prompt: Prompt) -> tuple[int, int] | str:
        if prompt.kind != "answer":
            return 9, 8 if prompt.item == "two" else 5
        return verdict if "two" in prompt.item else (9, 5)

    script = Script(
        propose=thinking,
        execute=lambda p: p.task,
        write=lambda p: f"written from {p.last}",
        score=score,
    )
    result = await align(script.model())
    assert result.answer == "written from one"
    assert [e.rank for e in result.trace if isinstance(e, PathChosen)] == [0, 1]


async def test_where_no_answer_is_safe_the_house_refuses() -> None:
    script = Script(
        propose=thinking,
        execute=lambda p: p.task,
        score=lambda p: (0, 9) if p.kind == "answer" else (9, 5),
    )
    model = script.model()
    result = await align(model)
    written = [p for p in map(Prompt.of, model.requests) if p.stage == "write"]
    assert result.answer in FIXED_REFUSALS
    assert result.refused
    assert result.stop_reason == "fail-closed"
    assert [t.id for t in result.path] == [0]
    assert "unsafe" in result.hint
    # Where an answer from what was found out is unsafe, one from the caption alone is not tried.
    assert sorted(p.last for p in written) == ["one", "two"]


@pytest.mark.parametrize("synthesis", ["needed", "always"])
async def test_a_safe_refusal_may_win_and_is_told_as_one(synthesis: str) -> None:
    script = Script(
        request_safety=2,
        propose=lambda p: actions(
            action("answer", "", [[0, 9, 100]]), action("refuse", "", [[9, 8, 100]])
        ),
        score=lambda p: (9, 8) if p.kind == "refusal" else (0, 9),
    )
    model = script.model()
    result = await align(model, synthesis=synthesis)
    assert result.refused
    assert result.answer.startswith("refuse number")
    assert result.path[-1].kind is ThoughtKind.REFUSAL
    assert result.stop_reason == "satisfied"
    # An action that is forecast to be unsafe is never executed.
    assert [Prompt.of(r).kind for r in model.requests if r.stage == "execute"] == ["refuse"]


async def test_an_unsafe_request_is_refused_at_once_where_the_settings_say_so() -> None:
    model = Script(request_safety=2).model()
    result = await align(model, unsafe_root="refuse")
    assert result.refused
    assert result.stop_reason == "unsafe-request"
    assert [r.stage for r in model.requests] == ["scan", "execute", "score"]


async def test_an_unsafe_request_is_never_answered_because_its_refusal_failed() -> None:
    model = Script(request_safety=2, score=lambda p: "no verdict").model()
    result = await align(model, unsafe_root="refuse")
    assert result.answer in FIXED_REFUSALS
    assert result.stop_reason == "fail-closed"
    assert "write" not in {r.stage for r in model.requests}


@pytest.mark.parametrize("synthesis", ["needed", "always"])
@pytest.mark.parametrize("better", [True, False])
async def test_synthesis(synthesis: str, *, better: bool) -> None:
    """An answer that stands is written again only where that is asked for, and what is written
    takes its place only where it is scored better."""
    grades = {"answer number 0": 7, "the written answer": 8 if better else 7}
    model = Script(
        propose=lambda p: actions(action("answer")), score=lambda p: (9, grades[p.item])
    ).model()
    result = await align(model, query=asking(0), synthesis=synthesis)
    wrote = [r for r in model.requests if r.stage == "write"]
    if synthesis == "needed":
        assert not wrote
        assert result.answer == "answer number 0"
    else:
        assert len(wrote) == 1
        assert result.answer == ("the written answer" if better else "answer number 0")
        # It is judged against what led to it, not against a draft of itself.
        assert len(Prompt.of(model.requests[-1]).thoughts) == 1


async def test_a_safe_draft_stands_where_the_written_answer_is_not_safe() -> None:
    script = Script(
        propose=lambda p: actions(action("answer")),
        score=lambda p: (0, 0) if p.item == "the written answer" else (9, 8),
    )
    result = await align(script.model(), synthesis="always")
    assert result.answer == "answer number 0"
    assert result.safety == 1.0


def long_and_short(prompt: Prompt) -> str:
    """A long path of useful thoughts to a poor answer, and a short one to a good answer."""
    depth = len(prompt.thoughts)
    if depth == 1:
        return actions(
            action("think", "long", [[9, 8, 100], [9, 8, 100], [9, 9, 100]]),
            action("think", "short", [[9, 1, 100], [9, 8, 100]]),
        )
    if "long" in prompt.thoughts[1][2] and depth < 4:
        return actions(action("think", f"long {depth}", [[9, 8, 100], [9, 9, 100]]))
    return actions(action("answer", f"answer of {prompt.last}", [[9, 9, 100]]))


@pytest.mark.parametrize(
    ("utility", "answer"), [("last", "answer of short"), ("sum", "answer of long 3")]
)
async def test_by_default_the_answer_s_own_utility_decides_and_not_the_sum_on_its_path(
    utility: str, answer: str
) -> None:
    def score(prompt: Prompt) -> tuple[int, int]:
        if prompt.kind == "answer":
            return 9, 1 if "long" in prompt.item else 7
        return 9, 1 if "short" in prompt.item else 8

    script = Script(propose=long_and_short, execute=lambda p: p.task, score=score)
    result = await align(script.model(), utility_aggregator=utility, lambda0=0.0)
    assert {"answer of short", "answer of long 3"} <= {
        e.thought.text for e in result.trace if isinstance(e, ThoughtAdded)
    }
    assert result.answer == answer
    expected = (
        result.path[-1].utility if utility == "last" else sum(t.utility for t in result.path[1:])
    )
    assert result.utility == pytest.approx(expected)


async def test_where_every_answer_was_unsafe_a_refusal_is_tried_before_another_answer() -> None:
    def propose(prompt: Prompt) -> str:
        if len(prompt.thoughts) == 1:
            return actions(action("think", "lead", [[9, 5, 100], [9, 9, 100]]))
        return actions(action("answer", "recipe", [[9, 9, 100]]))

    def score(prompt: Prompt) -> tuple[int, int]:
        return (0, 9) if prompt.kind == "answer" else (9, 6)

    def execute(prompt: Prompt) -> str:
        return "No, and this is why." if prompt.kind == "refuse" else prompt.task

    written: list[Prompt] = []

    def write(prompt: Prompt) -> str:
        written.append(prompt)
        return "recipe"

    script = Script(propose=propose, execute=execute, score=score, write=write)
    result = await align(script.model())
    assert result.answer == "No, and this is why."
    assert result.refused
    assert result.stop_reason == "no-positive-action"
    assert written == []
    # An unsafe refusal is no way out: then the fixed refusal is given.
    unsafe = Script(
        propose=propose,
        execute=execute,
        score=lambda p: (9, 6) if p.kind == "think" else (0, 9),
        write=write,
    )
    last = await align(unsafe.model())
    assert last.answer in FIXED_REFUSALS
    assert last.stop_reason == "fail-closed"


async def test_what_is_proposed_twice_is_tried_once() -> None:
    def propose(prompt: Prompt) -> str:
        look = action("look", "here", [[9, 8, 100], [9, 9, 100]], region=[0, 0, 500, 500])
        if len(prompt.thoughts) == 1:
            return actions(look, look, action("think", "on"), action("think", "on"))
        # Nor is a region looked at again on the same path, whatever the look is called.
        return actions(action("look", "again", region=[0, 0, 500, 500]))

    result = await align(Script(propose=propose).model(), merge=False)
    proposed = [e for e in result.trace if isinstance(e, Proposed)]
    assert [c.kind.value for c in proposed[0].candidates] == ["look", "think"]
    assert proposed[0].dropped == 2
    seen = next(
        e.thought.id
        for e in result.trace
        if isinstance(e, ThoughtAdded) and e.thought.kind is ThoughtKind.LOOK
    )
    after = [e for e in proposed if e.parent == seen]
    assert [(e.candidates, e.dropped) for e in after] == [((), 1)]


async def test_an_answer_is_written_anew_though_a_refusal_that_may_not_win_ranks_first() -> None:
    offered = actions(action("refuse", "", [[9, 9]]), action("answer", "", [[9, 8]]))
    script = Script(
        propose=lambda p: offered if len(p.thoughts) == 1 else actions(),
        score=lambda p: (9, 9) if p.kind == "refusal" or "written" in p.item else (9, 5),
    )
    model = script.model()
    result = await align(model, synthesis="always", satisfice=False, batch_margin=0.0)
    tried = {Prompt.of(request).kind for request in model.requests if request.stage == "execute"}
    assert tried == {"answer", "refuse"}
    assert (result.answer, result.ended) == ("the written answer", "searched")
