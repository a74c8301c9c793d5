"""A model whose calls take one tick each of a clock that a test moves by hand."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from scripted import Said, Script

from ecoalign.models.fake import FakeModel

if TYPE_CHECKING:
    from ecoalign.models import ChatRequest, Completion
    from ecoalign.trace import Alignment


class Ticking(FakeModel):
    """Every call takes one tick."""

    def __init__(
        self, says: Callable[[ChatRequest], Said] | None = None, name: str = "fake"
    ) -> None:
        super().__init__(says or Script(), name)
        self.waiting: list[asyncio.Event] = []

    async def complete(self, request: ChatRequest) -> Completion:
        gate = asyncio.Event()
        self.waiting.append(gate)
        await gate.wait()
        return await super().complete(request)

    def tick(self) -> bool:
        """Answer all that wait; whether there was one."""
        ready, self.waiting = self.waiting, []
        for gate in ready:
            gate.set()
        return bool(ready)


class _AtOnce(ThreadPoolExecutor):
    """Does at once what it is given: no tick waits for the threads that encode pictures."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        done: Future[Any] = Future()
        done.set_result(fn(*args, **kwargs))
        return done


async def ticks_of(run: Awaitable[Alignment], *models: Ticking) -> tuple[Alignment, int]:
    """What a run gives, and the ticks that it took."""
    asyncio.get_running_loop().set_default_executor(_AtOnce())
    task = asyncio.ensure_future(run)
    ticks = 0
    while not task.done():
        for _ in range(100):
            # All that can be asked without a further answer is asked.
            await asyncio.sleep(0)
        ticks += sum(model.tick() for model in models) > 0
    return task.result(), ticks
