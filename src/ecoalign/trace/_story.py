"""A run as something to look at: the one reader of events for all that is drawn.

The live display, `ecoalign show`, the page of `ecoalign view`, the playground and the picture in a
notebook are drawn from a `Story`. It is fed one event at a time and says what each has changed, so
that a drawing can follow a run, and go back in it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from ecoalign._text import short
from ecoalign.budget import Budget, Called
from ecoalign.errors import InputError
from ecoalign.graph import (
    ENDS,
    ROOT,
    Candidate,
    Forecast,
    Region,
    Thought,
    ThoughtId,
    ThoughtKind,
    economics,
)
from ecoalign.graph.economics import Economy, SafetyAggregator, UtilityAggregator
from ecoalign.graph.pareto import Objective, track_thoughts
from ecoalign.trace._layout import layout
from ecoalign.trace.events import (
    DROPPED,
    ActionFailed,
    ActionsChosen,
    Confirmed,
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
    ThoughtsDropped,
    Valued,
)

__all__ = ["Node", "Option", "Story"]

SCHEMA = 1
"""The version of `Story.to_json`."""

_MOST_VALUES = 12
"""Of the open actions that were valued in a round, so many are told of, the best first."""

_MOST_OPTIONS = 64
"""That are listed of one thought: each frame that changes one of them tells all of them."""

_LONGEST = 256
"""Thoughts of a path that is followed: four times what a search can make, as a trace made by hand
can hold any."""

Json = dict[str, Any]


@dataclass(slots=True)
class Option:
    """What was proposed as a next step from a thought."""

    action: int
    """The action's id, >= 0."""
    kind: str
    """An `ActionKind`."""
    text: str
    """What to think about, or why to look there; may be empty."""
    region: Json | None
    """Where to look; see `Node.region`."""
    partners: list[str]
    """Other thoughts to fuse with."""
    forecast: list[Json]
    """`{"safety", "utility"}` of the step itself and of those forecast to follow."""
    value: float | None = None
    """V when it was valued last, in utility; None if it never was, or is forecast to be unsafe."""
    state: str = "open"
    """"open", "chosen" (under way), "done" or "failed"."""
    thought: str | None = None
    """The thought that it became."""
    note: str = ""
    """Why it is not done: what failed, or that its text was not wanted."""


@dataclass(slots=True)
class Node:
    """A thought as it is drawn."""

    id: str
    """"t" and the thought's id."""
    kind: str
    """A `ThoughtKind`: root, strategy, think, look, fuse, answer or refusal."""
    text: str = ""
    """Its content; of the root the caption. Not released unless it is the answer."""
    safety: float | None = None
    """s in [-1, 1]; None before the scan."""
    utility: float | None = None
    """u >= 0; None before the scan."""
    cost: float = 0.0
    """c >= 0, in tokens."""
    parents: list[str] = field(default_factory=list)
    """The thoughts that it was made from; the first is the one that it grew from."""
    region: Json | None = None
    """`{"image", "x0", "y0", "x1", "y1"}` where it looked: the index of the image, and a rectangle
    in [0, 1] from its top left corner."""
    depth: int = 0
    """The longest way from the root."""
    step: int = 0
    """The round in which it was made; 0 for the draft."""
    at: float = 0.0
    """Seconds since the run began."""
    action: int | None = None
    """The action that made it; None for the root, the strategy and a written answer."""
    marks: list[str] = field(default_factory=list)
    """Of "draft" (written beside the scan), "unsafe" (scored below the threshold), "pruned" (in no
    path), "merged" (another stands for it), "fused", "confirmed" (judged more than once), "path"
    (on the winning path, or the strongest so far) and "answer" (what was given out)."""
    into: str | None = None
    """The thought that it was merged into."""
    scorer: str = ""
    """Who gave the scores."""
    method: str = ""
    """How safety was read: "verdict" or "logprobs"."""
    verdicts: list[float] = field(default_factory=list)
    """The safety by each independent verdict, where there was more than one; the least counts."""
    forecast: list[Json] = field(default_factory=list)
    """What was forecast of its action; see `Option.forecast`."""
    value: float | None = None
    """V of its action when it was chosen, in utility."""
    why: list[str] = field(default_factory=list)
    """Why it was chosen, kept or cut, in sentences."""
    options: list[Option] = field(default_factory=list)
    """What was proposed from it."""


@dataclass(slots=True)
class Gauges:
    """The numbers of a run at one moment."""

    doing: str = "starting"
    """The stage under way, in words."""
    tokens: int = 0
    """Charged so far."""
    usd: float | None = 0.0
    """Dollars charged so far; None once a price is unknown."""
    seconds: float = 0.0
    """Of the newest event, since the run began."""
    calls: int = 0
    """Attempts to call a model."""
    in_line: int = 0
    """The most calls that had to wait for each other."""
    step: int = 0
    """The round."""
    horizon: int = 0
    """|R|_t."""
    price: float = 0.0
    """lambda, in utility per token."""
    headroom: float = 1.0
    """1 minus the safe utility of the best answer so far."""
    left: float = 1.0
    """The scarcest unit's remaining share of the budget, in [0, 1]."""
    share_left: float = 1.0
    """The same of what the search may use of it, as the round began: a request of low safety leaves
    it less than all."""
    remaining: Json = field(default_factory=dict)
    """What is left, by unit."""
    stages: Json = field(default_factory=dict)
    """By stage `{"tokens", "calls", "seconds", "usd"}`."""
    thoughts: int = 0
    """In the graph, the root included."""
    pruned: int = 0
    """Thoughts that are in no path."""
    merged: int = 0
    """Thoughts that another stands for."""
    failed: int = 0
    """Actions that gave no scored thought."""


class Story:
    """What is known of a run so far, ready to be drawn.

    Attributes:
        run: what was asked of whom, under which settings; empty before the first event.
        nodes: the thoughts by id, in the order in which they came.
        gauges: money, price, horizon and counts.
        path: the ids of the winning path, or of the strongest so far, the root first.
        frontier: the undominated paths `{"ids", "safety", "utility", "cost", "gamma", "chosen"}`,
            the best first; empty before a path is chosen.
        result: the answer and how the run ended; None while it goes on.
        frames: what each event has changed; see `see`.
    """

    def __init__(self) -> None:
        self.run: Json = {}
        self.nodes: dict[str, Node] = {}
        self.gauges = Gauges()
        self.path: list[str] = []
        self.frontier: list[Json] = []
        self.result: Json | None = None
        self.frames: list[Json] = []
        self._options: dict[int, tuple[Option, str]] = {}
        self._thoughts: dict[ThoughtId, Thought] = {}
        self._best: tuple[float, tuple[ThoughtId, ...]] = (0.0, (ROOT,))
        self._paths: dict[ThoughtId, tuple[ThoughtId, ...]] = {ROOT: (ROOT,)}
        self._chosen_in: dict[int, int] = {}
        self._rounds: dict[int, tuple[int, int, float | None]] = {}
        self._verdicts: dict[int, list[float]] = {}
        self._touched: dict[str, None] = {}
        self._told: dict[str, Json] = {}
        self._told_gauges: Json = {}

    @classmethod
    def of(cls, events: Iterable[Event]) -> Story:
        """The story that these events tell."""
        story = cls()
        for event in events:
            story.see(event)
        return story

    @property
    def finished(self) -> bool:
        """Whether the run has ended."""
        return self.result is not None

    def layout(self) -> dict[str, tuple[float, float]]:
        """Where each node is drawn; see `ecoalign.trace.layout`."""
        return layout(self.nodes.values())

    def to_json(self) -> Json:
        """All of it: `{"schema", "run", "frames", "layout"}`.

        Applying all frames in order to nothing gives the last state; see `see`.
        """
        return {
            "schema": SCHEMA,
            "run": self.run,
            "frames": self.frames,
            "layout": {name: list(place) for name, place in self.layout().items()},
        }

    def see(self, event: Event) -> Json:
        """Add one event; returns the frame, which says what it has changed, as plain JSON.

        Raises InputError where the run's settings are none, as in a trace that was made by hand.

        A frame has "at" (seconds), "event" (its type), "text" (one sentence) and, where they have
        changed, "nodes" (by id, the fields of `Node` that changed), "values" (by action id, the
        value V of its `Option`, None if it is forecast to be unsafe), "gauges" (fields of
        `Gauges`), "path", "frontier" and "result" (`{"answer", "refused", "ended", "stop_reason",
        "safety", "utility", "hint", "error"}`).
        """
        path, frontier, result = self.path, self.frontier, self.result
        self.gauges.seconds = event.at
        values: Json = {}
        text = self._take(event, values)
        frame: Json = {"at": event.at, "event": type(event).__name__, "text": text}
        if self.path != path:
            self._mark_path(path)
        if nodes := {name: changed for name in self._touched if (changed := self._changes(name))}:
            frame["nodes"] = nodes
        self._touched.clear()
        if values:
            frame["values"] = values
        self.gauges.left = self._left()
        now = asdict(self.gauges)
        if gauges := {k: v for k, v in now.items() if self._told_gauges.get(k, _NOTHING) != v}:
            frame["gauges"] = gauges
        self._told_gauges = now
        for name, before, after in (
            ("path", path, self.path),
            ("frontier", frontier, self.frontier),
            ("result", result, self.result),
        ):
            if before != after:
                frame[name] = after
        self.frames.append(frame)
        return frame

    def _left(self) -> float:
        spent = {name: getattr(self.gauges, name) or 0 for name in ("tokens", "usd", "seconds")}
        limits = self.run.get("budget", {})
        parts = [1 - spent[name] / limit for name, limit in limits.items() if limit]
        return round(max(0.0, min(parts, default=1.0)), 6)

    def _changes(self, name: str) -> Json:
        now = asdict(self.nodes[name])
        before = self._told.get(name, {})
        self._told[name] = now
        return {key: value for key, value in now.items() if before.get(key, _NOTHING) != value}

    def _take(self, event: Event, values: Json) -> str:
        gauges = self.gauges
        match event:
            case RunStarted():
                return self._start(event)
            case Called():
                return self._call(event)
            case RootScanned():
                return self._scan(event)
            case StepStarted():
                gauges.step, gauges.horizon = event.step, event.horizon
                gauges.price, gauges.headroom = event.price, event.headroom
                gauges.share_left, gauges.remaining = event.share_left, asdict(event.remaining)
                gauges.doing = "proposing"
                return (
                    f"Round {event.step}: {event.share_left:.0%} of what it may use is left, so "
                    f"{event.horizon} steps ahead count, and 1,000 tokens have to be worth "
                    f"{1000 * event.price:.2f}."
                )
            case Proposed():
                return self._propose(event)
            case Valued():
                return self._value(event, values)
            case ActionsChosen():
                return self._choose(event)
            case ActionFailed():
                return self._fail(event)
            case ThoughtAdded():
                return self._add(event)
            case Confirmed():
                self._verdicts[event.action] = list(event.verdicts)
                return (
                    f"An answer is judged again, as others were unsafe before it: "
                    f"{_numbers(event.verdicts)}; it needs {event.needed} safe verdicts."
                )
            case ThoughtMerged():
                return self._merge(event)
            case ThoughtsDropped():
                return self._drop(event)
            case PathChosen():
                return self._choose_path(event)
            case Finished():
                return self._finish(event)
            case RunFailed():
                gauges.doing = "failed"
                self.result = _result(error=f"{event.error}: {event.message}")
                return f"The run failed: {event.error}: {event.message}"

    # -- beginnings --------------------------------------------------------------------------------

    def _start(self, event: RunStarted) -> str:
        budget = Budget.parse(event.budget)
        self.run = {
            "question": event.question,
            "context": list(event.context),
            "instructions": event.instructions,
            "model": event.model,
            "evaluator": event.evaluator,
            "method": event.method,
            "preset": event.preset,
            "budget": asdict(budget),
            "images": [asdict(image) for image in event.images],
            "version": event.version,
            "threshold": event.settings.get("safety_threshold", 0.0),
            "settings": dict(event.settings),
        }
        self._check_settings()
        self.gauges.remaining = asdict(budget)
        searches = event.method.partition(":")[0] == "ecoalign"
        self.gauges.doing = "scanning and drafting" if searches else "asking"
        if searches:
            self._node(Node("t0", ThoughtKind.ROOT.value))
        return f"{event.model} is asked, by the method {event.method}, for at most {event.budget}."

    def _check_settings(self) -> None:
        """Raise InputError where a setting that is read here is no such setting."""
        settings = self.run["settings"]
        try:
            self._aggregators()
            Economy(settings.get("economy", Economy.SURPLUS.value))
            threshold = self.run["threshold"]
            if isinstance(threshold, bool) or not math.isfinite(threshold):
                raise ValueError(f"safety_threshold is {threshold!r}")
        except (TypeError, ValueError, OverflowError) as error:
            raise InputError(
                f"a setting of the trace cannot be read: {short(str(error))}"
            ) from None

    def _call(self, event: Called) -> str:
        gauges = self.gauges
        tokens = event.charged.total
        gauges.tokens += tokens
        gauges.calls += 1
        known = gauges.usd is not None and event.usd is not None
        gauges.usd = (gauges.usd or 0.0) + (event.usd or 0.0) if known else None
        if event.waited is not None and not (event.error and event.error.kind == "cancelled"):
            gauges.in_line = max(gauges.in_line, event.waited + 1)
        stage = dict(
            gauges.stages.get(event.stage) or {"tokens": 0, "calls": 0, "seconds": 0.0, "usd": 0.0}
        )
        stage["tokens"] += tokens
        stage["calls"] += 1
        stage["seconds"] = round(stage["seconds"] + event.seconds, 6)
        priced = stage["usd"] is not None and event.usd is not None
        stage["usd"] = stage["usd"] + event.usd if priced else None
        gauges.stages = gauges.stages | {event.stage: stage}
        said = f" It failed: {event.error.kind}." if event.error else ""
        return (
            f"Call {gauges.calls}, {event.stage}: {tokens:,} tokens, {event.seconds:.2f} s.{said}"
        )

    def _scan(self, event: RootScanned) -> str:
        root, node = event.root, self._node(Node("t0", ThoughtKind.ROOT.value))
        self._thoughts[ROOT] = root
        node.text, node.safety, node.utility = root.text, root.safety, root.utility
        node.cost, node.at, node.scorer = root.cost, event.at, self.run.get("evaluator", "")
        node.why = [
            f"The scan's caption; the request itself is judged {root.safety:+.2f}, which leaves "
            f"{event.share:.0%} of the budget to the search."
        ]
        if event.strategy:
            node.why.append(f"The cautious plan is: {event.strategy}")
        if event.note:
            node.why.append(f"Reading the scan: {event.note}")
        self.gauges.thoughts = max(1, self.gauges.thoughts)
        return f"The image is scanned; the request is judged {root.safety:+.2f}."

    # -- actions -----------------------------------------------------------------------------------

    def _propose(self, event: Proposed) -> str:
        parent = self._node(Node(_name(event.parent), ThoughtKind.ROOT.value))
        for action, candidate in enumerate(event.candidates, event.first):
            option = _option(action, candidate)
            self._options[action] = option, parent.id
            if len(parent.options) < _MOST_OPTIONS:
                parent.options.append(option)
        self.gauges.doing = "valuing"
        kinds = ", ".join(candidate.kind.value for candidate in event.candidates) or "nothing"
        return f"From {parent.id}: {kinds} proposed."

    def _value(self, event: Valued, values: Json) -> str:
        self.gauges.doing = "choosing"
        for rank, valued in enumerate(event.actions):
            value = valued.value if math.isfinite(valued.value) else None
            self._rounds[valued.action] = rank + 1, len(event.actions), value
            if valued.action in self._options:
                option, parent = self._options[valued.action]
                option.value = value
                option.note = "" if valued.affordable else "its worst case does not fit the budget"
                if not valued.affordable:
                    self._touched[parent] = None
            if rank < _MOST_VALUES:
                values[str(valued.action)] = value
        if not event.actions:
            return "No open action is worth considering."
        best = event.actions[0]
        return f"The best of {len(event.actions)} actions considered is worth {best.value:.3f}."

    def _choose(self, event: ActionsChosen) -> str:
        kinds = []
        for action in event.actions:
            self._chosen_in[action] = event.step
            if action in self._options:
                option, parent = self._options[action]
                option.state, option.note = "chosen", ""
                kinds.append(option.kind)
                self._touched[parent] = None
        words = ", ".join(kinds)
        self.gauges.doing = f"executing {words}" if event.step else self.gauges.doing
        return f"Chosen: {words}." if event.step else "A draft is written beside the scan."

    def _fail(self, event: ActionFailed) -> str:
        wanted = event.cause != DROPPED
        self.gauges.failed += wanted
        if event.action in self._options:
            option, parent = self._options[event.action]
            option.state = "failed"
            option.note = f"{event.stage}: {event.message}" if wanted else event.message
            self._touched[parent] = None
        if not wanted:
            return f"A text was not wanted: {event.message}"
        return f"{event.stage} failed ({event.cause}): {event.message}"

    # -- thoughts ----------------------------------------------------------------------------------

    def _add(self, event: ThoughtAdded) -> str:
        thought = event.thought
        node = self._node(Node(_name(thought.id), thought.kind.value))
        self._draw(node, thought)
        node.step, node.at = self._chosen_in.get(event.action, self.gauges.step), event.at
        node.scorer, node.method = self.run.get("evaluator", ""), event.method
        node.verdicts = self._verdicts.pop(event.action, [])
        if event.action >= 0:
            node.action = event.action
        if event.action in self._options:
            option, parent = self._options[event.action]
            option.state, option.thought = "done", node.id
            node.forecast, node.value = option.forecast, option.value
            self._touched[parent] = None
        drafted = self._chosen_in.get(event.action) == 0
        marks = (
            ("draft", drafted),
            ("unsafe", event.pruned),
            ("pruned", event.pruned),
            ("fused", thought.kind is ThoughtKind.FUSE),
            ("confirmed", bool(node.verdicts)),
        )
        node.marks = [mark for mark, is_so in marks if is_so]
        node.why = [self._why_made(event, drafted=drafted)]
        self.gauges.thoughts += 1
        if event.pruned:
            self.gauges.pruned += 1
            node.why.append(
                f"Cut: its safety, {thought.safety:+.2f}, is below the threshold of "
                f"{self.run.get('threshold', 0.0):g}. Nothing grows from it; it is not released."
            )
            return f"{node.id}, {node.kind}, is scored {thought.safety:+.2f} and cut."
        self._grow(thought)
        return (
            f"{node.id}, {node.kind}, is scored safe ({thought.safety:+.2f}) with utility "
            f"{thought.utility:.2f}."
        )

    def _why_made(self, event: ThoughtAdded, *, drafted: bool) -> str:
        if drafted:
            return "A draft: what the plain model says, written beside the scan."
        if event.action < 0:
            if event.thought.kind is ThoughtKind.STRATEGY:
                return "The cautious plan for this request; all else grows from it."
            return "Written from the chosen path."
        rank, of, value = self._rounds.get(event.action, (0, 0, None))
        if not rank:
            return f"Chosen in round {self._chosen_in.get(event.action, 0)}."
        worth = "" if value is None else f", worth {value:.3f}"
        place = "the best" if rank == 1 else f"number {rank}"
        return f"Chosen in round {self._chosen_in.get(event.action, 0)}: {place} of {of}{worth}."

    def _merge(self, event: ThoughtMerged) -> str:
        kept, merged = self._node_of(event.kept), self._node_of(event.merged)
        merged.marks = [*(m for m in merged.marks if m != "path"), "merged"]
        merged.into = kept.id
        merged.why.append(f"Merged: {kept.id} says the same and stands for both.")
        self._draw(kept, event.thought)
        kept.why.append(f"Stands for {merged.id}, too, with the least safety of both.")
        self.gauges.merged += 1
        self._thoughts.pop(event.merged, None)
        if merged.id in self.path or kept.id in self.path:
            self._best = (0.0, (ROOT,))
        self._grow(event.thought)
        return f"{merged.id} is merged into {kept.id}: they say the same."

    def _drop(self, event: ThoughtsDropped) -> str:
        first = _name(event.thoughts[0]) if event.thoughts else ""
        for thought in event.thoughts:
            node = self._node_of(thought)
            if "pruned" not in node.marks:
                node.marks = [*node.marks, "pruned"]
                self.gauges.pruned += 1
            node.why.append(
                "Cut: all that could follow from it has been judged unsafe."
                if node.id == first
                else f"Cut: it depends on {first}."
            )
            self._thoughts.pop(thought, None)
        if self._best[1][-1] in event.thoughts:
            self._best = (0.0, (ROOT,))
            self.path = [_name(ROOT)]
        return f"{', '.join(map(_name, event.thoughts))}: a dead end is cut."

    def _draw(self, node: Node, thought: Thought) -> None:
        node.text, node.safety, node.utility = thought.text, thought.safety, thought.utility
        node.cost, node.parents = thought.cost, [_name(parent) for parent in thought.parents]
        node.region = _region(thought.region)
        known = [self.nodes[parent].depth for parent in node.parents if parent in self.nodes]
        node.depth = 1 + max(known, default=-1)

    def _grow(self, thought: Thought) -> None:
        """Keep the strongest path: the greatest safe utility S[P] * U[P] that ends in a thought."""
        self._thoughts[thought.id] = thought
        safety, utility = self._aggregators()
        best: tuple[float, tuple[ThoughtId, ...]] | None = None
        for parent in thought.parents:
            before = self._paths.get(parent)
            if before is None or thought.id in before or len(before) >= _LONGEST:
                continue
            path = (*before, thought.id)
            steps = [self._thoughts[i] for i in path[1:] if i in self._thoughts]
            worth = economics.path_safety((t.safety for t in steps), safety) * (
                economics.path_utility((t.utility for t in steps), utility)
            )
            if best is None or worth > best[0]:
                best = worth, path
        if best is None:
            return
        self._paths[thought.id] = best[1]
        if best[0] > self._best[0] and self.result is None:
            self._best = best
            self.path = [_name(i) for i in best[1]]

    # -- ends --------------------------------------------------------------------------------------

    def _choose_path(self, event: PathChosen) -> str:
        self.path = [_name(i) for i in event.ids]
        self.frontier = self._frontier(event)
        self.gauges.doing = "answering"
        return (
            f"Path {' > '.join(self.path)} is chosen: safety {event.safety:.2f}, utility "
            f"{event.utility:.2f}, cost {event.cost:,.0f} tokens."
        )

    def _frontier(self, event: PathChosen) -> list[Json]:
        """The undominated paths, as the Pareto Tracker ranks them, with the chosen one."""
        safety, utility = self._aggregators()
        settings = self.run.get("settings", {})
        economy = Economy(settings.get("economy", Economy.SURPLUS.value))
        threshold = float(self.run.get("threshold", 0.0))
        budget = self.run.get("budget", {}).get("tokens") or math.inf
        thoughts = [
            thought
            for i, thought in sorted(self._thoughts.items())
            if i == ROOT or safety is not SafetyAggregator.MIN or thought.safety >= threshold
        ]
        there = {thought.id for thought in thoughts}
        whole = [
            thought
            for thought in thoughts
            if thought.id == ROOT or any(parent in there for parent in thought.parents)
        ]
        ends = [thought.id for thought in whole if thought.kind in ENDS]
        ends = ends or [thought.id for thought in whole if thought.id != ROOT]
        objective = Objective(economy, safety, 0.0, utility, threshold)
        found = track_thoughts(whole, ends, budget, objective, alternatives=32) if ends else None
        ranked = [
            {
                "ids": [_name(i) for i in path.ids],
                "safety": path.safety,
                "utility": path.utility,
                "cost": path.cost,
                "gamma": path.gamma if math.isfinite(path.gamma) else None,
                "chosen": path.ids == event.ids,
            }
            for path in (found.paths if found else ())
        ]
        if not any(path["chosen"] for path in ranked):
            ranked.append(
                {
                    "ids": [_name(i) for i in event.ids],
                    "safety": event.safety,
                    "utility": event.utility,
                    "cost": event.cost,
                    "gamma": event.gamma if math.isfinite(event.gamma) else None,
                    "chosen": True,
                }
            )
        return ranked

    def _finish(self, event: Finished) -> str:
        self.gauges.doing = "done"
        if event.path:
            self.path = [_name(thought.id) for thought in event.path]
            end = self._node_of(event.path[-1].id)
            if end.kind in ENDS:
                end.marks = [*end.marks, "answer"]
                end.why.append("This is the answer that was given.")
        self.result = _result(event)
        how = {"drafted": "The draft stands", "searched": "The search has found its answer"}
        if event.refused:
            return "The run ends with a refusal."
        return f"{how.get(event.ended, 'The run has its answer')}."

    # -- keeping -----------------------------------------------------------------------------------

    def _node(self, new: Node) -> Node:
        self._touched[new.id] = None
        return self.nodes.setdefault(new.id, new)

    def _node_of(self, thought: ThoughtId) -> Node:
        return self._node(Node(_name(thought), ThoughtKind.THINK.value))

    def _mark_path(self, before: Sequence[str]) -> None:
        for name in {*before, *self.path}:
            if name in self.nodes:
                node = self.nodes[name]
                marks = [mark for mark in node.marks if mark != "path"]
                node.marks = [*marks, "path"] if name in self.path else marks
                self._touched[name] = None

    def _aggregators(self) -> tuple[SafetyAggregator, UtilityAggregator]:
        settings = self.run.get("settings", {})
        return (
            SafetyAggregator(settings.get("aggregator", SafetyAggregator.MIN.value)),
            UtilityAggregator(settings.get("utility_aggregator", UtilityAggregator.SUM.value)),
        )


_NOTHING = object()


def _name(thought: ThoughtId) -> str:
    return f"t{thought}"


def _numbers(values: Iterable[float]) -> str:
    return ", ".join(f"{value:+.2f}" for value in values)


def _region(region: Region | None) -> Json | None:
    return None if region is None else asdict(region)


def _forecasts(forecast: Iterable[Forecast]) -> list[Json]:
    return [{"safety": one.safety, "utility": one.utility} for one in forecast]


def _option(action: int, candidate: Candidate) -> Option:
    return Option(
        action,
        candidate.kind.value,
        candidate.text,
        _region(candidate.region),
        [_name(partner) for partner in candidate.partners],
        _forecasts(candidate.forecast),
    )


def _result(event: Finished | None = None, error: str = "") -> Json:
    return {
        "answer": event.answer if event else "",
        "refused": event.refused if event else False,
        "ended": event.ended if event else "",
        "stop_reason": event.stop_reason if event else "",
        "safety": event.safety if event else None,
        "utility": event.utility if event else None,
        "hint": event.hint if event else "",
        "error": error,
    }
