"""Replay: the same run again from its trace and its images, without a model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ecoalign.aligner import Aligner
from ecoalign.budget import Budget
from ecoalign.errors import InputError
from ecoalign.evaluators import SelfEvaluator
from ecoalign.events import RunStarted
from ecoalign.models.replay import ReplayModel
from ecoalign.query import Query, Sampling
from ecoalign.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ecoalign.events import Event
    from ecoalign.ledger import Pricing
    from ecoalign.models.base import ChatRequest, Usage
    from ecoalign.pictures import Picture

__all__ = ["replay"]


async def replay(
    events: Sequence[Event],
    pictures: Sequence[Picture] = (),
    *,
    bound: Callable[[ChatRequest], Usage] | None = None,
    dialect: str | None = None,
    price: Pricing | None = None,
) -> tuple[Event, ...]:
    """Run the engine again on recorded answers; returns the events that it makes.

    Byte for byte the recorded ones if nothing was changed: times are read from the trace, all
    else is computed anew. For runs that score themselves; a run that used another evaluator, or
    one whose budget in seconds ran out during a call, cannot be replayed.

    Args:
        events: the trace.
        pictures: the images of the run, in order.
        bound: the worst case of the recorded model, for models that are no provider's.
        dialect: the recorded model's, "full" or "compact"; by its name if None.
        price: dollars of a call, if the run had other prices than its settings say.

    Raises:
        InputError: the trace has no start, the pictures are not those of the run, or the run
            went another way than recorded.
    """
    if not (events and isinstance(events[0], RunStarted)):
        raise InputError("the trace does not begin with the start of a run")
    started = events[0]
    given = tuple(picture.sha256 for picture in pictures)
    wanted = tuple(image.sha256 for image in started.images)
    if given != wanted:
        raise InputError(
            f"the run was about {len(wanted)} image(s) with SHA-256 "
            f"{', '.join(digest[:12] for digest in wanted) or '(none)'}; give just these"
        )
    model = ReplayModel(events, name=started.model, dialect=dialect, bound=bound)
    evaluator = SelfEvaluator(model)
    if evaluator.name != started.evaluator:
        raise InputError(f"a run scored by {started.evaluator} cannot be replayed")
    settings = Settings.from_json(started.settings)
    aligner = Aligner(model, settings, evaluator=evaluator, price=price, clock=lambda: 0.0)
    sampling = Sampling.from_json(started.sampling)
    query = Query(started.question, tuple(pictures), started.context, sampling)
    again = await aligner.rerun(query, Budget.parse(started.budget), events, started.nonce)
    if model.astray is not None:
        raise model.astray
    return again
