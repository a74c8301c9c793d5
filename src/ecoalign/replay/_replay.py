"""Replay: the same run again from its trace and its images, without a model."""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, get_args

from ecoalign.aligner import Aligner
from ecoalign.budget import Budget, Pricing
from ecoalign.errors import InputError, ModelError, ModelFault
from ecoalign.evaluators import SelfEvaluator
from ecoalign.models import (
    ChatRequest,
    Completion,
    KnownTokens,
    Profile,
    SamplingParams,
    Segment,
    Usage,
    request_key,
    segments,
    shipped_profile,
)
from ecoalign.models import bound as token_bound
from ecoalign.models.openai import under
from ecoalign.query import Picture, Query
from ecoalign.search.context import spoken_to
from ecoalign.settings import Settings
from ecoalign.trace.events import SCHEMA, Called, Event, RunStarted

__all__ = ["ReplayModel", "replay"]


class ReplayModel:
    """Answers each request as the recorded run's model did, failures included; no network.

    Args:
        events: a trace; only its calls are used.
        name: the name of the recorded model to stand in for; the first one called if None.
        dialect: "full", "small" or "compact"; by the name if None.
        bound: the recorded model's worst case; by the profile if None.
        profile: what was known of it; what its name tells if None.
        known: what it was known to count, where the run learned bounds (`RunStarted.known`).

    Attributes:
        astray: the error for the first request without a recorded answer; None if there was none.
    """

    def __init__(
        self,
        events: Iterable[Event],
        name: str | None = None,
        dialect: str | None = None,
        bound: Callable[[ChatRequest], Usage] | None = None,
        profile: Profile | None = None,
        known: Mapping[str, Any] | None = None,
    ) -> None:
        self._answers: dict[str, deque[Called]] = defaultdict(deque)
        names = []
        for event in events:
            if isinstance(event, Called) and name in (None, event.model):
                self._answers[event.key].append(event)
                names.append(event.model)
        self.name = name or (names[0] if names else "replay")
        found = profile or _profile_of(self.name)
        changed = {} if dialect in (None, found.dialect) else {"dialect": dialect}
        self.profile = found.with_values(changed, "the caller")
        self.dialect: str = self.profile.dialect
        self._bound = bound or _bound_of(self.name, self.profile)
        self.known = KnownTokens.from_json(known) if known else None
        self.astray: InputError | None = None

    def bound(self, request: ChatRequest) -> Usage:
        """The recorded model's upper bound."""
        return self._bound(request)

    def segments(self, request: ChatRequest) -> list[Segment]:
        """See `SupportsSegments.segments`."""
        known = self.profile
        return segments(under(request, known), known.family, known.image_tokens)

    async def complete(self, request: ChatRequest) -> Completion:
        """The next recorded answer to this very request.

        Raises:
            ModelError: as recorded.
            InputError: the trace has no (further) answer to it: the run went another way.
        """
        record = self.record_of(request)
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
                # It was weighed when it was recorded.
                apart=0 if record.usage is None else record.usage.completion,
            )
        for fault in get_args(ModelFault):
            if fault == failure.kind:
                raise ModelError(
                    failure.message,
                    fault=fault,
                    billed=failure.billed,
                    retry_after=failure.retry_after,
                    param=failure.param,
                    usage=record.usage,
                )
        if failure.kind == "cancelled":
            raise asyncio.CancelledError
        raise InputError(f"a call that ended as {failure.kind!r} cannot be replayed")

    def record_of(self, request: ChatRequest) -> Called:
        """The next recorded attempt of this very request.

        Raises:
            InputError: the trace has no (further) one.
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
        return answers.popleft()

    async def aclose(self) -> None:
        """Nothing to release."""


def _profile_of(name: str) -> Profile:
    if name == "embedded":
        return Profile(dialect="compact")
    return shipped_profile(name.partition(":")[2] or name)


def _bound_of(name: str, profile: Profile) -> Callable[[ChatRequest], Usage]:
    if name == "embedded":
        from ecoalign.models.embedded import EmbeddedModel

        return EmbeddedModel().bound
    if name.startswith("hf:"):
        from ecoalign.models.hf import bound_of

        return bound_of(name.removeprefix("hf:"), profile)
    family, measured = profile.family, profile.image_tokens
    return lambda request: token_bound(under(request, profile), family, measured)


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
    else is computed anew. For runs of EcoAlign that score themselves; a run of another method, one
    that used another evaluator, or one whose budget in seconds ran out during a call cannot be
    replayed.

    Args:
        events: the trace.
        pictures: the images of the run, in order.
        bound: the worst case of the recorded model, for models that are no provider's.
        dialect: the recorded model's, "full", "small" or "compact"; by its name if None.
        price: dollars of a call, if the run had other prices than its settings say.

    Raises:
        InputError: the trace has no start, the pictures are not those of the run, or the run
            went another way than recorded.
    """
    started = beginning(events)
    query = recorded_query(started, pictures)
    settings = Settings.from_json(started.settings)
    profile = Profile.from_json(started.profile) if started.profile else None
    model = ReplayModel(events, started.model, dialect, bound, profile, started.known)
    evaluator = SelfEvaluator(model, spoken_to(model, settings))
    if evaluator.name != started.evaluator:
        raise InputError(f"a run scored by {started.evaluator} cannot be replayed")
    aligner = Aligner(model, settings, evaluator=evaluator, price=price, clock=lambda: 0.0)
    again = await aligner.rerun(
        query, Budget.parse(started.budget), events, started.nonce, started.method
    )
    if model.astray is not None:
        raise model.astray
    return again


def beginning(events: Sequence[Event]) -> RunStarted:
    """The start of a run that can be run again.

    Raises:
        InputError: the trace has no start, is of another method, or lacks texts.
    """
    if not (events and isinstance(events[0], RunStarted)):
        raise InputError("the trace does not begin with the start of a run")
    started = events[0]
    if started.method.partition(":")[0] != "ecoalign":
        raise InputError(f"a run of the method {started.method!r} cannot be replayed")
    if started.redacted:
        raise InputError(
            "the trace was fetched from a gateway, which leaves out what was not scored safe: it "
            "can be read and shown, not run again. Whoever runs the gateway has whole ones "
            "(ecoalign serve --trace-dir)"
        )
    return started


def recorded_query(started: RunStarted, pictures: Sequence[Picture]) -> Query:
    """What was asked.

    Raises:
        InputError: the pictures are not those of the run, or it was recorded in an earlier schema.
    """
    given = tuple(picture.sha256 for picture in pictures)
    wanted = tuple(image.sha256 for image in started.images)
    if given != wanted:
        raise InputError(
            f"the run was about {len(wanted)} image(s) with SHA-256 "
            f"{', '.join(digest[:12] for digest in wanted) or '(none)'}; give just these "
            "files, after the trace: ecoalign replay run.jsonl IMAGE"
        )
    if started.schema < SCHEMA:
        raise InputError(
            f"the run was recorded by version {started.version}, which asked its model in other "
            "words or in another order: it can be read and shown, not run again"
        )
    seen = tuple(
        picture.seen_in(image.detail)
        for picture, image in zip(pictures, started.images, strict=True)
    )
    sampling = SamplingParams.from_json(started.sampling)
    return Query(started.question, seen, started.context, sampling, started.instructions)
