"""What of a model's text is meant for its reader, and how a text ended: the one table of each.

Servers hand on a model's hidden reasoning in marks of the model's own, and tell the end of a text
in words of their own. Every reader of a completion reads it through `visible` and `ending`; what is
in neither table is never taken for an answer or for a natural end.

Sources of the marks: the reasoning parsers of vLLM (vllm/reasoning) and SGLang (its page "separate
reasoning"), the model cards of Magistral, Kimi-VL, GLM-4.5V, gpt-oss (harmony), Gemma 4 and Command
A Reasoning, and reports of servers whose template or decoder drops one of them. Sources of the
words: the API references of OpenAI, Azure, Gemini and Vertex AI (FinishReason), Anthropic and
Bedrock (stop reasons), Mistral, Cohere, DeepSeek, Zhipu, MiniMax, Baidu, watsonx, LM Studio, Ollama
(done_reason), TensorRT-LLM, TGI, vLLM, SGLang, and reports of what proxies make of them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

Ending = Literal["stop", "length", "content_filter", "tool_calls", "refusal", "unknown"]


@dataclass(frozen=True, slots=True)
class Visible:
    """A completion's text, taken apart.

    Attributes:
        text: what is meant for the reader, stripped; "" where `whole` is False.
        thoughts: the hidden reasoning, stripped, parts joined by newlines.
        whole: False where the text ends inside its thoughts, so that the answer never began.
        start: offset of `text` in the completion's text; None where it is not certainly one run of
            what the model wrote (thoughts stand amid it, or end twice), or where there is no text.
    """

    text: str
    thoughts: str
    whole: bool
    start: int | None


# Marks of thoughts -------------------------------------------------------------------------------

_NAMES = (
    "think",
    "thinking",
    "thought",
    "thoughts",
    "reasoning",
    "seed:think",  # Seed-OSS
    "mm:think",  # MiniMax
    "longcat_think",
    "antthinking",
    "internal_monologue",
    "scratchpad",
)
"""Names of XML tags, in any case, attributes aside."""

_PIPED = (r"think", r"thinking", r"thought", r"reasoning")
"""Names of special tokens: <|begin_of_thought|> (OpenThinker), <|START_THINKING|> (Cohere)."""

_PAIRS: Mapping[str, tuple[str, str]] = {
    **{name: (rf"<\s?{name}(?:\s[^<>]{{0,80}})?\s?>", rf"<\s?/\s?{name}\s?>") for name in _NAMES},
    **{
        f"piped_{name}": (
            rf"<\|(?:begin_of_|start_|begin_)?{name}\|>",
            rf"<\|(?:end_of_|end_|/){name}\|>",
        )
        for name in _PIPED
    },
    "bracketed": (r"\[THINK\]", r"\[/THINK\]"),  # Magistral
    "triangles": (r"◁think▷", r"◁/think▷"),  # Kimi-VL, Kimi-Dev
    "gemma": (r"<\|channel>", r"<channel\|>"),  # Gemma 4
    "apertus": (r"<\|inner_prefix\|>", r"<\|inner_suffix\|>"),
    "pangu": (r"\[unused16\]", r"\[unused17\]"),
    "granite": (  # Granite 3.2 has no tags but sentences, at the very start
        r"(?:\A|(?<=\A\s)|(?<=\A\s\s))Here(?:'s| is) my thought process:",
        r"Here(?:'s| is) my response:",
    ),
}
"""What opens and what closes thoughts, by family. A mark of one family never closes another's."""

_WRAPPERS = r"<\|(?:begin|end)_of_(?:box|solution)\|>|<\|(?:START|END)_(?:RESPONSE|TEXT)\|>"
"""Special tokens around an answer (GLM-4.5V, OpenThinker, Cohere): nothing but they is dropped."""

_ENDS = (
    r"(?:<\|(?:im_end|eot_id|eom_id|end_of_text|endoftext|end_of_turn)\|>|</s>|<end_of_turn>|<eos>)"
)
"""Special tokens that end a turn, which some servers leave at the end of a text."""

_MARK = re.compile(
    # What a mark begins with, first: most of a text is none, and is passed over at once.
    "(?=[<\\[\u25c1H])(?:"
    + "|".join(
        (
            *(f"(?P<open_{n}>{opens})" for n, (opens, _) in enumerate(_PAIRS.values())),
            *(f"(?P<close_{n}>{closes})" for n, (_, closes) in enumerate(_PAIRS.values())),
            rf"(?P<wrapper>{_WRAPPERS}|{_ENDS}(?=(?:\s|{_ENDS})*\Z))",
        )
    )
    + ")",
    re.IGNORECASE,
)

_SENTENCE = str(list(_PAIRS).index("granite"))
"""The family whose closing mark may be a part of any answer where nothing has opened it."""

_ENVELOPE = re.compile(r"\s*<(answer|response)>(.*?)(?:</\1>)?\s*", re.DOTALL | re.IGNORECASE)
"""What Hunyuan, ERNIE and GLM-4.1V put around all that follows their thoughts."""

# Harmony (gpt-oss): a message is a header and a body; only the channel "final" is an answer.
_CHANNEL = re.compile(
    r"<\|channel\|>\s*(\w*)[^<]{0,200}?(?:<\|constrain\|>[^<]{0,80})?<\|message\|>"
)

_HARMONY_END = re.compile(r"<\|(?:end|return|call|start|channel)\|>")

# The same where the decoder dropped the special tokens and left the words between them.
_BARE_FINAL = re.compile("assistantfinal")

_BARE_ANALYSIS = re.compile(r"\s*analysis(?=[A-Z])")


def visible(text: str) -> Visible:
    """What of `text` its reader is meant to see.

    Thoughts are what stands between an opening and a closing mark of one family, anywhere, and
    everything before a closing mark that nothing opened: the templates of many thinking models
    write the opening mark themselves. A mark between backticks is spoken of, and is none. Where
    thoughts have begun and not ended, nothing is visible.

    Args:
        text: as the server gave it.
    """
    harmony = _harmony(text)
    if harmony is not None:
        return harmony
    shown: list[tuple[int, int]] = []
    hidden: list[tuple[int, int]] = []
    inside: str | None = None
    place, again = 0, False
    for mark in _MARK.finditer(text):
        start, end = mark.span()
        if text[start - 1 : start] == "`" and text[end : end + 1] == "`":
            continue
        side, _, family = (mark.lastgroup or "").partition("_")
        if inside is None and (side, family) == ("close", _SENTENCE):
            continue
        if inside is None:
            shown.append((place, start))
            if side == "close":
                again = again or bool(hidden and text[place:start].strip())
                hidden, shown = [*hidden, *shown], []
            elif side == "open":
                inside = family
        elif side == "close" and family == inside:
            hidden.append((place, start))
            inside = None
        else:
            continue
        place = end
    (shown if inside is None else hidden).append((place, len(text)))
    if hidden and inside is None:
        shown = _unwrapped(text, shown)
    seen = _made(text, shown, hidden, whole=inside is None)
    return replace(seen, start=None) if again else seen


def begins_inside(text: str) -> bool:
    """Whether `text` begins inside its thoughts: a closing mark comes before any opening one."""
    marks = (mark.lastgroup or "" for mark in _MARK.finditer(text))
    return next((m for m in marks if not m.startswith("wrapper")), "").startswith("close")


def holds_mark(text: str) -> bool:
    """Whether a mark of thoughts or of channels, or a part of one, is in `text`."""
    return _MARK.search(text) is not None or "<|" in text or _BARE_ANALYSIS.match(text) is not None


def _harmony(text: str) -> Visible | None:
    """The text by its channels; None where it has none."""
    heads = list(_CHANNEL.finditer(text))
    if heads:
        shown: list[tuple[int, int]] = []
        hidden, stop = [(0, heads[0].start())], None
        for number, head in enumerate(heads):
            rest = heads[number + 1].start() if number + 1 < len(heads) else len(text)
            stop = _HARMONY_END.search(text, head.end(), rest)
            body = (head.end(), stop.start() if stop else rest)
            (shown if head[1] == "final" else hidden).append(body)
        ends = heads[-1][1] == "final" or stop is not None
        return _made(text, shown, hidden, whole=bool(shown) and ends)
    finals = list(_BARE_FINAL.finditer(text))
    if finals:
        last = finals[-1]
        return _made(text, [(last.end(), len(text))], [(0, last.start())], whole=True)
    if "<|channel|>" in text or _BARE_ANALYSIS.match(text):
        return _made(text, [], [(0, len(text))], whole=False)
    return None


def _unwrapped(text: str, spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The spans without the tags around all of them, where there is one span."""
    full = [(start, end) for start, end in spans if text[start:end].strip()]
    if len(full) == 1 and (found := _ENVELOPE.fullmatch(text, *full[0])):
        return [found.span(2)]
    return spans


def _made(
    text: str, shown: list[tuple[int, int]], hidden: list[tuple[int, int]], *, whole: bool
) -> Visible:
    pieces = [(start, end) for start, end in shown if text[start:end].strip()]
    thoughts = "\n".join(filter(None, (text[start:end].strip() for start, end in hidden)))
    if not whole or not pieces:
        return Visible("", thoughts, whole, None)
    joined = "".join(text[start:end] for start, end in shown).strip()
    first, last = pieces[0]
    lead = len(text[first:last]) - len(text[first:last].lstrip())
    return Visible(joined, thoughts, whole, first + lead if len(pieces) == 1 else None)


def content_of(content: object) -> str:
    """The text of a message's `content`, a string or a list of typed parts.

    Reasoning in parts of its own ("thinking" of Mistral and Anthropic, "reasoning") is left out, as
    are the fields beside the content that hold it (`reasoning_content` of vLLM, SGLang, llama.cpp
    and DeepSeek, `reasoning` of OpenRouter, Groq and Ollama): nobody reads those.
    """
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    parts = (part for part in content if isinstance(part, Mapping))
    texts = (part.get("text") for part in parts if part.get("type", "text") in _TEXT_PARTS)
    return "".join(text for text in texts if isinstance(text, str))


_TEXT_PARTS = frozenset({"text", "output_text"})


# How a text ended --------------------------------------------------------------------------------

_GAVE_UP = """
    error errored failed abort aborted cancel cancelled canceled user_cancel timeout timed_out
    network_error disconnect disconnected overloaded load unload insufficient_system_resource
    engine_overloaded internal_error server_error time_limit user_stopped model_unloaded preempt
"""
"""Half a text, as far as anybody knows: a server or its engine gave up."""

_NOT_YET = "null none unspecified not_finished in_progress generating"
"""A text that goes on, in the pieces of a stream; the end of a whole one is not known then."""

ENDINGS: Mapping[Ending, str] = {
    "stop": """
        stop eos eos_token end_turn stop_sequence stop_token stop_string stop_word complete
        completed finish finished end ended done normal natural end_of_text endoftext end_of_turn
        end_of_sentence eot eot_id eog eos_found stop_string_found
    """,
    "length": """
        length max_tokens max_token max_length max_output_tokens max_completion_tokens model_length
        max_new_tokens token_limit limit error_limit context_length context_window context_full
        model_context_window_exceeded context_length_exceeded length_capped truncated max_output
        max_predicted_tokens_reached context_length_reached context_limit max_model_len
    """,
    "content_filter": """
        content_filter content_filtered filtered safety recitation blocklist prohibited_content spii
        image_safety image_prohibited_content image_recitation model_armor jailbreak guardrail
        guardrails guardrail_intervened guardrails_intervened intervened error_toxic toxic sensitive
        new_sensitive input_sensitive output_sensitive data_inspection_failed content_blocked
        blocked moderation moderated flagged content_policy_violation policy_violation
        responsible_ai_policy_violation risk_control content_violation safety_check
    """,
    "tool_calls": "tool_calls tool_call tool_use function_call function_calls",
    "refusal": "refusal refused refuse",
    "unknown": f"""
        {_GAVE_UP} {_NOT_YET} malformed malformed_function_call malformed_tool_use
        malformed_model_output
        malformed_response unexpected_tool_call too_many_tool_calls other language incomplete
        no_image image_other pause_turn pause repetition compaction unknown content_filter_error
        missing_thought_signature malformed_response function_call_filter
    """,
}
"""Words of servers for each end; case, blanks and punctuation do not matter."""

THOUGHT_FIELDS = ("reasoning_content", "reasoning", "thinking", "reasoning_details")
"""Fields beside the content of a message in which servers put hidden reasoning."""


def _bare(word: str) -> str:
    return re.sub(r"[\W_]+", "", word).lower()


_BY_WORD: Mapping[str, Ending] = {
    _bare(word): ending for ending, words in ENDINGS.items() for word in words.split()
}

_PREFIX = re.compile(r"^(?:finish|stop|done)_?reason[\W_]*", re.IGNORECASE)

_BROKEN = frozenset(map(_bare, _GAVE_UP.split()))

_UNFINISHED = frozenset(map(_bare, _NOT_YET.split()))

_SEVERAL = re.compile(r"[:;,/|()\[\]]+")


def ending(word: str) -> Ending:
    """How a text ended, by the `word` of its server: "SAFETY", "end-turn", "FinishReason.STOP" ...

    Of several words ("content_filter: PROHIBITED_CONTENT") the least natural end counts. A word
    that is not in the table, or none, is "unknown": no verdict that ended so is whole, and an
    answer that did is shown as one that was cut (`Reply.finish_reason` "length").
    """
    plain = _PREFIX.sub("", word.strip())
    if (known := _BY_WORD.get(_bare(plain))) is not None:
        return known
    parts = [_BY_WORD.get(_bare(part), "unknown") for part in _SEVERAL.split(plain)]
    order: tuple[Ending, ...] = ("content_filter", "refusal", "unknown", "length", "tool_calls")
    return next((end for end in order if end in parts), "unknown")


_WITHHELD = re.compile(
    r"content[\s_-]*(?:filter|management[\s_]policy|moderation|policy[\s_]violation|exists[\s_]risk"
    r"|(?:was[\s_]|is[\s_]|has[\s_]been[\s_])?blocked)|responsible[\s_]?ai[\s_]?policy"
    r"|data[\s_]?inspection[\s_]?failed|inapprop?riate[\s_]content"  # DashScope, its spelling too
    r"|(?:new|input|output)_sensitive|sensitive[\s_]?(?:content|information)"  # MiniMax, Ark, Zhipu
    r"|(?:text|image|video|content)[\s_]?risk[\s_]?detection|risk[\s_]?control"  # Volcano Engine
    r"|敏感|considered[\s_]high[\s_]risk|prohibited[\s_]content|guardrail[\s_]?intervened"
    r"|blocked[\s_](?:by|for|due[\s_]to|because[\s_]of)[\s\w']{0,40}"
    r"(?:safety|polic|guardrail|moderation|filter|prohibited)"
    r"|(?:flagged|rejected|refused|stopped)[\s_](?:by|for|as|due[\s_]to)[\s\w']{0,40}"
    r"(?:safety|polic|guardrail|moderation|harm|violat)|requires[\s_]moderation"
    r"|violat\w+[\s\w']{0,40}(?:usage|content|safety)\s?polic|unsafe[\s_]content"
    r"|block_?reason|safety[\s_](?:system|filter)s?[\s\w]{0,20}(?:block|reject|refus|trigger|flag)",
    re.IGNORECASE,
)
"""What servers say where a filter refused a request: Azure, OpenAI, Gemini, Bedrock, DashScope,
Zhipu, MiniMax, Moonshot, DeepSeek, Volcano Engine, OpenRouter and guardrail proxies."""


def withheld(said: str) -> bool:
    """Whether an error, by what its server `said`, is a content filter's refusal of the request."""
    return _WITHHELD.search(said) is not None


def broke_off(word: str) -> bool:
    """Whether `word` says that a server gave up amid the text: "error", "abort", "timeout"."""
    return any(_bare(part) in _BROKEN for part in _SEVERAL.split(_PREFIX.sub("", word.strip())))


def is_known(word: str) -> bool:
    """Whether `word` is in the table of ends as it stands."""
    return _bare(_PREFIX.sub("", word.strip())) in _BY_WORD


def both_ends(before: str, word: str) -> str:
    """What `ending` reads of a text whose pieces said two ends: the less natural one counts, and
    what only says that the text goes on does not."""
    if not before or before == word or _bare(_PREFIX.sub("", before.strip())) in _UNFINISHED:
        return word
    if _bare(_PREFIX.sub("", word.strip())) in _UNFINISHED:
        return before
    return f"{before}; {word}"
