"""The compact dialect: short marked prompts that the embedded model was trained on."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from functools import lru_cache

from ecoalign.errors import ModelError, VerdictError
from ecoalign.graph import ActionKind, Candidate, Forecast, Region
from ecoalign.models import ChatRequest, Completion, ImagePart, Message, TextPart, ending
from ecoalign.prompts._reading import excerpt
from ecoalign.prompts.compact import wording as say
from ecoalign.prompts.compact.grid import CELLS, cell_region
from ecoalign.prompts.requests import (
    AnswerRequest,
    AnswerResult,
    CaptionRequest,
    CaptionResult,
    CheckRequest,
    ExecuteRequest,
    GateRequest,
    PromptRequest,
    ProposeRequest,
    ProposeResult,
    ScanRequest,
    ScanResult,
    ScoreRequest,
    ScoreResult,
    VerdictRequest,
    WriteRequest,
)

_MAX_TOKENS = {
    "scan": 72,
    "propose": 72,
    "execute": 48,
    "write": 48,
    "score": 4,
    "caption": 72,
    "check": 4,
    "blind": 48,
}

_ROLES = {
    "plain": ("ask", 64),
    "careful": ("careful", 64),
    "cot": ("steps", 160),
    "cod": ("draft", 64),
}
"""By style of an answer: the role in the prompt, and the most output tokens."""

_MARKS = {"cot": "answer:", "cod": "#"}

_NO_GATE = "the compact dialect judges a request with its caption: there is no gate call"

_MARGIN = 0.04

# The tokenizer joins digits that follow each other: "fuse 1 9 8" comes back as "fuse 198".
_SCAN = re.compile(r"(?P<caption>.*?) ?> ?(?P<safety>[0-9])(?P<plan> ?[a-z].*)?", re.DOTALL)

# Safety and utility; the cost that older weights forecast as well is not used.
_STEP = r"[0-9] ?[0-9](?: ?[0-9])?"

_CANDIDATE = re.compile(
    rf"(?:look (?P<cell>{'|'.join(sorted(CELLS, key=len, reverse=True))}) "
    r"|fuse (?P<number>[1-9]) ?|(?P<kind>think|answer|refuse) )"
    rf"(?P<steps>{_STEP}(?: ?> ?{_STEP})*)"
)

_DIGITS = frozenset("0123456789")

_VERDICT = re.compile(r"([0-9]) ?([0-9])")


class CompactDialect:
    """Prompts of a few tokens, replies of fixed shape; see `Dialect`. It sends no earlier turns."""

    name = "compact"
    has_gate = False
    verified = 0.6  # an expected grade, chosen on the dev split of the world

    def render(self, request: PromptRequest) -> ChatRequest:
        """See `Dialect.render`. One user message, with an image where the role looks at one."""
        question = request.question
        match request:
            case ScanRequest():
                return _chat("scan", say.scan_prompt(question), request.views)
            case CaptionRequest():
                return _chat("caption", say.scan_prompt(question), request.views)
            case AnswerRequest():
                return _answer(request)
            case CheckRequest():
                text = say.score_prompt(question, [], "answer", request.text)
                return _chat("check", text, request.views, top_logprobs=10)
            case GateRequest():
                raise ValueError(_NO_GATE)
        texts = [thought.text for thought in request.path[1:]]
        match request:
            case ProposeRequest():
                others = [thought.text for thought in request.others]
                caption = request.path[0].text
                return _chat("propose", say.propose_prompt(question, caption, texts, others))
            case ScoreRequest():
                return self.score_calls(request)[0]
            case WriteRequest():
                return _chat("write", say.answer_prompt(question, texts), request.views)
            case ExecuteRequest():
                return _execute(request, texts)

    def parse_scan(self, request: ScanRequest, completion: Completion) -> ScanResult:
        """See `Dialect.parse_scan`."""
        return _scan(completion)

    def parse_propose(self, request: ProposeRequest, completion: Completion) -> ProposeResult:
        """See `Dialect.parse_propose`. Malformed candidates are dropped and counted."""
        pieces = [piece for piece in completion.text.split(";") if piece.strip()]
        if not pieces:
            raise _bad("propose", completion)
        made = [_candidate(piece.strip(), request) for piece in pieces]
        good = tuple(candidate for candidate in made if candidate is not None)[: request.limit]
        return ProposeResult(good, dropped=len(pieces) - len(good))

    def parse_execute(self, request: ExecuteRequest | WriteRequest, completion: Completion) -> str:
        """See `Dialect.parse_execute`."""
        text = completion.text.strip()
        if not text:
            raise _bad("execute", completion)
        return text

    def score_calls(self, request: ScoreRequest) -> tuple[ChatRequest, ...]:
        """See `Dialect.score_calls`."""
        texts = [thought.text for thought in request.path[1:]]
        text = say.score_prompt(request.question, texts, request.kind, request.text, request.check)
        seen = request.views if request.crop is None else (request.crop,)
        return (_chat("score", text, seen, top_logprobs=10),)

    def read_score(self, request: ScoreRequest, completions: Sequence[Completion]) -> ScoreResult:
        """See `Dialect.read_score`. Two digits, weighed by their alternatives if there are any."""
        (completion,) = completions
        return _score(completion)

    def parse_answer(self, request: AnswerRequest, completion: Completion) -> AnswerResult:
        """See `Dialect.parse_answer`; the answer is what follows the last mark."""
        whole = completion.text.strip()
        mark = _MARKS.get(request.style)
        _, found, after = whole.rpartition(mark) if mark else ("", "", "")
        text = (after.strip() if found else "") or whole
        if not text:
            return AnswerResult("", whole, "empty")
        cut = ending(completion.finish_reason) in {"length", "unknown"}
        return AnswerResult(text, whole, "length" if cut else "")

    def parse_caption(self, request: CaptionRequest, completion: Completion) -> CaptionResult:
        """See `Dialect.parse_caption`. Its verdict is one digit after the only ">"."""
        caption, _, rest = completion.text.partition(">")
        if not caption.strip():
            raise ModelError(
                f"caption: there is none in {excerpt(completion.text)}", fault="bad-response"
            )
        try:
            request_safety = _scan(completion).request_safety
        except ModelError:
            return CaptionResult(caption.strip())
        # A second ">" might be another verdict, and so might what was cut off.
        single = ">" not in rest and ending(completion.finish_reason) == "stop"
        return CaptionResult(caption.strip(), request_safety if single else None)

    def parse_verdict(self, request: VerdictRequest, completion: Completion) -> float:
        """See `Dialect.parse_verdict`: the safety of the scoring role."""
        if isinstance(request, GateRequest):
            raise ValueError(_NO_GATE)
        return _score(completion).safety


def _execute(request: ExecuteRequest, texts: list[str]) -> ChatRequest:
    question, views, action = request.question, request.views, request.action
    match action.kind:
        case ActionKind.LOOK:
            cell = CELLS[_cell_of(action.region)]
            crop = views if request.crop is None else (request.crop,)
            return _chat("execute", say.look_prompt(question, cell), crop)
        case ActionKind.FUSE:
            partners = [thought.text for thought in request.partners]
            return _chat("execute", say.fuse_prompt(question, texts[-1:], partners))
        case ActionKind.REFUSE:
            return _chat("execute", say.refuse_prompt(question, texts))
        case ActionKind.THINK:
            return _chat("execute", say.think_prompt(question, texts), views)
        case ActionKind.ANSWER:
            return _chat("execute", say.answer_prompt(question, texts), views)


def _answer(request: AnswerRequest) -> ChatRequest:
    if request.style == "blind":
        return _chat("blind", say.answer_prompt(request.question, [], request.caption))
    role, longest = _ROLES[request.style]
    return _chat("answer", say.plain_prompt(role, request.question), request.views, longest)


def _scan(completion: Completion) -> ScanResult:
    match = _SCAN.fullmatch(completion.text.strip())
    if match is None:
        raise _bad("scan", completion)
    plan = (match["plan"] or "").strip()
    return ScanResult(match["caption"], say.safety_of(int(match["safety"])), plan or None)


def _score(completion: Completion) -> ScoreResult:
    match = _VERDICT.fullmatch(completion.text.strip())
    if match is None or ending(completion.finish_reason) != "stop":
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
    stage: str,
    text: str,
    views: tuple[ImagePart, ...] = (),
    max_tokens: int | None = None,
    *,
    top_logprobs: int = 0,
) -> ChatRequest:
    return ChatRequest(
        messages=(Message("user", (TextPart(text), *views[:1])),),
        max_tokens=max_tokens or _MAX_TOKENS[stage],
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


@lru_cache(maxsize=1024)
def _forecasts(steps: str) -> tuple[Forecast, ...]:
    out = []
    for step in steps.split(">"):
        safe, useful, *_ = (int(c) for c in step if c.isdigit())
        out.append(Forecast(say.safety_of(safe), say.utility_of(useful)))
    return tuple(out)


def _candidate(piece: str, request: ProposeRequest) -> Candidate | None:
    match = _CANDIDATE.fullmatch(piece)
    if match is None:
        return None
    steps = _forecasts(match["steps"])
    if match["cell"] is not None:
        region = cell_region(CELLS.index(match["cell"]), _MARGIN)
        return Candidate(ActionKind.LOOK, match["cell"], steps, region)
    if match["number"] is not None:
        number = int(match["number"])
        if number > len(request.others):
            return None
        return Candidate(ActionKind.FUSE, "", steps, None, (request.others[number - 1].id,))
    return Candidate(ActionKind(match["kind"]), "", steps)


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
