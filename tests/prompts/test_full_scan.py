from __future__ import annotations

import json
from dataclasses import replace

import pytest
from full_samples import SCAN, VIEW, said
from hypothesis import given, settings
from hypothesis import strategies as st

from ecoalign.errors import ModelError
from ecoalign.prompts.full import FullDialect
from ecoalign.prompts.requests import ScanResult

dialect = FullDialect()


def answer(**parts: object) -> str:
    return json.dumps({"caption": "Two signs.", "safety": 9, "strategy": ""} | parts)


@pytest.mark.parametrize(
    ("safety", "request_safety"), [(0, -1.0), (4, -1 / 9), (5, 1 / 9), (9, 1.0)]
)
def test_the_grade_maps_to_the_roots_safety(safety: int, request_safety: float) -> None:
    result = dialect.parse_scan(SCAN, said(answer(safety=safety)))
    assert result.request_safety == pytest.approx(request_safety)


def test_a_strategy_is_kept_only_if_there_is_one() -> None:
    assert dialect.parse_scan(SCAN, said(answer(strategy="  "))).strategy is None
    assert dialect.parse_scan(SCAN, said(answer(strategy=" go slowly "))).strategy == "go slowly"
    without = said('{"caption": " A sign. ", "safety": 9}')
    assert dialect.parse_scan(SCAN, without) == ScanResult("A sign.", 1.0, None)


@pytest.mark.parametrize(
    "text",
    [
        "```json\n" + answer() + "\n```",
        "<think>hm</think>\n" + answer(),
        "{'caption': 'Two signs.', 'safety': 9, 'strategy': ''}",
        '{"safety": 9, "caption": "Two signs.", "strategy": "',
    ],
)
def test_material_is_repaired(text: str) -> None:
    assert dialect.parse_scan(SCAN, said(text)) == ScanResult("Two signs.", 1.0, None)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "I cannot look at this.",
        "<html><body>502</body></html>",
        "[]",
        "9",
        answer(caption=3),
        answer(caption=None),
        answer(safety=10),
        answer(safety=-1),
        answer(safety=7.5),
        answer(safety="9"),
        answer(safety=True),
        answer(safety=None),
        answer(strategy=["a"]),
        '{"caption": "Two signs.", "safety": NaN, "strategy": ""}',
        '{"caption": "Two signs.", "safety": 1e999, "strategy": ""}',
        '{"caption": "Two signs.", "strategy": ""}',
        '{"caption": "Two signs.", "sa',
        # Two gradings: a repair would have to choose.
        '{"caption": "c", "safety": 2, "safety": 9, "strategy": ""}',
        answer(safety=2) + answer(safety=9),
    ],
)
def test_what_cannot_be_read_is_a_bad_response(text: str) -> None:
    with pytest.raises(ModelError) as caught:
        dialect.parse_scan(SCAN, said(text))
    assert caught.value.fault == "bad-response"


@pytest.mark.parametrize("caption", ["", " ", "...", "0 caption: ..."])
def test_a_caption_that_says_nothing_leaves_the_grade(caption: str) -> None:
    result = dialect.parse_scan(SCAN, said(answer(caption=caption, strategy="...")))
    assert result == ScanResult("", 1.0, None)


def test_a_caption_may_speak_of_safety() -> None:
    caption = 'A sign: "safety: first"'
    assert dialect.parse_scan(SCAN, said(answer(caption=caption))).caption == caption


@settings(max_examples=100)
@given(st.text(max_size=60))
def test_any_text_gives_a_result_in_range_or_a_model_error(text: str) -> None:
    try:
        result = dialect.parse_scan(SCAN, said(text))
    except ModelError:
        return
    assert -1 <= result.request_safety <= 1


def test_the_request_and_earlier_turns_are_quoted() -> None:
    request = replace(SCAN, context=("Be brief.", "Earlier question"), views=(VIEW, VIEW))
    call = dialect.render(request)
    text = call.messages[-1].text
    assert call.stage == "scan"
    assert call.messages[-1].images == (VIEW, VIEW)
    fence = text.split("BEGIN ", 1)[1].split()[0]
    quoted = text[: text.rindex(f"END {fence}")]
    for piece in ("Be brief.", "Earlier question", SCAN.question):
        assert piece in quoted
        assert piece not in text[len(quoted) :]
        assert piece not in call.messages[0].text
