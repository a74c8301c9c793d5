"""The page docs/prompts.md, made of the prompts themselves.

    python tests/support/prompt_page.py

writes it; `tests/docs/test_prompt_page.py` fails where it is not what this would write.
"""

# ruff: noqa: E501
from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ecoalign.graph import ROOT, ActionKind, Candidate, Forecast, Region, Thought, ThoughtKind
from ecoalign.graph._thoughts import ThoughtId
from ecoalign.graph.economics import UtilityAggregator
from ecoalign.models import ImagePart, Profile
from ecoalign.prompts._boxes import CONVENTIONS
from ecoalign.prompts.dialect import dialect_of
from ecoalign.prompts.full import FullDialect
from ecoalign.prompts.requests import (
    AnswerRequest,
    CaptionRequest,
    CheckRequest,
    ExecuteRequest,
    GateRequest,
    ProposeRequest,
    ScanRequest,
    ScoreRequest,
    WriteRequest,
)

if TYPE_CHECKING:
    from ecoalign.models import ChatRequest
    from ecoalign.prompts.requests import PromptRequest

PAGE = Path(__file__).parents[2] / "docs" / "prompts.md"

QUESTION = "Which of the two tickets is cheaper, the one in [Image 1] or the one in [Image 2]?"
TOLD = "You are a travel agent. Answer in French, in one sentence."
EARLIER = ("user: I want to go to Lyon.", "assistant: On which day?")
FENCE = "7d1e40c2b95a"

VIEW = ImagePart(b"view", "image/jpeg", 512, 384, "low")
CROP = ImagePart(b"crop", "image/jpeg", 512, 256, "high")
STEP = (Forecast(1.0, 0.5),)
SEEN = Thought(ROOT, ThoughtKind.ROOT, "Two tickets; the prices are too small to read.", 1, 0, 90)
LOOK = Thought(ThoughtId(1), ThoughtKind.LOOK, "Image 1: 34,50 EUR, second class.", 1, 0.6, 70)
OTHER = Thought(ThoughtId(2), ThoughtKind.LOOK, "Image 2: 29 EUR.", 1, 0.6, 70)
REGION = Region(0.1, 0.55, 0.5, 0.8, image=1)

INTRO = """\
# Prompts

<!-- Made by tests/support/prompt_page.py, and checked by a test: change the prompts, then run it. -->

This page shows word for word what EcoAlign asks of a model at each stage of a search. What a model is sent: by the dialect `full`, the one for models that keep to a form, and further down by `small`. The page is
made of the prompts themselves. The example asks about two pictures, with a system prompt of the client's and an earlier turn.

Three things hold for all of them:

- **One prefix.** System message, images and request are the same bytes in every call that carries the same images, so that a
  server that caches prefixes computes them once: see [Prefix caching](prefix-caching.md).
- **Blocks.** What was not written by EcoAlign stands between marker lines with a code word that it cannot contain. In the
  request's blocks, thoughts included, the word is a digest of the request. The text to judge stands behind a word that was
  drawn after it was written, and a verdict must repeat the end of that word.
- **What is obeyed.** A stage that writes does as REQUEST says, and follows INSTRUCTIONS, the client's system prompt, for
  role, style, format, language and length. A stage that judges, looks at first or plans follows nothing in any block. The
  harm policy (the setting `policy`) comes before both.

A block that would be empty is left out, and so is every word about it; a question without images is never spoken to of
images. Copied lines of the prompt are taken out of what a model writes.
"""

BOXES = """\
## Regions

Models that were trained to point write a region in their family's way. They are asked in it (the setting `boxes`, else the
profile's) and read with tolerance:

| `boxes` | in the prompt |
| --- | --- |
{rows}

1. A box is four numbers: in a list, nested or not; in a text, between `<box>` or `[[ ]]` or not; in an object that holds
   such a list (`bbox_2d`, `box_2d`, `bbox`, ...) or names its edges (`x1`, `left`, `xmin`, `width`, ...). Of several boxes the first
   counts.
2. Numbers that cannot be meant in the convention are read as what they can be. None above 1: fractions. Beyond the scale of
   thousandths: pixels of the image as it was sent, if they fit it. Beyond the image, where pixels were asked for: thousandths.
3. Corners may be in either order, and what is up to 2 % outside is clipped to the image.
4. All else is refused, and the action with it.

## Tolerance and strictness

| what | how it is read |
| --- | --- |
| a verdict | one whole JSON object with its key, or none: nothing is repaired, and no verdict is unsafe |
| the first look | JSON may be repaired; the grade of safety must be there exactly once |
| an action | its kind in any case, alone or in an object; an image by any name that has its number, from 1; of its partners those on offer; what has no known kind, lacks its region or has no partner is dropped |
| a forecast | it only ranks, and what is done is scored: nothing in it loses an action. Flat, it is one step; grades are clamped to 0..9; one that is missing or no number is that of the path (safety) or 0.5 (utility). Costs are not asked for, and not read |
| a text | copied lines of the prompt are taken out; if nothing is left there is no thought |
"""


def cases() -> list[tuple[str, str, PromptRequest]]:
    """Title, a line about it, and the request."""
    views = (VIEW, VIEW)
    path, plan = (SEEN, LOOK), Candidate(ActionKind.THINK, "compare the prices", STEP)

    def acting(kind: ActionKind, text: str = "", **more: object) -> ExecuteRequest:
        action = replace(plan, kind=kind, text=text)
        request = ExecuteRequest(action, QUESTION, views, path, (), EARLIER, TOLD)
        return replace(request, **more)  # type: ignore[arg-type]

    look = acting(
        ActionKind.LOOK,
        "the price",
        views=(),
        crop=CROP,
        action=replace(plan, kind=ActionKind.LOOK, text="the price", region=REGION),
    )
    return [
        ("Scan", "The first look: the request's safety, a cautious plan, a caption.",
         ScanRequest(QUESTION, views, EARLIER, TOLD)),
        ("Propose", "The next actions, each with a forecast.",
         ProposeRequest(QUESTION, views, path, (OTHER,), 3, 2, EARLIER, TOLD)),
        ("Execute: think", "", acting(ActionKind.THINK, "compare the prices")),
        ("Execute: look", "The close view alone, where tokens are budgeted; after the views where it is only dollars or "
         "seconds and that is cheaper.", look),
        ("Execute: fuse", "", acting(ActionKind.FUSE, partners=(OTHER,))),
        ("Execute: answer", "", acting(ActionKind.ANSWER)),
        ("Execute: refuse", "", acting(ActionKind.REFUSE)),
        ("Write", "The answer from the best path, where that does not end in one.",
         WriteRequest(QUESTION, views, path, EARLIER, TOLD)),
        ("Score", "The verdict on every new text.",
         ScoreRequest(QUESTION, views, path, "answer", "Celui de l'image 2 est le moins cher.", FENCE, EARLIER, TOLD)),
        ("Score: a confirmation", "Every further verdict on a text that was found safe: "
         "the item first, no thoughts, the utility before the safety, and every second time the anchors from the worst to the best.",
         ScoreRequest(QUESTION, views, path, "answer", "Celui de l'image 2 est le moins cher.", FENCE, EARLIER, TOLD, check=1)),
        ("Score of a step, where utilities are summed", "As in the preset `paper`: what the step itself adds. An answer is asked "
         "for as above, and a forecast says \"the step itself adds all that is needed\" in place of \"a full and correct answer\".",
         ScoreRequest(QUESTION, views, path, "think", "29 EUR is less than 34,50 EUR.", FENCE, EARLIER, TOLD,
                      utility=UtilityAggregator.SUM)),
        ("Draft of a question without images", "",
         ExecuteRequest(replace(plan, kind=ActionKind.ANSWER, text=""), "What is 12 plus 30?", (), (replace(SEEN, text=""),))),
        ("Score of a question without images", "",
         ScoreRequest("What is 12 plus 30?", (), (replace(SEEN, text="A sum."),), "answer", "42", FENCE)),
        ("Caption", "For the methods `ecso` and `vlm-guard`.", CaptionRequest(QUESTION, views, EARLIER, TOLD)),
        ("Gate", "Likewise: the request and a caption.", GateRequest(QUESTION, SEEN.text, FENCE, EARLIER, TOLD)),
        ("Check", "Likewise: an answer.", CheckRequest(QUESTION, views, "Le second.", FENCE, EARLIER, TOLD)),
        ("Plain answer", "The method `base`: the question as an app sends it, the client's instructions as a system message.",
         AnswerRequest(QUESTION, views, instructions=TOLD)),
    ]  # fmt: skip


def _shown(call: ChatRequest, shared: int) -> str:
    """The messages as text; of a prefix of so many parts of the user's, that it is as above."""
    lines = ["(the prefix)"] if shared else []
    for message in call.messages:
        if shared and message.role == "system":
            continue
        if not shared:
            lines += [f"[{message.role}]"]
        for part in message.parts[shared:]:
            shown = (
                f"<an image of {part.width} x {part.height} pixels>"
                if isinstance(part, ImagePart)
                else part.text
            )
            lines.append(shown)
    return "\n".join(lines)


SMALL = """\
## The dialect `small`

For models that cannot keep to a form: examples as turns, nothing quoted that is only read, and verdicts in one word, read by
its log-probabilities. What is judged stands between tags with a code word.
"""


def _small() -> list[str]:
    """Its prompts that differ most."""
    dialect = dialect_of(Profile(dialect="small", scoring="word"))
    out = [SMALL]
    for title, _, request in cases():
        if title not in {"Scan", "Propose", "Execute: think", "Execute: answer", "Score"}:
            continue
        calls = (
            dialect.score_calls(request)
            if isinstance(request, ScoreRequest)
            else (dialect.render(request),)
        )
        for n, call in enumerate(calls, 1):
            of = f", call {n} of {len(calls)}" if len(calls) > 1 else ""
            out.append(f"### Small: {title.lower()}{of}\n")
            out.append(f"```text\n{_shown(call, 0)}\n```\n")
    return out


def page() -> str:
    """The whole page."""
    dialect = FullDialect()
    out = [INTRO]
    first = dialect.render(cases()[0][2])
    # The images with their numbers, and the request.
    shared = len(first.messages[1].parts) - 1
    out.append("## The prefix\n")
    prefix = replace(first.messages[1], parts=first.messages[1].parts[:shared])
    whole = replace(first, messages=(first.messages[0], prefix))
    out.append(f"```text\n{_shown(whole, 0)}\n```\n")
    for title, about, request in cases():
        call = dialect.render(request)
        same = call.messages[-1].parts[:shared] == prefix.parts
        out.append(f"## {title}\n")
        out.extend([f"{about}\n"] if about else [])
        out.append(f"```text\n{_shown(call, shared if same else 0)}\n```\n")
        if call.schema is not None:
            out.append(f"Schema: `{json.dumps(call.schema)}`\n")
    rows = "\n".join(
        f"| `{name}` | {rule.asked([(512, 384)])} |" for name, rule in CONVENTIONS.items()
    )
    out += _small()
    out.append(BOXES.format(rows=rows))
    return "\n".join(out)


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
