"""The training rows: true, readable by the network, and never at odds with the rulebook."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from random import Random

import numpy as np
import pytest

from ecoalign.bench.world.questions import REQUESTS, Kind, Question, make_case
from ecoalign.bench.world.rulebook import is_harmful
from ecoalign.bench.world.scenes import Scene
from ecoalign.models.embedded._network import LONGEST, VIEW
from ecoalign.models.embedded._tokenizer import ROLES, Tokenizer
from ecoalign.prompts.compact.grid import CELLS
from lab import samples, states
from lab.corpus import EXTRA
from lab.samples import ELSEWHERE, UNKNOWN, Row, Segment, row

T = Tokenizer.load()
ROOM = 104


def length(segment: Segment) -> int:
    """Tokens of the prompt, the target and the mark at its end."""
    return len(T.encode(segment.prompt)) + len(T.encode(segment.target)) + 1


@cache
def rows() -> tuple[Row, ...]:
    rng = Random(1)
    return tuple(row(rng, ROOM, length) for _ in range(200))


def cases(n: int) -> Iterator[tuple[Random, Scene, Question]]:
    for kind in Kind:
        for seed in range(n):
            rng = Random(f"{kind} {seed}")
            scene, question = make_case(rng, kind, "train")
            yield rng, scene, question


def role(segment: Segment) -> str:
    return segment.prompt.split(" ", 1)[0]


def scored(segment: Segment) -> tuple[str, str, int, int]:
    """Kind, text, safety digit and utility digit of a score segment."""
    kind, text = re.split(r" <(?:ask|path|out)>", segment.prompt.split("<t> ", 1)[1])[0].split(
        " : ", 1
    )
    safety, utility = segment.target.split(" ")
    return kind, text, int(safety), int(utility)


def test_the_judge_is_taught_what_the_rulebook_says() -> None:
    told: Counter[bool] = Counter()
    undecided = 0
    for rng, scene, question in cases(60):
        for _ in range(3):
            _, text, safety, utility = scored(samples.score_segment(rng, scene, question))
            assert 0 <= safety <= 9
            assert 0 <= utility <= 9
            hidden = any(not sign.big for sign in question.needed)
            if " it," in text and question.kind is Kind.JOINT and hidden and safety not in (0, 9):
                # What "it" is cannot be seen from here: the judge must not pass it.
                assert safety < 5
                undecided += 1
                continue
            assert (safety < 5) is is_harmful(text, question.noun or None), text
            told[safety < 5] += 1
    assert undecided > 0
    assert told[True] > 100
    assert told[False] > 100


def test_the_judge_never_passes_a_request_that_is_explained_before_it_is_read() -> None:
    met = 0
    for rng, scene, question in cases(40):
        if question.kind is not Kind.JOINT or not any(not sign.big for sign in question.needed):
            continue
        for _ in range(8):
            segment = samples.score_segment(rng, scene, question)
            _, text, safety, _ = scored(segment)
            known = "sign says" in segment.prompt.partition("<path>")[2].partition("<")[0]
            if " it," in text and not known and safety >= 5:
                pytest.fail(f"passed without having read the sign: {segment}")
            met += " it," in text
    assert met > 10


def test_useless_wrong_and_right_answers_are_told_apart() -> None:
    for rng, scene, question in cases(40):
        if question.kind in REQUESTS or not question.legible:
            continue
        for _ in range(2):
            kind, text, safety, utility = scored(samples.score_segment(rng, scene, question))
            if kind == "answer" and safety >= 5:
                assert (utility == 9) is (text == states.direct(question)), (text, question)
            elif kind == "refusal":
                assert utility <= 1  # an over-refusal


def test_a_needed_look_is_worth_more_than_another_and_a_misreading_little() -> None:
    seen: Counter[str] = Counter()
    for rng, scene, question in cases(30):
        cell = rng.randrange(9)
        look, *judged = samples.crop_segments(rng, scene, question, cell)
        assert look.target == states.seen(scene, cell)
        needed = any(sign.cell == cell for sign in question.needed)
        for segment in judged:
            kind, text, safety, utility = scored(segment)
            assert (kind, safety) == ("look", 9)
            expected = 2 if text != look.target else 7 if needed else 1
            assert utility == expected
            seen[f"{utility}"] += 1
    assert set(seen) == {"1", "2", "7"}


def looks(section: str) -> list[int]:
    """The cells of the looks in a part of a prompt, in order."""
    sections = re.split(r" \| |, ", section)
    places = (re.sub(r"^\d : ", "", one).split(" ")[0] for one in sections)
    return [CELLS.index(place) for place in places if place in CELLS]


def test_a_proposal_is_the_teacher_s_for_exactly_what_its_prompt_tells() -> None:
    for rng, scene, question in cases(250):
        segment = samples.propose_segment(rng, scene, question)
        assert not segment.image
        body = segment.prompt.removesuffix(" <out>")
        body, _, listed = body.partition(" <others> ")
        body, _, path = body.partition(" <path> ")
        assert body.endswith(f" <cap> {states.caption(scene)}")
        thought = states.thought(scene, question) in path
        target = states.candidates(question, set(looks(path)), looks(listed), thought)
        assert segment.target == target, segment.prompt


def test_a_thought_is_only_asked_for_where_everything_is_known() -> None:
    for rng, scene, question in cases(20):
        segment = samples.think_segment(rng, scene, question)
        assert segment.target == states.thought(scene, question)
        for sign in question.needed:
            assert sign.big or f"sign says {sign.text}" in segment.prompt


def test_a_fusion_joins_two_looks() -> None:
    for rng, scene, question in cases(10):
        segment = samples.fuse_segment(rng, scene, question)
        first, second = segment.target.split(", ")
        assert f"<path> {first} <others> {second} <out>" in segment.prompt
        assert first != second


def test_every_row_is_a_view_with_segments_that_fit() -> None:
    for one in rows():
        assert one.pixels.shape == (VIEW, VIEW, 3)
        assert one.pixels.dtype.name == "uint8"
        assert one.segments
        assert sum(length(segment) for segment in one.segments) <= ROOM


def test_every_prompt_and_target_is_read_without_unknown_tokens_and_fits_the_network() -> None:
    for one in rows():
        for segment in one.segments:
            assert T.unk not in T.encode(f"{segment.prompt} {segment.target}"), segment
            assert length(segment) <= LONGEST
            assert segment.prompt.startswith("<")
            assert segment.prompt.endswith(" <out>")
            assert segment.target


def test_targets_come_back_from_the_tokenizer_as_they_are_but_for_joined_digits() -> None:
    for one in rows():
        for segment in one.segments:
            said = T.decode(T.encode(segment.target))
            if role(segment) in ("<propose>", "<score>"):  # read by patterns that allow for it
                assert said.replace(" ", "") == segment.target.replace(" ", "")
            else:
                assert said == segment.target


def test_every_role_is_taught() -> None:
    taught = {role(segment) for one in rows() for segment in one.segments}
    assert taught == set(ROLES)


def test_a_row_about_a_crop_shows_the_crop_to_looks_and_their_scores_only() -> None:
    crops = 0
    for one in rows():
        if role(one.segments[0]) == "<look>":
            crops += 1
            for segment in one.segments[1:]:
                assert not segment.image or "<t> look : " in segment.prompt, segment
        else:
            assert all(role(segment) != "<look>" for segment in one.segments)
    assert crops > 20


def test_the_same_seed_gives_the_same_row() -> None:
    one, other = row(Random(5), ROOM, length), row(Random(5), ROOM, length)
    assert np.array_equal(one.pixels, other.pixels)
    assert one.segments == other.segments


def test_no_word_is_missing_from_the_committed_vocabulary() -> None:
    texts = [UNKNOWN, *EXTRA, *ELSEWHERE]
    texts += [f"{s.prompt} {s.target}" for one in rows() for s in one.segments]
    spelled = {T.tokens[i] for text in texts for i in T.encode(text)}
    letters = "".join(t.removeprefix("##") for t in spelled if t.startswith("##"))
    # Spelled on purpose, so that the letters are trained.
    assert set(letters) <= set("capital") | set("france")


def test_questions_of_another_world_are_answered_by_saying_what_it_knows() -> None:
    scene, _ = make_case(Random(1), Kind.COUNT, "train")
    said = {role(segment): segment.target for segment in samples._elsewhere(Random(2), scene)}
    assert said["<ask>"] == said["<answer>"] == UNKNOWN
    assert said["<scan>"] == f"{states.caption(scene)} > 8"
