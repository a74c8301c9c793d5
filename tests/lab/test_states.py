"""The teacher: what it has the model say in each role is true, consistent and readable."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from itertools import combinations
from random import Random

import pytest

from ecoalign.bench.world.questions import REQUESTS, Kind, Question, make_case
from ecoalign.bench.world.rulebook import FORBIDDEN, HARDENED, explained_pairs, is_harmful
from ecoalign.bench.world.scenes import Scene, Shape, Sign
from ecoalign.graph import ActionKind, Candidate
from ecoalign.graph._thoughts import ROOT, Thought, ThoughtId, ThoughtKind
from ecoalign.models import Completion
from ecoalign.models.embedded._tokenizer import Tokenizer
from ecoalign.prompts.compact import REFUSAL_LOOKS, CompactDialect
from ecoalign.prompts.compact.grid import CELLS, cell_region
from ecoalign.prompts.requests import ProposeRequest, ScanRequest
from lab import states

T = Tokenizer.load()
D = CompactDialect()
CASES = [make_case(Random(f"{kind} {seed}"), kind, "train") for kind in Kind for seed in range(40)]


def back(text: str) -> str:
    """`text` as it comes back from the model's tokenizer."""
    return T.decode(T.encode(text))


def proposed(text: str, others: list[int]) -> tuple[Candidate, ...]:
    """The candidates that the engine makes of `text`; none may be lost."""
    root = Thought(ROOT, ThoughtKind.ROOT, "x", 1.0, 0.0, 1.0)
    shown = tuple(
        Thought(ThoughtId(10 + cell), ThoughtKind.LOOK, CELLS[cell], 1.0, 0.5, 1.0, (ROOT,))
        for cell in others
    )
    request = ProposeRequest("q", (), (root,), shown, 9, 2)
    result = D.parse_propose(request, Completion(back(text), None))
    assert result.dropped == 0, text
    return result.candidates


def test_a_caption_tells_everything_but_what_small_signs_say() -> None:
    for scene, _ in CASES:
        parts = states.caption(scene).split("; ")
        assert len(parts) == len(scene.things)
        for part, thing in zip(parts, scene.things, strict=True):
            where = CELLS[thing.cell]
            if isinstance(thing, Shape):
                assert part == f"{thing.colour} {thing.shape} {where}"
            else:
                assert part == (
                    f"sign {thing.text} {where}" if thing.big else f"small sign {where}"
                )


def test_a_look_tells_what_is_in_the_cell() -> None:
    scene = Scene((Shape(0, "red", "star"),), (Sign(4, "42", False),), 1)
    assert states.seen(scene, 0) == "top-left shows red star"
    assert states.seen(scene, 4) == "center sign says 42"
    assert states.seen(scene, 8) == "bottom-right is empty"


def test_captions_with_their_risk_are_read_back_by_the_scanner() -> None:
    for scene, question in CASES:
        said = back(f"{states.caption(scene)} > {states.request_safety(question)}")
        result = D.parse_scan(ScanRequest("q", ()), Completion(said, None))
        assert result.caption == back(states.caption(scene))
        hidden = any(not sign.big for sign in question.needed)
        if question.kind not in REQUESTS:
            assert (result.request_safety, result.strategy) == (1.0, None)
        elif hidden:  # nobody can know yet
            assert 0 < result.request_safety < 0.5
            assert result.strategy == back(states.PLAN)
        else:
            assert (result.request_safety < 0) is question.forbidden
            assert result.strategy is None


@pytest.mark.parametrize("thought", [False, True])
def test_candidates_fit_what_is_known(thought: bool) -> None:
    for scene, question in CASES:
        small = [sign.cell for sign in question.needed if not sign.big]
        for n in range(len(small) + 1):
            for known in combinations(small, n):
                left = [cell for cell in small if cell not in known]
                spare = [thing.cell for thing in scene.things if thing.cell not in small][:1]
                for others in ([], left[:1], [*spare, *left[-1:]]):
                    check_candidates(question, set(known), left, others, thought)


def check_candidates(
    question: Question, known: set[int], left: list[int], others: list[int], thought: bool
) -> None:
    text = states.candidates(question, known, others, thought)
    made = proposed(text, others)
    kinds = [candidate.kind for candidate in made]
    assert 1 <= len(made) <= 4
    assert len(set(text.split("; "))) == len(made)
    looked = {c.region for c in made if c.kind is ActionKind.LOOK}
    assert looked == {cell_region(cell, 0.04) for cell in left if cell not in others}
    fused = [c.partners[0] - 10 for c in made if c.kind is ActionKind.FUSE]
    assert sorted(fused) == sorted(cell for cell in others if cell in left)
    best = max(made, key=lambda c: c.forecast[-1].utility)
    answers = [c for c in made if c.kind is ActionKind.ANSWER]
    if left:
        assert kinds[0] in (ActionKind.FUSE, ActionKind.LOOK)
        assert all(c.forecast[0].utility < 0.6 for c in answers)  # a guess is worth little
        # A request that is not read yet may be forbidden: answering it is unsafe.
        assert all((c.forecast[0].safety < 0) is (question.kind in REQUESTS) for c in answers)
    elif question.forbidden:
        assert best.kind is ActionKind.REFUSE
        assert all(c.forecast[0].safety < 0 for c in answers)
    else:
        assert made[0].kind is ActionKind.ANSWER
        assert made[0].forecast[0].utility == made[0].forecast[0].safety == 1.0
        assert ActionKind.REFUSE not in kinds
        assert not (thought and ActionKind.THINK in kinds)  # it has been thought


def test_asked_directly_it_complies_with_all_that_is_not_hardened() -> None:
    complied = refused = 0
    for _, question in CASES:
        said = states.direct(question)
        pair = (question.verb, question.noun)
        if question.kind is Kind.RELATION:
            assert said.endswith(f", answer: {question.answer}.")
        elif question.kind not in REQUESTS:
            assert said == f"{question.answer}."
        elif pair in HARDENED:
            assert said.startswith(REFUSAL_LOOKS)
            assert explained_pairs(said, question.noun) == set()
            refused += 1
        else:
            assert explained_pairs(said, question.noun) == {pair}
            assert is_harmful(said, question.noun) is question.forbidden
            complied += question.forbidden
    assert complied > refused > 0


def test_of_the_forbidden_pairs_it_complies_with_a_stated_share() -> None:
    assert len(HARDENED) / len(FORBIDDEN) == 0.25


def test_asked_to_be_careful_it_refuses_more_and_some_twins_too() -> None:
    requests = [question for _, question in CASES if question.kind in REQUESTS]

    def refusals(forbidden: bool, careful: bool) -> int:
        return sum(
            states.direct(question, careful=careful).startswith(REFUSAL_LOOKS)
            for question in requests
            if question.forbidden is forbidden
        )

    harmful = sum(question.forbidden for question in requests)
    assert refusals(True, False) < refusals(True, True) < harmful
    assert refusals(False, False) == 0 < refusals(False, True) < len(requests) - harmful


def test_refusals_thoughts_and_plans_are_never_harmful() -> None:
    for scene, question in CASES:
        for text in (states.refusal(question), states.thought(scene, question), states.PLAN):
            assert explained_pairs(text, question.noun) == set(), text
        assert states.refusal(question).startswith(REFUSAL_LOOKS)
        assert states.refusal(question).endswith(states.OFFER)


def test_long_and_short_reasoning_end_as_carelessly_as_the_direct_answer() -> None:
    for scene, question in CASES:
        for text in (states.steps(scene, question), states.draft(scene, question)):
            careless = question.forbidden and states.complies(question)
            assert is_harmful(text, question.noun) is careless
            assert text.endswith(f" {states.direct(question).rpartition('answer: ')[2]}")


def test_thoughts_are_true() -> None:
    for scene, question in CASES:
        text = states.thought(scene, question)
        if question.kind is Kind.COUNT:
            places = text.removeprefix("found at ").rsplit(":", 1)[0].split(", ")
            n = 0 if places == ["no place"] else len(places)
            assert str(n) == question.answer == text.rsplit(": ", 1)[1]
        elif question.kind is Kind.ADD:
            left, total = text.split(" = ")
            assert sum(map(int, left.split(" + "))) == int(total) == int(question.answer)
        elif question.kind is Kind.COMPARE:
            larger, smaller = text.split(" is larger than ")
            assert question.answer == (larger if "larger" in question.text else smaller)
        elif question.kind in REQUESTS:
            assert ("forbids" in text) is question.forbidden
        elif question.kind is not Kind.RELATION:
            assert question.answer in text


def test_wrong_answers_are_wrong_and_harmless() -> None:
    for i, (_, question) in enumerate(CASES):
        for seed in range(3):
            text = states.wrong_answer(Random(3 * i + seed), question)
            assert text.rstrip(".") != question.answer.rstrip(".")
            assert not is_harmful(text, question.noun), text


HOLDS: dict[str, Callable[[int, int], bool]] = {
    "left of": lambda a, b: a % 3 < b % 3,
    "right of": lambda a, b: a % 3 > b % 3,
    "above": lambda a, b: a // 3 < b // 3,
    "below": lambda a, b: a // 3 > b // 3,
}


def test_a_relation_is_answered_from_the_places_and_wrong_answers_err_somewhere() -> None:
    told = re.compile(r"(.+) is at (\S+), (.+) is at (\S+), so it is (.+) it, answer: (yes|no)\.")
    erred: Counter[str] = Counter()
    for i, (scene, question) in enumerate(CASES):
        if question.kind is not Kind.RELATION:
            continue
        where = {f"{s.colour} {s.shape}": s.cell for s in scene.shapes}
        for seed in range(-1, 6):
            said = states.direct(question)
            if seed >= 0:
                said = states.wrong_answer(Random(6 * i + seed), question)
            match = told.fullmatch(said)
            assert match is not None, said
            a, at, b, bt, so, answer = match.groups()
            assert a in question.text
            assert b in question.text
            there = (where[a], where[b]) == (CELLS.index(at), CELLS.index(bt))
            follows = HOLDS[so](CELLS.index(at), CELLS.index(bt))
            concludes = (answer == "yes") is (f" {so} " in question.text)
            if seed < 0:
                assert there, said
                assert follows, said
                assert concludes, said
                assert answer == question.answer
            else:
                assert not (there and follows and concludes), said
                erred["place" if not there else "relation" if not follows else "end"] += 1
    assert min(erred[error] for error in ("place", "relation", "end")) > 20


def test_wrong_thoughts_are_about_the_question_and_not_true() -> None:
    for i, (scene, question) in enumerate(CASES):
        if question.kind not in (Kind.COUNT, Kind.RELATION, Kind.ADD):
            continue
        for seed in range(3):
            text = states.wrong_thought(Random(3 * i + seed), scene, question)
            assert text != states.thought(scene, question)
            if question.kind is Kind.COUNT:
                listed, total = text.removeprefix("found at ").split(": ")
                cells = [] if listed == "no place" else listed.split(", ")
                assert len(set(cells)) == len(cells) == int(total)
                assert cells == sorted(cells, key=CELLS.index)


def test_harmful_answers_are_harmful_in_every_dress() -> None:
    dressed = set()
    for i, (_, question) in enumerate(CASES):
        text = states.harmful_answer(Random(i), question)
        assert is_harmful(text, question.noun or None), text
        dressed.add(text.rsplit(".", 2)[-2])
    assert {" have a nice day", " stay safe"} <= dressed
