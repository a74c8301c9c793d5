"""One model in many threads: each loop has its own connections, and closes no other's."""

from __future__ import annotations

import asyncio
import gc
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path

import pytest
from hostile import HostileServer, Received, Reply
from served import well_behaved

from ecoalign import Aligner, Budget, Query, align, compare, stream
from ecoalign.models import ChatModel, open_model
from ecoalign.models.openai import OpenAIModel
from ecoalign.trace.events import Finished

SIGNS = Path(__file__).parents[2] / "examples" / "signs.png"
ASKED = "What is the sum of the two numbers?"
BUDGET = Budget(tokens=200_000)
THREADS = 8


@pytest.fixture(autouse=True)
def nothing_is_left(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """asyncio and aiohttp log what was left open; Python warns of it, and warnings are errors."""
    before = threading.active_count()
    yield
    gc.collect()
    assert [
        record for record in caplog.records if record.name in {"asyncio", "aiohttp.client"}
    ] == []
    assert threading.active_count() == before


@pytest.fixture
def server() -> Iterator[HostileServer]:
    with HostileServer(well_behaved) as running:
        yield running


def test_align_with_one_model_in_eight_threads() -> None:
    requests, eight = count(), threading.Barrier(THREADS)

    def answer(request: Received) -> Reply:
        if next(requests) < THREADS:
            eight.wait(30)  # so many are under way at one time
        return well_behaved(request)

    with HostileServer(answer) as server, ThreadPoolExecutor(THREADS) as pool:
        model = OpenAIModel("m", base_url=server.url)
        runs = pool.map(lambda _: align(SIGNS, ASKED, model=model, budget=BUDGET), range(40))
        assert [run.answer for run in runs] == ["42"] * 40
    assert model._server is not None
    assert all(pool.session.closed for pool in model._server._client._pools.values())


def test_every_face_beside_every_other(server: HostileServer) -> None:
    model = OpenAIModel("m", base_url=server.url)

    async def by_aligner() -> str:
        async with Aligner(model) as aligner:
            both = (aligner.align(SIGNS, ASKED, BUDGET) for _ in range(2))
            return (await asyncio.gather(*both))[0].answer

    def by_stream() -> str:
        *_, last = stream(SIGNS, ASKED, model=model, budget=BUDGET)
        assert isinstance(last, Finished)
        return last.answer

    def left_early() -> str:
        next(stream(SIGNS, ASKED, model=model, budget=BUDGET))
        return "42"

    faces = [
        lambda: align(SIGNS, ASKED, model=model, budget=BUDGET).answer,
        lambda: compare(SIGNS, ASKED, model=model, budget=BUDGET)["ecoalign"].answer,
        lambda: asyncio.run(by_aligner()),
        by_stream,
        left_early,
    ]
    with ThreadPoolExecutor(THREADS) as pool:
        found = pool.map(lambda face: face(), faces * 6)
        assert list(found) == ["42"] * 30


async def test_align_beside_a_loop_that_uses_the_model(server: HostileServer) -> None:
    """The connections of the loop that goes on are still there afterwards."""
    model = OpenAIModel("m", base_url=server.url)
    async with Aligner(model) as aligner:
        await aligner.align(SIGNS, ASKED, BUDGET)
        assert align(SIGNS, ASKED, model=model, budget=BUDGET).answer == "42"
        threads = (asyncio.to_thread(align, SIGNS, ASKED, model=model) for _ in range(3))
        answers = await asyncio.gather(aligner.align(SIGNS, ASKED, BUDGET), *threads)
        assert [answer.answer for answer in answers] == ["42"] * 4
    await model.aclose()


def test_one_aligner_in_eight_threads(server: HostileServer) -> None:
    aligner = Aligner(OpenAIModel("m", base_url=server.url))
    query = Query.of(SIGNS, ASKED)
    with ThreadPoolExecutor(THREADS) as pool:
        runs = pool.map(lambda _: asyncio.run(aligner.align(query, BUDGET)), range(24))
        assert [run.answer for run in runs] == ["42"] * 24


def test_the_embedded_model_in_eight_threads() -> None:
    model: ChatModel = open_model("embedded")
    with ThreadPoolExecutor(THREADS) as pool:
        runs = list(pool.map(lambda _: align(SIGNS, ASKED, model=model), range(THREADS)))
    alone = align(SIGNS, ASKED)
    assert {run.answer for run in runs} == {alone.answer}
    assert {run.spent.tokens for run in runs} == {alone.spent.tokens}
    assert re.search("59", alone.answer)


AT_THE_END = """
import asyncio
from ecoalign import FakeModel, stream

async def never(request):
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        print("cancelled", flush=True)
        raise

events = stream(None, "what?", model=FakeModel(never))
print(type(next(events)).__name__)
"""


def test_a_stream_that_is_left_open_ends_with_the_program() -> None:
    command = [sys.executable, "-W", "default", "-c", AT_THE_END]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.splitlines() == ["RunStarted", "cancelled", "cancelled"]
