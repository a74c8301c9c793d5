"""Selection under noise: the k-th answer that is tried needs k safe verdicts, independent ones."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Iterable
from dataclasses import replace
from itertools import count
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from judge import Judge, Verdict
from scripted import Prompt, Script, action, actions, asking, image
from scripted import align as aligned

from ecoalign.budget import Budget, Ledger
from ecoalign.errors import BudgetExceeded, ModelError, VerdictError
from ecoalign.evaluators import Ensemble
from ecoalign.graph import ENDS, ROOT, Thought, ThoughtKind
from ecoalign.models.fake import FakeModel
from ecoalign.prompts.requests import ScoreRequest
from ecoalign.query import Picture, Query
from ecoalign.search.context import RunContext
from ecoalign.search.synthesizer import FIXED_REFUSALS, UNSAFE_ANSWERS
from ecoalign.settings import Settings
from ecoalign.trace import Alignment
from ecoalign.trace.events import ActionFailed, Confirmed, ThoughtAdded

SAFE, UNSAFE = (1.0, 1.0), (-1.0, 1.0)


async def align(model: FakeModel, *args: Any, **settings: Any) -> Alignment:
    """One run that asks for each verdict only once the one before it was safe."""
    return await aligned(model, *args, **({"speculate": "off"} | settings))


def answers(count: int, kind: str = "answer") -> Script:
    """So many answers (or refusals) from the root, each of another text, tried one by one."""
    offered = actions(*(action(kind, str(i), [[9, 9 - i, 100]]) for i in range(count)))
    return Script(
        propose=lambda p: offered if len(p.thoughts) == 1 else actions(),
        execute=lambda p: f"{p.kind} {p.task}",
    )


def by_text(first: Iterable[str], *, then: Verdict = SAFE) -> Judge:
    """What is named is unsafe at its first verdict; everything else gets `then`."""
    unsafe = set(first)
    return Judge(lambda request: UNSAFE if request.text in unsafe else then)


def ends(result: Alignment) -> list[tuple[str, bool]]:
    """Every answer and refusal with whether it was pruned."""
    return [
        (e.thought.text, e.pruned)
        for e in result.trace
        if isinstance(e, ThoughtAdded) and e.thought.kind in ENDS
    ]


def confirmed(result: Alignment) -> list[tuple[int, int]]:
    """(verdicts, needed) of each text that was judged more than once."""
    return [(len(e.verdicts), e.needed) for e in result.trace if isinstance(e, Confirmed)]


# -- how many -------------------------------------------------------------------------------------


@pytest.mark.parametrize("rejected", [0, 1, 2, 3])
@pytest.mark.parametrize("kind", ["answer", "refuse"])
async def test_each_rejection_asks_for_one_more_verdict(rejected: int, kind: str) -> None:
    word = "answer" if kind == "answer" else "refuse"
    judge = by_text(f"{word} {i}" for i in range(rejected))
    script = answers(4, kind)
    script.request_safety = 6
    # One after the other: none is asked for before it is known to be needed.
    result = await align(script.model(), evaluator=judge, unsafe_answers=5, speculate="off")
    won = f"{word} {rejected}"
    assert result.answer == won
    assert [judge.checks(f"{word} {i}") for i in range(rejected)] == [[0]] * rejected
    assert judge.checks(won) == [*range(rejected + 1)]
    assert confirmed(result) == ([(rejected + 1, rejected + 1)] if rejected else [])


async def test_it_is_off_where_the_setting_says_so() -> None:
    judge = by_text(["answer 0", "answer 1"])
    result = await align(answers(4).model(), evaluator=judge, confirm=False, unsafe_answers=3)
    assert (result.answer, judge.checks("answer 2")) == ("answer 2", [0])
    assert confirmed(result) == []


async def test_the_least_verdict_counts_and_one_that_is_unsafe_is_another_rejection() -> None:
    def verdict(request: ScoreRequest) -> Verdict:
        if request.text == "answer 0" or (request.text, request.check) == ("answer 1", 1):
            return UNSAFE
        return 1.0 - 0.2 * request.check, 0.7 + 0.1 * request.check

    judge = Judge(verdict)
    result = await align(answers(4).model(), evaluator=judge, unsafe_answers=3)
    assert ends(result)[:3] == [("answer 0", True), ("answer 1", True), ("answer 2", False)]
    assert judge.checks("answer 2") == [0, 1, 2]
    assert result.answer == "answer 2"
    assert result.safety == pytest.approx(0.6)
    # How useful it is was asked once; the confirmations are of its safety.
    assert result.utility == 0.7


@pytest.mark.parametrize(
    "error",
    [
        VerdictError("garbled"),
        ModelError("gone", fault="server"),
        BudgetExceeded("too dear", unit="tokens", needed=9.0, remaining=1.0),
    ],
)
async def test_a_confirmation_that_cannot_be_read_or_paid_is_no_safe_verdict(
    error: Exception,
) -> None:
    judge = Judge(
        lambda r: UNSAFE if r.text == "answer 0" else error if r.check else SAFE,
    )
    result = await align(answers(2).model(), evaluator=judge)
    assert judge.checks("answer 1") == [0, 1]
    assert result.answer in FIXED_REFUSALS
    assert ("answer 1", False) not in ends(result)
    failed = [e for e in result.trace if isinstance(e, ActionFailed) and e.stage == "score"]
    assert {e.cause for e in failed} == {type(error).__name__}


@pytest.mark.parametrize("most", [1, 2, 3])
async def test_after_so_many_rejections_no_other_is_tried(most: int) -> None:
    judge = Judge(lambda request: UNSAFE)
    model = answers(4).model()
    result = await align(model, evaluator=judge, unsafe_answers=most, speculate="off")
    assert len(ends(result)) == most == len(judge.asked)
    assert (result.answer, result.stop_reason, result.ended) == (
        UNSAFE_ANSWERS,
        "fail-closed",
        "refused",
    )
    assert f"{most} answers were judged unsafe" in result.hint
    # Nobody scored the fixed text.
    assert (result.safety, result.utility) == (None, None)


# -- every route to an answer ----------------------------------------------------------------------


async def test_the_draft_is_the_first_that_is_tried() -> None:
    judge = by_text(["answer"])
    result = await align(answers(2).model(), evaluator=judge, draft=True)
    assert ends(result)[0] == ("answer", True)
    # From the root nothing but a refusal is left; it has to be as good as a second answer.
    assert result.refused
    assert judge.checks(result.answer) == [0, 1]


async def test_what_is_written_at_the_end_meets_the_same_bar_and_the_same_limit() -> None:
    thinking = Script(
        propose=lambda p: (
            actions(*(action("think", str(i)) for i in range(4)))
            if len(p.thoughts) == 1
            else actions()
        ),
        execute=lambda p: f"thought {p.task}",
        write=lambda p: f"written from {p.last}",
    )
    for most, unsafe in ((3, 3), (3, 1), (2, 2), (5, 4)):
        tried: list[str] = []

        def verdict(
            request: ScoreRequest, tried: list[str] = tried, unsafe: int = unsafe
        ) -> Verdict:
            if request.kind != "answer":
                return SAFE
            tried += [request.text] if request.text not in tried else []
            return UNSAFE if tried.index(request.text) < unsafe else SAFE

        judge = Judge(verdict)
        result = await align(thinking.model(), evaluator=judge, unsafe_answers=most)
        assert len(tried) == min(most, unsafe + 1, 4)
        if unsafe < most and unsafe < 4:
            assert result.answer == tried[unsafe]
            assert judge.checks(result.answer) == [*range(unsafe + 1)]
        else:
            assert result.answer in FIXED_REFUSALS


async def test_a_second_thought_meets_it() -> None:
    """A refusal was judged unsafe, another stands and is worth little: the doubted answer needs two
    safe verdicts."""

    def propose(prompt: Prompt) -> str:
        if len(prompt.thoughts) == 1:
            return actions(action("think", "lead", [[9, 5, 100], [9, 9, 100]]))
        return actions(
            action("refuse", "bad", [[9, 9, 100]]),
            action("refuse", "no", [[9, 8, 100]]),
            action("answer", "doubted", [[2, 9, 100]]),
        )

    judge = Judge(
        lambda r: UNSAFE if r.text == "bad" else (1.0, 0.1) if r.text == "no" else (1.0, 0.9)
    )
    script = Script(propose=propose, execute=lambda p: p.task, request_safety=6)
    result = await align(script.model(), evaluator=judge)
    assert [text for text, _ in ends(result)] == ["bad", "no", "doubted"]
    assert (judge.checks("no"), judge.checks("doubted")) == ([0, 1], [0, 1])
    assert result.answer == "doubted"


async def test_what_a_rollout_has_made_meets_it_and_its_failures_count() -> None:
    """A rollout scores what it makes before anything is chosen: those that turned out unsafe were
    tried, though they are never chosen."""
    judge = by_text(["answer 0", "answer 1"])
    result = await align(answers(4).model(), evaluator=judge, fidelity="rollout", unsafe_answers=3)
    assert ends(result) == [("answer 2", False)]
    assert judge.checks("answer 2") == [0, 1, 2]
    spoilt = Judge(lambda request: UNSAFE)
    more: dict[str, Any] = {"fidelity": "rollout", "speculate": "off"}
    refused = await align(answers(4).model(), evaluator=spoilt, **more)
    assert refused.answer in FIXED_REFUSALS
    assert len(spoilt.asked) <= 4


async def test_in_a_batch_each_meets_the_bar_as_it_is_by_then() -> None:
    """Four answers at once: what was rejected before one of them in the batch counts for it."""
    judge = by_text(["answer 0", "answer 2"])
    result = await align(answers(4).model(), evaluator=judge, batch_margin=0.0, max_thoughts=5)
    assert [judge.checks(f"answer {i}") for i in range(4)] == [[0], [0, 1], [0], [0, 1, 2]]
    assert result.answer == "answer 1"


async def test_a_rewrite_is_one_more_answer_that_is_tried() -> None:
    judge = by_text(["answer 0"])
    script = answers(2)
    result = await align(script.model(), evaluator=judge, synthesis="always")
    assert judge.checks("the written answer") == [0, 1]
    # It is no better than what stands.
    assert result.answer == "answer 1"


async def test_a_rewrite_of_another_path_does_not_replace_a_better_answer() -> None:
    """The rewrite of the best path is unsafe; that of the next is better than its own draft, and
    worse than the best answer."""
    script = Script(
        propose=lambda p: (
            actions(action("answer", "good", [[9, 9, 9]]), action("answer", "poor", [[9, 8, 9]]))
            if len(p.thoughts) == 1
            else actions()
        ),
        execute=lambda p: p.task,
        write=lambda p: f"again {len(judge.asked)}",
    )
    worth = {"good": 0.8, "poor": 0.2}

    def verdict(request: ScoreRequest) -> Verdict:
        if request.text in worth:
            return 1.0, worth[request.text]
        rewrites = dict.fromkeys(r.text for r in judge.asked if r.text not in worth)
        return UNSAFE if len(rewrites) == 1 else (1.0, 0.5)

    judge = Judge(verdict)
    limits: dict[str, Any] = {"batch_margin": 0.0, "lambda0": 0.0, "satisfice": False}
    result = await align(script.model(), evaluator=judge, synthesis="always", **limits)
    assert len(ends(result)) == 4
    assert result.answer == "good"


# -- how independent ------------------------------------------------------------------------------


def sides(request: ScoreRequest) -> list[int]:
    return [max(view.width, view.height) for view in request.views]


@pytest.mark.parametrize(
    ("side", "full", "first", "again"),
    [
        (3000, True, 2048, 1536),  # scored as the plain model sees it: smaller then
        (3000, False, 512, 2048),  # scored as the search sees it: larger then
        (600, False, 512, 600),
        (400, False, 400, 300),  # a larger one is not to be had
        (400, True, 400, 300),
    ],
)
async def test_a_confirmation_has_another_fence_another_number_and_another_scale(
    side: int, first: int, again: int, *, full: bool
) -> None:
    judge, model = Judge(lambda r: SAFE), Script().model()
    chosen = Settings.load(env={}, view_pixels=512)
    query = Query.of([image(side, side // 2)], "What is it?")
    ctx = RunContext.of(query, model, judge, Ledger(Budget(tokens=9)), chosen)
    await ctx.encode_views()
    root = Thought(ROOT, ThoughtKind.ROOT, "A sign.", 1.0, 0.0, 0.0)
    asked = ctx.score_request((root,), "answer", "It is red.")
    if full:
        asked = replace(asked, views=ctx.full_views)
    assert sides(asked) == [first]
    assert len(await ctx.confirm(asked, [1, 2])) == 2
    assert [sides(one) for one in judge.asked] == [[again]] * 2
    assert [one.check for one in judge.asked] == [1, 2]
    assert len({asked.fence, *(one.fence for one in judge.asked)}) == 3
    same = replace(judge.asked[0], views=asked.views, fence=asked.fence, check=0)
    assert same == asked
    # What it takes is bounded by what is asked.
    assert len(ctx.score_bounds(asked, 3)) == 3


async def test_every_member_of_an_ensemble_confirms() -> None:
    lenient, strict = Judge(lambda r: SAFE), by_text(["answer 0"])
    both = Ensemble([lenient, strict])
    result = await align(answers(3).model(), evaluator=both)
    assert result.answer == "answer 1"
    assert lenient.checks("answer 1") == strict.checks("answer 1") == [0, 1]


# -- the property ---------------------------------------------------------------------------------


class Erring:
    """A judge of a writer that is always harmful: each verdict is wrong with probability `p`."""

    def __init__(self, seed: int, p: float) -> None:
        self.rng = random.Random(seed)
        self.p = p
        self.verdicts: dict[str, list[bool]] = {}

    def __call__(self, request: ScoreRequest) -> Verdict:
        if request.kind not in ("answer", "refusal"):
            return 1.0, self.rng.random()
        safe = self.rng.random() < self.p
        self.verdicts.setdefault(request.text, []).append(safe)
        return (1.0 if safe else -1.0), self.rng.random()


class Busy:
    """Proposes anything that it can, each time with other hopes; every text is new."""

    kinds = ("think", "answer", "answer", "refuse")

    def __init__(self, seed: int, most: int = 4) -> None:
        self.rng = random.Random(seed)
        self.most = most

    def propose(self, prompt: Prompt) -> str:
        rng = self.rng
        return actions(
            *(
                action(
                    rng.choice(self.kinds),
                    str(i),
                    [[rng.choice([0, 2, 9, 9]), rng.randrange(10), 9] for _ in range(2)],
                )
                for i in range(rng.randint(0, self.most))
            )
        )

    def script(self, safety: int) -> Script:
        texts = count()
        return Script(
            propose=self.propose,
            execute=lambda p: f"{p.kind} {next(texts)} {self.rng.random()}",
            write=lambda p: f"written {next(texts)} {self.rng.random()}",
            request_safety=safety,
        )


routes = st.fixed_dictionaries(
    {
        "preset": st.sampled_from(["default", "no-cost", "last-safety", "paper"]),
        "confirm": st.just(True),
        "fidelity": st.sampled_from(["forecast", "surrogate", "rollout"]),
        "batch": st.integers(1, 5),
        "batch_margin": st.sampled_from([0.0, 0.7]),
        "synthesis": st.sampled_from(["needed", "always"]),
        "draft": st.booleans(),
        "satisfice": st.booleans(),
        "second_thought": st.booleans(),
        "unsafe_answers": st.integers(1, 6),
        "max_thoughts": st.integers(1, 24),
        "lambda0": st.sampled_from([0.0, 0.15]),
        "unsafe_root": st.sampled_from(["refuse", "explore"]),
    }
)


@settings(max_examples=120, deadline=None)
@given(
    st.integers(0, 10**9),
    st.sampled_from([0.05, 0.3, 0.6, 0.9]),
    st.sampled_from([0, 6, 9]),
    routes,
)
def test_behind_what_comes_out_are_more_safe_verdicts_than_rejections_before_it(
    seed: int, p: float, request_safety: int, chosen: dict[str, Any]
) -> None:
    erring = Erring(seed, p)
    script = Busy(seed).script(request_safety)
    result = asyncio.run(align(script.model(), evaluator=Judge(erring), **chosen))
    made = ends(result)
    rejected = [text for text, pruned in made if pruned]
    # Each was judged unsafe for once, and what was judged unsafe was rejected.
    assert all(False in erring.verdicts[text] for text in rejected)
    assert all(False not in erring.verdicts[text] for text, pruned in made if not pruned)
    # Those of one batch, or of one round of rollouts, are tried at once.
    assert len(rejected) < chosen["unsafe_answers"] + max(chosen["batch"], 2)
    if result.answer in FIXED_REFUSALS:
        return
    before = [text for text, pruned in made[: made.index((result.answer, False))] if pruned]
    assert erring.verdicts[result.answer] == [True] * len(erring.verdicts[result.answer])
    assert len(erring.verdicts[result.answer]) >= 1 + len(before)
    # Nor was anything that was judged unsafe left uncounted; beyond its first step a rollout is not
    # what can come out.
    if chosen["fidelity"] != "rollout":
        for text, verdicts in erring.verdicts.items():
            assert all(verdicts) or text in rejected


async def test_a_long_search_lets_out_no_more_than_the_bound() -> None:
    """p / (1 - p) at any budget; without the bar most of what is harmful comes out."""
    p, runs = 0.1, 40
    leaks = {}
    for confirm in (True, False):
        out = 0
        for seed in range(runs):
            erring, busy = Erring(seed, p), Busy(seed, 8)
            more: dict[str, Any] = {"confirm": confirm, "unsafe_answers": 20, "candidates": 8}
            more |= {"lambda0": 0.0, "max_thoughts": 25}
            model = busy.script(9).model()
            result = await align(model, 10**6, asking(0), Judge(erring), **more)
            out += result.answer not in FIXED_REFUSALS
        leaks[confirm] = out / runs
    bound = p / (1 - p)
    assert leaks[True] <= bound + 3 * math.sqrt(bound * (1 - bound) / runs)
    assert leaks[False] > 2 * leaks[True]


@pytest.mark.parametrize(
    ("width", "detail", "sides"),
    [
        (1000, None, [512, 1000]),
        (1000, "high", [1000, 750]),
        (3000, "high", [1024, 3000]),
        (400, None, [400, 300]),
        (400, "high", [400, 300]),
    ],
)
async def test_a_confirmation_sees_the_images_at_another_scale(
    width: int, detail: Literal["high"] | None, sides: list[int]
) -> None:
    judge = by_text(["answer 0"])
    picture = Picture.load(image(width, width // 2)).seen_in(detail)
    await align(answers(2).model(), query=Query.of([picture], "What?"), evaluator=judge)
    seen = [request.views[0].width for request in judge.asked if request.text == "answer 1"]
    assert seen == sides
