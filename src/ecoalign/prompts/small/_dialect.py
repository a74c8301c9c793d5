"""The small dialect: few words, examples as turns, one word or one line back.

What is only read stands there plainly, without fences that a small model would copy; control tokens
of chat templates are broken in it. What is judged stands behind the request's random fence. Every
call begins with one system message and, where there are images, a turn that shows them, so that
servers keep both computed. It says nothing of the harm policy in words: the examples do.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import assert_never

from ecoalign.errors import VerdictError
from ecoalign.graph import ActionKind, Candidate, Forecast, Region, Thought
from ecoalign.models import ChatRequest, Completion, ImagePart, Message, Profile, TextPart
from ecoalign.prompts._limits import DEFAULT_POLICY, TokenLimits
from ecoalign.prompts._quoting import digest_fence, neutral
from ecoalign.prompts._reading import bad_response, visible_text
from ecoalign.prompts._scoring import (
    SAFE,
    exchanges,
    form_of,
    judged_text,
    read_sampled,
    read_words,
    safety_at,
    sampled,
    word_calls,
)
from ecoalign.prompts.compact.grid import CELLS, cell_region
from ecoalign.prompts.full import FullDialect
from ecoalign.prompts.full._answers import parse_answer, render_answer
from ecoalign.prompts.full._common import numbered
from ecoalign.prompts.requests import (
    VERIFIED,
    AnswerRequest,
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
from ecoalign.prompts.small import _wording as say

_LONGEST = 160
"""Tokens of an answer at most: what goes on for longer repeats itself."""

_MARGIN = 0.1

_PLACES = "|".join(sorted(CELLS, key=len, reverse=True))

_ACTION = re.compile(
    r"[\s>*\d.)-]*(?P<kind>think|look|answer|refuse)\b"
    rf"(?: (?:at )?(?:the )?(?P<place>{_PLACES})\b)?[.:]?(?P<text>.*)",
    re.IGNORECASE,
)


_REFUSAL = re.compile(
    r"(?:(?:I am|I'm) sorry[,.]? (?:but )?)?"
    r"(?:I (?:will not|won't|cannot|can't|can not|am not able to)|(?:I am|I'm) unable to)\b"
    r"[^.!?\n]*(?:[.!?]|$)",
    re.IGNORECASE,
)
"""How a refusal begins, to the end of its sentence."""


class SmallDialect:
    """Prompts and parsers for models of some hundred million parameters; see `Dialect`.

    Args:
        limits: the output tokens that each call may use.
        profile: of the model that is spoken to: its form of verdicts, its threshold.
        policy: what counts as harm, in words; only the strict JSON verdict can say it.
    """

    name = "small"
    has_gate = True
    verified = VERIFIED

    def __init__(
        self,
        limits: TokenLimits | None = None,
        *,
        profile: Profile | None = None,
        policy: str = DEFAULT_POLICY,
    ) -> None:
        self.profile = profile or Profile(dialect="small", scoring="word")
        self.limits = limits or TokenLimits(thinking=self.profile.thinking)
        self.form = form_of(self.profile)
        self._strict = FullDialect(self.limits, profile=self.profile, policy=policy)

    # Rendering --------------------------------------------------------------------------------

    def render(self, request: PromptRequest) -> ChatRequest:
        """See `Dialect.render`."""
        if isinstance(request, ScoreRequest):
            return self.score_calls(request)[0]
        if isinstance(request, AnswerRequest):
            call = render_answer(request, self.limits)
        elif isinstance(request, ScanRequest | GateRequest | CheckRequest):
            return self._judged(request)
        else:
            call = self._written(request)
        return replace(call, max_tokens=call.max_tokens + self.limits.thinking)

    def _written(
        self, request: ProposeRequest | ExecuteRequest | WriteRequest | CaptionRequest
    ) -> ChatRequest:
        limits = self.limits
        match request:
            case ProposeRequest():
                plans = say.SEEING_PLANS if request.views else say.PLANS
                asked = f"{request.question}{_known(request.path)}"
                return _chat("propose", request, asked, 32 * max(1, request.limit), plans)
            case WriteRequest():
                return _chat("write", request, _asked(request), min(limits.answer, _LONGEST))
            case CaptionRequest():
                return _chat(
                    "caption", request, "Say in one sentence what it shows.", limits.caption
                )
            case ExecuteRequest():
                return _execute(request, limits)
            case _:
                assert_never(request)

    def _judged(self, request: ScanRequest | VerdictRequest) -> ChatRequest:
        """One word on a request, alone or with its answer."""
        views = () if isinstance(request, GateRequest) else request.views
        match request:
            case ScanRequest():
                # No fence is drawn for it; a text cannot hold its own digest.
                stage, text = "scan", judged_text(request)
                fence = digest_fence((text,))
            case GateRequest():
                stage, text = "gate", judged_text(request, request.caption)
                fence = request.fence
            case CheckRequest():
                stage, text = "check", judged_text(request, request.text or "(empty)")
                fence = request.fence
            case _:
                assert_never(request)
        return SAFE.call(
            _opening(views),
            text,
            fence,
            stage=stage,
            max_tokens=1 + self.limits.thinking,
            top_logprobs=self.profile.logprobs if self.form == "word" else 0,
        )

    # Scores -----------------------------------------------------------------------------------

    def score_calls(self, request: ScoreRequest) -> tuple[ChatRequest, ...]:
        """See `Dialect.score_calls`: one word each on the safety of the request and
        of the text, and one on its utility."""
        if self.form == "json":
            return self._strict.score_calls(request)
        opening = _opening(request.views)
        calls = word_calls(
            (opening, opening),
            request,
            together=False,
            max_tokens=1 + self.limits.thinking,
            top_logprobs=self.profile.logprobs,
        )
        return calls if self.form == "word" else sampled(calls, request)

    def read_score(self, request: ScoreRequest, completions: Sequence[Completion]) -> ScoreResult:
        """See `Dialect.read_score`."""
        if self.form == "json":
            return self._strict.read_score(request, completions)
        if self.form == "word":
            return read_words(request, completions, self.profile.safe_threshold, together=False)
        return read_sampled(completions)

    def _safety(self, completion: Completion) -> float:
        """s of a verdict in one call: by its probabilities, or by the word where there are none."""
        if self.form == "word":
            return safety_at(SAFE.probability(completion), self.profile.safe_threshold)
        return 1.0 if SAFE.written(completion) else -1.0

    def parse_verdict(self, request: VerdictRequest, completion: Completion) -> float:
        """See `Dialect.parse_verdict`."""
        return self._safety(completion)

    # Reading ----------------------------------------------------------------------------------

    def parse_scan(self, request: ScanRequest, completion: Completion) -> ScanResult:
        """See `Dialect.parse_scan`. The caption is empty: where it is needed, it is looked for."""
        try:
            return ScanResult("", self._safety(completion))
        except VerdictError as error:
            raise bad_response("scan", str(error), completion) from error

    def parse_propose(self, request: ProposeRequest, completion: Completion) -> ProposeResult:
        """See `Dialect.parse_propose`. Lines that are no action are dropped and counted.

        A small model forecasts nothing. An action is taken to be as safe as what it follows and of
        middling use; a refusal to be safe, and of use as far as that is unsafe.
        """
        lines = [line for line in visible_text("propose", completion).splitlines() if line.strip()]
        read = [_candidate(line, request) for line in lines]
        good = dict.fromkeys(candidate for candidate in read if candidate is not None)
        if not good:
            raise bad_response("propose", "no line of it is an action", completion)
        kept = tuple(good)[: request.limit]
        return ProposeResult(kept, dropped=len(lines) - len(kept))

    def parse_execute(self, request: ExecuteRequest | WriteRequest, completion: Completion) -> str:
        """See `Dialect.parse_execute`. A refusal is one sentence that begins like one: a small
        model that is to refuse may do what it was asked for, or go on to."""
        if isinstance(request, WriteRequest):
            return visible_text("write", completion)
        text = visible_text("execute", completion)
        if request.action.kind is not ActionKind.REFUSE:
            return text
        found = _REFUSAL.match(text)
        if found is None:
            raise bad_response("execute", "it does not refuse", completion)
        return found[0].strip()

    def parse_caption(self, request: CaptionRequest, completion: Completion) -> CaptionResult:
        """See `Dialect.parse_caption`."""
        return CaptionResult(visible_text("caption", completion))

    parse_answer = staticmethod(parse_answer)


def _opening(views: Sequence[ImagePart]) -> tuple[Message, ...]:
    """What every call with these views begins with."""
    system = Message("system", (TextPart(say.SYSTEM),))
    if not views:
        return (system,)
    asked, replied = say.SEEN
    shown = numbered(views) if len(views) > 1 else views
    seen = Message("user", (*shown, TextPart(asked)))
    return (system, seen, Message("assistant", (TextPart(replied),)))


def _chat(
    stage: str,
    request: ProposeRequest | ExecuteRequest | WriteRequest | CaptionRequest,
    text: str,
    max_tokens: int,
    examples: Iterable[tuple[str, str]] = (),
    crop: ImagePart | None = None,
) -> ChatRequest:
    asked = TextPart(neutral(text))
    last = Message("user", (asked,) if crop is None else (crop, asked))
    return ChatRequest((*_opening(request.views), *exchanges(examples), last), max_tokens, stage)


def _known(thoughts: Iterable[Thought]) -> str:
    """What has been found out, one line each; "" where nothing has."""
    lines = [" ".join(thought.text.split()) for thought in thoughts]
    found = "\n".join(f"- {line}" for line in lines if line)
    return f"\nKnown so far:\n{found}" if found else ""


def _asked(request: ExecuteRequest | WriteRequest) -> str:
    """The request as its client wants it answered, with what is known."""
    said = (request.instructions, *request.context, f"{request.question}{_known(request.path)}")
    return "\n\n".join(part.strip() for part in said if part.strip())


def _execute(request: ExecuteRequest, limits: TokenLimits) -> ChatRequest:
    action, question = request.action, request.question
    match action.kind:
        case ActionKind.ANSWER:
            return _chat("execute", request, _asked(request), min(limits.answer, _LONGEST))
        case ActionKind.REFUSE:
            return _chat("execute", request, question, limits.refuse, say.REFUSALS)
        case ActionKind.LOOK:
            what = action.text or question
            task = f"This is a part of the picture. Say in one sentence what it shows of: {what}"
            return _chat("execute", request, task, limits.look, crop=request.crop)
        case ActionKind.FUSE:
            known = _known((*request.path, *request.partners))
            return _chat("execute", request, f"Say it in one sentence.{known}", limits.think)
        case ActionKind.THINK:
            about = action.text or "one fact that helps to answer"
            task = f"{question}{_known(request.path)}\nSay in one sentence only: {about}"
            return _chat("execute", request, task, limits.think)
        case _:
            assert_never(action.kind)


def _candidate(line: str, request: ProposeRequest) -> Candidate | None:
    found = _ACTION.fullmatch(line.rstrip())
    if found is None:
        return None
    kind, region = ActionKind(found["kind"].lower()), None
    if kind is ActionKind.LOOK:
        region = _region(found["place"], request)
        if region is None:
            return None
    text = found["text"].strip() if kind in (ActionKind.THINK, ActionKind.LOOK) else ""
    safety = min((thought.safety for thought in request.path), default=0.0)
    step = Forecast(safety, 0.5)
    if kind is ActionKind.REFUSE:
        step = Forecast(1.0, max(0.0, -safety))
    return Candidate(kind, text, (step,), region)


def _region(place: str | None, request: ProposeRequest) -> Region | None:
    """A cell of the only image's grid: a small model names no coordinates."""
    if place is None or len(request.views) != 1:
        return None
    return cell_region(CELLS.index(place.lower()), _MARGIN)
