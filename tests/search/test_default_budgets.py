"""The default budget lets the search run on every family of models, and is never more than said."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
from PIL import Image

from ecoalign.aligner import Aligner
from ecoalign.budget import Budget
from ecoalign.models._tokens import FAMILIES
from ecoalign.query import Query
from ecoalign.replay import replay
from ecoalign.settings import Settings
from ecoalign.trace.events import (
    ActionsChosen,
    Called,
    RootScanned,
    RunStarted,
    StepStarted,
    to_json,
)


def benchmark() -> ModuleType:
    path = Path(__file__).parents[2] / "perf" / "default_budgets.py"
    spec = importlib.util.spec_from_file_location("default_budgets", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["default_budgets"] = module
    spec.loader.exec_module(module)
    return module


BENCHMARK = benchmark()


@pytest.mark.parametrize("images", [1, 2, 4])
@pytest.mark.parametrize("family", FAMILIES)
async def test_actions_are_carried_out_beside_scan_and_draft(family: str, images: int) -> None:
    costs = BENCHMARK.UNKNOWN if family == "unknown" else (None,)
    for each in costs:
        row = await BENCHMARK.run(family, images, share=0.5, each=each)
        assert row.actions >= BENCHMARK.LEAST_ACTIONS, row
        assert row.used <= row.committed <= row.budget <= 200_000


def pictures(count: int) -> list[Image.Image]:
    return [Image.new("RGB", (1600, 1200), (9 * i, 90, 160)) for i in range(count)]


async def test_a_run_that_learns_is_replayed_byte_for_byte() -> None:
    model = BENCHMARK.HonestServer("unknown", each=700)
    aligner = Aligner(model, Settings())
    query = Query.of(pictures(2), "Which shop is open on Sundays?")
    for known in (False, True):
        events = tuple((await aligner.align(query)).trace)
        started = events[0]
        assert isinstance(started, RunStarted)
        # The second run knows from the first one what such images cost.
        assert bool(started.known["images"]) is known
        again = await replay(events, query.pictures)
        assert [to_json(one) for one in again] == [to_json(one) for one in events]


async def test_the_draft_comes_after_the_scan_where_there_is_no_room_for_both_at_first() -> None:
    model = BENCHMARK.HonestServer("unknown", each=100)
    aligner = Aligner(model, Settings())
    query = Query.of(pictures(4), "Which shop is open on Sundays?")
    scan_and_answer = sum(bound.total for (_, bound) in aligner.first_round(query)) - sum(
        bound.total for _, bound in aligner.first_round(query)[1:3]
    )
    events = (await aligner.align(query, Budget(tokens=scan_and_answer + 1000))).trace
    stages = [event.stage for event in events if isinstance(event, Called)]
    assert stages[:3] == ["scan", "execute", "score"]
    roomy = (await aligner.align(query, Budget(tokens=4 * scan_and_answer))).trace
    assert [e.stage for e in roomy if isinstance(e, Called)][:3] == ["scan", "execute", "score"]
    # Beside the scan, the draft is the first thing that is chosen; after it, it follows the root.
    late, early = (
        [type(e) for e in run if isinstance(e, RootScanned | ActionsChosen)]
        for run in (events, roomy)
    )
    assert early[:2] == [ActionsChosen, RootScanned]
    assert late[:2] == [ActionsChosen, RootScanned]


async def test_a_harmless_request_keeps_the_whole_budget() -> None:
    model = BENCHMARK.HonestServer("qwen")
    result = await Aligner(model, Settings()).align(Query.of(pictures(1), "What is open?"))
    (root,) = [event for event in result.trace if isinstance(event, RootScanned)]
    assert root.share == 1.0


async def test_what_is_reserved_for_the_answer_shrinks_as_bounds_are_learned() -> None:
    model = BENCHMARK.HonestServer("unknown", each=100)
    result = await Aligner(model, Settings()).align(Query.of(pictures(1), "What is open?"))
    first = next(event for event in result.trace if isinstance(event, StepStarted))
    spent = sum(
        event.charged.total
        for event in list(result.trace)[: list(result.trace).index(first)]
        if isinstance(event, Called)
    )
    assert first.remaining.tokens is not None
    held = (result.budget.tokens or 0) - spent - first.remaining.tokens
    # By the formula the two calls of an answer would hold more than 8,000 for the image alone.
    assert 0 < held < 6000


def test_a_longer_question_has_a_default_that_holds_its_first_round() -> None:
    aligner = Aligner(BENCHMARK.HonestServer("gpt-4o"), Settings())
    short = aligner.budget_for(Query.of(pictures(1), "What is open?"))
    assert short == Budget(tokens=40_000)
    long = Query.of(pictures(1), "What is open? " * 1000)
    needed = sum(bound.total for _, bound in aligner.first_round(long))
    assert needed <= (aligner.budget_for(long).tokens or 0) <= needed + 1000
    longer = aligner.budget_for(Query.of(pictures(1), "What is open? " * 9000))
    assert longer == Budget(tokens=200_000)
    chosen = Aligner(BENCHMARK.HonestServer("gpt-4o"), Settings(budget="9000"))
    assert chosen.budget_for(long) == Budget(tokens=9000)
