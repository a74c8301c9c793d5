"""MathVista's rules on cases of our own; the published results are in test_published_data."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecoalign.bench.suites.mathvista import (
    Problem,
    bare_answer,
    edit_distance,
    keys_of,
    normalised,
    zero_shot_prompt,
)

CHOICE = Problem("Which?", "multi_choice", "text", ("135°", "140°", "no answer"))
WHOLE = Problem("How many?", "free_form", "integer")
ONE = Problem("How long?", "free_form", "float", precision=1)
TWO = Problem("How long?", "free_form", "float", precision=2)
LIST = Problem("Which years?", "free_form", "list")


@pytest.mark.parametrize(
    ("problem", "extraction", "prediction"),
    [
        (CHOICE, "B", "140°"),
        (CHOICE, " B ", "140°"),
        (CHOICE, "(b) 140", "140°"),
        (CHOICE, "The answer is (C).", "no answer"),
        (CHOICE, "b", "135°"),  # a bare small letter is no option: the nearest choice, the first
        (CHOICE, "D", "135°"),
        (CHOICE, "(D)", "135°"),
        (CHOICE, "141°", "140°"),
        (CHOICE, "no answr", "no answer"),
        (CHOICE, "", "135°"),
        (WHOLE, "250", "250"),
        (WHOLE, "250.9", "250"),
        (WHOLE, "-0.5", "0"),
        (WHOLE, "1e3", "1000"),
        (WHOLE, "two", None),
        (WHOLE, "", None),
        (WHOLE, "inf", None),
        (WHOLE, "nan", None),
        (ONE, "1.25", "1.2"),
        (ONE, "1", "1.0"),
        (ONE, "-0.04", "-0.0"),
        (ONE, "1,5", None),
        (TWO, "3.14159", "3.14"),
        (TWO, "2.5", "2.5"),
        (LIST, "[1, 2]", "[1, 2]"),
        (LIST, "", ""),
    ],
)
def test_normalised(problem: Problem, extraction: str, prediction: str | None) -> None:
    assert normalised(problem, extraction) == prediction


def test_legacy_integers_have_no_decimals() -> None:
    assert normalised(WHOLE, "250.0", legacy_int=True) is None
    assert normalised(WHOLE, "250", legacy_int=True) == "250"
    assert normalised(WHOLE, "250.0") == "250"
    assert normalised(ONE, "250.0", legacy_int=True) == "250.0"


@pytest.mark.parametrize(
    ("problem", "response", "answer"),
    [
        (CHOICE, "140°", "140°"),
        (CHOICE, "B", "B"),
        (CHOICE, " (C). ", "C"),
        (CHOICE, "**B**", "B"),
        (CHOICE, "The answer is: $B$.", "B"),
        (CHOICE, "D", None),
        (CHOICE, "a", None),
        (CHOICE, "B it is", None),
        (WHOLE, " 12 ", "12"),
        (WHOLE, "12.0", None),
        (WHOLE, "There are 12", None),
        (ONE, "12", "12.0"),
        (ONE, "about 12", None),
        (LIST, "[1, 2]", None),
        (LIST, "", ""),
        (CHOICE, "", ""),
    ],
)
def test_answers_bare_answer(problem: Problem, response: str, answer: str | None) -> None:
    assert bare_answer(problem, response) == answer


def test_prompts_of_each_type() -> None:
    assert zero_shot_prompt(CHOICE).endswith("Choices:\n(A) 135°\n(B) 140°\n(C) no answer")
    assert "correct option letter" in zero_shot_prompt(CHOICE)
    assert "one decimal place" in zero_shot_prompt(ONE)
    assert "two decimal places" in zero_shot_prompt(TWO)
    assert "Python list" in zero_shot_prompt(LIST)
    cups = Problem("How many? ", "free_form", "integer", unit="g")
    assert zero_shot_prompt(cups).endswith("\nQuestion: How many?  (Unit: g)")


@settings(max_examples=80)
@given(st.text("abc", max_size=6), st.text("abc", max_size=6), st.text("abc", max_size=6))
def test_edit_distance_is_a_metric(first: str, second: str, third: str) -> None:
    distance = edit_distance(first, second)
    assert distance == edit_distance(second, first)
    assert (distance == 0) == (first == second)
    assert abs(len(first) - len(second)) <= distance <= max(len(first), len(second))
    assert distance <= edit_distance(first, third) + edit_distance(third, second)


def test_edit_distance_of_known_words() -> None:
    assert edit_distance("kitten", "sitting") == 3
    assert edit_distance("", "abc") == 3


def test_an_answer_counts_for_each_of_its_facets() -> None:
    assert keys_of({"task": "a", "skills": ["x", "y"], "grade": None}) == [
        "accuracy",
        "task/a",
        "skills/x",
        "skills/y",
    ]
    assert keys_of({}) == ["accuracy"]
