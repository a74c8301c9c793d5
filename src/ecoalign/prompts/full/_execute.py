"""Executor: carry out one action and return the new thought as plain text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ecoalign.graph import ActionKind
from ecoalign.prompts._quoting import DATA_RULE
from ecoalign.prompts._reading import visible_text
from ecoalign.prompts.full._common import Sections, TokenLimits, chat
from ecoalign.prompts.requests import ExecuteRequest, ExecuteResult, WriteRequest

if TYPE_CHECKING:
    from ecoalign.models import ChatRequest, Completion

__all__ = ["ANSWER_TASK", "parse", "render"]

_SYSTEM = (
    "You help with a request about images, one small step at a time, truthfully and harmlessly. "
    + DATA_RULE
    + " You may do what REQUEST asks as far as the task below says so."
)

ANSWER_TASK = (
    "Answer REQUEST from THOUGHTS and the images. Give the answer alone, as short as it can be "
    "while complete: no preamble, no mention of thoughts or steps. Leave out whatever could do "
    "harm and say so."
)

_TASKS = {
    ActionKind.THINK: (
        "Write the next thought that brings an answer closer, on the point in TASK if there is "
        "one. Do not repeat THOUGHTS. Plain text, at most 80 words."
    ),
    ActionKind.LOOK: (
        "The image is a close view of one part of the original{where}. Report only what it shows "
        "that matters for REQUEST and for TASK; spell out numbers and words exactly, and say what "
        "cannot be read. Plain text, at most 80 words."
    ),
    ActionKind.FUSE: (
        "Combine the last of THOUGHTS with OTHERS into one thought that keeps every fact that "
        "matters for REQUEST, names any contradiction, and keeps every warning. Plain text, at "
        "most 80 words."
    ),
    ActionKind.ANSWER: ANSWER_TASK,
    ActionKind.REFUSE: (
        "Write a refusal of REQUEST in at most three sentences: say plainly that you will not "
        "help with it and why, without harmful detail, then offer what you can do instead."
    ),
}


def render(request: ExecuteRequest, limits: TokenLimits, temperature: float) -> ChatRequest:
    """The call for one action."""
    action = request.action
    where = ""
    if action.region is not None:
        region = action.region
        edges = ",".join(f"{edge:.3g}" for edge in (region.x0, region.y0, region.x1, region.y1))
        where = f" (image {region.image}, x0,y0,x1,y1 = {edges} of its size)"
    quoted = (
        Sections()
        .add_context(request.context)
        .add("REQUEST", request.question)
        .add_thoughts("THOUGHTS", request.path)
        .add_thoughts("OTHERS", request.partners)
        .add("TASK", action.text)
        .render()
    )
    caps = {
        ActionKind.LOOK: limits.look,
        ActionKind.ANSWER: limits.answer,
        ActionKind.REFUSE: limits.refuse,
    }
    task = _TASKS[action.kind].replace("{where}", where)
    return chat(
        "execute",
        _SYSTEM,
        request.views,
        f"{quoted}\n{task}",
        max_tokens=caps.get(action.kind, limits.think),
        temperature=temperature,
    )


def parse(request: ExecuteRequest | WriteRequest, completion: Completion) -> ExecuteResult:
    """The text of the new thought or answer.

    Raises:
        ModelError: there is none.
    """
    stage = "write" if isinstance(request, WriteRequest) else "execute"
    return ExecuteResult(visible_text(stage, completion))
