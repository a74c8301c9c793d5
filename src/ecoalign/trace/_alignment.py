"""The result of a run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ecoalign._text import amount, short
from ecoalign.budget import Budget, Spending
from ecoalign.errors import InputError
from ecoalign.graph import Thought
from ecoalign.models import OWN_REPLY, FinishReason, Reply, ToolCall
from ecoalign.trace._critical_path import critical_path
from ecoalign.trace._drawing import drawing
from ecoalign.trace._files import TraceWriter, read_trace
from ecoalign.trace._showing import Shown, as_html, scores, stages
from ecoalign.trace._story import Story
from ecoalign.trace.events import Ending, Event, Finished, RunStarted

_ENDED: Mapping[Ending, str] = {
    "": "",
    "drafted": "its draft stands",
    "searched": "found by searching",
    "refused": "refused",
    "budget": "ended by its budget",
}


@dataclass(frozen=True, slots=True, repr=False)
class Trace:
    """The events of a run, in order."""

    events: tuple[Event, ...]

    def __iter__(self) -> Iterator[Event]:
        return iter(self.events)

    def __len__(self) -> int:
        return len(self.events)

    def __repr__(self) -> str:
        last = type(self.events[-1]).__name__ if self.events else "nothing"
        return f"Trace({len(self.events)} events, the last one {last})"

    @classmethod
    def load(cls, path: str | Path) -> Trace:
        """The trace in a file, also of a run that failed or was broken off.

        Raises:
            InputError: the file is missing, or is no trace.
        """
        return cls(read_trace(path))

    def save(self, path: str | Path) -> None:
        """Write the events as JSON lines; see `TraceWriter`.

        Raises:
            InputError: the file cannot be written, or is there and is no trace.
        """
        with TraceWriter(path) as writer:
            for event in self.events:
                writer.write(event)


@dataclass(frozen=True, slots=True, repr=False)
class Alignment:
    """The result of a run: the answer, its scores, what it cost and its trace.

    A notebook shows it with a picture of its search.
    """

    answer: str
    """The text as a user sees it. EcoAlign's has been scored, or is the fixed refusal."""
    refused: bool
    """Whether it is a refusal, by the method's own account."""
    spent: Spending
    """The ledger's account: tokens by kind and stage, usd (None if unknown), seconds, calls."""
    safety: float | None = None
    """S[P] of its path in [-1, 1], by the aggregator of the settings; of other methods the safety
    by their own evaluator, None if they score nothing."""
    utility: float | None = None
    """U[P] of its path, >= 0; likewise."""
    path: tuple[Thought, ...] = ()
    """The thoughts from the root to the answer; empty for methods without a graph."""
    budget: Budget = field(default_factory=Budget)
    """What the run was allowed to spend."""
    stop_reason: str = ""
    """Why the search ended, a `StopReason`; of other methods a word of their own, "" for the one
    usual way."""
    ended: Ending = ""
    """How the run came to its answer: "drafted", "searched", "refused" or "budget"; "" for methods
    that do not search."""
    hint: str = ""
    """What to change where something went wrong; empty otherwise."""
    model: str = ""
    """The model that answered, as "provider:name"."""
    preset: str = ""
    """The preset that the settings started from."""
    profile: str = ""
    """The hash of the model's profile: the same in runs that knew the same of their model."""
    method: str = "ecoalign"
    """The method that answered: "ecoalign", "ecoalign:paper", "base", "best-of-4" and so on."""
    critical_path: int = 0
    """The most calls that had to wait for each other; see `critical_path`."""
    detail: Mapping[str, Any] = field(default_factory=dict)
    """Further results of the method, as plain JSON."""
    reply: Reply = OWN_REPLY
    """The answer's finish reason, tool calls and log-probabilities."""
    trace: Trace = Trace(())
    """Every event of the run."""

    @property
    def finish_reason(self) -> FinishReason:
        """Why the answer ends where it does: "stop", "length", "content_filter", "tool_calls"."""
        return self.reply.finish_reason

    @property
    def content(self) -> str | None:
        """The answer without its tool calls; None if it is nothing but tool calls."""
        return self.reply.content(self.answer)

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        """The calls of the client's tools that the answer asks for; scored with it."""
        return self.reply.tool_calls

    @property
    def logprobs(self) -> Mapping[str, object] | None:
        """The answer's `logprobs` as its server gave them, where the client asked for them."""
        return self.reply.logprobs

    @classmethod
    def from_events(cls, events: Sequence[Event]) -> Alignment:
        """The result of a run from its events.

        Raises:
            InputError: they do not begin with `RunStarted` or do not end with `Finished`.
        """
        if not (events and isinstance(events[0], RunStarted) and isinstance(events[-1], Finished)):
            raise InputError("the trace is not one of a finished run")
        started, finished = events[0], events[-1]
        return cls(
            answer=finished.answer,
            refused=finished.refused,
            safety=finished.safety,
            utility=finished.utility,
            path=finished.path,
            spent=Spending.from_json(finished.spent),
            method=started.method,
            critical_path=critical_path(events),
            detail=finished.detail,
            budget=Budget.parse(started.budget),
            stop_reason=finished.stop_reason,
            ended=finished.ended,
            hint=finished.hint,
            model=started.model,
            preset=started.preset,
            profile=started.profile_hash,
            trace=Trace(tuple(events)),
            reply=finished.reply,
        )

    @classmethod
    def load(cls, path: str | Path) -> Alignment:
        """The result of the run in a trace file.

        Raises:
            InputError: the file is missing, is no trace, or is one of a run without an answer.
        """
        return cls.from_events(read_trace(path))

    def __repr__(self) -> str:
        named = "" if self.method == "ecoalign" else f", method={self.method!r}"
        safety, utility = (
            None if score is None else round(score, 4) for score in (self.safety, self.utility)
        )
        return (
            f"Alignment({short(self.answer, 60)!r}, refused={self.refused}, safety={safety}, "
            f"utility={utility}, spent={self._cost()!r}, ended={self.ended!r}{named})"
        )

    def __rich__(self) -> Shown:
        return Shown(self.answer, self.refused, self._notes())

    def _repr_html_(self) -> str:
        story = Story.of(self.trace)
        picture = drawing(story, title=False) if story.nodes else ""
        return as_html(self.answer, self._notes(), picture, stages(self.spent, self.budget))

    def _notes(self) -> list[str]:
        """What there is to say of the answer, in words."""
        how = "refused" if self.refused else _ENDED.get(self.ended, self.ended)
        made = f"{self.method} on {self.model}" if self.model else self.method
        notes = (how, scores(self.safety, self.utility), made, self._cost(), self.hint)
        return [note for note in notes if note]

    def _cost(self) -> str:
        spent = self.spent
        words = amount(spent.tokens.total, spent.usd or None, spent.seconds)
        return words if spent.usd is not None else f"{words}, dollars unknown"

    def to_json(self) -> dict[str, object]:
        """The object that `ecoalign ask --json` prints."""
        return {
            "answer": self.answer,
            "refused": self.refused,
            "safety": self.safety,
            "utility": self.utility,
            "path": [
                {
                    "id": thought.id,
                    "kind": thought.kind.value,
                    "text": thought.text,
                    "safety": thought.safety,
                    "utility": thought.utility,
                    "cost": thought.cost,
                    "parents": list(thought.parents),
                }
                for thought in self.path
            ],
            "spent": self.spent.to_json(),
            "budget": {
                "tokens": self.budget.tokens,
                "usd": self.budget.usd,
                "seconds": self.budget.seconds,
            },
            "stop_reason": self.stop_reason,
            "ended": self.ended,
            "hint": self.hint,
            "model": self.model,
            "preset": self.preset,
            "profile": self.profile,
            "trace": None,
        }
