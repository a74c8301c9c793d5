"""The embedded model's tokenizer: bounds that the budget rests on, marks, spelling, spacing."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ecoalign.models.embedded._tokenizer import (
    EOS,
    MARKS,
    OUT,
    PAD,
    ROLES,
    SPECIALS,
    Tokenizer,
    plain,
)
from lab.corpus import build_vocabulary

T = Tokenizer.load()
ids_of_any_token = st.lists(st.integers(0, len(T) - 1), max_size=40)
# Texts that look like prompts, among others.
hostile = st.lists(
    st.one_of(
        st.sampled_from([*SPECIALS, "<", ">", "|", "<<scan>", "##a", "the", "42", " ", "-", "İ"]),
        st.text(max_size=6),
    ),
    max_size=12,
).map("".join)


def tokens(text: str) -> list[str]:
    return [T.tokens[i] for i in T.encode(text)]


def test_the_vocabulary_has_no_token_twice_and_the_specials_first() -> None:
    assert len(set(T.tokens)) == len(T)
    assert T.tokens[: len(SPECIALS)] == SPECIALS
    assert (T.tokens[T.pad], T.tokens[T.eos]) == (PAD, EOS)
    assert T.tokens[T.out] == OUT
    assert set(ROLES) | set(MARKS) <= set(SPECIALS)


def test_an_unknown_token_has_no_id() -> None:
    assert T.tokens[T.id("owl")] == "owl"
    with pytest.raises(KeyError):
        T.id("zebra")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("What is the SUM?", ["what", "is", "the", "sum", "?"]),
        ("1984", ["1", "9", "8", "4"]),
        ("top-left", ["top-left"]),
        ("at the top - left", ["at", "the", "top", "-", "left"]),
        ("zoo", ["##z", "##o", "##o"]),
        ("x-ray", ["##x", "##r", "##a", "##y"]),
        ("a c", ["a", "##c"]),
        ("it's", ["it", "'", "##s"]),
        ("c2", ["##c", "2"]),
        ("<scan> hello <out>", ["<scan>", "hello", "<out>"]),
        ("<nomark>", ["<unk>"]),
        ("< out >", ["<unk>", "##o", "##u", "##t", ">"]),
        ("é ٣ ² _ €", ["<unk>"] * 5),
        ("\x00", ["<unk>"]),
        (" \t\n ", []),
        ("", []),
    ],
)
def test_pieces(text: str, expected: list[str]) -> None:
    assert tokens(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "what is the sum of the two numbers?",
        "the number is 407, not 12.",
        "red circle top-left; small sign bottom-right > 6 plan: read the sign first.",
        "zebra (a small one) waits!",
        "42 + 17 = 59",
        "top sign says 95, left sign says wake owl",
    ],
)
def test_a_text_in_the_model_s_own_spacing_comes_back_as_it_was(text: str) -> None:
    assert T.decode(T.encode(text)) == text


@pytest.mark.parametrize(
    ("text", "back"),
    [
        ("Wake The Owl", "wake the owl"),
        ("the  owl\n sleeps", "the owl sleeps"),
        ("yes .", "yes."),
        ("1 9 8 4", "1984"),
        ("zebra quagga", "zebraquagga"),
        ("zebra, quagga", "zebra, quagga"),
        ("x-ray", "xray"),
        ("( a )", "(a)"),
        ("<ask> is it <out>", "is it"),
        ("<scan>", ""),
        ("naïve", "nave"),
    ],
)
def test_what_decoding_changes(text: str, back: str) -> None:
    assert T.decode(T.encode(text)) == back


@given(st.one_of(st.text(max_size=60), hostile))
@settings(max_examples=150, deadline=None)
@example("İİİ")
@example("ŉǅẞ")
@example("\ud800")
def test_any_text_encodes_to_no_more_tokens_than_bytes(text: str) -> None:
    ids = T.encode(text)
    assert len(ids) <= len(text.encode("utf-8", "surrogatepass"))
    assert all(0 <= i < len(T) for i in ids)


@given(ids_of_any_token)
@settings(max_examples=200, deadline=None)
def test_decoded_ids_encode_to_no_more_than_they_were(ids: list[int]) -> None:
    # The worst case of scoring a text is reserved before it is written, from its cap on tokens.
    text = T.decode(ids)
    again = T.encode(text)
    assert len(again) <= len(ids)
    assert T.decode(again) == text
    assert text == text.strip()


@given(st.lists(st.sampled_from([t for t in T.tokens if t.isalpha()]), max_size=12))
@settings(max_examples=60, deadline=None)
def test_known_words_come_back(words: list[str]) -> None:
    text = " ".join(words)
    assert T.decode(T.encode(text)) == text


@given(st.integers(0, 10**12), st.text("qxzj", min_size=1, max_size=9))
@settings(max_examples=60, deadline=None)
def test_numbers_go_digit_by_digit_and_unknown_words_letter_by_letter(n: int, word: str) -> None:
    assert tokens(str(n)) == list(str(n))
    assert tokens(word) == [f"##{letter}" for letter in word]
    assert T.decode(T.encode(f"{n} owl {word} moon")) == f"{n} owl {word} moon"


@given(hostile)
@settings(max_examples=200, deadline=None)
@example("<scan>")
@example("<<scan>>")
@example("<sc<x>an>")
@example("<\u0000out>")
@example("｜＜out＞ ‹out›")
def test_no_text_can_become_a_mark_through_plain(text: str) -> None:
    clean = plain(text)
    marks = {T.id(mark) for mark in SPECIALS if mark != "<unk>"}
    assert not marks & set(T.encode(clean))
    # Not even where it is put between marks.
    framed = T.encode(f"<ask> {clean} <out>")
    assert [i for i in framed if i in marks] == [T.id("<ask>"), T.out]
    assert not set("<>|\n\t") & set(clean)
    assert plain(clean) == clean


def test_a_vocabulary_is_built_from_a_corpus_with_digits_and_letters_always_there() -> None:
    vocabulary = build_vocabulary(["Read the SIGN <out> at top-left.", "the sign"])
    assert vocabulary[: len(SPECIALS)] == list(SPECIALS)
    assert len(set(vocabulary)) == len(vocabulary)
    assert {"read", "the", "sign", "at", "top-left", "0", "9", "##a", "##z", "?"} <= set(vocabulary)
    own = Tokenizer(vocabulary)
    assert own.decode(own.encode("read 7 zoos at top-left")) == "read 7 zoos at top-left"
