"""The critical path in calls: how many had to wait for each other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from ecoalign.trace.events import ActionsChosen, Called, Event, StepStarted

_SCORE = "score"

_SAMPLE = "sample"

_BATCHED = ("execute", _SAMPLE, _SCORE)


def chain(attempts: Iterable[Called]) -> int:
    """The attempts of one line of work that had to wait for each other.

    Each waits for the one before, a retry for the attempt that failed. Only the requests of one
    scoring that differ, or go to different models, run at once, since they are those of an
    ensemble; there the one with the most attempts counts.
    """
    length = 0
    scoring: Counter[tuple[str, str]] = Counter()
    for attempt in attempts:
        if attempt.stage == _SCORE:
            scoring[attempt.model, attempt.key] += 1
        else:
            length += 1 + max(scoring.values(), default=0)
            scoring.clear()
    return length + max(scoring.values(), default=0)


def critical_path(events: Sequence[Event]) -> int:
    """The critical path of a run, from its events.

    Everything waits for what came before, but for the actions of a batch (`ActionsChosen`) and the
    samples of best-of-n: they run at once, each a line of its own, execute or sample, then score,
    and the longest line counts. In the trace the calls of a batch follow each other action by
    action, each beginning with the first attempt of its execute or sample call. Rollouts of the
    fidelity `rollout` run one by one. The bound on concurrent calls is not looked at: this is what
    would be waited for with no such bound.
    """
    length = 0
    lines: list[list[Called]] = [[]]
    in_batch = False
    for event in events:
        if isinstance(event, Called):
            in_batch = in_batch or event.stage == _SAMPLE
            if in_batch and event.stage not in _BATCHED:
                # Without a further step, the written answer follows the batch directly.
                length, lines, in_batch = length + _longest(lines), [[]], False
            if in_batch and event.stage != _SCORE and event.attempt == 1:
                lines.append([])
            lines[-1].append(event)
        elif isinstance(event, ActionsChosen | StepStarted):
            length, lines = length + _longest(lines), [[]]
            in_batch = isinstance(event, ActionsChosen)
    return length + _longest(lines)


def _longest(lines: Sequence[Sequence[Called]]) -> int:
    return max(map(chain, lines))
