"""What small models really said to the full dialect, read: see `recorded`.

Small models keep to a form where a schema is enforced and seldom where none is. Whatever they say,
it is read by the stated rules or refused by a named error.
"""

from __future__ import annotations

import json
import re
from collections import Counter

import pytest
from recorded import DATA, FENCE, QUESTIONS, recorded, requests

from ecoalign.errors import ModelError, VerdictError
from ecoalign.models import Completion
from ecoalign.prompts.full import FullDialect
from ecoalign.prompts.requests import (
    CaptionRequest,
    CheckRequest,
    GateRequest,
    PromptRequest,
    ProposeRequest,
    ProposeResult,
    ScanRequest,
    ScanResult,
    ScoreRequest,
    ScoreResult,
)

DIALECT = FullDialect()
CASES = recorded()


def read(request: PromptRequest, reply: Completion) -> object:
    """What the dialect makes of a reply; None where it refuses it as it should."""
    try:
        match request:
            case ScanRequest():
                return DIALECT.parse_scan(request, reply)
            case ProposeRequest():
                return DIALECT.parse_propose(request, reply)
            case ScoreRequest():
                return DIALECT.read_score(request, [reply])
            case CaptionRequest():
                return DIALECT.parse_caption(request, reply).text
            case CheckRequest() | GateRequest():
                return DIALECT.parse_verdict(request, reply)
            case _:
                return DIALECT.parse_execute(request, reply)  # type: ignore[arg-type]
    except ModelError:
        assert not isinstance(request, ScoreRequest | CheckRequest | GateRequest)
    except VerdictError:
        assert isinstance(request, ScoreRequest | CheckRequest | GateRequest)
    return None


def test_what_was_recorded_is_small_and_of_known_cases() -> None:
    assert DATA.stat().st_size < 300_000
    assert len(CASES) > 170
    stages = {case.partition("/")[2] for case, *_ in CASES}
    assert stages == {case.partition("/")[2] for case in requests()}
    assert {reply.model for *_, reply in CASES} == {"smollm2-135m", "smolvlm-assembled"}


@pytest.mark.parametrize(
    ("request_", "reply"),
    [pytest.param(request, reply, id=case) for case, request, _, reply in CASES],
)
def test_every_reply_is_read_by_the_rules_or_refused(
    request_: PromptRequest, reply: Completion
) -> None:
    result = read(request_, reply)
    match result:
        case ScanResult():
            assert -1 <= result.request_safety <= 1
            # The grade comes first, so that a reply that is cut off keeps it.
            grade = re.search(r'"safety"\s*:\s*(\d)', reply.text)
            assert grade is not None
            assert result.request_safety == pytest.approx(-1 + 2 * int(grade[1]) / 9)
        case ProposeResult():
            assert isinstance(request_, ProposeRequest)
            assert len(result.candidates) <= request_.limit
            for one in result.candidates:
                assert 1 <= len(one.forecast) <= request_.steps + 1
                assert one.region is None or one.region.image < len(request_.views)
                assert one.region is not None or one.kind != "look"
                assert "BEGIN" not in one.text
        case ScoreResult():
            grades = json.loads(reply.text)
            assert grades["key"] == FENCE[-6:]
            assert result.safety == pytest.approx(-1 + 2 * grades["safety"] / 9)
        case str():
            assert re.search(r"\w", result)
            word = "" if isinstance(request_, CaptionRequest) else DIALECT.prefix(request_).word
            marks = [line for line in result.splitlines() if re.match(rf"(BEGIN|END) {word}", line)]
            assert not word or marks == []


def test_what_is_enforced_is_read_and_what_is_not_seldom() -> None:
    found: Counter[tuple[str, bool, bool]] = Counter()
    for _, request, enforced, reply in CASES:
        name = type(request).__name__.removesuffix("Request")
        result = read(request, reply)
        good = bool(result.candidates) if isinstance(result, ProposeResult) else result is not None
        found[name, enforced, good] += 1
    for name in ("Scan", "Score", "Check", "Gate", "Propose"):
        assert found[name, True, True] > 0
        assert found[name, True, False] == 0, name
    # Without enforcement no verdict of these models is one.
    for name in ("Score", "Check", "Gate"):
        assert found[name, False, True] == 0
        assert found[name, False, False] > 0
    # Nearly every free text is a thought; the others only repeat their prompt.
    assert found["Execute", False, True] > 5 * found["Execute", False, False]


def test_nothing_unwanted_was_asked() -> None:
    assert all(len(row) == 6 for row in QUESTIONS.values())
    assert {case.lstrip("+").partition("/")[0] for case, *_ in CASES} == set(QUESTIONS)
