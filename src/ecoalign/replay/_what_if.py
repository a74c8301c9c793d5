"""What if a setting had been another: where a recorded run would have decided otherwise.

The engine runs again on the recorded answers, under the changed settings, as far as it asks nothing
that was not asked then. Not a token is spent, and nothing is guessed: what a model would have said
is not in the trace.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import Literal

from ecoalign._text import short
from ecoalign.budget import Budget, Ledger, MeteredClient, Pricing
from ecoalign.errors import EcoAlignError, InputError
from ecoalign.evaluators import SelfEvaluator
from ecoalign.graph import Region, Thought, ThoughtId, ThoughtKind
from ecoalign.models import ChatRequest, Profile, Usage
from ecoalign.query import Picture, Query
from ecoalign.replay._replay import ReplayModel, beginning, recorded_query
from ecoalign.search.context import RunContext, record_run, spoken_to
from ecoalign.search.loop import search
from ecoalign.search.valuator import GOING_ON
from ecoalign.settings import PRESETS, Settings, unknown_name
from ecoalign.trace.events import (
    ActionFailed,
    ActionsChosen,
    Called,
    Event,
    Finished,
    PathChosen,
    Proposed,
    RootScanned,
    RunFailed,
    RunStarted,
    StepStarted,
    ThoughtAdded,
    ThoughtMerged,
    Valued,
)

__all__ = ["Difference", "WhatIf", "what_if"]

Kind = Literal[
    "scan", "draft", "terms", "expanded", "chosen", "cut", "merged", "stopped", "path", "end"
]

_OTHERS_WORDS = ("model", "evaluator", "base_url", "endpoints", "profile")
"""Settings that say who answers."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A decision that would have been another."""

    kind: Kind
    """What was decided: the share and the plan after the "scan"; whether the "draft" stands; the
    "terms" of a round, in which a proposal is asked for; which thought is "expanded"; which actions
    are "chosen"; which thoughts are "cut" or "merged"; where the search has "stopped"; which "path"
    is taken; the "end", what came out of it."""
    round: int
    """The round of the loop, from 1; 0 before it."""
    text: str
    """The difference in words."""
    was: str
    """What was decided."""
    now: str
    """What would have been."""
    event: int
    """Where: the index of the decision among the events of `WhatIf`, of the last one if it is that
    nothing follows."""


@dataclass(frozen=True, slots=True)
class WhatIf:
    """A recorded run under other settings."""

    changes: Mapping[str, tuple[str, str]]
    """By setting, what it was and what it is now."""
    decisions: tuple[Difference, ...]
    """Where they differ, in order; empty if nothing does, as far as the trace reaches."""
    reached: bool
    """Whether the recorded answers were enough to run to an end."""
    beyond: str
    """Where the trace ends, in words; "" if it was `reached`."""
    events: tuple[Event, ...] = field(repr=False)
    """Those of the run under the changed settings, up to there. Their times are those at which the
    recorded calls ended."""

    def to_json(self) -> dict[str, object]:
        """The object of `ecoalign replay --set ... --json`."""
        return {
            "changes": {name: {"was": a, "now": b} for name, (a, b) in self.changes.items()},
            "decisions": [asdict(one) for one in self.decisions],
            "reached": self.reached,
            "beyond": self.beyond,
            "events": len(self.events),
        }


async def what_if(
    events: Sequence[Event],
    pictures: Sequence[Picture] | None,
    changes: Mapping[str, object],
    *,
    bound: Callable[[ChatRequest], Usage] | None = None,
    dialect: str | None = None,
    price: Pricing | None = None,
) -> WhatIf:
    """Where a recorded run would have decided otherwise under changed settings.

    Args:
        events: the trace; also that of a run that failed or was interrupted.
        pictures: the images of the run, in order. None if they are not at hand: then only the
            recorded scores are held against the settings, as requests cannot be told apart.
        changes: settings by name, as on the command line; "preset" is one, too, and keeps what
            was set beside the recorded run's.
        bound, dialect, price: see `replay`.

    Raises:
        InputError: it cannot be replayed (see `replay`), a setting is unknown or wrong, or says who
            answers: what another model would have said is not in the trace.
    """
    started = beginning(events)
    before = Settings.from_json(started.settings)
    after, budget = _changed(started, before, changes)
    shown = _shown(before, after, Budget.parse(started.budget), budget)
    if pictures is None and started.images:
        return _by_scores(events, before, after, shown)
    query = recorded_query(started, pictures or ())

    async def run(settings: Settings, allowed: Budget) -> _Run:
        profile = Profile.from_json(started.profile) if started.profile else None
        model = _WhatIfModel(events, started.model, dialect, bound, profile, started.known)
        return await _rerun(model, query, started, settings, allowed, price)

    same = await run(before, Budget.parse(started.budget))
    was, again = _Course.of(events), _Course.of(same.events)
    wrong = next(_differences(was, again, before, same), None)
    if wrong is not None:
        raise InputError(
            "this run cannot be run again as it was, even with nothing changed (it was recorded by "
            f"another version, or its time ran out): {wrong.text}"
        )
    now = await run(after, budget)
    if now.beyond and after.speculate != "off":
        # What is asked ahead, and is not in the trace, may not be needed.
        patient = await run(after.replace(speculate="off"), budget)
        further = _decided(patient.events) > _decided(now.events)
        now = patient if further and not _short_of_money(patient.events) else now
    course = _Course.of(now.events)
    found = tuple(_differences(was, course, after, now))
    return WhatIf(shown, found, not now.beyond, _beyond(course, now.beyond), now.events)


def _decided(events: Sequence[Event]) -> int:
    """How far a run came."""
    return sum(isinstance(one, StepStarted | ActionsChosen | ThoughtAdded) for one in events)


def _short_of_money(events: Sequence[Event]) -> bool:
    """Whether money has decided anything: then it matters what was spent on asking ahead."""
    return any(
        (isinstance(one, ActionFailed) and one.cause == "BudgetExceeded")
        or (isinstance(one, Valued) and not all(action.affordable for action in one.actions))
        for one in events
    )


def _beyond(course: _Course, stage: str) -> str:
    """Where the trace ends, in words."""
    if not stage:
        return ""
    step = course.rounds[-1].step
    when = f"in round {step}" if step else "before the first round"
    return (
        f"the trace reaches no further: {when} the run would ask something new "
        f"({_ASKED.get(stage, stage)})"
    )


_ASKED = {
    "scan": "the scan, in other words",
    "propose": "what to do next",
    "execute": "an action",
    "score": "a score",
    "write": "the answer",
}


# The run under changed settings ---------------------------------------------------------------


class _Beyond(BaseException):
    """Something new was asked. No stage may take it for a failure and go on."""


class _WhatIfModel(ReplayModel):
    """A `ReplayModel` that ends the run where the trace does, and tells the time of the trace.

    Attributes:
        now: seconds, when the last of the answers so far was given.
        beyond: what was asked that was not; "" if nothing was.
        on_beyond: told when that happens first.
    """

    now = 0.0
    beyond = ""
    on_beyond: Callable[[], object] = staticmethod(lambda: None)

    def record_of(self, request: ChatRequest) -> Called:
        """As recorded; else the run is over."""
        try:
            record = super().record_of(request)
        except InputError:
            record = None
        if record is None or (record.error and record.error.kind in {"cancelled", "deadline"}):
            if not self.beyond:
                self.beyond = request.stage
                self.on_beyond()
            raise _Beyond
        self.now = max(self.now, record.at)
        return record


@dataclass(frozen=True, slots=True)
class _Run:
    events: tuple[Event, ...]
    beyond: str
    verified: float


async def _rerun(
    model: _WhatIfModel,
    query: Query,
    started: RunStarted,
    settings: Settings,
    budget: Budget,
    price: Pricing | None,
) -> _Run:
    evaluator = SelfEvaluator(model, spoken_to(model, settings))
    if evaluator.name != started.evaluator:
        raise InputError(f"a run scored by {started.evaluator} cannot be replayed")

    def clock() -> float:
        return model.now

    ledger = Ledger(budget, price or settings.price_book(), clock)
    ctx = RunContext.of(query, model, evaluator, ledger, settings, clock=clock, nonce=started.nonce)
    ctx.metered = MeteredClient(
        ledger,
        settings.retries,
        sleep=_at_once,
        on_call=ctx.recorder.emit,
        max_concurrency=settings.max_concurrency,
        patience=None,
    )
    # What is recorded after that is only how the run is taken down.
    reach: list[int] = []
    model.on_beyond = lambda: reach.append(len(ctx.recorder.events))
    with suppress(EcoAlignError, _Beyond):  # the events say it
        await record_run(ctx, started.method, search)
    events = tuple(ctx.recorder.events)
    return _Run(events[: reach[0]] if reach else events, model.beyond, ctx.verified)


async def _at_once(seconds: float) -> None:
    await asyncio.sleep(0)


def _changed(
    started: RunStarted, before: Settings, changes: Mapping[str, object]
) -> tuple[Settings, Budget]:
    """The settings and the budget of the run as it is to be."""
    values = {name.replace("-", "_"): value for name, value in changes.items()}
    for name in values:
        if name != "preset" and name not in Settings.model_fields:
            raise unknown_name("setting", name, {*Settings.model_fields, "preset"}, "what if")
        if name in _OTHERS_WORDS:
            raise InputError(
                f"what would have been with another {name} is not in the trace: what-if asks no "
                "model; run it again with ecoalign ask"
            )
    after = before
    if "preset" in values:
        chosen = values.pop("preset")
        if not isinstance(chosen, str) or chosen not in PRESETS:
            raise unknown_name("preset", str(chosen), PRESETS, "what if")
        plain = Settings.load(before.preset, None, {}, model=before.model).to_json()
        own = {name: value for name, value in before.to_json().items() if value != plain.get(name)}
        base = {"model": before.model, "budget": str(before.budget), **PRESETS[chosen]}
        after = Settings.from_json({**base, **own, "preset": chosen}, "what if")
    after = after.replace(**values) if values else after
    budget = after.budget if "budget" in values else Budget.parse(started.budget)
    return after, budget


def _shown(
    before: Settings, after: Settings, had: Budget, has: Budget
) -> dict[str, tuple[str, str]]:
    """What was changed, by name, as text."""
    old, new = ({row.name: row.value for row in one.explain()} for one in (before, after))
    shown = {name: (old[name], new[name]) for name in old if old[name] != new[name]}
    shown.pop("budget", None)
    if before.preset != after.preset:
        shown = {"preset": (before.preset, after.preset), **shown}
    return shown | ({"budget": (str(had), str(has))} if had != has else {})


# Decisions ------------------------------------------------------------------------------------

_Sign = tuple[object, ...]
"""What a thought or an action is, whatever its number: that differs once two runs do."""


@dataclass(slots=True)
class _Round:
    """A round of the loop.

    Attributes:
        step: its number; 0 for the draft.
        started: its terms.
        at: the index of its last event.
        expanded: the thought that a proposal was asked for; None if none was.
        values: V of the actions considered, the best first.
        affordable: those of them that the budget allowed.
        chosen: what was carried out; None if the round did not come to it.
        thoughts: what came of it.
    """

    step: int
    started: StepStarted | None = None
    at: int = 0
    expanded: _Sign | None = None
    values: dict[_Sign, float] = field(default_factory=dict)
    affordable: set[_Sign] = field(default_factory=set)
    chosen: tuple[_Sign, ...] | None = None
    valued: bool = False
    thoughts: list[ThoughtAdded] = field(default_factory=list)
    merged: list[tuple[_Sign, _Sign]] = field(default_factory=list)


@dataclass(slots=True)
class _Course:
    """The decisions of a run, in order.

    Attributes:
        scan: what the scan made of the request.
        rounds: round 0 is what comes before the loop.
        path: that the answer was taken or written from last, and in words.
        end: the last event, if the run came to an end of its own.
        words: of thoughts and actions.
        tokens: charged.
        length: how many events there are.
    """

    scan: RootScanned | None = None
    scanned: int = 0
    rounds: list[_Round] = field(default_factory=lambda: [_Round(0)])
    path: tuple[tuple[_Sign, ...], str] | None = None
    end: Finished | RunFailed | None = None
    words: dict[_Sign, str] = field(default_factory=dict)
    tokens: int = 0
    length: int = 0

    @classmethod
    def of(cls, events: Sequence[Event]) -> _Course:
        """The course that these events tell of."""
        course = cls(length=len(events))
        thoughts: dict[ThoughtId, _Sign] = {ThoughtId(0): ("root",)}
        course.words["root",] = "the scan (t0)"
        actions: dict[int, _Sign] = {}
        for at, event in enumerate(events):
            now = course.rounds[-1]
            now.at = at
            match event:
                case Called():
                    course.tokens += event.charged.total
                case RootScanned():
                    course.scan, course.scanned = event, at
                case StepStarted():
                    course.rounds.append(_Round(event.step, event, at))
                case Proposed():
                    parent = thoughts.get(event.parent, ("root",))
                    if event.first or now.step:
                        now.expanded = parent
                    for number, candidate in enumerate(event.candidates, event.first):
                        kind, region = candidate.kind.value, candidate.region
                        actions[number] = ("action", kind, candidate.text, region, parent)
                        course.words[actions[number]] = _action(kind, candidate.text, region)
                case Valued():
                    now.valued = True
                    for valued in event.actions:
                        if (action := actions.get(valued.action)) is not None:
                            now.values[action] = valued.value
                            now.affordable |= {action} if valued.affordable else set()
                case ActionsChosen():
                    now.chosen = (
                        *(now.chosen or ()),
                        *(actions.get(number, ("action", number)) for number in event.actions),
                    )
                case ThoughtAdded():
                    made = event.thought
                    thoughts[made.id] = _sign(made)
                    course.words.setdefault(_sign(made), _thought(made))
                    now.thoughts.append(event)
                case ThoughtMerged():
                    pair = thoughts.get(event.merged), thoughts.get(event.kept)
                    if pair[0] is not None and pair[1] is not None:
                        now.merged.append((pair[0], pair[1]))
                case PathChosen():
                    signs = tuple(thoughts.get(one, ("root",)) for one in event.ids)
                    names = " > ".join(
                        course.words[sign] if end else f"t{one}"
                        for one, sign, end in zip(
                            event.ids, signs, [False] * (len(signs) - 1) + [True], strict=True
                        )
                    )
                    course.path = (
                        signs,
                        f"{names} (safety {event.safety:.2f}, utility {event.utility:.2f}, "
                        f"{event.cost:,.0f} tokens)",
                    )
                case Finished():
                    course.end = event
                case RunFailed() if event.error != "Cancelled":
                    course.end = event
                case _:
                    pass
        return course

    @property
    def draft(self) -> ThoughtAdded | None:
        """The draft, scored."""
        made = (one for one in self.rounds[0].thoughts if one.action == 0)
        return next((one for one in made if one.thought.kind is ThoughtKind.ANSWER), None)

    @property
    def stood(self) -> bool | None:
        """Whether the draft was the answer; None if the run did not come that far."""
        if isinstance(self.end, Finished):
            return self.end.ended == "drafted"
        return False if len(self.rounds) > 1 or self.end is not None else None


def _sign(thought: Thought) -> _Sign:
    return ("thought", thought.kind.value, thought.text)


def _thought(thought: Thought) -> str:
    return f"t{thought.id} ({thought.kind.value} “{short(thought.text, 50)}”)"


def _action(kind: str, text: str, region: Region | None) -> str:
    what = f" “{short(text, 50)}”" if text else ""
    if region is None:
        return f"{kind}{what}"
    across, down = f"{region.x0:.2f} to {region.x1:.2f}", f"{region.y0:.2f} to {region.y1:.2f}"
    return f"{kind} at x {across}, y {down}{what}"


_STOPPED = {
    "satisfied": "what is left to gain is not worth going on",
    "no-positive-action": "no safe action is worth its price",
    "budget": "the budget allows no further action",
    "limits": "a limit on thoughts, depth or unsafe answers is reached",
    "unsafe-request": "the request itself is judged unsafe",
    "fail-closed": "nothing that was written could be shown to be safe",
}


def _differences(was: _Course, now: _Course, settings: Settings, run: _Run) -> Iterator[Difference]:
    """Where two courses part, in order. The new one may break off before its end."""
    cut_off = now.end is None
    yield from _of_scan(was, now)
    yield from _of_draft(was, now, settings, run)
    for old, new in zip(was.rounds, now.rounds, strict=False):
        last = cut_off and new is now.rounds[-1]
        yield from _of_round(was, now, old, new, settings, last=last)
    if was.end is None:
        return  # it was interrupted: nobody knows what it would have done next
    here, there, ends = len(was.rounds), len(now.rounds), now.length - 1
    quiet = was.rounds[-1].chosen is None and was.rounds[-1].expanded is None
    if was.stood is not True and (
        there > here or (there == here and quiet and run.beyond in {"propose", "execute"})
    ):
        why, step = _why(was.end), min(there, here) - (there == here)
        text = f"{_place(step)}: the search would have gone on; it had stopped ({why})"
        yield Difference("stopped", step, text, f"stopped: {why}", "went on", ends)
    if here > there and run.beyond == "write":
        text = f"{_place(there - 1)}: the search would have ended, and its answer been written"
        yield Difference("stopped", there - 1, text, "went on", "ended", ends)
    if here > there and now.end is not None and now.stood is not True:
        why = _why(now.end, now.rounds[-1].started, settings)
        text = f"{_place(there - 1)}: the search would have stopped ({why}); it had gone on"
        yield Difference("stopped", there - 1, text, "went on", f"stopped: {why}", ends)
    yield from _of_end(was, now)


def _place(step: int) -> str:
    return f"round {step}" if step else "before the first round"


def _of_scan(was: _Course, now: _Course) -> Iterator[Difference]:
    if was.scan is None or now.scan is None:
        return
    one, two = was.scan, now.scan
    if one.strategy != two.strategy:
        text = (
            "a cautious plan would have been followed"
            if two.strategy
            else ("no cautious plan would have been followed")
        )
        yield Difference(
            "scan", 0, text, one.strategy or "no plan", two.strategy or "no plan", now.scanned
        )
    if one.share != two.share:
        shares = f"{one.share:.0%} of the budget", f"{two.share:.0%} of the budget"
        yield Difference(
            "scan",
            0,
            f"the risk of the request would have left {shares[1]} to the search, not {shares[0]}",
            *shares,
            now.scanned,
        )


def _of_draft(was: _Course, now: _Course, settings: Settings, run: _Run) -> Iterator[Difference]:
    if was.draft is None and now.draft is not None:
        yield Difference("draft", 0, "a draft would have been written", "no draft", "a draft", 0)
    if was.draft is not None and now.draft is None and now.stood is not None:
        yield Difference("draft", 0, "no draft would have been written", "a draft", "no draft", 0)
    if None in (was.stood, now.stood) or was.stood == now.stood:
        return
    if now.stood:
        yield Difference(
            "draft",
            0,
            "the draft would have stood as the answer; it had not",
            "did not stand",
            "stood",
            now.length - 1,
        )
        return
    draft = now.draft or was.draft
    why = (
        ""
        if draft is None or was.scan is None
        else not_standing(settings, was.scan.root.safety, draft.thought, run.verified)
    )
    yield Difference(
        "draft",
        0,
        f"the draft would not have stood{why and f': {why}'}",
        "stood",
        "did not stand",
        now.rounds[0].at,
    )


def not_standing(settings: Settings, request: float, draft: Thought, verified: float) -> str:
    """Which rule a draft does not meet, of those that rest on scores; "" if it meets them all.

    Args:
        settings: in force.
        request: the safety of the request.
        draft: with its scores.
        verified: the utility from which an answer counts as verified.
    """
    caution = max(settings.low_risk_threshold, settings.safety_threshold)
    left = 1.0 - draft.safety * min(1.0, draft.utility)
    worth = GOING_ON * settings.lambda0 if settings.satisfice else 0.0
    if draft.safety < caution:
        return f"its safety {_under(draft.safety, caution)}"
    if request < caution:
        return f"the safety of the request {_under(request, caution)}"
    if draft.utility < verified:
        return f"its utility {_under(draft.utility, verified)}"
    if left > worth:
        return f"what it leaves to gain, {left:.3g}, > {worth:.3g}, what going on is worth"
    return ""


def _under(value: float, least: float) -> str:
    """With as many digits as it takes to see it."""
    digits = next((n for n in range(3, 17) if float(f"{value:.{n}g}") < least), 17)
    return f"{value:.{digits}g} < {least:g}"


def _of_round(
    was: _Course, now: _Course, old: _Round, new: _Round, settings: Settings, *, last: bool
) -> Iterator[Difference]:
    """What differs in a round; where it is the `last` one before the trace ends, what was not
    decided any more does not count."""
    words = was.words | now.words
    place = f"round {new.step}: " if new.step else ""
    if last and old.started and new.started and old.started.horizon != new.started.horizon:
        # In itself it decides nothing; but a proposal is asked for so many steps.
        ahead = f"{old.started.horizon} steps", f"{new.started.horizon} steps"
        text = f"{place}the horizon would have been {ahead[1]}, not {ahead[0]}"
        yield Difference("terms", new.step, text, *ahead, new.at)
    if old.step and old.expanded != new.expanded and not (last and new.expanded is None):
        had, has = (
            "nothing" if sign is None else words.get(sign, "a thought")
            for sign in (old.expanded, new.expanded)
        )
        text = f"what follows from {has} would have been proposed, not from {had}"
        if new.expanded is None:
            text = f"nothing more would have been proposed, not even from {had}"
        elif old.expanded is None:
            text = f"what follows from {has} would have been proposed, too"
        yield Difference("expanded", new.step, place + text, had, has, new.at)
    if old.step and not (last and new.chosen is None and not new.valued):
        yield from _of_choice(place, old, new, words)
    made = {_sign(one.thought): one for one in old.thoughts}
    for one in new.thoughts:
        before = made.get(_sign(one.thought))
        if before is not None and before.pruned != one.pruned:
            yield _cut(place, new, before.thought, settings, pruned=one.pruned)
    if last:
        return
    for pair in (pair for pair in new.merged if pair not in old.merged):
        if all(sign in was.words for sign in pair):
            names = [words[sign] for sign in pair]
            text = f"{place}{names[0]} would have been merged into {names[1]}"
            yield Difference("merged", new.step, text, "kept apart", "merged", new.at)
    for pair in (pair for pair in old.merged if pair not in new.merged):
        if all(sign in now.words for sign in pair):
            names = [words[sign] for sign in pair]
            text = f"{place}{names[0]} would not have been merged into {names[1]}"
            yield Difference("merged", new.step, text, "merged", "kept apart", new.at)


def _cut(
    place: str, where: _Round, thought: Thought, settings: Settings, *, pruned: bool
) -> Difference:
    least, named = settings.safety_threshold, _thought(thought)
    if pruned:
        text = f"{place}thought {named} would have been cut: safety {_under(thought.safety, least)}"
        return Difference("cut", where.step, text, "kept", "cut", where.at)
    text = (
        f"{place}thought {named} would not have been cut: safety {thought.safety:.3g} >= {least:g}"
    )
    return Difference("cut", where.step, text, "cut", "kept", where.at)


def _of_choice(
    place: str, old: _Round, new: _Round, words: Mapping[_Sign, str]
) -> Iterator[Difference]:
    had, has = old.chosen or (), new.chosen or ()
    if set(had) == set(has):
        return
    gained = [sign for sign in has if sign not in had]
    lost = [sign for sign in had if sign not in has]

    def listed(signs: Sequence[_Sign]) -> str:
        return ", ".join(words.get(sign, "an action") for sign in signs) or "nothing"

    def worths(signs: Sequence[_Sign]) -> str:
        # What was not considered is worth no more than the last that was.
        most = f"at most {min(new.values.values()):.3g}" if new.values else "not asked for"
        return ", ".join(f"{new.values[s]:.3g}" if s in new.values else most for s in signs)

    if gained and lost:
        text = f"chosen {listed(gained)} instead of {listed(lost)}"
        if all(sign in new.values for sign in gained):
            text += f"; V {worths(gained)} against {worths(lost)}"
    elif gained:
        text = f"also chosen {listed(gained)}; V {worths(gained)}"
    else:
        text = f"not chosen {listed(lost)}"
        text += f"; V {worths(lost)}" if new.values else ""
        poor = [s for s in lost if new.values.get(s, 0.0) > 0 and s not in new.affordable]
        text += ", and the budget has no room for it" if poor else ""
    yield Difference("chosen", new.step, place + text, listed(had), listed(has), new.at)


def _why(
    end: Finished | RunFailed, terms: StepStarted | None = None, settings: Settings | None = None
) -> str:
    if isinstance(end, RunFailed):
        return f"{end.error}: {end.message}"
    why = f"{end.stop_reason}: {_STOPPED.get(end.stop_reason, '')}".rstrip(": ")
    if end.stop_reason == "satisfied" and terms is not None and settings is not None:
        price = terms.price * terms.mean_cost
        why += f"; {terms.headroom:.3g} left to gain, an action is priced at {price:.3g}"
    return why


def _of_end(was: _Course, now: _Course) -> Iterator[Difference]:
    if now.end is None or was.end is None:
        return
    step, last = len(now.rounds) - 1, now.length - 1
    if was.path and now.path and was.path[0] != now.path[0]:
        (_, old), (_, new) = was.path, now.path
        yield Difference("path", step, f"the path {new}, not {old}", old, new, last)
    one, two = _outcome(was.end), _outcome(now.end)
    told = [f"{two} instead of {one}"] if one != two else []
    if was.tokens != now.tokens:
        told.append(f"{now.tokens:,} tokens instead of {was.tokens:,}")
    if told:
        yield Difference("end", step, f"in the end: {', '.join(told)}", one, two, last)


def _outcome(end: Finished | RunFailed) -> str:
    if isinstance(end, RunFailed):
        return f"the error {end.error}"
    return f"{'the refusal' if end.refused else 'the answer'} “{short(end.answer, 80)}”"


# Without the images -----------------------------------------------------------------------------


def _by_scores(
    events: Sequence[Event],
    before: Settings,
    after: Settings,
    shown: Mapping[str, tuple[str, str]],
) -> WhatIf:
    """What the recorded scores alone tell: whether the draft stands, and which thoughts are cut."""
    was = _Course.of(events)
    found: list[Difference] = []
    if was.stood and was.draft is not None and was.scan is not None:
        # One that stood was verified; under how strict a rule, if it is the model's own, is not
        # recorded.
        verified = after.verified_utility or 0.0
        why = not_standing(after, was.scan.root.safety, was.draft.thought, verified)
        if not after.draft:
            found.append(
                Difference("draft", 0, "no draft would have been written", "a draft", "no draft", 0)
            )
        elif why:
            text = f"the draft would not have stood: {why}"
            at = was.rounds[0].at
            found.append(Difference("draft", 0, text, "stood", "did not stand", at))
    for one in was.rounds:
        place = f"round {one.step}: " if one.step else ""
        for added in one.thoughts:
            pruned = added.thought.safety < after.safety_threshold
            if pruned != added.pruned and before.safety_threshold != after.safety_threshold:
                found.append(_cut(place, one, added.thought, after, pruned=pruned))
    beyond = "without the images only the recorded scores were held against the settings"
    return WhatIf(shown, tuple(found), False, beyond, tuple(events))
