"""A model that answers from a trace: what was answered before is answered again."""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from typing import TYPE_CHECKING, get_args

from ecoalign.errors import InputError, ModelError, ModelFault
from ecoalign.events import Called
from ecoalign.models.base import Completion
from ecoalign.models.keys import request_key
from ecoalign.models.tokens import bound as token_bound
from ecoalign.models.tokens import image_family

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ecoalign.events import Event
    from ecoalign.models.base import ChatRequest, Usage

__all__ = ["ReplayModel"]


class ReplayModel:
    """Answers each request as the recorded run's model did, failures included; no network.

    Args:
        events: a trace; only its calls are used.
        name: the name of the recorded model to stand in for; the first one called if None.
        dialect: "full" or "compact"; by the name if None.
        bound: the recorded model's worst case; by the name if None.

    Attributes:
        astray: the error of the first request that was not recorded; None if all of them were.
    """

    def __init__(
        self,
        events: Iterable[Event],
        name: str | None = None,
        dialect: str | None = None,
        bound: Callable[[ChatRequest], Usage] | None = None,
    ) -> None:
        self._answers: dict[str, deque[Called]] = defaultdict(deque)
        names = []
        for event in events:
            if isinstance(event, Called) and name in (None, event.model):
                self._answers[event.key].append(event)
                names.append(event.model)
        self.name = name or (names[0] if names else "replay")
        self.dialect = dialect or ("compact" if self.name == "embedded" else "full")
        self._bound = bound or _bound_of(self.name)
        self.astray: InputError | None = None

    def bound(self, request: ChatRequest) -> Usage:
        """The recorded model's upper bound."""
        return self._bound(request)

    async def complete(self, request: ChatRequest) -> Completion:
        """The next recorded answer to this very request.

        Raises:
            ModelError: as recorded.
            InputError: the trace has no (further) answer to it: the run went another way.
        """
        answers = self._answers.get(request_key(request))
        if not answers:
            # The stages fail closed on errors, this one included: so it is kept, too.
            astray = InputError(
                f"the trace has no answer to this {request.stage} request: it was recorded with "
                "another image, question, version or settings"
            )
            self.astray = self.astray or astray
            raise astray
        record = answers.popleft()
        failure = record.error
        if failure is None:
            return Completion(
                text=record.text or "",
                usage=record.usage,
                finish_reason=record.finish_reason,
                logprobs=record.logprobs,
                model=record.served_by,
                seconds=record.seconds,
                tool_calls=record.tool_calls,
                raw_logprobs=record.raw_logprobs,
            )
        for fault in get_args(ModelFault):
            if fault == failure.kind:
                raise ModelError(
                    failure.message,
                    fault=fault,
                    billed=failure.billed,
                    retry_after=failure.retry_after,
                    param=failure.param,
                )
        if failure.kind == "cancelled":
            raise asyncio.CancelledError
        raise InputError(f"a call that ended as {failure.kind!r} cannot be replayed")

    async def aclose(self) -> None:
        """Nothing to release."""


def _bound_of(name: str) -> Callable[[ChatRequest], Usage]:
    if name == "embedded":
        from ecoalign.models.embedded import EmbeddedModel

        return EmbeddedModel().bound
    family = image_family(name.partition(":")[2] or name)
    return lambda request: token_bound(request, family)
