"""The compact dialect: short marked prompts that the embedded model was trained on."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from typing import TYPE_CHECKING

from ecoalign.errors import ModelError, VerdictError
from ecoalign.graph import ActionKind, Candidate, Forecast, Region
from ecoalign.graph._thoughts import ThoughtId
from ecoalign.models import ChatRequest, Completion, ImagePart, Message, TextPart
from ecoalign.prompts._reading import excerpt
from ecoalign.prompts.compact import _wording as say
from ecoalign.prompts.compact.grid import CELLS, cell_region
from ecoalign.prompts.requests import (
    AnswerResult,
    BlindRequest,
    CaptionRequest,
    CaptionResult,
    CarefulRequest,
    CheckRequest,
    DirectRequest,
    DraftRequest,
    ExecuteRequest,
    ExecuteResult,
    GateRequest,
    ProposeRequest,
    ProposeResult,
    ReasonRequest,
    ScanRequest,
    ScanResult,
    ScoreRequest,
    ScoreResult,
    StageRequest,
    WriteRequest,
)

if TYPE_CHECKING:
    from ecoalign.prompts.requests import AnswerRequest, MethodRequest, VerdictRequest

__all__ = ["CompactDialect", "CompactMethods"]

_MAX_TOKENS = {"scan": 72, "propose": 72, "execute": 48, "write": 48, "score": 4}

_MARGIN = 0.04

# The tokenizer joins digits that follow each other: "fuse 1 9 8 4" comes back as "fuse 1984".
_SCAN = re.compile(r"(?P<caption>.*?) ?> ?(?P<risk>[0-9])(?P<plan> ?[a-z].*)?", re.DOTALL)

_STEP = r"[0-9] ?[0-9] ?[0-9]"

_CANDIDATE = re.compile(
    rf"(?P<kind>look|think|fuse|answer|refuse)"
    rf"(?: (?P<cell>{'|'.join(sorted(CELLS, key=len, reverse=True))}))?"
    rf"(?: (?P<number>[0-9]{{1,2}}) ?| )(?P<steps>{_STEP}(?: ?> ?{_STEP})*)"
)

_DIGITS = frozenset("0123456789")

_VERDICT = re.compile(r"([0-9]) ?([0-9])")


class CompactDialect:
    """Prompts of a few tokens, answers of fixed shape. It has no room for earlier turns."""

    name = "compact"

    def render(self, request: StageRequest) -> ChatRequest:
        """The call for `request`: one user message, an image where the role looks at one."""
        question = request.question
        if isinstance(request, ScanRequest):
            return _chat("scan", say.scan_prompt(question), request.views)
        texts = [thought.text for thought in request.path[1:]]
        if isinstance(request, ProposeRequest):
            others = [thought.text for thought in request.others]
            caption = request.path[0].text
            return _chat("propose", say.propose_prompt(question, caption, texts, others))
        if isinstance(request, ScoreRequest):
            text = say.score_prompt(question, texts, request.kind, request.text)
            return _chat("score", text, request.views, top_logprobs=10)
        if isinstance(request, WriteRequest):
            return _chat("write", say.answer_prompt(question, texts), request.views)
        return self._execute(request, question, texts)

    def _execute(self, request: ExecuteRequest, question: str, texts: list[str]) -> ChatRequest:
        action = request.action
        if action.kind is ActionKind.LOOK:
            cell = CELLS[_cell_of(action.region)]
            return _chat("execute", say.look_prompt(question, cell), request.views)
        if action.kind is ActionKind.FUSE:
            partners = [thought.text for thought in request.partners]
            return _chat("execute", say.fuse_prompt(question, texts[-1:], partners))
        if action.kind is ActionKind.REFUSE:
            return _chat("execute", say.refuse_prompt(question, texts))
        if action.kind is ActionKind.THINK:
            return _chat("execute", say.think_prompt(question, texts), request.views)
        return _chat("execute", say.answer_prompt(question, texts), request.views)

    def parse_scan(self, request: ScanRequest, completion: Completion) -> ScanResult:
        match = _SCAN.fullmatch(completion.text.strip())
        if match is None:
            raise _bad("scan", completion)
        plan = (match["plan"] or "").strip()
        return ScanResult(match["caption"], say.safety_of(int(match["risk"])), plan or None)

    def parse_propose(self, request: ProposeRequest, completion: Completion) -> ProposeResult:
        pieces = [piece for piece in completion.text.split(";") if piece.strip()]
        if not pieces:
            raise _bad("propose", completion)
        made = [_candidate(piece.strip(), request) for piece in pieces]
        good = tuple(candidate for candidate in made if candidate is not None)[: request.limit]
        return ProposeResult(good, dropped=len(pieces) - len(good))

    def parse_execute(
        self, request: ExecuteRequest | WriteRequest, completion: Completion
    ) -> ExecuteResult:
        text = completion.text.strip()
        if not text:
            raise _bad("execute", completion)
        return ExecuteResult(text)

    def parse_score(self, request: ScoreRequest, completion: Completion) -> ScoreResult:
        match = _VERDICT.fullmatch(completion.text.strip())
        if match is None or completion.finish_reason != "stop":
            raise VerdictError(
                f"the evaluator's verdict is not two digits but {completion.text[:40]!r}; "
                "it counts as unsafe"
            )
        safe, useful = float(match[1]), float(match[2])
        if completion.logprobs is None:
            return ScoreResult(say.safety_of(safe), say.utility_of(useful))
        if [entry.token for entry in completion.logprobs] != [match[1], match[2]]:
            raise VerdictError(
                f"the evaluator's verdict {completion.text[:40]!r} has other tokens than its two "
                "digits; it counts as unsafe"
            )
        mean = _expectation(completion.logprobs[0].top, safe)
        # An expectation may lower a verdict, but never lift an unsafe one.
        safe = min(mean, safe) if say.safety_of(safe) < 0 else mean
        useful = _expectation(completion.logprobs[1].top, useful)
        return ScoreResult(say.safety_of(safe), say.utility_of(useful), "logprobs")


def _chat(
    stage: str, text: str, views: tuple[ImagePart, ...] = (), top_logprobs: int = 0
) -> ChatRequest:
    parts: tuple[TextPart | ImagePart, ...] = (TextPart(text), *views[:1])
    return ChatRequest(
        messages=(Message("user", parts),),
        max_tokens=_MAX_TOKENS[stage],
        stage=stage,
        top_logprobs=top_logprobs,
        extra={"prompt": "compact"},
    )


def _bad(stage: str, completion: Completion) -> ModelError:
    return ModelError(
        f"the {stage} answer cannot be read: {completion.text[:60]!r}", fault="bad-response"
    )


def _cell_of(region: Region | None) -> int:
    """The cell whose centre is nearest to the region's."""
    if region is None:
        return CELLS.index("center")
    column = min(2, int((region.x0 + region.x1) / 2 * 3))
    row = min(2, int((region.y0 + region.y1) / 2 * 3))
    return 3 * row + column


def _forecasts(steps: str) -> tuple[Forecast, ...]:
    out = []
    for step in steps.split(">"):
        safe, useful, cost = (int(c) for c in step if c.isdigit())
        out.append(
            Forecast(say.safety_of(safe), say.utility_of(useful), max(1, cost) * say.COST_UNIT)
        )
    return tuple(out)


def _candidate(piece: str, request: ProposeRequest) -> Candidate | None:
    match = _CANDIDATE.fullmatch(piece)
    if match is None:
        return None
    kind = ActionKind(match["kind"])
    region, text = None, ""
    partners: tuple[ThoughtId, ...] = ()
    if (match["cell"] is not None) != (kind is ActionKind.LOOK):
        return None
    if (match["number"] is not None) != (kind is ActionKind.FUSE):
        return None
    if kind is ActionKind.LOOK:
        region, text = cell_region(CELLS.index(match["cell"]), _MARGIN), match["cell"]
    elif kind is ActionKind.FUSE:
        number = int(match["number"])
        if not 1 <= number <= len(request.others):
            return None
        partners = (request.others[number - 1].id,)
    return Candidate(kind, text, _forecasts(match["steps"]), region, partners)


def _expectation(top: object, greedy: float) -> float:
    """The mean of the digit alternatives by their probabilities; `greedy` where there are none."""
    if not isinstance(top, dict):
        return greedy
    weights = {int(t): math.exp(p) for t, p in top.items() if t in _DIGITS and p <= 0.0}
    total = sum(weights.values())
    if not total:
        return greedy
    # Rounding may leave the mean of nines a hair above nine.
    return min(9.0, sum(digit * weight for digit, weight in weights.items()) / total)


_ROLES = {
    DirectRequest: ("ask", 64),
    CarefulRequest: ("careful", 64),
    ReasonRequest: ("steps", 160),
    DraftRequest: ("draft", 64),
}

_MARKS = {ReasonRequest: "answer:", DraftRequest: "#"}

_BLIND_TOKENS = 48

_NO_GATE = "the compact dialect judges a request with its caption: there is no gate call"


class CompactMethods:
    """Prompts of a few tokens for the embedded model."""

    name = "compact"
    gates_apart = False

    def __init__(self) -> None:
        self._stages = CompactDialect()

    def render(self, request: MethodRequest) -> ChatRequest:
        """See `MethodDialect.render`."""
        if isinstance(request, CaptionRequest):
            scan = ScanRequest(request.question, request.views)
            return replace(self._stages.render(scan), stage="caption")
        if isinstance(request, CheckRequest):
            return replace(self._stages.render(_scoring(request)), stage="check")
        if isinstance(request, BlindRequest):
            prompt = say.answer_prompt(request.question, [], request.caption)
            return _method_chat("blind", prompt, (), _BLIND_TOKENS)
        if isinstance(request, GateRequest):
            raise ValueError(_NO_GATE)
        role, longest = _ROLES[type(request)]
        prompt = say.plain_prompt(role, request.question)
        return _method_chat("answer", prompt, request.views, longest)

    def parse_answer(self, request: AnswerRequest, completion: Completion) -> AnswerResult:
        """See `MethodDialect.parse_answer`; the answer is what follows the last mark."""
        whole = completion.text.strip()
        mark = _MARKS.get(type(request))
        _, found, after = whole.rpartition(mark) if mark else ("", "", "")
        text = (after.strip() if found else "") or whole
        if not text:
            return AnswerResult("", whole, "empty")
        return AnswerResult(text, whole, "length" if completion.finish_reason == "length" else "")

    def parse_caption(self, request: CaptionRequest, completion: Completion) -> CaptionResult:
        """See `MethodDialect.parse_caption`. Its verdict is one digit after the only ">"."""
        caption, _, rest = completion.text.partition(">")
        if not caption.strip():
            raise ModelError(
                f"caption: there is none in {excerpt(completion.text)}", fault="bad-response"
            )
        try:
            scan = ScanRequest(request.question, request.views)
            request_safety = self._stages.parse_scan(scan, completion).request_safety
        except ModelError:
            return CaptionResult(caption.strip())
        # A second ">" might be another verdict, and so might what was cut off.
        single = ">" not in rest and completion.finish_reason == "stop"
        return CaptionResult(caption.strip(), request_safety if single else None)

    def parse_verdict(self, request: VerdictRequest, completion: Completion) -> float:
        """See `MethodDialect.parse_verdict`: the safety of the scoring role."""
        if isinstance(request, GateRequest):
            raise ValueError(_NO_GATE)
        return self._stages.parse_score(_scoring(request), completion).safety


def _scoring(request: CheckRequest) -> ScoreRequest:
    return ScoreRequest(request.question, request.views, (), "answer", request.text, request.fence)


def _method_chat(
    stage: str, text: str, views: tuple[ImagePart, ...], max_tokens: int
) -> ChatRequest:
    return ChatRequest(
        messages=(Message("user", (TextPart(text), *views[:1])),),
        max_tokens=max_tokens,
        stage=stage,
        extra={"prompt": "compact"},
    )
