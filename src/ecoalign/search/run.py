"""One recorded run of a method: `RunStarted`, what it does, `Finished` or `RunFailed`."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from ecoalign._version import __version__
from ecoalign.errors import EcoAlignError
from ecoalign.trace import Alignment, Trace
from ecoalign.trace.events import Finished, ImageInfo, RunFailed, RunStarted

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ecoalign.budget import Ledger
    from ecoalign.query import Query
    from ecoalign.settings import Settings
    from ecoalign.trace import Recorder

__all__ = ["record_run", "run_started"]


def run_started(
    query: Query,
    settings: Settings,
    ledger: Ledger,
    nonce: str,
    *,
    model: str,
    evaluator: str,
    method: str,
) -> RunStarted:
    """The first event of a run."""
    return RunStarted(
        version=__version__,
        question=query.question,
        context=query.context,
        images=tuple(ImageInfo(p.sha256, p.width, p.height, p.notes) for p in query.pictures),
        model=model,
        evaluator=evaluator,
        preset=settings.preset,
        settings=settings.to_json(),
        budget=str(ledger.budget),
        nonce=nonce,
        sampling=query.sampling.to_json(),
        method=method,
    )


async def record_run(
    recorder: Recorder,
    started: RunStarted,
    ledger: Ledger,
    work: Callable[[], Awaitable[Finished]],
) -> Alignment:
    """Record `started`, do `work`, and make its result of the events.

    Raises:
        EcoAlignError: that of `work`, with the events in its `trace`.
    """
    recorder.emit(started)
    try:
        await work()
    except EcoAlignError as error:
        recorder.emit(RunFailed(type(error).__name__, str(error), ledger.spent.to_json()))
        error.trace = Trace(tuple(recorder.events))
        raise
    except asyncio.CancelledError:
        spent = ledger.spent.to_json()
        recorder.emit(RunFailed("Cancelled", "the run was cancelled", spent))
        raise
    except Exception as error:
        # A mistake in a model or an evaluator of the user's own: the trace is kept here, too.
        spent = ledger.spent.to_json()
        recorder.emit(RunFailed(type(error).__name__, "an unexpected error", spent))
        raise
    return Alignment.from_events(recorder.events)
