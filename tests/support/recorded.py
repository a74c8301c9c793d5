"""Real outputs of small models, recorded through the full dialect, and how they were recorded.

    python tests/support/recorded.py http://127.0.0.1:8080/v1 MODEL OUT.jsonl [--images]

asks a server every request below, with its schema enforced and without, and appends what it said.
`tests/data/small_models.jsonl` holds SmolLM2-135M-Instruct and a SmolVLM built on it with a random
vision half, on llama.cpp's server. One line a reply: model, case, enforced, text, finish_reason.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image, ImageDraw

from ecoalign.graph import ROOT, ActionKind, Candidate, Forecast, Region, Thought, ThoughtKind
from ecoalign.graph._thoughts import ThoughtId
from ecoalign.models import Completion, ImagePart, Profile
from ecoalign.models.openai import OpenAIModel
from ecoalign.prompts import TokenLimits
from ecoalign.prompts.full import FullDialect
from ecoalign.prompts.requests import (
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
    from ecoalign.prompts.requests import PromptRequest

# So that some replies are cut off.
SHORT = TokenLimits(
    scan=160, propose=40, forecast=10, think=64, look=64, answer=80, refuse=64, caption=64
)

FENCE = "k3v9x2q7m1"
DATA = Path(__file__).parents[1] / "data" / "small_models.jsonl"

# ruff: noqa: E501
# (question, instructions, what a first look says, a thought, another one, an answer)
QUESTIONS = {
    "capital": ("What is the capital of France?", "", "A question of geography.", "It is a city on the Seine.", "France is in Europe.", "Paris."),
    "sum": ("What is 12 plus 30?", "Answer with one number.", "A sum of two numbers.", "12 + 30: add the tens first.", "30 + 10 = 40.", "42"),
    "egg": ("How do I boil an egg?", "", "Someone wants to cook an egg.", "The water has to boil first.", "Seven minutes make it medium.", "Boil it for seven minutes."),
    "french": ("Wie heißt die Hauptstadt von Italien?", "Antworte auf Deutsch.", "Eine Frage der Geographie.", "Es ist eine alte Stadt.", "Sie liegt am Tiber.", "Rom."),
    "poem": ("Write a short poem about the sea.", "You are a poet. At most two lines.", "A wish for a poem.", "Waves and wind are good themes.", "Two lines are enough.", "The sea is wide, the sea is deep,\nit sings the sailors into sleep."),
    "sign": ("What does the sign say?", "", "A white board with a red sign.", "The sign is in the middle.", "The letters are black.", "The sign says STOP 42."),
    "colour": ("Which colour is the square?", "", "A board with a red square.", "The square is the largest shape.", "Its edge is black.", "The square is red."),
}  # fmt: skip


def _picture() -> ImagePart:
    image = Image.new("RGB", (256, 192), "white")
    draw = ImageDraw.Draw(image)
    draw.rectangle((60, 40, 200, 150), fill="red", outline="black")
    draw.text((100, 90), "STOP 42", fill="black")
    out = io.BytesIO()
    image.save(out, "PNG")
    return ImagePart(out.getvalue(), "image/png", 256, 192, "low")


def _thought(number: int, kind: ThoughtKind, text: str) -> Thought:
    return Thought(ThoughtId(number), kind, text, 1.0, 0.5, 40.0, (ROOT,))


@cache
def requests() -> dict[str, PromptRequest]:
    """Every request by the name of its case: "NAME/STAGE", "+" before those with an image."""
    found: dict[str, PromptRequest] = {}
    for name, (question, told, seen, first, second, answer) in QUESTIONS.items():
        for views in ((), (_picture(),)):
            if bool(views) != (name in {"sign", "colour"}):
                continue
            root = Thought(ROOT, ThoughtKind.ROOT, seen, 1.0, 0.0, 90.0)
            think = _thought(1, ThoughtKind.THINK, first)
            other = _thought(2, ThoughtKind.THINK, second)
            path = (root, think)
            common: Any = {"instructions": told}
            actions = {kind: Candidate(kind, "", (Forecast(1, 0.5, 100),)) for kind in ActionKind}
            actions[ActionKind.THINK] = replace(actions[ActionKind.THINK], text=second)
            cases: dict[str, PromptRequest] = {
                "scan": ScanRequest(question, views, **common),
                "propose": ProposeRequest(question, views, path, (other,), 3, 2, **common),
                "first-propose": ProposeRequest(question, views, (root,), (), 4, 1, **common),
                "write": WriteRequest(question, views, path, **common),
                "draft": ExecuteRequest(
                    actions[ActionKind.ANSWER], question, views, (replace(root, text=""),), **common
                ),
                "score": ScoreRequest(question, views, path, "answer", answer, FENCE, **common),
                "score-think": ScoreRequest(
                    question, views, path, "think", second, FENCE, **common
                ),
                "check": CheckRequest(question, views, answer, FENCE, **common),
            }
            for kind, action in actions.items():
                partners = (other,) if kind is ActionKind.FUSE else ()
                if kind is ActionKind.LOOK:
                    if views:
                        look = replace(action, text=second, region=Region(0.2, 0.2, 0.8, 0.8))
                        cases["look"] = ExecuteRequest(
                            look, question, (), path, crop=views[0], **common
                        )
                    continue
                cases[kind.value] = ExecuteRequest(
                    action, question, views, path, partners, **common
                )
            if views:
                cases["caption"] = CaptionRequest(question, views, **common)
                cases["gate"] = GateRequest(question, seen, FENCE, **common)
            mark = "+" if views else ""
            found |= {f"{mark}{name}/{stage}": request for stage, request in cases.items()}
    return found


def recorded() -> list[tuple[str, PromptRequest, bool, Completion]]:
    """Case, request, whether its schema was enforced, and the reply: all that were recorded."""
    known = requests()
    lines = [json.loads(line) for line in DATA.read_text("utf-8").splitlines()]
    return [
        (
            line["case"],
            known[line["case"]],
            line["enforced"],
            Completion(line["text"], None, line["finish_reason"], model=line["model"]),
        )
        for line in lines
    ]


async def record(url: str, name: str, out: Path, *, images: bool) -> None:
    """Ask a server all that can be asked of it, and append what it says."""
    for enforced in (True, False):
        profile = Profile(schema_mode="json_schema" if enforced else "prompt", logprobs=0)
        model = OpenAIModel(name, base_url=url, timeout=300, profile=profile)
        dialect = FullDialect(SHORT, profile=profile)
        for case, request in requests().items():
            call = dialect.render(request)
            if (call.messages[-1].images and not images) or case.startswith("+") != images:
                continue
            # Enforced it says the same every time; free text needs no second try without a schema.
            tries = (0.0, 0.9) if call.schema is not None and not enforced else (0.0,)
            for temperature in tries if call.schema is not None or enforced else ():
                asked = replace(call, temperature=temperature, seed=7)
                reply = await model.complete(asked)
                line = {
                    "model": name,
                    "case": case,
                    "enforced": enforced and call.schema is not None,
                    "text": reply.text,
                    "finish_reason": reply.finish_reason,
                }
                with out.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(line, ensure_ascii=False) + "\n")
        await model.aclose()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("model")
    parser.add_argument("out", type=Path)
    parser.add_argument("--images", action="store_true")
    chosen = parser.parse_args()
    asyncio.run(record(chosen.url, chosen.model, chosen.out, images=chosen.images))
