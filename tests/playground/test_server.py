from __future__ import annotations

import asyncio
import base64
import json
import re
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from playing import FORBIDDEN, HARMLESS, THING, asked, encoded, playing

from ecoalign.budget import Budget
from ecoalign.cli._play import playground
from ecoalign.errors import InputError
from ecoalign.models import ChatRequest
from ecoalign.models.fake import FakeModel
from ecoalign.playground import PlaygroundConfig
from ecoalign.query import Picture
from ecoalign.replay import replay
from ecoalign.settings import Settings
from ecoalign.trace import Story
from ecoalign.trace.events import from_json

Json = dict[str, Any]


class Shown:
    """What a page that gets these lines has at the end."""

    def __init__(self, lines: list[Json], lane: str) -> None:
        self.run: Json = {}
        self.nodes: dict[str, Json] = defaultdict(dict)
        self.gauges: Json = {}
        self.places: Json = {}
        self.result: Json = {}
        self.trace = ""
        self.judged: Json | None = None
        self.error: Json | None = None
        for line in lines:
            if line.get("lane") != lane:
                continue
            self.run = line.get("run", self.run)
            self.places |= line.get("layout", {})
            self.trace += line.get("trace", "")
            self.judged = line.get("judged", self.judged)
            self.error = line.get("error", self.error)
            for frame in line.get("frames", ()):
                self.gauges |= frame.get("gauges", {})
                self.result = frame.get("result", self.result)
                for name, changed in frame.get("nodes", {}).items():
                    self.nodes[name] |= changed


async def test_the_forbidden_request_is_complied_with_by_base_and_refused_by_ecoalign() -> None:
    async with playing() as play:
        lines = await play.lines(asked(FORBIDDEN))
    base, eco = Shown(lines, "base"), Shown(lines, "ecoalign")
    assert (base.result["answer"], base.result["safety"]) == ("to wake it, tap it twice.", None)
    assert not base.result["refused"]
    assert eco.result["refused"]
    assert "tap it twice" not in eco.result["answer"]
    kept = [node for node in eco.nodes.values() if "unsafe" in node["marks"]]
    assert kept
    assert not any("answer" in node["marks"] for node in kept)
    assert lines[-1] == {"done": True}


async def test_its_harmless_twin_is_answered_by_both() -> None:
    async with playing() as play:
        lines = await play.lines(asked(HARMLESS))
    for lane in ("base", "ecoalign"):
        shown = Shown(lines, lane)
        assert not shown.result["refused"]
        assert shown.result["answer"].startswith("to feed it, ")


async def test_the_lines_are_the_story_and_the_trace_of_the_run() -> None:
    async with playing() as play:
        lines = await play.lines(asked(FORBIDDEN, "ecoalign"))
    shown = Shown(lines, "ecoalign")
    events = [from_json(line) for line in shown.trace.splitlines()]
    story = Story.of(events)
    told = json.loads(json.dumps(story.to_json()))
    assert shown.run == told["run"]
    assert shown.places == told["layout"]
    assert [frame for line in lines for frame in line.get("frames", ())] == told["frames"]
    assert set(shown.nodes) == set(story.nodes)
    again = await replay(events, [Picture.load(THING)])
    assert list(again) == events


async def test_it_grows_while_it_is_searched() -> None:
    """The first lines come while the model is still being asked."""
    go = asyncio.Event()

    async def slow(request: ChatRequest) -> str:
        if request.stage != "scan":
            await go.wait()
        return "…"

    model = FakeModel(slow)
    config = PlaygroundConfig(Settings())
    async with playing(config, model) as play, play.asking(asked("What?", "ecoalign")) as response:
        first = json.loads(await response.content.readline())
        second = json.loads(await response.content.readline())
        assert first["budget"]
        assert second["run"]["question"] == "What?"
        assert not go.is_set()
        go.set()
        rest = await response.content.read()
    assert b'"done":true' in rest


async def test_who_leaves_cancels_what_is_paid() -> None:
    begun, cancelled = asyncio.Event(), asyncio.Event()

    async def hang(request: ChatRequest) -> str:
        if cancelled.is_set():
            return "all right"
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        return ""

    model = FakeModel(hang)
    config = PlaygroundConfig(Settings(), runs=1)
    async with playing(config, model) as play:
        async with play.asking(asked("What?", "base", "ecoalign")):
            await begun.wait()
            status, error = await play.problem(asked("What?", "base"))
            assert (status, error["type"]) == (429, "Busy")
        await asyncio.wait_for(cancelled.wait(), 20)
        # The place is free again, once the run has come to its end: nothing more is asked for it.
        while await play.problem_or_none(asked("What?", "base")):
            pass
        assert model._under_way == 0


async def test_a_question_of_another_world_is_told_readably_and_costs_nothing() -> None:
    async with playing() as play:
        status, error = await play.problem(asked("Who was Napoleon?"))
    assert (status, error["type"]) == (400, "OutOfDomainError")
    assert "embedded model" in error["message"]
    assert "Traceback" not in error["message"]


async def test_the_page_is_told_what_it_may_choose() -> None:
    async with playing() as play:
        about = await play.about()
    assert (about["model"], about["toy"]) == ("embedded", True)
    assert {"base", "ecso", "best-of-n", "ecoalign"} <= {one["name"] for one in about["methods"]}
    assert about["budget"]["unit"] == "tokens"
    assert about["budget"]["default"][0] == 8000
    assert about["budget"]["most"] == 200_000
    assert {one["name"] for one in about["examples"]} == {"signs", "thing", "shapes"}
    png = base64.b64decode(next(o["png"] for o in about["examples"] if o["name"] == "thing"))
    assert Picture.load(png).sha256 == Picture.load(THING).sha256


@pytest.mark.parametrize(
    ("limit", "asked_for", "given"),
    [
        ("900", "100000", "900"),
        ("900", "300", "300"),
        ("900", None, "900"),
        ("5000,$1,60s", "700", "700,$1,60s"),
        ("$1", "700", "700,$1"),
        ("1500", "$5,2s", "1500,$5,2s"),
    ],
)
async def test_the_operator_bounds_what_the_page_may_spend(
    limit: str, asked_for: str | None, given: str
) -> None:
    config = replace(playground(Settings(), limit), examples=())
    async with playing(config) as play:
        lines = await play.lines(asked(HARMLESS, "base", budget=asked_for))
    assert lines[0]["budget"] == given
    shown = Shown(lines, "base")
    assert Budget(**shown.run["budget"]) == Budget.parse(given)
    assert shown.gauges["tokens"] <= (Budget.parse(given).tokens or 10**9)


def test_a_budget_that_was_set_is_the_most_where_nothing_else_is_said() -> None:
    assert PlaygroundConfig(Settings(budget="600")).limit == Budget(tokens=600)
    assert PlaygroundConfig(Settings(budget="600"), Budget(tokens=900)).limit == Budget(tokens=900)
    assert PlaygroundConfig(Settings()).limit == Budget(tokens=200_000)


async def test_a_budget_that_is_too_small_says_what_would_do() -> None:
    async with playing() as play:
        lines = await play.lines(asked(HARMLESS, budget="60"))
        error = Shown(lines, "ecoalign").error
        assert error is not None
        assert (error["type"], error["unit"]) == ("BudgetTooSmall", "tokens")
        enough = await play.lines(asked(HARMLESS, "ecoalign", budget=f"{error['smallest']:.0f}"))
    assert Shown(enough, "ecoalign").result["answer"]


async def test_one_method_that_fails_does_not_take_the_others_with_it() -> None:
    def fails_to_search(request: ChatRequest) -> str:
        if request.stage == "scan":
            raise RuntimeError("secret of the model")
        return "all right"

    async with playing(PlaygroundConfig(Settings()), FakeModel(fails_to_search)) as play:
        lines = await play.lines(asked("What?"))
    assert Shown(lines, "base").result["answer"] == "all right"
    error = Shown(lines, "ecoalign").error
    assert error is not None
    assert error["type"] == "RuntimeError"
    assert "secret" not in error["message"]


async def test_what_was_not_scored_is_judged_on_request_within_the_same_budget() -> None:
    async with playing() as play:
        lines = await play.lines(asked(FORBIDDEN, "base", judge=True))
        base = Shown(lines, "base")
        assert base.judged is not None
        assert -1 <= base.judged["safety"] <= 1
        assert base.judged["tokens"] > 0
        # Enough to answer, and not to judge.
        error = Shown(await play.lines(asked(FORBIDDEN, "base", budget="1")), "base").error
        assert error is not None
        scarce = asked(FORBIDDEN, "base", judge=True, budget=f"{error['smallest']:.0f}")
        shown = Shown(await play.lines(scarce), "base")
    assert shown.result["answer"] == base.result["answer"]
    assert shown.judged is not None
    assert "safety" not in shown.judged
    assert shown.judged["error"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"methods": ["bass"]}, "bass"),
        ({"methods": []}, "methods"),
        ({"methods": ["ecoalign:nothing"]}, "nothing"),
        ({"methods": [f"best-of-{n}" for n in range(1, 9)]}, "at most 6"),
        ({"budget": "8 apples"}, "apples"),
        ({"budget": "-5"}, "budget"),
        ({"budget": 8000}, "budget"),
        ({"question": "  "}, "empty"),
        ({"question": 5}, "question"),
        ({"question": "x" * 300_000}, "question"),
        ({"images": ["/etc/passwd"]}, "base64|image"),
        ({"images": [str(THING)]}, "base64|image"),
        ({"images": ["data:image/png;base64," + encoded()]}, "base64"),
        ({"images": [base64.b64encode(b"<svg/>").decode()]}, "picture 1"),
        ({"images": [""]}, "picture 1"),
        ({"images": [encoded()] * 9}, "8 pictures"),
        ({"images": "x"}, "images"),
        ({"model": "openai:gpt-4o"}, "model"),
        ({"settings": {}}, "settings"),
    ],
)
async def test_what_cannot_be_asked_is_told(changes: dict[str, object], said: str) -> None:
    async with playing() as play:
        status, error = await play.problem(asked(HARMLESS) | changes)
    assert status == 400
    assert re.search(said, error["message"])


@pytest.mark.parametrize("body", ["[]", "null", '"x"', "5"])
async def test_a_body_of_another_kind_is_refused(body: str) -> None:
    async with playing() as play:
        url, headers = f"{play.url}/api/run", play.headers | {"Content-Type": "application/json"}
        async with play.session.post(url, data=body, headers=headers) as response:
            assert response.status == 400


async def test_nothing_is_asked_without_the_token() -> None:
    async with playing() as play, aiohttp.ClientSession() as session:
        for headers in ({"Origin": play.url}, play.headers | {"Origin": "https://x.example"}):
            async with session.post(
                f"{play.url}/api/run", json=asked(), headers=headers
            ) as refused:
                assert refused.status in {401, 403}
        async with session.get(f"{play.url}/api/about") as refused:
            assert refused.status == 401
        async with session.get(play.url) as page:
            assert page.status == 200
            text = await page.text()
    assert play.address.partition("#")[2] not in text


async def test_a_model_without_its_key_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(InputError, match="OPENAI_API_KEY"):
        async with playing(PlaygroundConfig(Settings(model="openai:gpt-4o"))):
            raise AssertionError


def test_the_example_pictures_are_those_of_the_repository() -> None:
    folder = Path(__file__).parents[2] / "examples"
    for example in playground(Settings(), None).examples:
        drawn, kept = Picture.load(example.png), Picture.load(folder / f"{example.name}.png")
        assert drawn.image.tobytes() == kept.image.tobytes()
