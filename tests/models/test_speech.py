"""What of a text is meant for its reader, and how it ended: the marks and words of many servers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecoalign.models import ending, visible
from ecoalign.models._speech import ENDINGS, both_ends, broke_off

PAIRS = [
    ("<think>", "</think>"),
    ("<THINK>", "</Think>"),
    ("<thinking>", "</thinking>"),
    ('<thinking mode="slow">', "</thinking>"),
    ("<thought>", "</thought>"),
    ("<reasoning>", "</reasoning>"),
    ("<seed:think>", "</seed:think>"),
    ("[THINK]", "[/THINK]"),
    ("\u25c1think\u25b7", "\u25c1/think\u25b7"),
    ("<|channel>thought\n", "<channel|>"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("<|inner_prefix|>", "<|inner_suffix|>"),
    ("[unused16]", "[unused17]"),
    ("Here is my thought process:", "Here is my response:"),
    ("<|channel|>analysis<|message|>", "<|end|><|start|>assistant<|channel|>final<|message|>"),
]

# Nothing that could be, or complete, a mark.
PROSE = st.text(st.sampled_from("ab {}\":9\n.,'\u00e9\u4e2d"), max_size=40)


@pytest.mark.parametrize(("opens", "closes"), PAIRS)
@given(thoughts=PROSE, answer=PROSE)
def test_thoughts_are_hidden_whatever_they_and_the_answer_are(
    opens: str, closes: str, thoughts: str, answer: str
) -> None:
    text = f"{opens}{thoughts}{closes}{answer}"
    seen = visible(text)
    assert (seen.text, seen.whole) == (answer.strip(), True)
    assert thoughts.strip() in seen.thoughts
    if answer.strip():
        assert seen.start is not None
        assert text[seen.start : seen.start + len(seen.text)] == seen.text


@pytest.mark.parametrize(("opens", "closes"), PAIRS)
@pytest.mark.parametrize("before", ["", "Well. "])
def test_a_text_that_ends_inside_its_thoughts_shows_nothing(
    opens: str, closes: str, before: str
) -> None:
    if before and opens.startswith("Here"):
        return  # a sentence is a mark at the start only
    seen = visible(f"{before}{opens}It could be a door.")
    assert (seen.text, seen.whole, seen.start) == ("", False, None)
    assert "door" in seen.thoughts


@pytest.mark.parametrize(
    ("text", "shown", "hidden"),
    [
        # The template wrote the opening mark.
        ("It reads so.\n</think>\n\nHarbour.", "Harbour.", "It reads so."),
        ("It reads so.[/THINK]Harbour.", "Harbour.", "It reads so."),
        # A mark named in thoughts: all before the last closing one is hidden.
        ("<think>Then </think> comes, and </think>Harbour.", "Harbour.", "Then\ncomes, and"),
        ("<think>a <think>b</think>Harbour.", "Harbour.", "a <think>b"),
        ("<think>a</think>Harb<think>b</think>our.", "Harbour.", "a\nb"),
        ("Harbour.<think>Was it?</think>", "Harbour.", "Was it?"),
        ("<think>\n\n</think>\n\nHarbour.", "Harbour.", ""),
        # Spoken of, not spoken.
        ("Write `<think>` first and `</think>` last.",) * 2 + ("",),
        (
            "<think>I end with `</think>` now.</think>Harbour.",
            "Harbour.",
            "I end with `</think>` now.",
        ),
        # What is around an answer.
        ("<think>a</think>\n<answer>\nHarbour.\n</answer>", "Harbour.", "a"),
        ("<think>a</think><answer>Harbour", "Harbour", "a"),
        ("<think>a</think>It is <|begin_of_box|>42<|end_of_box|>.", "It is 42.", "a"),
        ("<answer>7</answer>", "<answer>7</answer>", ""),
        # Harmony without its special tokens, and with several messages.
        (
            "analysisWe need one word.assistantfinalHarbour.",
            "Harbour.",
            "analysisWe need one word.",
        ),
        ("We need one word.assistantfinalHarbour.", "Harbour.", "We need one word."),
        (
            "<|channel|>analysis<|message|>a<|end|><|start|>assistant<|channel|>commentary to=f "
            "<|constrain|>json<|message|>{}<|call|><|start|>assistant<|channel|>final<|message|>Harbour.",
            "Harbour.",
            "a\n{}",
        ),
        ("<|channel|>final <|constrain|>json<|message|>{}<|return|>", "{}", ""),
        ("Sure! Here is my response: Harbour.",) * 2 + ("",),
        # Tokens that end a turn, at the end only.
        ("Harbour.<|im_end|>\n<|endoftext|>", "Harbour.", ""),
        ("<think>a</think>Harbour.</s>", "Harbour.", "a"),
        ("A turn ends with </s> there.",) * 2 + ("",),
        # No marks at all.
        ("analysis of the sign: the assistant finally read 3 < 4 and <b>Harbour</b>",) * 2 + ("",),
        ("", "", ""),
    ],
)
def test_the_shapes_that_servers_send(text: str, shown: str, hidden: str) -> None:
    seen = visible(text)
    assert (seen.text, seen.thoughts, seen.whole) == (shown, hidden, True)


@pytest.mark.parametrize(
    "text",
    [
        "<think>a</thinking>Harbour.",  # another family's mark
        "Harbour.<think>a</think> and <think>b",
        "analysisWe need one word.",
        "<|channel|>commentary<|message|>{}<|end|>",
        "<|channel|>analysis",
        "<|channel|>final<|message|>Harbour.<|end|><|start|>assistant<|channel|>analysis<|message|>b",
    ],
)
def test_when_in_doubt_nothing_is_visible(text: str) -> None:
    assert (visible(text).text, visible(text).whole) == ("", False)


def test_where_thoughts_stand_amid_a_text_it_has_no_one_place() -> None:
    assert visible("Harb<think>a</think>our").start is None
    assert visible("x</think> Harbour ").start == 10


@pytest.mark.parametrize(
    ("end", "words"),
    [
        ("stop", "stop STOP Stop eos eos_token end_turn end-turn stop_sequence COMPLETE"),
        ("stop", "FinishReason.STOP finish_reason_stop"),
        ("length", "length LENGTH max_tokens MAX_TOKENS model_length ERROR_LIMIT max-tokens"),
        ("content_filter", "content_filter SAFETY RECITATION BLOCKLIST PROHIBITED_CONTENT SPII"),
        (
            "content_filter",
            "IMAGE_SAFETY guardrail_intervened content_filtered ERROR_TOXIC sensitive",
        ),
        ("content_filter", "data_inspection_failed DataInspectionFailed MODEL_ARMOR contentFilter"),
        ("tool_calls", "tool_calls tool_use function_call TOOL_CALL"),
        ("refusal", "refusal"),
        ("unknown", "error abort load unload OTHER FINISH_REASON_UNSPECIFIED null network_error"),
        ("unknown", "pause_turn MALFORMED_FUNCTION_CALL dada stopped_by_magic 0"),
    ],
)
def test_every_vendors_words(end: str, words: str) -> None:
    assert {word: ending(word) for word in words.split()} == dict.fromkeys(words.split(), end)


@pytest.mark.parametrize(
    ("word", "end"),
    [
        ("", "unknown"),
        ("  End Turn ", "stop"),
        ("content_filter: PROHIBITED_CONTENT", "content_filter"),
        ("stop: SAFETY", "content_filter"),
        ("aborted: SAFETY", "content_filter"),
        ("stop; error", "unknown"),
        ("stop (magic)", "unknown"),
        ("stop/length", "length"),
    ],
)
def test_of_several_words_the_least_natural_counts(word: str, end: str) -> None:
    assert ending(word) == end


@given(st.text(max_size=20))
def test_only_a_known_word_is_a_natural_end(word: str) -> None:
    natural = ENDINGS["stop"].replace("_", "").split()
    if ending(word) == "stop":
        bare = "".join(c for c in word if c.isalnum()).lower()
        assert any(bare.endswith(known) for known in natural)


@pytest.mark.parametrize(("end", "words"), ENDINGS.items())
def test_every_word_of_the_table_means_what_it_says(end: str, words: str) -> None:
    for word in words.split():
        spellings = (word, word.upper(), word.replace("_", "-"), word.title().replace("_", ""))
        assert {ending(one) for one in (*spellings, f"finish_reason: {word}")} == {end}, word
    every = [word for listed in ENDINGS.values() for word in set(listed.split())]
    assert len(every) == len(set(every))


@given(st.sampled_from(ENDINGS["stop"].split()), st.text(min_size=1, max_size=20))
def test_pieces_that_disagree_end_by_the_less_natural_word(word: str, other: str) -> None:
    ends = {ending(both_ends(word, other)), ending(both_ends(other, word))}
    assert len(ends) == 1 or "stop" not in ends
    goes_on = {"null", "none", "not_finished", "unspecified", "in_progress", "generating"}
    if ending(other) == "unknown" and other.isalpha() and other.lower() not in goes_on:
        assert "stop" not in ends
    assert all(both_ends(pause, word) == both_ends(word, pause) == word for pause in goes_on)


def test_a_server_that_gave_up_says_so() -> None:
    assert [w for w in ("error", "ABORT", "load", "other", "stop", "") if broke_off(w)] == [
        "error",
        "ABORT",
        "load",
    ]
