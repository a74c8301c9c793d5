"""The front door: what it takes, what it refuses, and that it closes only what it has opened."""

from __future__ import annotations

import asyncio
import inspect
import math
import signal
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scripted import Script, asking, image

from ecoalign import Aligner, Budget, EcoAlignError, InputError, Query, align, compare, stream
from ecoalign.budget import BudgetLike
from ecoalign.evaluators import SelfEvaluator
from ecoalign.models.fake import FakeModel
from ecoalign.settings import Settings
from ecoalign.trace.events import Event, Finished, RunFailed, RunStarted

ASKED = "What does the sign say?"
SIGNS = Path(__file__).parents[2] / "examples" / "signs.png"


class Closing(FakeModel):
    """Counts how often it is closed."""

    closed = 0

    async def aclose(self) -> None:
        self.closed += 1


def model() -> Closing:
    return Closing(Script())


# -- budgets


@pytest.mark.parametrize(
    ("given", "read"),
    [
        (90_000, Budget(tokens=90_000)),
        (np.int64(90_000), Budget(tokens=90_000)),
        ("90000,$0.5,50s", Budget(90_000, 0.5, 50.0)),
        ({"tokens": 90_000, "seconds": 50}, Budget(tokens=90_000, seconds=50)),
        (Budget(tokens=90_000), Budget(tokens=90_000)),
    ],
)
def test_a_budget_is_read_as_people_write_it(given: BudgetLike, read: Budget) -> None:
    prices = {"fake": {"input": 1.0, "output": 1.0}}
    by_function = align(image(), ASKED, model=model(), budget=given, prices=prices)
    assert by_function.budget == read

    async def by_method() -> Budget:
        async with Aligner(model(), prices=prices) as aligner:
            return (await aligner.align(asking(), given)).budget

    assert asyncio.run(by_method()) == read
    assert Settings(budget=given).budget == read


WRONG: list[Any] = [
    *(0, -8000, True, False, 0.0, 0.02, math.nan, math.inf, "", "0", "-5", "plenty"),
    *({}, {"tokens": 0}, {"tokens": True}, {"usd": math.nan}, {"dollars": 1}, {1: 2}),
    *(Budget(), [8000], 3.5j),
]


@pytest.mark.parametrize("wrong", WRONG, ids=repr)
def test_a_budget_that_is_none_is_an_error_and_not_the_default(wrong: Any) -> None:
    asked = model()
    with pytest.raises(InputError, match="budget") as said:
        align(image(), ASKED, model=asked, budget=wrong)
    assert "8000" in str(said.value)  # what would do
    with pytest.raises(InputError, match="budget"):
        stream(image(), ASKED, model=asked, budget=wrong)
    with pytest.raises(InputError, match="budget"):
        compare(image(), ASKED, model=asked, budget=wrong)
    with pytest.raises(InputError, match="budget"):
        asyncio.run(Aligner(asked).align(asking(), wrong))
    assert not asked.requests


# -- what is asked


async def test_an_aligner_takes_an_image_and_a_question_or_a_query() -> None:
    async with Aligner(model(), preset="paper", batch=2) as aligner:
        assert (aligner.settings.preset, aligner.settings.batch) == ("paper", 2)
        one = await aligner.align(image(), ASKED, 90_000, instructions="Answer in French.")
        other = await aligner.align(Query.of(image(), ASKED), 90_000)
    started = one.trace.events[0]
    assert isinstance(started, RunStarted)
    assert (started.question, started.instructions) == (ASKED, "Answer in French.")
    assert other.budget == one.budget == Budget(tokens=90_000)
    assert isinstance(other.trace.events[0], RunStarted)
    assert other.trace.events[0].images == started.images


async def test_a_query_comes_with_nothing_but_a_budget() -> None:
    aligner: Any = Aligner(model())
    with pytest.raises(InputError, match="whole question"):
        await aligner.align(asking(), ASKED, 8000)
    with pytest.raises(InputError, match="whole question"):
        await aligner.align(asking(), 8000, instructions="Answer in French.")
    with pytest.raises(InputError, match="text, not NoneType"):
        await aligner.align(image(), budget=8000)


async def test_a_stream_of_an_image_and_a_question_ends_as_the_run_does() -> None:
    async with Aligner(model()) as aligner:
        events = [event async for event in aligner.stream(image(), ASKED, 90_000)]
    assert isinstance(events[0], RunStarted)
    assert isinstance(events[-1], Finished)


def test_images_are_several_in_a_list_and_one_where_they_are_bytes() -> None:
    data = SIGNS.read_bytes()
    for one in (data, bytearray(data), memoryview(data), SIGNS, str(SIGNS)):
        assert len(Query.of(one, ASKED).pictures) == 1
    array = np.asarray(Image.open(SIGNS).convert("RGB"))
    several = Query.of([SIGNS, data, array], ASKED).pictures
    assert [picture.width for picture in several] == [several[0].width] * 3
    assert Query.of(None, ASKED).pictures == Query.of((), ASKED).pictures == ()


def test_earlier_turns_are_a_list() -> None:
    with pytest.raises(InputError, match="list of earlier turns"):
        align(None, ASKED, model=model(), context="user: hello")


# -- settings and evaluators


def test_a_slip_in_an_option_is_told_with_what_was_meant() -> None:
    wrong: dict[str, Any] = {"batc": 2}
    with pytest.raises(InputError, match="did you mean 'batch'"):
        align(image(), ASKED, model=model(), **wrong)
    with pytest.raises(InputError, match="did you mean 'paper'"):
        align(image(), ASKED, model=model(), preset="papr")  # type: ignore[arg-type]
    ready = Settings(batch=3)
    with pytest.raises(InputError, match="a preset or ready settings"):
        align(image(), ASKED, model=model(), settings=ready, preset="paper")
    assert Aligner(model(), ready, look=False).settings == Settings(batch=3, look=False)


async def test_an_evaluator_is_named_or_handed_in() -> None:
    own = SelfEvaluator(model())
    assert Aligner(model(), evaluator=own).evaluator is own
    with pytest.raises(InputError, match="method `score`"):
        Aligner(model(), evaluator=lambda text: 1.0)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="nowhere"):
        Aligner(model(), evaluator="nowhere:judge")
    async with Aligner(model(), evaluator="vllm:judge") as aligner:
        assert aligner.evaluator.name.endswith("vllm:judge")
        assert aligner.settings.evaluator == "vllm:judge"


# -- what is closed


def test_a_model_that_is_handed_in_is_never_closed() -> None:
    asked = model()
    align(image(), ASKED, model=asked)
    compare(image(), ASKED, model=asked)
    list(stream(image(), ASKED, model=asked))
    next(stream(image(), ASKED, model=asked))

    async def several() -> None:
        async with Aligner(asked) as aligner:
            await aligner.align(image(), ASKED)
        with pytest.raises(ZeroDivisionError):
            async with Aligner(asked) as aligner:
                raise ZeroDivisionError
        await aligner.aclose()
        await aligner.aclose()

    asyncio.run(several())
    assert asked.closed == 0


# -- events and errors


def test_events_are_told_in_the_order_of_the_trace() -> None:
    told: list[Event] = []
    result = align(image(), ASKED, model=model(), on_event=told.append)
    assert told == list(result.trace)


def test_an_error_of_who_is_told_comes_out_as_it_is() -> None:
    def tell(event: Event) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        align(image(), ASKED, model=model(), on_event=tell)


def test_an_error_has_the_trace() -> None:
    with pytest.raises(EcoAlignError) as failed:
        align(image(), ASKED, model=model(), budget=50)
    assert isinstance(failed.value.trace.events[-1], RunFailed)


# -- inside a loop


async def test_align_works_where_a_loop_runs_already() -> None:
    assert align(image(), ASKED, model=model()).answer
    assert compare(image(), ASKED, model=model())["base"].answer
    assert isinstance(list(stream(image(), ASKED, model=model()))[-1], Finished)


def test_an_interrupt_inside_a_loop_cancels_the_run() -> None:
    """As when a notebook's kernel is interrupted: what is under way must not go on and cost."""
    told: list[Event] = []
    main, once = threading.get_ident(), iter([signal.SIGINT])

    async def never(request: object) -> str:
        for interrupt in once:
            signal.pthread_kill(main, interrupt)
        await asyncio.Event().wait()
        return ""

    async def cell() -> None:
        align(image(), ASKED, model=FakeModel(never), on_event=told.append)

    # Not `asyncio.run`, which has a way of its own with interrupts; a kernel has not.
    loop = asyncio.new_event_loop()
    with pytest.raises(KeyboardInterrupt):
        loop.run_until_complete(cell())
    loop.close()
    last = told[-1]
    assert isinstance(last, RunFailed)
    assert last.error == "Cancelled"


# -- help


@pytest.mark.parametrize("face", [align, stream, compare, Aligner, Aligner.align, Aligner.stream])
def test_help_tells_of_every_parameter(face: Any) -> None:
    told = inspect.getdoc(face) or ""
    parameters = inspect.signature(face).parameters
    for name in parameters.keys() - {"self", "image", "question", "asked"}:
        assert name in told or "those of `align`" in told, name
