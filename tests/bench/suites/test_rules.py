"""Rules that read an answer: what is put around it, choices, numbers, words."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecoalign.bench.suites._rules import (
    as_number,
    bare,
    chosen,
    contains,
    is_exact,
    is_near,
    letters_of,
    lone_letter,
    number_in,
    places,
    plain,
)

AROUND = ("{}", "({})", "{}.", "**{}**", "[{}]", "'{}'", "${}$", "Option {}", "Answer: {}")
MORE = ("The answer is {}.", "the correct answer is: **({})**", r"$\boxed{{{}}}$", "So, answer: {}")


@pytest.mark.parametrize("form", [*AROUND, *MORE])
@pytest.mark.parametrize("inside", ["B", "14", "-2.5", "dark red"])
def test_what_is_put_around_an_answer(form: str, inside: str) -> None:
    assert bare(form.format(inside)) == inside


@pytest.mark.parametrize("text", ["A cat", "B it is", "answer", "", "AB", "7", "é", "a" * 500])
def test_what_is_no_letter_alone(text: str) -> None:
    assert lone_letter(text) is None


@given(st.text(max_size=300))
def test_any_text_is_read(text: str) -> None:
    assert bare(text) in text or "\\" in text
    assert plain(plain(text)) == plain(text)
    number_in(text)
    chosen(text, ["red", "dark red"], lettered=True)


COLOURS = ("red", "dark red", "green")


@pytest.mark.parametrize(
    ("answer", "lettered", "by_text"),
    [
        ("green", 2, 2),
        ("Green!", 2, 2),
        ("It is dark red.", 1, 1),
        ("dark red, not red", 1, 1),
        ("not red but green", None, None),
        ("red, not green", 0, 0),
        ("B", 1, None),
        ("(b)", 1, None),
        ("**B**", 1, None),
        ("D", None, None),
        ("A. red", 0, 0),
        ("C) because A is wrong", 2, None),
        ("A is wrong, so the answer is (C).", 2, None),
        ("Thinking of option A first. Answer: B", 1, None),
        ("A dark red thing", 1, 1),
        ("none of them", None, None),
        ("", None, None),
    ],
)
def test_which_choice_an_answer_names(
    answer: str, lettered: int | None, by_text: int | None
) -> None:
    assert chosen(answer, COLOURS, lettered=True) == lettered
    assert chosen(answer, COLOURS, lettered=False) == by_text


@pytest.mark.parametrize(
    ("answer", "index"),
    [
        ("Yes, it is.", 0),
        ("No, there is no circle.", 1),
        ("The circle is at the left, so it is, answer: yes.", 0),
        ("There is none.", None),
        ("It is not known.", None),
    ],
)
def test_yes_and_no(answer: str, index: int | None) -> None:
    assert chosen(answer, ["yes", "no"], lettered=False) == index


@given(st.integers(2, 26), st.data(), st.sampled_from([*AROUND, *MORE]))
def test_every_letter_is_its_choice(count: int, data: st.DataObject, form: str) -> None:
    choices = [f"number {i} of all" for i in range(count)]
    index = data.draw(st.integers(0, count - 1))
    assert chosen(form.format(letters_of(count)[index]), choices, lettered=True) == index
    assert chosen(form.format(choices[index]), choices, lettered=True) == index


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("14", 14.0),
        ("1,234.5", 1234.5),
        ("-2", -2.0),
        ("\u22122", -2.0),
        ("50 %", 50.0),
        ("$3", 3.0),
        ("1e3", 1000.0),
        (".5", 0.5),
        ("14 cm", None),
        ("1,23", None),
        ("", None),
        ("1e999", None),
        ("two", None),
    ],
)
def test_texts_that_are_numbers(text: str, value: float | None) -> None:
    assert as_number(text) == value


@pytest.mark.parametrize(
    ("answer", "value"),
    [
        ("There are 3 red and 2 blue, so 5.", 5.0),
        ("The answer is 7, not 8", 7.0),
        ("2 + 3 = 5 apples", 5.0),
        ("I see three dogs", 3.0),
        ("It is 1,234,567.5 m long", 1234567.5),
        ("between 10-20", 20.0),
        ("v1.2.3", None),
        ("x2", None),
        ("no idea", None),
    ],
)
def test_the_number_that_an_answer_gives(answer: str, value: float | None) -> None:
    assert number_in(answer) == value


@given(st.integers(-(10**9), 10**9), st.sampled_from(AROUND))
def test_a_number_alone_is_read_back(number: int, form: str) -> None:
    assert number_in(form.format(number)) == number
    assert number_in(form.format(f"{number:,}")) == number


def test_tolerances_count_at_their_ends() -> None:
    assert is_near(0.3, 0.1 + 0.2, 0.0)
    assert is_near(10.5, 10.0, 0.5)
    assert not is_near(10.51, 10.0, 0.5)
    assert is_near(105, 100, 0.05, relative=True)
    assert not is_near(106, 100, 0.05, relative=True)
    assert is_near(-105, -100, 0.05, relative=True)


def test_exact_and_contained_words() -> None:
    assert is_exact("The answer is: **Green**.", ["green"])
    assert is_exact(" GREEN ", ["blue", "green"])
    assert not is_exact("it is green", ["green"])
    assert contains("It is dark\n Green.", ["dark green"])
    assert not contains("evergreen", ["green"])
    assert not contains("anything", ["", "."])
    assert contains("It\u2019s a cafe\u0301", ["it's a caf\u00e9"])
    assert contains("\u7b54\u6848\u662f\u7ea2\u8272\u7684", ["\u7ea2\u8272"])


@given(st.text(st.characters(categories=["L", "N", "Zs"]), min_size=1, max_size=20))
def test_a_text_contains_itself_and_is_exactly_itself(text: str) -> None:
    if plain(text):
        assert contains(f"say: {text}!", [text])
        assert is_exact(text, [text])


def test_places_are_whole_words() -> None:
    assert places("red reddish red", "red") == [(0, 3), (12, 15)]


def test_a_choice_that_a_model_says_a_thousand_times_is_read_at_once() -> None:
    started = time.process_time()
    assert chosen("A " * 20_000, ["red", "green", "A"], lettered=True) == 2
    assert chosen("dark red, " * 20_000, ["red", "dark red"], lettered=False) == 1
    assert chosen("dark red or red", ["red", "dark red"], lettered=False) == 1
    assert chosen("it is dark red or red", ["red", "dark red"], lettered=False) is None
    assert time.process_time() - started < 5
