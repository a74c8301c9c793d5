"""How a run ended and why, in words that a stranger understands."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from ecoalign._text import counted, short
from ecoalign.graph import ThoughtKind
from ecoalign.trace._alignment import Alignment
from ecoalign.trace.events import RunStarted, ThoughtAdded

_ENDED = {
    "drafted": "answered by its first draft",
    "searched": "answered by a search",
    "budget": "answered, but the budget ended the search",
}

_OTHERS = {
    "": "the model's words as they came; nobody has judged them",
    "length": "the model's words as they came, cut off at their cap; nobody has judged them",
    "withheld": "the server's content filter withheld the answer",
    "empty": "the model said nothing",
    "draft": "its own check let the answer pass",
    "eyes-closed": "its own check stopped the first answer; this one comes from a caption of the "
    "picture, and nobody has judged it",
    "plain": "a gate let the request pass, and a check the answer",
    "careful": "a gate flagged the request; a check let the careful answer pass",
    "blocked": "its own check stopped the answer",
    "best": "of several answers that were judged, the best",
    "fail-closed": "nothing that was written could be shown to be safe",
}
"""The same of the other methods."""

_STEPS = {
    ThoughtKind.LOOK: ("look at the picture", "looks at the picture"),
    ThoughtKind.THINK: ("thought", "thoughts"),
    ThoughtKind.FUSE: ("fused thought", "fused thoughts"),
    ThoughtKind.STRATEGY: ("cautious plan", "cautious plans"),
}
"""What leads to an answer, one and several of it."""


def is_search(result: Alignment) -> bool:
    """Whether EcoAlign has answered, and not one of the methods it is compared with."""
    return result.method.partition(":")[0] == "ecoalign"


def outcome(result: Alignment) -> str:
    """How it ended, in a few words."""
    if result.refused:
        return "refused"
    return _ENDED.get(result.ended, "answered")


def reason(result: Alignment) -> str:
    """Why it was answered in this way, in a sentence; "" where there is nothing to tell."""
    if not is_search(result):
        return _OTHERS.get(result.stop_reason, "")
    if result.refused:
        return _why_refused(result)
    if result.ended == "drafted":
        return "it was judged safe and useful enough, so nothing more was spent"
    steps = Counter(thought.kind for thought in result.path)
    told = [counted(steps[kind], *words) for kind, words in _STEPS.items() if steps[kind]]
    made = sum(isinstance(event, ThoughtAdded) for event in result.trace)
    led = f"{' and '.join(told)} led to it" if told else "no closer look was needed"
    if result.ended == "budget":
        led = "it is the best so far, and a larger budget may find a better one"
    unsafe = _unsafe_answers(result)
    cut = f"; before it, {_judged_unsafe(unsafe)}" if unsafe else ""
    return f"{led}; {counted(made, 'thought was', 'thoughts were')} judged in all{cut}"


def _why_refused(result: Alignment) -> str:
    request = result.path[0].safety if result.path else 0.0
    unsafe = _unsafe_answers(result)
    if unsafe:
        return f"{_judged_unsafe(unsafe)}, where {threshold(result):g} or more passes"
    if request < 0:
        return f"the request itself was judged unsafe ({request:+.2f} on a scale from -1 to 1)"
    if result.stop_reason == "fail-closed":
        return _last_cause(result)
    return "of all that was written and judged, the refusal was the best that is safe"


def _last_cause(result: Alignment) -> str:
    cause = short(result.hint.partition("last cause: ")[2], 300)
    return f"no answer could be shown to be safe{cause and f' ({cause})'}"


def _unsafe_answers(result: Alignment) -> list[float]:
    """The scores of the answers that were written and judged unsafe."""
    return [
        event.thought.safety
        for event in result.trace
        if isinstance(event, ThoughtAdded)
        and event.pruned
        and event.thought.kind is ThoughtKind.ANSWER
    ]


def _judged_unsafe(scores: Sequence[float]) -> str:
    shown = ", ".join(f"{score:+.2f}" for score in scores[:4])
    more = ", ..." if len(scores) > 4 else ""
    wrote = counted(len(scores), "answer was", "answers were")
    return f"{wrote} written and judged unsafe ({shown}{more})"


def threshold(result: Alignment) -> float:
    """The least safety that passes, in [-1, 1], by the settings of the run."""
    started = next(iter(result.trace), None)
    settings = started.settings if isinstance(started, RunStarted) else {}
    return float(settings.get("safety_threshold", 0.0))


def is_fixed(result: Alignment) -> bool:
    """Whether the answer is the fixed refusal, that no model wrote and nobody scored."""
    return is_search(result) and len(result.path) == 1
