"""What is found out about a server and its model, one check each."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from ecoalign.models import shipped_profile
from ecoalign.probe._calls import Calls, Reply
from ecoalign.probe._pictures import TARGETS, Target, convention_of, drawn, plain
from ecoalign.probe._report import Finding

SUM: Final = "What is 17 + 25? Reply with the number alone."

PASSAGE: Final = (
    "The harbour of the old town is quiet in winter. Fishing boats lie along the stone wall, and "
    "their nets are hung up to dry between the posts. On Saturdays a market is held on the square "
    "behind the church: there are stalls with bread, apples, honey and cheese from the farms in "
    "the hills. In summer the same square is full of visitors, who come by train from the city "
    "and stay for a day or two. Most of them walk up to the lighthouse, which was built in 1846 "
    "and can be seen from a distance of thirty kilometres on a clear night. "
)

SIZES: Final = ((224, 224), (512, 384), (1024, 768))

_ROOM: Final = 2048
"""Tokens that the first answer may take: what a model thinks about a sum is far less."""

_THINKS: Final = 40
"""More hidden tokens than this are reasoning: no template adds as many."""

_COUNT_CAP: Final = 24

_LIMITERS: Final[tuple[Mapping[str, Any], ...]] = (
    # vLLM, SGLang and llama.cpp hand these to the chat template (Qwen3, GLM-4.5V; DeepSeek).
    {"chat_template_kwargs": {"enable_thinking": False}},
    {"chat_template_kwargs": {"thinking": False}},
    {"reasoning_effort": "none"},  # Gemini, GPT-5.1 and later
    {"reasoning_effort": "minimal"},  # GPT-5
    {"reasoning_effort": "low"},  # o-series and most others
    {"enable_thinking": False},  # DashScope
    {"thinking": {"type": "disabled"}},  # Z.ai, Kimi, MiniMax
)
"""Parameters that switch hidden reasoning off or keep it short, and whose they are."""

_NUMBERS = re.compile(r"(?<![\w.])-?\d+(?:\.\d+)?")

_SCHEMA: Final = {
    "type": "object",
    "properties": {
        "weather": {"type": "string", "maxLength": 40},
        "grade": {"type": "integer", "enum": [0, 1, 2]},
    },
    "required": ["weather", "grade"],
    "additionalProperties": False,
}

_RAIN: Final = "Write one short plain sentence about rain. Do not write JSON."

_VISION: Final = "start the server with its vision part (llama.cpp: --mmproj), or name another"

_BOX: Final = (
    "Give the bounding box of the red square in this image as four numbers in square brackets, "
    "and nothing else."
)


async def first(calls: Calls) -> tuple[list[Finding], Reply]:
    """A sum: whether anybody answers, what is reported, and whether the model thinks before."""
    reply = await calls.ask(SUM, cap=_ROOM)
    if reply.refused:
        assert reply.error is not None  # noqa: S101 - a refusal has one
        raise reply.error
    findings = [_usage(reply), Finding("latency", f"{reply.seconds:.2f} s", "of the first call")]
    hidden = _hidden(reply)
    if hidden is None or hidden <= _THINKS:
        what = "unknown" if hidden is None else "no"
        findings.append(
            Finding(
                "hidden reasoning",
                what,
                "no usage was reported" if hidden is None else f"{hidden} tokens beside a sum",
                {} if hidden is None else {"thinking": 0},
            )
        )
        return findings, reply
    limiter, least = {}, hidden
    for tried in _LIMITERS:
        again = await calls.ask(SUM, cap=_ROOM, client=tried)
        now = None if again.refused else _hidden(again)
        if now is not None and now < least:
            limiter, least, reply = dict(tried), now, again
            if now <= _THINKS:
                break
    calls.limit = limiter
    room = 0 if least <= _THINKS else max(256, math.ceil(2 * least / 64) * 64)
    calls.room = room
    findings.append(_thinking(hidden, limiter, least, room))
    return findings, reply


def _usage(reply: Reply) -> Finding:
    told = reply.usage is not None
    found = "reported" if told else "not reported: every call is charged its worst case"
    return Finding("usage", found, "of the first call", {"usage": told})


def _thinking(hidden: int, limiter: Mapping[str, Any], least: int, room: int) -> Finding:
    fields: dict[str, Any] = {"thinking": room}
    if effort := limiter.get("reasoning_effort"):
        fields["reasoning_effort"] = effort
    elif limiter:
        fields["extra_body"] = dict(limiter)
    found = f"{hidden} tokens before a sum"
    if limiter:
        found += f"; {least} with {json.dumps(limiter)}"
    else:
        found += "; no parameter that is known shortens it"
    how = "completion tokens of the answer to a sum, less those of its text"
    return Finding("hidden reasoning", found, how, fields)


def _hidden(reply: Reply) -> int | None:
    """Tokens of hidden reasoning in the answer to a sum; None where nothing tells."""
    seen = reply.seen
    written = len(seen.text.encode()) if seen.whole else 0
    if reply.usage is not None:
        return max(0, reply.usage.completion - written)
    if seen.thoughts or not seen.whole:
        return max(_THINKS + 1, len(seen.thoughts.encode()) // 3)
    if reply.error is not None and reply.error.fault == "bad-response":
        return _ROOM
    return None


async def text_and_cap(calls: Calls, before: Reply) -> list[Finding]:
    """Bytes a token of plain English, and whether the cap on the output is kept."""
    text = f"{PASSAGE}Count from 1 to 200, one number a line, and write nothing else."
    reply = await calls.ask(text, cap=_COUNT_CAP)
    findings: list[Finding] = []
    if before.usage is not None and reply.usage is not None:
        tokens = reply.usage.prompt - before.usage.prompt
        length = len(text.encode()) - len(SUM.encode())
        if tokens > 0:
            rate = round(min(16.0, max(1.0, length / tokens)), 2)
            how = f"{length} bytes of English took {tokens} prompt tokens"
            findings.append(
                Finding("text", f"{rate} bytes a token", how, {"bytes_per_token": rate})
            )
    cap = _COUNT_CAP + calls.room
    if reply.usage is not None:
        kept, how = reply.usage.completion <= cap, f"{reply.usage.completion} tokens under {cap}"
    elif reply.error is None:
        # Nobody writes a number and a line end in less than a token.
        kept = len(_NUMBERS.findall(reply.seen.text)) <= cap
        how = "numbers counted, as no usage was reported"
    else:
        return [*findings, Finding("cap on the output", "unknown", reply.why)]
    found = "kept" if kept else "ignored: calls can cost more than is reserved"
    findings.append(
        Finding("cap on the output", found, how, {"caps_honoured": kept}, problem=not kept)
    )
    return findings


async def counter(calls: Calls) -> list[Finding]:
    """The server's own token counter."""
    tokens = await calls.count(PASSAGE)
    how = "POST /tokenize"
    if tokens is None or not 20 < tokens <= len(PASSAGE.encode()):
        return [Finding("token counter", "none", how, {"tokenize": ""})]
    found = f"/tokenize ({tokens} tokens for {len(PASSAGE.encode())} bytes)"
    return [Finding("token counter", found, how, {"tokenize": "/tokenize"})]


async def images(calls: Calls, before: Reply) -> tuple[list[Finding], bool]:
    """Tokens of an image by its size, and whether images are seen at all."""
    measured: dict[str, int] = {}
    for width, height in SIZES:
        # In the dearest detail: what is measured bounds an image of this size in any.
        picture = replace(plain(width, height), detail="high")
        reply = await calls.ask(SUM, images=(picture,))
        if reply.refused:
            if measured:
                found = f"refused at {width}x{height}"
                return [*_tokens(calls, measured), Finding("large images", found, reply.why)], True
            return [Finding("images", f"not taken; {_VISION}", reply.why, problem=True)], False
        if reply.usage is None or before.usage is None:
            how = "no usage was reported"
            return [Finding("image tokens", "unknown", how)], True
        tokens = reply.usage.prompt - before.usage.prompt
        if tokens <= 3:
            how = f"{tokens} more prompt tokens with an image of {width}x{height} than without"
            found = f"ignored in silence: answers are made up; {_VISION}"
            return [Finding("images", found, how, problem=True)], False
        measured[f"{width}x{height}"] = tokens
    return _tokens(calls, measured), True


def _tokens(calls: Calls, measured: Mapping[str, int]) -> list[Finding]:
    found = ", ".join(f"{size}: {tokens}" for size, tokens in measured.items())
    how = "prompt tokens with the image less those without it"
    if calls.model.profile.detail in {"auto", "low"}:
        how = f"{how}; not kept, as the setting `detail` makes images cheaper than they may be"
        return [Finding("image tokens", found, how)]
    return [Finding("image tokens", found, how, {"image_tokens": dict(measured)})]


async def system_and_cache(calls: Calls, before: Reply, *, sees: bool) -> list[Finding]:
    """A system message (beside an image), and the same call again: what a cache saves."""
    system = PASSAGE * 8
    pictures = (plain(*SIZES[1]),) if sees else ()
    beside = "beside an image" if sees else "before a question"
    reply = await calls.ask(SUM, system=system, images=pictures)
    dropped = calls.model.dropped.get("system") or calls.model.dropped.get("system_with_images")
    if reply.refused or dropped is not None:
        how = reply.why if dropped is None else dropped.reason
        return [Finding("system role", f"refused {beside}", how, {"system": "user"})]
    findings = []
    if reply.usage is not None and before.usage is not None:
        more = reply.usage.prompt - before.usage.prompt
        heard = more > len(system.encode()) / 16
        found = f"taken {beside}" if heard else "ignored in silence"
        how = f"{more} more prompt tokens with {len(system.encode())} bytes of it"
        where = "system" if heard else "user"
        findings.append(Finding("system role", found, how, {"system": where}))
    again = await calls.ask(SUM, system=system, images=pictures)
    return findings + _cache(reply, again)


def _cache(once: Reply, again: Reply) -> list[Finding]:
    if again.error is not None and again.usage is None:
        return []
    cached = 0 if again.usage is None else again.usage.cached
    if cached:
        assert again.usage is not None  # noqa: S101 - it has the count
        found = f"{cached} of {again.usage.prompt} tokens"
        return [Finding("prefix cache", found, "reported for a second, equal call", _CACHES)]
    times = f"{once.seconds:.2f} s, then {again.seconds:.2f} s for an equal call"
    if once.seconds > 0.5 and again.seconds < once.seconds / 2:
        return [Finding("prefix cache", "by the time it takes", times, _CACHES)]
    return [Finding("prefix cache", "not noticed", times, {"prefix_cache": False})]


_CACHES: Final = {"prefix_cache": True}


async def schemas(calls: Calls) -> list[Finding]:
    """Which way of asking for JSON is heeded."""
    strict = {"name": "answer", "strict": True, "schema": _SCHEMA}
    whys = []
    for mode, form in (
        ("json_schema", {"type": "json_schema", "json_schema": strict}),
        ("json_object", {"type": "json_object"}),
    ):
        reply = await calls.ask(_RAIN, cap=96, client={"response_format": form})
        if reply.error is None and _fits(reply.seen.text, strict=mode == "json_schema"):
            how = "an answer that was asked to be plain text was JSON"
            whys.append(f"{mode} enforced: {how}")
            return [Finding("JSON", f"{mode} is enforced", "; ".join(whys), {"schema_mode": mode})]
        ignored = f"ignored in silence: {reply.seen.text[:40]!r}"
        whys.append(f"{mode} {'refused: ' + reply.why if reply.error is not None else ignored}")
    return [Finding("JSON", "only as the prompt asks", "; ".join(whys), {"schema_mode": "prompt"})]


def _fits(text: str, *, strict: bool) -> bool:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return False
    if not isinstance(value, dict):
        return False
    return not strict or (set(value) == {"weather", "grade"} and value["grade"] in (0, 1, 2))


async def logprobs_and_seed(calls: Calls) -> list[Finding]:
    """How many alternatives a token comes with, and whether a seed is taken."""
    seed = {"seed": 7}
    reply = await calls.ask(SUM, client={"logprobs": True, "top_logprobs": 20, **seed})
    seeded = not reply.refused
    if reply.refused:
        # One of the two is the reason: each is tried alone.
        alone = await calls.ask(SUM, client=seed)
        seeded, why = not alone.refused, alone.why
        reply = await calls.ask(SUM, client={"logprobs": True, "top_logprobs": 20})
        if reply.refused:
            reply = await calls.ask(SUM, client={"logprobs": True, "top_logprobs": 5})
    most = min(20, max((len(one.top) for one in reply.logprobs or ()), default=0))
    if most:
        found, how = f"{most} alternatives a token", "as they came"
    else:
        found = "refused" if reply.refused else "ignored in silence"
        how = reply.why or "none came"
    taken = Finding(
        "seed", "not refused", "whether it is heeded shows only in long texts", {"seed": True}
    )
    return [
        Finding("log-probabilities", found, how, {"logprobs": most}),
        taken if seeded else Finding("seed", "refused", why, {"seed": False}),
    ]


async def boxes(calls: Calls) -> list[Finding]:
    """How the model writes a region: two drawn targets."""
    found: list[tuple[Target, Sequence[float]]] = []
    said = []
    for target in TARGETS:
        reply = await calls.ask(_BOX, images=(drawn(target),), cap=96)
        said.append(reply.seen.text[:60] or reply.why)
        numbers = [float(one) for one in _NUMBERS.findall(reply.seen.text)]
        if len(numbers) == 4:
            found.append((target, numbers))
    how = "; ".join(repr(one) for one in said)
    convention = convention_of(found) if len(found) == len(TARGETS) else None
    if convention is None:
        return [Finding("boxes", "not found: the model does not point at a drawn square", how)]
    return [Finding("boxes", convention, how, {"boxes": convention})]


async def smallest(calls: Calls) -> list[Finding]:
    """The least side of an image that is taken. Last, and no smaller than what is published for
    the family: there are servers that it stops."""
    family = shipped_profile(calls.model.model)
    published = "smallest_image" in family.sources
    for side in (family.smallest_image, 56) if published else (8, 28, 32, 56):
        reply = await calls.ask(SUM, images=(plain(side, side),))
        if reply.refused:
            continue
        how = f"an image of {side}x{side} was taken"
        return [Finding("smallest image", f"{side} px", how, {"smallest_image": side})]
    return [Finding("smallest image", "above 56 px", reply.why, {"smallest_image": 224})]


def negotiated(calls: Calls) -> list[Finding]:
    """What the requests of the probe had to do without."""
    return [
        Finding(name, "refused", entry.reason)
        for name, entry in calls.model.dropped.items()
        if not name.startswith("system")
    ]
