from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecoalign._text import harmless, short
from ecoalign.cli._text import amount, print_json, tell

ANY = st.text(st.characters(exclude_categories=()), max_size=60)


@given(ANY)
def test_clean_text_cannot_steer_and_can_be_encoded(text: str) -> None:
    cleaned = harmless(text)
    assert len(cleaned) == len(text)
    assert not any(ord(char) < 32 and char not in "\n\t" for char in cleaned)
    assert not any(0x7F <= ord(char) <= 0x9F for char in cleaned)
    cleaned.encode("utf-8")
    assert harmless(cleaned) == cleaned


def test_clean_leaves_other_text_alone() -> None:
    text = "Straße 42\n\t价格 — 5 €, 🙂 مرحبا"
    assert harmless(text) == text


def test_marks_that_reorder_text_are_shown() -> None:
    assert harmless("safe\u202egnp.exe") == "safe\ufffdgnp.exe"


@given(ANY, st.integers(1, 30))
def test_short_is_one_line_of_at_most(text: str, most: int) -> None:
    line = short(text, most)
    assert len(line) <= most
    assert "\n" not in line


def test_amount_names_only_what_there_is() -> None:
    assert amount(1260, 0.0031, 4.21) == "1,260 tokens, $0.0031, 4.2 s"
    assert amount(None, None, 0.0) == "0.0 s"
    assert amount() == ""


def test_json_is_the_text_itself(capsys: pytest.CaptureFixture[str]) -> None:
    body = {"answer": "ja\x1b[31m \u4ef7 \ud800"}
    print_json(body)
    printed = capsys.readouterr().out
    assert json.loads(printed) == body
    assert "\x1b" not in printed


def test_answers_are_cleaned(capsys: pytest.CaptureFixture[str]) -> None:
    tell("4\x1b[2J2")
    assert capsys.readouterr().out == "4\ufffd[2J2\n"
