"""Reading what a model wrote: tolerant for material, strict for verdicts."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping

import json_repair

from ecoalign.errors import ModelError, VerdictError
from ecoalign.models import Completion, TokenLogprob, Visible, ending, spoken, visible

_TOKENS_AT_END = re.compile(r"(?:\s*<\|?[A-Za-z0-9_/]{1,32}\|?>)+\s*\Z")

_MASS_SLACK = 1.01  # servers round log-probabilities


def excerpt(text: str, limit: int = 80) -> str:
    """The start of `text` for an error message, quoted, control characters escaped."""
    return repr(text if len(text) <= limit else text[:limit] + "...")


def bad_response(stage: str, why: str, completion: Completion) -> ModelError:
    """The error for an answer that a stage cannot use. Its tokens were spent."""
    model = completion.model or "the model"
    return ModelError(
        f"{stage}: {model} gave an unusable answer: {why}; got {excerpt(completion.text)}",
        fault="bad-response",
    )


def visible_text(stage: str, completion: Completion) -> str:
    """What of an answer is meant for its reader (see `visible`), its tool calls at the end.

    Raises:
        ModelError: it was withheld by a content filter (fault "filtered"), or nothing is left.
    """
    if ending(completion.finish_reason) == "content_filter":
        model = completion.model or "the model"
        raise ModelError(
            f"{stage}: the content filter of {model}'s server withheld the answer", fault="filtered"
        )
    seen = visible(completion.text)
    text = "\n".join(filter(None, (seen.text, spoken(completion.tool_calls))))
    if not seen.whole or not text:
        raise bad_response(stage, "it is empty or ends inside its reasoning", completion)
    return text


def loose_json(stage: str, completion: Completion) -> tuple[object, bool]:
    """The JSON value in an answer and whether it had to be repaired. Never for a verdict.

    An object with a repeated key counts as in need of repair.

    Raises:
        ModelError: there is no JSON to be had.
    """
    text = visible_text(stage, completion)
    try:
        value: object = json.loads(text, object_pairs_hook=_without_repeats)
    except (ValueError, RecursionError):
        try:
            value = json_repair.loads(text, skip_json_loads=True)
        except (ValueError, RecursionError) as error:
            raise bad_response(stage, "it is not JSON", completion) from error
        return value, True
    return value, False


def _without_repeats(pairs: list[tuple[str, object]]) -> dict[str, object]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a key is repeated")
    return result


def finite(value: object) -> float | None:
    """`value` as a finite float if it is a number (a bool is none), else None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def require_whole(completion: Completion) -> Visible:
    """The one run of text that may be a verdict, without the thoughts before or after it.

    A verdict that was cut off, filtered or ended for an unknown reason might have gone on to say
    something else, so only a natural end is let through. Thoughts amid a text leave none: a verdict
    is not put together from pieces.

    Returns:
        The visible text; its `start` is there, and is its offset in the completion's text.

    Raises:
        VerdictError: the server does not say that the answer ended by itself, or there is none.
    """
    if ending(completion.finish_reason) != "stop":
        raise VerdictError(
            f"the verdict is not whole (finish_reason {completion.finish_reason!r}): "
            f"{excerpt(completion.text)}; raise the score stage's max_tokens if it was cut off",
            filtered=ending(completion.finish_reason) == "content_filter",
        )
    seen = visible(completion.text)
    if seen.start is None:
        raise VerdictError(
            "the verdict is not one text after its thoughts, or it is missing: "
            f"{excerpt(completion.text)}"
        )
    return seen


def token_mass(
    completion: Completion, start: int, classify: Callable[[str], str | None]
) -> Mapping[str, float] | None:
    """Probability of each class among the alternatives of the token at `completion.text[start]`.

    `classify` names the class of a stripped token, or None for one that belongs to none; those
    are left out of the result, so the masses may sum to less than 1. None is returned where the
    server gave no usable alternatives: no log-probabilities, tokens that do not spell the visible
    text, a deciding token that holds more than its word, probabilities that are none. Tokens of
    thoughts may be before it.
    """
    seen = visible(completion.text)
    if seen.start is None:
        return None
    entry = _entry_at(completion, seen, start - seen.start)
    if entry is None or classify(entry.token.strip()) is None:
        return None
    masses = _masses({entry.token: entry.logprob, **entry.top}, classify)
    return masses if masses and sum(masses.values()) > 0 else None


def opening_masses(
    completion: Completion, classify: Callable[[str], str | None]
) -> Mapping[str, float] | None:
    """Like `token_mass`, of the first token that is visible, whichever it is.

    No alternative has to belong to a class: the result may be empty.
    """
    seen = visible(completion.text)
    entry = None if seen.start is None else _entry_at(completion, seen, 0)
    return None if entry is None else _masses({entry.token: entry.logprob, **entry.top}, classify)


def _entry_at(completion: Completion, seen: Visible, offset: int) -> TokenLogprob | None:
    """The token that begins at an offset of the visible text, if it has alternatives."""
    if not completion.logprobs:
        return None
    spelled = "".join(entry.token for entry in completion.logprobs)
    begins = _begins(spelled, seen.text)
    if begins is None:
        return None
    target, position = begins + offset, 0
    for entry in completion.logprobs:
        end = position + len(entry.token)
        if position <= target < end:
            lead = entry.token[: target - position]
            return None if not entry.top or lead.strip() else entry
        position = end
    return None


def _begins(spelled: str, body: str) -> int | None:
    """Where the tokens begin to spell the visible text; None where that is not certain."""
    if spelled.count(body) == 1:
        start = spelled.index(body)
        after = spelled[start + len(body) :]
        # What goes on after it are tokens of thoughts alone, which the server tells apart.
        return None if after.strip() and not _TOKENS_AT_END.fullmatch(after) else start
    # Thoughts may rehearse the verdict: what their marks leave over is the text itself.
    seen = visible(_TOKENS_AT_END.sub("", spelled))
    return seen.start if seen.text == body else None


def _masses(
    alternatives: Mapping[str, float], classify: Callable[[str], str | None]
) -> Mapping[str, float] | None:
    masses: dict[str, float] = {}
    total = 0.0
    for token, logprob in alternatives.items():
        if math.isnan(logprob) or logprob > 0.01:
            return None
        total += math.exp(logprob)
        name = classify(token.strip())
        if name is not None:
            masses[name] = masses.get(name, 0.0) + math.exp(logprob)
    return masses if total <= _MASS_SLACK else None
