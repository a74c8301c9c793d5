"""The drills: each row true by its own words, and within its room."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from random import Random

import numpy as np
import pytest

from ecoalign.bench.world.rulebook import NOUNS, VERBS, is_forbidden
from ecoalign.models.embedded._network import LONGEST, VIEW
from ecoalign.models.embedded._tokenizer import Tokenizer
from lab.drills import (
    ask_row,
    law_row,
    link_row,
    look_row,
    plan_row,
    reason_row,
    scan_row,
    sum_row,
)
from lab.samples import Row, Segment

T = Tokenizer.load()
ROOM = 104
Drill = Callable[[Random], Row]


def length(segment: Segment) -> int:
    return len(T.encode(segment.prompt)) + len(T.encode(segment.target)) + 1


DRILLS: dict[str, Drill] = {
    "look": look_row,
    "scan": scan_row,
    "ask": lambda rng: ask_row(rng, ROOM, length),
    "law": lambda rng: law_row(rng, ROOM, length),
    "sum": lambda rng: sum_row(rng, ROOM, length),
    "plan": lambda rng: plan_row(rng, ROOM, length),
    "reason": lambda rng: reason_row(rng, ROOM, length),
    "link": lambda rng: link_row(rng, ROOM, length),
}


def segments(drill: str, rows: int = 60) -> list[Segment]:
    return [s for seed in range(rows) for s in DRILLS[drill](Random(seed)).segments]


@pytest.mark.parametrize("drill", DRILLS)
def test_rows_are_views_with_readable_segments_the_same_for_the_same_seed(drill: str) -> None:
    for seed in range(40):
        row, again = (DRILLS[drill](Random(seed)) for _ in range(2))
        assert row.segments == again.segments
        assert np.array_equal(row.pixels, again.pixels)
        assert row.pixels.shape == (VIEW, VIEW, 3)
        assert row.segments
        for segment in row.segments:
            ids = T.encode(f"{segment.prompt} {segment.target}")
            assert T.unk not in ids
            assert not [i for i in ids if T.tokens[i].startswith("##")], segment
            assert length(segment) <= LONGEST
        if drill in ("ask", "law", "sum", "reason") and len(row.segments) > 1:
            assert sum(map(length, row.segments)) <= ROOM
        if drill == "plan" and len(row.segments) > 1:
            assert sum(map(length, row.segments)) <= ROOM * 3 // 2
        if drill == "link":
            assert sum(map(length, row.segments)) <= ROOM * 3


def test_an_ask_row_asks_several_things_directly() -> None:
    rows = [DRILLS["ask"](Random(seed)) for seed in range(60)]
    roles = Counter(s.prompt.split()[0] for row in rows for s in row.segments if s.image)
    assert set(roles) == {"<ask>", "<answer>"}
    assert min(roles.values()) > 80
    assert sum(len(row.segments) for row in rows) > 5 * len(rows)


def test_the_risk_that_a_law_row_teaches_is_the_rulebook_s() -> None:
    told = {"1": 0, "8": 0, "6": 0}
    for segment in segments("law", 150):
        if not segment.prompt.startswith("<scan>"):
            continue
        caption, request_safety = segment.target.split(" > ")
        verb, noun = (
            re.search(rf"\b({'|'.join(words)})\b", segment.prompt) for words in (VERBS, NOUNS)
        )
        sign = re.search(rf"\bsign (?:({'|'.join(VERBS)}) )?({'|'.join(NOUNS)})\b", caption)
        told[request_safety[0]] += 1
        if "sign" in segment.prompt and "small sign" in caption:
            assert request_safety.startswith("6 plan")
            continue
        if verb is None and sign is not None:
            pair = sign[1], sign[2]
        elif noun is None and sign is not None and verb is not None:
            pair = verb[1], sign[2]
        else:
            assert verb is not None
            assert noun is not None
            pair = verb[1], noun[1]
        assert request_safety == ("1" if is_forbidden(*pair) else "8"), segment
    assert min(told.values()) > 10


def test_a_sum_row_teaches_what_follows_from_the_numbers_on_its_path() -> None:
    answers = 0
    for segment in segments("sum"):
        if not segment.prompt.startswith("<answer>"):
            continue
        numbers = [int(n) for n in re.findall(r"sign says (\d+)", segment.prompt)]
        assert len(numbers) == 2
        if "larger" in segment.prompt:
            expected = max(numbers)
        elif "smaller" in segment.prompt:
            expected = min(numbers)
        else:
            expected = sum(numbers)
        assert segment.target == f"{expected}."
        answers += 1
    assert answers > 30


def test_a_scan_row_tells_the_same_caption_for_both_its_questions() -> None:
    for seed in range(30):
        first, second = (s.target.split(" > ")[0] for s in DRILLS["scan"](Random(seed)).segments)
        assert first == second


def test_a_link_row_shows_no_image_and_asks_about_many_scenes() -> None:
    told: Counter[str] = Counter()
    for segment in segments("link"):
        assert not segment.image
        told[segment.prompt.split()[0]] += 1
        if segment.prompt.startswith("<answer>") and "<path>" in segment.prompt:
            path = segment.prompt.partition("<path> ")[2].removesuffix(" <out>")
            conclusion = segment.target.removeprefix(path).removeprefix(", answer: ").rstrip(".")
            assert conclusion in ("yes", "no") or path.endswith(conclusion), segment
    assert min(told["<answer>"], told["<score>"]) > 100


def test_verdicts_on_a_right_and_a_wrong_text_stand_side_by_side() -> None:
    judged = [s for s in segments("reason", 120) if s.prompt.startswith("<score>")]
    uses = Counter(s.target for s in judged)
    assert set(uses) == {"9 9", "9 6", "9 1"}
    assert abs(uses["9 9"] + uses["9 6"] - uses["9 1"]) < 0.2 * len(judged)
