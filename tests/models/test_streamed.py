"""A streamed text shows what the whole of it shows, however it is cut."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecoalign.models import StreamedText, visible
from ecoalign.models._speech import begins_inside

PARTS = (
    *("<think>", "</think>", "<thinking>", "</thinking>", "[THINK]", "[/THINK]", "◁think▷"),
    *("[unused16]", "[unused17]", "[think]", "<|inner_prefix|>", "<|inner_suffix|>"),
    *("◁/think▷", "<reasoning>", "</reasoning>", "secret ", "answer ", "a < b", "[1]", "<p>", "\n"),
    *("Here's my thought process:", "Here is my response:", "analysis", "Here we are. ", "`", "é"),
)


def streamed(text: str, cuts: list[int], *, inside: bool = False) -> tuple[str, StreamedText]:
    gate = StreamedText(inside=inside)
    edges = [0, *sorted(cut % (len(text) + 1) for cut in cuts), len(text)]
    shown = "".join([gate.feed(text[a:b]) for a, b in pairwise(edges) if a < b])
    return shown + gate.end(), gate


def bare(text: str) -> str:
    return "".join(text.split())


@given(st.lists(st.sampled_from(PARTS), max_size=8), st.lists(st.integers(0, 200), max_size=12))
def test_what_is_shown_is_what_the_whole_text_shows(parts: list[str], cuts: list[int]) -> None:
    text = "".join(parts)
    whole = visible(text)
    if not whole.whole or begins_inside(text):
        return
    assert bare(streamed(text, cuts)[0]) == bare(whole.text)
    assert bare(streamed(text, cuts, inside=True)[0]) == bare(whole.text)


@given(
    st.lists(st.integers(0, 200), max_size=12), st.sampled_from(["think", "THINKING", "thought"])
)
def test_no_thought_is_shown(cuts: list[int], tag: str) -> None:
    text = f"<{tag}>the secret plan [1] is < 5</{tag}>\n\nHarbour."
    assert streamed(text, cuts)[0] == "Harbour."
    # The template opened them: whoever knows that sees none, and it can be known afterwards.
    text = f"the secret plan is < 5\n</{tag}>\n\nHarbour."
    shown, gate = streamed(text, cuts, inside=True)
    assert shown == "Harbour."
    assert gate.began_inside
    assert streamed(text, cuts)[0].endswith("Harbour.")


@given(st.lists(st.integers(0, 200), max_size=12))
def test_what_ends_within_thoughts_shows_nothing(cuts: list[int]) -> None:
    assert streamed("<think>the secret plan", cuts)[0] == ""
    channels = "<|channel|>analysis<|message|>secret<|end|><|start|>assistant<|channel|>final"
    assert streamed(channels + "<|message|>Harbour.<|return|>", cuts)[0] == "Harbour."
    assert streamed("analysisThe secret.assistantfinalHarbour.", cuts)[0] == "Harbour."


def test_a_text_comes_as_it_is_written() -> None:
    gate = StreamedText()
    pieces = ["\n", "Harbour", " is at <", "b>left</b>", " [see", " 1]", " <think>no", "</think>ok"]
    shown = [gate.feed(piece) for piece in pieces]
    assert shown[:6] == ["", "Harbour", " is at ", "<b>left</b>", " [see", " 1]"]
    assert shown[6:] == ["", " ok"]
    assert gate.end() == ""


@pytest.mark.parametrize(("inside", "shown"), [(True, ""), (False, "a plan")])
def test_what_was_cut_before_any_mark(inside: bool, shown: str) -> None:
    gate = StreamedText(inside=inside)
    assert gate.feed("a plan") + gate.end(cut=True) == shown


def test_many_marks_take_no_more_time_than_many_words() -> None:
    """A text of marks alone is read again at each of the first few only."""
    gate = StreamedText()
    assert "".join(gate.feed("<think>a</think>") for _ in range(20_000)) + gate.end() == ""
    gate = StreamedText()
    shown = [gate.feed("b <think>a</think> ") for _ in range(200)]
    assert bare("".join(shown) + gate.end()) == "b" * 200
