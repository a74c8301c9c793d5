"""A batch on Ray Data (extra `ray`): the items are answered by processes, on one machine or many.

The desk and its journal stay in the process that runs the batch: it alone grants, settles and
writes. A process of Ray asks it for each item and each grant, and tells it of each row, by way of a
small actor. So a row is on disk before the next item is begun, whatever becomes of a process; where
one is killed, Ray starts another, and what it had under way is charged its whole grant and asked
again. Ray Data itself carries nothing but the numbers of the rows.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ecoalign import errors
from ecoalign.batch._desk import Desk, Grant, Outcome
from ecoalign.batch._items import Item
from ecoalign.batch._rows import Picture
from ecoalign.batch._work import Worker, failed_row
from ecoalign.budget import Budget
from ecoalign.budget.pacing import Sum
from ecoalign.errors import EcoAlignError, InputError
from ecoalign.methods import Answerer

if TYPE_CHECKING:
    from ecoalign.settings import Settings

_STORE_BYTES = 128 * 1024 * 1024
"""Of Ray's shared memory, which is hardly used."""

_TURNS = 4
"""Items that a process is given at once, as a multiple of those that it asks at once."""


@dataclass(frozen=True, slots=True)
class Processes:
    """The processes of Ray.

    Attributes:
        count: how many, >= 1.
        at_once: items that each asks at once, >= 1.
        gpus: of each, >= 0.
        traces: the folder for traces; None for none.
        branches: see `Worker`.
    """

    count: int
    at_once: int
    gpus: float
    traces: Path | None
    branches: bool


_ENDING = 20.0
"""Seconds that Ray Data may take to end what was cut off."""

_MOST_LOST = 3
"""Processes that may die over one item before it counts as failed."""


def check() -> None:
    """Raise InputError if Ray Data is not installed. Imports it, which takes seconds."""
    _prepare()
    try:
        import ray.data  # noqa: F401
    except ImportError:
        raise InputError(
            "--engine ray needs Ray Data: pip install 'ecoalign[ray]' 'ray[data]'"
        ) from None


def _prepare() -> None:
    """Set what Ray reads from the environment when it is imported: no telemetry; and a Ray of our
    own listens on the loopback interface, behind a token that is in no file."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # What it says of itself would be told as an error to whoever asked for quiet.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    # Once it was shut down nothing is to start it again.
    os.environ["RAY_ENABLE_AUTO_CONNECT"] = "0"
    if not os.environ.get("RAY_ADDRESS"):
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
        os.environ["RAY_AUTH_MODE"] = "token"
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))


class _Office:
    """Carries what the processes ask to the desk, and its answers back."""

    def __init__(self) -> None:
        self._asked: asyncio.Queue[tuple[int, str, tuple[Any, ...]]] = asyncio.Queue()
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._count = 0

    async def ask(self, what: str, *arguments: Any) -> Any:
        """What the desk says to this."""
        self._count += 1
        number = self._count
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        await self._asked.put((number, what, arguments))
        try:
            return await answer
        finally:
            del self._answers[number]

    async def closed(self) -> None:
        """Never ends: an error for whoever waits for it once this actor is killed."""
        await asyncio.Event().wait()

    async def asked(self) -> list[tuple[int, str, tuple[Any, ...]]]:
        """All that waits for an answer; at least one."""
        found = [await self._asked.get()]
        while not self._asked.empty():
            found.append(self._asked.get_nowait())
        return found

    async def answer(self, number: int, value: Any) -> None:
        """Answer one. Nobody waits any more where the process has died."""
        if (waiting := self._answers.get(number)) is not None and not waiting.done():
            waiting.set_result(value)


class _Messenger:
    """The desk, as a process of Ray has it; see `Counter`."""

    def __init__(self, office: Any) -> None:
        self._office = office

    async def begin(
        self, item: str, want: Budget, least: Budget, *, told: bool = True
    ) -> Grant | None:
        grant: Grant | None = await self._office.ask.remote("begin", item, want, least)
        return grant

    async def end(self, grant: Grant, cost: Sum, outcome: Outcome | None) -> None:
        await self._office.ask.remote("end", grant, cost, outcome)

    async def note(self, item: str, outcome: Outcome) -> None:
        await self._office.ask.remote("note", item, outcome)


class _Process:
    """What a process of Ray does: a callable class for `map_batches`."""

    def __init__(self, office: Any, settings: Settings, processes: Processes) -> None:
        self._office = office
        self._at_once = processes.at_once
        self._worker = Worker(
            Answerer(settings), _Messenger(office), None, processes.traces, processes.branches
        )
        self._loop = asyncio.new_event_loop()
        self._closed = office.closed.remote()

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        self._loop.run_until_complete(self._all([int(number) for number in batch["number"]]))
        return batch

    async def _all(self, numbers: Sequence[int]) -> None:
        queue = iter(numbers)

        async def work() -> None:
            for number in queue:
                item: Item | None = await self._office.ask.remote("item", number)
                if item is None:
                    continue
                try:
                    await self._worker.do(item)
                except EcoAlignError as error:
                    await self._office.ask.remote("failed", type(error).__name__, str(error))
                    return

        async def watch() -> None:
            try:
                await self._closed
            finally:
                for task in tasks:
                    task.cancel()

        tasks = [asyncio.create_task(work()) for _ in range(self._at_once)]
        watching = asyncio.create_task(watch())
        try:
            await asyncio.gather(*tasks)
        finally:
            watching.cancel()
            await asyncio.gather(watching, *tasks, return_exceptions=True)


class _Counter:
    """Answers what the processes ask, in the process of the desk."""

    def __init__(
        self, todo: Sequence[Item], desk: Desk, ended: Callable[[Outcome | None], None]
    ) -> None:
        self._todo = todo
        self._ids = {item.id: item for item in todo}
        self._desk = desk
        self._ended = ended
        self._grants: dict[str, Grant] = {}
        self._done: set[str] = set()
        self._lost: dict[str, int] = {}

    async def say(self, what: str, arguments: tuple[Any, ...]) -> Any:
        """The answer; raises what ends the batch."""
        return await getattr(self, f"_{what}")(*arguments)

    async def _item(self, number: int) -> Item | None:
        """The row of this number, if it is to be asked."""
        item, desk = self._todo[number], self._desk
        # Asked for again: Ray repeats what a process had when it died.
        await self._lose(item.id)
        if item.id in self._done or desk.stopped or (desk.short and item.budget is None):
            return None
        if self._lost.get(item.id, 0) >= _MOST_LOST:
            error = f"lost: {_MOST_LOST} processes of Ray ended while they asked this"
            await self._note(item.id, Outcome(failed_row(item, error)))
            return None
        try:
            loaded = item.loaded()
        except InputError as error:
            return replace(item, wrong=str(error), stored=None)
        return replace(loaded, images=tuple(map(_absolute, loaded.images)))

    async def _begin(self, item: str, want: Budget, least: Budget) -> Grant | None:
        await self._lose(item)
        grant = await self._desk.begin(item, want, least, told=False)
        if grant is not None:
            self._grants[item] = grant
        return grant

    async def _end(self, grant: Grant, cost: Sum, outcome: Outcome | None) -> None:
        if self._grants.get(grant.item) != grant:
            # From a process that was thought dead: its grant is charged already.
            return
        del self._grants[grant.item]
        await self._desk.end(grant, cost, outcome)
        if outcome is not None:
            self._done.add(grant.item)
            self._ended(outcome)

    async def _note(self, item: str, outcome: Outcome) -> None:
        if item not in self._done:
            await self._desk.note(item, outcome)
            self._done.add(item)
            self._ended(outcome)

    async def _failed(self, kind: str, message: str) -> None:
        # An error of its own kind does not survive the way from one process to another.
        found = getattr(errors, kind, EcoAlignError)
        error: EcoAlignError = found.__new__(found)
        error.args = (message,)
        raise error

    async def _lose(self, item: str) -> None:
        """Charge an attempt whose process has died."""
        grant = self._grants.pop(item, None)
        if grant is not None:
            await self._desk.end(grant, grant.held, None)
            self._lost[item] = self._lost.get(item, 0) + 1
            self._ended(None)

    async def lose_all(self) -> None:
        """Charge what is still under way, as nobody will tell of it."""
        for item in list(self._grants):
            await self._lose(item)


def _absolute(image: Picture) -> Picture:
    """A path as another process needs it."""
    if isinstance(image, bytes) or image.startswith("data:"):
        return image
    return str(Path(image).absolute())


async def asked_on_ray(
    processes: Processes,
    settings: Settings,
    todo: Sequence[Item],
    desk: Desk,
    ended: Callable[[Outcome | None], None],
    cut: asyncio.Event,
) -> None:
    """Ask all items on Ray Data, on a Ray of our own or that of RAY_ADDRESS.

    Args:
        processes: how many, and what each does.
        settings: of every answer.
        todo: the items.
        desk: grants and settles.
        ended: told of every item.
        cut: ends it at once.

    Raises:
        EcoAlignError: the batch cannot go on.
    """
    # Ray prints what it has to say of a process that died, and standard output is for the result.
    with redirect_stdout(sys.stderr):
        await _on_ray(processes, settings, todo, desk, ended, cut)


async def _on_ray(
    processes: Processes,
    settings: Settings,
    todo: Sequence[Item],
    desk: Desk,
    ended: Callable[[Outcome | None], None],
    cut: asyncio.Event,
) -> None:
    import ray

    started = _start(ray)
    counter = _Counter(todo, desk, ended)
    office = ray.remote(_Office).options(num_cpus=0, max_concurrency=10_000).remote()
    serving = asyncio.create_task(_serve(office, counter))
    working = asyncio.create_task(asyncio.to_thread(_map, office, processes, settings, len(todo)))
    cutting = asyncio.create_task(cut.wait())
    try:
        await asyncio.wait([serving, working, cutting], return_when=asyncio.FIRST_COMPLETED)
        if serving.done():
            serving.result()
        if working.done() and not cut.is_set():
            working.result()
    finally:
        for task in (serving, cutting):
            task.cancel()
        await asyncio.gather(serving, cutting, return_exceptions=True)
        # The processes end their calls when the actor that they talk to is gone.
        ray.kill(office)
        await asyncio.wait([working], timeout=_ENDING)
        await counter.lose_all()
        if started:
            await asyncio.to_thread(ray.shutdown)
        await asyncio.gather(working, return_exceptions=True)


def _start(ray: Any) -> bool:
    """Start or join Ray, quietly, as its errors are raised as well; whether it is ours to end."""
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    if ray.is_initialized():
        return False
    if address := os.environ.get("RAY_ADDRESS"):
        ray.init(address, logging_level="warning", log_to_driver=False)
    else:
        with _unheard():
            ray.init(
                "local",
                include_dashboard=False,
                object_store_memory=_STORE_BYTES,
                logging_level="warning",
                log_to_driver=False,
            )
    return True


@contextmanager
def _unheard() -> Iterator[None]:
    """Without what libraries write to standard error by themselves: here, how Ray sets its own
    level of logging."""
    saved, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nothing, 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(nothing)


async def _serve(office: Any, counter: _Counter) -> None:
    """Answer the processes until one of the answers is an error."""

    async def answered(number: int, what: str, arguments: tuple[Any, ...]) -> None:
        await office.answer.remote(number, await counter.say(what, arguments))

    try:
        async with asyncio.TaskGroup() as group:
            while True:
                for one in await office.asked.remote():
                    group.create_task(answered(*one))
    except BaseExceptionGroup as failed:
        raise failed.exceptions[0] from None


def _map(office: Any, processes: Processes, settings: Settings, count: int) -> None:
    import ray

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    blocks = max(processes.count, -(-count // (processes.at_once * _TURNS)))
    rows: list[Mapping[str, int]] = [{"number": number} for number in range(count)]
    data = ray.data.from_items(rows, override_num_blocks=min(count, blocks)).map_batches(
        _Process,
        fn_constructor_args=(office, settings, processes),
        batch_size=None,
        compute=ray.data.ActorPoolStrategy(size=processes.count, max_tasks_in_flight_per_actor=1),
        # They wait for others most of the time: more of them than processors is fine.
        num_cpus=0,
        num_gpus=processes.gpus,
    )
    for _ in data.iter_batches(batch_size=None):
        pass
