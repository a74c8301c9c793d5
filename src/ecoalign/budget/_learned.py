"""Bounds that learn: what settled calls tell of the cost of later ones.

A prompt is a sequence of segments (lines of text, images, the template, a schema), and what it
costs is the sum of what they cost, but for a few tokens where two of them meet. So a call that
settled at P prompt tokens bounds any other:

    P(other)  <=  P  +  bounds of what is in the other and was not in it  +  slack,

and what was in it and is not in the other only makes this safer. Of all settled calls the one that
bounds best counts, and never more than the formula says. An image costs what its pixel size and
detail say, so a call with n images of one kind bounds each by (P - the least of its text) / n.

What calls tell is taken over at fixed points of a run (`take`), in an order that does not depend
on which of several concurrent calls ended first: a replay has the same bounds.

A server that is not additive in this way is found out by a report above its bound, or by two
reports that do not bound each other: then all that was learned from it is forgotten, and its
formula counts for the rest of the run and for all runs of the model object that begin later. What
a report has beyond the formula itself is added to it for the rest of the run.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Self

from ecoalign.models import ChatModel, ChatRequest, Usage
from ecoalign.models._known import KnownTokens, SupportsSegments, digest_of, kind_of
from ecoalign.models._tokens import PER_PART, Segment

CALLS_KEPT = 48
"""Settled calls that are compared with, per model: the newest, as they have the longest paths."""

SLACK_PER_CHANGE = 2
"""Tokens for each segment that is in only one of two calls: where it met its neighbours, a
tokenizer may have joined what it now keeps apart."""

SLACK = 32
"""Tokens for what is not in the request: a template's own system prompt, where a server that does
not take the role has its text in the user's message."""


_Key = tuple[Hashable, int]


@dataclass(frozen=True, slots=True)
class _Prompt:
    """The segments of one prompt, equal ones told apart by their number."""

    costs: Mapping[_Key, int]
    """Upper bounds of all of them."""
    keys: frozenset[_Key]
    """All of them."""
    kinds: Mapping[str, int]
    """How many images there are of each kind."""

    @classmethod
    def of(cls, segments: Iterable[Segment], tokens: Callable[[Segment], int]) -> Self:
        seen: Counter[Hashable] = Counter()
        costs: dict[_Key, int] = {}
        for segment in segments:
            seen[segment.key] += 1
            costs[segment.key, seen[segment.key]] = tokens(segment)
        kinds = Counter(kind_of(one.image) for one in segments if one.image is not None)
        return cls(costs, frozenset(costs), kinds)


@dataclass(frozen=True, slots=True)
class _Settled:
    """A call, and what it was charged for its prompt."""

    prompt: _Prompt
    tokens: int
    least: int
    """Tokens that its text certainly has."""
    paid: frozenset[_Key]
    """What another call has paid for if it has it, too."""

    def bound(self, other: _Prompt) -> int:
        """Upper bound of another prompt."""
        added = other.keys - self.paid
        # In one of the two only: what is added, and what of this is not in the other.
        changes = 2 * len(added) + len(self.paid) - len(other.keys)
        costs = other.costs
        return self.tokens + SLACK + SLACK_PER_CHANGE * changes + sum(costs[key] for key in added)


@dataclass(slots=True)
class _Server:
    """What is known of one model."""

    model: SupportsSegments
    memory: KnownTokens
    """The model's own, for later runs."""
    known: KnownTokens
    """The snapshot of it that the run began with."""
    images: dict[str, int]
    """Upper bounds by kind, as learned so far."""
    calls: deque[_Settled] = field(default_factory=lambda: deque(maxlen=CALLS_KEPT))
    waiting: list[tuple[str, _Settled]] = field(default_factory=list)
    lines: dict[str, int] = field(default_factory=dict)
    """Known tokens of lines that were met; -1 for those that are not known."""
    trusted: bool = True

    @classmethod
    def of(cls, model: ChatModel) -> Self | None:
        if not isinstance(model, SupportsSegments) or model.known is None or model.known.doubted:
            return None
        known = KnownTokens.from_json(model.known.to_json())
        return cls(model, model.known, known, dict(known.images))

    def tokens(self, segment: Segment) -> int:
        """Upper bound of one segment, by all that is known."""
        if segment.image is not None:
            known = self.images.get(kind_of(segment.image))
            return segment.tokens if known is None else min(segment.tokens, known + PER_PART)
        key = segment.key
        if self.known.texts and isinstance(key, tuple) and key[0] == "line":
            line = key[1]
            if (count := self.lines.get(line)) is None:
                count = self.lines[line] = self.known.texts.get(digest_of(line), -1)
            if count >= 0:
                return min(segment.tokens, count + 1)
        return segment.tokens


class Learned:
    """What one run has learned, by model. Models that do not name their segments are left alone."""

    def __init__(self) -> None:
        self._servers: dict[int, tuple[ChatModel, _Server | None]] = {}
        self._beyond: dict[int, Usage] = {}

    def snapshot(self, model: ChatModel) -> dict[str, object]:
        """What is known of a model as the run begins; empty where nothing can be learned."""
        server = self._server(model)
        return {} if server is None else server.known.to_json()

    def bound(self, model: ChatModel, request: ChatRequest) -> Usage:
        """The worst case of one attempt, by the formula and by what was learned."""
        formula = model.bound(request)
        if (beyond := self._beyond.get(id(model))) is not None:
            return formula + beyond
        server = self._server(model)
        if server is None or not server.trusted:
            return formula
        prompt = _Prompt.of(server.model.segments(request), server.tokens)
        most = min(formula.prompt, sum(prompt.costs.values()))
        for call in server.calls:
            if call.tokens < most:
                most = min(most, call.bound(prompt))
        return Usage(most, formula.completion, min(formula.image, most))

    def note(
        self, model: ChatModel, request: ChatRequest, key: str, prompt: int, least: int
    ) -> None:
        """A call has settled; it counts from the next `take` on. Where its bound was exact there is
        nothing to learn.

        Args:
            model, request: the call.
            key: its `request_key`.
            prompt: the tokens that it was charged for the prompt, as its server reported them.
            least: tokens that its text certainly has.
        """
        server = self._server(model)
        if server is None or not server.trusted or prompt >= model.bound(request).prompt:
            return
        read = _Prompt.of(server.model.segments(request), lambda segment: segment.tokens)
        paid = frozenset(name for name in read.keys if name[0] is not None)
        server.waiting.append((key, _Settled(read, prompt, least, paid)))

    def take(self) -> bool:
        """Take over what has settled since the last time; whether there was anything."""
        news = False
        for server in self._all():
            waiting = sorted(server.waiting, key=lambda one: (one[0], one[1].tokens))
            server.waiting.clear()
            for _, call in waiting:
                news = True
                if server.trusted:
                    _take(server, call)
        return news

    def forget(self, model: ChatModel) -> None:
        """A report was above its bound: nothing that was learned from this server holds."""
        server = self._server(model)
        if server is not None:
            _forget(server)

    def exceeded(self, model: ChatModel, beyond: Usage) -> None:
        """A report was above the formula of its call by so much."""
        old = self._beyond.get(id(model), Usage())
        self._beyond[id(model)] = Usage(
            max(old.prompt, beyond.prompt), max(old.completion, beyond.completion)
        )

    def keep(self) -> None:
        """Let the models remember, for later runs, what their images cost."""
        for server in self._all():
            if server.trusted:
                server.memory.add(images=server.images)

    def _server(self, model: ChatModel) -> _Server | None:
        if (known := self._servers.get(id(model))) is None:
            # The model is kept, so that no other one gets its id.
            known = self._servers[id(model)] = (model, _Server.of(model))
        return known[1]

    def _all(self) -> list[_Server]:
        return [server for _, server in self._servers.values() if server is not None]


def _take(server: _Server, call: _Settled) -> None:
    for other in server.calls:
        if other.tokens > call.bound(other.prompt) or call.tokens > other.bound(call.prompt):
            # Its reports do not add up: it leaves out what it had in a cache, say.
            _forget(server)
            return
    server.calls.append(call)
    for kind, count in call.prompt.kinds.items():
        each = max(0, call.tokens - call.least) // count
        server.images[kind] = min(each, server.images.get(kind, each))


def _forget(server: _Server) -> None:
    server.trusted = False
    server.calls.clear()
    server.waiting.clear()
    server.images.clear()
    server.memory.forget()
