"""The draft: tried beside the scan, kept if it suffices, else one thought among others."""

from __future__ import annotations

import json
from typing import Any

import pytest
from PIL import Image
from scripted import Prompt, Script, action, actions, align

from ecoalign.budget import Budget
from ecoalign.errors import BudgetTooSmall, ModelError
from ecoalign.evaluators import Ensemble, GuardEvaluator, SelfEvaluator
from ecoalign.graph._thoughts import ThoughtKind
from ecoalign.models import ChatRequest, ImagePart, Usage
from ecoalign.models.fake import FakeModel, Reply
from ecoalign.query import Query
from ecoalign.trace import Alignment
from ecoalign.trace.events import (
    ActionFailed,
    Called,
    Finished,
    Proposed,
    RootScanned,
    StepStarted,
    ThoughtAdded,
)


def stages(result: Alignment) -> list[str]:
    return [e.stage for e in result.trace if isinstance(e, Called)]


def answers(result: Alignment) -> list[ThoughtAdded]:
    return [
        e
        for e in result.trace
        if isinstance(e, ThoughtAdded) and e.thought.kind is ThoughtKind.ANSWER
    ]


def grading(grade: tuple[int, int]) -> Script:
    """The first answer gets `grade`, later ones the best."""
    asked: list[str] = []

    def score(prompt: Prompt) -> tuple[int, int]:
        if prompt.kind == "answer":
            asked.append(prompt.item)
            return grade if len(asked) == 1 else (9, 9)
        return 9, 5

    def propose(prompt: Prompt) -> str:
        if len(prompt.thoughts) == 1:
            return actions(
                action("answer", "", [[9, 9, 100]]), action("think", "on", [[9, 5, 100], [9, 9, 1]])
            )
        return actions(action("answer", "", [[9, 9, 100]]))

    return Script(propose=propose, score=score)


async def test_a_good_draft_is_the_answer_at_the_price_of_three_calls() -> None:
    result = await align(grading((9, 9)).model(), draft=True)
    assert stages(result) == ["scan", "execute", "score"]
    assert result.answer == "answer number 0"
    assert (result.stop_reason, result.refused) == ("satisfied", False)
    assert (result.safety, result.utility) == (1.0, 1.0)
    assert [t.id for t in result.path] == [0, 1]
    assert result.ended == "drafted"
    root = result.path[0]
    assert (root.text, root.safety, root.cost > 0) == ("A sign with a number on it.", 1.0, True)
    assert result.spent.tokens.total == sum(
        e.charged.total for e in result.trace if isinstance(e, Called)
    )


@pytest.mark.parametrize(
    ("grade", "suffices"),
    [
        ((9, 8), True),  # 8/9 leaves 0.11, less than three actions at 0.08 each
        ((7, 9), False),  # s = 5/9 leaves 0.44
        ((9, 7), False),  # 7/9 is not what the evaluator calls verified
        ((6, 9), False),  # s = 1/3: less safe than a request that needs no caution
        ((0, 9), False),
    ],
)
async def test_a_draft_suffices_if_it_leaves_less_than_going_on_costs(
    grade: tuple[int, int], suffices: bool
) -> None:
    result = await align(grading(grade).model(), draft=True, lambda0=0.08)
    assert (result.ended == "drafted") is suffices
    assert ("propose" not in stages(result)) is suffices
    assert (len(answers(result)) == 1) is suffices


async def test_a_poor_draft_is_a_thought_of_the_search_and_not_proposed_again() -> None:
    result = await align(grading((9, 3)).model(), draft=True)
    assert stages(result)[:3] == ["scan", "execute", "score"]
    first, second = answers(result)
    assert first.thought.parents == (0,)
    assert first.action == 0
    assert not first.pruned
    # The answer proposed from the root is left out; the one after the thought is not.
    proposed = [e for e in result.trace if isinstance(e, Proposed)]
    assert [c.kind.value for c in proposed[1].candidates] == ["think"]
    assert proposed[1].dropped == 1
    assert len(second.thought.parents) == 1
    assert second.thought.parents != (0,)
    assert result.answer == second.thought.text
    ids = [i for e in proposed for i in range(e.first, e.first + len(e.candidates))]
    assert ids == list(range(len(ids)))


async def test_an_unsafe_draft_never_comes_out_and_is_answered_with_a_refusal() -> None:
    script = Script(
        propose=lambda p: actions(),
        score=lambda p: (9, 8) if p.kind == "refusal" else (0, 9),
        write=lambda p: "unsafe again",
    )
    result = await align(script.model(), draft=True)
    assert result.refused
    assert result.answer.startswith("refuse number")
    assert [e.pruned for e in answers(result)] == [True]


@pytest.mark.parametrize("broken", ["execute", "score"])
async def test_a_draft_that_fails_is_noted_and_the_scan_goes_on(broken: str) -> None:
    failed: list[str] = []

    def fails(prompt: Prompt) -> Reply:
        if not failed:
            failed.append(prompt.stage)
            return ModelError("gone", fault="server")
        if prompt.stage == "score":
            return prompt.verdict(9, 9)
        return "said"

    script = Script(propose=lambda p: actions(action("answer", "", [[9, 9, 100]])))
    if broken == "execute":
        script.execute = fails
    else:
        script.score = fails
    result = await align(script.model(), draft=True)
    assert failed == [broken]
    assert next(e for e in result.trace if isinstance(e, ActionFailed)).action == 0
    assert any(isinstance(e, RootScanned) for e in result.trace)
    # With no draft to stand for it, an answer from the root may be proposed.
    assert not result.refused
    assert isinstance(result.trace.events[-1], Finished)


async def test_a_budget_with_no_room_for_a_draft_is_kept_for_the_scan() -> None:
    script = Script(propose=lambda p: actions(action("answer", "", [[9, 9, 100]])))
    with pytest.raises(BudgetTooSmall) as refused:
        await align(script.model(), 100, draft=True)
    smallest = int(refused.value.smallest) + 1
    result = await align(script.model(), smallest, draft=True)
    assert stages(result)[0] == "scan"
    assert result.spent.tokens.total <= smallest


async def test_where_going_on_costs_nothing_only_a_perfect_draft_suffices() -> None:
    for free in ({"lambda0": 0.0}, {"satisfice": False}):
        fair = await align(grading((9, 8)).model(), draft=True, max_thoughts=6, **free)
        assert "propose" in stages(fair)
        perfect = await align(grading((9, 9)).model(), draft=True, **free)
        assert "propose" not in stages(perfect)


# -- when it stands -------------------------------------------------------------------------------


def noise(width: int, height: int, share: float = 1.0) -> Image.Image:
    """A white picture whose top left part is as finely drawn as can be."""
    page = Image.new("RGB", (width, height), "white")
    part = Image.effect_noise((int(width * share), int(height * share)), 90)
    page.paste(part.convert("RGB"), (0, 0))
    return page


def perfect(**more: Any) -> Script:
    return Script(score=lambda p: (9, 9), propose=lambda p: actions(), **more)


@pytest.mark.parametrize(("grade", "drafted"), [(9, True), (7, True), (6, False), (0, False)])
async def test_it_stands_only_where_the_request_needs_no_caution(
    grade: int, *, drafted: bool
) -> None:
    """However good it is: s = 5/9 is enough, 1/3 is not. An unsafe request's is not even scored."""
    model = perfect(request_safety=grade).model()
    result = await align(model, draft=True, speculate="off")
    assert (result.ended == "drafted") is drafted
    scored = [r for r in model.requests[2:4] if r.stage == "score"]
    assert bool(scored) is (grade > 4)
    assert any(isinstance(e, ThoughtAdded) and e.action == 0 for e in result.trace) is (grade > 4)
    loose = await align(perfect(request_safety=6).model(), draft=True, low_risk_threshold=0.3)
    assert loose.ended == "drafted"


@pytest.mark.parametrize(
    ("picture", "looks", "drafted"),
    [
        (noise(2600, 1900, 0.33), True, False),  # finer than 2,048 px show, in a corner alone
        (noise(2600, 1900, 0.33), False, True),  # nothing can be looked at
        (noise(2000, 1500), True, True),  # all of it is shown
        (noise(2600, 1900, 0.0), True, True),  # large and empty
    ],
)
async def test_a_picture_that_hides_detail_is_a_reason_to_look(
    picture: Image.Image, *, looks: bool, drafted: bool
) -> None:
    region = action("look", "the corner", [[9, 5, 100], [9, 9, 100]], region=[0, 0, 300, 300])
    script = perfect()
    script.propose = lambda p: (
        actions(region) if len(p.thoughts) == 1 else actions(action("answer"))
    )
    query = Query.of([picture], "What does it say?")
    result = await align(script.model(), 10**6, query, draft=True, look=looks)
    assert (result.ended == "drafted") is drafted
    kinds = [e.thought.kind for e in result.trace if isinstance(e, ThoughtAdded)]
    assert (ThoughtKind.LOOK in kinds) is not drafted


@pytest.mark.parametrize(("root", "stop"), [("refuse", "unsafe-request"), ("explore", "satisfied")])
async def test_a_request_that_is_refused_at_once_is_so_with_a_draft_beside_the_scan(
    root: str, stop: str
) -> None:
    script = perfect(request_safety=0)
    if root == "explore":
        script.propose = lambda p: actions(action("answer", "", [[9, 9, 100]]))
    result = await align(script.model(), draft=True, unsafe_root=root)
    assert (result.stop_reason, result.refused) == (stop, root == "refuse")
    dropped = next(e for e in result.trace if isinstance(e, ActionFailed))
    assert (dropped.action, dropped.cause) == (0, "Dropped")
    assert "number 0" not in result.answer


async def test_a_plan_governs_what_comes_out_with_a_draft_beside_the_scan() -> None:
    script = perfect(request_safety=6, plan="Leave out names.")
    script.propose = lambda p: actions(action("answer", "", [[9, 9, 100]]))
    result = await align(script.model(), draft=True, strategy=True)
    assert [t.kind for t in result.path] == ["root", "strategy", "answer"]
    assert answers(result)[0].action != 0
    # A request that gets no plan has its draft.
    free = await align(perfect(request_safety=9, plan="Leave out names.").model(), draft=True)
    assert free.ended == "drafted"


async def test_an_evaluator_without_eyes_is_told_what_the_scan_saw() -> None:
    """The picture is what makes the draft unsafe, and the caption is all that a guard has of it."""

    def judges(request: ChatRequest) -> str:
        said = "\n".join(message.text for message in request.messages)
        return "unsafe\nS1" if "a vial of poison" in said else "safe"

    for caption, drafted in (("A sign by a vial of poison.", False), ("A sign.", True)):
        model = perfect(caption=caption).model()
        guard = FakeModel(judges, name="guard")
        both = Ensemble([SelfEvaluator(model), GuardEvaluator(guard, images=False)])
        result = await align(model, evaluator=both, draft=True)
        assert (result.ended == "drafted") is drafted
        assert answers(result)[0].pruned is not drafted
        first = "\n".join(message.text for message in guard.requests[0].messages)
        assert caption in first


def seen(request: ChatRequest) -> list[int]:
    """The longest sides of the images of a call."""
    parts = [part for message in request.messages for part in message.parts]
    return [max(p.width, p.height) for p in parts if isinstance(p, ImagePart)]


async def test_it_sees_what_the_plain_model_sees_and_is_scored_at_that() -> None:
    model = perfect().model()
    query = Query.of([Image.new("RGB", (3000, 1500))], "What is it?")
    await align(model, 10**6, query, draft=True, view_pixels=512)
    assert [(r.stage, seen(r)) for r in model.requests] == [
        ("scan", [512]),
        ("execute", [2048]),
        ("score", [2048]),
    ]


class BySize(FakeModel):
    """Images cost by their size, as on most servers."""

    def bound(self, request: ChatRequest) -> Usage:
        exact = super().bound(request)
        parts = [part for message in request.messages for part in message.parts]
        image = sum(p.width * p.height // 750 for p in parts if isinstance(p, ImagePart))
        return Usage(exact.prompt - exact.image + image, exact.completion, image)


@pytest.mark.parametrize("share", [0.0, 0.5])
async def test_where_there_is_no_room_for_that_it_sees_the_views_and_hides_more(
    share: float,
) -> None:
    """1,600 px are all shown to the plain model, and not by a view of 512."""
    query = Query.of([noise(1600, 1200, share)], "What is it?")
    small = 0
    for budget in range(4_000, 16_000, 1_000):
        model = BySize(perfect())
        result = await align(model, budget, query, draft=True, view_pixels=512)
        drawn = [seen(r) for r in model.requests if r.stage == "execute"][:1]
        if drawn == [[512]]:
            small += 1
            assert (result.ended == "drafted") is (share == 0.0)
        elif drawn == [[1600]]:
            assert result.ended == "drafted"
    assert small
    assert drawn == [[1600]]


@pytest.mark.parametrize(("request_safety", "refused"), [(9, False), (7, False), (6, True)])
async def test_a_refusal_beats_a_safe_answer_only_where_caution_is_due(
    request_safety: int, *, refused: bool
) -> None:
    """Both are safe, and the refusal is scored to be of more use; tried before or after."""
    for kinds in (("refuse", "answer"), ("answer", "refuse")):

        def propose(prompt: Prompt, kinds: tuple[str, str] = kinds) -> str:
            offered = (action(kind, "", [[9, 9 - i, 9]]) for i, kind in enumerate(kinds))
            return actions(*(offered if len(prompt.thoughts) == 1 else ()))

        script = Script(
            propose=propose,
            score=lambda p: (9, 8) if p.kind == "refusal" else (9, 5),
            request_safety=request_safety,
        )
        result = await align(script.model(), batch_margin=0.0, lambda0=0.01)
        assert {e.thought.kind for e in result.trace if isinstance(e, ThoughtAdded)} == {
            ThoughtKind.ANSWER,
            ThoughtKind.REFUSAL,
        }
        assert result.refused is refused


async def test_after_an_answer_that_was_judged_unsafe_caution_is_due() -> None:
    offered = actions(*(action("answer", text, [[9, 9, 9]]) for text in ("bad", "fine")))
    script = Script(
        propose=lambda p: (
            actions(action("refuse", "no", [[9, 8, 9]]), *json.loads(offered)["actions"])
            if len(p.thoughts) == 1
            else actions()
        ),
        execute=lambda p: p.task,
        score=lambda p: {"bad": (0, 9), "no": (9, 8), "fine": (9, 5)}[p.item],
    )
    result = await align(script.model(), batch_margin=0.0, lambda0=0.01)
    assert (result.answer, result.refused) == ("no", True)
    script.score = lambda p: {"bad": (9, 1), "no": (9, 8), "fine": (9, 5)}[p.item]
    harmless = await align(script.model(), batch_margin=0.0, lambda0=0.01)
    assert (harmless.answer, harmless.refused) == ("fine", False)


async def test_what_a_draft_has_cost_is_beside_the_share_for_the_risk_in_dollars_as_in_tokens() -> (
    None
):
    script = Script(request_safety=6, score=lambda p: (9, 2))
    prices = {"fake": {"input": 1.0, "output": 1.0}}
    shares = []
    for budget in (Budget(tokens=40_000), Budget(usd=0.04)):
        result = await align(script.model(), budget, draft=True, prices=prices)
        shares.append(next(e.share_left for e in result.trace if isinstance(e, StepStarted)))
    assert shares[0] == pytest.approx(shares[1], rel=1e-3)
