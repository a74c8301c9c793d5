from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from queue import Queue
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from browser import tab
from command import SIGNS

from ecoalign.errors import InputError
from ecoalign.methods import Answerer
from ecoalign.query import Query
from ecoalign.settings import Settings
from ecoalign.trace import Story
from ecoalign.trace.events import Event, to_json
from ecoalign.view import follow

if TYPE_CHECKING:
    from playwright.sync_api import Browser

Json = dict[str, Any]

pytestmark = pytest.mark.slow


async def run_of(question: str = "What is the sum of the two numbers?") -> tuple[Event, ...]:
    """The events of a search by the embedded model."""
    async with Answerer(Settings()) as answerer:
        return (await answerer.answer(Query.of(SIGNS, question))).trace.events


class Following:
    """One page that follows."""

    def __init__(self, address: str, response: aiohttp.ClientResponse) -> None:
        self.address = address
        self.response = response
        self.frames: list[Json] = []
        self.places: Json = {}
        self.resets = 0

    async def line(self) -> Json:
        """The next line, as the page's script takes it."""
        news: Json = json.loads(await asyncio.wait_for(self.response.content.readline(), 30))
        if news.get("reset"):
            self.resets += 1
            self.frames, self.places = [], {}
        self.frames += news.get("frames", ())
        self.places |= news.get("layout", {})
        return news

    async def until(self, story: Story) -> None:
        """Read on until all of `story` is there."""
        while len(self.frames) < len(story.frames):
            await self.line()
        told = json.loads(json.dumps(story.to_json()))
        assert self.frames == told["frames"]
        assert self.places == told["layout"]


@asynccontextmanager
async def following(*paths: Path, images: dict[str, str] | None = None) -> AsyncIterator[Following]:
    ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    stop = asyncio.Event()
    served = follow(paths, images or {}, "127.0.0.1", 0, ready.set_result, stop=stop)
    task = asyncio.create_task(served)
    address, _, token = (await ready).partition("/#")
    headers = {"Authorization": f"Bearer {token}"}
    try:
        async with (
            aiohttp.ClientSession(read_bufsize=2**22) as session,
            session.get(f"{address}/frames", headers=headers) as response,
        ):
            assert response.status == 200
            yield Following(address, response)
    finally:
        stop.set()
        await task


def written(events: tuple[Event, ...]) -> str:
    return "".join(f"{to_json(event)}\n" for event in events)


async def test_a_trace_is_shown_as_it_grows(tmp_path: Path) -> None:
    events, path = await run_of(), tmp_path / "run.jsonl"
    async with following(path, images={"aa": "data:,x"}) as page:
        assert await page.line() == {"images": {"aa": "data:,x"}}
        assert await page.line() == {"story": 0, "reset": True}
        # It is not there yet; then it is, line by line, one of them in two parts.
        half = to_json(events[2])
        with path.open("w", encoding="utf-8") as file:
            file.write(written(events[:2]) + half[:20])
            file.flush()
            await page.until(Story.of(events[:2]))
            file.write(half[20:] + "\n")
            file.flush()
            await page.until(Story.of(events[:3]))
            file.write(written(events[3:]))
        await page.until(Story.of(events))
        assert page.resets == 1
        assert await page.line() == {"ended": True}


async def test_a_trace_that_is_there_comes_whole(tmp_path: Path) -> None:
    events, path = await run_of(), tmp_path / "run.jsonl"
    path.write_text(written(events), encoding="utf-8")
    async with following(path) as page:
        await page.until(Story.of(events))
        assert await page.line() == {"ended": True}


async def test_several_are_told_apart(tmp_path: Path) -> None:
    runs = [await run_of(), await run_of("Which number is larger?")]
    paths = [tmp_path / "a.jsonl", tmp_path / "b.jsonl"]
    for path, events in zip(paths, runs, strict=True):
        path.write_text(written(events), encoding="utf-8")
    frames: list[list[Json]] = [[], []]
    async with following(*paths) as page:
        while "ended" not in (news := await page.line()):
            if "frames" in news:
                frames[news["story"]] += news["frames"]
    for told, events in zip(frames, runs, strict=True):
        assert told == json.loads(json.dumps(Story.of(events).frames))


async def test_a_trace_that_is_written_anew_begins_again(tmp_path: Path) -> None:
    """Also where the new one is the longer one by the time it is looked at."""
    first, second = await run_of("Which number is larger?"), await run_of()
    path = tmp_path / "run.jsonl"
    path.write_text(written(first[:4]), encoding="utf-8")
    async with following(path) as page:
        await page.until(Story.of(first[:4]))
        path.write_text(written(second), encoding="utf-8")
        while page.resets < 2:
            await page.line()
        await page.until(Story.of(second))


@pytest.mark.parametrize(
    "text", ["{}\n", "not a trace\n", "\x00\x01\n", '{"event": "No"}\n', "é\n"]
)
async def test_what_is_no_trace_is_told(text: str, tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    path.write_bytes(text.encode("latin-1"))
    async with following(path) as page:
        while "error" not in (news := await page.line()):
            pass
        assert "run.jsonl" in news["error"]
        # A good one in its place is followed.
        events = await run_of()
        path.write_text(written(events), encoding="utf-8")
        while page.resets < 2:
            await page.line()
        await page.until(Story.of(events))


async def test_what_runs_hold_is_for_who_has_the_token(tmp_path: Path) -> None:
    events, path = await run_of(), tmp_path / "private-name.jsonl"
    path.write_text(written(events), encoding="utf-8")
    async with (
        following(path, images={"aa": "data:image/png;base64,U0VDUkVU"}) as page,
        aiohttp.ClientSession() as session,
    ):
        async with session.get(page.address) as response:
            html = await response.text()
            assert response.status == 200
        async with session.get(f"{page.address}/frames") as refused:
            assert refused.status == 401
    assert "private-name" not in html
    assert "U0VDUkVU" not in html
    assert "sum of the two" not in html


async def test_a_folder_is_no_trace(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is no file"):
        await follow([tmp_path], {}, "127.0.0.1", 0, print)


async def test_it_listens_on_this_machine_only(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="this machine only"):
        await follow([tmp_path / "run.jsonl"], {}, "192.0.2.1", 0, print)


def test_a_browser_follows_a_run_that_grows(chromium: Browser, tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    with ThreadPoolExecutor(1) as pool:
        # Playwright holds the event loop of this thread.
        events = pool.submit(asyncio.run, run_of()).result()
        stop, addresses = asyncio.Event(), Queue[str]()

        loops: list[asyncio.AbstractEventLoop] = []

        def work() -> None:
            with asyncio.Runner() as runner:
                loops.append(runner.get_loop())
                runner.run(follow([path], {}, "127.0.0.1", 0, addresses.put, stop=stop))

        served = pool.submit(work)
        try:
            with tab(chromium) as opened:
                page = opened.page
                page.goto(addresses.get(timeout=30))
                state = page.locator("#eco-link-state")
                state.get_by_text("Following the run").wait_for()
                assert page.evaluate("location.hash") == ""
                with path.open("w", encoding="utf-8") as file:
                    file.write(written(events[:9]))
                    file.flush()
                    page.locator(".eco-node[data-id]").first.wait_for()
                    some = page.locator(".eco-node[data-id]").count()
                    file.write(written(events[9:]))
                state.get_by_text("The run has ended").wait_for()
                assert page.locator(".eco-node[data-id]").count() > some
                assert page.get_by_text("59.", exact=True).first.is_visible()
                # It can be loaded again: the tab keeps the token.
                page.reload()
                state.get_by_text("The run has ended").wait_for()
                assert page.evaluate("ecoViews[0].length") == len(events)
        finally:
            loops[0].call_soon_threadsafe(stop.set)
            served.result()
