"""When in doubt, no: pairs that must never merge, and the few that must."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecoalign.graph import Region
from ecoalign.graph import _equivalence as merging
from ecoalign.graph._equivalence import mergeable, normalise
from ecoalign.graph._thoughts import Thought, ThoughtId, ThoughtKind

LOOSE = merging.GUARDS[:-1]
"""Without `same_words`, as a user with a similarity of their own might have it."""


def thought(
    text: str, kind: ThoughtKind = ThoughtKind.THINK, region: Region | None = None
) -> Thought:
    return Thought(ThoughtId(1), kind, text, 1.0, 1.0, 1.0, (ThoughtId(0),), region)


def certain(_one: str, _two: str) -> float:
    """A similarity that is sure of everything: only the guards are left."""
    return 1.0


DIFFERENT = [
    ("The sign is safe.", "The sign is not safe."),
    ("It is safe to drink", "It is unsafe to drink"),
    ("this is legal here", "this is illegal here"),
    ("the snake is toxic", "the snake is nontoxic"),
    ("the snake is toxic", "the snake is non-toxic"),
    ("a careful driver", "a careless driver"),
    ("a harmless powder", "a harmful powder"),
    ("a thoughtless plan", "a thoughtful plan"),
    ("You do touch the wire", "You don't touch the wire"),
    ("You should touch it", "You shouldn\u2019t touch it"),
    ("it can be eaten", "it can't be eaten"),
    ("it can be eaten", "it cannot be eaten"),
    ("The red ball is on the blue box", "The blue ball is on the red box"),
    ("The ball is red", "The ball is blue"),
    ("The cup is left of the plate", "The cup is right of the plate"),
    ("The left sign is right", "The right sign is left"),
    ("A above B", "B above A"),
    ("the cat is above the dog", "the dog is above the cat"),
    ("the man bites the dog", "the dog bites the man"),
    ("The sum is 42", "The sum is 24"),
    ("The sum is 4.2", "The sum is 42"),
    ("The sum is 1,5", "The sum is 15"),
    ("add .5 grams", "add 5 grams"),
    ("it is 5 degrees", "it is -5 degrees"),
    ("it is 5 degrees", "it is \u22125 degrees"),
    ("take 3-5 pills", "take 3 5 pills"),
    ("x is 2^3", "x is 2 3"),
    ("x is 2\u00b3", "x is 23"),
    ("add \u00bd cup", "add 12 cup"),
    ("it costs 5", "it costs $5"),
    ("it is 5", "it is 5%"),
    ("a < b", "a > b"),
    ("a < b", "a b"),
    ("3 + 4", "3 4"),
    ("3 - 4", "3 4"),
    ("x=-y", "x=y"),
    ("there are three cars", "there are four cars"),
    ("He met Alice in Paris", "He met Alice in London"),
    ("The sign says 'STOP'", "The sign says 'SHOP'"),
    ("No, more pills are needed", "No more pills are needed"),
    ("Is it open?", "Is it open"),
    ("take before meals", "take after meals"),
    ("take at least two", "take at most two"),
    ("it may explode if heated", "it must explode if heated"),
    ("the fluid is hot", "the fluid is cold"),
    ("treat hypertension now", "treat hypotension now"),
    ("vitamin a is toxic", "vitamin is toxic"),
    ("prescribe the drug", "proscribe the drug"),
    ("there is a sign", "there is a signs"),
    ("", "the sign"),
    ("", ""),
    ("...", "!!!"),
]


@pytest.mark.parametrize(("one", "two"), DIFFERENT)
def test_what_differs_in_meaning_is_not_merged_however_near_it_seems(one: str, two: str) -> None:
    for a, b in ((one, two), (two, one)):
        assert not mergeable(thought(a), thought(b), threshold=0.0)
        assert not mergeable(thought(a), thought(b), similarity=certain)


@pytest.mark.parametrize(("one", "two"), DIFFERENT[:29])
def test_the_other_guards_hold_without_equal_words(one: str, two: str) -> None:
    assert not mergeable(thought(one), thought(two), similarity=certain, guards=LOOSE)
    assert not mergeable(thought(two), thought(one), similarity=certain, guards=LOOSE)


@pytest.mark.parametrize(("one", "two"), DIFFERENT)
def test_a_difference_deep_in_a_long_text_still_counts(one: str, two: str) -> None:
    if not normalise(one) or not normalise(two):
        return
    long = "the picture shows a street with many people in the late afternoon and "
    assert not mergeable(thought(long * 5 + one + " x"), thought(long * 5 + two + " x"))


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("The sign says 42.", "the sign says 42"),
        ("The sign says 42.", "THE SIGN, says: 42!"),
        ("  The sign\n says\t42 ", "The sign says 42"),
        ("\uff34he sign says \uff14\uff12", "The sign says 42"),
        ("It isn't safe", "It is not safe."),
        ("You can't go", "you cannot go"),
        ("He doesn\u2019t", "He doesn't"),
        ("a well-known sign", "a well known sign"),
        ("The sign says \u201cstop\u201d", 'The sign says "STOP"'),
        ("No!", "no."),
        ("It is 5\u20137 metres", "It is 5-7 metres"),
        ("caf\u00e9", "cafe\u0301"),
    ],
)
def test_case_white_space_and_punctuation_do_not_matter(one: str, two: str) -> None:
    assert normalise(one) == normalise(two)
    never = mergeable(thought(one), thought(two), similarity=lambda _a, _b: 0.0)
    assert never, "equal texts need no similarity"


def test_a_near_text_needs_the_similarity_as_well() -> None:
    one, two = thought("Please read the small sign on the wall"), thought("read sign on the wall")
    three = thought("read the small sign on the wall")
    assert not mergeable(one, two)
    assert mergeable(one, three, threshold=0.8)
    assert not mergeable(one, three, threshold=1.0)
    assert not mergeable(one, three, similarity=lambda _a, _b: math.nan)


def test_a_better_similarity_can_merge_a_paraphrase_that_passes_the_guards() -> None:
    one, two = thought("The sign says 42"), thought("The sign reads 42")
    assert not mergeable(one, two, similarity=certain)
    assert mergeable(one, two, similarity=certain, guards=LOOSE)
    assert not mergeable(one, two, guards=LOOSE)


def test_only_one_kind_merges_and_never_the_root() -> None:
    assert not mergeable(thought("42"), thought("42", ThoughtKind.ANSWER))
    assert mergeable(thought("42", ThoughtKind.ANSWER), thought("42.", ThoughtKind.ANSWER))
    assert not mergeable(thought("42", ThoughtKind.ROOT), thought("42", ThoughtKind.ROOT))


def test_regions_must_be_equal_but_for_a_tolerance() -> None:
    box = Region(0.1, 0.1, 0.5, 0.5)
    near, far = Region(0.105, 0.1, 0.5, 0.495), Region(0.1, 0.1, 0.5, 0.6)
    look = ThoughtKind.LOOK
    assert mergeable(thought("a sign", look, box), thought("A sign", look, near))
    assert not mergeable(thought("a sign", look, box), thought("a sign", look, far))
    assert not mergeable(thought("a sign", look, box), thought("a sign", look))
    other = Region(0.1, 0.1, 0.5, 0.5, image=1)
    assert not mergeable(thought("a sign", look, box), thought("a sign", look, other))
    assert merging.same_region(None, None)
    assert not merging.same_region(box, near, tolerance=0.001)


def test_names_keep_their_place_in_the_entities() -> None:
    assert merging.same_entities("He met Alice", "he met alice")
    assert not merging.same_entities("He met Alice", "he met Bob")
    assert not merging.same_entities("It says 'stop here'", "It says 'stop there'")
    assert merging.same_entities("Signs are here. Signs matter", "here is it")


def test_the_threshold_has_a_range() -> None:
    for wrong in (-0.1, 1.1, math.nan):
        with pytest.raises(ValueError, match="threshold"):
            mergeable(thought("a"), thought("b"), threshold=wrong)


@given(st.text(max_size=40), st.text(max_size=40))
def test_merging_is_symmetric_and_normalising_settles(one: str, two: str) -> None:
    a, b = thought(one), thought(two)
    assert mergeable(a, b) == mergeable(b, a)
    assert mergeable(a, a) == bool(normalise(one))
    assert merging.text_similarity(one, two) == merging.text_similarity(two, one)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("3 + 4 = 7 (yes)", "3 + 4 = 7 yes"),
        ("a < b, c > d.", "a < b c > d"),
        ("50 % & more?", "50 % & more ?"),
        ("$5 \u20ac6", "$ 5 \u20ac 6"),
        ("x\u00b2 is not x2", "x ^ 2 is not x 2"),
        ("minus -5 and +3.5", "minus -5 and +3.5"),
        ("well-known", "well known"),
        ("a - b", "a - b"),
        ("\u2212 5", "- 5"),
        ("no, stop", "no , stop"),
        ("no stop,", "no stop"),
        ("go, no.", "go no"),
        ("stop, no.", "stop , no"),
        ("can't won't isn\u2019t cannot", "can not will not is not can not"),
    ],
)
def test_what_changes_the_meaning_is_kept_and_nothing_else(text: str, tokens: str) -> None:
    assert normalise(text) == tuple(tokens.split())
